//! Running the built command line.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// The code in the one error line.
    pub fn error_code(&self) -> &str {
        assert_eq!(self.stderr.lines().count(), 1, "{:?}", self.stderr);
        self.stderr.strip_prefix("claviger: ").and_then(|line| line.split(':').next()).expect("no error line")
    }
}

/// The command with its streams piped, and nothing of this environment's settings.
pub fn command(socket: Option<&Path>, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    for name in ["CLAVIGER_SOCKET", "CLAVIGER_ACCESS_KEY", "CLAVIGER_SECRET_KEY_FILE"] {
        command.env_remove(name);
    }
    if let Some(socket) = socket {
        command.env("CLAVIGER_SOCKET", socket);
    }
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn claviger(socket: Option<&Path>, args: &[&str], input: &[u8]) -> Ran {
    let mut child = command(socket, args).spawn().unwrap();
    // A command that needs no input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    finish(child)
}

pub fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().expect("killed by a signal"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
