//! Imports under a clock and crashes of one's own: every state, a token's day, tries that are
//! counted whatever happens, and a crash at any moment. Layouts have their tests elsewhere: here
//! all is SM2PKE, whose keys take no time to make.

use std::sync::Arc;

use claviger_protocol::body::{
    CancelKeyDeletionRequest, CreateKeyRequest, DeleteKeyMaterialRequest, DescribeKeyRequest,
    DisableKeyRequest, ErrorBody, GetParametersForImportReply, GetParametersForImportRequest,
    ImportKeyMaterialRequest, ScheduleKeyDeletionRequest,
};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    Code, ExportAlgorithm, ImportAlgorithm, KeyOrigin, KeyRef, KeySpec, KeyState, Operation, Protection,
    WrappingKeySpec, codec,
};
use clavigerd::backend::software::PublicKey;
use clavigerd::edge::Entropy;
use clavigerd::keyring::record::{ImportRecord, path};
use clavigerd::store::{Sealed, Store};
use uuid::Uuid;

use super::Sim;
use crate::{create, decrypt, encrypt};

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;

fn external(sim: &mut Sim, token: u8) -> Uuid {
    let plain = create([0xC0 | token; 16], Protection::Software);
    sim.call(CreateKeyRequest { origin: KeyOrigin::External, ..plain }).unwrap().key_id
}

fn parameters(key: Uuid) -> GetParametersForImportRequest {
    let (wrapping_spec, algorithm) = (WrappingKeySpec::Sm2, ImportAlgorithm::Sm2Pke);
    GetParametersForImportRequest { key: KeyRef::Id(key), wrapping_spec, algorithm }
}

/// An import of 32 bytes of `material`, whose client token is `token` again and again.
fn import(
    key: Uuid,
    given: &GetParametersForImportReply,
    material: u8,
    token: u8,
) -> ImportKeyMaterialRequest {
    let public = PublicKey::from_spki(&given.public_key.0).unwrap();
    let sealed = public.encrypt(ExportAlgorithm::Sm2Pke, &[material; 32], &Entropy::seeded(u64::from(token)));
    ImportKeyMaterialRequest {
        client_token: [token; 16],
        key: KeyRef::Id(key),
        encrypted_material: Bytes(sealed.unwrap()),
        encrypted_ephemeral_key: Bytes::default(),
        token: given.token.clone(),
        expires_at: None,
    }
}

/// One that brings nothing usable.
fn garbage(key: Uuid, given: &GetParametersForImportReply, token: u8) -> ImportKeyMaterialRequest {
    ImportKeyMaterialRequest { encrypted_material: Bytes(vec![token; 120]), ..import(key, given, 1, token) }
}

fn delete(key: Uuid) -> DeleteKeyMaterialRequest {
    DeleteKeyMaterialRequest { key: KeyRef::Id(key) }
}

fn state(sim: &mut Sim, key: Uuid) -> KeyState {
    sim.call(DescribeKeyRequest { key: KeyRef::Id(key) }).unwrap().state
}

impl Sim {
    /// What import tokens stand for.
    fn imports(&mut self) -> Vec<ImportRecord> {
        let store: Arc<dyn Store> = Arc::clone(&self.store) as Arc<dyn Store>;
        let sealed = Sealed::new(store, crate::sim_domain().keys.record_mac());
        let all = self.finish(sealed.list::<ImportRecord>(path::IMPORTS, None, 1_000)).unwrap();
        all.into_iter().map(|(_, _, record)| record).collect()
    }

    /// Its code, and what a refusal says.
    fn said<O: Operation>(&mut self, request: O) -> (Code, String) {
        let id = self.start(request);
        self.settle();
        let (code, body) = &self.answers[&id];
        let refused = |body| codec::decode::<ErrorBody>(body).unwrap().message;
        (*code, if *code == Code::Ok { String::new() } else { refused(body) })
    }
}

