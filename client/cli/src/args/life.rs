//! Arguments of `key …`: what becomes of a key after it was made.

use clap::{Args, Subcommand};
use claviger_protocol::{Description, KeyRef, Tag, TagKey};

use super::keys::{Keys, tag};

const SCHEDULE: &str = "\
Nothing can bring a key back once it is deleted, nor what is encrypted under it. Until then
cancel-deletion takes it back.

Examples:
  claviger key schedule-deletion alias/old
  claviger key schedule-deletion alias/old alias/older --days 7 --force --yes";
const CANCEL: &str = "\
A key without material is PendingImport then, also with --enable.

Examples:
  claviger key cancel-deletion alias/old
  claviger key cancel-deletion alias/old --enable";
const TAG: &str = "\
Example:
  claviger key tag alias/pay alias/web --tag team=web --tag env=prod";

/// What is done with keys that are there.
#[derive(Debug, Subcommand)]
pub(crate) enum LifeCommand {
    /// Have keys destroyed when a number of days is over; asks on a terminal
    #[command(after_help = SCHEDULE)]
    ScheduleDeletion(Schedule),
    /// Take planned deletions back; the keys are Disabled then
    #[command(after_help = CANCEL)]
    CancelDeletion(Cancel),
    /// Refuse the deletion of keys from now on
    #[command(after_help = "Example:\n  claviger key protect alias/pay")]
    Protect(Keys),
    /// Allow the deletion of keys from now on
    #[command(after_help = "Example:\n  claviger key unprotect alias/pay")]
    Unprotect(Keys),
    /// Give a key another description
    #[command(after_help = "Example:\n  claviger key set-description alias/pay 'card numbers'")]
    SetDescription {
        /// Key id or alias
        key: KeyRef,
        /// What it is for, at most 255 characters; '' for nothing
        #[arg(value_name = "TEXT")]
        description: Description,
    },
    /// Set tags on keys; a tag that is there gets the new value
    #[command(after_help = TAG)]
    Tag(SetTags),
    /// Remove tags from keys
    #[command(after_help = "Example:\n  claviger key untag alias/pay alias/web --tag env")]
    Untag(RemoveTags),
    /// Show a key's tags
    #[command(after_help = "Example:\n  claviger key tags alias/pay --json")]
    Tags {
        /// Key id or alias
        key: KeyRef,
    },
    /// Show which access points used a key, and when last
    #[command(after_help = "Example:\n  claviger key associations alias/pay")]
    Associations {
        /// Key id or alias
        key: KeyRef,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Schedule {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// In so many days, 7 to 1096 unless the daemon is configured otherwise; its default is 30
    #[arg(long, value_name = "N")]
    pub(crate) days: Option<u16>,
    /// Although access points used them lately
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) sure: Sure,
}

/// Whether there is anybody to ask.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Sure {
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Enable them at once
    #[arg(long)]
    pub(crate) enable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetTags {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// A tag; repeatable
    #[arg(long = "tag", value_name = "K=V", required = true, value_parser = tag)]
    pub(crate) tags: Vec<Tag>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveTags {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// The key of a tag, without its value; repeatable
    #[arg(long = "tag", value_name = "K", required = true)]
    pub(crate) tags: Vec<TagKey>,
}
