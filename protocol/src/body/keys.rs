//! Bodies of the operations on keys and their lives.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
use crate::names::{Alias, Description, KeyRef, ProjectName, Tag, Tags};
use crate::secret::Bytes;
use crate::values::{KeyOrigin, KeySpec, KeyState, KeyUsage, Protection};

bodies! {
    /// Makes a key.
    CreateKeyRequest {
        /// The same token within 24 h returns the first result.
        client_token: [u8; 16],
        /// What kind of key.
        spec: KeySpec,
        /// What for; the spec's first usage if not given.
        usage: Option<KeyUsage>,
        /// Where its material lives.
        protection: Protection,
        /// Where its material comes from.
        origin: KeyOrigin,
        /// Its project.
        project: ProjectName,
        /// A first alias.
        alias: Option<Alias>,
        /// A description, maybe empty.
        description: Description,
        /// Its tags.
        tags: Tags,
        /// Rotate every so many days (7 to 730).
        #[serde(deserialize_with = "rules::rotation_days")]
        rotation_days: Option<u16>,
        /// SM2 user id, for SM2 keys; the standard's default if not given.
        #[serde(deserialize_with = "rules::sm2_user_id")]
        sm2_user_id: Option<Bytes>,
    }

    /// The new key.
    CreateKeyReply {
        /// Its id.
        key_id: Uuid,
        /// Its first version; none while material is awaited.
        key_version_id: Option<Uuid>,
    }

    /// Everything about a key but its material.
    DescribeKeyRequest {
        /// Which.
        key: KeyRef,
    }

    /// Everything about a key but its material.
    DescribeKeyReply {
        /// Its id.
        key_id: Uuid,
        /// What kind.
        spec: KeySpec,
        /// What for.
        usage: KeyUsage,
        /// Where in its life.
        state: KeyState,
        /// Where its material lives.
        protection: Protection,
        /// Where its material came from.
        origin: KeyOrigin,
        /// Its project.
        project: ProjectName,
        /// Its description.
        description: Description,
        /// Its aliases, sorted.
        aliases: Vec<String>,
        /// Its tags, sorted by key.
        tags: Tags,
        /// When it was made.
        created_at: i64,
        /// Who made it.
        created_by: String,
        /// The version that encrypts; none while material is awaited and for pairs.
        primary_version_id: Option<Uuid>,
        /// How many versions it has.
        version_count: u32,
        /// Its rotation policy.
        rotation: Option<Rotation>,
        /// When it will be, or was, destroyed.
        deletion_date: Option<i64>,
        /// When its last byte had left the state directory, of a deleted key.
        erased_at: Option<i64>,
        /// Whether deletion is refused.
        deletion_protection: bool,
        /// When imported material expires.
        material_expires_at: Option<i64>,
        /// SM2 user id, for SM2 keys.
        sm2_user_id: Option<Bytes>,
        /// What protects the material.
        assurance: Assurance,
    }

    /// A rotation policy and its dates.
    Rotation {
        /// The period.
        days: u16,
        /// When it last happened.
        last: Option<i64>,
        /// When it is due.
        next: Option<i64>,
    }

    /// Whether hardware protects a key, and which members hold it.
    Assurance {
        /// True only if every member that holds it is hardware.
        hardware: bool,
        /// Names of the members that can open it (HSM level), or that seal it (SOFTWARE level).
        members: Vec<String>,
    }

    /// One page of keys, in the order of their ids.
    ListKeysRequest {
        /// Only keys in this state.
        state: Option<KeyState>,
        /// Only keys of this spec.
        spec: Option<KeySpec>,
        /// Only keys of this project.
        project: Option<ProjectName>,
        /// Only keys with this tag.
        tag: Option<Tag>,
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::page_token")]
        page: Bytes,
    }

    /// One page of keys.
    ListKeysReply {
        /// The keys.
        keys: Vec<KeySummary>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// A key in a list.
    KeySummary {
        /// Its id.
        key_id: Uuid,
        /// What kind.
        spec: KeySpec,
        /// What for.
        usage: KeyUsage,
        /// Where in its life.
        state: KeyState,
        /// Where its material lives.
        protection: Protection,
        /// Where its material came from.
        origin: KeyOrigin,
        /// Its project.
        project: ProjectName,
        /// Its description.
        description: Description,
        /// Its aliases, sorted.
        aliases: Vec<String>,
        /// When it was made.
        created_at: i64,
    }

    /// Switches keys on.
    EnableKeyRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
    }

    /// Switches keys off.
    DisableKeyRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
    }

    /// A result for each key named, in their order.
    KeyStatesReply {
        /// The results.
        results: Vec<KeyStateResult>,
    }

    /// What became of one key of a multi-resource call.
    KeyStateResult {
        /// The key as the caller named it.
        key: KeyRef,
        /// A code number.
        status: u16,
        /// The key's id, if status is 0.
        key_id: Option<Uuid>,
        /// Its state now, if status is 0.
        state: Option<KeyState>,
        /// Whether this call changed it.
        changed: bool,
        /// Why not, if status isn't 0.
        message: String,
    }
}
