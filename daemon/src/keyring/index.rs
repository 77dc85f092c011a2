//! Indexes of keys in the store: which entries a key record has, so that every change of
//! the record changes them in the same batch. Pure.
//!
//! ```text
//! x/ s state  key id         keys by state
//! x/ c spec  key id          keys by spec
//! x/ p project 00 key id     keys by project, tombstones excepted
//! x/ t tag's hash  key id    keys by tag; 16 bytes of SHA-256(key 00 value)
//! d/ time kind  key id       what time will do to the key
//! r/ time kind  key id       its rotation: needs the HSM, and must hold nothing else up
//! e/ time kind  key id       destroyed material to be erased (`erasure.rs`)
//! ```
//! An entry says where to look: what a list shows is read from the key's record.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use claviger_protocol::names::{ProjectName, Tag};
use claviger_protocol::{KeySpec, KeyState};
use uuid::Uuid;

use super::record::{KeyRecord, Mark, path};
use crate::edge::Timestamp;
use crate::store::{Change, Expect, Op, Sealed, StoreError};

const INDEX: &[u8] = b"x/";
const UUID_LEN: usize = 16;

/// What falls due. Numbers are in the store: never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Due {
    /// A key's rotation.
    Rotate = 1,
    /// A key's deletion.
    Destroy = 2,
    /// The end of imported material.
    Expire = 3,
    /// What is left of a deleted key: versions, associations.
    Purge = 4,
    /// Destroyed material's last bytes in the store's files.
    Erase = 5,
    /// The end of an import token.
    EndImport = 6,
}

impl Due {
    /// What a number stands for.
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Rotate),
            2 => Some(Self::Destroy),
            3 => Some(Self::Expire),
            4 => Some(Self::Purge),
            5 => Some(Self::Erase),
            6 => Some(Self::EndImport),
            _ => None,
        }
    }

    /// What it stands among: each of these is gone through by itself.
    const fn among(self) -> &'static [u8] {
        match self {
            Self::Rotate => path::ROTATIONS,
            Self::Erase => path::ERASURES,
            Self::Destroy | Self::Expire | Self::Purge | Self::EndImport => path::DUE,
        }
    }

    /// Where it stands.
    pub(super) fn at(self, time: Timestamp, id: Uuid) -> Vec<u8> {
        path::due(self.among(), time, self as u8, id)
    }
}

/// All keys in a state.
pub(super) fn by_state(state: KeyState) -> Vec<u8> {
    [INDEX, b"s", &[state.number()]].concat()
}

/// All keys of a spec.
pub(super) fn by_spec(spec: KeySpec) -> Vec<u8> {
    [INDEX, b"c", &[spec.number()]].concat()
}

/// All keys of a project.
pub(super) fn by_project(project: &ProjectName) -> Vec<u8> {
    [INDEX, b"p", project.as_str().as_bytes(), b"\0"].concat()
}

/// All keys with a tag.
pub(super) fn by_tag(tag: &Tag) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [tag.key().as_bytes(), b"\0", tag.value().as_bytes()] {
        hash.update(part);
    }
    [INDEX, b"t", &hash.finish().as_ref()[..16]].concat()
}

/// The key id at an entry's end.
pub(super) fn key_id(entry: &[u8]) -> Option<Uuid> {
    let start = entry.len().checked_sub(UUID_LEN)?;
    Uuid::from_slice(entry.get(start..)?).ok()
}

/// What will happen to a key by itself, and when.
fn dues(key: &KeyRecord) -> Vec<(Timestamp, Due)> {
    let mut dues = Vec::new();
    match key.state {
        KeyState::Enabled => dues.extend(key.next_rotation.map(|at| (at, Due::Rotate))),
        KeyState::PendingDeletion => dues.extend(key.deletion_date.map(|at| (at, Due::Destroy))),
        // At once, and not when a clock that ran ahead said that it was deleted.
        KeyState::Deleted if key.version_count > 0 => dues.push((Timestamp::MIN, Due::Purge)),
        KeyState::Disabled | KeyState::PendingImport | KeyState::Deleted => {}
    }
    if key.has_material() && key.state != KeyState::Deleted {
        dues.extend(key.material_expires_at.map(|at| (at, Due::Expire)));
    }
    dues
}

/// Every entry of a key.
pub(super) fn entries(key: &KeyRecord) -> BTreeSet<Vec<u8>> {
    let mut lists = vec![by_state(key.state), by_spec(key.spec)];
    if key.state != KeyState::Deleted {
        lists.push(by_project(&key.project));
        lists.extend(key.tags.as_slice().iter().map(by_tag));
    }
    let listed = lists.into_iter().map(|mut entry| {
        entry.extend_from_slice(key.key_id.as_bytes());
        entry
    });
    listed.chain(dues(key).into_iter().map(|(at, due)| due.at(at, key.key_id))).collect()
}

/// What has to change in the indexes where a key's record changes; from nothing, for a
/// new key.
pub(super) fn changes(
    store: &Sealed,
    from: Option<&KeyRecord>,
    to: &KeyRecord,
) -> Result<Vec<Op>, StoreError> {
    let (old, new) = (from.filter(|key| key.indexed).map(entries).unwrap_or_default(), entries(to));
    let removed = old.difference(&new).map(|entry| remove(entry.clone()));
    removed.map(Ok).chain(new.difference(&old).map(|entry| mark(store, entry.clone()))).collect()
}

/// Puts a mark.
pub(super) fn mark(store: &Sealed, key: Vec<u8>) -> Result<Op, StoreError> {
    let change = Change::Put(store.put(&key, &Mark {})?);
    Ok(Op { key, expect: Expect::Any, change })
}

/// Removes a mark.
pub(super) fn remove(key: Vec<u8>) -> Op {
    Op { key, expect: Expect::Any, change: Change::Delete }
}
