//! A deleted key's material leaves the state directory to its last byte, and a tombstone says
//! since when. What the rewrite beneath survives is in the daemon's `store_suite`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use claviger_protocol::body::{CreateKeyReply, DescribeKeyReply, ScheduleKeyDeletionRequest};
use claviger_protocol::{Code, KeyState, Protection};
use claviger_tests::keys::LEVELS;
use claviger_tests::{Site, Token, Wire, eventually};
use uuid::Uuid;

/// Every file beneath a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    // Sockets are none.
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.is_file())
        .collect()
}

/// How often the bytes stand in the files of the store.
fn occurrences(state: &Path, bytes: &[u8]) -> usize {
    let store = files(state).into_iter().filter(|path| !path.starts_with(state.join("token")));
    let kept = store.filter(|path| path.file_name().is_some_and(|name| name != "audit.jsonl"));
    kept.map(|path| {
        // Nothing that a rewrite has just removed.
        let text = std::fs::read(&path).unwrap_or_default();
        text.windows(bytes.len()).filter(|window| *window == bytes).count()
    })
    .sum()
}

fn delete_now(wire: &mut Wire, key: Uuid) -> DescribeKeyReply {
    let request = ScheduleKeyDeletionRequest { keys: vec![key.into()], days: Some(0), force: true };
    assert_eq!(wire.call(request).unwrap().results[0].status, Code::Ok.number());
    eventually("the key is erased", || Some(wire.describe(key)).filter(|key| key.erased_at.is_some()))
}

/// How a version's record begins: its key's id and its own, each behind its length. No other
/// record has them so. The wrapped material stands behind them, before the record's MAC.
fn version_record(made: &CreateKeyReply) -> Vec<u8> {
    let length = 16_u64.to_le_bytes();
    let version = made.key_version_id.unwrap();
    [&length[..], made.key_id.as_bytes(), &length[..], version.as_bytes()].concat()
}

#[test]
fn no_byte_of_a_deleted_keys_material_is_left() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut wire = daemon.admin();
    for level in LEVELS {
        let (gone, stays) = (wire.create_reply(level), wire.create_reply(level));
        let blob = wire.encrypt(stays.key_id, b"it stays");
        assert!(occurrences(&site.state_dir(), &version_record(&gone)) > 0, "it is there before");
        let tomb = delete_now(&mut wire, gone.key_id);
        assert_eq!(tomb.state, KeyState::Deleted);
        assert!(tomb.erased_at >= tomb.deletion_date && tomb.deletion_date.is_some());
        assert_eq!(occurrences(&site.state_dir(), &version_record(&gone)), 0, "{level}");
        assert!(occurrences(&site.state_dir(), &version_record(&stays)) > 0);
        assert_eq!(wire.decrypt(&blob).unwrap(), b"it stays");
    }
    let audit = std::fs::read_to_string(site.state_dir().join("audit.jsonl")).unwrap();
    for operation in ["deleteKey", "eraseKeyMaterial"] {
        assert_eq!(audit.matches(&format!("\"{operation}\"")).count(), 2, "{operation}");
    }
    daemon.kill9();
    let daemon = site.start();
    assert!(daemon.admin().list_all().len() == 2);
    daemon.terminate();
}

/// kill -9 at moments of a deletion that nobody chose: it is finished by the next start.
#[test]
fn a_deletion_that_was_killed_is_finished() {
    let site = Site::new(Token::Embedded);
    for round in 0..6_u32 {
        let daemon = site.start();
        let mut wire = daemon.admin();
        let made = wire.create_reply(Protection::Software);
        let request =
            ScheduleKeyDeletionRequest { keys: vec![made.key_id.into()], days: Some(0), force: true };
        wire.call(request).unwrap();
        // Each round a little later: as many answers as the round says.
        eventually("the deletion has begun", || {
            (round == 0 || wire.describe(made.key_id).state == KeyState::Deleted).then_some(())
        });
        for _ in 1..round * 20 {
            wire.status();
        }
        daemon.kill9();
        let daemon = site.start();
        let mut wire = daemon.admin();
        eventually("the key is erased", || wire.describe(made.key_id).erased_at);
        assert_eq!(occurrences(&site.state_dir(), &version_record(&made)), 0, "round {round}");
        daemon.terminate();
    }
}
