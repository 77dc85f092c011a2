//! A member of the pool: one token, opened, tested, and ready behind its lanes.
//! What must not live here: when to open it again, and what it is used for.

use std::sync::{Arc, Mutex};

use claviger_hsm_profiles::{Derivation, Profile};

use super::command::{HsmError, Template, Token};
use super::helper::{self, Tether};
use super::lane::Lane;
use super::login::{self, Opened, Owners};
use super::pkcs11::Pkcs11Token;
use super::probe::ProbeReport;
use super::roots::{RootId, Roots};
use super::selftest;
use crate::config::{Isolation, Limits, MemberConfig};
use crate::edge::Workers;

/// Why a member can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The PKCS#11 library can't be loaded or initialised.
    #[error("the PKCS#11 library: {0}")]
    Library(String),
    /// The library has no such token, or several.
    #[error("the library has {0}")]
    NoToken(String),
    /// The token has no user yet.
    #[error("{0} is not initialised")]
    NotInitialised(String),
    /// The token isn't of the profile's kind.
    #[error("{0}")]
    Profile(String),
    /// The PIN can't be read.
    #[error("no PIN: {0}")]
    NoPin(String),
    /// The PIN is wrong. Nobody may try again before an operator has looked.
    #[error("the PIN was refused; it was tried once")]
    PinRefused,
    /// One more wrong PIN locks the token, or it is locked: the PIN isn't tried.
    #[error("the token has one try or none left for its PIN; log in with another tool to reset that")]
    PinFinalTry,
    /// The login failed in a way that may have cost a try.
    #[error("the login failed: {0}")]
    Login(String),
    /// The root in the token isn't as Claviger makes it.
    #[error("the root: {0}")]
    Root(String),
    /// The token isn't there, or failing; trying again later may help.
    #[error("the HSM is unavailable: {0}")]
    Unavailable(String),
}

impl OpenError {
    pub(super) fn from_hsm(error: HsmError) -> Self {
        match error {
            HsmError::PinRefused => Self::PinRefused,
            HsmError::Unavailable(text) => Self::Unavailable(text),
            other => Self::Unavailable(other.to_string()),
        }
    }

    /// Whether the member must stay off until an operator has acted: no retry may
    /// spend another try of the PIN.
    #[must_use]
    pub const fn latches(&self) -> bool {
        matches!(self, Self::PinRefused | Self::PinFinalTry | Self::Login(_))
    }
}

/// An opened member.
pub struct Member {
    /// Its name in the configuration.
    pub name: String,
    /// Its profile's name.
    pub profile: String,
    /// Which opening of the member this is; in every [`ObjectId`](super::command::ObjectId).
    pub epoch: u64,
    /// Whether it is hardware.
    pub hardware: bool,
    /// What its AES keys are: decides their suite.
    pub aes_template: Template,
    /// The lane for requests.
    pub serve: Arc<Lane>,
    /// The lane for making keys. Its session objects are not the serving lane's.
    pub make: Arc<Lane>,
    /// The lanes for private keys that take long, at least one, so that they hold nothing
    /// else up. Each has a session of the serving slot, and objects of its own.
    pub asymmetric: Vec<Arc<Lane>>,
    /// What the token can do, as tested when it was opened.
    pub report: ProbeReport,
    /// The root that all lanes use; `None` where the token doesn't hold it.
    pub root: Option<RootId>,
    /// What keeps the tokens logged in.
    _owners: Option<Mutex<Owners>>,
    /// What ties it to its helper, where its module runs in one.
    tether: Option<Tether>,
}

impl Member {
    /// What ties it to its helper; none where its token runs in this process, and can't be
    /// opened again in it.
    #[must_use]
    pub fn tether(&self) -> Option<&Tether> {
        self.tether.as_ref()
    }

    /// The lane for private keys that has the least to do.
    #[must_use]
    pub fn pair_lane(&self) -> &Arc<Lane> {
        self.asymmetric.iter().min_by_key(|lane| lane.waiting()).unwrap_or(&self.serve)
    }

    /// A member whose token is a helper's.
    pub(super) fn of_helper(
        config: &MemberConfig,
        epoch: u64,
        lanes: Lanes,
        report: ProbeReport,
        root: Option<RootId>,
        tether: Tether,
    ) -> Self {
        Self {
            name: config.name.clone(),
            profile: config.profile.name.clone(),
            epoch,
            hardware: config.profile.hardware,
            aes_template: aes_template(&config.profile),
            serve: lanes.serve,
            make: lanes.make,
            asymmetric: lanes.asymmetric,
            report,
            root,
            _owners: None,
            tether: Some(tether),
        }
    }

    /// A member of a simulation: two lanes of any make, the first for pairs too.
    #[must_use]
    pub fn simulated(
        name: &str,
        epoch: u64,
        aes_template: Template,
        serve: Arc<Lane>,
        make: Arc<Lane>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            profile: "simulated".to_owned(),
            epoch,
            hardware: false,
            aes_template,
            asymmetric: vec![Arc::clone(&serve)],
            serve,
            make,
            report: ProbeReport::simulated(),
            root: None,
            _owners: None,
            tether: None,
        }
    }
}

