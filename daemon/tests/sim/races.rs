//! Calls that meet: a use of a key and its switching off, two creates that want the
//! same token or alias. Each is tried at every moment of the other's life.

use std::collections::BTreeSet;

use claviger_protocol::body::{
    CreateKeyRequest, DecryptRequest, DisableKeyRequest, EncryptRequest, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, ReEncryptRequest,
};
use claviger_protocol::names::{Alias, KeyRef};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, DataKeySize, EncryptionContext, Operation, Protection};
use serde_json::Value;
use uuid::Uuid;

use super::Sim;
use crate::{create, decrypt, encrypt, list};

/// The queue of the lane that uses keys.
const SERVE: &str = "serve";

/// Two keys, and a blob of the first.
struct Keys {
    first: Uuid,
    second: Uuid,
    blob: Vec<u8>,
}

/// A daemon that has just started and has two keys, neither in its caches nor in the
/// HSM's. If `busy`, the lane has work of a third already, and goes on only as told.
fn cold(protection: Protection, busy: bool) -> (Sim, Keys) {
    let mut sim = Sim::new(11);
    let [first, second, third] = [1, 2, 3].map(|n| {
        let level = if n == 3 { Protection::Hsm } else { protection };
        sim.call(create([n; 16], level)).unwrap().key_id
    });
    let blob = sim.call(encrypt(first, b"secret")).unwrap().ciphertext_blob.0;
    sim.crash();
    if busy {
        let other = sim.start(encrypt(third, b"work"));
        sim.until_queued(other, SERVE);
    }
    (sim, Keys { first, second, blob })
}

/// Starts a call, switches a key off at the `n`-th moment of the call's life, and
/// lets it go on; for every `n`. Says at how many moments it waited for the HSM.
fn disabled_at_every_moment<O: Operation>(
    (protection, busy): (Protection, bool),
    request: impl Fn(&Keys) -> O,
    victim: impl Fn(&Keys) -> Uuid,
) -> usize {
    let mut waits = 0;
    for moment in 0.. {
        let (mut sim, keys) = cold(protection, busy);
        let call = sim.start(request(&keys));
        if (0..moment).any(|_| sim.moment(call, &[])) {
            assert!(sim.reply::<O>(call).is_ok(), "nobody was in its way");
            return waits;
        }
        let in_the_hsm = sim.waits_in(SERVE);
        // Disabled, and said so, while the HSM does nothing.
        let switch = sim.start(DisableKeyRequest { keys: vec![KeyRef::Id(victim(&keys))] });
        if !sim.answer(switch, &[SERVE]) {
            // It waits for a record that the call, which stands still, loads for both.
            continue;
        }
        waits += usize::from(in_the_hsm);
        let switched = sim.reply::<DisableKeyRequest>(switch).unwrap();
        assert!(switched.results[0].changed);
        assert!(!sim.answers.contains_key(&call), "it was not polled");
        assert!(sim.answer(call, &[]));
        let code = sim.reply::<O>(call).map(|_| ());
        assert_eq!(code, Err(Code::InvalidKeyState), "{} at moment {moment}", O::OPCODE.row().name);
    }
    unreachable!("the moments have no end");
}

/// The same with a free lane and with one that has other work first.
fn a_disabled_key_does_nothing_more<O: Operation>(
    request: impl Fn(&Keys) -> O,
    victim: impl Fn(&Keys) -> Uuid,
) {
    for busy in [false, true] {
        let waits = disabled_at_every_moment((Protection::Hsm, busy), &request, &victim);
        assert!(waits >= 2, "it waited for the HSM at {waits} moments only");
    }
    disabled_at_every_moment((Protection::Software, false), &request, &victim);
}

#[test]
fn an_encrypt_that_waited_is_refused_once_its_key_is_disabled() {
    a_disabled_key_does_nothing_more::<EncryptRequest>(|keys| encrypt(keys.first, b"x"), |keys| keys.first);
}

#[test]
fn a_decrypt_that_waited_is_refused_once_its_key_is_disabled() {
    a_disabled_key_does_nothing_more::<DecryptRequest>(|keys| decrypt(&keys.blob), |keys| keys.first);
}

#[test]
fn a_data_key_that_waited_is_refused_once_its_key_is_disabled() {
    let size = DataKeySize::Bytes(32);
    let context = EncryptionContext::default;
    a_disabled_key_does_nothing_more(
        |keys| GenerateDataKeyRequest { key: KeyRef::Id(keys.first), size, context: context() },
        |keys| keys.first,
    );
    a_disabled_key_does_nothing_more(
        |keys| GenerateDataKeyWithoutPlaintextRequest {
            key: KeyRef::Id(keys.first),
            size,
            context: context(),
        },
        |keys| keys.first,
    );
}

