//! A place on disk where a daemon can run: state, sockets, token, configuration.
//! Daemons come and go; the site stays until the test ends.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::programs::{clavigerd, run, text};
use crate::token::{LABEL, PIN, SoftHsm, Token};

/// A place where a daemon can run.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    token: Token,
    softhsm: Option<SoftHsm>,
    /// None: `--dev`.
    config: Option<PathBuf>,
    module: Option<String>,
    limits: String,
    sections: String,
    member: String,
    environment: Vec<(String, String)>,
    /// What every daemon here wrote to stdout and stderr.
    pub(crate) said: Arc<Mutex<Vec<u8>>>,
}

impl Site {
    /// A fresh place, ready to start: `--dev` on the embedded token, or a
    /// configuration, an initialised token and an initialised domain on SoftHSM2.
    #[must_use]
    pub fn new(token: Token) -> Arc<Self> {
        match token {
            Token::Embedded => Arc::new(Self::bare(token)),
            Token::SoftHsm | Token::Sm(_) => Self::with_limits(token, ""),
        }
    }

    /// The same with lines for `[limits]`; on a configuration file for either token.
    #[must_use]
    pub fn with_limits(token: Token, limits: &str) -> Arc<Self> {
        let mut site = Self::bare(token);
        site.limits = limits.to_owned();
        site.make_token();
        site.write_config();
        site.init_domain(&[]);
        Arc::new(site)
    }

    /// A place with nothing in it yet: no token, no configuration, no domain.
    #[must_use]
    pub fn bare(token: Token) -> Self {
        let dir = tempfile::Builder::new().prefix("clv-").tempdir().unwrap();
        // The SM test token is a shim over SoftHSM2.
        let softhsm = (token != Token::Embedded).then(|| SoftHsm::without_token(dir.path()));
        let environment = token.environment().into_iter();
        Self {
            dir,
            token,
            softhsm,
            config: None,
            module: token.module().map(|module| text(&module).to_owned()),
            limits: String::new(),
            sections: String::new(),
            member: String::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            said: Arc::default(),
        }
    }

    /// Makes the SoftHSM2 token and, for either token, the PIN file.
    pub fn make_token(&self) {
        if let Some(softhsm) = &self.softhsm {
            softhsm.init_token();
        }
        self.write_pin(PIN, 0o600);
    }

