//! The helper's side: one member, its module loaded here and nowhere else, and a thread
//! for each of its lanes. It serves one daemon at a time, and only one that may use it.
//! What must not live here: what commands mean, and any second try with a PIN.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::command::Token;
use super::super::login;
use super::super::member::{self, Kind, MAX_LANES, OpenError};
use super::super::probe::ProbeReport;
use super::super::{pin, selftest};
use super::hello::{self, MAX_HELLO, Open, Opened, Said, Subject};
use super::link::{Link, MAX_FRAME};
use super::{SLOW, passing, wire};
use crate::config::{Isolation, MemberConfig};
use crate::edge::{Clock, Worker, Workers};
use crate::identity::Peer;

/// Connections at once: the lanes of a daemon, and of one that waits for it to go.
const MAX_CONNECTIONS: usize = 2 * MAX_LANES;
/// How long somebody may take to say what it wants.
const GREETING: Duration = Duration::from_secs(10);
/// How long a daemon waits for the one before it to go, where its calls may take that long.
const TAKE_OVER: Duration = Duration::from_secs(2);
/// How long a lane may take to leave the library when the process ends.
const LEAVE: Duration = Duration::from_secs(1);
/// Between two looks at calls that may hang.
const LOOK: Duration = Duration::from_millis(500);

/// Why a helper can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The member isn't one that a unit serves.
    #[error(
        "the member {name:?} has isolation = {found:?} in this configuration: only those with \"unit\" are served here"
    )]
    NotAUnit {
        /// Its name.
        name: String,
        /// Its isolation.
        found: &'static str,
    },
    /// A thread or a socket.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves the daemon that started this process: its lanes are the two connections that it
/// gave, the serving one and the one that makes keys, and those that come over the first.
/// Returns when the daemon is gone.
///
/// # Errors
/// No thread, or bytes that no daemon sends.
pub fn inherited(serving: UnixStream, making: UnixStream) -> Result<(), ServeError> {
    let station = Station::new(None)?;
    station.attend_apart("hsm-make", making)?;
    let ended = station.attend(serving);
    if !station.lanes.finished(LEAVE) {
        // A thread inside a vendor's library must not meet that library's exit handlers.
        std::process::abort();
    }
    Ok(ended?)
}

/// Serves the daemons that connect to a unit's socket, one at a time, for ever. They must
/// be of this process's own user, of `peer`, or root.
///
/// # Errors
/// [`ServeError`]; a connection that fails is not one.
pub fn unit(config: MemberConfig, listener: &UnixListener, peer: Option<u32>) -> Result<(), ServeError> {
    if !matches!(config.isolation, Isolation::Unit { .. }) {
        return Err(ServeError::NotAUnit { name: config.name, found: config.isolation.name() });
    }
    let station = Station::new(Some(config))?;
    let open = Arc::new(());
    for stream in listener.incoming() {
        let stream = match stream {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            stream => stream?,
        };
        let uid = Peer::of(&stream).map_err(io::Error::from)?.uid;
        let own = nix::unistd::geteuid().as_raw();
        if uid != 0 && uid != own && Some(uid) != peer {
            tracing::warn!(uid, "a connection was refused: its user may not use this helper");
            continue;
        }
        if Arc::strong_count(&open) > MAX_CONNECTIONS {
            tracing::warn!("a connection was refused: there are {MAX_CONNECTIONS} already");
            continue;
        }
        let (ours, counted) = (Arc::clone(&station), Arc::clone(&open));
        let attend = move || {
            log_end(ours.attend(stream));
            drop(counted);
        };
        let lane = station.lanes.start("hsm-lane", 1)?;
        lane.submit(attend).map_err(|full| io::Error::other(full.to_string()))?;
    }
    Ok(())
}

fn log_end(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "a lane's connection ended badly");
    }
}

/// The member, and who uses it.
struct Station {
    /// A unit's own configuration; a daemon's child is told.
    own: Option<MemberConfig>,
    state: Mutex<State>,
    freed: Condvar,
    /// A thread for each lane but the one whose thread started this.
    lanes: Workers,
    watch: Arc<Watch>,
    _watcher: Worker,
}

#[derive(Default)]
struct State {
    base: Option<Base>,
    /// A PIN was refused: nobody tries one again here.
    latched: Option<OpenError>,
    taken: [bool; MAX_LANES],
}

/// The opened module: as long as a lane uses it. Opened anew it is initialised anew, which
/// is what a token that was away needs.
struct Base {
    login: login::Opened,
    report: ProbeReport,
}

