//! Lists and counts of keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use claviger_protocol::names::{ProjectName, Tag};
use claviger_protocol::{Code, KeySpec, KeyState};
use uuid::Uuid;

use super::record::{KeyRecord, Mark, NumberRecord, VersionRecord, path};
use super::{Keyring, index};
use crate::failure::Failure;
use crate::store::{Change, Expect, MAX_BATCH_OPS, Op, StoreError};

/// Records that one call reads at most: a page may be short, and still not the last.
const SCAN_LIMIT: usize = 10_000;
/// Records read from the store at once.
const CHUNK: usize = 256;
/// Single records read at once.
const READS_AT_ONCE: usize = 16;

/// What a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only keys in this state.
    pub state: Option<KeyState>,
    /// Only keys of this spec.
    pub spec: Option<KeySpec>,
    /// Only keys of this project.
    pub project: Option<ProjectName>,
    /// Only keys with this tag.
    pub tag: Option<Tag>,
}

impl Filter {
    fn admits(&self, key: &KeyRecord) -> bool {
        let shown = self.state.map_or(key.state != KeyState::Deleted, |state| key.state == state);
        shown
            && self.spec.is_none_or(|spec| key.spec == spec)
            && self.project.as_ref().is_none_or(|project| key.project == *project)
            && self.tag.as_ref().is_none_or(|tag| key.tags.as_slice().contains(tag))
    }

    /// The index that leads to the fewest keys; none where all keys are wanted. `default`
    /// and Enabled are what most keys are: they are looked up last.
    fn index(&self) -> Option<Vec<u8>> {
        let project = self.project.as_ref();
        let rare_project = project.filter(|project| **project != ProjectName::default());
        let rare_state = self.state.filter(|state| *state != KeyState::Enabled);
        // A tombstone is in no index but by state and spec.
        let live = self.state != Some(KeyState::Deleted);
        let by_tag = self.tag.as_ref().filter(|_| live).map(index::by_tag);
        by_tag
            .or_else(|| rare_project.filter(|_| live).map(index::by_project))
            .or_else(|| rare_state.map(index::by_state))
            .or_else(|| self.spec.map(index::by_spec))
            .or_else(|| self.state.map(index::by_state))
            .or_else(|| project.map(index::by_project))
    }
}

/// One page of keys, in the order of their aliases.
#[derive(Debug)]
pub struct AliasPage {
    /// The keys.
    pub keys: Vec<(String, KeyRecord)>,
    /// Where the next page starts; none after the last.
    pub next: Option<String>,
}

/// One page of keys, in the order of their ids.
#[derive(Debug)]
pub struct Page {
    /// The keys.
    pub keys: Vec<KeyRecord>,
    /// Where the next page starts; none after the last.
    pub next: Option<Uuid>,
}

