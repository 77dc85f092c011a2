//! Nonce budgets: a key that encrypts directly is rotated before its nonces can repeat, or
//! refuses to encrypt; a key that only derives has a new salt at each start.

use claviger_protocol::body::{
    CreateDefaultKeyRequest, CreateKeyRequest, CreateKeyVersionRequest, DescribeKeyRequest,
    DisableKeyRequest, EnableKeyRequest, EncryptReply, RotateKeyRequest,
};
use claviger_protocol::names::KeyRef;
use claviger_protocol::{BlobRef, Code, KeyOrigin, Protection, ServiceName};
use clavigerd::backend::hsm::command::Template;
use clavigerd::keyring::record::{KeyRecord, VersionRecord, path};
use uuid::Uuid;

use super::Sim;
use crate::{create, decrypt, encrypt};

const BLOCK: u64 = 1 << 16;
/// Reserved uses after which no whole block is left below 0.9 × 2^32, and below the end.
const SPENT: u64 = (1 << 32) / 10 * 9 / BLOCK * BLOCK;
const LAST: u64 = (1 << 32) / 100 * 95 / BLOCK * BLOCK;

/// A daemon on a token that can't derive, with keys whose first version has reserved so much.
fn with_reserved(keys: u8, reserved: u64) -> (Sim, Vec<(Uuid, Uuid)>) {
    let mut sim = Sim::with_template(21, Template::AesDirect);
    let keys: Vec<_> = (1..=keys)
        .map(|token| {
            let made = sim.call(create([token; 16], Protection::Hsm)).unwrap();
            (made.key_id, made.key_version_id.unwrap())
        })
        .collect();
    for (key, version) in &keys {
        reserve(&mut sim, *key, *version, reserved);
    }
    sim.crash();
    (sim, keys)
}

fn reserve(sim: &mut Sim, key: Uuid, version: Uuid, reserved_uses: u64) {
    let place = path::version(key, version);
    let record: VersionRecord = sim.record(&place);
    sim.put(place, &VersionRecord { reserved_uses, ..record });
}

fn sealed(sim: &mut Sim, key: Uuid) -> Result<EncryptReply, Code> {
    sim.call(encrypt(key, b"x"))
}

fn versions(sim: &mut Sim, key: Uuid) -> u32 {
    sim.call(DescribeKeyRequest { key: KeyRef::Id(key) }).unwrap().version_count
}

/// How many rotations the log tells of.
fn rotations(sim: &Sim) -> usize {
    let lines = sim.service.log.lines();
    lines.iter().filter(|line| line.contains("\"rotateKey\"") && line.contains("internal")).count()
}

#[test]
fn a_key_is_rotated_once_when_its_budget_ends_and_its_old_ciphertexts_open() {
    for restart in [false, true] {
        let (mut sim, keys) = with_reserved(1, SPENT);
        let (key, first) = keys[0];
        sim.look();
        assert_eq!(versions(&mut sim, key), 1, "nobody has used it yet");
        let old = sealed(&mut sim, key).unwrap();
        assert_eq!(old.key_version_id, first, "a rotation is under way: it goes on");
        if restart {
            sim.crash();
            sealed(&mut sim, key).unwrap();
        }
        for _ in 0..3 {
            sim.look();
            assert_eq!((versions(&mut sim, key), rotations(&sim)), (2, 1));
        }
        let new = sealed(&mut sim, key).unwrap();
        assert_ne!(new.key_version_id, first);
        for blob in [old, new] {
            assert_eq!(sim.call(decrypt(&blob.ciphertext_blob.0)).unwrap().plaintext.expose(), b"x");
        }
    }
}

#[test]
fn nothing_is_encrypted_beyond_the_last_use_until_there_is_another_version() {
    let (mut sim, keys) = with_reserved(1, LAST);
    let (key, first) = keys[0];
    assert_eq!(sealed(&mut sim, key).unwrap_err(), Code::KeyExhausted);
    sim.look();
    let new = sealed(&mut sim, key).unwrap().key_version_id;
    assert_ne!(new, first);
    let record: VersionRecord = sim.record(&path::version(key, new));
    assert_eq!(record.reserved_uses, BLOCK);
}

