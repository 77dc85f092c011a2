//! Signals under load: no request is lost. Each is answered, or was never begun.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use claviger_protocol::{Code, Protection};
use claviger_tests::keys::{LEVELS, encryption, new_key};
use claviger_tests::wire::request_frame;
use claviger_tests::{Site, Token, Wire, each_token, eventually};
use nix::sys::signal::Signal;

/// Requests that a client has open at a time.
const DEPTH: u64 = 16;

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    /// Keys made.
    made: usize,
    /// Refused for the stop.
    refused: usize,
}

/// Makes keys as fast as it can until the daemon closes.
fn make_keys(socket: &Path, protection: Protection, answered: &Arc<AtomicUsize>) -> JoinHandle<Seen> {
    let (mut wire, answered) = (Wire::open(socket), Arc::clone(answered));
    std::thread::spawn(move || {
        let mut seen = Seen::default();
        let first: Vec<u8> = (1..=DEPTH).flat_map(|id| request_frame(id, new_key(protection))).collect();
        let _ = wire.try_send_bytes(&first);
        let mut next = DEPTH;
        // A frame that is cut would end the test here.
        while let Some(frame) = wire.read_frame() {
            match frame.code() {
                Code::Ok => seen.made += 1,
                Code::ShuttingDown => seen.refused += 1,
                other => panic!("{other:?}: {:?}", frame.refusal()),
            }
            answered.fetch_add(1, Ordering::Relaxed);
            next += 1;
            let _ = wire.try_send_bytes(&request_frame(next, new_key(protection)));
        }
        seen
    })
}

#[test]
fn sigterm_and_sigint_under_load_leave_as_many_keys_as_were_answered() {
    for token in each_token() {
        let site = Site::new(token);
        let mut expected = 0;
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM, Signal::SIGINT] {
            let daemon = site.start();
            let answered = Arc::new(AtomicUsize::new(0));
            let clients: Vec<_> = LEVELS
                .into_iter()
                .cycle()
                .take(4)
                .map(|level| make_keys(&site.admin_socket(), level, &answered))
                .collect();
            eventually("a load", || (answered.load(Ordering::Relaxed) >= 50).then_some(()));
            daemon.signal(signal);
            let status = daemon.wait();
            assert_eq!(status.code(), Some(0), "{signal}: {status}");
            let seen: Vec<Seen> = clients.into_iter().map(|client| client.join().unwrap()).collect();
            expected += seen.iter().map(|seen| seen.made).sum::<usize>();
            eprintln!("{token:?} {signal}: {seen:?}");
            let daemon = site.start();
            assert_eq!(
                daemon.admin().list_all().len(),
                expected,
                "no key without its answer, nor the reverse"
            );
            daemon.terminate();
        }
    }
}

#[test]
fn sighup_under_load_disturbs_no_request() {
    let site = Site::with_limits(Token::Embedded, "max_plaintext = \"1KiB\"");
    let daemon = site.start();
    let key = daemon.admin().create(Protection::Hsm);
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (done, answered, mut wire) = (Arc::clone(&done), Arc::clone(&answered), daemon.app());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let ids: Vec<u64> = (0..DEPTH).map(|_| wire.send(encryption(key, &[5; 64]))).collect();
                    for id in ids {
                        assert_eq!(wire.wait(id).code(), Code::Ok);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let good = std::fs::read_to_string(site.config_file()).unwrap();
    for round in 0..20 {
        let text = match round % 4 {
            0 => good.replace("\"1KiB\"", "\"2KiB\""),
            1 => good.replace("[limits]", "[limts]"),
            2 => good.clone(),
            _ => good.replace("[limits]", "[limits]\nidle_timeout = \"3s\"\ndefault_deadline = \"9s\""),
        };
        std::fs::write(site.config_file(), text).unwrap();
        let before = answered.load(Ordering::Relaxed);
        // Several at once: none may kill, some may be one.
        for _ in 0..3 {
            daemon.signal(Signal::SIGHUP);
        }
        eventually("work goes on", || (answered.load(Ordering::Relaxed) > before + 64).then_some(()));
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    daemon.terminate();
}

#[test]
fn a_second_signal_while_it_stops_changes_nothing() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let answered = Arc::new(AtomicUsize::new(0));
    let client = make_keys(&site.admin_socket(), Protection::Software, &answered);
    eventually("a load", || (answered.load(Ordering::Relaxed) >= 20).then_some(()));
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
        daemon.signal(signal);
    }
    assert_eq!(daemon.wait().code(), Some(0));
    let made = client.join().unwrap().made;
    let daemon = site.start();
    assert_eq!(daemon.admin().list_all().len(), made);
    daemon.terminate();
}
