//! kill -9: of a child that writes, of one that opens, and of recovery itself.
//! The child is this test binary, told by the environment what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clavigerd::edge::Edge;
use clavigerd::store::{MAX_VALUE_LEN, OpenError, SledStore, StateLock, Store};

use crate::common::{CACHE, Random, block_on, copy_dir, fill, open, put};

const CHILD_DIR: &str = "STORE_TEST_CHILD_DIR";
/// Whether the child also rewrites the store, all the time.
const CHILD_REWRITES: &str = "STORE_TEST_CHILD_REWRITES";
const WRITERS: u32 = 8;
const BATCH: u8 = 8;

/// Not a test: what a child process does. Without its environment it does nothing.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(PathBuf::from) else { return };
    let say = |line: String| std::io::stdout().write_all(line.as_bytes()).unwrap();
    let store = open(&dir).unwrap();
    say("\nopened\n".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let first = store.commit(vec![put(b"start", b"")]).await.unwrap();
        let writers = (0..WRITERS).map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0_u32.. {
                    // Unique over all rounds: the first revision of this one is in it.
                    let id = [&first.to_be_bytes()[..], &writer.to_be_bytes(), &n.to_be_bytes()].concat();
                    // One writer's batches are large, so that they lie across segments' ends.
                    let value = vec![7; if writer == 0 { MAX_VALUE_LEN } else { 100 }];
                    let batch = (0..BATCH).map(|part| put(&[b"w", &id[..], &[part]].concat(), &value));
                    let revision = store.commit(batch.collect()).await.unwrap();
                    say(format!("ack {} {revision}\n", hex::encode(&id)));
                }
            })
        });
        let writers = writers.collect::<Vec<_>>();
        while std::env::var_os(CHILD_REWRITES).is_some() {
            let revision = store.rewrite().await.unwrap();
            say(format!("rewritten {revision}\n"));
        }
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

pub(crate) fn start_child(dir: &Path) -> Child {
    start(Command::new(std::env::current_exe().unwrap()), dir)
}

pub(crate) fn start_rewriting_child(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CHILD_REWRITES, "1");
    start(command, dir)
}

fn start(mut command: Command, dir: &Path) -> Child {
    command
        .args(["crash::child", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the child acknowledge `count` batches, kills it, and gives all it acknowledged.
fn acknowledged_before_kill(child: Child, count: usize) -> Vec<(Vec<u8>, u64)> {
    let (mut acks, killed) = acknowledged(child, count);
    assert!(killed, "the child ended by itself after {} commits", acks.len());
    // A cut revision reads as a smaller one; the order check must not see it.
    acks.pop();
    acks
}

/// Batch and revision; `None` for other lines, and for one that the kill cut.
pub(crate) fn parse_ack(line: &str) -> Option<(Vec<u8>, u64)> {
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some("ack"), Some(id), Some(revision)) => Some((hex::decode(id).ok()?, revision.parse().ok()?)),
        _ => None,
    }
}

fn acknowledged(mut child: Child, count: usize) -> (Vec<(Vec<u8>, u64)>, bool) {
    let mut acks = Vec::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        acks.extend(parse_ack(&line));
        if acks.len() == count && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    (acks, killed)
}

/// Every batch in the store, whole, by its id, with its revision.
pub(crate) fn whole_batches(dir: &Path) -> (BTreeMap<Vec<u8>, u64>, u64) {
    block_on(async {
        let store = open(dir).unwrap();
        let mut parts: BTreeMap<Vec<u8>, BTreeSet<u64>> = BTreeMap::new();
        let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (key, record) in store.list(b"w", None, usize::MAX).await.unwrap() {
            let id = key[1..key.len() - 1].to_vec();
            assert!([100, MAX_VALUE_LEN].contains(&record.value.len()));
            assert!(record.value.iter().all(|byte| *byte == 7));
            parts.entry(id.clone()).or_default().insert(record.revision);
            *counts.entry(id).or_default() += 1;
        }
        assert!(counts.values().all(|count| *count == usize::from(BATCH)), "half a batch");
        let single = |revisions: BTreeSet<u64>| {
            assert_eq!(revisions.len(), 1, "a batch of two revisions");
            *revisions.first().unwrap()
        };
        let next = store.commit(vec![]).await.unwrap();
        store.close().await.unwrap();
        (parts.into_iter().map(|(id, revisions)| (id, single(revisions))).collect(), next)
    })
}

/// Kills children under load, each after some more batches; gives how many were acknowledged.
fn killed_under_load(rounds: usize, batches: usize, start: fn(&Path) -> Child) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(1);
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        acknowledged.extend(acknowledged_before_kill(start(dir.path()), 20 + random.below(batches)));
        let (present, next) = whole_batches(dir.path());
        for (id, revision) in &acknowledged {
            assert_eq!(present.get(id), Some(revision), "round {round}: lost {}", hex::encode(id));
            assert!(*revision < next, "round {round}: the revision went back");
        }
        let distinct: BTreeSet<_> = present.values().collect();
        assert_eq!(distinct.len(), present.len(), "round {round}: a revision was given twice");
        only_the_store(dir.path());
    }
    acknowledged.len()
}

