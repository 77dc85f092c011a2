//! `clavigerd-hsm`: a PKCS#11 module in a process of its own, for one member of the pool.
//! A thin shell around the library. Its exports are none: a module that is loaded here
//! must find its own functions, and not the embedded token's.
//!
//! Exit codes: 0 when the daemon that started it is gone; 2 for bad configuration or
//! arguments; 1 for the rest.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clavigerd::backend::hsm::helper::serve::{self, ServeError};
use clavigerd::config::{Config, LockMemory};
use clavigerd::daemon::process;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Uid, User, dup2_stdin, dup2_stdout};

/// Runs the PKCS#11 module of one HSM for clavigerd.
#[derive(Parser)]
#[command(name = "clavigerd-hsm", version, after_help = EXAMPLES)]
struct Cli {
    /// Started by the daemon for the member of this name; never by hand.
    #[arg(long = "for", value_name = "NAME", conflicts_with_all = ["config", "member", "socket", "peer"])]
    started_for: Option<String>,
    /// The daemon's configuration file (TOML).
    #[arg(long, value_name = "FILE", requires = "member", required_unless_present = "started_for")]
    config: Option<PathBuf>,
    /// Which `[[hsm]]` of it; one with isolation = "unit".
    #[arg(long, value_name = "NAME", requires = "config")]
    member: Option<String>,
    /// Listen here; without it, on the one socket that systemd passes (LISTEN_FDS).
    #[arg(long, value_name = "PATH", requires = "config")]
    socket: Option<PathBuf>,
    /// The daemon's user, where it isn't this one: a name or a number.
    #[arg(long, value_name = "USER", requires = "config")]
    peer: Option<String>,
}

const EXAMPLES: &str = "Examples:
  clavigerd-hsm --config /etc/claviger/claviger.toml --member a
        as a systemd unit with a socket unit
  clavigerd-hsm --config claviger.toml --member a --socket /run/claviger-hsm/a.sock
        by hand

The log goes to stderr; CLAVIGER_LOG=debug says more.";

/// How it ended: with a message for stderr and an exit code.
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
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(code, message)) => {
            let _ = writeln!(io::stderr(), "clavigerd-hsm: {message}");
            ExitCode::from(code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failed> {
    process::harden().map_err(Failed::other)?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("CLAVIGER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    // The daemon's to insist on; a helper of its own unit has the unit's limit.
    process::lock_memory(LockMemory::Try).map_err(Failed::other)?;
    match (cli.config, cli.member) {
        (Some(config), Some(member)) => unit(&config, &member, cli.socket.as_deref(), cli.peer.as_deref()),
        _ => started(),
    }
}

/// The daemon's connections are stdin and stdout. It alone says when this ends: a signal
/// that is meant for both must not end a call that the daemon still wants to finish.
fn started() -> Result<(), Failed> {
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect::<SigSet>();
    signals.thread_block().map_err(Failed::other)?;
    let lane = |end: io::Result<OwnedFd>| {
        let stream = UnixStream::from(end.map_err(Failed::other)?);
        stream.peer_addr().map_err(|_| {
            Failed::usage("stdin and stdout must be the daemon's sockets: --for is for clavigerd alone")
        })?;
        Ok(stream)
    };
    let serve = lane(io::stdin().as_fd().try_clone_to_owned())?;
    let make = lane(io::stdout().as_fd().try_clone_to_owned())?;
    // A library that prints must not print into a lane.
    let null = File::open("/dev/null").map_err(Failed::other)?;
    dup2_stdin(null).and_then(|()| dup2_stdout(io::stderr())).map_err(Failed::other)?;
    // Open until the very end: their end tells the daemon that every session is closed.
    let until_the_end = [&serve, &make].map(UnixStream::try_clone);
    let ended = serve::inherited(serve, make);
    drop(until_the_end);
    ended.map_err(Failed::other)
}

fn unit(config: &Path, member: &str, socket: Option<&Path>, peer: Option<&str>) -> Result<(), Failed> {
    let file = config.display();
    let members = Config::from_file(config).map_err(Failed::usage)?.hsm;
    let found = members.into_iter().find(|config| config.name == member);
    let config = found.ok_or_else(|| Failed::usage(format!("{file} has no [[hsm]] of name {member:?}")))?;
    let peer = peer.map(user).transpose()?;
    let listener = match socket {
        Some(path) => listen(path)?,
        None => passed()?,
    };
    tracing::info!(hsm = %config.name, "waiting for the daemon");
    serve::unit(config, &listener, peer).map_err(|error| match error {
        ServeError::NotAUnit { .. } => Failed::usage(error),
        ServeError::Io(_) => Failed::other(error),
    })
}

fn user(name: &str) -> Result<u32, Failed> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = User::from_name(name).map_err(Failed::other)?;
    let uid = found.map(|user| user.uid).map(Uid::as_raw);
    uid.ok_or_else(|| Failed::usage(format!("--peer: there is no user {name:?}")))
}

/// The socket that systemd passes.
fn passed() -> Result<UnixListener, Failed> {
    let mut passed = listenfd::ListenFd::from_env();
    if passed.len() != 1 {
        return Err(Failed::usage(format!(
            "found {} sockets passed by systemd (LISTEN_FDS), expected one: give --socket PATH to run it by hand",
            passed.len()
        )));
    }
    let listener = passed.take_unix_listener(0).map_err(Failed::usage)?;
    let listener = listener.ok_or_else(|| Failed::usage("the passed socket was taken"))?;
    listener.set_nonblocking(false).map_err(Failed::other)?;
    Ok(listener)
}

/// Listens on a path, and takes it over from a helper that is gone.
fn listen(path: &Path) -> Result<UnixListener, Failed> {
    let failed = |error: io::Error| Failed::other(format!("{}: {error}", path.display()));
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match UnixStream::connect(path) {
            Err(gone) if gone.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
                UnixListener::bind(path).map_err(failed)
            }
            _ => Err(Failed::other(format!("{}: another helper listens there", path.display()))),
        },
        bound => bound.map_err(failed),
    }
}
