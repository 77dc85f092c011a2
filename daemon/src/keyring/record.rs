//! Record format: what a key, a version, an alias and the rest are on disk.
//!
//! Keys of the store (all in one ordered map):
//!
//! ```text
//! k/ key id                 KeyRecord
//! v/ key id  version id     VersionRecord
//! n/ key id  number         NumberRecord: the key's versions, newest first
//! a/ alias                  AliasRecord
//! p/ project                ProjectRecord
//! s/ key id  access point   AssociationRecord
//! b/ time down  backup id   BackupRecord: latest first
//! x/ facet value  key id    Mark: indexes of keys, see `index.rs`
//! d/ time kind  id          Mark: what falls due, see `index.rs`
//! r/ time kind  key id      Mark: rotations that fall due
//! e/ time kind  key id      Mark: material to be erased, see `erasure.rs`
//! c/ endpoint 00 token      ClientTokenRecord
//! w/ key id  import id      ImportRecord: wrapping keys that are given out
//! i/ event id               IntentRecord
//! o/ event id               OutboxRecord
//! ```
//! Ids are 16 raw bytes. Fields that later operations need stand here already;
//! a change of shape is a new schema number with a reader for the old one.

pub mod path;

use claviger_protocol::codec::{self, DecodeError};
use claviger_protocol::names::{Alias, Description, ProjectName, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    ImportAlgorithm, KeyOrigin, KeySpec, KeyState, KeyUsage, Protection, Suite, WrappingKeySpec,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::Event;
use crate::edge::Timestamp;
use crate::store::{Record, Schema};

/// Metadata of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its id, again: a record can't stand in for another.
    pub key_id: Uuid,
    /// What kind.
    pub spec: KeySpec,
    /// What for.
    pub usage: KeyUsage,
    /// Where its material lives.
    pub protection: Protection,
    /// Where its material came from.
    pub origin: KeyOrigin,
    /// Its project.
    pub project: ProjectName,
    /// Its description.
    pub description: Description,
    /// Its aliases, sorted; each has an [`AliasRecord`] too.
    pub aliases: Vec<Alias>,
    /// Its tags.
    pub tags: Tags,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it: endpoint and peer.
    pub created_by: String,
    /// Where in its life.
    pub state: KeyState,
    /// Where it returns to when material comes back or deletion is cancelled.
    pub resume_state: Option<KeyState>,
    /// When it will be, or was, destroyed.
    pub deletion_date: Option<Timestamp>,
    /// When its last byte left the state directory.
    pub erased_at: Option<Timestamp>,
    /// Whether deletion is refused.
    pub deletion_protection: bool,
    /// When imported material expires.
    pub material_expires_at: Option<Timestamp>,
    /// Keyed fingerprint of the imported material, for ever.
    pub import_fingerprint: Option<Bytes>,
    /// Rotation period in days.
    pub rotation_days: Option<u16>,
    /// When it was last rotated.
    pub last_rotation: Option<Timestamp>,
    /// When rotation is due.
    pub next_rotation: Option<Timestamp>,
    /// The version that encrypts.
    pub primary_version: Option<Uuid>,
    /// How many versions it has.
    pub version_count: u32,
    /// The service whose default key it is.
    pub default_for: Option<String>,
    /// SM2 user id.
    pub sm2_user_id: Option<Bytes>,
    /// Whether it was read in the schema that stands in the indexes; one that wasn't gets
    /// its index entries at the next opening.
    #[serde(skip)]
    pub indexed: bool,
}

impl KeyRecord {
    /// Whether there is material.
    #[must_use]
    pub fn has_material(&self) -> bool {
        self.primary_version.is_some()
    }
}

/// One version's material, in every form it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The key it belongs to.
    pub key_id: Uuid,
    /// Its id.
    pub version_id: Uuid,
    /// 1 for the first, then up.
    pub number: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// The blob suite it encrypts with (symmetric encryption keys).
    pub suite: Option<Suite>,
    /// First bytes of a value that only this material gives.
    pub check_value: [u8; 8],
    /// Where the material is.
    pub locations: Vec<Location>,
    /// Uses reserved so far (direct suites); the next reservation starts here.
    pub reserved_uses: u64,
    /// Whether it was made in hardware.
    pub hardware: bool,
    /// The member that made it.
    pub made_by: String,
    /// SPKI DER of a pair's public key.
    pub public_key: Option<Bytes>,
    /// When its material was destroyed.
    pub destroyed_at: Option<Timestamp>,
}

