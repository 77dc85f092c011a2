//! What can be typed: the commands of `clavigerd`, their flags, their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use clavigerd::backend::bench;

/// The Claviger key-management daemon.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Run,
}

const EXAMPLES: &str = "Examples:
  clavigerd --dev --state-dir ./state        everything under ./state, on the embedded token
  clavigerd --config /etc/claviger/claviger.toml
  clavigerd check-config --config /etc/claviger/claviger.toml
  clavigerd hsm init --config /etc/claviger/claviger.toml --recovery offline.pem

The log goes to stderr; CLAVIGER_LOG=debug says more.";

const RESTORE: &str =
    "The state directory must have no records and no other domain. Interrupted, restoring the same
backup again finishes it.

Examples:
  clavigerd restore monday.backup --config /etc/claviger/claviger.toml --private-key offline.key.pem
  clavigerd restore monday.backup --dev --state-dir ./state";

#[derive(Args)]
pub(crate) struct Run {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    pub(crate) config: Option<PathBuf>,
    /// Run without configuration, for trying and developing: the embedded token,
    /// sockets and state under --state-dir. Not for secrets that matter.
    #[arg(long, requires = "state_dir")]
    pub(crate) dev: bool,
    /// Where `--dev` keeps everything; made with mode 0700 if it isn't there.
    #[arg(long, value_name = "DIR", requires = "dev", conflicts_with = "config")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check a configuration file and say what is wrong with it.
    CheckConfig {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Restore a domain from a backup, onto a host that has none. The daemon must not run.
    #[command(after_help = RESTORE)]
    Restore {
        /// The backup that `claviger backup create` wrote.
        file: PathBuf,
        /// A recovery recipient's RSA private key (PEM, PKCS#8, not encrypted). Not
        /// needed where the HSM still holds the domain's root.
        #[arg(long, value_name = "KEY.pem")]
        private_key: Option<PathBuf>,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Run,
    },
    /// Look at the HSM, and prepare it.
    #[command(subcommand)]
    Hsm(Hsm),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages of every command into a directory.
    Man {
        /// An existing directory; pages that are there are replaced.
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Hsm {
    /// Open the HSM, test every mechanism that its profile names, and say what it can hold.
    Probe {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Measure the cryptography in-process, in one thread: the HSM's own and SOFTWARE level's.
    Bench(Bench),
    /// Make the domain: its root generation in the HSM and its domain key. Once.
    /// The module is loaded into this program, whatever its isolation: it needs the PIN.
    Init {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// RSA public key (PEM, at least 3072 bits) of an offline recovery recipient;
        /// may be given several times. Without one, losing the HSM loses every key.
        #[arg(long, value_name = "PUB.pem")]
        recovery: Vec<PathBuf>,
    },
    /// Put the root generation of an existing domain into a new, empty HSM, from a
    /// recovery file and its recipient's private key. The module is loaded into this
    /// program, whatever its isolation: it needs the PIN.
    Restore {
        /// Configuration file (TOML); its state directory holds the domain file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The recovery file that `hsm init` wrote.
        #[arg(long, value_name = "FILE")]
        recovery_file: PathBuf,
        /// The recipient's RSA private key (PEM, PKCS#8, not encrypted).
        #[arg(long, value_name = "KEY.pem")]
        private_key: PathBuf,
    },
}

/// What `claviger bench` runs for its baseline; of use by itself too.
#[derive(Args)]
pub(crate) struct Bench {
    /// Configuration file (TOML) of the HSM to measure, with its domain made; nothing in it
    /// changes. Without one, an embedded token is made for the run.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How long to measure each operation.
    #[arg(long, value_name = "N", default_value = "1", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Bytes of the plaintext.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=6144))]
    pub(crate) size: u16,
    /// One operation only.
    #[arg(long, value_name = "NAME", value_parser = bench::OPERATIONS)]
    pub(crate) only: Option<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= 3600.0);
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or("expected a number of seconds over 0, at most 3600")
}
