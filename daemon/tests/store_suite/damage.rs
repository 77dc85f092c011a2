//! Damaged files: whatever was flipped or cut, opening and reading give an error
//! or the truth, never a panic, a hang, or a record that nobody wrote.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use clavigerd::store::{
    Change, Expect, MAX_KEY_LEN, MAX_VALUE_LEN, Op, OpenError, Record, Sealed, StateLock, Store, StoreError,
};
use serde::{Deserialize, Serialize};

use crate::common::{Random, block_on, copy_dir, open, put};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Note {
    number: u32,
    text: Vec<u8>,
}

impl Record for Note {
    const SCHEMA: u16 = 1;
}

const NOTES: u32 = 300;

fn note(number: u32) -> Note {
    Note { number, text: vec![u8::try_from(number % 251).unwrap(); 64] }
}

/// Three generations of the daemon write, so that sled's snapshot covers some of
/// the log, and some comes after it.
fn make(dir: &Path) {
    for part in 0..3 {
        block_on(async {
            let store = open(dir).unwrap();
            let sealed = Sealed::new(store.clone(), &[3; 32]);
            for number in (0..NOTES).filter(|number| number * 3 / NOTES == part) {
                let key = number.to_be_bytes().to_vec();
                let change = Change::Put(sealed.put(&key, &note(number)).unwrap());
                store.commit(vec![Op { key, expect: Expect::Absent, change }]).await.unwrap();
            }
            store.close().await.unwrap();
        });
    }
}

/// What became of a damaged store.
#[derive(Default, Debug)]
struct Tally {
    refused_to_open: u32,
    errors: u32,
    absent: u32,
    sound: u32,
}

fn examine(dir: &Path, tally: &mut Tally) {
    let store = match open(dir) {
        Ok(store) => store,
        Err(OpenError::Damaged { .. } | OpenError::Io { .. }) => {
            tally.refused_to_open += 1;
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let sealed = Sealed::new(store.clone(), &[3; 32]);
    block_on(async {
        for number in 0..NOTES {
            match sealed.get::<Note>(&number.to_be_bytes()).await {
                Ok(Some((_, found))) => {
                    assert_eq!(found, note(number), "a record that nobody wrote");
                    tally.sound += 1;
                }
                Ok(None) => tally.absent += 1,
                Err(StoreError::Damaged(_) | StoreError::Failed(_)) => tally.errors += 1,
                Err(other) => panic!("{other}"),
            }
        }
        if let Ok(all) = sealed.list::<Note>(b"", None, usize::MAX).await {
            assert!(all.iter().all(|(_, _, found)| *found == note(found.number)));
        }
        // Whatever it says, it answers.
        let _ = store.commit(vec![put(b"x", b"")]).await;
        let _ = store.close().await;
    });
}

fn damaged(rounds: u64, damage: impl Fn(&Path, &mut Random)) -> Tally {
    let pristine = tempfile::tempdir().unwrap();
    make(pristine.path());
    let control = tempfile::tempdir().unwrap();
    copy_dir(pristine.path(), &control.path().join("state"));
    let mut tally = Tally::default();
    examine(&control.path().join("state"), &mut tally);
    assert_eq!(tally.sound, NOTES, "the undamaged store isn't whole");
    for seed in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        copy_dir(pristine.path(), &state);
        let mut random = Random(seed);
        if seed % 2 == 1 {
            // Without its snapshot, sled reads the whole log.
            for entry in fs::read_dir(state.join("store")).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        damage(&state.join("store/db"), &mut random);
        examine(&state, &mut tally);
    }
    tally
}

/// Damage shows, and nothing acknowledged is missing without a word.
fn assert_noticed(tally: &Tally) {
    assert!(tally.refused_to_open + tally.errors > 0, "{tally:?}");
    assert_eq!(tally.absent, 0, "{tally:?}");
}

/// Bytes of the log in use: sled makes the file longer than that.
fn used(db: &Path) -> usize {
    let bytes = fs::read(db).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn flipped_bytes_never_become_a_record() {
    let tally = damaged(60, |db, random| {
        let file = OpenOptions::new().read(true).write(true).open(db).unwrap();
        for _ in 0..=random.below(4) {
            let at = u64::try_from(random.below(used(db))).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << random.below(8);
            file.write_all_at(&byte, at).unwrap();
        }
    });
    assert_noticed(&tally);
}

#[test]
fn a_cut_log_never_becomes_a_record() {
    let tally = damaged(40, |db, random| {
        let keep = random.below(used(db));
        OpenOptions::new().write(true).open(db).unwrap().set_len(u64::try_from(keep).unwrap()).unwrap();
    });
    assert_noticed(&tally);
}

#[test]
fn zeroed_and_garbled_stretches_never_become_records() {
    let tally = damaged(40, |db, random| {
        let file = OpenOptions::new().write(true).open(db).unwrap();
        let at = u64::try_from(random.below(used(db))).unwrap();
        let byte = if random.below(2) == 0 { 0 } else { 0xFF };
        file.write_all_at(&vec![byte; 1 + random.below(5000)], at).unwrap();
    });
    assert_noticed(&tally);
}

/// sled takes a damaged place for the log's end: what is lost is said, and the store
/// opens with the rest once the operator has accepted that.
#[test]
fn a_loss_is_refused_until_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let db = dir.path().join("store/db");
    let keep = u64::try_from(used(&db) - 2000).unwrap();
    OpenOptions::new().write(true).open(db).unwrap().set_len(keep).unwrap();
    for _ in 0..2 {
        let refused = open(dir.path()).err().expect("opened").to_string();
        assert!(refused.contains(&format!("change {NOTES} was acknowledged")), "{refused}");
        assert!(refused.contains("remove ") && refused.contains("store/acknowledged"), "{refused}");
    }
    fs::remove_file(dir.path().join("store/acknowledged")).unwrap();
    let mut tally = Tally::default();
    examine(dir.path(), &mut tally);
    assert!(tally.sound > NOTES / 2 && tally.absent > 0 && tally.errors == 0, "{tally:?}");
}

/// An empty log opens as an empty database in sled: the counter says it isn't new.
#[test]
fn a_store_whose_log_is_gone_is_not_taken_for_a_new_one() {
    for emptied in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let store = dir.path().join("store");
        for entry in fs::read_dir(&store).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && (!emptied || path.file_name().unwrap() != "db") {
                fs::remove_file(path).unwrap();
            }
        }
        if emptied {
            fs::write(store.join("db"), "").unwrap();
        }
        let refused = open(dir.path()).err().expect("opened as if new");
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    }
}

