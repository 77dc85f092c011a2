//! The store in memory as simulation drives it: by hand, from a seed.

use std::collections::BTreeSet;

use crate::common::put;
use clavigerd::edge::{Background, Clock, Edge, Entropy, Workers};
use clavigerd::store::{MemoryStore, Store, StoreError};
use futures_util::FutureExt;

/// Ten batches of two keys; `steps` jobs run, then a crash. Gives how many
/// batches were answered and which survived.
fn crash_after(steps: usize, seed: u64) -> (usize, Vec<u8>) {
    let (workers, manual) = Workers::manual();
    let edge = Edge {
        clock: Clock::manual(0).0,
        entropy: Entropy::seeded(seed),
        workers,
        background: Background::manual().0,
    };
    let store = MemoryStore::new(&edge, 100).unwrap();
    let mut commits = Vec::new();
    for i in 0..10_u8 {
        commits.push(store.commit(vec![put(&[b'a', i], b""), put(&[b'b', i], b"")]));
        if usize::from(i) < steps {
            manual.step(0).unwrap();
        }
    }
    store.crash();
    while manual.step(0).is_some() {}
    let mut answered = 0;
    for commit in commits {
        match commit.now_or_never().expect("nobody waits for ever") {
            Ok(_) => answered += 1,
            Err(StoreError::Failed(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let listed = store.list(b"", None, 100);
    while manual.step(0).is_some() {}
    let keys: Vec<_> = listed.now_or_never().unwrap().unwrap().into_iter().map(|(key, _)| key).collect();
    let half = |tag| keys.iter().filter(|k| k[0] == tag).map(|k| k[1]).collect::<Vec<_>>();
    assert_eq!(half(b'a'), half(b'b'), "a torn batch");
    (answered, half(b'a'))
}

#[test]
fn a_crash_keeps_what_was_answered_and_a_seed_decides_the_rest() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..60 {
        let (answered, kept) = crash_after(4, seed);
        assert_eq!(answered, 4);
        assert!(kept.len() >= 4);
        assert_eq!(kept, (0..u8::try_from(kept.len()).unwrap()).collect::<Vec<_>>(), "not a prefix");
        assert_eq!(crash_after(4, seed), (answered, kept.clone()), "seed {seed} isn't deterministic");
        outcomes.insert(kept.len());
    }
    assert_eq!(outcomes, (4..=10).collect(), "some outcome never happens");
}

#[test]
fn full_queues_answer_busy_at_once_and_recover() {
    let (workers, manual) = Workers::manual();
    let edge = Edge {
        clock: Clock::manual(0).0,
        entropy: Entropy::seeded(1),
        workers,
        background: Background::manual().0,
    };
    let store = MemoryStore::new(&edge, 2).unwrap();
    let waiting: Vec<_> = (0..2_u8).map(|i| store.commit(vec![put(&[i], b"")])).collect();
    assert_eq!(store.commit(vec![]).now_or_never(), Some(Err(StoreError::Busy)));
    let reads: Vec<_> = (0..2).map(|_| store.get(b"a")).collect();
    assert_eq!(store.get(b"a").now_or_never(), Some(Err(StoreError::Busy)));
    assert_eq!(store.list(b"a", None, 1).now_or_never(), Some(Err(StoreError::Busy)));
    while manual.step(0).is_some() {}
    assert!(waiting.into_iter().all(|commit| commit.now_or_never().unwrap().is_ok()));
    assert!(reads.into_iter().all(|read| read.now_or_never().unwrap() == Ok(None)));
    let again = store.commit(vec![]);
    manual.step(0);
    assert_eq!(again.now_or_never(), Some(Ok(3)));
}

#[test]
fn a_rewrite_has_its_place_among_the_commits_and_a_crash_before_it_leaves_it_unanswered() {
    let (workers, manual) = Workers::manual();
    let edge = Edge {
        clock: Clock::manual(0).0,
        entropy: Entropy::seeded(1),
        workers,
        background: Background::manual().0,
    };
    let store = MemoryStore::new(&edge, 9).unwrap();
    drop(store.commit(vec![put(b"a", b"")]));
    let mut rewriting = store.rewrite();
    manual.step(0).unwrap();
    assert!((&mut rewriting).now_or_never().is_none(), "the commit came first");
    manual.step(0).unwrap();
    assert_eq!(rewriting.now_or_never(), Some(Ok(1)));
    let rewriting = store.rewrite();
    store.crash();
    while manual.step(0).is_some() {}
    assert!(matches!(rewriting.now_or_never(), Some(Err(StoreError::Failed(_)))));
}
