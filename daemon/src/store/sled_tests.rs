//! Tests of the store on disk from inside: its latch, its sync, its refusals.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt;

use super::super::sled_records::tree_key;
use super::*;
use crate::edge::{Clock, Entropy, ManualWorkers, Workers};
use crate::store::{Change, Expect};

const CACHE: u64 = 8 * 1024 * 1024;

/// A store stepped by hand, whose sync does what the test says.
pub(in crate::store) struct Bench {
    pub(in crate::store) dir: tempfile::TempDir,
    pub(in crate::store) store: Arc<SledStore>,
    pub(in crate::store) manual: Arc<ManualWorkers>,
    syncs: Arc<AtomicUsize>,
    pub(in crate::store) refuse: Arc<Mutex<Option<io::ErrorKind>>>,
}

impl Bench {
    pub(in crate::store) fn new(queue: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (workers, manual) = Workers::manual();
        let edge = Edge {
            clock: Clock::manual(0).0,
            entropy: Entropy::seeded(1),
            workers,
            background: crate::edge::Background::manual().0,
        };
        let (syncs, refuse) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<io::ErrorKind>)));
        let (counter, refusal) = (Arc::clone(&syncs), Arc::clone(&refuse));
        let sync = move |file: &File| {
            counter.fetch_add(1, Ordering::SeqCst);
            refusal.lock().unwrap().map_or_else(|| file.sync_data(), |kind| Err(kind.into()))
        };
        let lock = StateLock::acquire(dir.path()).unwrap();
        let store = SledStore::open_with(&lock, (CACHE, queue), &edge, true, Box::new(sync)).unwrap();
        Self { dir, store, manual, syncs, refuse }
    }

    pub(in crate::store) fn run<T>(&self, future: Future<'_, T>) -> T {
        while self.manual.step(0).is_some() {}
        future.now_or_never().expect("every queue is empty, so everything is answered")
    }

    pub(in crate::store) fn put(&self, key: &[u8]) -> Result<u64, StoreError> {
        self.run(self.store.commit(vec![put(key)]))
    }
}

pub(in crate::store) fn put(key: &[u8]) -> Op {
    Op { key: key.to_vec(), expect: Expect::Any, change: Change::Put(b"v".to_vec()) }
}

// By value, so that the calls read as assertions.
#[allow(clippy::needless_pass_by_value)]
pub(in crate::store) fn is_failed<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Failed(_)))
}

#[test]
fn a_failed_sync_is_for_ever_and_is_never_called_success() {
    let bench = Bench::new(100);
    bench.put(b"a/old").unwrap();
    assert_eq!(*bench.store.failed().borrow(), None);
    *bench.refuse.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    let group = [bench.store.commit(vec![put(b"b/new")]), {
        let check = Op { key: b"b/new".to_vec(), expect: Expect::Absent, change: Change::Check };
        bench.store.commit(vec![check])
    }];
    for commit in group {
        // The refusal of the second rests on the first, which may not be on the disk.
        assert!(is_failed(bench.run(commit)));
    }
    *bench.refuse.lock().unwrap() = None;
    let syncs = bench.syncs.load(Ordering::SeqCst);
    assert!(is_failed(bench.put(b"c")));
    assert!(is_failed(bench.run(bench.store.commit(vec![]))));
    assert_eq!(bench.syncs.load(Ordering::SeqCst), syncs, "a failed sync is never tried again");
    let reason = bench.store.failed().borrow().clone().expect("says so");
    assert!(reason.starts_with("sync: "), "{reason}");

    // What was on the disk can be read; what may not be is refused.
    assert!(bench.run(bench.store.get(b"a/old")).unwrap().is_some());
    assert_eq!(bench.run(bench.store.list(b"a/", None, 9)).unwrap().len(), 1);
    assert!(is_failed(bench.run(bench.store.get(b"b/new"))));
    assert!(is_failed(bench.run(bench.store.list(b"", None, 9))));
    assert!(is_failed(bench.run(bench.store.close())));
}

