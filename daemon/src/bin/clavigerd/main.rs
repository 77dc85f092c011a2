//! `clavigerd`: the daemon's command line. A thin shell around the library.
//!
//! Exit codes: 0; 2 for bad configuration or arguments; 1 for the rest.

mod args;
mod manual;
mod tools;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use clavigerd::config::Config;
use clavigerd::daemon::process::{self, ProcessError};
use clavigerd::daemon::{self, Host, Reload, Supervisor, inspect, trust};
use clavigerd::edge::Edge;
use clavigerd::logs;
use clavigerd::server::Passed;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use args::{Cli, Command, Run};

/// How a command ended: with a message for stderr and an exit code.
struct Failed(u8, String);

/// Exit code where nobody reads standard output any more: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

impl Failed {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self(2, error.to_string())
    }

    fn other(error: impl std::fmt::Display) -> Self {
        Self(1, error.to_string())
    }

    /// Standard output could not be written.
    fn output(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self(BROKEN_PIPE, String::new()),
            _ => Self::other(format!("standard output can't be written: {error}")),
        }
    }

    /// Says what happened, as an object under `--json`, and gives the exit code.
    fn report(&self, json: bool) -> ExitCode {
        let Self(code, message) = self;
        match (*code, json) {
            (BROKEN_PIPE, _) => {}
            (_, true) => {
                let name = if *code == 2 { "Usage" } else { "Failed" };
                let object = serde_json::json!({ "error": { "code": name, "message": message } });
                let _ = writeln!(std::io::stdout(), "{object}");
            }
            (_, false) => {
                let head = tools::Paint::Bad.on("clavigerd:");
                let _ = writeln!(anstream::stderr(), "{head} {message}");
            }
        }
        ExitCode::from(*code)
    }
}

fn main() -> ExitCode {
    let color = args::wanted_color();
    let parsed = Cli::command().color(color).try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let json = cli.command.as_ref().is_some_and(Command::is_json);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(json),
    }
}

/// What clap says, or an object where one was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    // Without a parse there is no `--json` to ask but the bare word.
    let json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if json && error.use_stderr() {
        let text = error.to_string();
        let said: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        return Failed::usage(said.join(" ").trim_start_matches("error: ")).report(true);
    }
    match error.print() {
        Ok(()) => ExitCode::from(u8::from(error.use_stderr()) * 2),
        Err(error) => Failed::output(&error).report(false),
    }
}

fn run(cli: Cli) -> Result<(), Failed> {
    process::harden().map_err(Failed::other)?;
    match cli.command {
        Some(Command::CheckConfig { config, user }) => {
            user.as_deref().map_or(Ok(()), process::become_user).map_err(Failed::usage)?;
            inspected(&config)?;
            say(&format!("{}: the configuration is good", config.display()))
        }
        Some(Command::Hsm(command)) => tools::tools(command),
        Some(Command::Restore { file, private_key, tombstones, json, place }) => {
            let from = tools::Backup { file, private_key, tombstones };
            tools::restore_backup(&place, &from, json)
        }
        Some(Command::Completions { shell }) => tools::completions(shell),
        Some(Command::Man { dir }) => manual::pages(&dir),
        None => serve(cli.run),
    }
}

fn read_config(path: &Path) -> Result<Config, Failed> {
    Config::from_file(path).map_err(Failed::usage)
}

/// Everything that is wrong with a configuration and with what it names.
fn inspected(path: &Path) -> Result<(), Failed> {
    let config = read_config(path)?;
    let problems = inspect::problems(&config, Some(path), nix::unistd::geteuid().as_raw());
    if problems.is_empty() { Ok(()) } else { Err(Failed::usage(problems.join("\n"))) }
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
fn say(line: &str) -> Result<(), Failed> {
    // Without colours where it isn't a terminal.
    let mut out = anstream::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| Failed::output(&error))
}
