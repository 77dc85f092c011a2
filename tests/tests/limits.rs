//! Bounds of the daemon as a whole: connections, memory for frames.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::PingRequest;
use claviger_protocol::{Code, Opcode};
use claviger_tests::wire::{header, request_frame};
use claviger_tests::{Site, Token, Wire, eventually};

#[test]
fn connections_over_the_limit_are_closed_and_places_come_back() {
    let site = Site::with_limits(Token::Embedded, "max_connections = 3");
    let daemon = site.start();
    let mut open: Vec<Wire> = (0..3).map(|_| daemon.admin()).collect();
    for _ in 0..5 {
        Wire::connect(&site.admin_socket()).expect_closed();
    }
    // Another endpoint has places of its own.
    let _app = daemon.app();
    let ping = || PingRequest { payload: vec![].into() };
    for wire in &mut open {
        wire.call(ping()).unwrap();
    }
    open.pop();
    // The daemon sees the end of a connection in its own time.
    let mut again = eventually("a place", || {
        let mut wire = Wire::connect(&site.admin_socket());
        wire.try_send_bytes(&request_frame(1, claviger_tests::wire::plain_hello())).ok()?;
        wire.read_frame().map(|_| wire)
    });
    again.call(ping()).unwrap();
    daemon.terminate();
}

#[test]
fn a_flood_of_half_sent_frames_meets_the_memory_budget_and_others_go_on() {
    let limits = "buffer_bytes = \"2MiB\"\nmax_body = \"256KiB\"\nidle_timeout = \"1m\"";
    let site = Site::with_limits(Token::Embedded, limits);
    let daemon = site.start();
    let mut friend = daemon.app();
    let body = vec![0; 256 * 1024];
    let mut flood: Vec<Wire> = (0..20).map(|_| daemon.app()).collect();
    for wire in &mut flood {
        // Twenty times 256 KiB claimed: more than there is.
        wire.send_bytes(&header(Opcode::Ping.number(), 7, body.len()).to_bytes());
        wire.send_bytes(&body[..100]);
    }
    friend.call(PingRequest { payload: vec![1].into() }).unwrap();
    // Whoever got room is answered for what the frame says, the rest with Busy; nobody is cut off.
    let mut busy = 0;
    for wire in &mut flood {
        wire.send_bytes(&body[100..]);
        match wire.wait(7).code() {
            Code::Malformed => {}
            Code::Busy => busy += 1,
            other => panic!("{other:?}"),
        }
        wire.call(PingRequest { payload: vec![2].into() }).unwrap();
    }
    assert!((1..=14).contains(&busy), "{busy} of 20 found no room");
    drop(flood);
    // All of the memory comes back.
    for _ in 0..20 {
        let mut wire = daemon.app();
        assert_eq!(wire.refused(Opcode::Ping.number(), &body).code, Code::Malformed);
    }
    daemon.terminate();
}