impl Keyring {
    /// At most `limit` keys after the key `after`.
    pub async fn list(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Result<Page, Failure> {
        let (mut keys, mut position, mut scanned) = (Vec::new(), after, 0);
        let index = filter.index();
        loop {
            let chunk = match &index {
                Some(index) => self.indexed(index, position).await?,
                None => self.all_after(position).await?,
            };
            let last_chunk = chunk.len() < CHUNK;
            for (id, record) in chunk {
                scanned += 1;
                position = Some(id);
                keys.extend(record.filter(|record| filter.admits(record)));
                if keys.len() == limit || scanned == SCAN_LIMIT {
                    return Ok(Page { keys, next: position });
                }
            }
            if last_chunk {
                return Ok(Page { keys, next: None });
            }
        }
    }

    /// A chunk of all keys.
    async fn all_after(&self, after: Option<Uuid>) -> Result<Vec<(Uuid, Option<KeyRecord>)>, Failure> {
        let after = after.map(path::key);
        let chunk = self.store.list::<KeyRecord>(path::KEYS, after.as_deref(), CHUNK).await?;
        Ok(chunk.into_iter().map(|(_, _, record)| (record.key_id, Some(record))).collect())
    }

    /// A chunk of the keys in an index. One that has left it since is none.
    async fn indexed(
        &self,
        index: &[u8],
        after: Option<Uuid>,
    ) -> Result<Vec<(Uuid, Option<KeyRecord>)>, Failure> {
        let after = after.map(|id| [index, id.as_bytes()].concat());
        let entries = self.store.list::<Mark>(index, after.as_deref(), CHUNK).await?;
        let ids = entries.iter().filter_map(|(entry, _, _)| index::key_id(entry));
        // Past the cache, which a list would empty of what is in use.
        let mut found = Vec::with_capacity(entries.len());
        let ids: Vec<_> = ids.collect();
        // A few at once: each takes a place in the reader's queue, which is everybody's.
        for some in ids.chunks(READS_AT_ONCE) {
            let reads = some.iter().map(|id| async move {
                let key = self.store.get::<KeyRecord>(&path::key(*id)).await?;
                Ok::<_, StoreError>((*id, key.map(|(_, record)| record)))
            });
            found.extend(futures_util::future::try_join_all(reads).await?);
        }
        Ok(found)
    }

    /// At most `limit` keys in the order of their aliases, after the alias `after`.
    pub async fn list_aliased(
        &self,
        project: Option<&ProjectName>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<AliasPage, Failure> {
        let (mut keys, mut position, mut scanned) = (Vec::new(), after.map(ToOwned::to_owned), 0);
        loop {
            let chunk = self.aliases(position.as_deref(), CHUNK).await?;
            let last_chunk = chunk.len() < CHUNK;
            for (alias, key_id) in chunk {
                scanned += 1;
                let found = self.store.get::<KeyRecord>(&path::key(key_id)).await?;
                let wanted = |key: &KeyRecord| project.is_none_or(|project| key.project == *project);
                keys.extend(found.map(|(_, key)| key).filter(wanted).map(|key| (alias.clone(), key)));
                position = Some(alias);
                if keys.len() == limit || scanned == SCAN_LIMIT {
                    return Ok(AliasPage { keys, next: position });
                }
            }
            if last_chunk {
                return Ok(AliasPage { keys, next: None });
            }
        }
    }

    /// Keys by state and spec.
    #[must_use]
    pub fn counts(&self) -> Vec<(KeyState, KeySpec, u64)> {
        let counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there =
            counts.iter().filter_map(|(kind, n)| Some((kind, u64::try_from(*n).ok().filter(|n| *n > 0)?)));
        there.map(|((state, spec), n)| (*state, *spec, n)).collect()
    }

    pub(super) async fn count_all(&self) -> Result<(), Failure> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let chunk = self.store.list::<KeyRecord>(path::KEYS, after.as_deref(), CHUNK).await?;
            for (key_path, revision, record) in &chunk {
                if path::key_id(key_path) != Some(record.key_id) {
                    return Err(Failure::new(Code::StoreUnavailable, "a key record stands under another id"));
                }
                self.counts.add(record.state, record.spec);
                if !record.indexed {
                    self.enter_in_indexes(*revision, record).await?;
                }
            }
            if chunk.len() < CHUNK {
                return Ok(());
            }
            after = chunk.into_iter().last().map(|(key_path, _, _)| key_path);
        }
    }
}

impl Keyring {
    /// Gives a key of before there were indexes its entries, and its versions their numbers.
    async fn enter_in_indexes(&self, revision: u64, key: &KeyRecord) -> Result<(), Failure> {
        let versions =
            self.store.list::<VersionRecord>(&path::versions_of(key.key_id), None, MAX_BATCH_OPS / 2).await?;
        let mut ops = index::changes(&self.store, None, key)?;
        for (_, _, version) in versions {
            let number_path = path::number(key.key_id, version.number);
            let record = NumberRecord { version_id: version.version_id };
            let change = Change::Put(self.store.put(&number_path, &record)?);
            ops.push(Op { key: number_path, expect: Expect::Any, change });
        }
        let key_path = path::key(key.key_id);
        let change = Change::Put(self.store.put(&key_path, key)?);
        ops.push(Op { key: key_path, expect: Expect::Revision(revision), change });
        self.commit(ops).await?;
        Ok(())
    }
}

/// How many keys there are, by state and spec. Of two changes of a key the second may be
/// counted first: a number can be below 0 until the other is counted too.
#[derive(Default)]
pub(super) struct Counts(Mutex<BTreeMap<(KeyState, KeySpec), i64>>);

impl Counts {
    pub(super) fn add(&self, state: KeyState, spec: KeySpec) {
        self.change(state, spec, 1);
    }

    pub(super) fn moved(&self, spec: KeySpec, from: KeyState, to: KeyState) {
        self.change(from, spec, -1);
        self.change(to, spec, 1);
    }

    fn change(&self, state: KeyState, spec: KeySpec, by: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((state, spec)).or_default() += by;
    }
}
