//! `clavigerd`: the daemon's command line. A thin shell around the library.
//!
//! Exit codes: 0; 2 for bad configuration or arguments; 1 for the rest.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clavigerd::backend::hsm::member::Member;
use clavigerd::backend::{bench, hsm};
use clavigerd::backup::restore;
use clavigerd::config::Config;
use clavigerd::config::LogConfig;
use clavigerd::daemon::process::{self, ProcessError};
use clavigerd::daemon::{self, Host, Reload, Supervisor, trust};
use clavigerd::edge::Edge;
use clavigerd::logs;
use clavigerd::server::Passed;
use clavigerd::store::StateLock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
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

const RESTORE: &str =
    "The state directory must have no records and no other domain. Interrupted, restoring the same
backup again finishes it.

Examples:
  clavigerd restore monday.backup --config /etc/claviger/claviger.toml --private-key offline.key.pem
  clavigerd restore monday.backup --dev --state-dir ./state";

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
struct Bench {
    /// Configuration file (TOML) of the HSM to measure, with its domain made; nothing in it
    /// changes. Without one, an embedded token is made for the run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to measure each operation.
    #[arg(long, value_name = "N", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Bytes of the plaintext.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=6144))]
    size: u16,
    /// One operation only.
    #[arg(long, value_name = "NAME", value_parser = bench::OPERATIONS)]
    only: Option<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= 3600.0);
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or("expected a number of seconds over 0, at most 3600")
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
        Some(Command::Restore { file, private_key, json, place }) => {
            restore_backup(place, &file, private_key.as_deref(), json)
        }
        None => serve(cli.run),
    }
}

fn read_config(path: &Path) -> Result<Config, Failed> {
    Config::from_file(path).map_err(Failed::usage)
}

fn place(run: &Run) -> Result<Config, Failed> {
    match (&run.config, &run.state_dir) {
        (Some(path), _) => read_config(path),
        (None, Some(dir)) => Config::dev(dir).map_err(Failed::usage),
        (None, None) => {
            Err(Failed::usage("say what to run on: --config FILE, or --dev --state-dir DIR (see --help)"))
        }
    }
}

fn restore_backup(run: Run, file: &Path, private_key: Option<&Path>, json: bool) -> Result<(), Failed> {
    let config = place(&run)?;
    logs::start(&LogConfig::default());
    let edge = Edge::system();
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Failed::other)?;
    let done =
        runtime.block_on(restore::restore(&config, file, private_key, &edge)).map_err(Failed::other)?;
    let totals = done.totals.unwrap_or_default();
    if json {
        return say(&serde_json::json!({
            "domain_id": done.domain,
            "root_generation": done.root_generation,
            "records": done.totals.map(|totals| totals.puts),
            "removals": done.totals.map(|totals| totals.deletes),
        })
        .to_string());
    }
    say(&format!(
        "restored domain {} with root generation {}: {} records; start the daemon",
        done.domain, done.root_generation, totals.puts
    ))?;
    match private_key {
        Some(_) => say("remove the private key from this machine"),
        None => Ok(()),
    }
}

fn serve(run: Run) -> Result<(), Failed> {
    let passed = Passed::from_environment().map_err(Failed::usage)?;
    let config = place(&run)?;
    let file = run.config;
    trusted(&config, file.as_deref())?;
    let logs = logs::start(&config.log);
    fit(&config)?;
    let version = env!("CARGO_PKG_VERSION");
    let named = file.as_deref().map_or("--dev".to_owned(), |path| path.display().to_string());
    tracing::info!(target: "clavigerd::start", version, config = named, state_dir = %config.state_dir.display(), "starting");
    let socket = config.admin.socket.clone();
    let stop_timeout = config.limits.stop_timeout;
    let edge = Edge::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failed::other)?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(&stop).map_err(Failed::other)?;
        let wanted = reload_on_signal().map_err(Failed::other)?;
        let reload = file.map(|file| Reload { file, wanted, logs });
        let host = Host { passed, supervisor: Supervisor::default(), reload };
        let serving = move || {
            let _ = say(&format!("clavigerd: serving on {}", socket.display()));
        };
        daemon::run(config, edge.clone(), stop, host, serving).await.map_err(Failed::other)
    });
    // With it goes whatever a stop that took too long has left.
    drop(runtime);
    if !edge.workers.finished(stop_timeout) {
        tracing::warn!("a call to the HSM or the disk is stuck; ending without it");
    }
    if ended.is_ok() {
        tracing::info!("stopped");
    }
    ended
}

/// Refuses to run on what others can change.
fn trusted(config: &Config, file: Option<&Path>) -> Result<(), Failed> {
    let problems = trust::problems(config, file, nix::unistd::geteuid().as_raw());
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(Failed::other(lines.join("\n")))
}

/// Descriptors and memory as a daemon needs them.
fn fit(config: &Config) -> Result<(), Failed> {
    let ready = process::raise_descriptors(config).and_then(|()| process::lock_memory(config.lock_memory));
    ready.map_err(|error| match error {
        ProcessError::Descriptors { .. } => Failed::usage(error),
        ProcessError::System { .. } | ProcessError::Memory(_) => Failed::other(error),
    })
}

/// SIGHUPs, one at a time: those that come while one is being followed are one more.
fn reload_on_signal() -> std::io::Result<mpsc::Receiver<()>> {
    let mut received = signal(SignalKind::hangup())?;
    let (wanted, reload) = mpsc::channel(1);
    tokio::spawn(async move {
        while received.recv().await.is_some() {
            let _ = wanted.try_send(());
        }
    });
    Ok(reload)
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
    logs::start(&LogConfig::default());
    let edge = Edge::system();
    let go_on = &mut |_| ControlFlow::Continue(());
    match command {
        Hsm::Bench(args) => measure(args, &edge),
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
    restore::refuse_unfinished(&config.state_dir).map_err(Failed::other)?;
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

/// Says how fast the backends are.
fn measure(args: Bench, edge: &Edge) -> Result<(), Failed> {
    let config = args.config.as_deref().map(read_config).transpose()?;
    let plan = bench::Plan { time: args.seconds, size: args.size.into(), only: args.only };
    let report = bench::run(config.as_ref(), &plan, edge).map_err(Failed::other)?;
    if args.json {
        return say(&serde_json::to_string(&report).map_err(Failed::other)?);
    }
    say(&format!("{}, {} bytes, one thread", report.profile, report.size))?;
    for speed in report.results {
        let (name, rate) = (speed.name, speed.ops_per_second);
        say(&format!(
            "  {name:<20} {rate:>10.0} ops/s  p50 {:.2} µs  p99 {:.2} µs",
            speed.p50_us, speed.p99_us
        ))?;
    }
    Ok(())
}

/// Says what every member can do; fails if one can't be opened.
fn probe(config: &Config, edge: &Edge, json: bool) -> Result<(), Failed> {
    let root = hsm::domain::header(&config.state_dir).ok().flatten().map(|header| header.root);
    let mut members = Vec::new();
    let isolation = |name: &str| {
        let config = config.hsm.iter().find(|config| config.name == name);
        config.map_or("", |config| config.isolation.name())
    };
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
                "isolation": isolation(&member.name),
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
        let isolation = isolation(&member.name);
        say(&format!("{} ({}, {kind}, isolation {isolation})", member.name, member.profile))?;
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

fn verdict(ok: bool, reason: Option<&str>) -> String {
    if ok { "ok".into() } else { format!("off: {}", reason.unwrap_or("failed")) }
}

fn say(line: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Failed::other)
}
