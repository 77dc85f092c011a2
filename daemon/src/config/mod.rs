//! Configuration: TOML, turned once into the checked types of this file. Unknown
//! keys are refused; every limit has a name, a default and a line in
//! `systemd/claviger.toml.example`. Nothing here opens what the configuration names
//! (sockets, modules, PINs); only profiles given by path are read.

mod check;
mod limits;
mod observe;
mod raw;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_hsm_profiles::Profile;
use claviger_protocol::ServiceName;
use claviger_protocol::limits::MAX_DELETION_DAYS;
use serde::{Deserialize, Serialize};

use raw::Report;

pub(crate) use limits::BODY_ROOM;
pub use observe::{LogConfig, LogFormat, MetricsListen, is_level};

/// The admin endpoint's name, which no other endpoint can have.
pub const ADMIN: &str = "admin";
/// The profile of the token linked into the daemon.
pub const EMBEDDED: &str = "embedded";
/// Where in the state directory the embedded token is.
const EMBEDDED_DIR: &str = "token";
/// Longest path of a Unix socket, in bytes: `sun_path` less its NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// How long a call to a helper may take, unless the configuration says otherwise.
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest configuration file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Why there is no configuration. Its text is for people: one line a problem.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{file}: {error}; give a TOML file that this user can read")]
    Read {
        /// The file as it was named.
        file: String,
        /// What the system said.
        error: io::Error,
    },
    /// What it says is wrong: every problem found, in the order of the file.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1; none for what is missing as a whole.
    pub line: Option<usize>,
    /// The key's path, such as `hsm[0].pin.file`; empty where the text isn't TOML.
    pub key: String,
    /// What is there. Never what may be a PIN.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " found {}, expected {}", self.found, self.expected)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// What a daemon runs on, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where store, audit log, domain file and embedded token live; mode 0700.
    pub state_dir: PathBuf,
    /// `--dev`: implies software tokens, initialises the token by itself, lets
    /// the PIN lie beside it.
    pub dev: bool,
    /// Whether HSM level is allowed on software tokens.
    pub allow_software_tokens: bool,
    /// Whether the daemon's memory must stay out of swap.
    pub lock_memory: LockMemory,
    /// The admin endpoint.
    pub admin: EndpointConfig,
    /// Application endpoints: each an access point of that name.
    pub endpoints: Vec<EndpointConfig>,
    /// The pool's members; one, until the pool exists.
    pub hsm: Vec<MemberConfig>,
    /// Where metrics can be scraped, if anywhere.
    pub metrics: Option<MetricsListen>,
    /// The log.
    pub log: LogConfig,
    /// Every limit.
    pub limits: Limits,
}

