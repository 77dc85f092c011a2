//! The rewrite: what was deleted is in no file any more, whatever stops it on the way. The
//! child is this test binary; strace(1) kills it, or fails its calls, at a place of our choice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clavigerd::store::{Change, Expect, MAX_VALUE_LEN, Op, SledStore, Store, StoreError};

use crate::common::{Random, block_on, open, put};

const CHILD_DIR: &str = "STORE_TEST_REWRITE_DIR";
/// Records that the child finds.
const RECORDS: u32 = 200;

/// What every value begins with, to find them all in one look through the files.
const MARK: [u8; 4] = *b"\x07mk\x15";

/// What stands at a key and nowhere else: 48 bytes.
fn value(key: u32, generation: u8) -> Vec<u8> {
    let mut random = Random(u64::from(key) << 8 | u64::from(generation));
    MARK.into_iter().chain((4..48).map(|_| u8::try_from(random.below(256)).unwrap())).collect()
}

/// A value of the largest size, made of some of those.
fn large(key: u32) -> Vec<u8> {
    (0..=255).flat_map(|generation| value(key, generation)).cycle().take(MAX_VALUE_LEN).collect()
}

fn write(key: u32, generation: u8) -> Op {
    put(&key.to_be_bytes(), &value(key, generation))
}

fn delete(key: u32) -> Op {
    Op { key: key.to_be_bytes().to_vec(), expect: Expect::Any, change: Change::Delete }
}

/// Every value that stands in any file below a directory.
fn values(dir: &Path) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(values(&path));
            continue;
        }
        let bytes = fs::read(path).unwrap();
        let mut rest = &bytes[..];
        while let Some(at) = rest.iter().position(|byte| *byte == MARK[0]) {
            if rest[at..].starts_with(&MARK) && rest.len() >= at + 48 {
                found.insert(rest[at..at + 48].to_vec());
            }
            rest = &rest[at + 1..];
        }
    }
    found
}

fn store_files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("store")).collect();
    names.sort();
    names
}

#[test]
fn no_byte_of_what_was_deleted_or_replaced_is_left_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        // Two lives, so that there are snapshots, and pages from either.
        for life in 0..2 {
            let store = open(dir.path()).unwrap();
            for key in (0..400).filter(|key| key % 2 == life) {
                store.commit(vec![write(key, 0)]).await.unwrap();
            }
            store.close().await.unwrap();
        }
        let store = open(dir.path()).unwrap();
        store
            .commit(vec![put(b"large/deleted", &large(1000)), put(b"large/kept", &large(1001))])
            .await
            .unwrap();
        for key in 0..100 {
            let change = if key % 2 == 0 { delete(key) } else { write(key, 1) };
            store.commit(vec![change]).await.unwrap();
        }
        let gone = Op { key: b"large/deleted".to_vec(), expect: Expect::Any, change: Change::Delete };
        let last = store.commit(vec![gone]).await.unwrap();
        let before = values(dir.path());
        assert!((0..100).all(|key| before.contains(&value(key, 0))), "nothing to erase");
        assert!((0..=255).all(|part| before.contains(&value(1000, part))));
        let listed = store.list(b"", None, usize::MAX).await.unwrap();

        assert_eq!(store.rewrite().await, Ok(last));

        let sound = async |store: &SledStore| {
            let after = values(dir.path());
            assert!((0..100).all(|key| !after.contains(&value(key, 0))), "erased, and there");
            assert!((0..=255).all(|part| !after.contains(&value(1000, part))));
            assert!((1..100).step_by(2).all(|key| after.contains(&value(key, 1))));
            assert!((100..400).all(|key| after.contains(&value(key, 0))));
            assert!((0..=255).all(|part| after.contains(&value(1001, part))));
            assert_eq!(store.list(b"", None, usize::MAX).await.unwrap(), listed);
            assert_eq!(store_files(dir.path()), ["store"]);
        };
        sound(&store).await;
        store.close().await.unwrap();
        // The next start brings nothing back.
        let store = open(dir.path()).unwrap();
        sound(&store).await;
        assert_eq!(store.commit(vec![]).await, Ok(last + 1));
        assert_eq!(store.rewrite().await, Ok(last + 1));
        sound(&store).await;
        store.close().await.unwrap();
    });
}

