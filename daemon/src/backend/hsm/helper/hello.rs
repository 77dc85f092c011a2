//! How a lane of a helper is opened: what the daemon says, what the helper asks for, and
//! what it answers. What must not live here: sockets and processes, and what a login is.
//!
//! ```text
//! daemon                                   helper
//!   OPEN lane, epoch, root, member  ─────►   loads the module, finds the token
//!                 ◄───── NEED_PIN, or TRYING   only when nothing else can be wrong;
//!   PIN, or NO_PIN and why          ─────►    TRYING where the helper has its own PIN
//!                           ◄───── LOGGED_IN
//!                ◄───── OPENED or NOT_OPENED   after the self-tests
//!   connections of the lanes
//!   for private keys        ─────►   after the serving lane's, to a process of ours
//!   command                         ─────►
//!                            ◄───── outcome   … until the connection is closed
//! ```
//! A helper that ends between NEED_PIN or TRYING and LOGGED_IN may have spent a try of the
//! PIN: the daemon then doesn't let another one try.

use std::io::{self, ErrorKind};
use std::time::Duration;

use claviger_hsm_profiles::Profile;
use claviger_protocol::SecretBytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::super::RootId;
use super::super::member::{Kind, MAX_ASYMMETRIC, OpenError};
use super::super::probe::ProbeReport;
use super::link::{Frame, Link, Received};
use super::wire::{body, plain};
use crate::config::{MemberConfig, TokenSource};

/// Changes whenever a frame changes; version and number must both fit.
const PROTOCOL: u16 = 2;
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Largest frame of this conversation: a profile, or a report, and far more.
pub(super) const MAX_HELLO: usize = 256 * 1024;

/// Tags of what the daemon says.
mod ask {
    pub(super) const OPEN: u8 = 64;
    pub(super) const PIN: u8 = 65;
    pub(super) const NO_PIN: u8 = 66;
}

/// Tags of what the helper says.
mod say {
    pub(super) const NEED_PIN: u8 = 64;
    pub(super) const OPENED: u8 = 65;
    pub(super) const NOT_OPENED: u8 = 66;
    pub(super) const TRYING: u8 = 67;
    pub(super) const LOGGED_IN: u8 = 68;
}

/// What a member is: both sides must mean the same token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) profile: Profile,
    pub(super) source: TokenSource,
}

impl Subject {
    pub(super) fn of(config: &MemberConfig) -> Self {
        Self { profile: config.profile.clone(), source: config.source.clone() }
    }
}

/// What the daemon says first, as JSON: another version can be told apart.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    protocol: u16,
    version: String,
    #[serde(default)]
    open: serde_json::Value,
}

/// What the daemon wants opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Its place among the lanes; it is the serving one that is opened first, and logs in.
    lane: u8,
    /// How many lanes for private keys follow the serving one's opening.
    asymmetric: u8,
    pub(super) epoch: u64,
    root: Option<(Uuid, u32)>,
    pub(super) name: String,
    pub(super) subject: Subject,
    /// How long a call may take before the daemon gives the helper up.
    pub(super) call_timeout: Duration,
}

impl Open {
    pub(super) fn new(
        config: &MemberConfig,
        (lane, asymmetric): (Kind, u8),
        epoch: u64,
        root: Option<&RootId>,
    ) -> Self {
        Self {
            lane: lane.index(),
            asymmetric,
            epoch,
            root: root.map(|root| (root.domain, root.generation)),
            name: config.name.clone(),
            subject: Subject::of(config),
            call_timeout: config.call_timeout,
        }
    }

    pub(super) fn lane(&self) -> io::Result<Kind> {
        Kind::from_index(self.lane).ok_or_else(|| invalid("an unknown lane"))
    }

    pub(super) fn asymmetric(&self) -> io::Result<u8> {
        let fits = Some(self.asymmetric).filter(|count| *count <= MAX_ASYMMETRIC);
        fits.ok_or_else(|| invalid("too many lanes"))
    }

    pub(super) fn root(&self) -> Option<RootId> {
        self.root.map(|(domain, generation)| RootId { domain, generation })
    }

    pub(super) fn frame(&self) -> io::Result<Frame> {
        let greeting =
            Greeting { protocol: PROTOCOL, version: VERSION.to_owned(), open: serde_json::to_value(self)? };
        Frame::new(ask::OPEN, &serde_json::to_string(&greeting)?)
    }

