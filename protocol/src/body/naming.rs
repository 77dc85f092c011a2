//! Bodies of the operations on aliases and projects.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
use crate::names::{Alias, Description, KeyRef, ProjectName};
use crate::secret::Bytes;

bodies! {
    /// Gives a key another name.
    CreateAliasRequest {
        /// The alias; not there yet.
        alias: Alias,
        /// The key.
        key: KeyRef,
    }

    /// Points an alias at another key.
    UpdateAliasRequest {
        /// The alias; there already.
        alias: Alias,
        /// The key that it shall point at.
        key: KeyRef,
    }

    /// Removes an alias.
    DeleteAliasRequest {
        /// The alias.
        alias: Alias,
    }

    /// An alias and where it points, or pointed.
    AliasReply {
        /// The alias.
        alias: Alias,
        /// The key.
        key_id: Uuid,
        /// Whether this call changed it.
        changed: bool,
    }

    /// All aliases, in their order.
    ListAliasRequest {
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::name_page_token")]
        page: Bytes,
    }

    /// The aliases of one key, in their order.
    ListAliasByUuidRequest {
        /// The key.
        key: KeyRef,
    }

    /// One page of aliases.
    ListAliasReply {
        /// The aliases; those of default keys too.
        aliases: Vec<AliasEntry>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// An alias in a list.
    AliasEntry {
        /// The alias.
        alias: String,
        /// The key.
        key_id: Uuid,
    }

    /// Makes a project.
    CreateProjectRequest {
        /// Its name; not there yet.
        project: ProjectName,
        /// What it is for, maybe empty.
        description: Description,
    }

    /// Removes a project that holds nothing.
    DeleteProjectRequest {
        /// Its name.
        project: ProjectName,
    }

    /// A project that was made or removed.
    ProjectReply {
        /// Its name.
        project: ProjectName,
    }

    /// All projects, in the order of their names.
    ListProjectsRequest {
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::name_page_token")]
        page: Bytes,
    }

    /// One page of projects.
    ListProjectsReply {
        /// The projects; `default` is always one of them.
        projects: Vec<ProjectSummary>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// A project in a list.
    ProjectSummary {
        /// Its name.
        project: ProjectName,
        /// What it is for.
        description: Description,
        /// When it was made; none for `default`.
        created_at: Option<i64>,
    }

    /// Moves keys into a project.
    MoveResourceRequest {
        /// 1 to 100 of them.
        #[serde(deserialize_with = "rules::keys")]
        keys: Vec<KeyRef>,
        /// Where to.
        project: ProjectName,
    }
}
