//! What can be typed: the commands of `clavigerd`, their flags, their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
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
    /// When to use colours; NO_COLOR has its effect on auto.
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: When,
}

/// When output has colours. Its variants have no help of their own: it would make every
/// command's help the long one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    // On terminals, unless NO_COLOR is set (no-color.org) or TERM is dumb.
    #[default]
    Auto,
    // In pipes and files too.
    Always,
    // Nowhere.
    Never,
}

/// Follows `--color` before it is known to be right: the error about it has one too.
pub(crate) fn wanted_color() -> clap::ColorChoice {
    let mut wanted = None;
    let mut args = std::env::args_os().skip(1).take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy().into_owned();
        wanted = match arg.strip_prefix("--color=") {
            Some(value) => Some(value.to_owned()),
            None if arg == "--color" => args.next().map(|value| value.to_string_lossy().into_owned()),
            None => wanted,
        };
    }
    let (streams, help) =
        match wanted.and_then(|value| When::from_str(&value, false).ok()).unwrap_or_default() {
            When::Auto => (anstream::ColorChoice::Auto, clap::ColorChoice::Auto),
            When::Always => (anstream::ColorChoice::Always, clap::ColorChoice::Always),
            When::Never => (anstream::ColorChoice::Never, clap::ColorChoice::Never),
        };
    streams.write_global();
    help
}

const EXAMPLES: &str =
    "Exit codes: 0 done; 1 failed; 2 bad configuration or arguments; 141 nobody reads the output.
Errors are on stderr, or with --json an object {\"error\":{\"code\",\"message\"}} on stdout.

Examples:
  clavigerd --dev --state-dir ./state
  clavigerd --config /etc/claviger/claviger.toml
  clavigerd check-config --config /etc/claviger/claviger.toml
  clavigerd hsm init --config /etc/claviger/claviger.toml --recovery offline.pem

The log goes to stderr; CLAVIGER_LOG=debug says more.";

const CHECK_CONFIG: &str =
    "Looks at the files, directories, users and programs that it names, too, and changes nothing. Run it as
the daemon's user. Whether the HSM works, `clavigerd hsm probe` says.

Example:
  clavigerd check-config --config /etc/claviger/claviger.toml";

const HSM: &str = "Example:
  clavigerd hsm probe --config /etc/claviger/claviger.toml";

const PROBE: &str = "Example:
  clavigerd hsm probe --config /etc/claviger/claviger.toml --json";

const BENCH: &str = "Examples:
  clavigerd hsm bench --only token_encrypt --seconds 3
  clavigerd hsm bench --config /etc/claviger/claviger.toml --size 1024 --json";

const INIT: &str = "Examples:
  clavigerd hsm init --config /etc/claviger/claviger.toml --recovery offline.pub.pem
  clavigerd hsm init --config claviger.toml --recovery one.pub.pem --recovery two.pub.pem

Make a recovery key on another machine, and keep it there:
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out offline.key.pem
  openssl pkey -in offline.key.pem -pubout -out offline.pub.pem";

const HSM_RESTORE: &str = "Example:
  clavigerd hsm restore --config claviger.toml --recovery-file root-1.recovery --private-key offline.key.pem";

const COMPLETIONS: &str = "Examples:
  clavigerd completions bash > ~/.local/share/bash-completion/completions/clavigerd
  clavigerd completions zsh > ~/.zfunc/_clavigerd";

const MAN: &str = "Example:
  clavigerd man ./man && man -l ./man/claviger.toml.5";

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
    /// Check a configuration file, and what it names, and say everything that is wrong.
    #[command(after_help = CHECK_CONFIG)]
    CheckConfig {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Look as this user, the daemon's; for root to say.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
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
        /// Keys that were deleted since, as `claviger backup tombstones` wrote them: they
        /// don't come back to life.
        #[arg(long, value_name = "FILE")]
        tombstones: Option<PathBuf>,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Run,
    },
    /// Look at the HSM, and prepare it.
    #[command(subcommand, after_help = HSM)]
    Hsm(Hsm),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages of every command, and of the configuration file, into a directory.
    #[command(after_help = MAN)]
    Man {
        /// An existing directory; pages that are there are replaced.
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Hsm {
    /// Open the HSM, test every mechanism that its profile names, and say what it can hold.
    #[command(after_help = PROBE)]
    Probe {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Measure the cryptography in-process, in one thread: the HSM's own and SOFTWARE level's.
    #[command(after_help = BENCH)]
    Bench(Bench),
    /// Make the domain: its root generation in the HSM and its domain key. Once.
    /// The module is loaded into this program, whatever its isolation: it needs the PIN.
    #[command(after_help = INIT)]
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
    #[command(after_help = HSM_RESTORE)]
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

impl Command {
    /// Whether results and errors are to be objects.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Restore { json, .. } | Self::Hsm(Hsm::Probe { json, .. }) => *json,
            Self::Hsm(Hsm::Bench(bench)) => bench.json,
            Self::Hsm(Hsm::Init { .. } | Hsm::Restore { .. }) => false,
            Self::CheckConfig { .. } | Self::Completions { .. } | Self::Man { .. } => false,
        }
    }
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn commands(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        found.push((path.to_owned(), help));
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            commands(inner, &format!("{path} {}", inner.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_examples_that_are_right() {
        Cli::command().debug_assert();
        let mut found = Vec::new();
        commands(&Cli::command(), "clavigerd", &mut found);
        assert!(found.len() >= 10, "{found:?}");
        for (path, help) in found {
            let examples = help.split("Example").nth(1).unwrap_or_else(|| panic!("{path} has no example"));
            let calls: Vec<&str> =
                examples.lines().map(str::trim).filter(|line| line.starts_with("clavigerd ")).collect();
            assert!(calls.iter().any(|call| call.starts_with(&path)), "{path} isn't in its examples");
            for call in calls {
                let words = call.split_whitespace().take_while(|word| !["&&", ">", "|"].contains(word));
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{path}: {call}: {error}");
                }
            }
        }
    }
}
