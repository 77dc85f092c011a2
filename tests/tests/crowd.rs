//! Many connections that do nothing, and a daemon that has no descriptor left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::os::unix::net::UnixStream;
use std::process::Command;

use claviger_protocol::body::PingRequest;
use claviger_protocol::{Code, Protection};
use claviger_tests::process::{kib, proc};
use claviger_tests::programs::tool;
use claviger_tests::wire::{plain_hello, request_frame};
use claviger_tests::{Daemon, Site, Token, Wire, eventually};

/// Connections of the "1,000 idle connections".
const IDLE: usize = 1_000;
/// What they may cost together, in KiB of resident memory.
const AT_MOST: u64 = 64 * 1024;

#[test]
fn a_thousand_idle_connections_cost_little_and_nobody_waits_for_them() {
    let limits = format!("max_connections = {}\nidle_timeout = \"1h\"", IDLE + 10);
    let site = Site::with_limits(Token::Embedded, &limits);
    let daemon = site.start();
    let pid = daemon.pid();
    let mut worker = daemon.app();
    let key = daemon.admin().create(Protection::Hsm);
    let blob = worker.encrypt(key, b"before");
    let empty = kib(pid, "VmRSS");
    let mut idle: Vec<Wire> = (0..IDLE).map(|_| daemon.app()).collect();
    let silent = kib(pid, "VmRSS");
    assert_eq!(worker.decrypt(&blob), Ok(b"before".to_vec()));
    // Idle again after each has sent and received a frame of some size.
    for wire in &mut idle {
        wire.call(PingRequest { payload: vec![1; 4096].into() }).unwrap();
    }
    let used = kib(pid, "VmRSS");
    assert_eq!(worker.decrypt(&blob), Ok(b"before".to_vec()));
    for wire in &mut idle {
        wire.call(PingRequest { payload: vec![1; 4096].into() }).unwrap();
    }
    let again = kib(pid, "VmRSS");
    println!(
        "resident: {empty} KiB; with {IDLE} connections after hello {silent} KiB, {:.1} KiB each; after 4 KiB \
         both ways {used} KiB, {:.1} KiB each; after as much again {again} KiB",
        per_connection(empty, silent),
        per_connection(empty, used),
    );
    for now in [silent, used, again] {
        assert!(now.saturating_sub(empty) <= AT_MOST, "{} KiB for {IDLE}", now - empty);
    }
    drop(idle);
    // Their descriptors come back, all of them.
    eventually("the connections are gone", || (descriptors(&daemon) < 100).then_some(()));
    daemon.terminate();
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn per_connection(before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64 / IDLE as f64
}

fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(proc(daemon.pid(), "fd")).unwrap().count()
}

/// Sets the soft limit on the daemon's open descriptors.
fn limit_descriptors(daemon: &Daemon, soft: usize) {
    let (pid, limit) = (format!("--pid={}", daemon.pid()), format!("--nofile={soft}:"));
    tool(Command::new("prlimit").args([pid, limit]));
}

#[test]
fn without_descriptors_old_connections_work_new_ones_wait_and_are_served_later() {
    for token in claviger_tests::each_token() {
        let site = Site::with_limits(token, "max_connections = 100\nhandshake_timeout = \"1m\"");
        let daemon = site.start();
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        let key = admin.create(Protection::Software);
        // Three more than are open, and somebody wants forty.
        limit_descriptors(&daemon, descriptors(&daemon) + 3);
        let mut crowd: Vec<Wire> = (0..40).map(|_| Wire::connect(&site.app_socket())).collect();
        for wire in &mut crowd {
            wire.send_bytes(&request_frame(1, plain_hello()));
        }
        eventually("it is told", || site.said().contains("connections can't be accepted").then_some(()));
        // Who was there before goes on, changes of the store among it.
        for _ in 0..20 {
            let blob = app.encrypt(key, b"meanwhile");
            assert_eq!(app.decrypt(&blob), Ok(b"meanwhile".to_vec()));
        }
        admin.create(Protection::Software);
        assert_eq!(admin.list_all().len(), 2);
        limit_descriptors(&daemon, 1_000);
        for wire in &mut crowd {
            assert_eq!(wire.wait(1).code(), Code::Ok);
        }
        eventually("its end is told", || site.said().contains("can be accepted again").then_some(()));
        // One line a second, not one for each of the attempts.
        let told = site.said().matches("connections can't be accepted").count();
        assert!(told < 60, "{told} lines");
        daemon.terminate();
    }
}

#[test]
fn every_connection_that_the_limits_allow_fits_in_the_descriptors_it_asked_for() {
    let site = Site::with_limits(Token::Embedded, "max_connections = 100");
    // What the daemon itself says is enough: 2 × 2 × 100 + 64.
    let by = ["prlimit", "--nofile=464:464"];
    let mut daemon = Daemon::spawn(&site, claviger_tests::process::exec(&by, &site.daemon_command()));
    daemon.wait_serving();
    let admins: Vec<Wire> = (0..100).map(|_| daemon.admin()).collect();
    let mut apps: Vec<Wire> = (0..100).map(|_| daemon.app()).collect();
    // More than that are closed at once, and cost nothing.
    for _ in 0..300 {
        let _ = UnixStream::connect(site.app_socket()).unwrap();
    }
    for wire in &mut apps {
        wire.call(PingRequest { payload: vec![].into() }).unwrap();
    }
    drop(admins);
    eventually("a place", || Wire::try_connect(&site.admin_socket()).ok());
    assert!(!site.said().contains("can't be accepted"), "{}", site.said());
    daemon.terminate();
}
