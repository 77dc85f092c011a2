//! Running `claviger` as people do.

use std::process::Command;

use serde_json::Value;

use crate::Site;
use crate::programs::{binary, run_with_input, text};

/// How a command of `claviger` ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// The one JSON object on standard output, of a command that succeeded.
    #[must_use]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self.any_json()
    }

    /// The one JSON object on standard output.
    #[must_use]
    pub fn any_json(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.stdout)));
        assert!(value.is_object(), "--json prints one object");
        value
    }
}

/// Runs `claviger ARGS` against the admin endpoint.
#[must_use]
pub fn claviger(site: &Site, args: &[&str], input: &[u8]) -> Said {
    let mut command = site.program(Command::new(binary("claviger")));
    command.arg("--socket").arg(text(&site.admin_socket())).args(args);
    let output = run_with_input(&mut command, input);
    Said {
        code: output.status.code().expect("the client was not killed"),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `claviger --json ARGS` against the admin endpoint.
#[must_use]
pub fn claviger_json(site: &Site, args: &[&str], input: &[u8]) -> Said {
    claviger(site, &[&["--json"], args].concat(), input)
}