/// Opens a member: library, token, profile, one login, self-tests, roots, lanes.
/// Blocks; the caller gives a new `epoch` each time. `root` names the domain's root;
/// without one, or where the token lacks it, the member opens and everything that
/// needs a root answers [`HsmError::NoSuchRoot`].
///
/// # Errors
/// See [`OpenError`]; after one that [latches](OpenError::latches) it must not be
/// called again by itself.
pub fn open(
    config: &MemberConfig,
    root: Option<&RootId>,
    workers: &Workers,
    limits: &Limits,
    epoch: u64,
) -> Result<Member, OpenError> {
    if config.isolation != Isolation::Thread {
        return helper::open(config, root, workers, limits, epoch);
    }
    let opened = login::open(config)?;
    let report = selftest::run(&opened, &config.profile);
    let mut rooted = true;
    let lanes = Lanes::start(config.profile.in_place, workers, limits, |kind| {
        let (token, found) = token(&opened, (&config.profile, &report), root, epoch, kind)?;
        rooted &= found;
        Ok(token)
    })?;
    Ok(Member {
        name: config.name.clone(),
        profile: config.profile.name.clone(),
        epoch,
        hardware: config.profile.hardware,
        aes_template: aes_template(&config.profile),
        serve: lanes.serve,
        make: lanes.make,
        asymmetric: lanes.asymmetric,
        report,
        root: root.filter(|_| rooted).copied(),
        _owners: Some(Mutex::new(opened.into_owners())),
        tether: None,
    })
}

/// What AES keys are on a token of this profile.
pub(super) fn aes_template(profile: &Profile) -> Template {
    match profile.derivation {
        Derivation::CbcEncryptData => Template::AesDeriveOnly,
        Derivation::None => Template::AesDirect,
    }
}

/// Which of a member's lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests.
    Serve,
    /// Making keys.
    Make,
    /// Private keys: from 0, below [`MAX_ASYMMETRIC`].
    Asymmetric(u8),
}

/// Most lanes for private keys: more threads than cores make none faster.
pub(super) const MAX_ASYMMETRIC: u8 = 4;
/// Most lanes of all.
pub(super) const MAX_LANES: usize = 2 + MAX_ASYMMETRIC as usize;

impl Kind {
    /// How many lanes for private keys there are: one for each core.
    pub(super) fn asymmetric(workers: &Workers) -> impl Iterator<Item = Self> + use<> {
        let cores = u8::try_from(workers.cores()).unwrap_or(MAX_ASYMMETRIC);
        (0..cores.clamp(1, MAX_ASYMMETRIC)).map(Self::Asymmetric)
    }

    /// Its place among a member's lanes, below [`MAX_LANES`].
    pub(super) const fn index(self) -> u8 {
        match self {
            Self::Serve => 0,
            Self::Make => 1,
            Self::Asymmetric(number) => 2 + number,
        }
    }

    /// The lane of a place.
    pub(super) const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Serve),
            1 => Some(Self::Make),
            2.. if index < MAX_LANES as u8 => Some(Self::Asymmetric(index - 2)),
            _ => None,
        }
    }
}

/// A member's lanes.
pub(super) struct Lanes {
    pub(super) serve: Arc<Lane>,
    pub(super) make: Arc<Lane>,
    pub(super) asymmetric: Vec<Arc<Lane>>,
}

impl Lanes {
    /// Starts them with the tokens that `token` gives. Where `in_place`, serving and making
    /// may be called on any thread; private keys never, for they take too long.
    pub(super) fn start(
        in_place: bool,
        workers: &Workers,
        limits: &Limits,
        mut token: impl FnMut(Kind) -> Result<Box<dyn Token>, OpenError>,
    ) -> Result<Self, OpenError> {
        let mut start = |kind| {
            let (name, in_place) = match kind {
                Kind::Serve => ("hsm-serve".to_owned(), in_place),
                Kind::Make => ("hsm-make".to_owned(), in_place),
                Kind::Asymmetric(number) => (format!("hsm-pair-{number}"), false),
            };
            let token = token(kind)?;
            let worker = workers
                .start(&name, limits.lane_queue)
                .map_err(|e| OpenError::Unavailable(format!("no thread for a lane: {e}")))?;
            Ok(if in_place { Lane::new(token, worker) } else { Lane::queued(token, worker) })
        };
        Ok(Self {
            serve: start(Kind::Serve)?,
            make: start(Kind::Make)?,
            asymmetric: Kind::asymmetric(workers).map(start).collect::<Result<_, _>>()?,
        })
    }

    /// All of them, in the order of [`Kind::index`].
    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Lane>> {
        [&self.serve, &self.make].into_iter().chain(&self.asymmetric)
    }
}

/// A lane's session of a token, and whether it holds the root.
pub(super) fn token(
    opened: &Opened,
    (profile, report): (&Profile, &ProbeReport),
    root: Option<&RootId>,
    epoch: u64,
    kind: Kind,
) -> Result<(Box<dyn Token>, bool), OpenError> {
    let token = if kind == Kind::Make { opened.make() } else { opened.serve() };
    let session = opened.session(token)?;
    let roots = match root {
        Some(root) => Roots::find(&session, root).map_err(root_error)?,
        None => Roots::default(),
    };
    let rooted = roots.current().is_ok();
    let library = Arc::clone(&opened.library);
    let token = Pkcs11Token::new(session, library, (profile, report), roots, epoch, kind.index());
    Ok((Box::new(token.map_err(OpenError::from_hsm)?), rooted))
}

fn root_error(error: HsmError) -> OpenError {
    match error {
        HsmError::Fault(text) => OpenError::Root(text),
        other => OpenError::from_hsm(other),
    }
}
