//! Metrics: what a live daemon shows, and an endpoint that nothing can hold up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::float_cmp, reason = "counts are whole numbers, which floats hold exactly")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use claviger_protocol::body::{BatchItem, BatchRequest, PingRequest};
use claviger_protocol::{Code, Protection, Request};
use claviger_tests::keys::encryption;
use claviger_tests::programs::text;
use claviger_tests::scrape::{ask, ask_on, scrape};
use claviger_tests::{PATIENCE, Site, Token, each_token, eventually};
use uuid::Uuid;

/// The families that the document lists: `| name | kind |`.
const DOCUMENT: &str = include_str!("../../daemon/METRICS.md");

fn listening(site: &Site) -> String {
    format!("[metrics]\nlisten = \"unix:{}\"\n", site.metrics_socket().display())
}

fn site(token: Token) -> Arc<Site> {
    Site::with_sections(token, listening)
}

#[test]
fn a_live_daemon_shows_exactly_what_the_document_lists() {
    let daemon = site(Token::Embedded).start();
    let metrics = scrape(&daemon.site().metrics_socket());
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `claviger_")?.split('|');
        let name = format!("claviger_{}", cells.next()?.trim_end().trim_end_matches('`'));
        Some((name, cells.next()?.trim().to_owned()))
    };
    let listed: BTreeSet<_> = DOCUMENT.lines().filter_map(row).collect();
    assert_eq!(metrics.families.into_iter().collect::<BTreeSet<_>>(), listed);
    daemon.terminate();
}

#[test]
fn every_request_is_counted_once_by_operation_outcome_and_endpoint() {
    for token in each_token() {
        let daemon = site(token).start();
        let socket = daemon.site().metrics_socket();
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        let key = admin.create(Protection::Hsm);
        let blob = admin.encrypt(key, b"x");
        for _ in 0..5 {
            app.encrypt(key, b"x");
        }
        let mut bad = blob.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(app.decrypt(&bad), Err(Code::InvalidCiphertext));
        assert_eq!(app.call(encryption(Uuid::from_u128(7), b"x")).unwrap_err().code, Code::AccessDenied);
        assert_eq!(app.refused(0x7777, b"").code, Code::UnknownOpcode);
        let item = |request: Request| BatchItem {
            opcode: request.opcode().number(),
            body: request.encode().unwrap().into(),
        };
        let items = vec![item(encryption(key, b"y").into()), item(encryption(key, b"z").into())];
        app.call(BatchRequest { items }).unwrap();
        let metrics = scrape(&socket);
        let count = |operation: &str, outcome: &str, endpoint: &str| {
            metrics.get(&format!(
                "claviger_requests_total{{operation=\"{operation}\",outcome=\"{outcome}\",endpoint=\"{endpoint}\"}}"
            ))
        };
        assert_eq!((count("CreateKey", "Ok", "admin"), count("Encrypt", "Ok", "admin")), (1., 1.));
        assert_eq!(count("Encrypt", "Ok", "app"), 7., "five and a batch of two");
        assert_eq!((count("Batch", "Ok", "app"), count("Hello", "Ok", "app")), (1., 1.));
        assert_eq!(count("Decrypt", "InvalidCiphertext", "app"), 1.);
        assert_eq!(count("Encrypt", "AccessDenied", "app"), 1.);
        assert_eq!(count("unknown", "UnknownOpcode", "app"), 1.);
        for histogram in ["queue", "work"] {
            let of = |part: &str| {
                metrics.get(&format!(
                    "claviger_request_{histogram}_seconds_{part}{{operation=\"Encrypt\",outcome=\"Ok\"}}"
                ))
            };
            assert_eq!(of("count"), 8.);
            assert!(histogram == "queue" || of("sum") > 0.);
        }
        assert!(metrics.sum("claviger_lane_calls_total{member=\"") >= 9., "encryptions, one unwrap, …");
        assert_eq!(metrics.get("claviger_unwraps_total{outcome=\"ok\"}"), 1., "unwrapped once for all");
        assert!(metrics.get("claviger_cache_hits_total{cache=\"materials\"}") >= 6.);
        assert!(metrics.get("claviger_store_commits_total{outcome=\"ok\"}") >= 2., "intent and key");
        assert!(metrics.get("claviger_store_sync_seconds_sum") > 0.);
        assert!(metrics.get("claviger_audit_events_total") >= 12.);
        assert_eq!(metrics.get("claviger_connections{endpoint=\"app\"}"), 1.);
        assert!(metrics.get("claviger_received_bytes_total{endpoint=\"app\"}") > 500.);
        assert_eq!(metrics.get("claviger_domain_unlocked"), 1.);
        assert_eq!(metrics.sum("claviger_member_state"), 1., "in one state");
        assert!(metrics.get("claviger_process_resident_bytes") > 1e6);
        drop((admin, app));
        eventually("its end is counted", || {
            (scrape(&socket).get("claviger_connections{endpoint=\"app\"}") == 0.).then_some(())
        });
        daemon.terminate();
    }
}

