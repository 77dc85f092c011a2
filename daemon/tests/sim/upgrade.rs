//! A store of before there were indexes: its keys get their entries at the first start, also
//! where that start is cut short anywhere.

use std::sync::Arc;
use std::task::{Context, Poll};

use claviger_protocol::body::{
    CreateAliasRequest, DisableKeyRequest, ListKeyVersionsRequest, ListKeysRequest, TagResourceRequest,
};
use claviger_protocol::names::{Alias, KeyRef, Tag, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{KeyState, Protection};
use clavigerd::config::Limits;
use clavigerd::keyring::record::{KeyRecord, path};
use clavigerd::keyring::{Keyring, Rules};
use clavigerd::store::{Change, Expect, MAX_BATCH_OPS, Op, Record, Store};
use futures_util::task::noop_waker;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Sim;
use super::life::Records;
use crate::{create, decrypt, encrypt, list};

/// A key's record as it was written then: of the same shape, with another number.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Former(KeyRecord);

impl Record for Former {
    const SCHEMA: u16 = 1;
}

/// What the keys are, and what the first of them made.
struct Old {
    keys: Vec<Uuid>,
    blob: Vec<u8>,
}

/// A machine with a store of then.
fn old_store() -> (Sim, Old) {
    let mut sim = Sim::new(31);
    let keys: Vec<_> = (1..26)
        .map(|n| {
            let level = if n % 2 == 0 { Protection::Hsm } else { Protection::Software };
            sim.call(create([n; 16], level)).unwrap().key_id
        })
        .collect();
    let blob = sim.call(encrypt(keys[0], b"from then")).unwrap().ciphertext_blob.0;
    let alias = Alias::new("alias/then").unwrap();
    sim.call(CreateAliasRequest { alias, key: KeyRef::Id(keys[0]) }).unwrap();
    sim.call(DisableKeyRequest { keys: vec![KeyRef::Id(keys[1])] }).unwrap();
    let tags = Tags::try_from(vec![Tag::new("k", "v").unwrap()]).unwrap();
    sim.call(TagResourceRequest { keys: vec![KeyRef::Id(keys[2])], tags }).unwrap();
    for key in &keys {
        let record: KeyRecord = sim.record(&path::key(*key));
        sim.put(path::key(*key), &Former(record));
    }
    for prefix in [b"x/".as_slice(), path::DUE, path::ROTATIONS, path::NUMBERS] {
        let store = Arc::clone(&sim.store);
        let entries = sim.finish(async { store.list(prefix, None, usize::MAX).await }).unwrap();
        let remove = |(key, _)| Op { key, expect: Expect::Any, change: Change::Delete };
        for batch in entries.into_iter().map(remove).collect::<Vec<_>>().chunks(MAX_BATCH_OPS) {
            sim.finish(store.commit(batch.to_vec())).unwrap();
        }
    }
    (sim, Old { keys, blob })
}

/// Begins a start and cuts it short after so many steps; `false` where it came to its end.
fn start_cut_short(sim: &mut Sim, steps: usize) -> bool {
    sim.power_off();
    let (edge, store, member) = (sim.edge.clone(), Arc::clone(&sim.store), sim.member());
    let rules = Rules { allow_software_tokens: true, ..Rules::default() };
    let limits = Limits::default();
    let opening = Keyring::open(edge, store, crate::sim_domain(), member, rules, &limits);
    let mut opening = std::pin::pin!(opening);
    for _ in 0..steps {
        if let Poll::Ready(opened) = opening.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
            opened.map(drop).unwrap();
            return false;
        }
        sim.workers.step(0);
    }
    true
}

fn everything_is_there(sim: &mut Sim, old: &Old) {
    let records = Records::read(sim);
    records.check();
    let ids = |sim: &mut Sim, request: ListKeysRequest| -> Vec<Uuid> {
        sim.call(request).unwrap().keys.into_iter().map(|key| key.key_id).collect()
    };
    let state = |state| ListKeysRequest { state: Some(state), ..list(0, vec![]) };
    assert_eq!(ids(sim, state(KeyState::Disabled)), [old.keys[1]]);
    assert_eq!(ids(sim, state(KeyState::Enabled)).len(), old.keys.len() - 1);
    let tag = Some(Tag::new("k", "v").unwrap());
    assert_eq!(ids(sim, ListKeysRequest { tag, ..list(0, vec![]) }), [old.keys[2]]);
    for key in &old.keys {
        let request = ListKeyVersionsRequest { key: KeyRef::Id(*key), limit: 0, page: Bytes::default() };
        assert_eq!(sim.call(request).unwrap().versions.len(), 1);
    }
    assert_eq!(sim.call(decrypt(&old.blob)).unwrap().plaintext.expose(), b"from then");
}

#[test]
fn keys_of_then_are_in_every_index_after_the_first_start() {
    let (mut sim, old) = old_store();
    sim.crash();
    everything_is_there(&mut sim, &old);
    sim.crash();
    everything_is_there(&mut sim, &old);
}

#[test]
fn a_first_start_that_is_cut_short_anywhere_is_made_up_for_by_the_next() {
    let mut cuts = 0;
    loop {
        let (mut sim, old) = old_store();
        let cut = start_cut_short(&mut sim, cuts);
        sim.crash();
        everything_is_there(&mut sim, &old);
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 10, "it could be cut short at {cuts} moments only");
}
