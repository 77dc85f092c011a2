//! Clients that never pause: they must not keep the daemon from what is due, neither
//! from a stop nor from a timeout.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use claviger_protocol::body::{HelloRequest, PingRequest};
use claviger_protocol::{Code, Protection};
use claviger_tests::wire::{plain_hello, request_frame};
use claviger_tests::{PATIENCE, Site, Token, Wire};
use nix::sys::signal::Signal;

/// Refused hellos that a connection may say before it is closed.
const REFUSED_HELLOS: usize = 8;
/// Bytes of answers after which a flood counts as one.
const UNDER_WAY: usize = 1 << 20;

/// A connection whose one thread writes the same bytes until the daemon closes, and
/// whose other reads whatever comes.
struct Flood {
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
    /// Hears of it once [`UNDER_WAY`] bytes of answers have come.
    under_way: Receiver<()>,
    /// Hears of the connection's end.
    ended: Receiver<()>,
}

impl Flood {
    /// Writes `first` once and `again` without end.
    fn start(socket: &Path, first: Vec<u8>, again: Vec<u8>) -> Self {
        let mut from = UnixStream::connect(socket).unwrap();
        // Both threads end with the connection, or where nothing moves for so long.
        from.set_read_timeout(Some(PATIENCE)).unwrap();
        from.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut to = from.try_clone().unwrap();
        let (moves, under_way) = channel();
        let (ends, ended) = channel();
        let writer = std::thread::spawn(move || {
            let _ = to.write_all(&first);
            while to.write_all(&again).is_ok() {}
        });
        let reader = std::thread::spawn(move || {
            let (mut buffer, mut read) = (vec![0; 64 * 1024], 0);
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if read < UNDER_WAY && read + count >= UNDER_WAY {
                    moves.send(()).unwrap();
                }
                read += count;
            }
            let _ = ends.send(());
        });
        Self { writer, reader, under_way, ended }
    }

    fn end(self) {
        self.ended.recv_timeout(PATIENCE).expect("the connection is closed");
        self.writer.join().unwrap();
        self.reader.join().unwrap();
    }
}

/// A hello of a version that nobody speaks.
fn refused_hello(id: u64) -> Vec<u8> {
    request_frame(id, HelloRequest { min_version: 200, max_version: 201, ..plain_hello() })
}

fn pings() -> Vec<u8> {
    (2..1_026).flat_map(|id| request_frame(id, PingRequest { payload: vec![].into() })).collect()
}

#[test]
fn clients_that_ping_without_end_do_not_keep_the_daemon_from_stopping() {
    // A stop that waits for its timeout would be over long after the harness gave up.
    let site = Site::with_limits(Token::Embedded, "stop_timeout = \"5m\"");
    for clients in [1, 4] {
        let daemon = site.start();
        let socket = site.app_socket();
        let hello = request_frame(1, plain_hello());
        let floods: Vec<_> = (0..clients).map(|_| Flood::start(&socket, hello.clone(), pings())).collect();
        for flood in &floods {
            flood.under_way.recv_timeout(PATIENCE).expect("pings are answered");
        }
        // Others are served meanwhile.
        let key = daemon.admin().create(Protection::Hsm);
        assert!(!daemon.app().encrypt(key, b"x").is_empty());
        daemon.signal(Signal::SIGTERM);
        let status = daemon.wait();
        assert!(status.success(), "{status}");
        floods.into_iter().for_each(Flood::end);
    }
}

#[test]
fn a_peer_is_refused_so_many_hellos_and_then_closed() {
    // So that the count alone can close it.
    let site = Site::with_limits(Token::Embedded, "handshake_timeout = \"1m\"");
    let daemon = site.start();
    for pipelined in [false, true] {
        let mut wire = Wire::connect(&site.app_socket());
        if pipelined {
            let hellos: Vec<u8> = (1..=100).flat_map(refused_hello).collect();
            // It may be closed before it has all of them.
            let _ = wire.try_send_bytes(&hellos);
        }
        let mut refused = 0;
        loop {
            if !pipelined && wire.try_send_bytes(&refused_hello(refused)).is_err() {
                break;
            }
            let Some(frame) = wire.read_frame() else { break };
            assert_eq!(frame.code(), Code::UnsupportedVersion);
            refused += 1;
            assert!(refused <= REFUSED_HELLOS as u64, "still there after {refused} refused hellos");
        }
        assert!(refused > 1, "one wrong hello may be mended");
    }
    // One that mends its hello in time is served.
    let mut wire = Wire::connect(&site.app_socket());
    wire.send_bytes(&refused_hello(7));
    assert_eq!(wire.wait(7).code(), Code::UnsupportedVersion);
    wire.hello();
    daemon.terminate();
}

#[test]
fn a_peer_that_floods_without_a_hello_is_closed() {
    let site = Site::with_limits(Token::Embedded, "handshake_timeout = \"100ms\"");
    let daemon = site.start();
    let hello = refused_hello(1);
    Flood::start(&site.app_socket(), Vec::new(), hello.repeat(1_024)).end();
    daemon.terminate();
}
