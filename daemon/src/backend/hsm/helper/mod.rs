//! A member whose module runs in a process of its own (`clavigerd-hsm`): a library that
//! hangs, crashes or leaks takes nothing with it but its session objects.
//!
//! The daemon's side: `open` starts the helper, or connects to its unit, and gives a
//! [`Member`] like any other; [`Tether`] notices that the helper is lost and opens another
//! in its place. The helper's side is [`serve`]. Each lane is a connection of its own, so
//! that making a key never holds a request up. What must not live here: when to try again,
//! which is the daemon's.

mod hello;
mod link;
mod passing;
pub mod serve;
mod token;
mod wire;

pub use wire::rewritten;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use tokio::sync::Notify;

use self::hello::{MAX_HELLO, Open, Opened, Said};
use self::link::Link;
use self::token::{Helper, HelperToken};
use super::RootId;
use super::command::{Command, HsmError, Token};
use super::lane::Lane;
use super::member::{Kind, Lanes, Member, OpenError};
use super::pin;
use super::probe::ProbeReport;
use crate::config::{Isolation, Limits, MemberConfig, PinSource};
use crate::edge::Workers;
use crate::identity::Peer;

/// The helper's program, beside the daemon's.
const PROGRAM: &str = "clavigerd-hsm";
/// Making keys, logging in and self-tests may take this many times as long as a call.
const SLOW: u32 = 4;
/// What the daemon's own unit was told, and no helper must take for itself.
const NOT_INHERITED: [&str; 5] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// A helper that was opened, and its lanes' tokens.
struct Crew {
    helper: Arc<Helper>,
    /// In the order of [`Kind::index`].
    tokens: Vec<HelperToken>,
    report: ProbeReport,
    /// Whether all lanes see the root.
    rooted: bool,
}

/// What ties a member to its helper: to notice that it is lost, and to open another.
#[derive(Clone)]
pub struct Tether(Arc<Inner>);

struct Inner {
    config: MemberConfig,
    root: Option<RootId>,
    report: ProbeReport,
    /// In the order of [`Kind::index`].
    lanes: Vec<Arc<Lane>>,
    helper: Mutex<Arc<Helper>>,
    trouble: Arc<Notify>,
}

/// Opens a member by its helper; see [`super::member::open`].
pub(super) fn open(
    config: &MemberConfig,
    root: Option<&RootId>,
    workers: &Workers,
    limits: &Limits,
    epoch: u64,
) -> Result<Member, OpenError> {
    let trouble = Arc::new(Notify::new());
    let asymmetric = Kind::asymmetric(workers).count();
    let crew = hire(config, root, epoch, asymmetric, &trouble)?;
    let mut tokens = crew.tokens.into_iter();
    let lanes = Lanes::start(false, workers, limits, |_| match tokens.next() {
        Some(token) => Ok(Box::new(token) as Box<dyn Token>),
        None => Err(OpenError::Unavailable("the helper has too few lanes".to_owned())),
    })?;
    let root = root.filter(|_| crew.rooted).copied();
    let tether = Tether(Arc::new(Inner {
        config: config.clone(),
        root,
        report: crew.report.clone(),
        lanes: lanes.each().cloned().collect(),
        helper: Mutex::new(crew.helper),
        trouble,
    }));
    Ok(Member::of_helper(config, epoch, lanes, crew.report, root, tether))
}

impl Tether {
    /// Waits until a call gave reason to look at the helper.
    pub async fn trouble(&self) {
        self.0.trouble.notified().await;
    }

    /// Looks at the helper: each of its lanes must open a known ciphertext. A helper that
    /// fails is given up.
    ///
    /// # Errors
    /// Why it is given up.
    pub async fn check(&self) -> Result<(), HsmError> {
        for lane in &self.0.lanes {
            match lane.run(Command::Canary).await {
                // A lane that has much to do is alive, or its calls run into their limit.
                Ok(_) | Err(HsmError::Busy) => {}
                Err(error) => return Err(self.helper().lose(&error_text(error))),
            }
        }
        Ok(())
    }

