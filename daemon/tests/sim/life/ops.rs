//! What is done to keys in a random life: each operation as the model knows it, the request
//! that it is on the wire, and what of the reply the model foretells.

use claviger_protocol::body::{
    CancelKeyDeletionRequest, CreateAliasRequest, CreateDefaultKeyRequest, CreateKeyRequest,
    CreateKeyVersionRequest, CreateProjectRequest, DecryptRequest, DeleteAliasRequest, DeleteProjectRequest,
    DescribeKeyRequest, DisableKeyRequest, EnableKeyRequest, EncryptRequest, KeyStatesReply,
    MoveResourceRequest, ProtectKeyRequest, RotateKeyRequest, ScheduleKeyDeletionRequest, TagResourceRequest,
    UnprotectKeyRequest, UntagResourceRequest, UpdateAliasRequest, UpdateKeyDescriptionRequest,
    UpdateRotationPolicyRequest,
};
use claviger_protocol::names::{Alias, Description, KeyRef, ProjectName, ServiceName, Tag, TagKey, Tags};
use claviger_protocol::{
    Code, EncryptionContext, KeyOrigin, KeySpec, KeyState, Operation, Protection, SecretBytes,
};
use uuid::Uuid;

use crate::decrypt;
use crate::sim::Sim;

/// The service that has a default key.
pub(super) const SERVICE: &str = "svc";

/// The alias of its default key.
pub(super) fn default_alias() -> String {
    format!("alias/{SERVICE}/default")
}

/// A new key as a caller wants it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) token: [u8; 16],
    pub(super) spec: KeySpec,
    pub(super) protection: Protection,
    pub(super) origin: KeyOrigin,
    pub(super) project: String,
    pub(super) alias: Option<String>,
    pub(super) rotation_days: Option<u16>,
    /// A description that no other key starts with.
    pub(super) mark: String,
}

/// What is done to each of several keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Enable,
    Disable,
    Cancel { enable: bool },
    Protect(bool),
    Tag(&'static str, String),
    Untag(&'static str),
    Move(String),
}

/// A ciphertext that was answered.
#[derive(Clone, PartialEq)]
pub(super) struct Blob {
    pub(super) key: Uuid,
    pub(super) version: Uuid,
    pub(super) bytes: Vec<u8>,
    pub(super) plaintext: Vec<u8>,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "of {} of {}", self.version, self.key)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    Create(Plan),
    CreateDefault,
    /// The service encrypts under its default key, which is made if it isn't there.
    FirstUse(Vec<u8>),
    Each(What, Vec<KeyRef>),
    Schedule {
        key: KeyRef,
        days: Option<u16>,
        force: bool,
    },
    Describe(KeyRef),
    DescribeAs(KeyRef, String),
    Rotate {
        token: [u8; 16],
        key: KeyRef,
    },
    CreateVersion {
        token: [u8; 16],
        key: KeyRef,
    },
    SetRotation(KeyRef, Option<u16>),
    CreateAlias(String, KeyRef),
    UpdateAlias(String, KeyRef),
    DeleteAlias(String),
    CreateProject(String),
    DeleteProject(String),
    Encrypt(KeyRef, Vec<u8>),
    Decrypt(Blob),
    /// The scheduler does what is due of a key.
    Due(Uuid),
}

/// What is told of a key by describing it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) id: Uuid,
    pub(super) state: KeyState,
    pub(super) project: String,
    pub(super) description: String,
    pub(super) aliases: Vec<String>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) primary: Option<Uuid>,
    pub(super) versions: Option<u32>,
    pub(super) rotation: Option<(u16, Option<i64>, Option<i64>)>,
    pub(super) deletion_date: Option<i64>,
    pub(super) protected: bool,
}

/// What a successful reply says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Made(Uuid, Option<Uuid>),
    Version(Uuid, Uuid),
    Each(Vec<Result<(Uuid, KeyState, bool), Code>>),
    Planned(Uuid, i64),
    Changed(Uuid, bool),
    Policy(Uuid, Option<(u16, Option<i64>, Option<i64>)>, bool),
    Sealed(Uuid, Uuid),
    Opened(Uuid, Uuid, Vec<u8>),
    Shown(Box<Shown>),
    Done,
}

pub(super) type Answer = Result<Said, Code>;

fn alias(text: &str) -> Alias {
    Alias::new(text).unwrap()
}

fn project(text: &str) -> ProjectName {
    ProjectName::new(text).unwrap()
}

fn description(text: &str) -> Description {
    Description::new(text).unwrap()
}

fn tags(key: &str, value: &str) -> Tags {
    Tags::try_from(vec![Tag::new(key, value).unwrap()]).unwrap()
}

