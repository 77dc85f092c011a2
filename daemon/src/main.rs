//! `clavigerd`: the daemon's command line. A thin shell around the library.
//!
//! Exit codes: 0; 2 for bad configuration or arguments; 1 for the rest.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use clavigerd::backend::hsm;
use clavigerd::backend::hsm::member::Member;
use clavigerd::config::Config;
use clavigerd::daemon;
use clavigerd::daemon::process::{self, ProcessError};
use clavigerd::edge::Edge;
use clavigerd::store::StateLock;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The Claviger key-management daemon.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

const EXAMPLES: &str = "Examples:
  clavigerd --dev --state-dir ./state        everything under ./state, on the embedded token
  clavigerd --config /etc/claviger/claviger.toml
  clavigerd check-config --config /etc/claviger/claviger.toml
  clavigerd hsm init --config /etc/claviger/claviger.toml --recovery offline.pem

The log goes to stderr; CLAVIGER_LOG=debug says more.";

#[derive(Args)]
struct Run {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    config: Option<PathBuf>,
    /// Run without configuration, for trying and developing: the embedded token,
    /// sockets and state under --state-dir. Not for secrets that matter.
    #[arg(long, requires = "state_dir")]
    dev: bool,
    /// Where `--dev` keeps everything; made with mode 0700 if it isn't there.
    #[arg(long, value_name = "DIR", requires = "dev", conflicts_with = "config")]
    state_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Check a configuration file and say what is wrong with it.
    CheckConfig {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
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
enum Hsm {
    /// Open the HSM, test every mechanism that its profile names, and say what it can hold.
    Probe {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Make the domain: its root generation in the HSM and its domain key. Once.
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
    /// recovery file and its recipient's private key.
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

/// How a command ended: with a message for stderr and an exit code.
struct Failed(u8, String);

impl Failed {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self(2, error.to_string())
    }

    fn other(error: impl std::fmt::Display) -> Self {
        Self(1, error.to_string())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(code, message)) => {
            let _ = writeln!(std::io::stderr(), "clavigerd: {message}");
            ExitCode::from(code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failed> {
    process::harden().map_err(Failed::other)?;
    match cli.command {
        Some(Command::CheckConfig { config }) => {
            read_config(&config)?;
            say(&format!("{}: the configuration is good", config.display()))
        }
        Some(Command::Hsm(command)) => tools(command),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man { dir }) => clap_mangen::generate_to(Cli::command(), &dir).map_err(|error| {
            let dir = dir.display();
            Failed::usage(format!(
                "the pages can't be written to {dir}: {error}; give a directory of your own"
            ))
        }),
        None => serve(cli.run),
    }
}

fn read_config(path: &std::path::Path) -> Result<Config, Failed> {
    Config::from_file(path).map_err(Failed::usage)
}

fn serve(run: Run) -> Result<(), Failed> {
    let config = match (run.config, run.state_dir) {
        (Some(path), _) => read_config(&path)?,
        (None, Some(dir)) => Config::dev(&dir).map_err(Failed::usage)?,
        (None, None) => {
            let text = "say what to run on: --config FILE, or --dev --state-dir DIR (see --help)";
            return Err(Failed::usage(text));
        }
    };
    process::raise_descriptors(&config).map_err(|error| match error {
        ProcessError::Descriptors { .. } => Failed::usage(error),
        ProcessError::System { .. } => Failed::other(error),
    })?;
    start_log();
    let socket = config.admin.socket.clone();
    let stop_timeout = config.limits.stop_timeout;
    let edge = Edge::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failed::other)?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(&stop).map_err(Failed::other)?;
        let serving = move || {
            let _ = say(&format!("clavigerd: serving on {}", socket.display()));
        };
        daemon::run(config, edge.clone(), stop, serving).await.map_err(Failed::other)
    });
    // With it goes whatever a stop that took too long has left.
    drop(runtime);
    if !edge.workers.finished(stop_timeout) {
        tracing::warn!("a call to the HSM or the disk is stuck; ending without it");
    }
    ended
}

fn stop_on_signals(stop: &CancellationToken) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut received = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            if received.recv().await.is_some() {
                tracing::info!("stopping: what is in flight is finished first");
                stop.cancel();
            }
        });
    }
    Ok(())
}