    /// Opens another helper in the place of a lost one. Session objects of the former are
    /// gone. Blocks; the caller gives a new `epoch` each time.
    ///
    /// # Errors
    /// As [`super::member::open`], and [`OpenError::Unavailable`] where the token can no
    /// longer do what it could, or has lost its root.
    pub fn reopen(&self, epoch: u64) -> Result<(), OpenError> {
        let inner = &*self.0;
        let former = self.helper();
        former.lose("another is opened in its place");
        former.reap();
        drop(former);
        let asymmetric = inner.lanes.len().saturating_sub(Kind::Asymmetric(0).index().into());
        let crew = hire(&inner.config, inner.root.as_ref(), epoch, asymmetric, &inner.trouble)?;
        if inner.root.is_some() && !crew.rooted {
            return Err(OpenError::Root("the token no longer holds it; is it the right token?".to_owned()));
        }
        if crew.report != inner.report {
            let text = "its self-tests found other mechanisms than at the daemon's start (see `clavigerd hsm probe`)";
            return Err(OpenError::Unavailable(text.to_owned()));
        }
        *inner.helper.lock().unwrap_or_else(PoisonError::into_inner) = crew.helper;
        // The serving lane is the last: who finds it in use again finds the others.
        for (lane, token) in inner.lanes.iter().zip(crew.tokens).rev() {
            lane.replace(Box::new(token));
        }
        Ok(())
    }

    /// What the token can do.
    #[must_use]
    pub fn report(&self) -> &ProbeReport {
        &self.0.report
    }

