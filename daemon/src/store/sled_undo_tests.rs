//! Tests of the copy for undoing: that it is enough, whatever sled did, and that it is small.

use std::collections::BTreeMap;

use super::super::sled_open;
use super::*;

/// sled's smallest segments, so that there are many.
const SEGMENT: u64 = 4096;
const HEADER: u64 = HEADER_LEN as u64;

fn config(dir: &Path) -> sled::Config {
    let config = sled::Config::new().path(dir).segment_size(4096).cache_capacity(1 << 20);
    config.flush_every_ms(None)
}

fn closed(db: sled::Db, dir: &Path) {
    drop(db);
    assert!(sled_open::wait_for_lock(dir).is_ok());
}

/// Writes and deletes, so that segments are freed and used again.
fn live(dir: &Path, life: u32) {
    let db = config(dir).open().unwrap();
    for number in 0..400_u32 {
        let key = (number * 7 % 300 + life * 50).to_be_bytes();
        if number % 3 == 0 {
            db.remove(key).unwrap();
        } else {
            db.insert(key, vec![u8::try_from(life).unwrap(); 90]).unwrap();
        }
    }
    closed(db, dir);
}

/// All files with what is in them.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (path, is_dir) in entries(dir).unwrap() {
        if !is_dir {
            all.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap());
        }
    }
    all
}

fn records(dir: &Path) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let read = || -> sled::Result<_> {
        let db = config(dir).open()?;
        let all = db.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec()))).collect();
        closed(db, dir);
        all
    };
    sled_open::contain(read).ok()
}

/// Segments that lie before the snapshot keep their headers, and what is needed of them.
fn is_as_before(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>, kept: &AtStake) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bytes) in before.iter().filter(|(name, _)| *name != LOG) {
        assert_eq!(&after[name], bytes, "{name}");
    }
    let (before, after) = (&before[LOG], &after[LOG]);
    assert_eq!(before.len(), after.len());
    for (at, len) in kept.stretches.iter().copied() {
        let [start, end] = [at, at + len].map(|place| usize::try_from(place).unwrap());
        assert_eq!(before[start..end], after[start..end], "at {at}");
    }
}

#[test]
fn whatever_an_opening_did_is_undone_and_the_store_is_whole() {
    for lives in 1..6_u32 {
        let home = tempfile::tempdir().unwrap();
        let (store, copy) = (home.path().join("store"), home.path().join("copy"));
        (0..lives).for_each(|life| live(&store, life));
        let reference = home.path().join("reference");
        copy_tree(&store, &reference, None).unwrap();
        let wanted = records(&reference).unwrap();
        let len = fs::metadata(store.join(LOG)).unwrap().len();
        for part in 0..8 {
            // What is copied, opening damages: as a read that fails does, in that moment.
            let kept = AtStake::of(&store, SEGMENT, false).unwrap();
            let before = contents(&store);
            kept.copy(&store, &copy).unwrap();
            let log = File::options().read(true).write(true).open(store.join(LOG)).unwrap();
            let at = len * part / 8 + u64::from(lives);
            let mut byte = [0];
            log.read_exact_at(&mut byte, at).unwrap();
            log.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
            let _ = records(&store);
            // The disk's own byte is sound again.
            log.write_all_at(&byte, at).unwrap();
            undo(&copy, &store).unwrap();
            is_as_before(&before, &contents(&store), &kept);
            // Cut off, and done again.
            undo(&copy, &store).unwrap();
            remove_tree(&copy).unwrap();
            let tried = home.path().join("tried");
            copy_tree(&store, &tried, None).unwrap();
            assert_eq!(records(&tried).as_ref(), Some(&wanted), "{lives} lives, damaged at {at}");
            remove_tree(&tried).unwrap();
        }
    }
}

#[test]
fn only_what_came_since_the_last_snapshot_is_copied() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    live(&store, 0);
    let all = AtStake::of(&store, SEGMENT, true).unwrap();
    assert_eq!(AtStake::of(&store, SEGMENT, false).unwrap(), all, "there is no snapshot yet");
    assert!(all.log_len > 8 * SEGMENT);
    for _ in 0..3 {
        drop(records(&store));
        let since = AtStake::of(&store, SEGMENT, false).unwrap();
        let whole = since.stretches.iter().filter(|(_, len)| *len > HEADER).count();
        assert!(whole <= 2, "{since:?}");
        assert!(since.bytes() < all.bytes() / 4 + since.files);
        assert_eq!(AtStake::of(&store, SEGMENT, true).unwrap().stretches.len(), since.stretches.len());
    }
    // sled takes the last by name, also one that it hadn't finished.
    fs::write(store.join("snap.FFFFFFFFFFFFFFFF.generating"), "").unwrap();
    let unsure = AtStake::of(&store, SEGMENT, false).unwrap();
    assert!(unsure.stretches.iter().all(|(_, len)| *len > HEADER || *len == unsure.log_len % SEGMENT));
}

#[test]
fn a_header_that_is_not_sound_leaves_nothing_out_but_zeros() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    live(&store, 0);
    drop(records(&store));
    let log = File::options().read(true).write(true).open(store.join(LOG)).unwrap();
    let stretch = |at: u64| {
        let kept = AtStake::of(&store, SEGMENT, false).unwrap();
        kept.stretches.iter().find(|(start, _)| *start == at).unwrap().1
    };
    assert_eq!(stretch(0), HEADER);
    for bit in 0..160_u64 {
        let mut byte = [0];
        log.read_exact_at(&mut byte, bit / 8).unwrap();
        log.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).unwrap();
        assert_eq!(stretch(0), SEGMENT, "bit {bit}");
        log.write_all_at(&byte, bit / 8).unwrap();
    }
    log.write_all_at(&vec![0; 4096], 0).unwrap();
    assert_eq!(stretch(0), HEADER);
    log.write_all_at(&[1], 4095).unwrap();
    assert_eq!(stretch(0), SEGMENT);
}