/// One form in which material is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// One of [`location`].
    pub kind: u8,
    /// Wrap format's number (wrapped), else 0.
    pub format: u8,
    /// Root generation (wrapped), else 0.
    pub generation: u32,
    /// Member (token object), else empty.
    pub member: String,
    /// Wrapped or sealed bytes, or the token object's CKA_ID.
    pub blob: Bytes,
}

/// Numbers of [`Location::kind`].
pub mod location {
    /// Wrapped under a root generation.
    pub const WRAPPED: u8 = 1;
    /// Sealed under the domain key (SOFTWARE level).
    pub const SEALED: u8 = 3;
    // 2: a token object of one member, for tokens that forbid wrapping.
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The key it points at.
    pub key_id: Uuid,
}

/// Which version has a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberRecord {
    /// Its id.
    pub version_id: Uuid,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// Its name, again.
    pub name: ProjectName,
    /// What it is for.
    pub description: Description,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it: endpoint and peer.
    pub created_by: String,
    /// Whether it is being removed: nothing comes in any more.
    pub closing: bool,
}

/// An access point's use of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssociationRecord {
    /// The last that was written down.
    pub last_used_at: Timestamp,
}

/// A backup whose file was put in its place. Its own place has the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Its id.
    pub backup_id: Uuid,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When its last record was read: it is the store as it was then.
    pub read_at: Timestamp,
}

/// A record whose place says everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {}

/// What a client token first did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTokenRecord {
    /// SHA-256 of the request: the same token for another request is refused.
    pub request: [u8; 32],
    /// When.
    pub created_at: Timestamp,
    /// The key it made.
    pub key_id: Uuid,
    /// The version it made.
    pub version_id: Option<Uuid>,
}

/// What an import token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRecord {
    /// Its id, which the token names.
    pub import_id: Uuid,
    /// The key that material may be brought for.
    pub key_id: Uuid,
    /// How it is encrypted.
    pub algorithm: ImportAlgorithm,
    /// What kind of wrapping key.
    pub wrapping_spec: WrappingKeySpec,
    /// SPKI DER of the wrapping key.
    pub public_key: Bytes,
    /// The wrapping key's private half; none once the token is worn out.
    pub private: Option<Location>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it serves.
    pub expires_at: Timestamp,
    /// Imports that brought nothing usable, and those under way.
    pub failures: u8,
    /// Whether the last material that came in passed through the daemon's memory.
    pub through_memory: Option<bool>,
}

/// Work that is under way: written before the effect, removed with the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRecord {
    /// The audit event so far.
    pub event: Event,
}

/// An audit event that was committed with its change and may not be in the log yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// The event.
    pub event: Event,
}

impl Record for KeyRecord {
    // Of the same shape as 1. Its number keeps daemons out that know of no indexes.
    const SCHEMA: u16 = 2;

    fn read(schema: Schema<'_>) -> Option<Result<Self, DecodeError>> {
        let indexed = match schema.number {
            1 => false,
            2 => true,
            _ => return None,
        };
        Some(codec::decode(schema.body).map(|record| Self { indexed, ..record }))
    }
}
impl Record for NumberRecord {
    const SCHEMA: u16 = 1;
}
impl Record for ProjectRecord {
    const SCHEMA: u16 = 1;
}
impl Record for AssociationRecord {
    const SCHEMA: u16 = 1;
}
impl Record for BackupRecord {
    const SCHEMA: u16 = 1;
}
impl Record for Mark {
    const SCHEMA: u16 = 1;
}
impl Record for VersionRecord {
    const SCHEMA: u16 = 1;
}
impl Record for AliasRecord {
    const SCHEMA: u16 = 1;
}
impl Record for ClientTokenRecord {
    const SCHEMA: u16 = 1;
}
impl Record for ImportRecord {
    const SCHEMA: u16 = 1;
}
impl Record for IntentRecord {
    const SCHEMA: u16 = 2;

    fn read(schema: Schema<'_>) -> Option<Result<Self, DecodeError>> {
        read_event(schema).map(|event| event.map(|event| Self { event }))
    }
}
impl Record for OutboxRecord {
    const SCHEMA: u16 = 2;

    fn read(schema: Schema<'_>) -> Option<Result<Self, DecodeError>> {
        read_event(schema).map(|event| event.map(|event| Self { event }))
    }
}

/// An event alone in a record: schema 1 had no detail.
fn read_event(schema: Schema<'_>) -> Option<Result<Event, DecodeError>> {
    match schema.number {
        1 => Some(Event::decode_v1(schema.body)),
        2 => Some(codec::decode(schema.body)),
        _ => None,
    }
}
