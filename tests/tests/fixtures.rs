//! What earlier versions have written opens today: state directories, keys and what was made
//! with them, backups. The fixtures are in `fixtures/`; none is ever changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::Arc;

use claviger_protocol::body::{DecryptRequest, GenerateMacRequest, VerifyMacRequest};
use claviger_protocol::{Code, EncryptionContext, KeySpec, KeyUsage, Protection, SecretBytes};
use claviger_tests::cli::claviger_json;
use claviger_tests::keys::{LEVELS, context, encryption};
use claviger_tests::pairs::{ciphertext, make, opening, public_key, signing, verifying};
use claviger_tests::programs::{binary, run, text, tool};
use claviger_tests::{Site, Token, Wire};
use serde_json::{Value, json};
use uuid::Uuid;

/// What every signature and MAC of the fixtures is of, and every ciphertext holds.
const TEXT: &str = "made to last";

fn fixtures(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version)
}

/// A list in a fixture's JSON file.
fn list(version: &str, name: &str) -> Vec<Value> {
    let list: Value = serde_json::from_slice(&std::fs::read(fixtures(version).join(name)).unwrap()).unwrap();
    list.as_array().unwrap().clone()
}

/// A place with a configuration on the embedded token, and nothing else.
fn place() -> Site {
    let mut site = Site::bare(Token::Embedded);
    site.make_token();
    site.write_config();
    site
}

fn unpacked(version: &str) -> Site {
    let site = place();
    let archive = fixtures(version).join("state.tar.xz");
    tool(Command::new("tar").args(["-xJf", text(&archive), "-C", text(site.dir())]));
    site
}

fn restored(version: &str) -> Site {
    let site = place();
    let mut command = site.program(Command::new(binary("clavigerd")));
    command.arg("restore").arg(fixtures(version).join("backup")).arg("--config").arg(site.config_file());
    let restored = run(command.arg("--private-key").arg(fixtures(version).join("recovery.key.pem")));
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    site
}

fn string<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(string(value, name)).unwrap()
}

/// A value of the protocol's by its name.
fn named<T: FromStr<Err: std::fmt::Debug>>(value: &Value, name: &str) -> T {
    string(value, name).parse().unwrap()
}

fn context_of(blob: &Value) -> EncryptionContext {
    let pairs = blob["context"].as_object().unwrap();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect();
    context(&pairs)
}

fn every_blob_opens(wire: &mut Wire, version: &str) {
    let blobs = list(version, "blobs.json");
    assert!(blobs.len() >= 4);
    for blob in blobs {
        let decrypt =
            |context| DecryptRequest { key: None, ciphertext_blob: bytes(&blob, "blob").into(), context };
        let opened = wire.call(decrypt(context_of(&blob))).unwrap();
        assert_eq!(opened.plaintext.expose(), string(&blob, "plaintext").as_bytes());
        let refused = wire.call(decrypt(context(&[("another", "context")]))).unwrap_err();
        assert_eq!(refused.code, Code::InvalidCiphertext);
    }
}