#[test]
fn kill_under_load_loses_nothing_acknowledged_and_tears_no_batch() {
    assert!(killed_under_load(24, 150, start_child) > 24 * 19);
}

/// At any moment of a rewrite, of which there is always one.
#[test]
fn kill_under_load_and_rewrites_loses_nothing_acknowledged_and_tears_no_batch() {
    assert!(killed_under_load(16, 400, start_rewriting_child) > 16 * 19);
}

/// A disk that takes no more, as the shell's file size limit makes it: the child's
/// commits end with an error, and what it acknowledged before is there.
#[test]
fn a_write_that_the_disk_refuses_is_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 10);
    let mut shell = Command::new("sh");
    // Blocks of 512 bytes: 6 MiB.
    shell.args(["-c", r#"trap "" XFSZ; ulimit -f 12288; exec "$@""#, "sh"]);
    shell.arg(std::env::current_exe().unwrap());
    let (acks, killed) = acknowledged(start(shell, dir.path()), 100_000);
    assert!(!killed && !acks.is_empty(), "{}", acks.len());
    let (present, next) = whole_batches(dir.path());
    for (id, revision) in &acks {
        assert_eq!(present.get(id), Some(revision), "lost {}", hex::encode(id));
        assert!(*revision < next);
    }
}

/// Starts a child and kills it `after` its start, or waits for it to open and
/// gives how long that took.
fn kill_while_opening(dir: &Path, after: Option<Duration>) -> Duration {
    let start = Instant::now();
    let mut child = start_child(dir);
    if let Some(after) = after {
        std::thread::sleep(after.saturating_sub(start.elapsed()));
    } else {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "opened"));
    }
    let took = start.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

fn assert_filled(dir: &Path, n: u32) {
    block_on(async {
        let store = open(dir).unwrap();
        let found = store.list(b"", None, usize::MAX).await.unwrap();
        let numbers = (0..n).filter(|i| {
            found
                .binary_search_by(|(key, _)| key.as_slice().cmp(&i.to_be_bytes()))
                .is_ok_and(|at| found[at].1.value == i.to_be_bytes())
        });
        assert_eq!(numbers.count(), usize::try_from(n).unwrap(), "records are missing");
        store.close().await.unwrap();
    });
    only_the_store(dir);
}

/// Nothing of an opening or of a rewrite is left.
fn only_the_store(dir: &Path) {
    let mut left: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name.to_string_lossy().starts_with("store"));
    assert_eq!(left, ["store"]);
}

#[test]
fn kill_at_any_moment_of_open_leaves_a_store_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 300);
    let typical = kill_while_opening(dir.path(), None);
    for round in 0..40 {
        kill_while_opening(dir.path(), Some(typical * round / 36));
        assert_filled(dir.path(), 300);
    }
    // The very first open too.
    for round in 0..20 {
        let fresh = tempfile::tempdir().unwrap();
        kill_while_opening(fresh.path(), Some(typical * round / 18));
        assert_filled(fresh.path(), 0);
    }
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> =
        all.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("snap.")).collect();
    assert!(!found.is_empty());
    found
}

