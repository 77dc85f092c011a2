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

/// The object of `claviger --json LINE`, a command that succeeds.
#[must_use]
pub fn object(site: &Site, line: &str) -> Value {
    claviger_json(site, &words(line), b"").json()
}

/// What `claviger LINE`, a command that succeeds, says to people.
#[must_use]
pub fn said(site: &Site, line: &str) -> String {
    let said = claviger(site, &words(line), b"");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{line}");
    String::from_utf8(said.stdout).expect("text")
}

/// The words of a line.
#[must_use]
pub fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// A refusal: exit code 1, one line for people, one object for programs.
pub fn refused(site: &Site, args: &[&str], input: &[u8], code: &str) {
    let Said { code: exit, stdout, stderr } = claviger(site, args, input);
    assert_eq!((exit, stdout.as_slice()), (1, &b""[..]), "{args:?}: {stderr}");
    assert!(stderr.starts_with(&format!("claviger: {code}: ")), "{args:?}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{args:?}: {stderr}");
    let said = claviger_json(site, args, input);
    assert_eq!(said.code, 1, "{args:?}");
    let error = &said.any_json()["error"];
    assert_eq!(error["code"], code, "{args:?}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{args:?}");
}

/// The refusal of one of several keys: exit code 1, a line for people, its result for
/// programs, which is given.
pub fn item_refused(site: &Site, line: &str, index: usize, code: &str) -> Value {
    let Said { code: exit, stderr, .. } = claviger(site, &words(line), b"");
    assert_eq!(exit, 1, "{line}: {stderr}");
    assert!(stderr.lines().any(|said| said.starts_with(&format!("claviger: {code}: "))), "{line}: {stderr}");
    let said = claviger_json(site, &words(line), b"");
    assert_eq!(said.code, 1, "{line}");
    let result = said.any_json()["results"][index].clone();
    assert_eq!(result["error"]["code"], code, "{line}: {result}");
    result
}
