//! The tokens that tests run on.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{text, tool};

/// Where Debian's softhsm2 package puts the module.
pub const SOFTHSM_MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Where Debian's opensc package puts the call logger.
pub const SPY_MODULE: &str = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so";
/// The label of a test's token.
pub const LABEL: &str = "claviger-test";
/// The user PIN of a test's token; also a marker that must not show anywhere.
pub const PIN: &str = "71925563";
const SO_PIN: &str = "90817263";

/// A kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The one linked into the daemon.
    Embedded,
    /// Debian's SoftHSM2.
    SoftHsm,
    /// The SM test token under a numbering that `tests/sm-token/profile.toml` fits:
    /// `complete`, or a liar of its.
    Sm(&'static str),
}

impl Token {
    /// Every kind that all tests run on.
    pub const ALL: [Self; 2] = [Self::Embedded, Self::SoftHsm];

    /// Its profile's name, or path.
    #[must_use]
    pub fn profile(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::SoftHsm => "softhsm2",
            Self::Sm(_) => concat!(env!("CARGO_MANIFEST_DIR"), "/sm-token/profile.toml"),
        }
    }

    /// Its module; none of the embedded token.
    #[must_use]
    pub fn module(self) -> Option<PathBuf> {
        match self {
            Self::Embedded => None,
            Self::SoftHsm => Some(SOFTHSM_MODULE.into()),
            // Cargo puts it beside the tests that depend on it.
            Self::Sm(_) => Some(std::env::current_exe().unwrap().with_file_name("libclaviger_sm_token.so")),
        }
    }

    /// Variables that its module reads, beside SoftHSM2's.
    #[must_use]
    pub fn environment(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Sm(numbering) => Some((claviger_sm_token::NUMBERING_VARIABLE, numbering)),
            Self::Embedded | Self::SoftHsm => None,
        }
    }
}

/// A SoftHSM2 of the test's own: configuration and tokens in the test's directory.
#[derive(Debug)]
pub struct SoftHsm {
    config: PathBuf,
    tokens: PathBuf,
}

impl SoftHsm {
    /// An installation under `dir` without any token.
    #[must_use]
    pub fn without_token(dir: &Path) -> Self {
        assert!(Path::new(SOFTHSM_MODULE).is_file(), "{SOFTHSM_MODULE} is missing: install softhsm2");
        let (config, tokens) = (dir.join("softhsm2.conf"), dir.join("tokens"));
        std::fs::create_dir(&tokens).unwrap();
        let mut lines = String::new();
        writeln!(lines, "directories.tokendir = {}", tokens.display()).unwrap();
        writeln!(lines, "objectstore.backend = file\nlog.level = ERROR").unwrap();
        std::fs::write(&config, lines).unwrap();
        Self { config, tokens }
    }

    /// The configuration file, for `SOFTHSM2_CONF`.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where the tokens are.
    #[must_use]
    pub fn tokens(&self) -> &Path {
        &self.tokens
    }

    /// Makes the test's token.
    pub fn init_token(&self) {
        tool(Command::new("softhsm2-util").env("SOFTHSM2_CONF", text(&self.config)).args([
            "--init-token",
            "--free",
            "--label",
            LABEL,
            "--pin",
            PIN,
            "--so-pin",
            SO_PIN,
        ]));
    }

    /// Destroys every token, as a fire would.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(&self.tokens).unwrap();
        std::fs::create_dir(&self.tokens).unwrap();
    }
}
