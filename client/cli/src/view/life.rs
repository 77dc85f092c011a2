//! Objects of a key's life: deletion, tags, versions, import, aliases, projects.

use std::collections::BTreeMap;

use claviger_protocol::Code;
use claviger_protocol::body::{
    AliasEntry, AliasKey, AliasReply, Association, DescribeKeyVersionReply, DetectAssociationReply,
    ImportKeyMaterialReply, KeyChangeReply, KeyDeletionResult, KeyDeletionsReply, KeyVersionSummary,
    ListAliasKeysReply, ListAliasReply, ListKeyVersionsReply, ListProjectsReply, ListTagsReply,
    NewKeyVersionReply, ProjectSummary, UpdateRotationPolicyReply,
};
use serde::Serialize;
use uuid::Uuid;

use super::{ItemError, ListedKey, Rotation, next_page, tags_of};
use crate::output::{Text, time};

#[derive(Serialize)]
pub(crate) struct Deletions {
    pub(crate) results: Vec<Deletion>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Deletion {
    Planned { key_id: Option<Uuid>, deletion_date: Option<String> },
    Refused { key: String, error: ItemError, associations: Vec<Used> },
}

#[derive(Serialize)]
pub(crate) struct Used {
    pub(crate) access_point: String,
    pub(crate) last_used_at: String,
}

#[derive(Serialize)]
pub(crate) struct Associations {
    pub(crate) key_id: Uuid,
    pub(crate) associations: Vec<Used>,
}

#[derive(Serialize)]
pub(crate) struct Changed {
    pub(crate) key_id: Uuid,
    pub(crate) changed: bool,
}

#[derive(Serialize)]
pub(crate) struct TagList {
    pub(crate) key_id: Uuid,
    pub(crate) tags: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(crate) struct NewVersion {
    pub(crate) key_id: Uuid,
    pub(crate) key_version_id: Uuid,
}

#[derive(Serialize)]
pub(crate) struct Policy {
    pub(crate) key_id: Uuid,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) changed: bool,
}

#[derive(Serialize)]
pub(crate) struct VersionList {
    pub(crate) key_id: Uuid,
    pub(crate) versions: Vec<ListedVersion>,
    pub(crate) next_page: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct ListedVersion {
    pub(crate) key_version_id: Uuid,
    pub(crate) number: u32,
    pub(crate) created_at: String,
    pub(crate) primary: bool,
    pub(crate) destroyed_at: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Version {
    pub(crate) key_id: Uuid,
    #[serde(flatten)]
    pub(crate) listed: ListedVersion,
    /// PEM.
    pub(crate) public_key: Option<Text>,
    pub(crate) hardware: bool,
    pub(crate) made_by: String,
    pub(crate) counted_uses: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct ImportParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Text>,
    pub(crate) expires_at: String,
    pub(crate) algorithm: &'static str,
    pub(crate) key_id: Uuid,
}

#[derive(Serialize)]
pub(crate) struct Imported {
    pub(crate) key_id: Uuid,
    pub(crate) key_version_id: Uuid,
    pub(crate) state: &'static str,
    pub(crate) material_expires_at: Option<String>,
    pub(crate) through_memory: bool,
}

#[derive(Serialize)]
pub(crate) struct KeyState {
    pub(crate) key_id: Uuid,
    pub(crate) state: &'static str,
}

#[derive(Serialize)]
pub(crate) struct Pointed {
    pub(crate) alias: String,
    pub(crate) key_id: Uuid,
    pub(crate) changed: bool,
}

#[derive(Serialize)]
pub(crate) struct Aliases {
    pub(crate) aliases: Vec<Alias>,
    pub(crate) next_page: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Alias {
    pub(crate) alias: String,
    pub(crate) key_id: Uuid,
}

#[derive(Serialize)]
pub(crate) struct AliasKeys {
    pub(crate) keys: Vec<Named>,
    pub(crate) next_page: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Named {
    pub(crate) alias: String,
    #[serde(flatten)]
    pub(crate) key: ListedKey,
}

#[derive(Serialize)]
pub(crate) struct ProjectName {
    pub(crate) project: String,
}

#[derive(Serialize)]
pub(crate) struct Projects {
    pub(crate) projects: Vec<ListedProject>,
    pub(crate) next_page: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct ListedProject {
    pub(crate) project: String,
    pub(crate) description: String,
    pub(crate) created_at: Option<String>,
}

impl From<KeyDeletionsReply> for Deletions {
    fn from(reply: KeyDeletionsReply) -> Self {
        Self { results: reply.results.into_iter().map(Deletion::from).collect() }
    }
}

impl From<KeyDeletionResult> for Deletion {
    fn from(result: KeyDeletionResult) -> Self {
        if result.status == Code::Ok.number() {
            return Self::Planned { key_id: result.key_id, deletion_date: result.deletion_date.map(time) };
        }
        Self::Refused {
            key: result.key.to_string(),
            error: ItemError::new(result.status, result.message),
            associations: result.associations.into_iter().map(Used::from).collect(),
        }
    }
}

impl From<Association> for Used {
    fn from(used: Association) -> Self {
        Self { access_point: used.access_point, last_used_at: time(used.last_used_at) }
    }
}

impl From<DetectAssociationReply> for Associations {
    fn from(reply: DetectAssociationReply) -> Self {
        let associations = reply.associations.into_iter().map(Used::from).collect();
        Self { key_id: reply.key_id, associations }
    }
}

impl From<KeyChangeReply> for Changed {
    fn from(reply: KeyChangeReply) -> Self {
        Self { key_id: reply.key_id, changed: reply.changed }
    }
}

impl From<ListTagsReply> for TagList {
    fn from(reply: ListTagsReply) -> Self {
        Self { key_id: reply.key_id, tags: tags_of(&reply.tags) }
    }
}

impl From<NewKeyVersionReply> for NewVersion {
    fn from(reply: NewKeyVersionReply) -> Self {
        Self { key_id: reply.key_id, key_version_id: reply.key_version_id }
    }
}

impl From<UpdateRotationPolicyReply> for Policy {
    fn from(reply: UpdateRotationPolicyReply) -> Self {
        let rotation = reply.rotation.map(Rotation::from);
        Self { key_id: reply.key_id, rotation, changed: reply.changed }
    }
}

impl From<ListKeyVersionsReply> for VersionList {
    fn from(reply: ListKeyVersionsReply) -> Self {
        let versions = reply.versions.into_iter().map(ListedVersion::from).collect();
        Self { key_id: reply.key_id, versions, next_page: next_page(&reply.next_page) }
    }
}

impl From<KeyVersionSummary> for ListedVersion {
    fn from(version: KeyVersionSummary) -> Self {
        Self {
            key_version_id: version.key_version_id,
            number: version.number,
            created_at: time(version.created_at),
            primary: version.primary,
            destroyed_at: version.destroyed_at.map(time),
        }
    }
}

impl Version {
    /// With its public key as text.
    pub(crate) fn new(reply: DescribeKeyVersionReply, public_key: Option<Text>) -> Self {
        Self {
            key_id: reply.key_id,
            listed: reply.version.into(),
            public_key,
            hardware: reply.hardware,
            made_by: reply.made_by,
            counted_uses: reply.counted_uses,
        }
    }
}

impl From<ImportKeyMaterialReply> for Imported {
    fn from(reply: ImportKeyMaterialReply) -> Self {
        Self {
            key_id: reply.key_id,
            key_version_id: reply.key_version_id,
            state: reply.state.name(),
            material_expires_at: reply.material_expires_at.map(time),
            through_memory: reply.through_memory,
        }
    }
}

impl From<AliasReply> for Pointed {
    fn from(reply: AliasReply) -> Self {
        Self { alias: reply.alias.to_string(), key_id: reply.key_id, changed: reply.changed }
    }
}

impl From<ListAliasReply> for Aliases {
    fn from(reply: ListAliasReply) -> Self {
        let alias = |entry: AliasEntry| Alias { alias: entry.alias, key_id: entry.key_id };
        Self {
            aliases: reply.aliases.into_iter().map(alias).collect(),
            next_page: next_page(&reply.next_page),
        }
    }
}

impl From<ListAliasKeysReply> for AliasKeys {
    fn from(reply: ListAliasKeysReply) -> Self {
        let named = |found: AliasKey| Named { alias: found.alias, key: found.key.into() };
        Self { keys: reply.keys.into_iter().map(named).collect(), next_page: next_page(&reply.next_page) }
    }
}

impl From<ListProjectsReply> for Projects {
    fn from(reply: ListProjectsReply) -> Self {
        let project = |summary: ProjectSummary| ListedProject {
            project: summary.project.to_string(),
            description: summary.description.to_string(),
            created_at: summary.created_at.map(time),
        };
        Self {
            projects: reply.projects.into_iter().map(project).collect(),
            next_page: next_page(&reply.next_page),
        }
    }
}
