//! Bounds of the daemon as a whole: connections, memory for frames.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_protocol::body::{BatchItem, BatchRequest, CreateKeyRequest, GetRandomRequest, PingRequest};
use claviger_protocol::{Code, Opcode, Protection, Request};
use claviger_tests::keys::{LEVELS, encryption, new_key};
use claviger_tests::wire::{header, request_frame};
use claviger_tests::{Site, Token, Wire, each_token, eventually};
use uuid::Uuid;

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

/// Frames that were held while the peer didn't read go on as soon as it does: every
/// timer of the daemon's is set beyond this test's patience.
#[test]
fn a_peer_that_reads_late_gets_every_reply_without_waiting_for_a_timer() {
    let limits = "handshake_timeout = \"1m\"\nidle_timeout = \"1h\"\ndefault_deadline = \"1m\"";
    let site = Site::with_limits(Token::Embedded, limits);
    let daemon = site.start();
    let mut wire = daemon.app();
    let body = GetRandomRequest { length: 4096 };
    let body: Vec<u8> = Request::from(body).encode().unwrap();
    for round in 0..3 {
        let items =
            || (0..250).map(|_| BatchItem { opcode: Opcode::GetRandom.number(), body: body.clone().into() });
        let ids: Vec<u64> = (0..12).map(|_| wire.send(BatchRequest { items: items().collect() })).collect();
        // Twelve megabytes of replies: the sixth of them fills what the daemon keeps for
        // a peer that doesn't read, and the rest is held.
        for id in ids {
            let reply = wire.wait(id).result::<BatchRequest>().unwrap();
            assert_eq!(reply.results.len(), 250, "round {round}");
        }
    }
    daemon.terminate();
}

#[test]
fn more_keys_than_the_hsm_and_the_caches_may_hold_all_work() {
    for token in each_token() {
        let site = Site::with_limits(token, "hsm_objects = 16\nrecord_cache = 16");
        let daemon = site.start();
        let mut wire = daemon.admin();
        let sealed: Vec<(Uuid, Vec<u8>)> = (0..60)
            .map(|n| {
                let key = wire.create(LEVELS[usize::from(n % 4 == 0)]);
                (key, wire.encrypt(key, key.as_bytes()))
            })
            .collect();
        // Four at once, in different orders: every object is evicted under somebody's hands.
        let threads: Vec<_> = [1, 7, 11, 59]
            .into_iter()
            .map(|step| {
                let (mut wire, sealed) = (daemon.app(), sealed.clone());
                std::thread::spawn(move || {
                    for n in 0..sealed.len() * 3 {
                        let (key, blob) = &sealed[n * step % sealed.len()];
                        assert_eq!(wire.decrypt(blob), Ok(key.as_bytes().to_vec()));
                        let fresh = wire.encrypt(*key, b"fresh");
                        assert_eq!(wire.decrypt(&fresh), Ok(b"fresh".to_vec()));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        daemon.terminate();
    }
}

#[test]
fn full_queues_answer_busy_and_leave_nothing_behind() {
    for token in each_token() {
        let site = Site::with_limits(token, "lane_queue = 1\nstore_queue = 2");
        let daemon = site.start();
        let mut wire = daemon.admin();
        let requests: Vec<_> = (0..200).map(|n| new_key(LEVELS[n % 2])).collect();
        let ids: Vec<u64> = requests.iter().map(|request| wire.send(request.clone())).collect();
        let mut made = BTreeSet::new();
        let mut busy = Vec::new();
        for (id, request) in ids.into_iter().zip(requests) {
            let answer = wire.wait(id);
            match answer.code() {
                Code::Ok => {
                    made.insert(answer.result::<CreateKeyRequest>().unwrap().key_id);
                }
                Code::Busy => busy.push(request),
                other => panic!("{other:?}: {}", answer.refusal().message),
            }
        }
        assert!(!made.is_empty() && !busy.is_empty(), "{} made, {} busy", made.len(), busy.len());
        let listed = |wire: &mut Wire| -> BTreeSet<Uuid> {
            wire.list_all().into_iter().map(|key| key.key_id).collect()
        };
        assert_eq!(listed(&mut wire), made);
        // One by one there is room for them all.
        for request in busy {
            made.insert(wire.call(request).unwrap().key_id);
        }
        assert_eq!(made.len(), 200);
        assert_eq!(listed(&mut wire), made);
        daemon.terminate();
    }
}

#[test]
fn a_stop_under_load_cuts_no_reply_and_exits_0() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let key = daemon.admin().create(Protection::Hsm);
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (mut wire, answered) = (daemon.app(), Arc::clone(&answered));
                std::thread::spawn(move || {
                    while let Some(reply) = wire.call_or_end(encryption(key, b"load")) {
                        match reply.map_err(|refusal| refusal.code) {
                            Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                            Err(Code::ShuttingDown) => continue,
                            Err(other) => panic!("{other:?}"),
                        };
                    }
                })
            })
            .collect();
        eventually("load", || (answered.load(Ordering::SeqCst) > 200).then_some(()));
        daemon.terminate();
        for client in clients {
            client.join().unwrap();
        }
    }
}