impl Config {
    /// Reads and checks a configuration file of at most 1 MiB.
    ///
    /// # Errors
    /// [`ConfigError::Read`] where the file can't be read or isn't UTF-8, otherwise
    /// as [`Config::parse`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::File::open(path).and_then(|opened| {
            let mut text = String::new();
            let read = opened.take(MAX_FILE + 1).read_to_string(&mut text)?;
            if read as u64 > MAX_FILE {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
            }
            Ok(text)
        });
        match text {
            Ok(text) => Self::parse(&text, &file),
            Err(error) => Err(ConfigError::Read { file, error }),
        }
    }

    /// Every socket that it names for the daemon to listen on.
    pub fn sockets(&self) -> impl Iterator<Item = &EndpointConfig> {
        let metrics = match &self.metrics {
            Some(MetricsListen::Unix(endpoint)) => Some(endpoint),
            Some(MetricsListen::Tcp(_)) | None => None,
        };
        std::iter::once(&self.admin).chain(&self.endpoints).chain(metrics)
    }

    /// Checks a configuration's text; `file` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every problem found: line, key, what is there
    /// and what was expected.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        check::config(Report::new(file, text)).map_err(ConfigError::Invalid)
    }

    /// The configuration of `--dev`: the embedded token with its PIN beside it,
    /// `admin.sock` and `app.sock`, everything under `state_dir` (which is taken
    /// from the working directory when it is relative).
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where the path is too long for the sockets;
    /// [`ConfigError::Read`] where there is no working directory to take it from.
    pub fn dev(state_dir: &Path) -> Result<Self, ConfigError> {
        let file = "--state-dir".to_owned();
        let state_dir = match std::path::absolute(state_dir) {
            Ok(dir) => dir,
            Err(error) => return Err(ConfigError::Read { file, error }),
        };
        let invalid = |key: &str, found: String, expected: String| {
            let (file, key) = (file.clone(), key.to_owned());
            ConfigError::Invalid(vec![Problem { file, line: None, key, found, expected }])
        };
        let endpoint = |name: &str| {
            let socket = state_dir.join(format!("{name}.sock"));
            let bytes = socket.as_os_str().len();
            if bytes > MAX_SOCKET_PATH {
                let found = format!("a path of {bytes} bytes ({})", socket.display());
                let expected =
                    format!("at most {MAX_SOCKET_PATH} bytes (sun_path): take a shorter --state-dir");
                return Err(invalid(&format!("{name}.socket"), found, expected));
            }
            Ok(EndpointConfig {
                name: name.to_owned(),
                socket,
                mode: 0o600,
                owner: None,
                group: None,
                service: None,
            })
        };
        let profile = Profile::load(EMBEDDED).map_err(|error| {
            invalid("hsm[0].profile", error.to_string(), "the built-in profile".to_owned())
        })?;
        let dir = state_dir.join(EMBEDDED_DIR);
        let pin = PinSource::File(dir.join("pin"));
        let source = TokenSource::Embedded { dir };
        let member = MemberConfig {
            name: EMBEDDED.to_owned(),
            profile,
            source,
            pin,
            isolation: Isolation::Thread,
            call_timeout: DEFAULT_CALL_TIMEOUT,
        };
        let (admin, app) = (endpoint(ADMIN)?, endpoint("app")?);
        Ok(Self {
            state_dir,
            dev: true,
            allow_software_tokens: true,
            lock_memory: LockMemory::Try,
            admin,
            endpoints: vec![app],
            hsm: vec![member],
            metrics: None,
            log: LogConfig::default(),
            // Trying deletions out need not take a week and half a day.
            limits: Limits { deletion_days_min: 0, erase_after: Duration::ZERO, ..Limits::default() },
        })
    }
}

/// Whether the daemon's memory is locked (mlockall(2)): kept out of swap and of
/// hibernation images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMemory {
    /// The daemon doesn't start where it can't be.
    #[default]
    Require,
    /// It starts all the same, and says so.
    Try,
    /// It isn't tried.
    Off,
}

impl LockMemory {
    fn named(text: &str) -> Option<Self> {
        match text {
            "require" => Some(Self::Require),
            "try" => Some(Self::Try),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The access point's name; `admin` for the admin endpoint.
    pub name: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// Permission bits of the socket.
    pub mode: u32,
    /// Owner to give it, by name or number.
    pub owner: Option<String>,
    /// Group to give it, by name or number.
    pub group: Option<String>,
    /// The local service that it is for, which has a default key.
    pub service: Option<ServiceName>,
}

/// One member of the HSM pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its name in status, logs and errors.
    pub name: String,
    /// What kind of token it is.
    pub profile: Profile,
    /// Where the token is.
    pub source: TokenSource,
    /// Where its PIN comes from.
    pub pin: PinSource,
    /// Where its module runs.
    pub isolation: Isolation,
    /// How long a call to a helper may take; making keys, and opening, four times as long.
    pub call_timeout: Duration,
}

/// Where a module runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// In the daemon: fast, and the daemon hangs and falls with it.
    Thread,
    /// In a process of its own, which the daemon starts, ends, and starts again.
    Process {
        /// The helper's program; none for `clavigerd-hsm` beside the daemon's own.
        helper: Option<PathBuf>,
    },
    /// In a helper that systemd (or somebody) runs.
    Unit {
        /// Where it listens.
        socket: PathBuf,
    },
}

