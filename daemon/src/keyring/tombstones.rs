//! What deleted keys leave behind: their tombstones, the backups that still hold them, and
//! their burial in a store that such a backup brought back.

use std::collections::{BTreeMap, BTreeSet};

use claviger_protocol::KeyState;
use claviger_protocol::body::Tombstone;
use uuid::Uuid;

use super::deletion::tombstone;
use super::list::Filter;
use super::record::{BackupRecord, KeyRecord, path};
use super::{Keyring, index};
use crate::backup::Made;
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, Sealed, StoreError};

/// Backups that are remembered; of more the oldest are forgotten.
const MAX_BACKUPS: usize = 10_000;
/// Tombstones read at once.
const PAGE: usize = 1000;
/// Bytes of the position in a list of backups: time and id.
pub const PLACE_LEN: usize = 24;

impl Keyring {
    /// Remembers a backup whose file is in its place.
    pub async fn note_backup(&self, made: Made) -> Result<(), Failure> {
        let Made { backup_id, begun_at, read_at } = made;
        let key = path::backup(begun_at, backup_id);
        let change = Change::Put(self.store.put(&key, &BackupRecord { backup_id, begun_at, read_at })?);
        let mut ops = vec![Op { key, expect: Expect::Any, change }];
        let known = self.store.list::<BackupRecord>(path::BACKUPS, None, MAX_BACKUPS).await?;
        if known.len() == MAX_BACKUPS {
            ops.extend(known.into_iter().last().map(|(key, _, _)| index::remove(key)));
        }
        self.commit(ops).await?;
        Ok(())
    }

    /// At most `limit` backups behind a place in their list, each with its place, and with the
    /// number of keys that it holds and that were deleted since. With a key only those that hold it.
    pub async fn backups(
        &self,
        key: Option<&KeyRecord>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, BackupRecord, u32)>, Failure> {
        let tombs = self.all_tombstones().await?;
        let sorted = |date: fn(&Tombstone) -> Timestamp| {
            let mut dates: Vec<_> = tombs.iter().map(date).collect();
            dates.sort_unstable();
            dates
        };
        let (made, deleted) = (sorted(|tomb| tomb.created_at), sorted(|tomb| tomb.deleted_at));
        // Those that were there at its end and weren't deleted before it was begun.
        let held = |backup: &BackupRecord| {
            let there = made.partition_point(|at| *at <= backup.read_at);
            let gone = deleted.partition_point(|at| *at < backup.begun_at);
            u32::try_from(there.saturating_sub(gone)).unwrap_or(u32::MAX)
        };
        let died = key.filter(|key| key.state == KeyState::Deleted).and_then(|key| key.deletion_date);
        let holds = |backup: &BackupRecord| {
            key.is_none_or(|key| {
                key.created_at <= backup.read_at && died.is_none_or(|died| backup.begun_at <= died)
            })
        };
        let (mut found, mut after) = (Vec::new(), after.map(|place| [path::BACKUPS, place].concat()));
        loop {
            let page = self.store.list::<BackupRecord>(path::BACKUPS, after.as_deref(), PAGE).await?;
            let full = page.len() == PAGE;
            for (path, _, backup) in page {
                if holds(&backup) {
                    let place = path.strip_prefix(path::BACKUPS).unwrap_or_default().to_vec();
                    let deleted = held(&backup);
                    found.push((place, backup, deleted));
                }
                if found.len() == limit {
                    return Ok(found);
                }
                after = Some(path);
            }
            if !full {
                return Ok(found);
            }
        }
    }

    /// At most `limit` tombstones after a key; where the next page starts.
    pub async fn tombstones(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Tombstone>, Option<Uuid>), Failure> {
        let filter = Filter { state: Some(KeyState::Deleted), ..Filter::default() };
        let page = self.list(&filter, after, limit).await?;
        Ok((page.keys.iter().map(seen).collect(), page.next))
    }

    async fn all_tombstones(&self) -> Result<Vec<Tombstone>, Failure> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = self.tombstones(after, PAGE).await?;
            all.extend(page);
            match next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }
}

fn seen(key: &KeyRecord) -> Tombstone {
    Tombstone {
        key_id: key.key_id,
        created_at: key.created_at,
        deleted_at: key.deletion_date.unwrap_or(key.created_at),
        erased_at: key.erased_at,
    }
}

/// Keys that were deleted after a backup was made, by id: when.
pub type Deleted = BTreeMap<Uuid, Timestamp>;

/// Whether a record of a backup is left out because its key was deleted since: everything of it
/// but its own record, from which its tombstone is made.
#[must_use]
pub fn left_out(deleted: &Deleted, path: &[u8]) -> bool {
    [path::VERSIONS, path::NUMBERS, path::ASSOCIATIONS].iter().any(|prefix| {
        let id = path.strip_prefix(*prefix).and_then(|rest| Uuid::from_slice(rest.get(..16)?).ok());
        id.is_some_and(|id| deleted.contains_key(&id))
    })
}

/// Makes tombstones of the keys in a store that were deleted after it was backed up. Their
/// material isn't there: it was left out. Which of them would have come back to life.
///
/// # Errors
/// What the store says.
pub async fn bury(store: &Sealed, deleted: &Deleted) -> Result<BTreeSet<Uuid>, StoreError> {
    let mut buried = BTreeSet::new();
    for (key_id, at) in deleted {
        let key_path = path::key(*key_id);
        let Some((revision, key)) = store.get::<KeyRecord>(&key_path).await? else { continue };
        if key.state == KeyState::Deleted {
            continue;
        }
        let tomb =
            KeyRecord { version_count: 0, erased_at: Some(*at), ..tombstone(&key, KeyState::Deleted, *at) };
        let mut ops = index::changes(store, Some(&key), &tomb)?;
        ops.extend(key.aliases.iter().map(|alias| index::remove(path::alias(alias.as_str()))));
        let default = key.default_for.iter().map(|service| format!("alias/{service}/default"));
        ops.extend(default.map(|alias| index::remove(path::alias(&alias))));
        let change = Change::Put(store.put(&key_path, &tomb)?);
        ops.push(Op { key: key_path, expect: Expect::Revision(revision), change });
        store.store().commit(ops).await?;
        buried.insert(*key_id);
    }
    Ok(buried)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_deleted_key_is_left_out_but_its_record() {
        let (gone, stays) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let deleted = Deleted::from([(gone, 7)]);
        for (path, want) in [
            (path::version(gone, stays), true),
            (path::number(gone, 1), true),
            (path::association(gone, "app"), true),
            (path::key(gone), false),
            (path::version(stays, gone), false),
            (path::alias("alias/x"), false),
        ] {
            assert_eq!(left_out(&deleted, &path), want, "{}", path.escape_ascii());
        }
    }
}