    fn helper(&self) -> Arc<Helper> {
        Arc::clone(&self.0.helper.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn error_text(error: HsmError) -> String {
    match error {
        HsmError::Unavailable(text) => text,
        other => other.to_string(),
    }
}

/// Starts a helper or connects to one, and opens all lanes.
fn hire(
    config: &MemberConfig,
    root: Option<&RootId>,
    epoch: u64,
    asymmetric: usize,
    trouble: &Arc<Notify>,
) -> Result<Crew, OpenError> {
    let Connected { process, streams, to_pass } = connected(config, 2 + asymmetric)?;
    let mut links: Vec<Link> = streams.into_iter().map(Link::new).collect();
    let handles = links.iter().map(Link::handle).collect::<io::Result<Vec<_>>>();
    // From here on the process is ended however this ends.
    let helper = match handles {
        Ok(handles) => Helper::new(&config.name, process, handles, Arc::clone(trouble)),
        Err(error) => {
            drop(Helper::new(&config.name, process, Vec::new(), Arc::clone(trouble)));
            return Err(broken(&error));
        }
    };
    let slow = config.call_timeout.saturating_mul(SLOW);
    let count = u8::try_from(asymmetric).unwrap_or_default();
    let (mut opened, mut tokens, mut to_pass) = (Vec::new(), Vec::new(), Some(to_pass));
    for (index, mut link) in (0..).zip(links.drain(..)) {
        let lane = Kind::from_index(index).ok_or_else(|| OpenError::Library("too many lanes".to_owned()))?;
        opened.push(open_lane(&mut link, config, (lane, count), epoch, root, slow)?);
        // Over the serving lane's connection, as soon as it is opened.
        if let Some(streams) =
            to_pass.take().filter(|_| matches!(config.isolation, Isolation::Process { .. }))
        {
            let passed = link.handle().and_then(|over| passing::send(&over, &streams));
            passed.map_err(|error| broken(&error))?;
        }
        let limit = if lane == Kind::Make { slow } else { config.call_timeout };
        let token = HelperToken::new(link, Arc::clone(&helper), epoch, limit);
        tokens.push(token.map_err(|error| broken(&error))?);
    }
    let rooted = opened.iter().all(|opened| opened.rooted);
    let report = opened.into_iter().next().map(|opened| opened.report);
    let report = report.ok_or_else(|| OpenError::Library("it has no lanes".to_owned()))?;
    Ok(Crew { helper, tokens, report, rooted })
}

/// Connections of a helper's lanes, in the order of [`Kind::index`].
struct Connected {
    /// Its process, where it is ours.
    process: Option<Child>,
    streams: Vec<UnixStream>,
    /// Ends that it hasn't got yet.
    to_pass: Vec<UnixStream>,
}

fn connected(config: &MemberConfig, lanes: usize) -> Result<Connected, OpenError> {
    match &config.isolation {
        Isolation::Unit { socket } => {
            let streams = (0..lanes).map(|_| connect(socket)).collect::<Result<_, _>>()?;
            Ok(Connected { process: None, streams, to_pass: Vec::new() })
        }
        Isolation::Process { helper } => {
            let pairs = (0..lanes).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>();
            let (streams, theirs): (Vec<_>, Vec<_>) = pairs.map_err(|e| broken(&e))?.into_iter().unzip();
            let mut theirs = theirs.into_iter();
            let child = start(config, helper.as_deref(), theirs.next().zip(theirs.next()))?;
            Ok(Connected { process: Some(child), streams, to_pass: theirs.collect() })
        }
        Isolation::Thread => Err(OpenError::Library("it runs in the daemon".to_owned())),
    }
}

fn broken(error: &io::Error) -> OpenError {
    OpenError::Unavailable(format!("the helper: {error}"))
}

/// The daemon's side of [`hello`].
fn open_lane(
    link: &mut Link,
    config: &MemberConfig,
    lane: (Kind, u8),
    epoch: u64,
    root: Option<&RootId>,
    limit: Duration,
) -> Result<Opened, OpenError> {
    let opening = Open::new(config, lane, epoch, root);
    let begun = link.set_limit(Some(limit)).and_then(|()| link.write(&opening.frame()?));
    begun.map_err(|error| broken(&error))?;
    let mut at_risk = false;
    // NEED_PIN, LOGGED_IN, OPENED: no honest helper has more to say.
    for _ in 0..3 {
        match next_word(link, config, &mut at_risk) {
            Ok(Some(opened)) => return opened,
            Ok(None) => {}
            Err(error) if at_risk => {
                return Err(OpenError::Login(format!("the helper did not come back from it: {error}")));
            }
            Err(error) => return Err(broken(&error)),
        }
    }
    Err(OpenError::Unavailable("the helper talks and opens nothing".to_owned()))
}

/// Hears what the helper says next; the outcome, if that is what it says. `at_risk` is
/// whether it may be trying a PIN.
fn next_word(
    link: &mut Link,
    config: &MemberConfig,
    at_risk: &mut bool,
) -> io::Result<Option<Result<Opened, OpenError>>> {
    let ours = matches!(config.isolation, Isolation::Process { .. });
    let frame = link.read(MAX_HELLO)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match Said::read(&frame)? {
        Said::NeedPin if ours && !*at_risk => {
            let pin = pin::read(&config.pin);
            *at_risk = pin.is_ok();
            link.write(&hello::pin_frame(&pin)?)?;
        }
        Said::Trying if !ours => *at_risk = true,
        Said::NeedPin | Said::Trying => return Err(io::ErrorKind::InvalidData.into()),
        Said::LoggedIn => *at_risk = false,
        Said::Opened(opened) => return Ok(Some(Ok(opened))),
        Said::NotOpened(error) => return Ok(Some(Err(error))),
    }
    Ok(None)
}

/// The helper's program where none is configured: the one beside this program.
pub(crate) fn beside() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(PROGRAM))
}

/// Starts the helper's program with the first two lanes' connections as its stdin and stdout.
fn start(
    config: &MemberConfig,
    program: Option<&Path>,
    theirs: Option<(UnixStream, UnixStream)>,
) -> Result<Child, OpenError> {
    let failed = |path: &Path, error: io::Error| {
        let path = path.display();
        OpenError::Library(format!(
            "the helper {path} can't be started: {error}; is it installed beside the daemon, or is the key `helper` to be set?"
        ))
    };
    let program = match program {
        Some(program) => program.to_owned(),
        None => beside().map_err(|error| failed(Path::new(PROGRAM), error))?,
    };
    let (serve, make) = theirs.ok_or_else(|| OpenError::Library("it has no lanes".to_owned()))?;
    let mut command = Process::new(&program);
    command
        .args(["--for", &config.name])
        .stdin(Stdio::from(OwnedFd::from(serve)))
        .stdout(Stdio::from(OwnedFd::from(make)));
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    if let PinSource::Env(name) = &config.pin {
        command.env_remove(name);
    }
    command.spawn().map_err(|error| failed(&program, error))
}

/// Connects to a unit's socket: it must be root's, or our own user's.
fn connect(socket: &Path) -> Result<UnixStream, OpenError> {
    let named = |error: io::Error| {
        let socket = socket.display();
        OpenError::Unavailable(format!("the helper's socket {socket}: {error}; does its unit run?"))
    };
    let stream = connect_at_once(socket).map_err(named)?;
    let peer = Peer::of(&stream).map_err(|error| named(error.into()))?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid != 0 && peer.uid != own {
        return Err(OpenError::Library(format!(
            "the helper's socket {}: uid {} listens there; expected root (socket activation) or the daemon's own, {own}",
            socket.display(),
            peer.uid,
        )));
    }
    Ok(stream)
}

/// Never waits: a helper that hangs accepts nobody, and its queue gets full.
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
