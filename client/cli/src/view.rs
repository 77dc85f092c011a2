//! Replies as the JSON objects that the command line promises. Field names are a
//! contract: they stay, and new ones may join.

mod life;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_protocol::Code;
use claviger_protocol::body::{
    CreateKeyReply, DescribeBlobReply, DescribeKeyReply, KeyStateResult, KeyStatesReply, KeySummary,
    ListKeysReply, MemberStatus, SpecStatus, StatusReply,
};
use claviger_protocol::names::Tags;
use claviger_protocol::secret::Bytes as RawBytes;
use serde::Serialize;
use uuid::Uuid;

pub(crate) use self::life::{
    AliasKeys, Aliases, Associations, Changed, Deletion, Deletions, ImportParams, Imported, KeyState,
    ListedProject, ListedVersion, Named, NewVersion, Pointed, Policy, ProjectName, Projects, TagList, Used,
    Version, VersionList,
};
use crate::output::{Text, time};

#[derive(Serialize)]
pub(crate) struct Ping {
    pub(crate) version: String,
    pub(crate) round_trip_us: u64,
}

#[derive(Serialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
    pub(crate) domain_id: Uuid,
    pub(crate) root_generation: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) pool: Vec<Member>,
    pub(crate) keys: Vec<KeyCount>,
    pub(crate) recovery_recipients: u16,
    pub(crate) warnings: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) profile: String,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
    pub(crate) epoch: u64,
    pub(crate) hardware: bool,
    pub(crate) since: String,
    pub(crate) specs: Vec<Ability>,
}

#[derive(Serialize)]
pub(crate) struct Ability {
    pub(crate) spec: &'static str,
    pub(crate) available: bool,
    pub(crate) reason: String,
}

#[derive(Serialize)]
pub(crate) struct KeyCount {
    pub(crate) state: &'static str,
    pub(crate) spec: &'static str,
    pub(crate) count: u64,
}

#[derive(Serialize)]
pub(crate) struct Created {
    pub(crate) key_id: Uuid,
    pub(crate) key_version_id: Option<Uuid>,
}

#[derive(Serialize)]
pub(crate) struct Described {
    pub(crate) key_id: Uuid,
    pub(crate) spec: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) state: &'static str,
    pub(crate) protection: &'static str,
    pub(crate) origin: &'static str,
    pub(crate) project: String,
    pub(crate) description: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created_at: String,
    pub(crate) created_by: String,
    pub(crate) primary_version_id: Option<Uuid>,
    pub(crate) version_count: u32,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) deletion_date: Option<String>,
    pub(crate) erased_at: Option<String>,
    pub(crate) deletion_protection: bool,
    pub(crate) material_expires_at: Option<String>,
    pub(crate) sm2_user_id: Option<Text>,
    /// The same for people, what isn't text in it replaced.
    #[serde(skip)]
    pub(crate) sm2_user: Option<String>,
    pub(crate) hardware: bool,
    pub(crate) members: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Rotation {
    pub(crate) days: u16,
    pub(crate) last: Option<String>,
    pub(crate) next: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct KeyList {
    pub(crate) keys: Vec<ListedKey>,
    pub(crate) next_page: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct ListedKey {
    pub(crate) key_id: Uuid,
    pub(crate) spec: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) state: &'static str,
    pub(crate) protection: &'static str,
    pub(crate) origin: &'static str,
    pub(crate) project: String,
    pub(crate) description: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) created_at: String,
}

#[derive(Serialize)]
pub(crate) struct KeyStates {
    pub(crate) results: Vec<KeyOutcome>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum KeyOutcome {
    Done { key_id: Option<Uuid>, state: Option<&'static str>, changed: bool },
    Failed { key: String, error: ItemError },
}

#[derive(Serialize)]
pub(crate) struct ItemError {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl ItemError {
    /// Why one of several keys was refused.
    fn new(status: u16, message: String) -> Self {
        let name = Code::from_number(status).map(|code| code.name().to_owned());
        Self { code: name.unwrap_or_else(|| format!("Unknown{status}")), message }
    }
}

/// Tags as an object.
fn tags_of(tags: &Tags) -> BTreeMap<String, String> {
    tags.as_slice().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

/// A page token as `--page` takes it.
fn next_page(token: &RawBytes) -> Option<String> {
    (!token.0.is_empty()).then(|| URL_SAFE_NO_PAD.encode(&token.0))
}

/// Declares an object whose fields are there if they have a value.
macro_rules! sparse {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Default, Serialize)]
        pub(crate) struct $name {$(
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) $field: Option<$type>,
        )+}
    };
}

sparse! {
    /// What a cryptographic call gives; bytes that went to a file are not in it.
    Bytes {
        plaintext: Text,
        ciphertext: Text,
        ciphertext_blob: Text,
        exported_data_key: Text,
        signature: Text,
        mac: Text,
        digest: Text,
        random: Text,
        public_key: Text,
        private_key: Text,
        pair: &'static str,
        spec: &'static str,
        usage: &'static str,
        algorithm: &'static str,
        source_key_id: Uuid,
        source_key_version_id: Uuid,
        key_id: Uuid,
        key_version_id: Uuid,
    }
}