/// The first failure of all may be that of the last sync.
#[test]
fn a_close_whose_sync_fails_says_so_and_ends() {
    let bench = Bench::new(100);
    bench.put(b"a").unwrap();
    *bench.refuse.lock().unwrap() = Some(io::ErrorKind::Other);
    assert!(is_failed(bench.run(bench.store.close())));
    assert!(bench.store.failed().borrow().is_some());
    assert!(is_failed(bench.run(bench.store.close())), "a second time, too");
}

#[test]
fn the_daemon_can_wait_for_the_failure() {
    let bench = Bench::new(100);
    let mut failed = bench.store.failed();
    let mut waiting = Box::pin(failed.wait_for(Option::is_some));
    bench.put(b"a").unwrap();
    assert!((&mut waiting).now_or_never().is_none());
    *bench.refuse.lock().unwrap() = Some(io::ErrorKind::Other);
    assert!(is_failed(bench.put(b"a")));
    assert!(waiting.now_or_never().unwrap().is_ok());
}

#[test]
fn sixteen_waiting_commits_share_one_sync() {
    let bench = Bench::new(100);
    let commits: Vec<_> = (0..16_u8).map(|i| bench.store.commit(vec![put(&[i])])).collect();
    let answers: Vec<_> = commits.into_iter().map(|commit| bench.run(commit).unwrap()).collect();
    assert_eq!(answers, (1..=16).collect::<Vec<_>>());
    assert_eq!(bench.syncs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_group_judges_each_batch_after_those_before_it() {
    let bench = Bench::new(100);
    let op = |expect, change| vec![Op { key: b"a".to_vec(), expect, change }];
    let written = || Change::Put(b"v".to_vec());
    let batches = [
        (op(Expect::Revision(1), written()), None),
        (op(Expect::Absent, written()), Some(1)),
        (op(Expect::Absent, written()), None),
        (op(Expect::Revision(1), written()), Some(2)),
        (op(Expect::Revision(1), written()), None),
        (op(Expect::Revision(2), Change::Check), Some(3)),
        (op(Expect::Revision(2), Change::Delete), Some(4)),
        (op(Expect::Revision(2), Change::Check), None),
        (op(Expect::Absent, Change::Put(vec![])), Some(5)),
    ];
    let commits: Vec<_> = batches.iter().map(|(batch, _)| bench.store.commit(batch.clone())).collect();
    for (commit, (batch, revision)) in commits.into_iter().zip(&batches) {
        assert_eq!(bench.run(commit).ok(), *revision, "{batch:?}");
    }
    let left = bench.run(bench.store.get(b"a")).unwrap().unwrap();
    assert_eq!((left.revision, left.value.len()), (5, 0));
    assert_eq!(bench.syncs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_group_larger_than_sled_is_given_at_once_is_whole_too() {
    let bench = Bench::new(100);
    let large = |i: u8| Op {
        key: vec![i],
        expect: Expect::Absent,
        change: Change::Put(vec![i; crate::store::MAX_VALUE_LEN]),
    };
    let commits: Vec<_> =
        (0..90).map(|i| bench.store.commit((0..3).map(|part| large(i % 45 + 45 * part)).collect())).collect();
    // The second half meets what the first has written, applied or waiting.
    for (i, commit) in commits.into_iter().enumerate() {
        assert_eq!(bench.run(commit).is_ok(), i < 45);
    }
    assert_eq!(bench.run(bench.store.list(b"", None, 999)).unwrap().len(), 135);
}

#[test]
fn a_refused_batch_costs_no_sync_and_no_revision() {
    let bench = Bench::new(100);
    let check = || Op { key: b"a".to_vec(), expect: Expect::Revision(9), change: Change::Check };
    let refused = bench.run(bench.store.commit(vec![check()]));
    assert_eq!(refused, Err(StoreError::Conflict { key: b"a".to_vec() }));
    assert_eq!(bench.syncs.load(Ordering::SeqCst), 0);
    assert_eq!(bench.put(b"a"), Ok(1));
}

#[test]
fn full_queues_answer_busy_at_once_and_recover() {
    let bench = Bench::new(2);
    let waiting: Vec<_> = (0..2_u8).map(|i| bench.store.commit(vec![put(&[i])])).collect();
    assert_eq!(bench.store.commit(vec![]).now_or_never(), Some(Err(StoreError::Busy)));
    let reads: Vec<_> = (0..2).map(|_| bench.store.get(b"a")).collect();
    assert_eq!(bench.store.get(b"a").now_or_never(), Some(Err(StoreError::Busy)));
    assert_eq!(bench.store.list(b"a", None, 1).now_or_never(), Some(Err(StoreError::Busy)));
    assert!(waiting.into_iter().all(|commit| bench.run(commit).is_ok()));
    assert!(reads.into_iter().all(|read| bench.run(read) == Ok(None)));
    assert_eq!(bench.put(b"a"), Ok(3));
}

#[test]
fn watchers_hear_after_the_sync_and_before_the_answer() {
    let bench = Bench::new(100);
    let heard = Arc::new(AtomicUsize::new(0));
    let (hook_heard, syncs) = (Arc::clone(&heard), Arc::clone(&bench.syncs));
    bench.store.watch(Box::new(move |_| {
        hook_heard.store(syncs.load(Ordering::SeqCst), Ordering::SeqCst);
    }));
    let commit = bench.store.commit(vec![put(b"a")]);
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    bench.run(commit).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 1, "called once the first sync was done");
    *bench.refuse.lock().unwrap() = Some(io::ErrorKind::Other);
    heard.store(0, Ordering::SeqCst);
    assert!(is_failed(bench.put(b"a")));
    assert_eq!(heard.load(Ordering::SeqCst), 0, "nothing to hear of a commit that failed");
}

#[test]
fn a_watcher_that_panics_fails_the_store_and_hangs_nobody() {
    let bench = Bench::new(100);
    bench.store.watch(Box::new(|_| panic!("a watcher's bug")));
    let group = [bench.store.commit(vec![put(b"a")]), bench.store.commit(vec![put(b"b")])];
    for commit in group {
        assert!(is_failed(bench.run(commit)));
    }
    assert!(is_failed(bench.put(b"c")));
    assert!(bench.store.failed().borrow().is_some());
    assert!(bench.run(bench.store.get(b"a")).unwrap().is_some(), "it was synced before");
}

#[test]
fn closing_finishes_what_waits_and_frees_the_directory() {
    let bench = Bench::new(100);
    let commit = bench.store.commit(vec![put(b"a")]);
    let closing = bench.store.close();
    assert_eq!(bench.run(commit), Ok(1));
    assert_eq!(bench.run(closing), Ok(()));
    assert!(is_failed(bench.put(b"b")));
    assert!(is_failed(bench.run(bench.store.get(b"a"))));
    assert_eq!(*bench.store.failed().borrow(), None, "closing is no failure");
    assert_eq!(bench.run(bench.store.close()), Ok(()), "twice is fine");
    StateLock::acquire(bench.dir.path()).unwrap();
}

#[test]
fn a_value_too_short_for_its_envelope_is_damage_and_no_more() {
    let bench = Bench::new(100);
    bench.put(b"a").unwrap();
    bench.store.shared.gate.database().unwrap().db.insert(tree_key(b"x"), b"short").unwrap();
    assert_eq!(bench.run(bench.store.get(b"x")), Err(StoreError::Damaged("x".into())));
    assert!(matches!(bench.run(bench.store.list(b"", None, 9)), Err(StoreError::Damaged(_))));
    let over = Op { key: b"x".to_vec(), expect: Expect::Absent, change: Change::Put(vec![]) };
    assert!(matches!(bench.run(bench.store.commit(vec![over])), Err(StoreError::Damaged(_))));
    assert_eq!(bench.put(b"a"), Ok(2), "the rest goes on");
}
