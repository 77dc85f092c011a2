//! Who used which key, and when last: kept in memory and written down now and then, so
//! that no call waits for the disk for it. A crash loses the uses of the last moments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claviger_protocol::KeyState;
use uuid::Uuid;

use super::record::{AssociationRecord, path};
use super::{KeyEntry, Keyring};
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, MAX_BATCH_OPS, Op};

/// Locks among which keys are divided, so that threads seldom wait for each other.
const SHARDS: usize = 16;
/// Uses remembered in one shard at most: some 100,000 in all, 10 MiB. Those of one sweep
/// beyond that aren't written down.
const MAX_IN_SHARD: usize = 8192;

/// An access point's last use of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The access point.
    pub access_point: String,
    /// When.
    pub at: Timestamp,
}

/// Last uses, by key and access point.
type Shard = BTreeMap<(Uuid, Arc<str>), Timestamp>;

/// A use of a key by an access point, and when.
type Noted = ((Uuid, Arc<str>), Timestamp);

/// Uses that aren't written down yet.
#[derive(Default)]
pub(super) struct Uses([Mutex<Shard>; SHARDS]);

impl Uses {
    /// Remembers a use.
    pub(super) fn note(&self, key_id: Uuid, access_point: &Arc<str>, now: Timestamp) {
        let mut shard = self.shard(key_id);
        if let Some(at) = shard.get_mut(&(key_id, Arc::clone(access_point))) {
            *at = now;
        } else if shard.len() < MAX_IN_SHARD {
            shard.insert((key_id, Arc::clone(access_point)), now);
        }
    }

    /// Forgets uses that are written down, unless they were used again meanwhile.
    fn written(&self, uses: &[Noted]) {
        for ((key_id, name), at) in uses {
            let mut shard = self.shard(*key_id);
            let place = (*key_id, Arc::clone(name));
            if shard.get(&place) == Some(at) {
                shard.remove(&place);
            }
        }
    }

    fn of(&self, key_id: Uuid) -> Vec<Use> {
        let shard = self.shard(key_id);
        let first = (key_id, Arc::from(""));
        let uses = shard.range(first..).take_while(|((id, _), _)| *id == key_id);
        uses.map(|((_, name), at)| Use { access_point: name.to_string(), at: *at }).collect()
    }

    fn all(&self) -> Vec<Noted> {
        self.0.iter().flat_map(|shard| lock(shard).clone()).collect()
    }

    fn shard(&self, key_id: Uuid) -> MutexGuard<'_, Shard> {
        lock(&self.0[usize::from(key_id.as_bytes()[15]) % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keyring {
    pub(super) fn note_use(&self, key: &KeyEntry, access_point: &Arc<str>) {
        self.uses.note(key.record.key_id, access_point, self.edge.clock.now());
    }

    /// Who used a key, latest use first.
    pub async fn associations(&self, key_id: Uuid) -> Result<Vec<Use>, Failure> {
        let mut last: BTreeMap<String, Timestamp> = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let prefix = path::associations_of(key_id);
            let page = self.store.list::<AssociationRecord>(&prefix, after.as_deref(), MAX_BATCH_OPS).await?;
            for (path, _, record) in &page {
                let name = path::access_point(path).unwrap_or_default().to_owned();
                last.insert(name, record.last_used_at);
            }
            if page.len() < MAX_BATCH_OPS {
                break;
            }
            after = page.into_iter().last().map(|(path, _, _)| path);
        }
        for used in self.uses.of(key_id) {
            last.insert(used.access_point, used.at);
        }
        let mut uses: Vec<_> = last.into_iter().map(|(access_point, at)| Use { access_point, at }).collect();
        uses.sort_by_key(|used| std::cmp::Reverse(used.at));
        Ok(uses)
    }

    /// Writes down what was remembered. What can't be written is remembered on.
    pub async fn write_associations(&self) -> Result<(), Failure> {
        for chunk in self.uses.all().chunks(MAX_BATCH_OPS) {
            self.write_uses(chunk).await?;
            self.uses.written(chunk);
        }
        Ok(())
    }

    async fn write_uses(&self, uses: &[Noted]) -> Result<(), Failure> {
        let mut ops = Vec::with_capacity(uses.len());
        for ((key_id, name), at) in uses {
            // A key that is gone has no associations any more.
            let key = self.find_id(*key_id).await?;
            let there = key.is_some_and(|key| key.record.state != KeyState::Deleted);
            if there {
                let key = path::association(*key_id, name);
                let change = Change::Put(self.store.put(&key, &AssociationRecord { last_used_at: *at })?);
                ops.push(Op { key, expect: Expect::Any, change });
            }
        }
        if !ops.is_empty() {
            self.commit(ops).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_of_each_access_point_is_remembered_once() {
        let (uses, key) = (Uses::default(), Uuid::from_u128(1));
        for (name, at) in [("app", 1), ("job", 2), ("app", 3)] {
            uses.note(key, &name.into(), at);
        }
        uses.note(Uuid::from_u128(17), &"other".into(), 9);
        let of = |name: &str, at| Use { access_point: name.into(), at };
        assert_eq!(uses.of(key), [of("app", 3), of("job", 2)]);
        let all = uses.all();
        assert_eq!(all.len(), 3);
        uses.note(key, &"job".into(), 4);
        uses.written(&all);
        assert_eq!(uses.of(key), [of("job", 4)], "it was used while it was written down");
    }

    #[test]
    fn memory_is_bounded() {
        let (uses, key) = (Uses::default(), Uuid::from_u128(1));
        for n in 0..MAX_IN_SHARD + 10 {
            uses.note(key, &n.to_string().into(), 1);
        }
        assert_eq!(uses.of(key).len(), MAX_IN_SHARD);
    }
}
