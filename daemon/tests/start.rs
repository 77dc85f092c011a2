//! The program's start, as its process and its exit show it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use clavigerd::config::Limits;
use clavigerd::edge::Edge;
use clavigerd::store::{Change, Expect, Op, SledStore, StateLock, Store};
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
    // 2 endpoints of 1000 connections take 4064.
    let child = serving(dev("ulimit -Sn 100; ulimit -Hn 4064; umask 022;", dir.path()));
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let limits = proc("limits");
    let limit = |name: &str| words(limits.lines().find_map(|line| line.strip_prefix(name)).unwrap());
    assert_eq!(limit("Max open files")[..2], ["4064", "4064"]);
    assert_eq!(limit("Max core file size")[..2], ["0", "0"]);
    assert!(proc("status").lines().any(|line| line == "Umask:\t0077"));
    assert!(stop(child).status.success());
}

#[test]
fn too_few_descriptors_are_told_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let said = refused(dev("ulimit -n 4063;", &state), 2);
    assert!(said.contains("max_connections") && said.contains("4064") && said.contains("4063"), "{said}");
    assert!(!state.exists());
}

/// Writes a record as a daemon would, without its domain.
fn put_record(state_dir: &Path) {
    let (state, edge, limits) = (StateLock::acquire(state_dir).unwrap(), Edge::system(), Limits::default());
    let store = SledStore::open(&state, limits.store_cache_bytes, limits.store_queue, &edge).unwrap();
    let op = Op { key: b"k/1".to_vec(), expect: Expect::Absent, change: Change::Put(b"a record".to_vec()) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.commit(vec![op])).unwrap();
    runtime.block_on(store.close()).unwrap();
}

#[test]
fn no_domain_is_made_beside_a_store_with_records() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // A store without records is no obstacle.
    assert!(stop(serving(dev("", &state))).status.success());
    let kept = dir.path().join("copy");
    std::fs::rename(state.join("domain"), &kept).unwrap();
    std::fs::remove_dir_all(state.join("token")).unwrap();
    assert!(stop(serving(dev("", &state))).status.success());
    std::fs::rename(state.join("domain"), &kept).unwrap();

    put_record(&state);
    let said = refused(dev("", &state), 1);
    assert!(said.contains("the domain file is missing") && said.contains("from your copy"), "{said}");
    assert!(!state.join("domain").exists());

    let config = dir.path().join("claviger.toml");
    let pin = dir.path().join("pin");
    std::fs::rename(state.join("token/pin"), &pin).unwrap();
    let text = format!(
        "state_dir = {state:?}\nallow_software_tokens = true\n[admin]\nsocket = {:?}\n[[hsm]]\nname = \"a\"\nprofile = \"embedded\"\npin = {{ file = {:?} }}\n",
        dir.path().join("a.sock"),
        pin,
    );
    std::fs::write(&config, text).unwrap();
    let mut init = Command::new(PROGRAM);
    init.args(["hsm", "init", "--config"]).arg(&config);
    let said = refused(init, 1);
    assert!(said.contains("the domain file is missing") && said.contains("from your copy"), "{said}");
    assert!(!state.join("domain").exists());
}
