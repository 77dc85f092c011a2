//! Bad usage, absent daemons, signals and closed pipes: exit codes and words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../tests/support/mod.rs"]
mod support;
mod tool;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::OnThread;
use tool::{claviger, command, finish};

/// The help of every command, as it is printed; see `help_is_as_recorded`.
const HELP: &str = include_str!("help.txt");

#[test]
fn bad_usage_is_exit_2_and_one_line_that_says_what_to_do() {
    for (args, part) in [
        (&["encrypt"][..], "<KEY>; see --help"),
        (&["frobnicate"], "frobnicate"),
        (&["key"], "see --help"),
        (&["encrypt", "not a key"], "a name has only"),
        (&["encrypt", "alias/a", "--context", "novalue"], "expected KEY=VALUE"),
        (&["encrypt", "alias/a", "--context", "a=1", "--context", "a=2"], "has a key twice"),
        (&["encrypt", "alias/a", "--in", "/nonexistent/file"], "check --in"),
        (&["encrypt", "alias/a", "--out", "/nonexistent/dir/file"], "can't be written"),
        (&["key", "create", "--spec", "ROT13"], "expected one of AES_256"),
        (&["key", "create", "--tag", "a=1", "--tag", "a=2"], "each key once"),
        (&["key", "create", "--alias", "pay"], "alias/"),
        (&["key", "list", "--limit", "0"], "1..=1000"),
        (&["key", "list", "--page", "+"], "next_page"),
        (&["random", "0"], "1..=4096"),
        (&["random", "4097"], "1..=4096"),
        (&["data-key", "generate", "alias/a", "--bytes", "1025"], "1..=1024"),
        (&["data-key", "generate", "alias/a", "--bytes", "3", "--spec", "SM4"], "cannot be used with"),
        (&["data-key", "generate", "alias/a", "--pair", "AES_256"], "expected one of RSA_2048"),
        (&["data-key", "generate", "alias/a", "--pair", "SM2", "--bytes", "3"], "cannot be used with"),
        (&["data-key", "generate", "alias/a", "--private-key-out", "k"], "--pair"),
        (&["data-key", "export"], "--public-key <FILE>"),
        (&["data-key", "export", "--public-key", "/nonexistent/file"], "check --public-key"),
        (&["data-key", "export", "--public-key", "/dev/null"], "isn't a SubjectPublicKeyInfo"),
        (&["sign", "alias/a", "--algorithm", "MD5"], "expected one of RSA_PSS_SHA_256"),
        (&["sign", "alias/a", "--digest", "--user-id", "x"], "cannot be used with"),
        (&["sign", "alias/a", "--version", "1"], "--version"),
        (&["verify", "alias/a"], "--signature <FILE>"),
        (&["verify", "alias/a", "--signature", "/nonexistent/file"], "check --signature"),
        (&["verify-mac", "alias/a", "--mac", "/nonexistent/file"], "check --mac"),
        (&["asymmetric", "decrypt", "alias/a", "--sm2-format", "c1c3c2"], "isn't a raw SM2 ciphertext"),
        (&["asymmetric", "decrypt", "alias/a", "--sm2-format", "raw"], "c1c2c3"),
        (&["digest"], "--algorithm"),
        (&["key", "create", "--sm2-user-id", &"x".repeat(256)], "at most 255 bytes"),
        (&["ping", "--timeout", "5"], "write it as"),
        (&["ping", "--timeout", "0s"], "over zero"),
        (&["ping", "--access-key", "AK"], "later version"),
    ] {
        is_bad_usage(args, part);
    }
}

/// As text and as an object.
fn is_bad_usage(args: &[&str], part: &str) {
    let nowhere = Path::new("/nonexistent/socket");
    let ran = claviger(Some(nowhere), args, b"");
    assert_eq!((ran.code, ran.stdout.len()), (2, 0), "{args:?} {ran:?}");
    assert!(["Usage", "NotAvailable"].contains(&ran.error_code()), "{args:?} {ran:?}");
    assert!(ran.stderr.contains(part), "{args:?} {ran:?}");
    let ran = claviger(Some(nowhere), &[&["--json"], args].concat(), b"");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (2, ""), "{args:?}");
    assert!(object["error"]["message"].as_str().unwrap().contains(part), "{args:?} {object}");
}

