//! Record format v1: what a key, a version, an alias and the rest are on disk.
//!
//! Keys of the store (all in one ordered map):
//!
//! ```text
//! k/ key id                 KeyRecord
//! v/ key id  version id     VersionRecord
//! a/ alias                  AliasRecord
//! c/ endpoint 00 token      ClientTokenRecord
//! i/ event id               IntentRecord
//! o/ event id               OutboxRecord
//! ```
//! Ids are 16 raw bytes. Fields that later operations need stand here already;
//! a change of shape is a new schema number with a reader for the old one.

use claviger_protocol::names::{Alias, Description, ProjectName, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{KeyOrigin, KeySpec, KeyState, KeyUsage, Protection, Suite};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::Event;
use crate::edge::Timestamp;
use crate::store::Record;

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
impl Record for IntentRecord {
    const SCHEMA: u16 = 1;
}
impl Record for OutboxRecord {
    const SCHEMA: u16 = 1;
}

/// The store's keys.
pub mod path {
    use super::Uuid;

    /// All key records.
    pub const KEYS: &[u8] = b"k/";
    /// All intents.
    pub const INTENTS: &[u8] = b"i/";
    /// All of the outbox.
    pub const OUTBOX: &[u8] = b"o/";
    /// All client tokens.
    pub const CLIENT_TOKENS: &[u8] = b"c/";
    /// All versions.
    pub const VERSIONS: &[u8] = b"v/";
    /// All aliases.
    pub const ALIASES: &[u8] = b"a/";

    /// A key's record.
    #[must_use]
    pub fn key(key_id: Uuid) -> Vec<u8> {
        [KEYS, key_id.as_bytes()].concat()
    }

    /// A version's record.
    #[must_use]
    pub fn version(key_id: Uuid, version_id: Uuid) -> Vec<u8> {
        [VERSIONS, key_id.as_bytes(), version_id.as_bytes()].concat()
    }

    /// An alias.
    #[must_use]
    pub fn alias(alias: &str) -> Vec<u8> {
        [ALIASES, alias.as_bytes()].concat()
    }

    /// A client token, within the endpoint it came through.
    #[must_use]
    pub fn client_token(endpoint: &str, token: &[u8; 16]) -> Vec<u8> {
        [CLIENT_TOKENS, endpoint.as_bytes(), b"\0", token].concat()
    }

    /// An intent.
    #[must_use]
    pub fn intent(event_id: Uuid) -> Vec<u8> {
        [INTENTS, event_id.as_bytes()].concat()
    }

    /// An outbox entry.
    #[must_use]
    pub fn outbox(event_id: Uuid) -> Vec<u8> {
        [OUTBOX, event_id.as_bytes()].concat()
    }

    /// The key id in a key record's path.
    #[must_use]
    pub fn key_id(path: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(path.strip_prefix(KEYS)?).ok()
    }

    /// The version id in a version record's path.
    #[must_use]
    pub fn version_id(path: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(path.strip_prefix(VERSIONS)?.get(16..)?).ok()
    }
}