#[test]
fn a_rotation_for_the_budget_waits_for_its_key_and_keeps_no_other_waiting() {
    let (mut sim, keys) = with_reserved(2, SPENT);
    let [(off, _), (on, _)] = keys[..] else { unreachable!() };
    let switched = || vec![KeyRef::Id(off)];
    sealed(&mut sim, off).unwrap();
    sim.call(DisableKeyRequest { keys: switched() }).unwrap();
    sim.look();
    sealed(&mut sim, on).unwrap();
    sim.look();
    assert_eq!((versions(&mut sim, off), versions(&mut sim, on)), (1, 2));
    assert_eq!(rotations(&sim), 1, "what waits is no failure, and leaves no event");
    sim.call(EnableKeyRequest { keys: switched() }).unwrap();
    sim.look();
    assert_eq!((versions(&mut sim, off), versions(&mut sim, on)), (2, 2));
}

#[test]
fn a_rotation_by_hand_serves_for_the_budget() {
    let (mut sim, keys) = with_reserved(1, SPENT);
    let (key, _) = keys[0];
    sealed(&mut sim, key).unwrap();
    sim.call(RotateKeyRequest { client_token: [7; 16], key: KeyRef::Id(key) }).unwrap();
    sim.look();
    assert_eq!((versions(&mut sim, key), rotations(&sim)), (2, 0));
}

#[test]
fn an_external_key_refuses_to_encrypt_and_goes_on_to_decrypt() {
    let (mut sim, keys) = with_reserved(1, SPENT - BLOCK);
    let (key, version) = keys[0];
    let record: KeyRecord = sim.record(&path::key(key));
    sim.put(path::key(key), &KeyRecord { origin: KeyOrigin::External, ..record });
    sim.crash();
    let blob = sealed(&mut sim, key).unwrap().ciphertext_blob.0;
    reserve(&mut sim, key, version, SPENT);
    sim.crash();
    for _ in 0..2 {
        assert_eq!(sealed(&mut sim, key).unwrap_err(), Code::KeyExhausted);
        sim.look();
        assert_eq!(sim.call(decrypt(&blob)).unwrap().plaintext.expose(), b"x");
        assert_eq!(versions(&mut sim, key), 1);
    }
}

#[test]
fn a_default_key_is_rotated_for_its_budget_though_nobody_may_ask_for_it() {
    let mut sim = Sim::with_template(22, Template::AesDirect);
    let service = ServiceName::new("svc").unwrap();
    let made = sim.call(CreateDefaultKeyRequest { service }).unwrap();
    reserve(&mut sim, made.key_id, made.key_version_id.unwrap(), SPENT);
    sim.crash();
    sealed(&mut sim, made.key_id).unwrap();
    sim.look();
    assert_eq!(versions(&mut sim, made.key_id), 2);
}

#[test]
fn a_key_that_derives_has_a_new_salt_at_each_start() {
    let mut sim = Sim::new(23);
    let key = sim.call(create([1; 16], Protection::Hsm)).unwrap().key_id;
    let salt = |sim: &mut Sim| {
        let blob = sealed(sim, key).unwrap().ciphertext_blob.0;
        BlobRef::parse(&blob).unwrap().salt.to_vec()
    };
    let first = salt(&mut sim);
    assert_eq!(salt(&mut sim), first);
    sim.crash();
    assert_ne!(salt(&mut sim), first);
}

#[test]
fn a_client_token_stands_for_one_operation() {
    let mut sim = Sim::new(24);
    let key = KeyRef::Id(sim.call(create([1; 16], Protection::Software)).unwrap().key_id);
    let rotate = RotateKeyRequest { client_token: [2; 16], key: key.clone() };
    let made = sim.call(rotate.clone()).unwrap();
    assert_eq!(sim.call(rotate).unwrap(), made);
    // Its body is the same to the byte, but it asks for something else.
    let version = CreateKeyVersionRequest { client_token: [2; 16], key };
    assert_eq!(sim.call(version).unwrap_err(), Code::ClientTokenReused);
    let other: CreateKeyRequest = create([2; 16], Protection::Software);
    assert_eq!(sim.call(other).unwrap_err(), Code::ClientTokenReused);
}
