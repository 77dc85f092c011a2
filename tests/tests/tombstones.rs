//! Keys that were deleted after a backup: which backups hold them, and that none comes back
//! to life where the restore is told of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use claviger_protocol::body::{CreateKeyRequest, ScheduleKeyDeletionRequest};
use claviger_protocol::{Alias, Code, KeyState};
use claviger_tests::cli::{claviger, claviger_json};
use claviger_tests::keys::{LEVELS, new_key};
use claviger_tests::programs::{binary, run, text};
use claviger_tests::{Site, Token, eventually};
use serde_json::{Value, json};

/// `clavigerd restore` of a `--dev` domain whose store is lost.
fn restore(site: &Site, backup: &Path, tombstones: Option<&Path>) -> Output {
    std::fs::remove_dir_all(site.state_dir().join("store")).unwrap();
    let mut command = site.program(Command::new(binary("clavigerd")));
    command.arg("restore").arg(backup).arg("--dev").arg("--state-dir").arg(site.state_dir()).arg("--json");
    if let Some(tombstones) = tombstones {
        command.arg("--tombstones").arg(tombstones);
    }
    run(&mut command)
}

fn said(output: &Output) -> String {
    [&output.stderr[..], &output.stdout[..]].map(String::from_utf8_lossy).concat()
}

/// Another domain's list, and what is none. Nothing is touched: the store is still to be made.
fn refuses_other_lists(site: &Site, backup: &Path) {
    let refused = site.dir().join("foreign.json");
    for (text, why) in [
        (json!({"domain_id": uuid::Uuid::nil(), "tombstones": []}).to_string(), "of the domain"),
        ("{}".to_owned(), "not a list of tombstones"),
    ] {
        std::fs::write(&refused, text).unwrap();
        let output = restore(site, backup, Some(&refused));
        assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
        std::fs::create_dir_all(site.state_dir().join("store")).unwrap();
    }
}

#[test]
fn what_was_deleted_since_the_backup_stays_deleted() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut wire = daemon.admin();
    let mut gone = Vec::new();
    let stays = wire.create_reply(LEVELS[0]).key_id;
    let kept = wire.encrypt(stays, b"it stays");
    for level in LEVELS {
        let alias = Alias::new(format!("alias/gone-{}", level.name().to_lowercase())).unwrap();
        let key = wire.call(CreateKeyRequest { alias: Some(alias), ..new_key(level) }).unwrap().key_id;
        gone.push((key, wire.encrypt(key, b"text")));
    }
    let (early, late) = (site.dir().join("early.backup"), site.dir().join("late.backup"));
    let _ = claviger_json(&site, &["backup", "create", text(&early)], b"").json();
    for (key, _) in &gone {
        let request = ScheduleKeyDeletionRequest { keys: vec![(*key).into()], days: Some(0), force: true };
        wire.call(request).unwrap();
        eventually("it is erased", || wire.describe(*key).erased_at);
    }
    let _ = claviger_json(&site, &["backup", "create", text(&late)], b"").json();
    let holds = |args: &[&str]| -> Vec<u64> {
        let listed = claviger_json(&site, &[&["backup", "list"], args].concat(), b"").json();
        listed["backups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["holds_deleted"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(holds(&[]), [0, 2], "the latest first");
    assert_eq!(holds(&["--key", &gone[0].0.to_string()]), [2], "only the one that holds it");
    assert_eq!(holds(&["--key", &stays.to_string()]), [0, 2]);

    let list = site.dir().join("deleted.json");
    let written = claviger_json(&site, &["backup", "tombstones", text(&list)], b"").json();
    assert_eq!(written["tombstones"], 2);
    let again = claviger(&site, &["backup", "tombstones", text(&list)], b"");
    assert_eq!(again.code, 2, "it is there already: {}", again.stderr);
    daemon.terminate();

    refuses_other_lists(&site, &early);
    let output = restore(&site, &early, Some(&list));
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut named: Vec<_> = gone.iter().map(|(key, _)| key.to_string()).collect();
    named.sort();
    assert_eq!(report["kept_deleted"], json!(named));
    let daemon = site.start();
    let mut wire = daemon.admin();
    assert_eq!(wire.decrypt(&kept).unwrap(), b"it stays");
    for (key, blob) in &gone {
        assert_eq!(wire.describe(*key).state, KeyState::Deleted);
        assert_eq!(wire.decrypt(blob), Err(Code::InvalidKeyState));
    }
    // Their names are free.
    let alias = Some(Alias::new("alias/gone-hsm").unwrap());
    wire.call(CreateKeyRequest { alias, ..new_key(LEVELS[0]) }).unwrap();
    daemon.terminate();

    // Without the list they come back: that is what it is for.
    let output = restore(&site, &early, None);
    assert!(output.status.success(), "{}", said(&output));
    let daemon = site.start();
    assert_eq!(daemon.admin().decrypt(&gone[0].1).unwrap(), b"text");
    daemon.terminate();
}