    /// Reads what a daemon wants; the inner refusal is for it to know.
    pub(super) fn read(frame: &Received) -> io::Result<Result<Self, OpenError>> {
        if frame.tag() != ask::OPEN {
            return Err(invalid("the first frame is no opening"));
        }
        let greeting: Greeting = json(frame)?;
        if (greeting.protocol, greeting.version.as_str()) != (PROTOCOL, VERSION) {
            let found = format!(
                "the helper is version {VERSION} and the daemon {}: restart both, so that they are of one installation",
                plain(&greeting.version)
            );
            return Ok(Err(OpenError::Library(found)));
        }
        Ok(Ok(serde_json::from_value(greeting.open)?))
    }
}

/// What a helper's lane can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// What the token can do, as tested.
    pub(super) report: ProbeReport,
    /// Whether the lane's session sees the root.
    pub(super) rooted: bool,
}

/// What a helper says while a lane is opened.
pub(super) enum Said {
    NeedPin,
    Trying,
    LoggedIn,
    Opened(Opened),
    NotOpened(OpenError),
}

impl Said {
    pub(super) fn frame(&self) -> io::Result<Frame> {
        match self {
            Self::NeedPin => Frame::new(say::NEED_PIN, &()),
            Self::Trying => Frame::new(say::TRYING, &()),
            Self::LoggedIn => Frame::new(say::LOGGED_IN, &()),
            Self::Opened(opened) => Frame::new(say::OPENED, &serde_json::to_string(opened)?),
            Self::NotOpened(error) => {
                let (number, text) = spell(error);
                Frame::new(say::NOT_OPENED, &(number, plain(&text)))
            }
        }
    }

    pub(super) fn read(frame: &Received) -> io::Result<Self> {
        match frame.tag() {
            say::NEED_PIN => body::<()>(frame).map(|()| Self::NeedPin),
            say::TRYING => body::<()>(frame).map(|()| Self::Trying),
            say::LOGGED_IN => body::<()>(frame).map(|()| Self::LoggedIn),
            say::OPENED => json(frame).map(Self::Opened),
            say::NOT_OPENED => {
                let (number, text): (u8, String) = body(frame)?;
                let error = parse(number, plain(&text)).ok_or_else(|| invalid("an unknown refusal"))?;
                Ok(Self::NotOpened(error))
            }
            _ => Err(invalid("an unknown word while a lane was opened")),
        }
    }
}

/// The daemon's answer to [`Said::NeedPin`].
pub(super) fn pin_frame(pin: &Result<Zeroizing<String>, String>) -> io::Result<Frame> {
    match pin {
        Ok(pin) => Frame::new(ask::PIN, pin.as_str()),
        Err(why) => Frame::new(ask::NO_PIN, &plain(why)),
    }
}

/// Asks the daemon for the PIN.
pub(super) fn ask_for_pin(link: &mut Link) -> Result<Zeroizing<String>, String> {
    let gone = |error: io::Error| format!("the daemon did not send it: {error}");
    link.write(&Said::NeedPin.frame().map_err(gone)?).map_err(gone)?;
    let answer = link.read(MAX_HELLO).map_err(gone)?.ok_or("the daemon has gone")?;
    match answer.tag() {
        ask::PIN => {
            let bytes: SecretBytes = body(&answer).map_err(gone)?;
            let text = std::str::from_utf8(bytes.expose()).map_err(|_| "the PIN is not UTF-8")?;
            Ok(Zeroizing::new(text.to_owned()))
        }
        ask::NO_PIN => Err(plain(&body::<String>(&answer).map_err(gone)?)),
        _ => Err("the daemon sent something else".to_owned()),
    }
}

fn json<T: DeserializeOwned>(frame: &Received) -> io::Result<T> {
    Ok(serde_json::from_str(&body::<String>(frame)?)?)
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

/// The number of a refusal, and what its text is made of.
fn spell(error: &OpenError) -> (u8, String) {
    match error {
        OpenError::Library(text) => (1, text.clone()),
        OpenError::NoToken(text) => (2, text.clone()),
        OpenError::NotInitialised(text) => (3, text.clone()),
        OpenError::Profile(text) => (4, text.clone()),
        OpenError::NoPin(text) => (5, text.clone()),
        OpenError::PinRefused => (6, String::new()),
        OpenError::PinFinalTry => (7, String::new()),
        OpenError::Login(text) => (8, text.clone()),
        OpenError::Root(text) => (9, text.clone()),
        OpenError::Unavailable(text) => (10, text.clone()),
    }
}

fn parse(number: u8, text: String) -> Option<OpenError> {
    Some(match number {
        1 => OpenError::Library(text),
        2 => OpenError::NoToken(text),
        3 => OpenError::NotInitialised(text),
        4 => OpenError::Profile(text),
        5 => OpenError::NoPin(text),
        6 => OpenError::PinRefused,
        7 => OpenError::PinFinalTry,
        8 => OpenError::Login(text),
        9 => OpenError::Root(text),
        10 => OpenError::Unavailable(text),
        _ => return None,
    })
}