fn tear(dir: &Path, keep: u64) {
    for path in snapshots(dir) {
        OpenOptions::new().write(true).open(path).unwrap().set_len(keep).unwrap();
    }
}

#[test]
fn a_torn_snapshot_is_rebuilt_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 200);
    for keep in [0, 1, 12, 13, 40] {
        tear(dir.path(), keep);
        assert_filled(dir.path(), 200);
    }
    for path in snapshots(dir.path()) {
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert_filled(dir.path(), 200);
}

/// Every state in which a kill can leave an opening of before there was `store.before`, and
/// a rewrite: a whole store waits beside the one that is there, or isn't.
#[test]
fn a_store_that_stands_aside_goes_back_to_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let (store, aside) = (path.join("store"), path.join("store.aside"));
    fill(path, 100);
    // In the copying.
    fs::create_dir(path.join("store.aside.partial")).unwrap();
    fs::write(path.join("store.aside.partial/db"), "half").unwrap();
    assert_filled(path, 100);
    // After the copy, before, within and after the removal of a snapshot.
    for removed in [0, 1] {
        tear(path, 5);
        copy_dir(&store, &aside);
        for snapshot in snapshots(path).iter().take(removed) {
            fs::remove_file(snapshot).unwrap();
        }
        assert_filled(path, 100);
    }
    // In the opening, whatever it has made of the store, and with the copy of another.
    copy_dir(&store, &aside);
    fs::write(store.join("db"), "zeros").unwrap();
    fs::create_dir(path.join("store.before")).unwrap();
    assert_filled(path, 100);
    // In putting the copy back.
    fs::rename(&store, &aside).unwrap();
    copy_dir(&aside, &path.join("store.new"));
    fs::write(path.join("store.new/db"), "half").unwrap();
    assert_filled(path, 100);
    // Opened, and killed while the copy was removed.
    fs::create_dir(path.join("store.aside.partial")).unwrap();
    assert_filled(path, 100);
    // Killed while the store was first made, beside a whole one.
    fs::create_dir(path.join("store.new")).unwrap();
    assert_filled(path, 100);
}

/// Kills recoveries at many moments: whatever they leave, the next open mends it.
#[test]
fn kill_at_any_moment_of_recovery() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 200);
    tear(dir.path(), 5);
    let typical = kill_while_opening(dir.path(), None);
    for round in 0..20 {
        assert_filled(dir.path(), 200);
        tear(dir.path(), 5);
        kill_while_opening(dir.path(), Some(typical * round / 18));
    }
    assert_filled(dir.path(), 200);
}

#[test]
fn a_store_that_was_there_and_is_gone_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 10);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    let lock = StateLock::acquire(dir.path()).unwrap();
    let refused = SledStore::reopen(&lock, CACHE, 8, &Edge::system()).err().unwrap();
    assert!(matches!(&refused, OpenError::Missing(store) if store.ends_with("store")), "{refused}");
    assert!(!dir.path().join("store").exists());
}

/// sled itself writes zeros over everything behind a byte that it can't make sense of.
#[test]
fn a_store_that_is_refused_is_left_as_it_was_found() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 300);
    let log = dir.path().join("store/db");
    let sound = fs::read(&log).unwrap();
    let end = sound.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for part in 1..16 {
        let mut damaged = sound.clone();
        damaged[end * part / 16] ^= 0x10;
        fs::write(&log, &damaged).unwrap();
        if let Err(error) = open(dir.path()) {
            refused += 1;
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            assert!(fs::read(&log).unwrap() == damaged, "part {part}: it was written to");
            only_the_store(dir.path());
        }
        // What was damaged is mended by its owner: nothing is lost.
        fs::write(&log, &sound).unwrap();
        assert_filled(dir.path(), 300);
        fs::write(&log, &sound).unwrap();
    }
    assert!(refused >= 8, "{refused}");
}

#[test]
fn a_second_daemon_is_refused_until_the_first_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start_child(dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "opened"));
    assert!(matches!(StateLock::acquire(dir.path()), Err(OpenError::Locked(_))));
    child.kill().unwrap();
    child.wait().unwrap();
    StateLock::acquire(dir.path()).unwrap();
}