/// Columns: Enabled, Disabled, PendingImport, PendingDeletion with and without material, Deleted.
/// `y` succeeds, `-` is what the state forbids.
#[test]
fn every_step_of_an_import_in_every_state() {
    type Call = fn(&mut Sim, Uuid, &GetParametersForImportReply) -> (Code, String);
    let rows: [(&str, &str, Call); 3] = [
        ("parameters", "yyy---", |sim, key, _| sim.said(parameters(key))),
        ("import", "yyy---", |sim, key, given| sim.said(import(key, given, 1, 9))),
        ("delete material", "yy----", |sim, key, _| sim.said(delete(key))),
    ];
    for (name, wanted, call) in rows {
        for (column, wanted) in wanted.chars().enumerate() {
            let mut sim = Sim::new(6);
            let key = external(&mut sim, 1);
            let given = sim.call(parameters(key)).unwrap();
            if !matches!(column, 2 | 4) {
                sim.call(import(key, &given, 1, 2)).unwrap();
            }
            let keys = || vec![KeyRef::Id(key)];
            match column {
                1 => drop(sim.call(DisableKeyRequest { keys: keys() }).unwrap()),
                3..=5 => {
                    let planned = ScheduleKeyDeletionRequest { keys: keys(), days: Some(7), force: true };
                    sim.call(planned).unwrap();
                }
                _ => {}
            }
            if column == 5 {
                sim.time.step_wall(8 * DAY);
                sim.look();
            }
            let (code, message) = call(&mut sim, key, &given);
            let cell = format!("{name}, column {column}: {} {message}", code.name());
            let expected = if wanted == 'y' { Code::Ok } else { Code::InvalidKeyState };
            assert_eq!(code, expected, "{cell}");
            let (now, intents) = (state(&mut sim, key), sim.intents());
            let shown = if now == KeyState::Deleted { "deleted on 20" } else { now.name() };
            assert!(wanted == 'y' || message.contains(shown), "{cell}");
            assert_eq!(intents, 0, "{cell}");
        }
    }
}

#[test]
fn a_deletion_that_is_cancelled_leaves_what_an_import_makes_whole() {
    let mut sim = Sim::new(7);
    let key = external(&mut sim, 1);
    let keys = || vec![KeyRef::Id(key)];
    sim.call(ScheduleKeyDeletionRequest { keys: keys(), days: Some(7), force: true }).unwrap();
    sim.call(CancelKeyDeletionRequest { keys: keys(), enable: true }).unwrap();
    assert_eq!(state(&mut sim, key), KeyState::PendingImport);
    let given = sim.call(parameters(key)).unwrap();
    sim.call(import(key, &given, 1, 2)).unwrap();
    assert_eq!(state(&mut sim, key), KeyState::Enabled);
}

#[test]
fn parameters_serve_for_a_day_and_their_wrapping_keys_go_with_it() {
    let mut sim = Sim::new(8);
    let key = external(&mut sim, 1);
    let given = sim.call(parameters(key)).unwrap();
    sim.time.step_wall(DAY - 1000);
    sim.crash();
    sim.look();
    sim.call(import(key, &given, 1, 2)).unwrap();
    assert_eq!(sim.imports().len(), 1);
    sim.time.step_wall(2000);
    // Over, whether or not anybody has cleared it away yet.
    assert_eq!(sim.call(import(key, &given, 1, 3)).unwrap_err(), Code::ImportTokenExpired);
    sim.look();
    assert!(sim.imports().is_empty());
    assert_eq!(sim.call(import(key, &given, 1, 4)).unwrap_err(), Code::InvalidImportToken);
    // A clock that is set back later brings nothing back.
    sim.time.step_wall(-2 * DAY);
    assert_eq!(sim.call(import(key, &given, 1, 5)).unwrap_err(), Code::InvalidImportToken);
    assert_eq!(state(&mut sim, key), KeyState::Enabled);
}

#[test]
fn a_deleted_keys_wrapping_keys_are_gone() {
    for material in [false, true] {
        let mut sim = Sim::new(9);
        let key = external(&mut sim, 1);
        for token in 2..4 {
            let given = sim.call(parameters(key)).unwrap();
            if material {
                sim.call(import(key, &given, 1, token)).unwrap();
            }
        }
        let keys = vec![KeyRef::Id(key)];
        sim.call(ScheduleKeyDeletionRequest { keys, days: Some(7), force: true }).unwrap();
        // Asked for a moment before it is due: they don't outlive the key all the same.
        assert_eq!(sim.imports().len(), 2);
        sim.time.step_wall(7 * DAY + 1);
        sim.look();
        assert_eq!(state(&mut sim, key), KeyState::Deleted);
        assert!(sim.imports().is_empty());
    }
}

#[test]
fn so_many_parameters_serve_at_once_and_no_more() {
    let mut sim = Sim::new(10);
    let key = external(&mut sim, 1);
    for _ in 0..64 {
        sim.call(parameters(key)).unwrap();
    }
    assert_eq!(sim.call(parameters(key)).unwrap_err(), Code::LimitExceeded);
    let other = external(&mut sim, 2);
    sim.call(parameters(other)).unwrap();
    sim.time.step_wall(DAY + 1);
    sim.look();
    assert!(sim.imports().is_empty());
    sim.call(parameters(key)).unwrap();
}

