//! The audit log has one event for each request, refusals too. (That no secret is in
//! it: `secrets.rs`.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use claviger_protocol::body::{
    BatchItem, BatchRequest, DescribeBlobRequest, DescribeKeyRequest, DisableKeyRequest, EncryptRequest,
    GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, GetRandomRequest, PingRequest,
    ReEncryptRequest, StatusRequest,
};
use claviger_protocol::{Code, DataKeySize, EncryptionContext, Opcode, Protection, Request};
use claviger_tests::audit::{Event, events, path};
use claviger_tests::keys::{context, decryption, encryption, list_request, new_key};
use claviger_tests::wire::header;
use claviger_tests::{Site, Token, Wire, each_token, eventually};
use uuid::Uuid;

/// What a request of this test is expected to leave.
#[derive(Default)]
struct Expected(Vec<(u64, &'static str, &'static str, Vec<Uuid>)>);

impl Expected {
    fn push(&mut self, id: u64, operation: &'static str, outcome: &'static str, keys: &[Uuid]) {
        self.0.push((id, operation, outcome, keys.to_vec()));
    }
}

/// Makes every kind of call once, refused ones too; says what must be in the log.
fn calls_of_every_kind(wire: &mut Wire) -> Expected {
    let mut want = Expected::default();
    let mut done = |wire: &mut Wire, id: u64, operation, keys: &[Uuid]| {
        let frame = wire.wait(id);
        want.push(id, operation, frame.code().name(), keys);
        frame
    };
    let none = EncryptionContext::default;
    let id = wire.send(new_key(Protection::Hsm));
    let made = wire.wait(id);
    let key = made.result::<claviger_protocol::body::CreateKeyRequest>().unwrap().key_id;
    let id_of_create = id;
    let id = wire.send(encryption(key, b"x"));
    let blob = done(wire, id, "encrypt", &[key]).result::<EncryptRequest>().unwrap().ciphertext_blob;
    let id = wire.send(decryption(&blob.0));
    done(wire, id, "decrypt", &[key]);
    let id = wire.send(ReEncryptRequest {
        source_key: None,
        ciphertext_blob: blob.clone(),
        source_context: none(),
        destination_key: key.into(),
        destination_context: none(),
    });
    done(wire, id, "reEncrypt", &[key]);
    let id = wire.send(DescribeBlobRequest { ciphertext_blob: blob.clone() });
    done(wire, id, "getDataKey", &[key]);
    let (size, context) = (DataKeySize::Bytes(16), none());
    let id = wire.send(GenerateDataKeyRequest { key: key.into(), size, context });
    done(wire, id, "generateDataKey", &[key]);
    let id = wire.send(GenerateDataKeyWithoutPlaintextRequest { key: key.into(), size, context: none() });
    done(wire, id, "generateDataKeyWithoutPlaintext", &[key]);
    let id = wire.send(GetRandomRequest { length: 1 });
    done(wire, id, "getRandom", &[]);
    let id = wire.send(StatusRequest {});
    done(wire, id, "resourceInfo", &[]);
    let id = wire.send(DescribeKeyRequest { key: key.into() });
    done(wire, id, "describeKey", &[key]);
    let id = wire.send(list_request(0, Vec::new()));
    done(wire, id, "listKeys", &[]);
    // Refusals: what isn't there, what doesn't open, what can't be read.
    let id = wire.send(DescribeKeyRequest { key: Uuid::from_u128(1).into() });
    assert_eq!(done(wire, id, "describeKey", &[]).code(), Code::NotFound);
    let id = wire.send(decryption(&blob.0[..blob.0.len() - 1]));
    assert_eq!(done(wire, id, "decrypt", &[key]).code(), Code::InvalidCiphertext);
    let id = wire.send(encryption(key, &[0; 6145]));
    assert_eq!(done(wire, id, "encrypt", &[key]).code(), Code::PlaintextTooLarge);
    let id = wire.send_body(Opcode::Encrypt.number(), b"rubbish");
    assert_eq!(done(wire, id, "encrypt", &[]).code(), Code::Malformed);
    let id = wire.send_body(0x7777, b"");
    assert_eq!(done(wire, id, "unknown", &[]).code(), Code::UnknownOpcode);
    let id = wire.fresh_id();
    wire.send_frame(&claviger_protocol::Header { flags: 1, ..header(2, id, 0) }, b"");
    assert_eq!(done(wire, id, "ping", &[]).code(), Code::UnsupportedFlag);
    want.push(id_of_create, "createKey", "Ok", &[key]);
    // An event for each key of a multi-key call, and for each item of a batch.
    let id = wire.send(DisableKeyRequest { keys: vec![key.into(), Uuid::from_u128(2).into()] });
    assert_eq!(wire.wait(id).code(), Code::Ok);
    want.push(id, "disableKey", "Ok", &[key]);
    want.push(id, "disableKey", "NotFound", &[]);
    let id = wire.send(BatchRequest { items: vec![random_item(), encrypt_item(key), random_item()] });
    assert_eq!(wire.wait(id).code(), Code::Ok);
    want.push(id, "getRandom", "Ok", &[]);
    want.push(id, "encrypt", "InvalidKeyState", &[key]);
    want.push(id, "getRandom", "Ok", &[]);
    want
}

