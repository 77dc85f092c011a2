//! Arguments of `alias …`, `project …` and `default-key …`.

use clap::{Args, Subcommand};
use claviger_protocol::{Alias, Description, KeyRef, ProjectName, ServiceName};

use super::keys::{Keys, Paging};

pub(super) const ALIAS: &str = "\
Examples:
  claviger alias create alias/pay 0f8fad5b-d9cb-469f-a165-70867728950e
  claviger alias list";
pub(super) const PROJECT: &str = "\
Examples:
  claviger project create team/web
  claviger project move alias/pay --to team/web";
pub(super) const DEFAULT_KEY: &str = "Example:\n  claviger default-key create s3";
const UPDATE: &str = "\
Example:
  claviger alias update alias/pay 0f8fad5b-d9cb-469f-a165-70867728950e";
const LIST: &str = "\
Examples:
  claviger alias list
  claviger alias list --key alias/pay --json";

#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// Give a key another name
    #[command(after_help = "Example:\n  claviger alias create alias/cards alias/pay")]
    Create(Point),
    /// Point an alias at another key, in one step
    #[command(after_help = UPDATE)]
    Update(Point),
    /// Remove an alias; its key stays
    #[command(after_help = "Example:\n  claviger alias delete alias/cards")]
    Delete {
        /// The alias
        alias: Alias,
    },
    /// List aliases in their order, a page at a time
    #[command(after_help = LIST)]
    List(AliasList),
}

#[derive(Debug, Args)]
pub(crate) struct Point {
    /// The alias, alias/…
    pub(crate) alias: Alias,
    /// The key it shall point at: id or alias
    pub(crate) key: KeyRef,
}

#[derive(Debug, Args)]
pub(crate) struct AliasList {
    /// Only those of this key: id or alias
    #[arg(long, conflicts_with_all = ["limit", "page"])]
    pub(crate) key: Option<KeyRef>,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project (admin socket)
    #[command(after_help = "Example:\n  claviger project create team/web --description 'the web team'")]
    Create {
        /// Its name
        #[arg(value_name = "PROJECT")]
        project: ProjectName,
        /// What it is for, at most 255 characters
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        description: Description,
    },
    /// List projects in the order of their names, a page at a time
    #[command(after_help = "Example:\n  claviger project list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Remove a project that holds nothing (admin socket)
    #[command(after_help = "Example:\n  claviger project delete team/web")]
    Delete {
        /// Its name
        #[arg(value_name = "PROJECT")]
        project: ProjectName,
    },
    /// Move keys into a project
    #[command(after_help = "Example:\n  claviger project move alias/pay alias/web --to team/web")]
    Move {
        #[command(flatten)]
        keys: Keys,
        /// Where to
        #[arg(long, value_name = "PROJECT")]
        to: ProjectName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DefaultKeyCommand {
    /// Make the default key of a local service, alias/SERVICE/default, or find it (admin socket)
    #[command(after_help = "Example:\n  claviger default-key create s3")]
    Create {
        /// The service
        service: ServiceName,
    },
}