/// Whether a signature or a MAC is right.
#[derive(Serialize)]
pub(crate) struct Validity {
    pub(crate) valid: bool,
    pub(crate) key_id: Uuid,
    pub(crate) key_version_id: Uuid,
}

#[derive(Serialize)]
pub(crate) struct Blob {
    pub(crate) key_id: Uuid,
    pub(crate) key_version_id: Uuid,
    pub(crate) spec: &'static str,
    pub(crate) suite: &'static str,
    pub(crate) plaintext_len: u32,
}

impl From<StatusReply> for Status {
    fn from(status: StatusReply) -> Self {
        let count = |c: &claviger_protocol::body::KeyCount| KeyCount {
            state: c.state.name(),
            spec: c.spec.name(),
            count: c.count,
        };
        Self {
            version: status.version,
            state: status.state.name(),
            reason: status.reason,
            domain_id: status.domain_id,
            root_generation: status.root_generation,
            uptime_ms: status.uptime_ms,
            pool: status.pool.into_iter().map(Member::from).collect(),
            keys: status.keys.iter().map(count).collect(),
            recovery_recipients: status.recovery_recipients,
            warnings: status.warnings,
        }
    }
}

impl From<MemberStatus> for Member {
    fn from(member: MemberStatus) -> Self {
        let spec = |s: SpecStatus| Ability { spec: s.spec.name(), available: s.available, reason: s.reason };
        Self {
            name: member.name,
            profile: member.profile,
            state: member.state.name(),
            reason: member.reason,
            epoch: member.epoch,
            hardware: member.hardware,
            since: time(member.since),
            specs: member.specs.into_iter().map(spec).collect(),
        }
    }
}

impl From<CreateKeyReply> for Created {
    fn from(reply: CreateKeyReply) -> Self {
        Self { key_id: reply.key_id, key_version_id: reply.key_version_id }
    }
}

impl From<DescribeKeyReply> for Described {
    fn from(key: DescribeKeyReply) -> Self {
        Self {
            key_id: key.key_id,
            spec: key.spec.name(),
            usage: key.usage.name(),
            state: key.state.name(),
            protection: key.protection.name(),
            origin: key.origin.name(),
            project: key.project.to_string(),
            description: key.description.to_string(),
            aliases: key.aliases,
            tags: tags_of(&key.tags),
            created_at: time(key.created_at),
            created_by: key.created_by,
            primary_version_id: key.primary_version_id,
            version_count: key.version_count,
            rotation: key.rotation.map(Rotation::from),
            deletion_date: key.deletion_date.map(time),
            erased_at: key.erased_at.map(time),
            deletion_protection: key.deletion_protection,
            material_expires_at: key.material_expires_at.map(time),
            sm2_user: key.sm2_user_id.as_ref().map(|id| String::from_utf8_lossy(&id.0).into_owned()),
            sm2_user_id: key.sm2_user_id.map(|id| Text::base64(&id.0)),
            hardware: key.assurance.hardware,
            members: key.assurance.members,
        }
    }
}

impl From<claviger_protocol::body::Rotation> for Rotation {
    fn from(rotation: claviger_protocol::body::Rotation) -> Self {
        Self { days: rotation.days, last: rotation.last.map(time), next: rotation.next.map(time) }
    }
}

impl From<ListKeysReply> for KeyList {
    fn from(reply: ListKeysReply) -> Self {
        Self {
            keys: reply.keys.into_iter().map(ListedKey::from).collect(),
            next_page: next_page(&reply.next_page),
        }
    }
}

impl From<KeySummary> for ListedKey {
    fn from(key: KeySummary) -> Self {
        Self {
            key_id: key.key_id,
            spec: key.spec.name(),
            usage: key.usage.name(),
            state: key.state.name(),
            protection: key.protection.name(),
            origin: key.origin.name(),
            project: key.project.to_string(),
            description: key.description.to_string(),
            aliases: key.aliases,
            created_at: time(key.created_at),
        }
    }
}

impl From<KeyStatesReply> for KeyStates {
    fn from(reply: KeyStatesReply) -> Self {
        Self { results: reply.results.into_iter().map(KeyOutcome::from).collect() }
    }
}

impl From<KeyStateResult> for KeyOutcome {
    fn from(result: KeyStateResult) -> Self {
        if result.status == Code::Ok.number() {
            let state = result.state.map(claviger_protocol::KeyState::name);
            return Self::Done { key_id: result.key_id, state, changed: result.changed };
        }
        Self::Failed { key: result.key.to_string(), error: ItemError::new(result.status, result.message) }
    }
}

impl From<DescribeBlobReply> for Blob {
    fn from(blob: DescribeBlobReply) -> Self {
        Self {
            key_id: blob.key_id,
            key_version_id: blob.key_version_id,
            spec: blob.spec.name(),
            suite: blob.suite.name(),
            plaintext_len: blob.plaintext_len,
        }
    }
}
