//! What earlier versions have written opens today: state directories, blobs, backups. The fixtures
//! are in `fixtures/`, one directory a format; none is ever changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use claviger_protocol::body::DecryptRequest;
use claviger_protocol::{EncryptionContext, Protection};
use claviger_tests::cli::claviger_json;
use claviger_tests::keys::{LEVELS, context, encryption};
use claviger_tests::programs::{binary, run, text, tool};
use claviger_tests::{Site, Token, Wire};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

/// A place with a configuration on the embedded token, and nothing else.
fn place() -> Site {
    let mut site = Site::bare(Token::Embedded);
    site.make_token();
    site.write_config();
    site
}

fn context_of(blob: &Value) -> EncryptionContext {
    let pairs = blob["context"].as_object().unwrap();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect();
    context(&pairs)
}

fn every_blob_opens(wire: &mut Wire) {
    let blobs: Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("blobs.json")).unwrap()).unwrap();
    let blobs = blobs.as_array().unwrap();
    assert!(blobs.len() >= 4);
    for blob in blobs {
        let decrypt = |context| DecryptRequest {
            key: None,
            ciphertext_blob: hex::decode(blob["blob"].as_str().unwrap()).unwrap().into(),
            context,
        };
        let opened = wire.call(decrypt(context_of(blob))).unwrap();
        assert_eq!(opened.plaintext.expose(), blob["plaintext"].as_str().unwrap().as_bytes());
        assert!(wire.call(decrypt(context(&[("another", "context")]))).is_err());
    }
}

fn it_works(site: Site) {
    let site = Arc::new(site);
    let daemon = site.start();
    let mut wire = daemon.admin();
    every_blob_opens(&mut wire);
    assert!(wire.list_all().len() >= 2);
    let key = wire.create(Protection::Hsm);
    let blob = wire.encrypt(key, b"new");
    assert_eq!(wire.decrypt(&blob), Ok(b"new".to_vec()));
    drop(wire);
    daemon.terminate();
}

#[test]
fn the_first_state_directory_opens_with_its_blobs() {
    let site = place();
    let archive = fixtures().join("state.tar.xz");
    tool(Command::new("tar").args(["-xJf", text(&archive), "-C", text(site.dir())]));
    it_works(site);
}

#[test]
fn the_first_backup_is_restored_and_opens_its_blobs() {
    let site = place();
    let mut command = site.program(Command::new(binary("clavigerd")));
    command.arg("restore").arg(fixtures().join("backup")).arg("--config").arg(site.config_file());
    let restored = run(command.arg("--private-key").arg(fixtures().join("recovery.key.pem")));
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    it_works(site);
}

#[test]
fn the_first_backup_opens_by_the_text_and_the_recovery_key_alone() {
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/open_backup.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(oracle).arg(fixtures().join("backup"));
    let listed = tool(command.arg(fixtures().join("recovery.key.pem")));
    let listed = String::from_utf8(listed).unwrap();
    let keys = listed.lines().filter(|line| line.starts_with(&hex::encode("k/"))).count();
    assert_eq!(keys, 4, "{listed}");
}

/// Makes the fixtures of today's formats: once for each format, by hand.
#[test]
#[ignore = "writes into the source tree; for a new format only"]
fn make_the_fixtures() {
    let site = place();
    let (private, public) = (fixtures().join("recovery.key.pem"), site.dir().join("pub.pem"));
    std::fs::create_dir_all(fixtures()).unwrap();
    let make = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", text(&private)];
    tool(Command::new("openssl").args(make));
    tool(Command::new("openssl").args(["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]));
    site.init_domain(&["--recovery", text(&public)]);
    let site = Arc::new(site);
    let daemon = site.start();
    let mut wire = daemon.admin();
    let mut blobs = Vec::new();
    for level in LEVELS {
        for (plaintext, pairs) in
            [("no context", &[][..]), ("钥匙", &[("tenant", "司钥"), ("user", "7")][..])]
        {
            let key = wire.create(level);
            let mut request = encryption(key, plaintext.as_bytes());
            request.context = context(pairs);
            let blob = hex::encode(wire.call(request).unwrap().ciphertext_blob.0);
            let context: serde_json::Map<_, _> =
                pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
            blobs.push(json!({ "plaintext": plaintext, "context": context, "blob": blob }));
        }
    }
    let text_of_blobs = serde_json::to_string_pretty(&blobs).unwrap() + "\n";
    std::fs::write(fixtures().join("blobs.json"), text_of_blobs).unwrap();
    let backup = fixtures().join("backup");
    let _ = claviger_json(&site, &["backup", "create", "--force", text(&backup)], b"").json();
    daemon.terminate();
    let archive = fixtures().join("state.tar.xz");
    let options = ["--owner=0", "--group=0", "--numeric-owner", "-cJf", text(&archive), "-C"];
    tool(Command::new("tar").args(options).args([text(site.dir()), "state"]));
}
