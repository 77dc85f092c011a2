//! A lost reply: the same client token gives the same key, however the request is
//! repeated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{CreateKeyReply, CreateKeyRequest};
use claviger_protocol::{Alias, Code, Description, Header, Opcode, Protection, Request};
use claviger_tests::keys::{LEVELS, new_key};
use claviger_tests::wire::{header, request_frame};
use claviger_tests::{Site, each_token, eventually, on_both_tokens};

#[test]
fn a_lost_reply_retried_with_the_same_client_token_makes_one_key() {
    on_both_tokens(|daemon| {
        let mut admin = daemon.admin();
        let mut made = 0;
        for level in LEVELS {
            // Closed before reading: the daemon may drop the call or finish it.
            for _ in 0..10 {
                let request = new_key(level);
                let mut lost = daemon.admin();
                lost.send(request.clone());
                drop(lost);
                let first = daemon.admin().call(request.clone()).unwrap();
                let again = admin.call(request).unwrap();
                assert_eq!(first, again);
                made += 1;
            }
        }
        // The abandoned calls have all come to their end when their keys are counted.
        assert_eq!(admin.list_all().len(), made);
        // A reply that was certainly sent, and not read.
        let request = new_key(Protection::Hsm);
        let mut deaf = daemon.admin();
        deaf.send(request.clone());
        eventually("the key is made", || (admin.list_all().len() > made).then_some(()));
        drop(deaf);
        admin.call(request).unwrap();
        assert_eq!(admin.list_all().len(), made + 1);
    });
}

#[test]
fn concurrent_requests_with_one_client_token_make_one_key() {
    on_both_tokens(|daemon| {
        let mut admin = daemon.admin();
        for (round, level) in LEVELS.into_iter().cycle().take(6).enumerate() {
            let request = new_key(level);
            let mut wires: Vec<_> = (0..8).map(|_| daemon.admin()).collect();
            for wire in &mut wires {
                // Two on each connection, too.
                let bytes = [request_frame(1, request.clone()), request_frame(2, request.clone())].concat();
                wire.send_bytes(&bytes);
            }
            let mut replies: Vec<CreateKeyReply> = Vec::new();
            for wire in &mut wires {
                for id in [1, 2] {
                    replies.push(wire.wait(id).result::<CreateKeyRequest>().unwrap());
                }
            }
            assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
            assert_eq!(admin.list_all().len(), round + 1);
        }
    });
}

#[test]
fn one_client_token_for_another_request_is_refused() {
    on_both_tokens(|daemon| {
        let mut admin = daemon.admin();
        let request = new_key(Protection::Hsm);
        let made = admin.call(request.clone()).unwrap();
        for other in [
            CreateKeyRequest { protection: Protection::Software, ..request.clone() },
            CreateKeyRequest { description: Description::new("x").unwrap(), ..request.clone() },
            CreateKeyRequest { alias: Some(Alias::new("alias/x").unwrap()), ..request.clone() },
        ] {
            assert_eq!(admin.call(other).unwrap_err().code, Code::ClientTokenReused);
        }
        assert_eq!(admin.call(request).unwrap(), made);
        assert_eq!(admin.list_all().len(), 1);
    });
}

#[test]
fn a_client_token_is_remembered_over_kill_9() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let request =
            CreateKeyRequest { alias: Some(Alias::new("alias/once").unwrap()), ..new_key(Protection::Hsm) };
        let made = daemon.admin().call(request.clone()).unwrap();
        daemon.kill9();
        let daemon = site.start();
        assert_eq!(daemon.admin().call(request.clone()).unwrap(), made);
        let other = CreateKeyRequest { alias: None, ..request };
        assert_eq!(daemon.admin().call(other).unwrap_err().code, Code::ClientTokenReused);
        daemon.terminate();
    }
}

#[test]
fn a_call_past_its_deadline_is_answered_and_can_be_repeated() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for round in 1..=20 {
            let request = new_key(Protection::Hsm);
            let body = Request::from(request.clone()).encode().unwrap();
            let id = wire.fresh_id();
            // One millisecond: less than a key and two commits usually take.
            let header = header(Opcode::CreateKey.number(), id, body.len());
            wire.send_frame(&Header { deadline_ms: 1, ..header }, &body);
            let answer = wire.wait(id);
            match answer.code() {
                Code::Ok | Code::DeadlineExceeded => {}
                other => panic!("{other:?}: {}", answer.refusal().message),
            }
            let made = wire.call(request.clone()).unwrap();
            assert_eq!(wire.call(request).unwrap(), made);
            assert_eq!(wire.list_all().len(), round);
        }
    });
}
