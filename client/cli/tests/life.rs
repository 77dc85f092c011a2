//! A key's life on the command line, against a scripted daemon: what is asked of it, what is
//! printed of its answers, and what is asked of people.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../tests/support/mod.rs"]
mod support;
mod tool;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use claviger_protocol::body::{
    Association, DeleteKeyMaterialReply, GetParametersForImportReply, ImportKeyMaterialReply,
    KeyDeletionResult, KeyDeletionsReply, KeyStateResult, KeyStatesReply, ListProjectsReply,
    NewKeyVersionReply, ProjectSummary, UpdateRotationPolicyReply,
};
use claviger_protocol::{
    Code, Description, ImportAlgorithm, KeyRef, KeyState, ProjectName, Reply, Request, TagKey,
    WrappingKeySpec,
};
use serde_json::{Value, json};
use support::OnThread;
use tool::{Ran, claviger};
use uuid::Uuid;

const KEY: Uuid = Uuid::from_u128(0x11);
const VERSION: Uuid = Uuid::from_u128(0x22);
/// 2026-09-21T14:13:20.000Z.
const AT: i64 = 1_790_000_000_000;

type Answer = Result<Reply, (Code, &'static str)>;

/// The number of days that were asked for is the time; what isn't alias/a is in use.
fn deletion(key: KeyRef, days: Option<u16>, force: bool) -> KeyDeletionResult {
    let refused = key.to_string() != "alias/a" && !force;
    KeyDeletionResult {
        key,
        status: if refused { Code::KeyInUse.number() } else { 0 },
        key_id: (!refused).then_some(KEY),
        deletion_date: (!refused).then_some(AT + i64::from(days.unwrap_or(30))),
        associations: if refused {
            vec![Association { access_point: "app".into(), last_used_at: AT }]
        } else {
            Vec::new()
        },
        message: if refused { "app uses it; force the deletion".into() } else { String::new() },
    }
}

fn tagged(key: KeyRef) -> KeyStateResult {
    KeyStateResult {
        key,
        status: 0,
        key_id: Some(KEY),
        state: Some(KeyState::Enabled),
        changed: true,
        message: String::new(),
    }
}

fn answer(request: Request) -> Answer {
    let (key_id, key_version_id) = (KEY, VERSION);
    Ok(match request {
        Request::ScheduleKeyDeletion(r) => {
            let results = r.keys.into_iter().map(|key| deletion(key, r.days, r.force)).collect();
            Reply::ScheduleKeyDeletion(KeyDeletionsReply { results })
        }
        Request::TagResource(r) => {
            let tags: Vec<_> = r.tags.as_slice().iter().map(|tag| (tag.key(), tag.value())).collect();
            assert_eq!(tags, [("env", "prod"), ("team", "a=b")]);
            Reply::TagResource(KeyStatesReply { results: r.keys.into_iter().map(tagged).collect() })
        }
        Request::UntagResource(r) => {
            assert_eq!(r.tag_keys.iter().map(TagKey::as_str).collect::<Vec<_>>(), ["env", "team"]);
            Reply::UntagResource(KeyStatesReply { results: r.keys.into_iter().map(tagged).collect() })
        }
        Request::RotateKey(r) => {
            assert_eq!(r.client_token[15], 15);
            Reply::RotateKey(NewKeyVersionReply { key_id, key_version_id })
        }
        Request::UpdateRotationPolicy(r) => {
            assert_eq!(r.rotation_days, None);
            let reply = UpdateRotationPolicyReply { key_id, rotation: None, changed: true };
            Reply::UpdateRotationPolicy(reply)
        }
        Request::GetParametersForImport(r) => parameters(r.wrapping_spec, r.algorithm),
        Request::ImportKeyMaterial(r) if r.key.to_string() == "alias/other" => {
            assert_eq!(r.expires_at, None);
            return Err((Code::MaterialMismatch, "the key is bound to its first material"));
        }
        Request::ImportKeyMaterial(r) => {
            assert_eq!(
                (r.encrypted_material.0.as_slice(), r.token.0.as_slice()),
                (&b"material"[..], &b"token"[..])
            );
            let two_parts = r.encrypted_ephemeral_key.0 == b"ephemeral";
            assert!(two_parts || r.encrypted_ephemeral_key.0.is_empty());
            Reply::ImportKeyMaterial(ImportKeyMaterialReply {
                key_id,
                key_version_id,
                state: KeyState::Enabled,
                material_expires_at: r.expires_at,
                through_memory: two_parts,
            })
        }
        Request::DeleteKeyMaterial(_) => {
            Reply::DeleteKeyMaterial(DeleteKeyMaterialReply { key_id, state: KeyState::PendingImport })
        }
        Request::ListProjects(r) => {
            assert_eq!((r.limit, r.page.0.as_slice()), (7, &b"p"[..]));
            let project = ProjectSummary {
                project: ProjectName::default(),
                description: Description::default(),
                created_at: None,
            };
            Reply::ListProjects(ListProjectsReply {
                projects: vec![project],
                next_page: b"default".to_vec().into(),
            })
        }
        other => panic!("{other:?} isn't sent by these commands"),
    })
}

/// The algorithm's name stands for the key, and the spec's for the token.
fn parameters(spec: WrappingKeySpec, algorithm: ImportAlgorithm) -> Reply {
    Reply::GetParametersForImport(GetParametersForImportReply {
        key_id: KEY,
        public_key: algorithm.name().as_bytes().to_vec().into(),
        token: spec.name().as_bytes().to_vec().into(),
        expires_at: AT,
    })
}

/// A scripted daemon and a directory.
struct Place {
    daemon: OnThread,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let daemon = OnThread::run(|fake| async move { fake.serve(answer).await });
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("material", &b"material"[..]),
            ("ephemeral", b"ephemeral"),
            ("token", b"token"),
            ("material.b64", b"bWF0\nZXJpYWw=\n"),
            ("token.b64", b"dG9rZW4="),
        ] {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        Self { daemon, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The words of a line; `@name` is a file of the directory.
    fn words(&self, line: &str) -> Vec<String> {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.path(name).to_str().unwrap().to_owned(),
            None => word.to_owned(),
        };
        line.split(' ').map(word).collect()
    }

    fn run(&self, line: &str) -> Ran {
        let words = self.words(line);
        claviger(Some(self.daemon.path()), &words.iter().map(String::as_str).collect::<Vec<_>>(), b"")
    }

    fn text(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
        String::from_utf8(ran.stdout).unwrap()
    }

    fn object(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(&format!("--json {line}"))).unwrap()
    }

    /// The same on a terminal, with what is typed there.
    fn on_terminal(&self, line: &str, typed: &str) -> String {
        let tool = env!("CARGO_BIN_EXE_claviger");
        let socket = self.daemon.path().display();
        let line = format!(
            "printf '{typed}' | script -qec '{tool} --socket {socket} {line}; echo code $?' /dev/null"
        );
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn each_key_has_its_deletion_or_its_refusal() {
    let place = Place::new();
    let planned = json!({ "key_id": KEY, "deletion_date": "2026-09-21T14:13:20.030Z" });
    assert_eq!(place.object("key schedule-deletion alias/a"), json!({ "results": [planned] }));
    let both = place.text("key schedule-deletion alias/a alias/b --days 7 --force");
    assert_eq!(
        both,
        "KEY      DELETION DATE\nalias/a  2026-09-21T14:13:20.007Z\nalias/b  2026-09-21T14:13:20.007Z\n"
    );
    let ran = place.run("key schedule-deletion alias/a alias/b");
    assert_eq!((ran.code, ran.error_code()), (1, "KeyInUse"));
    assert!(ran.stderr.contains("alias/b: app uses it"), "{}", ran.stderr);
    assert_eq!(String::from_utf8(ran.stdout).unwrap().lines().count(), 2);
    let ran = place.run("key schedule-deletion alias/b --json");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let used = json!([{ "access_point": "app", "last_used_at": "2026-09-21T14:13:20.000Z" }]);
    let error = json!({ "code": "KeyInUse", "message": "app uses it; force the deletion" });
    let refused = json!({ "key": "alias/b", "error": error, "associations": used });
    assert_eq!((ran.code, ran.stderr.as_str(), &object["results"][0]), (1, "", &refused));
}

#[test]
fn what_can_not_be_undone_is_asked_about_on_a_terminal() {
    let place = Place::new();
    let schedule = "key schedule-deletion alias/a --days 7";
    for (line, question) in [
        (schedule, "Destroy alias/a in 7 days"),
        ("key delete-material alias/a", "Destroy the material of alias/a?"),
    ] {
        for typed in ["n\\n", "\\n", "yep\\n"] {
            let said = place.on_terminal(line, typed);
            assert!(said.contains(question) && said.contains("nothing was changed"), "{said}");
            assert!(said.contains("code 1"), "{said}");
        }
        let said = place.on_terminal(line, "y\\n");
        assert!(said.contains(question) && said.contains("code 0"), "{said}");
        let said = place.on_terminal(&format!("{line} --yes"), "");
        assert!(!said.contains(question) && said.contains("code 0"), "{said}");
    }
    // Nobody is there to be asked.
    assert!(place.text(schedule).starts_with("KEY "));
}

#[test]
fn tags_versions_and_policies_are_sent_as_they_are_meant() {
    let place = Place::new();
    let done = json!({ "key_id": KEY, "state": "Enabled", "changed": true });
    let set = place.object("key tag alias/a alias/b --tag team=a=b --tag env=prod");
    assert_eq!(set["results"], json!([done, done]));
    assert_eq!(place.text("key untag alias/a --tag env --tag team"), "KEY      STATE\nalias/a  Enabled\n");
    let token = "000102030405060708090a0b0c0d0e0f";
    let made = json!({ "key_id": KEY, "key_version_id": VERSION });
    assert_eq!(place.object(&format!("key rotate alias/a --client-token {token}")), made);
    let off = json!({ "key_id": KEY, "rotation": null, "changed": true });
    assert_eq!(place.object("key rotation-policy alias/a --off"), off);
    let list = place.object("project list --limit 7 --page cA");
    let project = json!({ "project": "default", "description": "", "created_at": null });
    assert_eq!(list, json!({ "projects": [project], "next_page": "ZGVmYXVsdA" }));
    assert!(place.text("project list --limit 7 --page cA").ends_with("there are more: --page ZGVmYXVsdA\n"));
}

#[test]
fn import_parameters_go_to_files_or_into_an_object() {
    let place = Place::new();
    let said = place.text("key import-params alias/a --public-key-out @pub --token-out @tok");
    assert_eq!(fs::read(place.path("pub")).unwrap(), b"RSAES_OAEP_SHA_256");
    assert_eq!(fs::read(place.path("tok")).unwrap(), b"RSA_2048");
    assert!(said.contains("expires    2026-09-21T14:13:20.000Z\n"), "{said}");
    let _ = place.text("key import-params alias/a --encoding base64 --public-key-out @pub --token-out @tok");
    assert_eq!(fs::read(place.path("pub")).unwrap(), b"UlNBRVNfT0FFUF9TSEFfMjU2\n");
    assert_eq!(fs::read(place.path("tok")).unwrap(), b"UlNBXzIwNDg=\n");
    let object = place.object("key import-params alias/a --wrapping-spec SM2");
    assert_eq!(
        object,
        json!({
            "public_key": "U00yUEtF", "token": "U00y", "algorithm": "SM2PKE", "key_id": KEY,
            "expires_at": "2026-09-21T14:13:20.000Z"
        })
    );
    let line = "key import-params alias/a --algorithm RSAES_PKCS1_V1_5 --format pem --public-key-out @pub";
    let object = place.object(line);
    assert_eq!((object.get("public_key"), &object["token"]), (None, &json!("UlNBXzIwNDg=")));
    let pem = fs::read_to_string(place.path("pub")).unwrap();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{pem}");
    // One of the two may go to standard output.
    assert_eq!(place.text("key import-params alias/a --public-key-out @pub"), "RSA_2048");
    for line in [
        "key import-params alias/a",
        "key import-params alias/a --public-key-out @same --token-out @same",
        "key import-params alias/a --format pem --encoding hex --public-key-out @pub --token-out @tok",
    ] {
        assert_eq!(place.run(line).code, 2, "{line}");
    }
}

#[test]
fn material_is_read_from_files_in_either_coding() {
    let place = Place::new();
    let imported = json!({
        "key_id": KEY, "key_version_id": VERSION, "state": "Enabled",
        "material_expires_at": null, "through_memory": false
    });
    let whole = "key import alias/a --material @material --token @token";
    assert_eq!(place.object(whole), imported);
    let coded = "key import alias/a --material @material.b64 --token @token.b64 --encoding base64";
    assert_eq!(place.object(coded), imported);
    let timed = place.object(&format!("{whole} --ephemeral-key @ephemeral --expires 2026-09-21T14:13:20Z"));
    assert_eq!(
        (&timed["material_expires_at"], &timed["through_memory"]),
        (&json!("2026-09-21T14:13:20.000Z"), &json!(true))
    );
    assert!(place.text(whole).contains(" inside the HSM\n"));
    let ran = place.run("key import alias/other --material @material --token @token --expires never");
    assert_eq!((ran.code, ran.error_code()), (1, "MaterialMismatch"));
    assert_eq!(
        place.object("key delete-material alias/a"),
        json!({ "key_id": KEY, "state": "PendingImport" })
    );
    for line in [
        "key import alias/a --material @none --token @token",
        "key import alias/a --material @material --token @none",
        "key import alias/a --material @material --token @token --encoding base64",
        "key import alias/a --material @material --token @token --expires 2026-09-21",
        "key import alias/a --token @token",
    ] {
        let ran = place.run(line);
        assert_eq!((ran.code, ran.error_code()), (2, "Usage"), "{line}");
    }
}