impl Plan {
    pub(super) fn request(&self) -> CreateKeyRequest {
        CreateKeyRequest {
            client_token: self.token,
            spec: self.spec,
            usage: None,
            protection: self.protection,
            origin: self.origin,
            project: project(&self.project),
            alias: self.alias.as_deref().map(alias),
            description: description(&self.mark),
            tags: Tags::default(),
            rotation_days: self.rotation_days,
            sm2_user_id: None,
        }
    }
}

impl Op {
    /// Starts the call; its number.
    pub(super) fn start(&self, sim: &mut Sim) -> u64 {
        match self.clone() {
            Self::Create(plan) => sim.start(plan.request()),
            Self::CreateDefault => {
                sim.start(CreateDefaultKeyRequest { service: ServiceName::new(SERVICE).unwrap() })
            }
            Self::FirstUse(plaintext) => sim.start_as_service(EncryptRequest {
                key: KeyRef::Alias(default_alias()),
                plaintext: SecretBytes::new(plaintext),
                context: EncryptionContext::default(),
            }),
            Self::Each(what, keys) => what.start(sim, keys),
            Self::Schedule { key, days, force } => {
                sim.start(ScheduleKeyDeletionRequest { keys: vec![key], days, force })
            }
            Self::Describe(key) => sim.start(DescribeKeyRequest { key }),
            Self::DescribeAs(key, text) => {
                sim.start(UpdateKeyDescriptionRequest { key, description: description(&text) })
            }
            Self::Rotate { token, key } => sim.start(RotateKeyRequest { client_token: token, key }),
            Self::CreateVersion { token, key } => {
                sim.start(CreateKeyVersionRequest { client_token: token, key })
            }
            Self::SetRotation(key, rotation_days) => {
                sim.start(UpdateRotationPolicyRequest { key, rotation_days })
            }
            Self::CreateAlias(name, key) => sim.start(CreateAliasRequest { alias: alias(&name), key }),
            Self::UpdateAlias(name, key) => sim.start(UpdateAliasRequest { alias: alias(&name), key }),
            Self::DeleteAlias(name) => sim.start(DeleteAliasRequest { alias: alias(&name) }),
            Self::CreateProject(name) => sim
                .start(CreateProjectRequest { project: project(&name), description: Description::default() }),
            Self::DeleteProject(name) => sim.start(DeleteProjectRequest { project: project(&name) }),
            Self::Encrypt(key, plaintext) => {
                let context = EncryptionContext::default();
                sim.start(EncryptRequest { key, plaintext: SecretBytes::new(plaintext), context })
            }
            Self::Decrypt(blob) => sim.start(decrypt(&blob.bytes)),
            Self::Due(_) => panic!("the scheduler isn't called"),
        }
    }

    /// What the call was answered, once it was; a new ciphertext beside it.
    pub(super) fn answer(&self, sim: &Sim, id: u64) -> (Answer, Option<Blob>) {
        let said = match self {
            Self::Create(_) => {
                sim.reply::<CreateKeyRequest>(id).map(|made| Said::Made(made.key_id, made.key_version_id))
            }
            Self::CreateDefault => sim
                .reply::<CreateDefaultKeyRequest>(id)
                .map(|made| Said::Made(made.key_id, made.key_version_id)),
            Self::Encrypt(_, plaintext) | Self::FirstUse(plaintext) => return sealed(sim, id, plaintext),
            Self::Each(what, _) => what.answer(sim, id),
            Self::Schedule { .. } => return (scheduled(sim, id), None),
            Self::Describe(_) => shown(sim, id),
            Self::DescribeAs(..) => sim
                .reply::<UpdateKeyDescriptionRequest>(id)
                .map(|reply| Said::Changed(reply.key_id, reply.changed)),
            Self::Rotate { .. } => sim
                .reply::<RotateKeyRequest>(id)
                .map(|reply| Said::Version(reply.key_id, reply.key_version_id)),
            Self::CreateVersion { .. } => sim
                .reply::<CreateKeyVersionRequest>(id)
                .map(|reply| Said::Version(reply.key_id, reply.key_version_id)),
            Self::SetRotation(..) => sim.reply::<UpdateRotationPolicyRequest>(id).map(|reply| {
                let policy = reply.rotation.map(|rotation| (rotation.days, rotation.last, rotation.next));
                Said::Policy(reply.key_id, policy, reply.changed)
            }),
            Self::CreateAlias(..) => {
                sim.reply::<CreateAliasRequest>(id).map(|reply| Said::Changed(reply.key_id, reply.changed))
            }
            Self::UpdateAlias(..) => {
                sim.reply::<UpdateAliasRequest>(id).map(|reply| Said::Changed(reply.key_id, reply.changed))
            }
            Self::DeleteAlias(_) => {
                sim.reply::<DeleteAliasRequest>(id).map(|reply| Said::Changed(reply.key_id, reply.changed))
            }
            Self::CreateProject(_) => sim.reply::<CreateProjectRequest>(id).map(|_| Said::Done),
            Self::DeleteProject(_) => sim.reply::<DeleteProjectRequest>(id).map(|_| Said::Done),
            Self::Decrypt(_) => sim.reply::<DecryptRequest>(id).map(|reply| {
                Said::Opened(reply.key_id, reply.key_version_id, reply.plaintext.expose().to_vec())
            }),
            Self::Due(_) => Ok(Said::Done),
        };
        (said, None)
    }
}