fn tools(command: Hsm) -> Result<(), Failed> {
    start_log();
    let edge = Edge::system();
    let go_on = &mut |_| ControlFlow::Continue(());
    match command {
        Hsm::Probe { config, json } => probe(&read_config(&config)?, &edge, json),
        Hsm::Init { config, recovery } => {
            let config = read_config(&config)?;
            let state = StateLock::acquire(&config.state_dir).map_err(Failed::other)?;
            refuse_records(&config, &state, &edge)?;
            let made = hsm::init(&config, &recovery, &edge, go_on).map_err(Failed::other)?;
            say(&format!("made domain {} with root generation {}", made.domain, made.root_generation))?;
            match made.recovery_file {
                Some(file) => say(&format!(
                    "the root is wrapped to {} recovery recipient(s) in {}: keep a copy of that file, and of {}, elsewhere",
                    made.recipients.len(),
                    file.display(),
                    config.state_dir.join("domain").display(),
                )),
                None => say(
                    "WARNING: no recovery recipient: if the HSM is lost, every key is lost (see --recovery)",
                ),
            }
        }
        Hsm::Restore { config, recovery_file, private_key } => {
            let config = read_config(&config)?;
            let _state = StateLock::acquire(&config.state_dir).map_err(Failed::other)?;
            hsm::restore(&config, &recovery_file, &private_key, &edge, go_on).map_err(Failed::other)?;
            say("the root is in the HSM and opens the domain; remove the private key from this machine")
        }
    }
}

/// A domain can't be made where the records of another one wait for it.
fn refuse_records(config: &Config, state: &Arc<StateLock>, edge: &Edge) -> Result<(), Failed> {
    // What else is wrong with the domain file, `hsm::init` says itself.
    if !matches!(hsm::domain::header(&config.state_dir), Ok(None)) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Failed::other)?;
    match runtime.block_on(daemon::has_records(state, &config.limits, edge)) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failed::other(daemon::DOMAIN_MISSING)),
        Err(error) => Err(Failed::other(error)),
    }
}

/// Says what every member can do; fails if one can't be opened.
fn probe(config: &Config, edge: &Edge, json: bool) -> Result<(), Failed> {
    let root = hsm::domain::header(&config.state_dir).ok().flatten().map(|header| header.root);
    let mut members = Vec::new();
    for member in &config.hsm {
        let opened = hsm::member::open(member, root.as_ref(), &edge.workers, &config.limits, 1)
            .map_err(|error| Failed::other(format!("{}: {error}", member.name)))?;
        members.push(opened);
    }
    if json {
        let one = |member: &Member| {
            serde_json::json!({
                "name": member.name,
                "profile": member.profile,
                "hardware": member.hardware,
                "mechanisms": member.report.mechanisms,
                "specs": member.report.specs,
            })
        };
        return say(
            &serde_json::json!({ "members": members.iter().map(one).collect::<Vec<_>>() }).to_string()
        );
    }
    for member in &members {
        let kind = if member.hardware { "hardware" } else { "software" };
        say(&format!("{} ({}, {kind})", member.name, member.profile))?;
        for tested in &member.report.mechanisms {
            let number = tested.mechanism.as_deref().unwrap_or("-");
            say(&format!(
                "  {:<20} {number:<12} {}",
                tested.used_for,
                verdict(tested.ok, tested.reason.as_deref())
            ))?;
        }
        for spec in &member.report.specs {
            say(&format!(
                "  {:<20} {:<12} {}",
                spec.spec,
                "",
                verdict(spec.available, spec.reason.as_deref())
            ))?;
        }
    }
    Ok(())
}

fn completions(shell: Shell) -> Result<(), Failed> {
    // Into memory first: the generator panics where a stream breaks.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "clavigerd", &mut script);
    std::io::stdout().write_all(&script).map_err(Failed::other)
}

fn verdict(ok: bool, reason: Option<&str>) -> String {
    if ok { "ok".into() } else { format!("off: {}", reason.unwrap_or("failed")) }
}

fn say(line: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failed::other)
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CLAVIGER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