/// A token has its eight tries, however many come at once, and whatever crashes.
#[test]
fn tries_are_counted_before_they_are_made() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed);
        let key = external(&mut sim, 1);
        let given = sim.call(parameters(key)).unwrap();
        let ids: Vec<_> = (0..24).map(|n| sim.start(garbage(key, &given, n))).collect();
        sim.settle();
        let of = |sim: &Sim, code| {
            let answered = |id: &&u64| sim.reply::<ImportKeyMaterialRequest>(**id).unwrap_err() == code;
            ids.iter().filter(answered).count()
        };
        let (tried, busy) = (of(&sim, Code::InvalidMaterial), of(&sim, Code::Busy));
        assert_eq!(tried + busy + of(&sim, Code::InvalidImportToken), 24, "seed {seed}");
        assert!(tried <= 8, "seed {seed}: {tried}");
        for n in 24..40 {
            let _ = sim.call(garbage(key, &given, n));
        }
        assert_eq!(sim.call(import(key, &given, 1, 50)).unwrap_err(), Code::InvalidImportToken);
        let worn = &sim.imports()[0];
        assert!(worn.failures == 8 && worn.private.is_none(), "the wrapping key is gone: {worn:?}");
        // Tries that a crash cuts short count too.
        let given = sim.call(parameters(key)).unwrap();
        for n in 60..100 {
            let id = sim.start(garbage(key, &given, n));
            for _ in 0..sim.roll(40) {
                sim.step();
            }
            sim.answers.remove(&id);
            sim.crash();
        }
        let tried = sim.imports().iter().map(|record| record.failures).max().unwrap();
        assert!(tried <= 8, "seed {seed}: {tried}");
    }
}

#[test]
fn a_crash_at_any_moment_leaves_a_key_that_the_same_request_makes_whole() {
    for seed in 0..60 {
        let mut sim = Sim::new(seed);
        let key = external(&mut sim, 1);
        let given = sim.call(parameters(key)).unwrap();
        let request = import(key, &given, 1, 2);
        sim.start(request.clone());
        for _ in 0..seed {
            sim.step();
        }
        sim.crash();
        assert_eq!(sim.intents(), 0, "seed {seed}");
        assert!(matches!(state(&mut sim, key), KeyState::PendingImport | KeyState::Enabled));
        let done = sim.call(request.clone()).unwrap();
        assert_eq!((done.state, sim.call(request).unwrap()), (KeyState::Enabled, done), "seed {seed}");
        let blob = sim.call(encrypt(key, b"text")).unwrap().ciphertext_blob.0;
        sim.call(delete(key)).unwrap();
        sim.call(import(key, &given, 1, 3)).unwrap();
        assert_eq!(sim.call(decrypt(&blob)).unwrap().plaintext.expose(), b"text");
    }
}

#[test]
fn of_two_materials_at_once_one_is_the_keys() {
    for seed in 0..30 {
        let mut sim = Sim::new(seed);
        let key = external(&mut sim, 1);
        let given = sim.call(parameters(key)).unwrap();
        let ids = [1, 2].map(|material| sim.start(import(key, &given, material, material)));
        sim.settle();
        let came = ids.map(|id| sim.reply::<ImportKeyMaterialRequest>(id).map(|done| done.state));
        let (won, lost) = if came[0].is_ok() { (0, 1) } else { (1, 0) };
        assert_eq!(came[won], Ok(KeyState::Enabled), "seed {seed}");
        assert_eq!(came[lost], Err(Code::MaterialMismatch), "seed {seed}");
        let mut material = [1, 2][won];
        sim.call(import(key, &given, material, 3)).unwrap();
        material = 3 - material;
        assert_eq!(sim.call(import(key, &given, material, 4)).unwrap_err(), Code::MaterialMismatch);
        assert_eq!(sim.imports()[0].failures, 0, "neither was for want of a right material");
    }
}

#[test]
fn the_spec_of_a_key_says_what_its_material_is() {
    let mut sim = Sim::new(11);
    for (spec, token, fits) in
        [(KeySpec::Aes256, 1, true), (KeySpec::Sm4, 2, false), (KeySpec::Hmac512, 3, true)]
    {
        let plain = create([token; 16], Protection::Software);
        let request = CreateKeyRequest { spec, origin: KeyOrigin::External, ..plain };
        let key = sim.call(request).unwrap().key_id;
        let given = sim.call(parameters(key)).unwrap();
        let came = sim.call(import(key, &given, 1, token + 10)).map(|done| done.state);
        assert_eq!(came, if fits { Ok(KeyState::Enabled) } else { Err(Code::InvalidMaterial) }, "{spec}");
    }
}
