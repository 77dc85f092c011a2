//! A lane of a helper as the daemon uses it: a [`Token`] that sends each command over its
//! own connection. What a helper says is a stranger's word: too long, of the wrong kind,
//! of another epoch, or too late, and the helper is given up. What must not live here:
//! how a helper is started, and when to start another.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::super::command::{Answer, Command, HsmError, ObjectId, Token};
use super::link::{Link, Received};
use super::wire;

/// What an answer may be longer than its command: a header, a tag, the random bytes that
/// were asked for, a wrapped key, or the text of an error.
const ROOM: usize = 8 * 1024;
/// How long a helper has to close its sessions when it is no longer wanted.
const FAREWELL: Duration = Duration::from_secs(2);

/// One opening of a helper, shared by its lanes.
pub(super) struct Helper {
    /// The member's name, for the log.
    name: String,
    /// Its process, where it is ours; a unit's is systemd's.
    process: Mutex<Option<Child>>,
    /// To cut its lanes' connections off with.
    streams: Vec<UnixStream>,
    lost: OnceLock<String>,
    trouble: Arc<Notify>,
}

impl Helper {
    pub(super) fn new(
        name: &str,
        process: Option<Child>,
        streams: Vec<UnixStream>,
        trouble: Arc<Notify>,
    ) -> Arc<Self> {
        let (name, process) = (name.to_owned(), Mutex::new(process));
        Arc::new(Self { name, process, streams, lost: OnceLock::new(), trouble })
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the helper up: every lane fails from now on, at once. Its process is killed:
    /// one that hangs inside a library ends in no other way.
    pub(super) fn lose(&self, why: &str) -> HsmError {
        if self.lost.set(why.to_owned()).is_ok() {
            tracing::error!(hsm = %self.name, reason = %why, "the HSM's helper is given up");
            if let Some(child) = self.process().as_mut() {
                let _ = child.kill();
            }
            self.cut_off();
        }
        self.trouble.notify_one();
        self.why_lost()
    }

    fn why_lost(&self) -> HsmError {
        HsmError::Unavailable(self.lost.get().cloned().unwrap_or_default())
    }

    fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Something is wrong with the token; somebody should look.
    fn suspect(&self) {
        self.trouble.notify_one();
    }

    fn cut_off(&self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits for the process that was killed, so that nothing is left of it. Blocks.
    pub(super) fn reap(&self) {
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets a helper that is no longer wanted close its sessions, for a while. It keeps its
    /// connections until they are closed, so the end of one says so.
    fn farewell(&self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let ours = self.process().is_some();
        for stream in self.streams.iter().filter(|_| ours && !self.is_lost()) {
            let _ = stream.set_read_timeout(Some(FAREWELL));
            let _ = io::Read::read(&mut &*stream, &mut [0]);
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.farewell();
        self.cut_off();
        self.reap();
    }
}

/// A lane of a helper.
pub(super) struct HelperToken {
    link: Link,
    helper: Arc<Helper>,
    epoch: u64,
}

impl HelperToken {
    /// A lane that was opened; no call takes longer than `limit`.
    pub(super) fn new(mut link: Link, helper: Arc<Helper>, epoch: u64, limit: Duration) -> io::Result<Self> {
        link.set_limit(Some(limit))?;
        Ok(Self { link, helper, epoch })
    }

    fn exchange(&mut self, command: &Command) -> Result<Result<Answer, HsmError>, String> {
        let frame = wire::command(command).map_err(|error| error.to_string())?;
        let most = frame.len() + ROOM;
        self.link.write(&frame).map_err(|error| failed(&error))?;
        let answer = match self.link.read(most) {
            Ok(Some(_)) if self.link.is_ahead() => return Err("it said more than was asked".to_owned()),
            Ok(Some(answer)) => answer,
            Ok(None) => return Err("it ended in the middle of a call".to_owned()),
            Err(error) => return Err(failed(&error)),
        };
        self.believe(command, &answer)
    }

    /// An answer that can be one to this command, or why it can't.
    fn believe(&self, command: &Command, answer: &Received) -> Result<Result<Answer, HsmError>, String> {
        let outcome =
            wire::to_outcome(answer).map_err(|error| format!("its answer can't be read: {error}"))?;
        let fits = match (&outcome, command) {
            (Ok(Answer::Bytes(bytes)), Command::Random { len }) => bytes.len() == usize::from(*len),
            (Ok(Answer::Bytes(bytes)), Command::GcmSeal { plaintext, .. }) => {
                bytes.len() == plaintext.len() + TAG
            }
            (Ok(Answer::Bytes(bytes)), Command::GcmOpen { sealed, .. }) => bytes.len() + TAG == sealed.len(),
            (Ok(Answer::Bytes(bytes)), Command::RootSeal { plaintext, .. }) => {
                bytes.len() == NONCE + plaintext.len() + TAG
            }
            (Ok(Answer::Bytes(bytes)), Command::RootOpen { sealed, .. }) => {
                bytes.len() + NONCE + TAG == sealed.len()
            }
            (Ok(Answer::Bytes(bytes)), Command::Sign { .. }) => (1..=MAX_SIGNATURE).contains(&bytes.len()),
            (Ok(Answer::Bytes(bytes)), Command::PrivateDecrypt { ciphertext, .. }) => {
                bytes.len() <= ciphertext.len()
            }
            (Ok(Answer::Bytes(bytes)), Command::Mac { algorithm, .. }) => {
                bytes.len() == algorithm.digest().len()
            }
            (
                Ok(Answer::Object(object)),
                Command::Unwrap { .. } | Command::UnwrapPair { .. } | Command::Derive { .. },
            ) => object.epoch == self.epoch,
            (Ok(Answer::Bytes(bytes)), Command::OpenBlock { block, .. }) => bytes.len() <= block.len(),
            (Ok(Answer::Generated { .. }), Command::Generate { spec, .. })
            | (Ok(Answer::Imported { .. }), Command::Import { spec, .. } | Command::Adopt { spec, .. }) => {
                spec.pair().is_none()
            }
            (
                Ok(Answer::GeneratedPair { .. }),
                Command::Generate { spec, .. } | Command::Import { spec, .. } | Command::Adopt { spec, .. },
            ) => spec.pair().is_some(),
            (Ok(Answer::NotInside), Command::Import { .. }) => true,
            (Ok(Answer::Done), Command::Destroy { .. } | Command::Canary) | (Err(_), _) => true,
            (Ok(_), _) => false,
        };
        if fits { Ok(outcome) } else { Err("its answer is of another kind than its command".to_owned()) }
    }
}

const NONCE: usize = 12;
const TAG: usize = 16;
/// Bytes of the longest signature: RSA-4096's.
const MAX_SIGNATURE: usize = 512;

fn failed(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "a call took longer than its call_timeout".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "it ended in the middle of a call".to_owned()
        }
        _ => format!("its connection failed: {error}"),
    }
}

/// The object that a command is about.
fn object(command: &Command) -> Option<ObjectId> {
    match command {
        Command::Derive { object, .. }
        | Command::GcmSeal { object, .. }
        | Command::GcmOpen { object, .. }
        | Command::Sign { object, .. }
        | Command::PrivateDecrypt { object, .. }
        | Command::Mac { object, .. }
        | Command::Destroy { object } => Some(*object),
        Command::Random { .. }
        | Command::Generate { .. }
        | Command::Unwrap { .. }
        | Command::UnwrapPair { .. }
        | Command::Import { .. }
        | Command::OpenBlock { .. }
        | Command::Adopt { .. }
        | Command::RootSeal { .. }
        | Command::RootOpen { .. }
        | Command::Canary => None,
    }
}

impl Token for HelperToken {
    fn execute(&mut self, command: &Command) -> Result<Answer, HsmError> {
        // What died with a former helper needs no way to this one, and keeps what it
        // means even while there is none.
        if object(command).is_some_and(|object| object.epoch != self.epoch) {
            let destroyed = matches!(command, Command::Destroy { .. });
            return if destroyed { Ok(Answer::Done) } else { Err(HsmError::ObjectGone) };
        }
        if self.helper.is_lost() {
            let destroyed = matches!(command, Command::Destroy { .. });
            return if destroyed { Ok(Answer::Done) } else { Err(self.helper.why_lost()) };
        }
        match self.exchange(command) {
            Ok(outcome) => {
                if matches!(outcome, Err(HsmError::Unavailable(_) | HsmError::PinRefused)) {
                    self.helper.suspect();
                }
                outcome
            }
            Err(why) => Err(self.helper.lose(&why)),
        }
    }
}