#[test]
fn a_flag_that_would_have_no_effect_is_bad_usage() {
    for (args, part) in [
        (
            &[
                "data-key",
                "generate",
                "alias/a",
                "--private-key-out",
                "k",
                "--plaintext-out",
                "p",
                "--blob-out",
                "b",
            ][..],
            "--private-key-out is for a key pair; add --pair SPEC",
        ),
        (&["data-key", "generate", "alias/a", "--private-key-out", "k", "--bytes", "5"], "add --pair SPEC"),
        (
            &["data-key", "generate", "alias/a", "--public-key-out", "k", "--spec", "AES_128"],
            "--public-key-out is for a key pair",
        ),
        (
            &["data-key", "generate", "alias/a", "--format", "der", "--blob-out", "b"],
            "--format is for a key pair",
        ),
        (
            &["key", "public-key", "alias/a", "--format", "pem", "--encoding", "base64"],
            "PEM is a coding by itself",
        ),
    ] {
        is_bad_usage(args, part);
    }
}

#[test]
fn a_socket_must_be_named_and_the_flag_comes_before_the_variable() {
    let ran = claviger(None, &["ping"], b"");
    assert_eq!((ran.code, ran.error_code()), (2, "Usage"));
    assert!(ran.stderr.contains("CLAVIGER_SOCKET"), "{ran:?}");
    assert_eq!(claviger(Some(Path::new("")), &["ping"], b"").code, 2);
    let ran = claviger(Some(Path::new("/nonexistent/env")), &["ping", "--socket", "/nonexistent/flag"], b"");
    assert!(ran.stderr.contains("/nonexistent/flag"), "{ran:?}");
}

#[test]
fn a_daemon_that_is_not_there_is_exit_3() {
    let dir = tempfile::tempdir().unwrap();
    let ran = claviger(Some(&dir.path().join("none")), &["ping"], b"");
    assert_eq!((ran.code, ran.error_code()), (3, "Unreachable"));
    assert!(ran.stderr.contains("start clavigerd"), "{ran:?}");
    let dead = dir.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let ran = claviger(Some(&dead), &["--json", "ping"], b"");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((ran.code, object["error"]["code"].as_str()), (3, Some("Unreachable")));
}

#[test]
fn a_daemon_that_says_nothing_is_exit_3_before_hello_and_1_after() {
    let silent = OnThread::run(|fake| async move {
        let mut peer = fake.accept_silently().await;
        peer.request().await;
        peer.sees_close().await;
    });
    let ran = claviger(Some(silent.path()), &["ping", "--timeout", "100ms"], b"");
    assert_eq!((ran.code, ran.error_code()), (3, "Unreachable"));
    silent.join();
    let slow = OnThread::run(|fake| async move {
        let mut peer = fake.accept().await;
        peer.request().await;
        peer.sees_close().await;
    });
    let ran = claviger(Some(slow.path()), &["ping", "--timeout", "100ms"], b"");
    assert_eq!((ran.code, ran.error_code()), (1, "Timeout"));
    assert!(ran.stderr.contains("--timeout"), "{ran:?}");
    slow.join();
}

/// Starts a call that is never answered, and waits until the daemon has it.
fn unanswered(args: &[&str]) -> (OnThread, std::process::Child) {
    let (asked, wait) = std::sync::mpsc::channel();
    let daemon = OnThread::run(move |fake| async move {
        let mut peer = fake.accept().await;
        peer.request().await;
        asked.send(()).unwrap();
        peer.sees_close().await;
    });
    let child = command(Some(daemon.path()), args).spawn().unwrap();
    wait.recv_timeout(support::GUARD).unwrap();
    (daemon, child)
}

fn signal(name: &str, child: &std::process::Child) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn signals_end_it_with_their_codes_and_leave_no_file() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let (daemon, child) = unanswered(&["random", "5", "--out", out.to_str().unwrap()]);
        assert_eq!(tool::names(dir.path()).len(), 1, "the pending file");
        signal(name, &child);
        let ran = finish(child);
        assert_eq!((ran.code, ran.stderr.as_str()), (code, ""));
        assert!(tool::names(dir.path()).is_empty());
        daemon.join();
    }
}

#[test]
fn a_signal_need_not_wait_for_standard_input() {
    let daemon = OnThread::run(|fake| async move { drop(fake.accept_silently().await) });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut child = command(Some(daemon.path()), &["encrypt", "alias/a", "--out", out.to_str().unwrap()]);
    let mut child = child.spawn().unwrap();
    let stdin = child.stdin.take();
    // The pending file is there once the signals are watched for.
    while tool::names(dir.path()).is_empty() {
        std::thread::yield_now();
    }
    signal("INT", &child);
    assert_eq!(finish(child).code, 130);
    assert!(tool::names(dir.path()).is_empty());
    drop(stdin);
}