#[test]
fn the_socket_is_the_groups_and_goes_with_the_daemon() {
    let daemon = site(Token::Embedded).start();
    let socket = daemon.site().metrics_socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    daemon.terminate();
    assert!(!socket.exists());
}

#[test]
fn a_metrics_socket_in_use_stops_the_start_and_is_left_alone() {
    let site = site(Token::Embedded);
    let socket = site.metrics_socket();
    let owner = UnixListener::bind(&socket).unwrap();
    let output = site.daemon_command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(text(&socket)) && said.contains("in use"), "{said}");
    let _ = UnixStream::connect(&socket).unwrap();
    assert!(owner.accept().is_ok(), "whoever listens there still does");
    drop(owner);
    // Its file is stale now, and no obstacle.
    site.start().terminate();
    std::fs::write(&socket, "precious").unwrap();
    let output = site.daemon_command().output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a socket"));
    assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
}

#[test]
fn a_loopback_address_serves_too_and_one_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let site = Site::with_sections(Token::Embedded, |_| format!("[metrics]\nlisten = \"{address}\"\n"));
    let output = site.daemon_command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address.to_string()) && said.contains("listening"), "{said}");
    drop(taken);
    let daemon = site.start();
    let stream = TcpStream::connect(address).unwrap();
    let answer = ask_on(stream, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(answer.status == 200 && answer.body.contains("claviger_build_info"));
    daemon.terminate();
}

#[test]
fn only_metrics_are_answered_and_a_bad_request_harms_nobody() {
    let daemon = site(Token::Embedded).start();
    let socket = daemon.site().metrics_socket();
    let status = |request: &[u8]| ask(&socket, request).unwrap().status;
    assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), 404);
    assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n"), 405);
    assert_eq!(status(b"\x16\x03\x01\x00\xff hello \r\n\r\n"), 400);
    let mut large = b"GET /metrics HTTP/1.1\r\nA: ".to_vec();
    large.resize(8 * 1024, b'a');
    assert_eq!(status(&large), 431);
    let head = ask(&socket, b"HEAD /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    // Slow scrapers take every place, and are cut off.
    let slow: Vec<_> = (0..8).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for mut stream in &slow {
        stream.write_all(b"GET /metr").unwrap();
    }
    daemon.admin().call(PingRequest { payload: Vec::new().into() }).unwrap();
    assert_eq!(scrape(&socket).get("claviger_domain_unlocked"), 1.);
    for mut stream in &slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or_default(), 0, "cut off");
    }
    daemon.terminate();
}

#[test]
fn a_locked_domain_can_be_watched() {
    let site = site(Token::SoftHsm);
    site.write_pin("00000000", 0o600);
    let mut daemon = site.spawn();
    drop(daemon.admin_when_listening());
    let metrics = eventually("the PIN is refused", || {
        let metrics = scrape(&site.metrics_socket());
        (metrics.get("claviger_member_state{member=\"a\",state=\"pin-refused\"}") == 1.).then_some(metrics)
    });
    assert_eq!(metrics.get("claviger_domain_unlocked"), 0.);
    daemon.terminate();
}