/// A lane's place, until dropped.
struct Place<'a>(&'a Station, Kind);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.taken[usize::from(self.1.index())] = false;
        if state.taken == [false; MAX_LANES] {
            state.base = None;
        }
        drop(state);
        self.0.watch.done(self.1);
        self.0.freed.notify_all();
    }
}

impl Station {
    fn new(own: Option<MemberConfig>) -> io::Result<Arc<Self>> {
        let watch = Arc::new(Watch::new());
        let worker = Workers::threads().start("hsm-watch", 1)?;
        let watched = Arc::clone(&watch);
        worker.submit(move || watched.run()).map_err(|full| io::Error::other(full.to_string()))?;
        let (state, freed, lanes) = (Mutex::default(), Condvar::new(), Workers::threads());
        Ok(Arc::new(Self { own, state, freed, lanes, watch, _watcher: worker }))
    }

    /// As [`Station::attend`], on a thread of its own.
    fn attend_apart(self: &Arc<Self>, name: &str, stream: UnixStream) -> io::Result<()> {
        let station = Arc::clone(self);
        let lane = self.lanes.start(name, 1)?;
        let queued = lane.submit(move || log_end(station.attend(stream)));
        queued.map_err(|full| io::Error::other(full.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A daemon's connection from its first frame to its end.
    fn attend(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let mut link = Link::new(stream);
        link.set_limit(Some(GREETING))?;
        let Some(frame) = link.read(MAX_HELLO)? else { return Ok(()) };
        link.set_limit(None)?;
        let open = match Open::read(&frame)? {
            Ok(open) => open,
            Err(error) => return link.write(&Said::NotOpened(error).frame()?),
        };
        let lane = open.lane()?;
        // Dropped last: the lane is free when its session is closed.
        let _place;
        let opened = match self.take(lane, TAKE_OVER.min(open.call_timeout)) {
            Ok(place) => {
                _place = place;
                self.open(&open, lane, &mut link)
            }
            Err(error) => Err(error),
        };
        self.watch.done(lane);
        let (mut token, opened) = match opened {
            Ok(opened) => opened,
            Err(error) => return link.write(&Said::NotOpened(error).frame()?),
        };
        link.write(&Said::Opened(opened).frame()?)?;
        if lane == Kind::Serve && self.own.is_none() {
            let connections = passing::receive(&link.handle()?, open.asymmetric()?)?;
            for (number, connection) in connections.into_iter().enumerate() {
                self.attend_apart(&format!("hsm-pair-{number}"), connection)?;
            }
        }
        let limit = limit(&open, lane);
        while let Some(frame) = link.read(MAX_FRAME)? {
            let command = wire::to_command(&frame).map_err(io::Error::other)?;
            drop(frame);
            self.watch.begin(lane, limit);
            let outcome = token.execute(&command);
            self.watch.done(lane);
            link.write(&wire::outcome(&outcome)?)?;
        }
        Ok(())
    }

    /// One daemon at a time; one that was just restarted waits a little for itself.
    fn take(&self, lane: Kind, within: Duration) -> Result<Place<'_>, OpenError> {
        let others = |state: &mut State| match lane {
            Kind::Serve => state.taken != [false; MAX_LANES],
            Kind::Make | Kind::Asymmetric(_) => state.taken[usize::from(lane.index())],
        };
        let (mut state, _) = self
            .freed
            .wait_timeout_while(self.lock(), within, others)
            .unwrap_or_else(PoisonError::into_inner);
        if others(&mut state) {
            return Err(OpenError::Unavailable("another daemon uses the helper".to_owned()));
        }
        state.taken[usize::from(lane.index())] = true;
        Ok(Place(self, lane))
    }

    fn open(&self, open: &Open, lane: Kind, link: &mut Link) -> Result<(Box<dyn Token>, Opened), OpenError> {
        if let Some(own) = &self.own
            && (own.name != open.name || Subject::of(own) != open.subject)
        {
            return Err(OpenError::Profile(format!(
                "the helper's unit serves {:?} by another configuration than the daemon's: restart both",
                own.name
            )));
        }
        let mut state = self.lock();
        if let Some(latched) = &state.latched {
            return Err(latched.clone());
        }
        if state.base.is_none() {
            if lane != Kind::Serve {
                return Err(OpenError::Unavailable("the serving lane is opened first".to_owned()));
            }
            let base = self.log_in(open, link);
            if let Err(error) = &base
                && error.latches()
            {
                state.latched = Some(error.clone());
            }
            state.base = Some(base?);
        }
        self.watch.begin(lane, limit(open, Kind::Make));
        let Some(base) = &state.base else {
            return Err(OpenError::Unavailable("it was closed again".to_owned()));
        };
        let root = open.root();
        let tested = (&open.subject.profile, &base.report);
        let (token, rooted) = member::token(&base.login, tested, root.as_ref(), open.epoch, lane)?;
        Ok((token, Opened { report: base.report.clone(), rooted }))
    }

    /// The one login, and the self-tests after it.
    fn log_in(&self, open: &Open, link: &mut Link) -> Result<Base, OpenError> {
        let Subject { profile, source } = &open.subject;
        let slow = limit(open, Kind::Make);
        self.watch.begin(Kind::Serve, slow);
        let login = login::open_with(profile, source, || {
            // Reading it may take as long as a person takes.
            self.watch.done(Kind::Serve);
            let pin = match &self.own {
                None => hello::ask_for_pin(link),
                Some(own) => pin::read(&own.pin).and_then(|pin| {
                    let told = Said::Trying.frame().and_then(|frame| link.write(&frame));
                    told.map(|()| pin).map_err(|error| format!("the daemon has gone: {error}"))
                }),
            };
            self.watch.begin(Kind::Serve, slow);
            pin
        })?;
        let told = Said::LoggedIn.frame().and_then(|frame| link.write(&frame));
        told.map_err(|error| OpenError::Unavailable(format!("the daemon has gone: {error}")))?;
        let report = selftest::run(&login, profile);
        Ok(Base { login, report })
    }
}

/// When a call hangs for sure: the daemon gave it up long before.
fn limit(open: &Open, lane: Kind) -> Duration {
    open.call_timeout.saturating_mul(match lane {
        Kind::Serve | Kind::Asymmetric(_) => 2,
        Kind::Make => 2 * SLOW,
    })
}

/// Ends a process whose library hangs: nothing else frees a call, and a unit's helper is
/// started again by systemd.
struct Watch {
    clock: Clock,
    /// Until when each lane's call may take.
    until: Mutex<[Option<Duration>; MAX_LANES]>,
    never: Condvar,
}

impl Watch {
    fn new() -> Self {
        Self { clock: Clock::system(), until: Mutex::default(), never: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Duration>; MAX_LANES]> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, lane: Kind, limit: Duration) {
        self.lock()[usize::from(lane.index())] = Some(self.clock.elapsed().saturating_add(limit));
    }

    fn done(&self, lane: Kind) {
        self.lock()[usize::from(lane.index())] = None;
    }

    fn run(&self) {
        let mut until = self.lock();
        loop {
            let now = self.clock.elapsed();
            if until.iter().flatten().any(|until| *until < now) {
                tracing::error!("a call of the PKCS#11 module hangs: the helper ends itself");
                std::process::abort();
            }
            until = self.never.wait_timeout(until, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    /// Tells the inner run of the test that it is it.
    const INNER: &str = "CLAVIGER_TEST_HANG";

    #[test]
    fn a_call_that_hangs_ends_the_process_and_one_that_ended_does_not() {
        let watch = Watch::new();
        if std::env::var_os(INNER).is_some() {
            watch.begin(Kind::Make, Duration::from_hours(1));
            watch.begin(Kind::Serve, Duration::ZERO);
            watch.done(Kind::Serve);
            // Would end it at once, were the ended call still counted.
            assert!(watch.lock().iter().flatten().all(|until| *until > watch.clock.elapsed()));
            watch.begin(Kind::Make, Duration::ZERO);
            watch.run();
        }
        let name =
            concat!(module_path!(), "::a_call_that_hangs_ends_the_process_and_one_that_ended_does_not");
        let name = name.split_once("::").map_or(name, |(_crate, name)| name);
        let mut inner = Command::new(std::env::current_exe().unwrap());
        inner.args(["--exact", name]).env(INNER, "1").stdout(Stdio::null()).stderr(Stdio::null());
        let ended = inner.status().unwrap();
        assert_eq!(ended.signal(), Some(nix::libc::SIGABRT), "{ended}");
    }

    #[test]
    fn only_members_of_a_unit_are_served_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let config = crate::config::Config::dev(dir.path()).unwrap().hsm.remove(0);
        let refused = unit(config, &listener, None).unwrap_err().to_string();
        assert!(refused.contains("\"embedded\"") && refused.contains("\"thread\""), "{refused}");
    }
}
