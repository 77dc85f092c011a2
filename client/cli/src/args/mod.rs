//! The command line as types; what they hold is valid in itself.

mod data_keys;
mod imports;
mod keys;
mod life;
mod naming;
mod pairs;
mod versions;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use claviger_protocol::limits::MAX_RANDOM_LEN;
use claviger_protocol::{EncryptionContext, KeyRef};

pub(crate) use self::data_keys::{DataKeyCommand, Export, Generate};
pub(crate) use self::imports::{Import, ImportCommand, ImportParams};
pub(crate) use self::keys::{Create, KeyCommand, Keys, List, Paging, PublicKey};
pub(crate) use self::life::{LifeCommand, RemoveTags, Schedule, SetTags, Sure};
pub(crate) use self::naming::{AliasCommand, AliasList, DefaultKeyCommand, ProjectCommand};
pub(crate) use self::pairs::{
    Asymmetric, AsymmetricCommand, Digest, Encoding, KeyFormat, KeyOutput, Mac, Pair, Sign, Signing,
    Sm2Format, Verify, VerifyMac,
};
pub(crate) use self::versions::{Policy, VersionCommand};
use crate::bench::{self, Bench};
use crate::color::When;
use crate::failure::Failure;

const ABOUT_EXIT: &str = "\
Exit codes: 0 done; 1 refused; 2 bad usage; 3 the daemon can't be reached;
130 interrupted; 141 nobody reads the output.
Errors are one line on stderr, or with --json an object {\"error\":{\"code\",\"message\"}} on stdout.

Examples:
  export CLAVIGER_SOCKET=/run/claviger/admin.sock
  claviger status
  claviger key create --alias alias/pay
  claviger encrypt alias/pay --in card.txt --out card.blob
  claviger decrypt --in card.blob";

/// Manage keys and use them, through the local key-management daemon.
#[derive(Debug, Parser)]
#[command(name = "claviger", version, after_help = ABOUT_EXIT, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The daemon's socket; there is no default
    #[arg(long, global = true, env = "CLAVIGER_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Access key to prove (of a later version)
    #[arg(long, global = true, env = "CLAVIGER_ACCESS_KEY", hide_env_values = true, value_name = "ID")]
    pub(crate) access_key: Option<String>,
    /// File with the access key's secret (of a later version)
    #[arg(
        long,
        global = true,
        env = "CLAVIGER_SECRET_KEY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) secret_key_file: Option<PathBuf>,
    /// Print one JSON object; bytes in it are base64
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours; NO_COLOR has its effect on auto
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: When,
    /// How long the command may wait for the daemon, such as 500ms or 1m; 5s if not given, 30s
    /// where keys and key pairs are made
    #[arg(long, global = true, value_parser = timeout, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Is the daemon there?
    #[command(after_help = "Example:\n  claviger ping --timeout 500ms")]
    Ping,
    /// Show how the daemon, its HSMs and its keys are (admin socket)
    #[command(after_help = "Example:\n  claviger status --json")]
    Status,
    /// Make keys, and see to them from there to their end
    #[command(subcommand, after_help = KEY)]
    Key(KeyCommand),
    /// Give keys names, and take them away
    #[command(subcommand, after_help = naming::ALIAS)]
    Alias(AliasCommand),
    /// Group keys in projects
    #[command(subcommand, after_help = naming::PROJECT)]
    Project(ProjectCommand),
    /// Make the default keys of local services
    #[command(subcommand, after_help = naming::DEFAULT_KEY)]
    DefaultKey(DefaultKeyCommand),
    /// Encrypt a few kilobytes under a key
    #[command(after_help = ENCRYPT)]
    Encrypt(Encrypt),
    /// Decrypt a ciphertext blob
    #[command(after_help = DECRYPT)]
    Decrypt(Decrypt),
    /// Encrypt a blob's content anew under another key; the plaintext stays in the daemon
    #[command(after_help = RE_ENCRYPT)]
    ReEncrypt(ReEncrypt),
    /// Show which key and version a blob names; nothing is decrypted or verified
    #[command(after_help = "Example:\n  claviger describe-blob --in card.blob")]
    DescribeBlob(Input),
    /// Sign a message, or its digest, with a key pair
    #[command(after_help = pairs::SIGN)]
    Sign(Sign),
    /// Check a signature
    #[command(after_help = pairs::VERIFY)]
    Verify(Verify),
    /// Encrypt short messages to key pairs, and decrypt them
    #[command(subcommand, after_help = pairs::ASYMMETRIC)]
    Asymmetric(AsymmetricCommand),
    /// Make a message authentication code
    #[command(after_help = pairs::MAC)]
    Mac(Mac),
    /// Check a message authentication code
    #[command(after_help = pairs::VERIFY_MAC)]
    VerifyMac(VerifyMac),
    /// Hash a message: SM3 or SHA-2
    #[command(after_help = pairs::DIGEST)]
    Digest(Digest),
    /// Make data keys, for encrypting more than a few kilobytes yourself
    #[command(subcommand, after_help = DATA_KEY)]
    DataKey(DataKeyCommand),
    /// Back the whole store up, and check backups (admin socket)
    #[command(subcommand, after_help = BACKUP)]
    Backup(BackupCommand),
    /// Restore a backup onto a host that has no domain: runs `clavigerd restore`
    #[command(after_help = RESTORE)]
    Restore(Restore),
    /// Get random bytes from the HSM
    #[command(after_help = "Example:\n  claviger random 32 | xxd -p -c 64")]
    Random(Random),
    /// Measure how fast the daemon is, beside what this machine can do at best
    #[command(after_help = bench::EXAMPLES)]
    Bench(Box<Bench>),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages of every command into a directory
    #[command(after_help = "Example:\n  claviger man ./man && man -l ./man/claviger.1")]
    Man {
        /// An existing directory; pages that are there are replaced
        dir: PathBuf,
    },
}

