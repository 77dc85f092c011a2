//! The program's start, as its process and its exit show it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_clavigerd");

/// `--dev` on a state directory, under a shell's limits.
fn dev(limits: &str, state_dir: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{limits} exec \"$0\" --dev --state-dir \"$1\"");
    command.args(["-c", &script, PROGRAM]).arg(state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits until it serves.
fn serving(mut command: Command) -> Child {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("serving"), "{line}");
    child
}

fn stop(child: Child) -> Output {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    child.wait_with_output().unwrap()
}

fn refused(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn the_process_is_private_and_has_all_the_descriptors_that_it_may_have() {
    let dir = tempfile::tempdir().unwrap();
    // 2 endpoints of 1024 connections take 4160.
    let child = serving(dev("ulimit -Sn 100; ulimit -Hn 4160; umask 022;", dir.path()));
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let limits = proc("limits");
    let limit = |name: &str| words(limits.lines().find_map(|line| line.strip_prefix(name)).unwrap());
    assert_eq!(limit("Max open files")[..2], ["4160", "4160"]);
    assert_eq!(limit("Max core file size")[..2], ["0", "0"]);
    assert!(proc("status").lines().any(|line| line == "Umask:\t0077"));
    assert!(stop(child).status.success());
}

#[test]
fn too_few_descriptors_are_told_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let said = refused(dev("ulimit -n 4159;", &state), 2);
    assert!(said.contains("max_connections") && said.contains("4160") && said.contains("4159"), "{said}");
    assert!(!state.exists());
}