#[test]
fn a_directory_that_can_not_be_written_is_said_plainly() {
    for path in ["/proc/self/task", "/proc/claviger"] {
        let refused = StateLock::acquire(Path::new(path)).unwrap_err();
        assert!(matches!(&refused, OpenError::Io { .. }));
        assert!(refused.to_string().contains(path), "{refused}");
    }
}

/// Pages full of the largest keys and values stay in the log: sled writes files of
/// their own without a sync.
#[test]
fn the_largest_records_make_no_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(dir.path()).unwrap();
        let value = vec![1; MAX_VALUE_LEN];
        let mut random = Random(3);
        for round in 0..12 {
            let commits: Vec<_> = (0..40)
                .map(|_| {
                    let mut key = vec![b'k'; MAX_KEY_LEN];
                    key[random.below(2)] = u8::try_from(random.below(60)).unwrap();
                    key[MAX_KEY_LEN - 1] = u8::try_from(random.below(5)).unwrap();
                    // Removals too: they merge pages.
                    let change =
                        if random.below(3) == 0 { Change::Delete } else { Change::Put(value.clone()) };
                    store.commit(vec![Op { key, expect: Expect::Any, change }])
                })
                .collect();
            for commit in commits {
                commit.await.unwrap();
            }
            assert_eq!(fs::read_dir(dir.path().join("store/blobs")).unwrap().count(), 0, "round {round}");
        }
        store.close().await.unwrap();
    });
}

#[test]
fn revisions_go_on_after_closing_and_closed_means_closed() {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateLock::acquire(dir.path()).unwrap();
    let mut last = 0;
    for _ in 0..5 {
        let edge = clavigerd::edge::Edge::system();
        let store = clavigerd::store::SledStore::open(&lock, crate::common::CACHE, 8, &edge).unwrap();
        block_on(async {
            let revision = store.commit(vec![put(b"a", b"")]).await.unwrap();
            assert!(revision > last);
            last = revision;
            store.close().await.unwrap();
            assert!(matches!(store.commit(vec![]).await, Err(StoreError::Failed(_))));
            assert!(matches!(store.get(b"a").await, Err(StoreError::Failed(_))));
            assert_eq!(*store.failed().borrow(), None, "closing is no failure");
        });
    }
}