#[test]
fn the_largest_records_make_no_blob_files_in_the_copy_either() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(dir.path()).unwrap();
        for round in 0..2 {
            for number in 0..200_u32 {
                let mut key = vec![b'k'; clavigerd::store::MAX_KEY_LEN];
                key[..4].copy_from_slice(&(number * 3 + round).to_be_bytes());
                store.commit(vec![put(&key, &vec![1; MAX_VALUE_LEN])]).await.unwrap();
            }
            store.rewrite().await.unwrap();
            assert_eq!(fs::read_dir(dir.path().join("store/blobs")).unwrap().count(), 0);
        }
        assert_eq!(store.list(b"", None, usize::MAX).await.unwrap().len(), 400);
        store.close().await.unwrap();
    });
}

/// Readers and writers all the while; what each was told is true to the end.
#[test]
fn reads_and_commits_go_on_and_none_is_lost() {
    const WRITERS: u32 = 6;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let told: Vec<BTreeMap<Vec<u8>, Option<u64>>> = runtime.block_on(async {
        for key in 0..3000 {
            store.commit((0..10).map(|part| write(10 * key + part, 0)).collect()).await.unwrap();
        }
        let (ended, end) = tokio::sync::watch::channel(false);
        let writers = (0..WRITERS).map(|writer| {
            let (store, end) = (Arc::clone(&store), end.clone());
            tokio::spawn(async move {
                let (mut random, mut told) = (Random(u64::from(writer)), BTreeMap::new());
                while !*end.borrow() {
                    // Keys of its own, all over the store.
                    let key = u32::try_from(random.below(5000)).unwrap() * WRITERS + writer;
                    let at = key.to_be_bytes().to_vec();
                    let seen = store.get(&at).await.unwrap().map(|record| record.revision);
                    if let Some(told) = told.get(&at) {
                        assert_eq!(seen, *told, "read something else than was answered");
                    }
                    let expect = seen.map_or(Expect::Absent, Expect::Revision);
                    let change = if random.below(3) == 0 {
                        Change::Delete
                    } else {
                        Change::Put(value(key, u8::try_from(random.below(200)).unwrap()))
                    };
                    let deleted = change == Change::Delete;
                    let revision = store.commit(vec![Op { key: at.clone(), expect, change }]).await.unwrap();
                    told.insert(at, (!deleted).then_some(revision));
                }
                told
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut last = 0;
        for _ in 0..4 {
            let revision = store.rewrite().await.unwrap();
            assert!(revision > last, "nothing was committed while it copied");
            last = revision;
        }
        ended.send(true).unwrap();
        let mut told = Vec::new();
        for writer in writers {
            told.push(writer.await.unwrap());
        }
        store.close().await.unwrap();
        told
    });
    drop(store);
    assert!(told.iter().all(|told| told.len() > 20));
    block_on(async {
        let store = open(dir.path()).unwrap();
        for (key, revision) in told.iter().flatten() {
            let found = store.get(key).await.unwrap().map(|record| record.revision);
            assert_eq!(found, *revision, "{key:?}");
        }
        store.close().await.unwrap();
    });
}

/// Not a test: what a child process does. It deletes, rewrites, and goes on, and says so.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(PathBuf::from) else { return };
    let say = |line: &str| std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
    block_on(async {
        let store = match open(&dir) {
            Ok(store) => store,
            Err(error) => return say(&format!("unopened {error}")),
        };
        let commit = async |op: Op, what: String| match store.commit(vec![op]).await {
            Ok(_) => say(&format!("ack {what}")),
            Err(error) => say(&format!("refused {error}")),
        };
        for key in 0..RECORDS / 4 {
            commit(delete(key), format!("deleted {key}")).await;
        }
        // Whoever wants to meddle does it from here on.
        say("ready");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let (rewritten, ()) = tokio::join!(store.rewrite(), async {
            for key in RECORDS / 4..RECORDS / 2 {
                commit(write(key, 1), format!("changed {key}")).await;
            }
        });
        say(&match rewritten {
            Ok(_) => "rewritten".to_owned(),
            Err(StoreError::Rewrite(why)) => format!("unchanged {why}"),
            Err(error) => format!("failed {error}"),
        });
        for key in RECORDS..RECORDS + 10 {
            commit(write(key, 0), format!("added {key}")).await;
        }
        let closed = store.close().await;
        say(&format!("closed {}", closed.is_ok()));
    });
}

fn prepared() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&home.path().join("state")).unwrap();
        for key in 0..RECORDS {
            store.commit(vec![write(key, 0)]).await.unwrap();
        }
        store.close().await.unwrap();
    });
    home
}

