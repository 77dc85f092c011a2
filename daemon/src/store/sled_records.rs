//! What is in the tree, and how batches get there: `k` ‖ key → revision (u64 LE) ‖ value,
//! and the revision counter under `r`, rewritten within each batch.

use std::collections::BTreeMap;

use super::export::Records;
use super::rules;
use super::{Change, Listed, Op, StoreError, Versioned};

/// Tree key of the revision counter.
pub(super) const REVISION_KEY: &[u8] = b"r";
const RECORD_TAG: u8 = b'k';
/// Bytes after which a group goes to sled though more waits: bounds what is held
/// in memory twice, and how far one batch of sled's reaches over its log.
const MAX_GROUP_BYTES: usize = 1024 * 1024;

/// Batches on their way into the tree. They go as one batch of sled's, which costs
/// a write of its own for each that it is given; each is still whole or not there.
pub(super) struct Group<'a> {
    db: &'a sled::Db,
    /// Last revision given, and the last that sled has.
    revision: u64,
    applied: u64,
    writes: sled::Batch,
    bytes: usize,
    /// Revision, `None` where removed, of each key in `writes`.
    changed: BTreeMap<Vec<u8>, Option<u64>>,
}

impl<'a> Group<'a> {
    pub(super) fn new(db: &'a sled::Db, revision: u64) -> Self {
        Self {
            db,
            revision,
            applied: revision,
            writes: sled::Batch::default(),
            bytes: 0,
            changed: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, batch: &[Op], touch: &mut dyn FnMut(Vec<u8>)) -> Result<u64, StoreError> {
        rules::judge(batch, |key| match self.changed.get(key) {
            Some(revision) => Ok(*revision),
            None => Ok(get(self.db, key)?.map(|record| record.revision)),
        })?;
        self.revision += 1;
        self.writes.insert(REVISION_KEY, &self.revision.to_le_bytes());
        for op in batch {
            let revision = match &op.change {
                Change::Put(value) => {
                    self.bytes += value.len();
                    self.writes.insert(tree_key(&op.key), wrap_value(self.revision, value));
                    Some(self.revision)
                }
                Change::Delete => {
                    self.writes.remove(tree_key(&op.key));
                    None
                }
                Change::Check => continue,
            };
            self.bytes += op.key.len();
            self.changed.insert(op.key.clone(), revision);
            touch(op.key.clone());
        }
        let revision = self.revision;
        if self.bytes > MAX_GROUP_BYTES {
            self.apply()?;
        }
        Ok(revision)
    }

    /// Gives sled what was added; answers the last revision.
    pub(super) fn apply(&mut self) -> Result<u64, StoreError> {
        if self.applied < self.revision {
            self.db.apply_batch(std::mem::take(&mut self.writes)).map_err(failed)?;
            self.applied = self.revision;
        }
        self.bytes = 0;
        self.changed.clear();
        Ok(self.revision)
    }
}

impl Records for sled::Db {
    fn after(&self, key: Option<&[u8]>, limit: usize) -> Result<Listed, StoreError> {
        list(self, b"", key, limit)
    }

    fn at(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        get(self, key)
    }
}

pub(super) fn get(db: &sled::Db, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
    match db.get(tree_key(key)).map_err(failed)? {
        Some(value) => versioned(key, &value).map(Some),
        None => Ok(None),
    }
}

pub(super) fn list(
    db: &sled::Db,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Listed, StoreError> {
    let prefix_key = tree_key(prefix);
    let start = match after {
        // The smallest key greater than `after`.
        Some(after) if after >= prefix => [&tree_key(after)[..], &[0]].concat(),
        _ => prefix_key.clone(),
    };
    let mut found = Vec::new();
    for item in db.range(start..).take(limit) {
        // `?` ends the iteration at the first error: a damaged tree repeats it for ever.
        let (key, value) = item.map_err(failed)?;
        if !key.starts_with(&prefix_key) {
            break;
        }
        let key = key.get(1..).unwrap_or_default().to_vec();
        let record = versioned(&key, &value)?;
        found.push((key, record));
    }
    Ok(found)
}

pub(super) fn tree_key(key: &[u8]) -> Vec<u8> {
    [&[RECORD_TAG], key].concat()
}

pub(super) fn wrap_value(revision: u64, value: &[u8]) -> Vec<u8> {
    [&revision.to_le_bytes()[..], value].concat()
}

/// Revision and value of what the tree holds; `None` where it is too short.
pub(super) fn unwrap_value(stored: &[u8]) -> Option<(u64, &[u8])> {
    let (revision, value) = stored.split_first_chunk()?;
    Some((u64::from_le_bytes(*revision), value))
}

fn versioned(key: &[u8], stored: &[u8]) -> Result<Versioned, StoreError> {
    let (revision, value) =
        unwrap_value(stored).ok_or_else(|| StoreError::Damaged(key.escape_ascii().to_string()))?;
    Ok(Versioned { revision, value: value.to_vec() })
}

#[allow(clippy::needless_pass_by_value)] // for map_err
pub(super) fn failed(error: sled::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}
