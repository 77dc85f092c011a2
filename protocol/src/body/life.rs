//! Bodies of the operations on a key's life: deletion, protection, tags, rotation,
//! versions, associations, default keys.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{KeySummary, Rotation, bodies, rules};
use crate::names::{Description, KeyRef, ProjectName, ServiceName, TagKey, Tags};
use crate::secret::Bytes;
use crate::values::KeyState;

bodies! {
    /// Keys that have an alias, in the order of their aliases.
    ListAliasKeysRequest {
        /// Only keys of this project.
        project: Option<ProjectName>,
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::name_page_token")]
        page: Bytes,
    }

    /// One page of keys, each with the alias that it stands here for.
    ListAliasKeysReply {
        /// The keys. One with several aliases stands here once for each.
        keys: Vec<AliasKey>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// A key in a list by alias.
    AliasKey {
        /// The alias.
        alias: String,
        /// The key.
        key: KeySummary,
    }

    /// Symmetric encryption keys: AES_256 first, then SM4, each in the order of their ids.
    ListSymmetricKeysRequest {
        /// Only keys in this state.
        state: Option<KeyState>,
        /// Only keys of this project.
        project: Option<ProjectName>,
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::page_token")]
        page: Bytes,
    }

    /// Plans the destruction of keys.
    ScheduleKeyDeletionRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
        /// In so many days; the daemon's default (30) if not given.
        #[serde(deserialize_with = "rules::deletion_days")]
        days: Option<u16>,
        /// Although access points used them lately.
        force: bool,
    }

    /// A result for each key named, in their order.
    KeyDeletionsReply {
        /// The results.
        results: Vec<KeyDeletionResult>,
    }

    /// What became of one key whose destruction was to be planned.
    KeyDeletionResult {
        /// The key as the caller named it.
        key: KeyRef,
        /// A code number.
        status: u16,
        /// The key's id, if status is 0.
        key_id: Option<Uuid>,
        /// When it will be destroyed, if status is 0.
        deletion_date: Option<i64>,
        /// Who used it lately, if that is why not (`KeyInUse`).
        associations: Vec<Association>,
        /// Why not, if status isn't 0.
        message: String,
    }

    /// Takes a planned destruction back.
    CancelKeyDeletionRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
        /// Enabled at once, where there is material; else Disabled.
        enable: bool,
    }

    /// Refuses deletion from now on.
    ProtectKeyRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
    }

    /// Allows deletion from now on.
    UnprotectKeyRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
    }

    /// Gives a key another description.
    UpdateKeyDescriptionRequest {
        /// Which.
        key: KeyRef,
        /// The description, maybe empty.
        description: Description,
    }

    /// A change of one key.
    KeyChangeReply {
        /// Its id.
        key_id: Uuid,
        /// Whether this call changed it.
        changed: bool,
    }

    /// Sets tags on keys; a tag whose key is there already gets the new value.
    TagResourceRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
        /// The tags.
        tags: Tags,
    }

    /// Removes tags from keys.
    UntagResourceRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
        /// Keys of the tags, 1 to 20.
        #[serde(deserialize_with = "rules::tag_keys")]
        tag_keys: Vec<TagKey>,
    }

    /// The tags of a key.
    ListTagsRequest {
        /// Which.
        key: KeyRef,
    }

    /// The tags of a key.
    ListTagsReply {
        /// Its id.
        key_id: Uuid,
        /// Its tags, sorted by key.
        tags: Tags,
    }

    /// Makes a new primary version now.
    RotateKeyRequest {
        /// The same token within 24 h returns the first result.
        client_token: [u8; 16],
        /// Which.
        key: KeyRef,
    }

    /// Makes another version of a key pair.
    CreateKeyVersionRequest {
        /// The same token within 24 h returns the first result.
        client_token: [u8; 16],
        /// Which.
        key: KeyRef,
    }

    /// The new version.
    NewKeyVersionReply {
        /// The key.
        key_id: Uuid,
        /// The version.
        key_version_id: Uuid,
    }

    /// Sets or ends regular rotation.
    UpdateRotationPolicyRequest {
        /// Which.
        key: KeyRef,
        /// Every so many days (7 to 730); none ends it.
        #[serde(deserialize_with = "rules::rotation_days")]
        rotation_days: Option<u16>,
    }

    /// A rotation policy as it is now.
    UpdateRotationPolicyReply {
        /// The key.
        key_id: Uuid,
        /// Its policy.
        rotation: Option<Rotation>,
        /// Whether this call changed it.
        changed: bool,
    }

    /// The versions of a key, newest first.
    ListKeyVersionsRequest {
        /// Which.
        key: KeyRef,
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::page_token")]
        page: Bytes,
    }

    /// One page of versions.
    ListKeyVersionsReply {
        /// The key.
        key_id: Uuid,
        /// The versions.
        versions: Vec<KeyVersionSummary>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// A version in a list.
    KeyVersionSummary {
        /// Its id.
        key_version_id: Uuid,
        /// 1 for the first, then up.
        number: u32,
        /// When it was made.
        created_at: i64,
        /// Whether it encrypts, or makes MACs. Pairs have no primary version.
        primary: bool,
        /// When its material was destroyed, if it was.
        destroyed_at: Option<i64>,
    }

    /// Everything about a version but its material.
    DescribeKeyVersionRequest {
        /// Which key.
        key: KeyRef,
        /// Which of its versions.
        key_version_id: Uuid,
    }

    /// Everything about a version but its material.
    DescribeKeyVersionReply {
        /// The key.
        key_id: Uuid,
        /// The version.
        version: KeyVersionSummary,
        /// SubjectPublicKeyInfo (DER), of a pair.
        public_key: Option<Bytes>,
        /// Whether it was made in hardware.
        hardware: bool,
        /// The member that made it, or took it in.
        made_by: String,
        /// Messages that it may have encrypted so far, where they are counted (direct suites).
        counted_uses: Option<u64>,
    }

    /// Who used a key, and when last.
    DetectAssociationRequest {
        /// Which.
        key: KeyRef,
    }

    /// Who used a key, and when last.
    DetectAssociationReply {
        /// The key.
        key_id: Uuid,
        /// By access point, latest use first.
        associations: Vec<Association>,
    }

    /// An access point that used a key.
    Association {
        /// Its name.
        access_point: String,
        /// When it last used the key.
        last_used_at: i64,
    }

    /// Makes the default key of a local service, or finds it.
    CreateDefaultKeyRequest {
        /// The service.
        service: ServiceName,
    }
}