#[test]
fn a_reader_that_left_is_no_news_and_a_full_disk_is() {
    let many = || {
        OnThread::run(|fake| async move {
            fake.serve(|_| {
                let random = vec![7; 4096].into();
                Ok(claviger_protocol::Reply::GetRandom(claviger_protocol::body::GetRandomReply { random }))
            })
            .await;
        })
    };
    let daemon = many();
    let mut child = command(Some(daemon.path()), &["random", "4096"]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = finish(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (141, ""));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = finish(command(Some(daemon.path()), &["random", "9"]).stdout(full).spawn().unwrap());
    assert_eq!((ran.code, ran.error_code()), (1, "Output"));
}

#[test]
fn binary_does_not_go_to_a_terminal() {
    // `script` gives the command a terminal; the refusal comes before any call.
    let tool = env!("CARGO_BIN_EXE_claviger");
    let line = format!("{tool} --socket /nonexistent random 9 < /dev/null; echo code $?");
    let Ok(output) = Command::new("script").args(["-qc", &line, "/dev/null"]).output() else {
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the result is binary and stdout is a terminal"), "{text}");
    assert!(text.contains("code 2"), "{text}");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let tool = env!("CARGO_BIN_EXE_claviger");
    for (set, coloured) in [("", true), ("NO_COLOR=1", false)] {
        let line = format!("env -u NO_COLOR TERM=xterm {set} {tool} --socket /nonexistent ping");
        let output = Command::new("script").args(["-qc", &line, "/dev/null"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Unreachable"), "{text}");
        assert_eq!(text.contains('\x1b'), coloured, "{text:?}");
    }
    // A pipe and an object never have them.
    for args in [&["ping"][..], &["--json", "ping"], &["--help"]] {
        let ran = claviger(Some(Path::new("/nonexistent")), args, b"");
        assert!(!ran.stderr.contains('\x1b') && !ran.stdout.contains(&0x1b), "{args:?}");
    }
}

#[test]
fn the_color_flag_goes_before_terminals_and_variables() {
    let tool = env!("CARGO_BIN_EXE_claviger");
    for (set, when, coloured) in
        [("", "never", false), ("", "auto", true), ("NO_COLOR=1", "always", true), ("", "always", true)]
    {
        let line =
            format!("env -u NO_COLOR TERM=xterm {set} {tool} --socket /nonexistent --color {when} ping");
        let output = Command::new("script").args(["-qc", &line, "/dev/null"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Unreachable"), "{text}");
        assert_eq!(text.contains('\x1b'), coloured, "{set} {when} {text:?}");
    }
    let nowhere = Some(Path::new("/nonexistent"));
    let piped = |args: &[&str]| claviger(nowhere, args, b"");
    assert!(piped(&["ping", "--color", "always"]).stderr.contains('\x1b'), "asked for");
    assert!(!piped(&["ping", "--color", "auto"]).stderr.contains('\x1b'));
    let object = piped(&["ping", "--color", "always", "--json"]);
    assert!(!object.stdout.contains(&0x1b) && object.stderr.is_empty(), "an object never has colours");
    assert_eq!(piped(&["ping", "--color", "blue"]).code, 2);
}

#[test]
fn a_mistyped_flag_and_a_daemon_that_is_not_there_come_with_advice() {
    let ran = claviger(None, &["ping", "--jsn"], b"");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("'--json'"), "{}", ran.stderr);
    let ran = claviger(Some(Path::new("/nonexistent")), &["ping"], b"");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("start clavigerd"), "{}", ran.stderr);
}

/// Every command whose help is recorded.
const COMMANDS: &str = "
ping
status
key
key create
key describe
key list
key enable
key disable
key public-key
key schedule-deletion
key cancel-deletion
key protect
key unprotect
key set-description
key tag
key untag
key tags
key associations
key rotate
key rotation-policy
key create-version
key versions
key version
key import-params
key import
key delete-material
alias
alias create
alias update
alias delete
alias list
project
project create
project list
project delete
project move
default-key
default-key create
encrypt
decrypt
re-encrypt
describe-blob
data-key
data-key generate
data-key export
sign
verify
asymmetric
asymmetric encrypt
asymmetric decrypt
mac
verify-mac
digest
backup
backup create
backup verify
backup list
backup tombstones
restore
random
bench
completions
man";

#[test]
fn help_is_as_recorded() {
    let mut printed = String::new();
    for command in COMMANDS.lines() {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let ran = claviger(None, &args, b"");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        for part in ["$ claviger ", &args.join(" "), "\n"] {
            printed.push_str(part);
        }
        printed.push_str(&String::from_utf8(ran.stdout).unwrap());
        printed.push('\n');
    }
    // To record a wanted change: CLAVIGER_RECORD=1, and read the diff.
    if std::env::var_os("CLAVIGER_RECORD").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt"), &printed).unwrap();
        return;
    }
    for (recorded, now) in BufReader::new(HELP.as_bytes()).lines().zip(printed.lines()) {
        assert_eq!(recorded.unwrap(), now);
    }
    assert_eq!(HELP.len(), printed.len());
}