fn re_encrypt(keys: &Keys) -> ReEncryptRequest {
    ReEncryptRequest {
        source_key: None,
        ciphertext_blob: Bytes(keys.blob.clone()),
        source_context: EncryptionContext::default(),
        destination_key: KeyRef::Id(keys.second),
        destination_context: EncryptionContext::default(),
    }
}

#[test]
fn a_re_encrypt_is_refused_once_its_destination_is_disabled() {
    a_disabled_key_does_nothing_more(re_encrypt, |keys| keys.second);
}

#[test]
fn a_re_encrypt_is_refused_once_its_source_is_disabled() {
    a_disabled_key_does_nothing_more(re_encrypt, |keys| keys.first);
}

/// The resources of each `createKey` in the log, with its outcome.
fn created(sim: &Sim) -> Vec<(String, Vec<String>)> {
    let events =
        sim.service.log.lines().into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let creates = events.filter(|event| event["operation"] == "createKey");
    let ids = |event: &Value| {
        event["resources"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    creates.map(|event| (event["outcome"].as_str().unwrap().to_owned(), ids(&event))).collect()
}

/// Starts `first`, lets it live `moment` moments, starts `second`, and runs both as
/// the seed says. `None` once the first was answered before the second came.
fn meet(moment: usize, first: CreateKeyRequest, second: CreateKeyRequest) -> Option<(Sim, [u64; 2])> {
    let mut sim = Sim::new(moment as u64);
    let first = sim.start(first);
    if (0..moment).any(|_| sim.moment(first, &[])) {
        return None;
    }
    let second = sim.start(second);
    sim.settle();
    sim.come_to_rest();
    assert_eq!(sim.intents(), 0, "moment {moment}");
    Some((sim, [first, second]))
}

/// The same at every moment; says how many there were.
fn at_every_moment(
    first: &CreateKeyRequest,
    second: &CreateKeyRequest,
    check: impl Fn(&mut Sim, [u64; 2]),
) -> usize {
    let meetings = (0..).map_while(|moment| meet(moment, first.clone(), second.clone()));
    meetings.map(|(mut sim, ids)| check(&mut sim, ids)).count()
}

fn named(token: u8, protection: Protection) -> CreateKeyRequest {
    CreateKeyRequest { alias: Some(Alias::new("alias/wanted").unwrap()), ..create([token; 16], protection) }
}

#[test]
fn creates_with_one_token_and_one_alias_make_one_key() {
    for protection in [Protection::Hsm, Protection::Software] {
        let request = named(1, protection);
        let moments = at_every_moment(&request, &request, |sim, ids| {
            let [first, second] = ids.map(|id| sim.reply::<CreateKeyRequest>(id).unwrap());
            assert_eq!(first, second);
            assert_eq!(sim.call(request.clone()).unwrap(), first);
            assert_eq!(sim.call(named(2, protection)).unwrap_err(), Code::AlreadyExists);
            assert_eq!(sim.call(list(0, vec![])).unwrap().keys.len(), 1);
        });
        assert!(moments >= 4, "{moments} moments");
    }
}

#[test]
fn the_loser_of_a_race_for_a_token_logs_the_winners_key() {
    for request in [create([1; 16], Protection::Hsm), named(1, Protection::Hsm)] {
        at_every_moment(&request, &request, |sim, ids| {
            let key = sim.reply::<CreateKeyRequest>(ids[0]).unwrap().key_id.to_string();
            assert_eq!(created(sim), vec![("Ok".to_owned(), vec![key]); 2]);
        });
    }
}

#[test]
fn the_loser_of_a_race_for_an_alias_logs_no_key() {
    let (one, other) = (named(1, Protection::Hsm), named(2, Protection::Hsm));
    at_every_moment(&one, &other, |sim, ids| {
        let made = ids.map(|id| sim.reply::<CreateKeyRequest>(id));
        let winners: Vec<_> = made.iter().flatten().map(|reply| reply.key_id.to_string()).collect();
        assert_eq!(winners.len(), 1);
        assert!(made.contains(&Err(Code::AlreadyExists)));
        let logged: BTreeSet<_> = created(sim).into_iter().collect();
        assert_eq!(logged, [("AlreadyExists".to_owned(), vec![]), ("Ok".to_owned(), winners)].into());
    });
}
