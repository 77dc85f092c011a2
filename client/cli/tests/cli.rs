//! The command line against a scripted daemon: what it sends, prints and exits with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../tests/support/mod.rs"]
mod support;
mod tool;

use std::fs;
use std::path::Path;

use claviger_protocol::body::{
    Assurance, CreateKeyReply, DecryptReply, DescribeBlobReply, DescribeKeyReply, EncryptReply,
    GenerateDataKeyReply, GetRandomReply, KeyCount, KeyStateResult, KeyStatesReply, KeySummary,
    ListKeysReply, MemberStatus, PingReply, ReEncryptReply, Rotation, SpecStatus, StatusReply,
};
use claviger_protocol::names::Tags;
use claviger_protocol::values::{MemberState, ServiceState};
use claviger_protocol::{
    Code, DataKeySize, Description, KeyOrigin, KeySpec, KeyState, KeyUsage, ProjectName, Protection, Reply,
    Request, Suite, Tag,
};
use serde_json::{Value, json};
use support::OnThread;
use tool::{Ran, claviger};
use uuid::Uuid;

const KEY: Uuid = Uuid::from_u128(0x11);
const VERSION: Uuid = Uuid::from_u128(0x22);
const CREATED: i64 = 1_790_000_000_000;

type Answer = Result<Reply, (Code, &'static str)>;

fn key() -> DescribeKeyReply {
    DescribeKeyReply {
        key_id: KEY,
        spec: KeySpec::Aes256,
        usage: KeyUsage::EncryptDecrypt,
        state: KeyState::Enabled,
        protection: Protection::Hsm,
        origin: KeyOrigin::Kms,
        project: ProjectName::default(),
        description: Description::new("pays").unwrap(),
        aliases: vec!["alias/pay".into()],
        tags: Tags::try_from(vec![Tag::new("team", "web").unwrap()]).unwrap(),
        created_at: CREATED,
        created_by: "uid:0".into(),
        primary_version_id: Some(VERSION),
        version_count: 1,
        rotation: Some(Rotation { days: 90, last: None, next: Some(CREATED) }),
        deletion_date: None,
        erased_at: None,
        deletion_protection: false,
        material_expires_at: None,
        sm2_user_id: None,
        assurance: Assurance { hardware: false, members: vec!["embedded".into()] },
    }
}

fn status() -> StatusReply {
    let spec = SpecStatus { spec: KeySpec::Aes256, available: true, reason: String::new() };
    let member = MemberStatus {
        name: "embedded".into(),
        profile: "embedded".into(),
        state: MemberState::Up,
        reason: String::new(),
        epoch: 1,
        hardware: false,
        since: CREATED,
        specs: vec![spec],
    };
    StatusReply {
        version: "0.1.0".into(),
        state: ServiceState::Serving,
        reason: String::new(),
        domain_id: KEY,
        root_generation: 1,
        uptime_ms: 61_000,
        pool: vec![member],
        keys: vec![KeyCount { state: KeyState::Enabled, spec: KeySpec::Aes256, count: 3 }],
        recovery_recipients: 0,
        warnings: vec!["no recovery recipient".into()],
    }
}

fn states(keys: Vec<claviger_protocol::KeyRef>, state: KeyState) -> Reply {
    let one = |key: claviger_protocol::KeyRef| {
        let good = key.to_string() == "alias/pay";
        KeyStateResult {
            status: if good { 0 } else { Code::NotFound.number() },
            key_id: good.then_some(KEY),
            state: good.then_some(state),
            changed: good,
            message: if good { String::new() } else { "no such key".into() },
            key,
        }
    };
    let results = KeyStatesReply { results: keys.into_iter().map(one).collect() };
    if state == KeyState::Enabled { Reply::EnableKey(results) } else { Reply::DisableKey(results) }
}

fn summary() -> KeySummary {
    let key = key();
    KeySummary {
        key_id: key.key_id,
        spec: key.spec,
        usage: key.usage,
        state: key.state,
        protection: key.protection,
        origin: key.origin,
        project: key.project,
        description: key.description,
        aliases: key.aliases,
        created_at: key.created_at,
    }
}

/// A daemon whose cipher is to turn the bytes round.
fn answer(request: Request) -> Answer {
    let turned = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
    let (key_id, key_version_id) = (KEY, VERSION);
    let sealed = |blob: Vec<u8>| EncryptReply { key_id, key_version_id, ciphertext_blob: blob.into() };
    Ok(match request {
        Request::Ping(r) => Reply::Ping(PingReply { version: "0.1.0".into(), payload: r.payload }),
        Request::Status(_) => Reply::Status(status()),
        Request::CreateKey(_) => {
            Reply::CreateKey(CreateKeyReply { key_id, key_version_id: Some(key_version_id) })
        }
        Request::DescribeKey(r) if r.key.to_string() == "alias/pay" => Reply::DescribeKey(key()),
        Request::DescribeKey(_) => return Err((Code::NotFound, "no such key;\nlist them")),
        Request::ListKeys(_) => {
            Reply::ListKeys(ListKeysReply { keys: vec![summary()], next_page: vec![0xff, 0xef].into() })
        }
        Request::EnableKey(r) => states(r.keys, KeyState::Enabled),
        Request::DisableKey(r) => states(r.keys, KeyState::Disabled),
        Request::Encrypt(r) => Reply::Encrypt(sealed(turned(r.plaintext.expose()))),
        Request::Decrypt(r) if r.context.as_bytes().len() > 2 => {
            return Err((Code::InvalidCiphertext, "wrong context"));
        }
        Request::Decrypt(r) => {
            let plaintext = turned(&r.ciphertext_blob.0).into();
            Reply::Decrypt(DecryptReply { key_id, key_version_id, plaintext })
        }
        Request::ReEncrypt(r) => Reply::ReEncrypt(ReEncryptReply {
            source_key_id: KEY,
            source_key_version_id: VERSION,
            key_id,
            key_version_id,
            ciphertext_blob: r.ciphertext_blob,
        }),
        Request::DescribeBlob(r) => Reply::DescribeBlob(DescribeBlobReply {
            key_id,
            key_version_id,
            spec: KeySpec::Aes256,
            suite: Suite::HsmAes256Derived,
            plaintext_len: u32::try_from(r.ciphertext_blob.0.len()).unwrap(),
        }),
        Request::GenerateDataKey(r) => Reply::GenerateDataKey(GenerateDataKeyReply {
            key_id,
            key_version_id,
            plaintext: vec![b'p'; r.size.len()].into(),
            ciphertext_blob: vec![b'b'; r.size.len()].into(),
        }),
        Request::GenerateDataKeyWithoutPlaintext(r) => {
            assert_eq!(r.size, DataKeySize::Bytes(3));
            Reply::GenerateDataKeyWithoutPlaintext(sealed(b"blob".to_vec()))
        }
        Request::GetRandom(r) => {
            Reply::GetRandom(GetRandomReply { random: vec![0xff; usize::from(r.length)].into() })
        }
        // Key pairs and their like are tested in pairs.rs, backups against the real daemon.
        other => panic!("{:?} isn't sent here", other.opcode()),
    })
}

fn daemon() -> OnThread {
    OnThread::run(|fake| async move { fake.serve(answer).await })
}

fn run(daemon: &OnThread, args: &[&str], input: &[u8]) -> Ran {
    claviger(Some(daemon.path()), args, input)
}

fn json_of(daemon: &OnThread, args: &[&str], input: &[u8]) -> Value {
    let ran = run(daemon, &[&["--json"], args].concat(), input);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn every_command_prints_its_object() {
    let daemon = daemon();
    let ids = |mut object: Value| {
        object["key_id"] = json!(KEY.to_string());
        object["key_version_id"] = json!(VERSION.to_string());
        object
    };
    let create = ["key", "create", "--alias", "alias/pay", "--tag", "a=b", "--rotation-days", "90"];
    assert_eq!(json_of(&daemon, &create, b""), ids(json!({})));
    assert_eq!(json_of(&daemon, &["encrypt", "alias/pay"], b"ab"), ids(json!({ "ciphertext_blob": "YmE=" })));
    assert_eq!(json_of(&daemon, &["decrypt"], b"ba"), ids(json!({ "plaintext": "YWI=" })));
    let source = json!({ "ciphertext_blob": "eA==", "source_key_id": KEY, "source_key_version_id": VERSION });
    assert_eq!(json_of(&daemon, &["re-encrypt", "--to", "alias/pay"], b"x"), ids(source));
    let data_key = json!({ "plaintext": "cHA=", "ciphertext_blob": "YmI=" });
    assert_eq!(json_of(&daemon, &["data-key", "generate", "alias/pay", "--bytes", "2"], b""), ids(data_key));
    let wrapped = ["data-key", "generate", "alias/pay", "--bytes", "3", "--without-plaintext"];
    assert_eq!(json_of(&daemon, &wrapped, b""), ids(json!({ "ciphertext_blob": "YmxvYg==" })));
    let blob = json!({ "spec": "AES_256", "suite": "HSM_AES_256_GCM_DERIVED", "plaintext_len": 4 });
    assert_eq!(json_of(&daemon, &["describe-blob"], b"blob"), ids(blob));
    assert_eq!(json_of(&daemon, &["random", "3"], b""), json!({ "random": "////" }));
    assert_eq!(json_of(&daemon, &["ping"], b"")["version"], "0.1.0");
}

#[test]
fn describe_list_and_status_have_the_promised_fields() {
    let daemon = daemon();
    let created = "2026-09-21T14:13:20.000Z";
    let described = json!({
        "key_id": KEY, "spec": "AES_256", "usage": "ENCRYPT_DECRYPT", "state": "Enabled",
        "protection": "HSM", "origin": "KMS", "project": "default", "description": "pays",
        "aliases": ["alias/pay"], "tags": { "team": "web" }, "created_at": created, "created_by": "uid:0",
        "primary_version_id": VERSION, "version_count": 1,
        "rotation": { "days": 90, "last": null, "next": created }, "deletion_date": null, "erased_at": null,
        "deletion_protection": false, "material_expires_at": null, "sm2_user_id": null,
        "hardware": false, "members": ["embedded"],
    });
    assert_eq!(json_of(&daemon, &["key", "describe", "alias/pay"], b""), described);
    let listed = json!({ "next_page": "_-8", "keys": [{
        "key_id": KEY, "spec": "AES_256", "usage": "ENCRYPT_DECRYPT", "state": "Enabled",
        "protection": "HSM", "origin": "KMS", "project": "default", "description": "pays",
        "aliases": ["alias/pay"], "created_at": created,
    }] });
    assert_eq!(json_of(&daemon, &["key", "list", "--page", "_-8"], b""), listed);
    let status = json!({
        "version": "0.1.0", "state": "serving", "reason": "", "domain_id": KEY, "root_generation": 1,
        "uptime_ms": 61_000, "recovery_recipients": 0, "warnings": ["no recovery recipient"],
        "pool": [{
            "name": "embedded", "profile": "embedded", "state": "up", "reason": "", "epoch": 1,
            "hardware": false, "since": created,
            "specs": [{ "spec": "AES_256", "available": true, "reason": "" }],
        }],
        "keys": [{ "state": "Enabled", "spec": "AES_256", "count": 3 }],
    });
    assert_eq!(json_of(&daemon, &["status"], b""), status);
}

#[test]
fn people_get_text() {
    let daemon = daemon();
    let text = |args: &[&str]| {
        let ran = run(&daemon, args, b"blob");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        String::from_utf8(ran.stdout).unwrap()
    };
    assert!(text(&["ping"]).starts_with("clavigerd 0.1.0 answered in "));
    let status = text(&["status"]);
    assert!(status.contains("state                serving\n"), "{status}");
    assert!(status.contains("\nembedded  embedded  software  up     2026-09-21T14:13:20.000Z  AES_256\n"));
    assert!(status.ends_with("\nwarning: no recovery recipient\n"), "{status}");
    assert!(text(&["key", "create"]).starts_with(&format!("key_id          {KEY}\n")));
    let described = text(&["key", "describe", "alias/pay"]);
    assert!(described.contains("rotation             every 90 days, next 2026-09-21T14:13:20.000Z\n"));
    assert!(!described.contains("deletion date"));
    let list = text(&["key", "list"]);
    assert!(list.starts_with("KEY ID ") && list.ends_with("there are more: --page _-8\n"), "{list}");
    assert_eq!(text(&["key", "enable", "alias/pay"]), "KEY        STATE\nalias/pay  Enabled\n");
    assert!(text(&["describe-blob"]).contains("plaintext       4 bytes\n"));
}

#[test]
fn bytes_travel_through_streams_and_files_unchanged() {
    let daemon = daemon();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let plain: Vec<u8> = (0..=255).cycle().take(6144).collect();
    fs::write(path("plain"), &plain).unwrap();
    let ran = run(&daemon, &["encrypt", "alias/pay", "--in", &path("plain"), "--out", &path("blob")], b"");
    assert_eq!((ran.code, ran.stdout.len(), ran.stderr.as_str()), (0, 0, ""));
    assert_eq!(tool::mode(Path::new(&path("blob"))), 0o600);
    let ran = run(&daemon, &["decrypt", "--in", &path("blob")], b"");
    assert_eq!((ran.code, ran.stdout == plain), (0, true));
    let object = json_of(&daemon, &["decrypt", "--in", &path("blob"), "--out", &path("again")], b"");
    assert_eq!(object, json!({ "key_id": KEY, "key_version_id": VERSION }));
    assert_eq!(fs::read(path("again")).unwrap(), plain);
    assert_eq!(tool::names(dir.path()), ["again", "blob", "plain"]);
    assert_eq!(run(&daemon, &["random", "4096"], b"").stdout.len(), 4096);
}

#[test]
fn both_forms_of_a_data_key_go_where_they_are_wanted() {
    let daemon = daemon();
    let dir = tempfile::tempdir().unwrap();
    let (plain, blob) = (dir.path().join("p"), dir.path().join("b"));
    let (p, b) = (plain.to_str().unwrap(), blob.to_str().unwrap());
    let generate = ["data-key", "generate", "alias/pay", "--spec", "Aliyun_AES_256"];
    let ran = run(&daemon, &[&generate[..], &["--plaintext-out", p, "--blob-out", b]].concat(), b"");
    assert_eq!((ran.code, ran.stdout.len()), (0, 0));
    assert_eq!(fs::read(&plain).unwrap(), [b'p'; 32]);
    assert_eq!(fs::read(&blob).unwrap(), [b'b'; 32]);
    assert_eq!((tool::mode(&plain), tool::mode(&blob)), (0o600, 0o600));
    let ran = run(&daemon, &[&generate[..], &["--plaintext-out", p]].concat(), b"");
    assert_eq!(ran.stdout, [b'b'; 32]);
    let ran = run(&daemon, &[&generate[..], &["--blob-out", b, "--encoding", "hex"]].concat(), b"");
    assert_eq!(ran.stdout, [&b"70".repeat(32)[..], b"\n"].concat());
    let object = json_of(&daemon, &[&generate[..], &["--plaintext-out", p]].concat(), b"");
    assert!(object.get("plaintext").is_none() && object["ciphertext_blob"].is_string());
    let ran = run(&daemon, &generate, b"");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--plaintext-out FILE"), "{}", ran.stderr);
    // The second place can't be written: the first must not appear either.
    fs::remove_file(&blob).unwrap();
    let ran =
        run(&daemon, &[&generate[..], &["--blob-out", b, "--plaintext-out", "/dev/full"]].concat(), b"");
    assert_eq!((ran.code, ran.error_code()), (1, "Output"));
    assert_eq!(tool::names(dir.path()), ["p"]);
}

#[test]
fn a_result_for_each_key_and_exit_1_if_any_failed() {
    let daemon = daemon();
    let ran = run(&daemon, &["--json", "key", "disable", "alias/pay", "alias/none"], b"");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let failed = json!({ "key": "alias/none", "error": { "code": "NotFound", "message": "no such key" } });
    let done = json!({ "key_id": KEY, "state": "Disabled", "changed": true });
    assert_eq!((ran.code, object), (1, json!({ "results": [done, failed] })));
    let ran = run(&daemon, &["key", "enable", "alias/pay", "alias/none"], b"");
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stdout, b"KEY        STATE\nalias/pay  Enabled\n");
    assert_eq!(ran.stderr, "claviger: NotFound: alias/none: no such key\n");
}

#[test]
fn a_refusal_is_one_line_or_one_object_and_exit_1() {
    let daemon = daemon();
    let ran = run(&daemon, &["key", "describe", "alias/none"], b"");
    assert_eq!((ran.code, ran.stdout.len()), (1, 0));
    assert_eq!(ran.stderr, "claviger: NotFound: no such key; list them\n");
    let ran = run(&daemon, &["key", "describe", "alias/none", "--json"], b"");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let error = json!({ "error": { "code": "NotFound", "message": "no such key; list them" } });
    assert_eq!((ran.code, object, ran.stderr.as_str()), (1, error, ""));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args = ["decrypt", "--context", "user=8", "--out", out.to_str().unwrap()];
    let ran = run(&daemon, &args, b"blob");
    assert_eq!((ran.code, ran.error_code()), (1, "InvalidCiphertext"));
    assert!(tool::names(dir.path()).is_empty(), "nothing half-written");
}

#[test]
fn more_than_the_daemon_encrypts_points_to_data_keys() {
    let daemon = daemon();
    assert_eq!(run(&daemon, &["encrypt", "alias/pay"], &[0; 6144]).code, 0);
    let ran = run(&daemon, &["encrypt", "alias/pay"], &[0; 6145]);
    assert_eq!((ran.code, ran.error_code()), (1, "PlaintextTooLarge"));
    assert!(ran.stderr.contains("6144") && ran.stderr.contains("data-key generate"), "{}", ran.stderr);
}
