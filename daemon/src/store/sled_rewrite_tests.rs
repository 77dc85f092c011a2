//! Tests of the rewrite from inside: its failures, and its place among commits, step by step.

use std::io;
use std::path::Path;

use futures_util::FutureExt;

use super::super::sled_store::tests::{Bench, is_failed, put};
use super::*;
use crate::edge::Edge;
use crate::space::Space;
use crate::store::{Change, Expect, Op, SledStore, Store, Versioned};

fn write(key: &[u8], expect: Expect, value: &[u8]) -> Vec<Op> {
    vec![Op { key: key.to_vec(), expect, change: Change::Put(value.to_vec()) }]
}

fn filled(records: u32) -> Bench {
    let bench = Bench::new(10_000);
    let all: Vec<_> = (0..records)
        .map(|number| bench.store.commit(write(&number.to_be_bytes(), Expect::Absent, b"value")))
        .collect();
    for commit in all {
        bench.run(commit).unwrap();
    }
    bench
}

fn records(bench: &Bench) -> Vec<(Vec<u8>, Versioned)> {
    bench.run(bench.store.list(b"", None, usize::MAX)).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("store"))
        .collect();
    names.sort();
    names
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if entry.is_dir() {
            copy_dir(&entry, &target);
        } else {
            fs::copy(entry, target).unwrap();
        }
    }
}

/// What opens in a copy of the directory as it is now: as a kill would leave it.
fn after_a_kill(bench: &Bench) -> Vec<(Vec<u8>, Versioned)> {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    copy_dir(bench.dir.path(), &dir);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = SledStore::reopen(&StateLock::acquire(&dir).unwrap(), 1 << 20, 8, &Edge::system()).unwrap();
    assert_eq!(names(&dir), ["store"], "leftovers");
    let found = runtime.block_on(store.list(b"", None, usize::MAX)).unwrap();
    runtime.block_on(store.close()).unwrap();
    found
}

#[test]
fn every_record_keeps_its_revision_and_revisions_go_on() {
    let bench = filled(500);
    bench.run(bench.store.commit(vec![])).unwrap();
    let before = records(&bench);
    for round in 0..3 {
        let last = bench.put(b"last").unwrap();
        assert_eq!(bench.run(bench.store.rewrite()), Ok(last));
        assert_eq!(names(bench.dir.path()), ["store"]);
        let now = records(&bench);
        assert_eq!(now[..500], before, "round {round}");
        let next = bench.run(bench.store.commit(write(b"new", Expect::Any, b"v"))).unwrap();
        assert_eq!(next, last + 1);
        assert_eq!(after_a_kill(&bench), records(&bench));
    }
    let (key, record) = &before[7];
    let stale = write(key, Expect::Revision(record.revision + 1), b"x");
    assert!(matches!(bench.run(bench.store.commit(stale)), Err(StoreError::Conflict { .. })));
    bench.run(bench.store.commit(write(key, Expect::Revision(record.revision), b"x"))).unwrap();
}

/// A kill between two jobs, and commits there: before the copy, after it, after the swap.
#[test]
fn commits_between_its_jobs_are_in_the_new_store_and_a_kill_there_loses_nothing() {
    let bench = filled(300);
    let deleted = |number: u32| {
        vec![Op { key: number.to_be_bytes().to_vec(), expect: Expect::Any, change: Change::Delete }]
    };
    let mut rewriting = bench.store.rewrite();
    let mut commits = Vec::new();
    for step in 0_u32.. {
        commits.push(bench.store.commit(deleted(step)));
        commits.push(bench.store.commit(write(&(100 + step).to_be_bytes(), Expect::Any, b"changed")));
        commits.push(bench.store.commit(write(&(1000 + step).to_be_bytes(), Expect::Absent, b"added")));
        // The committer's queue comes first, the rewrite's last.
        while bench.manual.ready().iter().any(|queue| queue == "store-commit") {
            bench.manual.step(0).unwrap();
            assert_eq!(after_a_kill(&bench), records_now(&bench));
        }
        if let Some(done) = (&mut rewriting).now_or_never() {
            assert!(done.unwrap() >= 300);
            assert!(step >= 2, "{step}: its jobs weren't seen");
            break;
        }
        assert!(bench.manual.step(0).is_some());
        assert_eq!(after_a_kill(&bench), records_now(&bench));
    }
    assert!(commits.into_iter().all(|commit| commit.now_or_never().unwrap().is_ok()));
    assert_eq!(names(bench.dir.path()), ["store"]);
}

/// The records, without running what waits.
fn records_now(bench: &Bench) -> Vec<(Vec<u8>, Versioned)> {
    let disk = bench.store.shared().gate.database().unwrap();
    crate::store::sled_records::list(&disk.db, b"", None, usize::MAX).unwrap()
}