impl What {
    fn start(self, sim: &mut Sim, keys: Vec<KeyRef>) -> u64 {
        match self {
            Self::Enable => sim.start(EnableKeyRequest { keys }),
            Self::Disable => sim.start(DisableKeyRequest { keys }),
            Self::Cancel { enable } => sim.start(CancelKeyDeletionRequest { keys, enable }),
            Self::Protect(true) => sim.start(ProtectKeyRequest { keys }),
            Self::Protect(false) => sim.start(UnprotectKeyRequest { keys }),
            Self::Tag(key, value) => sim.start(TagResourceRequest { keys, tags: tags(key, &value) }),
            Self::Untag(key) => {
                sim.start(UntagResourceRequest { keys, tag_keys: vec![TagKey::new(key).unwrap()] })
            }
            Self::Move(name) => sim.start(MoveResourceRequest { keys, project: project(&name) }),
        }
    }

    fn answer(&self, sim: &Sim, id: u64) -> Answer {
        match self {
            Self::Enable => each::<EnableKeyRequest>(sim, id),
            Self::Disable => each::<DisableKeyRequest>(sim, id),
            Self::Cancel { .. } => each::<CancelKeyDeletionRequest>(sim, id),
            Self::Protect(true) => each::<ProtectKeyRequest>(sim, id),
            Self::Protect(false) => each::<UnprotectKeyRequest>(sim, id),
            Self::Tag(..) => each::<TagResourceRequest>(sim, id),
            Self::Untag(_) => each::<UntagResourceRequest>(sim, id),
            Self::Move(_) => each::<MoveResourceRequest>(sim, id),
        }
    }
}

fn each<O: Operation<Reply = KeyStatesReply>>(sim: &Sim, id: u64) -> Answer {
    let result =
        |result: claviger_protocol::body::KeyStateResult| match Code::from_number(result.status).unwrap() {
            Code::Ok => Ok((result.key_id.unwrap(), result.state.unwrap(), result.changed)),
            code => {
                assert!(!result.message.is_empty() && !result.changed && result.key_id.is_none());
                Err(code)
            }
        };
    Ok(Said::Each(sim.reply::<O>(id)?.results.into_iter().map(result).collect()))
}

fn scheduled(sim: &Sim, id: u64) -> Answer {
    let reply = sim.reply::<ScheduleKeyDeletionRequest>(id)?;
    let [result] = reply.results.as_slice() else { panic!("one key, one result") };
    let code = Code::from_number(result.status).unwrap();
    assert_eq!(code == Code::KeyInUse, !result.associations.is_empty(), "who uses it is told");
    if code == Code::Ok {
        Ok(Said::Planned(result.key_id.unwrap(), result.deletion_date.unwrap()))
    } else {
        Err(code)
    }
}

fn sealed(sim: &Sim, id: u64, plaintext: &[u8]) -> (Answer, Option<Blob>) {
    match sim.reply::<EncryptRequest>(id) {
        Ok(reply) => {
            let (key, version) = (reply.key_id, reply.key_version_id);
            let blob = Blob { key, version, bytes: reply.ciphertext_blob.0, plaintext: plaintext.to_vec() };
            (Ok(Said::Sealed(key, version)), Some(blob))
        }
        Err(code) => (Err(code), None),
    }
}

fn shown(sim: &Sim, id: u64) -> Answer {
    let reply = sim.reply::<DescribeKeyRequest>(id)?;
    let tag = |tag: &Tag| (tag.key().to_owned(), tag.value().to_owned());
    Ok(Said::Shown(Box::new(Shown {
        id: reply.key_id,
        state: reply.state,
        project: reply.project.to_string(),
        description: reply.description.to_string(),
        aliases: reply.aliases,
        tags: reply.tags.as_slice().iter().map(tag).collect(),
        primary: reply.primary_version_id,
        // Of a deleted key the number of versions says only how far its purge has come.
        versions: (reply.state != KeyState::Deleted).then_some(reply.version_count),
        rotation: reply.rotation.map(|rotation| (rotation.days, rotation.last, rotation.next)),
        deletion_date: reply.deletion_date,
        protected: reply.deletion_protection,
    })))
}