/// A key of the fixtures does what its usage says with what was made then, and still makes such.
fn key_works(wire: &mut Wire, record: &Value) {
    let key: Uuid = named(record, "key");
    let (spec, usage): (KeySpec, KeyUsage) = (named(record, "spec"), named(record, "usage"));
    let shown = wire.describe(key);
    assert_eq!((shown.spec, shown.usage), (spec, usage));
    assert_eq!(shown.protection, named::<Protection>(record, "protection"));
    if spec.pair().is_some() {
        assert_eq!(public_key(wire, key), bytes(record, "public_key"), "{record}");
    }
    for signature in record["signatures"].as_array().into_iter().flatten() {
        let request = signing(key, named(signature, "algorithm"), TEXT.as_bytes());
        let other = signing(key, request.algorithm, b"another");
        let signature = bytes(signature, "signature");
        assert!(wire.call(verifying(&request, &signature)).unwrap().valid, "{record}");
        assert!(!wire.call(verifying(&other, &signature)).unwrap().valid, "{record}");
        let anew = wire.call(request.clone()).unwrap().signature.0;
        assert!(wire.call(verifying(&request, &anew)).unwrap().valid, "{record}");
    }
    for sealed in record["ciphertexts"].as_array().into_iter().flatten() {
        let request = opening(key, named(sealed, "algorithm"), &bytes(sealed, "ciphertext"));
        assert_eq!(wire.call(request).unwrap().plaintext.expose(), TEXT.as_bytes(), "{record}");
    }
    if usage == KeyUsage::GenerateVerifyMac {
        let (message, mac) = (SecretBytes::new(TEXT.as_bytes().to_vec()), bytes(record, "mac"));
        let check = |mac: &[u8]| VerifyMacRequest {
            key: key.into(),
            key_version_id: None,
            algorithm: None,
            message: message.clone(),
            mac: mac.to_vec().into(),
        };
        assert!(wire.call(check(&mac)).unwrap().valid, "{record}");
        assert!(!wire.call(check(&mac[1..])).unwrap().valid, "{record}");
        let made = GenerateMacRequest { key: key.into(), algorithm: None, message: message.clone() };
        assert_eq!(wire.call(made).unwrap().mac.0, mac, "{record}");
    }
}

/// Every spec and usage in software, and in the HSM those that the embedded token has.
fn every_key_works(wire: &mut Wire) {
    let keys = list("v2", "keys.json");
    let all = KeySpec::ALL.iter().flat_map(|spec| spec.usages().iter().map(move |usage| (*spec, *usage)));
    let software = all.map(|(spec, usage)| (spec.name(), usage.name(), Protection::Software.name()));
    let there: Vec<_> = keys
        .iter()
        .map(|key| (string(key, "spec"), string(key, "usage"), string(key, "protection")))
        .collect();
    assert!(software.into_iter().all(|wanted| there.contains(&wanted)), "{there:?}");
    assert_eq!(there.len(), 28, "{there:?}");
    for key in &keys {
        key_works(wire, key);
    }
}

fn it_works(site: Site, version: &str) {
    let site = Arc::new(site);
    let daemon = site.start();
    let mut wire = daemon.admin();
    every_blob_opens(&mut wire, version);
    if version != "v1" {
        every_key_works(&mut wire);
    }
    assert!(wire.list_all().len() >= 2);
    let key = wire.create(Protection::Hsm);
    let blob = wire.encrypt(key, b"new");
    assert_eq!(wire.decrypt(&blob), Ok(b"new".to_vec()));
    drop(wire);
    daemon.terminate();
}

#[test]
fn the_first_state_directory_opens_with_its_blobs() {
    it_works(unpacked("v1"), "v1");
}

#[test]
fn the_first_backup_is_restored_and_opens_its_blobs() {
    it_works(restored("v1"), "v1");
}

#[test]
fn keys_of_every_spec_do_their_work_in_the_second_state_directory() {
    it_works(unpacked("v2"), "v2");
}

#[test]
fn keys_of_every_spec_do_their_work_from_the_second_backup() {
    it_works(restored("v2"), "v2");
}

#[test]
fn the_backups_open_by_the_text_and_the_recovery_key_alone() {
    for (version, keys) in [("v1", 4), ("v2", 28)] {
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/open_backup.py");
        let mut command = Command::new("python3");
        command.arg("-B").arg(oracle).arg(fixtures(version).join("backup"));
        let listed = tool(command.arg(fixtures(version).join("recovery.key.pem")));
        let listed = String::from_utf8(listed).unwrap();
        let found = listed.lines().filter(|line| line.starts_with(&hex::encode("k/"))).count();
        assert_eq!(found, keys, "{listed}");
    }
}

