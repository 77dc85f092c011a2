//! Sessions of `claviger` and `clavigerd` at one place, with a transcript.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use crate::golden::Golden;
use crate::programs::{binary, clavigerd, text};
use crate::site::Site;

/// A session at one place.
#[derive(Debug)]
pub struct Session {
    /// Its transcript.
    pub golden: Golden,
    /// Where it is.
    pub site: Arc<Site>,
}

impl Session {
    /// A session whose transcript is `tests/snapshots/NAME.txt`.
    #[must_use]
    pub fn new(name: &'static str, site: &Arc<Site>) -> Self {
        let mut golden = Golden::new(name);
        golden.mask(text(site.dir()), "DIR");
        golden.mask(env!("CARGO_PKG_VERSION"), "<version>");
        golden.mask(text(binary("claviger").parent().unwrap()), "BIN");
        Self { golden, site: Arc::clone(site) }
    }

    /// `claviger ARGS` on a socket.
    pub fn on(&mut self, socket: &Path, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.site.program(Command::new(binary("claviger")));
        command.env("CLAVIGER_SOCKET", socket).current_dir(self.site.dir()).args(args);
        self.golden.run(&format!("claviger {}", args.join(" ")), &mut command, input)
    }

    /// `claviger ARGS` on the admin socket.
    pub fn claviger(&mut self, args: &[&str], input: &[u8]) -> Output {
        let socket = self.site.admin_socket();
        self.on(&socket, args, input)
    }

    /// The same as text and as an object.
    pub fn both(&mut self, args: &[&str], input: &[u8]) {
        let _ = self.claviger(args, input);
        let _ = self.claviger(&[args, &["--json"]].concat(), input);
    }

    /// `clavigerd ARGS`, with a log of warnings only.
    pub fn daemon(&mut self, args: &[&str]) -> Output {
        let mut command = self.site.program(clavigerd(args.iter().copied()));
        command.env("CLAVIGER_LOG", "error").current_dir(self.site.dir());
        self.golden.run(&format!("clavigerd {}", args.join(" ")), &mut command, b"")
    }
}