/// What a child said, and how it ended.
struct Life {
    said: Vec<String>,
    killed: bool,
    met: bool,
}

impl Life {
    fn said(&self, what: &str) -> bool {
        self.said.iter().any(|line| line.starts_with(what))
    }

    fn acknowledged(&self, what: &str) -> Vec<u32> {
        let numbers = self.said.iter().filter_map(|line| line.strip_prefix("ack ")?.strip_prefix(what));
        numbers.map(|number| number.trim().parse().unwrap()).collect()
    }
}

/// A child that meets a fault while it rewrites, where a thread makes the `when`-th of these
/// calls (on one file, if said).
fn life(home: &Path, calls: &str, file: Option<&str>, fault: &str, when: &str) -> Life {
    let (state, trace) = (home.join("state"), home.join("trace"));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["rewrite::child", "--exact", "--nocapture"]).env(CHILD_DIR, &state);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said: Vec<_> = lines.by_ref().take_while(|line| line != "ready").collect();

    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", trace.to_str().unwrap(), "-p", &child.id().to_string()]);
    strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{fault}:when={when}")]);
    if let Some(file) = file {
        strace.args(["-P", state.join(file).to_str().unwrap()]);
    }
    let mut strace = strace.stderr(Stdio::piped()).spawn().unwrap();
    let mut heard = BufReader::new(strace.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(heard.any(|line| line.contains("attached")), "strace can't be had");
    // All of its threads are attached to before the first is let go.
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    said.extend(lines);
    let killed = child.wait().unwrap().signal() == Some(9);
    drop(heard);
    strace.wait().unwrap();
    let met = killed || fs::read_to_string(&trace).unwrap().contains("(INJECTED)");
    Life { said, killed, met }
}

/// Everything that was acknowledged is there, and what was erased isn't.
fn all_is_true(home: &Path, life: &Life, how: &str) {
    let state = home.join("state");
    let deleted = life.acknowledged("deleted");
    let erased = |when: &str| {
        let all = values(&state);
        assert!(deleted.iter().all(|key| !all.contains(&value(*key, 0))), "{how}: erased, and there {when}");
    };
    if life.said("rewritten") {
        erased("as it was left");
    }
    block_on(async {
        let store = open(&state).unwrap();
        assert_eq!(store_files(&state), ["store"], "{how}: leftovers");
        let found: BTreeMap<_, _> = store.list(b"", None, usize::MAX).await.unwrap().into_iter().collect();
        let at = |key: u32| found.get(&key.to_be_bytes()[..]).map(|record| record.value.clone());
        for key in deleted.iter().copied() {
            assert_eq!(at(key), None, "{how}: {key} is back");
        }
        for key in life.acknowledged("changed") {
            assert_eq!(at(key), Some(value(key, 1)), "{how}: {key}");
        }
        for key in life.acknowledged("added") {
            assert_eq!(at(key), Some(value(key, 0)), "{how}: {key}");
        }
        for key in RECORDS / 2..RECORDS {
            assert_eq!(at(key), Some(value(key, 0)), "{how}: {key}");
        }
        if life.said("rewritten") {
            erased("after a start");
        }
        // What was half done is simply done again.
        store.rewrite().await.unwrap();
        erased("after another rewrite");
        store.close().await.unwrap();
    });
}

