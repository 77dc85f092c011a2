//! Tokens for tests: new, empty, in a directory that goes with the test.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use claviger_hsm_profiles::Profile;

use crate::backend::hsm::domain::{self, Domain, DomainError};
use crate::backend::hsm::member::{self, Member, OpenError};
use crate::backend::hsm::{self, RootId, make_embedded};
use crate::config::{
    Config, EndpointConfig, Isolation, Limits, LockMemory, MemberConfig, PinSource, TokenSelector,
    TokenSource,
};
use crate::edge::{Edge, Entropy, Workers};

pub(super) const PIN: &str = "87654321";
pub(super) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// OpenSC's module that writes down every call on its way to another module.
pub(super) const SPY: &str = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so";

/// Where the inner run of a test finds its directory.
const DIR: &str = "CLAVIGER_TEST_DIR";

/// Runs a test in a process of its own, whoever runs the tests: a process has one
/// embedded token, and SoftHSM2 finds its configuration by an environment variable,
/// which a process can't set for itself without `unsafe`. `name` is the test's full name.
pub(super) fn isolated(name: &str, test: impl FnOnce()) {
    if std::env::var_os(DIR).is_some() {
        return test();
    }
    let dir = tempfile::tempdir().unwrap();
    let name = name.split_once("::").map_or(name, |(_crate, name)| name);
    let done = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(DIR, dir.path())
        .env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"))
        .env("PKCS11SPY", MODULE)
        .env("PKCS11SPY_OUTPUT", dir.path().join("spy.log"))
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "{name}: {}\n{said}", done.status);
}

/// Each function becomes two tests: on the embedded token, and on SoftHSM2.
macro_rules! on_each_token {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use crate::backend::hsm::tests::support::{Token, isolated};

            #[test]
            fn embedded() {
                isolated(concat!(module_path!(), "::embedded"), || super::$name(Token::Embedded));
            }

            #[test]
            fn softhsm() {
                isolated(concat!(module_path!(), "::softhsm"), || super::$name(Token::SoftHsm));
            }
        }
    )+ };
}
pub(super) use on_each_token;

/// A token's configuration and the directory it lives in.
pub(super) struct Bench {
    dir: PathBuf,
    pub(super) config: MemberConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Embedded,
    SoftHsm,
}

impl Bench {
    /// Only within [`isolated`].
    pub(super) fn new(token: Token) -> Self {
        let dir = std::env::var_os(DIR).map(PathBuf::from).expect("runs within `isolated`");
        let config = match token {
            Token::Embedded => embedded(&dir),
            Token::SoftHsm => softhsm(&dir),
        };
        Self { dir, config }
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    pub(super) fn open(&self, root: Option<&RootId>, epoch: u64) -> Result<Member, OpenError> {
        member::open(&self.config, root, &Workers::threads(), &Limits::default(), epoch)
    }

    /// The daemon's configuration with this one member.
    pub(super) fn daemon(&self) -> Config {
        let socket = self.path().join("admin.sock");
        Config {
            state_dir: self.path().join("state"),
            dev: true,
            allow_software_tokens: true,
            lock_memory: LockMemory::Off,
            admin: EndpointConfig {
                name: "admin".to_owned(),
                socket,
                mode: 0o600,
                owner: None,
                group: None,
                service: None,
            },
            endpoints: Vec::new(),
            hsm: vec![self.config.clone()],
            metrics: None,
            log: crate::config::LogConfig::default(),
            limits: Limits::default(),
        }
    }

    /// Makes a domain and gives its root.
    pub(super) fn init(&self, recipients: &[PathBuf]) -> RootId {
        let go = &mut |_| ControlFlow::Continue(());
        let made = hsm::init(&self.daemon(), recipients, &Edge::system(), go).unwrap();
        RootId { domain: made.domain, generation: made.root_generation }
    }

    /// Makes a domain and opens the member for it.
    pub(super) fn ready(&self) -> (RootId, Member) {
        let root = self.init(&[]);
        (root, self.open(Some(&root), 1).unwrap())
    }

    pub(super) fn domain(&self, member: &Member) -> Result<Domain, DomainError> {
        domain::open_domain(&self.daemon().state_dir, member)
    }

    /// Throws the token away and puts a new, empty one in its place. Nothing may have
    /// the old one open.
    pub(super) fn wipe(&mut self) {
        let (token, gone) = match self.config.source {
            TokenSource::Embedded { .. } => (Token::Embedded, self.path().join("token")),
            TokenSource::Module { .. } => (Token::SoftHsm, self.path().join("tokens")),
        };
        std::fs::remove_dir_all(gone).unwrap();
        *self = Self::new(token);
    }
}

fn embedded(dir: &Path) -> MemberConfig {
    let pin = dir.join("pin");
    let config = MemberConfig {
        name: "e".to_owned(),
        profile: Profile::load("embedded").unwrap(),
        source: TokenSource::Embedded { dir: dir.join("token") },
        pin: PinSource::File(pin),
        isolation: Isolation::Thread,
        call_timeout: Duration::from_secs(30),
    };
    make_embedded(&config, true, &Entropy::system()).unwrap();
    config
}

fn softhsm(dir: &Path) -> MemberConfig {
    assert!(Path::new(MODULE).exists(), "SoftHSM2 is missing: apt-get install softhsm2");
    let conf = dir.join("softhsm2.conf");
    let tokens = dir.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(
        &conf,
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
    .unwrap();
    init_softhsm(&conf, "claviger-a");
    let pin = dir.join("pin");
    write_pin(&pin, PIN);
    MemberConfig {
        name: "s".to_owned(),
        profile: Profile::load("softhsm2").unwrap(),
        source: TokenSource::Module {
            path: MODULE.into(),
            token: TokenSelector::Label("claviger-a".to_owned()),
        },
        pin: PinSource::File(pin),
        isolation: Isolation::Thread,
        call_timeout: Duration::from_secs(30),
    }
}

/// What [`SPY`] has written so far.
pub(super) fn spy_log() -> String {
    let dir = std::env::var_os(DIR).map(PathBuf::from).unwrap();
    std::fs::read_to_string(dir.join("spy.log")).expect("OpenSC's spy wrote nothing: apt-get install opensc")
}

pub(super) fn init_softhsm(conf: &Path, label: &str) {
    let done = Process::new("softhsm2-util")
        .env("SOFTHSM2_CONF", conf)
        .args(["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

pub(super) fn write_pin(path: &Path, pin: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, pin).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