    /// Writes the PIN file.
    pub fn write_pin(&self, pin: &str, mode: u32) {
        std::fs::write(self.pin_file(), pin).unwrap();
        std::fs::set_permissions(self.pin_file(), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Lines for `[limits]`, before [`Site::write_config`].
    pub fn set_limits(&mut self, limits: &str) {
        limits.clone_into(&mut self.limits);
    }

    /// Sections beside those that every place has, before [`Site::write_config`].
    pub fn set_sections(&mut self, sections: &str) {
        sections.clone_into(&mut self.sections);
    }

    /// Lines for `[[hsm]]`, before [`Site::write_config`].
    pub fn set_member(&mut self, member: &str) {
        member.clone_into(&mut self.member);
    }

    /// Another module in the place of SoftHSM2's, before [`Site::write_config`].
    pub fn set_module(&mut self, module: &str) {
        self.module = Some(module.to_owned());
    }

    /// A variable for every program run here.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Writes the configuration file and runs on it from now on.
    pub fn write_config(&mut self) {
        let mut toml = String::new();
        let path = |name: &str| self.dir.path().join(name);
        let socket = |name: &str| format!("socket = \"{}\"", path(name).display());
        writeln!(toml, "state_dir = \"{}\"\nallow_software_tokens = true", self.state_dir().display())
            .unwrap();
        writeln!(toml, "[admin]\n{}", socket("admin.sock")).unwrap();
        writeln!(toml, "[[endpoint]]\nname = \"app\"\n{}", socket("app.sock")).unwrap();
        writeln!(toml, "[[hsm]]\nname = \"a\"\nprofile = {:?}", self.token.profile()).unwrap();
        if let Some(module) = &self.module {
            writeln!(toml, "module = {module:?}\ntoken_label = {LABEL:?}").unwrap();
        }
        writeln!(toml, "pin = {{ file = \"{}\" }}", self.pin_file().display()).unwrap();
        writeln!(toml, "{}\n[limits]\n{}\n{}", self.member, self.limits, self.sections).unwrap();
        std::fs::write(path("claviger.toml"), toml).unwrap();
        self.config = Some(path("claviger.toml"));
    }

    /// A fresh place with these sections, ready to start.
    #[must_use]
    pub fn with_sections(token: Token, sections: impl FnOnce(&Self) -> String) -> Arc<Self> {
        let mut site = Self::bare(token);
        site.sections = sections(&site);
        site.make_token();
        site.write_config();
        site.init_domain(&[]);
        Arc::new(site)
    }

    /// `clavigerd hsm init`, which must succeed.
    pub fn init_domain(&self, more: &[&str]) {
        let output = self.hsm("init", more);
        assert!(output.status.success(), "hsm init: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `clavigerd hsm COMMAND --config … MORE`.
    #[must_use]
    pub fn hsm(&self, command: &str, more: &[&str]) -> Output {
        let output = run(&mut self.hsm_command(command, more));
        self.said.lock().unwrap().extend([output.stdout.clone(), output.stderr.clone()].concat());
        output
    }

    /// The same, to be run by the caller.
    #[must_use]
    pub fn hsm_command(&self, command: &str, more: &[&str]) -> Command {
        let config = text(self.config.as_deref().expect("hsm commands need a configuration"));
        let mut process = self.program(clavigerd(["hsm", command, "--config", config]));
        process.args(more);
        process
    }

    /// `command` with this place's environment.
    #[must_use]
    pub fn program(&self, mut command: Command) -> Command {
        if let Some(softhsm) = &self.softhsm {
            command.env("SOFTHSM2_CONF", softhsm.config());
        }
        command.env("CLAVIGER_LOG", "debug").env_remove("CLAVIGER_SOCKET");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The daemon's command line here.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        let state_dir = self.state_dir();
        self.program(match &self.config {
            Some(config) => clavigerd(["--config", text(config)]),
            None => clavigerd(["--dev", "--state-dir", text(&state_dir)]),
        })
    }

    /// Starts a daemon and waits until it serves.
    #[must_use]
    pub fn start(self: &Arc<Self>) -> Daemon {
        let mut daemon = self.spawn();
        daemon.wait_serving();
        daemon
    }

    /// Starts a daemon and doesn't wait.
    #[must_use]
    pub fn spawn(self: &Arc<Self>) -> Daemon {
        Daemon::spawn(self, self.daemon_command())
    }

    /// The directory of everything here.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The kind of token.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The SoftHSM2 installation, on that token.
    #[must_use]
    pub fn softhsm(&self) -> &SoftHsm {
        self.softhsm.as_ref().expect("this place has a SoftHSM2")
    }

    /// The configuration file, where there is one.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        self.config.as_deref().expect("this place has a configuration")
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The PIN file of a configuration.
    #[must_use]
    pub fn pin_file(&self) -> PathBuf {
        self.dir.path().join("pin")
    }

    /// The admin endpoint's socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.socket("admin.sock")
    }

    /// The application endpoint's socket.
    #[must_use]
    pub fn app_socket(&self) -> PathBuf {
        self.socket("app.sock")
    }

    /// The metrics endpoint's socket, where the sections name it.
    #[must_use]
    pub fn metrics_socket(&self) -> PathBuf {
        self.dir.path().join("metrics.sock")
    }

    fn socket(&self, name: &str) -> PathBuf {
        match self.config {
            Some(_) => self.dir.path().join(name),
            None => self.state_dir().join(name),
        }
    }

    /// Everything that programs wrote to stdout and stderr here so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }
}
