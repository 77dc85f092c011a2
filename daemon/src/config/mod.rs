//! Configuration: TOML, turned once into the checked types of this file. Unknown
//! keys are refused; every limit has a name, a default and a line in
//! `systemd/claviger.toml.example`.

use std::path::PathBuf;
use std::time::Duration;

use claviger_hsm_profiles::Profile;

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
    /// The admin endpoint.
    pub admin: EndpointConfig,
    /// Application endpoints: each an access point of that name.
    pub endpoints: Vec<EndpointConfig>,
    /// The pool's members; one, until the pool exists.
    pub hsm: Vec<MemberConfig>,
    /// Every limit.
    pub limits: Limits,
}

/// One socket.
#[derive(Debug, Clone)]
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
}

/// One member of the HSM pool.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// Its name in status, logs and errors.
    pub name: String,
    /// What kind of token it is.
    pub profile: Profile,
    /// Where the token is.
    pub source: TokenSource,
    /// Where its PIN comes from.
    pub pin: PinSource,
}

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSelector {
    /// By its label.
    Label(String),
    /// By its serial number.
    Serial(String),
    /// By its slot number.
    Slot(u64),
}

/// Where a PIN comes from. The PIN itself is never kept in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file, mode 0600 or stricter.
    File(PathBuf),
    /// A systemd credential of this name (`$CREDENTIALS_DIRECTORY`).
    Credential(String),
    /// An environment variable.
    Env(String),
    /// The first line that a command prints.
    Command(Vec<String>),
}

/// Every limit. All have defaults.
#[derive(Debug, Clone)]
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
    /// Time from accept to a complete hello.
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1024 * 1024,
            max_plaintext: 6144,
            max_connections: 1024,
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
        }
    }
}