impl Isolation {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Process { .. } => "process",
            Self::Unit { .. } => "unit",
        }
    }
}

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenSource {
    /// The token linked into the daemon, its files in this directory.
    Embedded {
        /// The directory.
        dir: PathBuf,
    },
    /// A PKCS#11 module loaded by path.
    Module {
        /// The shared object.
        path: PathBuf,
        /// Which of its tokens.
        token: TokenSelector,
    },
}

/// Which token of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenSelector {
    /// By its label.
    Label(String),
    /// By its serial number.
    Serial(String),
    /// By its slot number.
    Slot(u64),
}

/// Where a PIN comes from. The PIN itself is never kept in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file, mode 0600 or stricter.
    File(PathBuf),
    /// A systemd credential of this name (`$CREDENTIALS_DIRECTORY`).
    Credential(String),
    /// An environment variable.
    Env(String),
    /// The first line that a command prints: its absolute path and its arguments.
    Command(Vec<String>),
}

impl fmt::Debug for PinSource {
    /// Without a command's arguments, which somebody may have put a secret into.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Credential(name) => f.debug_tuple("Credential").field(name).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Command(words) => f.debug_tuple("Command").field(&words.first()).finish_non_exhaustive(),
        }
    }
}

/// Every limit. All have defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest body after hello, in bytes.
    pub max_body: u32,
    /// Largest plaintext of Encrypt, in bytes.
    pub max_plaintext: u32,
    /// Connections of one endpoint.
    pub max_connections: u32,
    /// Unanswered requests of one connection.
    pub max_in_flight: u32,
    /// Items of one batch.
    pub max_batch: u16,
    /// Bytes that all connections' buffers may hold together.
    pub buffer_bytes: usize,
    /// Time from accept to a complete hello, and from a frame's first byte to its last.
    pub handshake_timeout: Duration,
    /// Time without a frame after which a connection is closed.
    pub idle_timeout: Duration,
    /// Deadline of a request that names none.
    pub default_deadline: Duration,
    /// Time that a stop waits for what is in flight.
    pub stop_timeout: Duration,
    /// Calls that may wait for one lane.
    pub lane_queue: usize,
    /// Unwrapped keys that a member holds at once.
    pub hsm_objects: usize,
    /// Key records in memory.
    pub record_cache: usize,
    /// Bytes of sled's page cache.
    pub store_cache_bytes: u64,
    /// Commits that may wait for the committer.
    pub store_queue: usize,
    /// Time between attempts to open an HSM that isn't there.
    pub hsm_retry: Duration,
    /// Bytes of the file that keeps room on the state directory's disk.
    pub ballast_bytes: u64,
    /// Shortest wait of a key for its deletion, in days.
    pub deletion_days_min: u16,
    /// Longest wait, in days.
    pub deletion_days_max: u16,
    /// The wait that is meant where a call names none.
    pub deletion_days_default: u16,
    /// Days back in which a use of a key keeps it from being deleted without force; 0: never.
    pub association_days: u16,
    /// How long destroyed material's last bytes may stay in the store's files.
    pub erase_after: Duration,
    /// Wrapping keys for imports that are made ahead: so many RSA_2048, one of each other kind.
    pub wrapping_keys_ahead: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1024 * 1024,
            max_plaintext: 6144,
            max_connections: 1000,
            max_in_flight: 1024,
            max_batch: 1024,
            buffer_bytes: 64 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(5),
            default_deadline: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(10),
            lane_queue: 4096,
            hsm_objects: 20_000,
            record_cache: 100_000,
            store_cache_bytes: 32 * 1024 * 1024,
            store_queue: 4096,
            hsm_retry: Duration::from_secs(5),
            ballast_bytes: 32 << 20,
            deletion_days_min: 7,
            deletion_days_max: MAX_DELETION_DAYS,
            deletion_days_default: 30,
            association_days: 30,
            erase_after: Duration::from_hours(12),
            wrapping_keys_ahead: 2,
        }
    }
}
