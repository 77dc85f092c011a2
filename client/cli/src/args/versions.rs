//! Arguments of `key …`: versions and rotation.

use clap::{Args, Subcommand};
use claviger_protocol::KeyRef;
use uuid::Uuid;

use super::keys::{Paging, Token};

const POLICY: &str = "\
Examples:
  claviger key rotation-policy alias/pay --days 90
  claviger key rotation-policy alias/pay --off";
const VERSION: &str = "\
Example:
  claviger key version alias/release 0f8fad5b-d9cb-469f-a165-70867728950e";

/// What is done with a key's versions.
#[derive(Debug, Subcommand)]
pub(crate) enum VersionCommand {
    /// Make a new primary version now; older ones go on decrypting
    #[command(after_help = "Example:\n  claviger key rotate alias/pay")]
    Rotate(NewVersion),
    /// Have a key rotated regularly, or no more
    #[command(after_help = POLICY)]
    RotationPolicy(Policy),
    /// Make another version of a key pair; calls then name the version they mean
    #[command(after_help = "Example:\n  claviger key create-version alias/release")]
    CreateVersion(NewVersion),
    /// List a key's versions, newest first, a page at a time
    #[command(after_help = "Example:\n  claviger key versions alias/pay")]
    Versions {
        /// Key id or alias
        key: KeyRef,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show everything about a version but its material
    #[command(after_help = VERSION)]
    Version {
        /// Key id or alias
        key: KeyRef,
        /// The version's id
        version: Uuid,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewVersion {
    /// Key id or alias
    pub(crate) key: KeyRef,
    #[command(flatten)]
    pub(crate) token: Token,
}

#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// Key id or alias
    pub(crate) key: KeyRef,
    /// Every so many days, 7 to 730
    #[arg(long, value_name = "N", required_unless_present = "off", conflicts_with = "off")]
    pub(crate) days: Option<u16>,
    /// No regular rotation
    #[arg(long)]
    pub(crate) off: bool,
}