const KEY: &str = "\
Examples:
  claviger key create --alias alias/pay
  claviger key public-key alias/release";
const DATA_KEY: &str = "\
Examples:
  claviger data-key generate alias/pay --bytes 64 --json
  claviger data-key export --public-key theirs.pem --in dek.blob --out dek.for-them";
const COMPLETIONS: &str = "\
Examples:
  claviger completions bash > ~/.local/share/bash-completion/completions/claviger
  claviger completions zsh > ~/.zfunc/_claviger
  claviger completions fish > ~/.config/fish/completions/claviger.fish";
const ENCRYPT: &str = "\
Examples:
  claviger encrypt alias/pay --in card.txt --out card.blob
  echo secret | claviger encrypt alias/pay --context user=7 --json";
const DECRYPT: &str = "\
The blob names its key; --key makes sure that it is the one you expect.

Examples:
  claviger decrypt --in card.blob
  claviger decrypt --key alias/pay --context user=7 --in card.blob --out card.txt";
const RE_ENCRYPT: &str = "\
Example:
  claviger re-encrypt --to alias/new --source-context user=7 --context user=8 --in a.blob --out b.blob";

/// What is authenticated with a ciphertext.
#[derive(Debug, Args)]
pub(crate) struct Context {
    /// Authenticated with the ciphertext and needed to decrypt it; repeatable
    #[arg(long = "context", value_name = "K=V", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// Where the bytes to work on come from.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// Read from here instead of standard input
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

/// Where the resulting bytes go.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Write to this file (mode 0600, whole or not at all) instead of standard output
    #[arg(long = "out", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Encrypt {
    /// Key id or alias
    pub(crate) key: KeyRef,
    #[command(flatten)]
    pub(crate) context: Context,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Decrypt {
    /// Refuse a blob of any other key
    #[arg(long)]
    pub(crate) key: Option<KeyRef>,
    #[command(flatten)]
    pub(crate) context: Context,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ReEncrypt {
    /// Key to encrypt under: id or alias
    #[arg(long, value_name = "KEY")]
    pub(crate) to: KeyRef,
    /// Refuse a blob of any other key
    #[arg(long, value_name = "KEY")]
    pub(crate) source_key: Option<KeyRef>,
    /// The context the blob was made with; repeatable
    #[arg(long = "source-context", value_name = "K=V", value_parser = pair)]
    source_pairs: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) context: Context,
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
}

const BACKUP: &str = "\
The file is encrypted; only this domain can read it. It is whole or not there. Keep it together
with a recovery recipient's private key, elsewhere.

Examples:
  claviger backup create /backup/monday.backup
  claviger backup create --force /backup/last.backup && claviger backup verify /backup/last.backup";
const RESTORE: &str = "\
No daemon may run on the state directory, and nothing is overwritten: a store with records, or
another domain, is refused.

Examples:
  claviger restore monday.backup --config /etc/claviger/claviger.toml --private-key offline.key.pem
  claviger restore monday.backup --dev --state-dir ./state";

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write a backup of the whole store to FILE (mode 0600)
    #[command(after_help = BACKUP)]
    Create {
        /// The file to write
        file: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Read a whole backup back and check every byte and record of it
    #[command(after_help = "Example:\n  claviger backup verify /backup/monday.backup")]
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// List the backups that were made, and how many keys deleted since they still hold
    #[command(after_help = "Example:\n  claviger backup list --key alias/pay")]
    List {
        /// Only backups that hold this key
        #[arg(long, value_name = "KEY")]
        key: Option<KeyRef>,
    },
    /// Write the list of deleted keys to FILE, for `clavigerd restore --tombstones`
    #[command(after_help = TOMBSTONES)]
    Tombstones {
        /// The file to write
        file: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
}

const TOMBSTONES: &str = "\
A backup brings back keys that were deleted after it was made, unless the restore is told of them.
Write this list after deletions, and keep it where the backups are.

Example:
  claviger backup tombstones --force deleted.json
  clavigerd restore monday.backup --tombstones deleted.json --config /etc/claviger/claviger.toml";

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    pub(crate) file: PathBuf,
    /// The daemon's configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "dev", conflicts_with = "dev")]
    pub(crate) config: Option<PathBuf>,
    /// Restore for `clavigerd --dev`
    #[arg(long, requires = "state_dir")]
    pub(crate) dev: bool,
    /// State directory of `--dev`
    #[arg(long, value_name = "DIR", requires = "dev")]
    pub(crate) state_dir: Option<PathBuf>,
    /// A recovery recipient's private key (PEM); not needed where the HSM still holds the root
    #[arg(long, value_name = "KEY.pem")]
    pub(crate) private_key: Option<PathBuf>,
    /// Keys deleted since, as `claviger backup tombstones` wrote them: they stay deleted
    #[arg(long, value_name = "FILE")]
    pub(crate) tombstones: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Random {
    /// How many bytes, 1 to 4096
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_RANDOM_LEN)))]
    pub(crate) length: u16,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Context {
    pub(crate) fn canonical(&self) -> Result<EncryptionContext, Failure> {
        canonical("--context", &self.pairs)
    }
}

impl ReEncrypt {
    pub(crate) fn source_context(&self) -> Result<EncryptionContext, Failure> {
        canonical("--source-context", &self.source_pairs)
    }
}

fn canonical(flag: &str, pairs: &[(String, String)]) -> Result<EncryptionContext, Failure> {
    EncryptionContext::from_pairs(pairs.iter().map(|(key, value)| (key, value)))
        .map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() { Err("the key before '=' is empty") } else { Ok((key.into(), value.into())) }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a time over zero is needed".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it as 500ms, 5s or 1m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_read_and_wrong_ones_refused() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
        assert_eq!(timeout("1m"), Ok(Duration::from_mins(1)));
        assert!(timeout("0s").is_err() && timeout("5").is_err() && timeout("-1s").is_err());
    }
}