/// What is made with a new key of every kind; none where the token can't hold it.
fn record(wire: &mut Wire, spec: KeySpec, usage: KeyUsage, level: Protection) -> Option<Value> {
    let key = make(wire, spec, usage, level)?;
    let mut out = json!({ "key": key.to_string(), "spec": spec.name(), "usage": usage.name(),
        "protection": level.name() });
    if spec.pair().is_some() {
        out["public_key"] = hex::encode(public_key(wire, key)).into();
    }
    match usage {
        KeyUsage::SignVerify => {
            let signatures = spec.signing_algorithms().iter().map(|algorithm| {
                let signed = wire.call(signing(key, *algorithm, TEXT.as_bytes())).unwrap();
                json!({ "algorithm": algorithm.name(), "signature": hex::encode(signed.signature.0) })
            });
            out["signatures"] = signatures.collect();
        }
        KeyUsage::EncryptDecrypt => {
            let sealed = spec.encryption_algorithms().iter().map(|algorithm| {
                let sealed = ciphertext(wire, key, *algorithm, TEXT.as_bytes());
                json!({ "algorithm": algorithm.name(), "ciphertext": hex::encode(sealed) })
            });
            out["ciphertexts"] = sealed.collect();
        }
        KeyUsage::GenerateVerifyMac => {
            let message = SecretBytes::new(TEXT.as_bytes().to_vec());
            let made = wire.call(GenerateMacRequest { key: key.into(), algorithm: None, message }).unwrap();
            out["mac"] = hex::encode(made.mac.0).into();
        }
    }
    Some(out)
}

/// Blobs of a key that encrypts messages, without a context and with one.
fn blobs(wire: &mut Wire, key: Uuid) -> Vec<Value> {
    let cases = [("no context", &[][..]), ("钥匙", &[("tenant", "司钥"), ("user", "7")][..])];
    let sealed = cases.iter().map(|(plaintext, pairs)| {
        let mut request = encryption(key, plaintext.as_bytes());
        request.context = context(pairs);
        let blob = hex::encode(wire.call(request).unwrap().ciphertext_blob.0);
        let context: serde_json::Map<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        json!({ "plaintext": plaintext, "context": context, "blob": blob })
    });
    sealed.collect()
}

fn write(path: &Path, list: &[Value]) {
    std::fs::write(path, serde_json::to_string_pretty(list).unwrap() + "\n").unwrap();
}

/// Makes fixtures of what today's daemon writes, where `CLAVIGER_FIXTURES` says: by hand, once
/// for each version whose records are new.
#[test]
#[ignore = "makes fixtures; only where records are new"]
fn make_the_fixtures() {
    let made = PathBuf::from(std::env::var_os("CLAVIGER_FIXTURES").expect("a new directory's path"));
    std::fs::create_dir(&made).expect("what is there is never changed");
    let site = place();
    let (private, public) = (made.join("recovery.key.pem"), site.dir().join("pub.pem"));
    let genpkey =
        ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", text(&private)];
    tool(Command::new("openssl").args(genpkey));
    tool(Command::new("openssl").args(["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]));
    site.init_domain(&["--recovery", text(&public)]);
    let site = Arc::new(site);
    let daemon = site.start();
    let mut wire = daemon.admin();
    let (mut keys, mut sealed) = (Vec::new(), Vec::new());
    for (spec, level) in KeySpec::ALL.iter().flat_map(|spec| LEVELS.map(|level| (*spec, level))) {
        for &usage in spec.usages() {
            let Some(record) = record(&mut wire, spec, usage, level) else { continue };
            if spec.pair().is_none() && usage == KeyUsage::EncryptDecrypt {
                sealed.extend(blobs(&mut wire, named(&record, "key")));
            }
            keys.push(record);
        }
    }
    write(&made.join("keys.json"), &keys);
    write(&made.join("blobs.json"), &sealed);
    let backup = made.join("backup");
    let _ = claviger_json(&site, &["backup", "create", text(&backup)], b"").json();
    drop(wire);
    daemon.terminate();
    let archive = made.join("state.tar.xz");
    let options = ["--owner=0", "--group=0", "--numeric-owner", "-cJf", text(&archive), "-C"];
    tool(Command::new("tar").args(options).args([text(site.dir()), "state"]));
}
