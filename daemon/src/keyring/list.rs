//! Lists and counts of keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use claviger_protocol::names::{ProjectName, Tag};
use claviger_protocol::{Code, KeySpec, KeyState};
use uuid::Uuid;

use super::Keyring;
use super::record::{KeyRecord, path};
use crate::failure::Failure;

/// Records that one call reads at most: a page may be short, and still not the last.
const SCAN_LIMIT: usize = 10_000;
/// Records read from the store at once.
const CHUNK: usize = 256;

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
        self.state.is_none_or(|state| key.state == state)
            && self.spec.is_none_or(|spec| key.spec == spec)
            && self.project.as_ref().is_none_or(|project| key.project == *project)
            && self.tag.as_ref().is_none_or(|tag| key.tags.as_slice().contains(tag))
    }
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
        let mut keys = Vec::new();
        let mut position = after.map(path::key);
        let mut scanned = 0;
        loop {
            let chunk = self.store.list::<KeyRecord>(path::KEYS, position.as_deref(), CHUNK).await?;
            let last_chunk = chunk.len() < CHUNK;
            for (key_path, _, record) in chunk {
                scanned += 1;
                let id = record.key_id;
                if filter.admits(&record) {
                    keys.push(record);
                }
                position = Some(key_path);
                if keys.len() == limit || scanned == SCAN_LIMIT {
                    return Ok(Page { keys, next: Some(id) });
                }
            }
            if last_chunk {
                return Ok(Page { keys, next: None });
            }
        }
    }

    /// Keys by state and spec.
    #[must_use]
    pub fn counts(&self) -> Vec<(KeyState, KeySpec, u64)> {
        let counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|(_, n)| **n > 0).map(|((state, spec), n)| (*state, *spec, *n)).collect()
    }

    pub(super) async fn count_all(&self) -> Result<(), Failure> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let chunk = self.store.list::<KeyRecord>(path::KEYS, after.as_deref(), CHUNK).await?;
            for (key_path, _, record) in &chunk {
                if path::key_id(key_path) != Some(record.key_id) {
                    return Err(Failure::new(Code::StoreUnavailable, "a key record stands under another id"));
                }
                self.counts.add(record.state, record.spec);
            }
            if chunk.len() < CHUNK {
                return Ok(());
            }
            after = chunk.into_iter().last().map(|(key_path, _, _)| key_path);
        }
    }
}

/// How many keys there are, by state and spec.
#[derive(Default)]
pub(super) struct Counts(Mutex<BTreeMap<(KeyState, KeySpec), u64>>);

impl Counts {
    pub(super) fn add(&self, state: KeyState, spec: KeySpec) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((state, spec)).or_default() += 1;
    }

    pub(super) fn moved(&self, spec: KeySpec, from: KeyState, to: KeyState) {
        if let Some(count) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&(from, spec)) {
            *count = count.saturating_sub(1);
        }
        self.add(to, spec);
    }
}
