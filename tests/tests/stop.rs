//! SIGTERM: what is in flight is finished, what is new is not begun, the exit is clean.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::PingRequest;
use claviger_protocol::{Code, Protection};
use claviger_tests::keys::{LEVELS, new_key};
use claviger_tests::wire::request_frame;
use claviger_tests::{Site, Token, Wire, each_token, on_both_tokens};
use nix::sys::signal::Signal;

#[test]
fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    for token in each_token() {
        let site = Site::new(token);
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let daemon = site.start();
            let before = daemon.admin().list_all().len();
            let mut wire = daemon.admin();
            let mut idle = daemon.admin();
            let creates =
                (1..=20).flat_map(|id| request_frame(id, new_key(LEVELS[usize::from(id % 2 == 0)])));
            let ping = request_frame(21, PingRequest { payload: vec![].into() });
            wire.send_bytes(&creates.chain(ping).collect::<Vec<u8>>());
            // The ping is answered: everything before it is in flight.
            assert_eq!(wire.wait(21).code(), Code::Ok);
            daemon.signal(signal);
            for id in 1..=20 {
                assert_eq!(wire.wait(id).code(), Code::Ok, "{token:?} {signal} {id}");
            }
            wire.expect_closed();
            idle.expect_closed();
            assert!(daemon.wait().success());
            assert!(!site.admin_socket().exists() && !site.app_socket().exists());
            let daemon = site.start();
            assert_eq!(daemon.admin().list_all().len(), before + 20);
            daemon.terminate();
        }
    }
}

#[test]
fn a_client_that_never_reads_does_not_keep_the_daemon_from_stopping() {
    let site = Site::with_limits(Token::Embedded, "stop_timeout = \"500ms\"");
    let daemon = site.start();
    let mut deaf = daemon.admin();
    let frame = request_frame(1, PingRequest { payload: vec![0; 4096].into() });
    deaf.send_until_stuck(&frame, 64 * 1024);
    daemon.signal(Signal::SIGTERM);
    // Cut off after stop_timeout as configured, which is no failure, and said so; the
    // store was closed all the same.
    let status = daemon.wait();
    assert!(status.success(), "{status}");
    assert!(site.said().contains("were cut off"), "{}", site.said());
    site.start().terminate();
}

#[test]
fn keys_survive_kill_9_and_sigterm_the_whole_way() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let elsewhere = Site::new(site.token());
        let running = elsewhere.start();
        let mut wire = running.admin();
        let blobs = LEVELS.map(|level| {
            let key = wire.create(level);
            wire.encrypt(key, b"a real secret")
        });
        running.kill9();
        let running = elsewhere.start();
        let mut wire = running.admin();
        for blob in &blobs {
            assert_eq!(wire.decrypt(blob), Ok(b"a real secret".to_vec()));
        }
        running.terminate();
        let running = elsewhere.start();
        for blob in &blobs {
            assert_eq!(running.app().decrypt(blob), Ok(b"a real secret".to_vec()));
        }
        running.terminate();
        // And a client that was there before finds the socket again.
        assert!(Wire::try_open(&elsewhere.admin_socket()).is_none());
        assert!(daemon.admin().create_reply(Protection::Hsm).key_version_id.is_some());
    });
}

#[test]
fn a_stop_with_keys_in_the_hsm_exits_0_every_time() {
    for token in each_token() {
        let site = Site::new(token);
        let mut blobs = Vec::new();
        for _ in 0..10 {
            let daemon = site.start();
            let mut wire = daemon.admin();
            let key = wire.create(Protection::Hsm);
            blobs.push(wire.encrypt(key, b"in use"));
            for blob in &blobs {
                assert_eq!(wire.decrypt(blob), Ok(b"in use".to_vec()));
            }
            // Their session objects are destroyed while the process ends.
            daemon.terminate();
        }
    }
}