#[test]
fn a_sync_that_fails_before_the_swap_costs_the_copy_only() {
    let bench = filled(300);
    // While it copies, and once the committer catches up.
    for jobs in [0, 1] {
        let before = records(&bench);
        let mut rewriting = bench.store.rewrite();
        for _ in 0..jobs {
            bench.manual.step(0).unwrap();
            assert!((&mut rewriting).now_or_never().is_none());
        }
        *bench.refuse.lock().unwrap() = Some(io::ErrorKind::Other);
        let error = bench.run(rewriting).unwrap_err();
        assert!(matches!(error, StoreError::Rewrite(_)), "{error}");
        *bench.refuse.lock().unwrap() = None;
        assert_eq!(*bench.store.failed().borrow(), None);
        assert_eq!(names(bench.dir.path()), ["store"]);
        assert_eq!(records(&bench), before);
        bench.put(b"more").unwrap();
    }
    bench.run(bench.store.rewrite()).unwrap();
    assert_eq!(records(&bench).len(), 301);
}

#[test]
fn a_first_rename_that_fails_costs_the_copy_only_and_a_later_one_is_fatal() {
    let bench = filled(50);
    let dir = bench.dir.path().to_owned();
    let in_the_way = |name: &str| {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("file"), "").unwrap();
    };
    in_the_way("store.aside");
    let error = bench.run(bench.store.rewrite()).unwrap_err();
    assert!(matches!(error, StoreError::Rewrite(_)), "{error}");
    fs::remove_dir_all(dir.join("store.aside")).unwrap();
    bench.put(b"goes on").unwrap();

    // After its first job, which removes what is there.
    let rewriting = bench.store.rewrite();
    bench.manual.step(0).unwrap();
    in_the_way("store.aside.partial");
    assert!(is_failed(bench.run(rewriting)));
    assert!(bench.store.failed().borrow().as_ref().unwrap().starts_with("rewrite: "));
    assert!(is_failed(bench.put(b"late")));
    assert_eq!(after_a_kill(&bench).len(), 51);
}

#[test]
fn a_second_one_is_refused_while_it_goes_on_and_nothing_is_lost_when_the_store_closes_under_it() {
    let bench = filled(50);
    let rewriting = bench.store.rewrite();
    assert_eq!(bench.store.rewrite().now_or_never(), Some(Err(StoreError::Busy)));
    bench.run(rewriting).unwrap();
    for jobs in [0, 1] {
        let bench = filled(50);
        let mut rewriting = bench.store.rewrite();
        for _ in 0..jobs {
            bench.manual.step(0).unwrap();
            assert!((&mut rewriting).now_or_never().is_none());
        }
        // Closed before the committer's turn comes.
        let closing = bench.store.close();
        while bench.manual.ready().iter().any(|queue| queue == "store-commit") {
            bench.manual.step(0).unwrap();
        }
        assert_eq!(bench.run(closing), Ok(()));
        assert_eq!(names(bench.dir.path()), ["store"], "{jobs}");
        StateLock::acquire(bench.dir.path()).unwrap();
        assert_eq!(after_a_kill(&bench).len(), 50);
        // One that had copied all was finished first.
        assert_eq!(is_failed(bench.run(rewriting)), jobs == 0, "{jobs}");
    }
}

#[test]
fn without_room_for_a_copy_nothing_is_begun() {
    let bench = filled(300);
    // No disk has room for so much ballast.
    let space = Space::open(bench.dir.path(), i64::MAX as u64 / 8).unwrap();
    bench.store.on_disk(Arc::new(space));
    assert_eq!(bench.run(bench.store.rewrite()), Err(StoreError::ReadOnly));
    assert_eq!(names(bench.dir.path()), ["store"]);
}

#[test]
fn a_backup_goes_on_over_it_and_watchers_stay() {
    let bench = filled(400);
    let heard = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    bench.store.watch(Box::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let number = bench.run(bench.store.begin_export()).unwrap();
    let mut copied = std::collections::BTreeMap::new();
    let mut parts = 0_u32;
    loop {
        let part = bench.run(bench.store.export(number, 200)).unwrap();
        for (key, value) in part.entries {
            match value {
                Some(value) => drop(copied.insert(key, value)),
                None => drop(copied.remove(&key)),
            }
        }
        if part.done {
            break;
        }
        parts += 1;
        if parts.is_multiple_of(10) {
            bench.run(bench.store.commit(write(&parts.to_be_bytes(), Expect::Any, b"changed"))).unwrap();
            bench.run(bench.store.rewrite()).unwrap();
        }
    }
    assert!(parts > 20);
    let all = records(&bench).into_iter().map(|(key, record)| (key, record.value)).collect();
    assert_eq!(copied, all);
    let before = heard.load(Ordering::SeqCst);
    bench.run(bench.store.commit(vec![put(b"a")])).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), before + 1);
}

#[test]
fn a_damaged_record_is_not_left_out_of_the_copy() {
    let bench = filled(50);
    let at = tree_key(b"x");
    bench.store.shared().gate.database().unwrap().db.insert(&at, b"short").unwrap();
    assert_eq!(bench.run(bench.store.rewrite()), Err(StoreError::Damaged("x".into())));
    assert_eq!(*bench.store.failed().borrow(), None);
    assert_eq!(names(bench.dir.path()), ["store"]);
}