const RENAMES: &str = "rename,renameat,renameat2";

/// Which of a call's occurrences are hit; with `all` until none is left.
fn occurrences(short: Option<&[u32]>) -> Box<dyn Iterator<Item = u32> + '_> {
    let all = std::env::var("CLAVIGER_TORTURE").is_ok_and(|form| form == "all");
    match short {
        Some(short) if !all => Box::new(short.iter().copied()),
        _ => Box::new(1..),
    }
}

#[test]
fn killed_at_any_call_that_changes_files_it_leaves_the_old_store_or_the_new_one() {
    let mut points = BTreeMap::new();
    for (calls, file, short) in [
        ("mkdir,mkdirat", None, None),
        ("pwrite64", Some("store.new/db"), Some(&[1, 2][..])),
        ("fdatasync", Some("store.new/db"), None),
        ("fsync", Some("store.new"), None),
        ("pwrite64", Some("store.new/acknowledged"), None),
        // sled's snapshot; then the three of the swap, by what is renamed.
        (RENAMES, None, Some(&[1])),
        (RENAMES, Some("store"), None),
        (RENAMES, Some("store.new"), None),
        (RENAMES, Some("store.aside"), None),
        // The state directory itself.
        ("fsync", Some("."), None),
        ("unlink,unlinkat,rmdir", None, None),
    ] {
        for when in occurrences(short) {
            let home = prepared();
            let life = life(home.path(), calls, file, "signal=KILL", &when.to_string());
            let how = format!("killed at {calls} {when} of {file:?}");
            all_is_true(home.path(), &life, &how);
            if !life.killed {
                assert!(life.said("rewritten") && life.said("closed true"), "{how}: {:?}", life.said);
                break;
            }
            *points.entry((calls, file)).or_insert(0) += 1;
        }
    }
    writeln!(std::io::stdout(), "killed at {points:?}").unwrap();
    assert_eq!(points.len(), 11, "{points:?}: the calls aren't met any more");
    assert_eq!(points[&("fsync", Some("."))], 3, "{points:?}");
}

#[test]
fn calls_that_fail_while_it_copies_cost_the_copy_and_nothing_else() {
    let late = "error=EIO:delay_enter=300000";
    for (calls, file, fault, when) in [
        ("pwrite64", "store.new/db", "error=EIO", "1+"),
        ("pwrite64", "store.new/db", "error=ENOSPC", "1"),
        ("sync_file_range", "store.new/db", "error=EIO", "1"),
        // Late: those who wait for it already do.
        ("sync_file_range", "store.new/db", late, "1+"),
        ("fdatasync", "store.new/db", "error=EIO", "1"),
        ("fsync,fdatasync", "store.new/db", "error=EIO", "1+"),
        ("pwrite64", "store.new/acknowledged", "error=EIO", "1"),
        ("openat", "store.new/acknowledged", "error=EMFILE", "1"),
        ("fsync", "store.new", "error=EIO", "1"),
        (RENAMES, "store", "error=ENOSPC", "1"),
    ] {
        let home = prepared();
        let life = life(home.path(), calls, Some(file), fault, when);
        let how = format!("{fault} at {calls} {when} of {file}");
        assert!(life.met, "{how}: not met");
        assert!(life.said("unchanged"), "{how}: {:?}", life.said);
        assert!(life.said("closed true") && !life.said("refused"), "{how}: {:?}", life.said);
        assert_eq!(life.acknowledged("added").len(), 10, "{how}");
        all_is_true(home.path(), &life, &how);
    }
}