fn random_item() -> BatchItem {
    let body = Request::from(GetRandomRequest { length: 1 }).encode().unwrap();
    BatchItem { opcode: Opcode::GetRandom.number(), body: body.into() }
}

fn encrypt_item(key: Uuid) -> BatchItem {
    let body = Request::from(encryption(key, b"x")).encode().unwrap();
    BatchItem { opcode: Opcode::Encrypt.number(), body: body.into() }
}

#[test]
fn every_request_leaves_one_event_with_its_operation_and_outcome() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let mut admin = daemon.admin();
        let want = calls_of_every_kind(&mut admin);
        let mut app = daemon.app();
        let denied = app.send(new_key(Protection::Hsm));
        assert_eq!(app.wait(denied).code(), Code::AccessDenied);
        app.call(PingRequest { payload: vec![].into() }).unwrap();
        let mut rude = Wire::connect(&site.admin_socket());
        rude.send(PingRequest { payload: vec![].into() });
        assert_eq!(rude.read_frame().unwrap().code(), Code::HelloRequired);
        daemon.terminate();

        let all = events(&path(&site));
        let ids: BTreeSet<&String> = all.iter().map(|event| &event.event_id).collect();
        assert_eq!(ids.len(), all.len(), "each event has an id of its own");
        let of = |endpoint: &str| -> Vec<&Event> {
            all.iter().filter(|event| event.endpoint == endpoint).collect()
        };
        let short = |event: &Event| {
            (event.request_id, event.operation.clone(), event.outcome.clone(), event.resources.clone())
        };
        let mut got: Vec<_> = of("admin").into_iter().map(short).collect();
        let mut wanted: Vec<_> = want
            .0
            .into_iter()
            .map(|(id, operation, outcome, keys)| (id, operation.to_owned(), outcome.to_owned(), keys))
            .collect();
        // The one who never said hello, on a connection of its own.
        wanted.push((1, "ping".into(), "HelloRequired".into(), vec![]));
        got.sort();
        wanted.sort();
        assert_eq!(got, wanted);

        let app: Vec<_> = of("app").into_iter().map(short).collect();
        assert_eq!(app, [(denied, "createKey".into(), "AccessDenied".into(), vec![])]);
        kinds_and_levels(&all);
    }
}

fn kinds_and_levels(all: &[Event]) {
    for event in all.iter().filter(|event| !event.endpoint.is_empty()) {
        let data = ["encrypt", "decrypt", "reEncrypt", "getDataKey", "getRandom"]
            .contains(&&*event.operation)
            || event.operation.starts_with("generateDataKey");
        assert_eq!(event.kind, if data { "data" } else { "management" }, "{event:?}");
        let warned = ["AccessDenied", "InvalidCiphertext"].contains(&&*event.outcome);
        assert_eq!(event.level, if warned { "warning" } else { "normal" }, "{event:?}");
    }
}

#[test]
fn the_audit_shows_contexts_by_a_keyed_hash_only() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut wire = daemon.admin();
    let key = wire.create(Protection::Hsm);
    let with = |pairs: &[(&str, &str)]| EncryptRequest { context: context(pairs), ..encryption(key, b"x") };
    for pairs in [&[("who", "CONTEXT-MARKER")][..], &[("who", "CONTEXT-MARKER")], &[("who", "other")], &[]] {
        wire.call(with(pairs)).unwrap();
    }
    daemon.terminate();
    let log = events(&path(&site));
    let hashes: Vec<&String> =
        log.iter().filter(|event| event.operation == "encrypt").map(|event| &event.context_hash).collect();
    assert_eq!(hashes.len(), 4);
    assert!(hashes.iter().all(|hash| hash.len() == 32), "{hashes:?}");
    assert_eq!(hashes[0], hashes[1]);
    assert!(hashes[0] != hashes[2] && hashes[2] != hashes[3] && hashes[0] != hashes[3]);
    assert!(!std::fs::read_to_string(path(&site)).unwrap().contains("CONTEXT-MARKER"));
}

#[test]
fn a_client_that_hangs_up_leaves_its_events_all_the_same() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let key = daemon.admin().create(Protection::Hsm);
        for _ in 0..20 {
            let mut rude = daemon.app();
            rude.send(encryption(key, b"x"));
            drop(rude);
        }
        eventually("every call is in the log", || {
            let log = std::fs::read_to_string(path(&site)).unwrap();
            (log.lines().filter(|line| line.contains("\"encrypt\"")).count() == 20).then_some(())
        });
        daemon.terminate();
        assert_eq!(events(&path(&site)).iter().filter(|event| event.operation == "encrypt").count(), 20);
    }
}
