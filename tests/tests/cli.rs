//! The command line against a live daemon, as people and scripts meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use claviger_protocol::limits::MAX_NAME_LEN;
use claviger_tests::cli::{claviger, claviger_json, refused};
use claviger_tests::programs::{binary, run, text};
use claviger_tests::{Daemon, on_both_tokens};
use serde_json::{Value, json};

/// The fields of an object.
fn fields(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn the_whole_story_from_status_to_a_decrypted_file() {
    on_both_tokens(|daemon: &Daemon| {
        let site = daemon.site();
        let status = claviger_json(site, &["status"], b"").json();
        assert_eq!((&status["state"], &status["pool"][0]["state"]), (&json!("serving"), &json!("up")));
        assert!(claviger_json(site, &["ping"], b"").json()["version"].is_string());
        for level in ["hsm", "software"] {
            let alias = format!("alias/{level}");
            let create =
                ["key", "create", "--spec", "Aliyun_AES_256", "--protection", level, "--alias", &alias];
            let more = ["--description", "for files", "--tag", "env=test", "--tag", "team=a"];
            let made = claviger_json(site, &[&create[..], &more].concat(), b"").json();
            assert_eq!(fields(&made), ["key_id", "key_version_id"]);

            // A real file, raw both ways.
            let file = |name: &str| site.dir().join(format!("{level}.{name}"));
            let (plain, blob, back, none) = (file("txt"), file("blob"), file("back"), file("none"));
            let content: Vec<u8> = (0..6144_u32).map(|n| n.to_le_bytes()[0]).collect();
            std::fs::write(&plain, &content).unwrap();
            let seal = ["encrypt", &alias, "--context", "who=me", "--in", text(&plain), "--out", text(&blob)];
            assert_eq!(claviger(site, &seal, b"").code, 0);
            let open = ["decrypt", "--key", &alias, "--context", "who=me", "--in", text(&blob)];
            assert_eq!(claviger(site, &[&open[..], &["--out", text(&back)]].concat(), b"").code, 0);
            assert_eq!(std::fs::read(&back).unwrap(), content);
            assert_eq!(std::fs::metadata(&back).unwrap().permissions().mode() & 0o777, 0o600);
            let said = claviger(site, &open, b"");
            assert_eq!((said.code, said.stdout), (0, content), "the same on standard output");
            let wrong = ["decrypt", "--context", "who=you", "--in", text(&blob), "--out", text(&none)];
            refused(site, &wrong, b"", "InvalidCiphertext");
            assert!(!none.exists(), "nothing is left of a refused command");

            let shown = claviger_json(site, &["describe-blob", "--in", text(&blob)], b"").json();
            assert_eq!((&shown["key_id"], &shown["plaintext_len"]), (&made["key_id"], &json!(6144)));
        }
        let moved =
            ["re-encrypt", "--to", "alias/software", "--source-context", "who=me", "--context", "a=b"];
        let blob = std::fs::read(site.dir().join("hsm.blob")).unwrap();
        let moved = claviger(site, &moved, &blob);
        assert_eq!(moved.code, 0, "{}", moved.stderr);
        let opened = claviger(site, &["decrypt", "--context", "a=b"], &moved.stdout);
        assert_eq!(opened.stdout.len(), 6144);
    });
}

#[test]
fn json_has_the_fields_that_scripts_rely_on() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let made = claviger_json(site, &["key", "create", "--alias", "alias/a", "--tag", "k=v"], b"").json();
        let shown = claviger_json(site, &["key", "describe", "alias/a"], b"").json();
        for field in [
            "key_id",
            "spec",
            "usage",
            "state",
            "protection",
            "origin",
            "project",
            "description",
            "aliases",
            "tags",
            "created_at",
            "primary_version_id",
            "rotation",
            "deletion_date",
            "deletion_protection",
            "material_expires_at",
            "hardware",
            "members",
        ] {
            assert!(shown.get(field).is_some(), "{field} is missing: {shown}");
        }
        assert_eq!((&shown["tags"], &shown["spec"]), (&json!({ "k": "v" }), &json!("AES_256")));
        assert_eq!((&shown["hardware"], &shown["origin"]), (&json!(false), &json!("KMS")));
        assert!(shown["created_at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(shown["primary_version_id"], made["key_version_id"]);

        for n in 0..3 {
            let _ = claviger_json(site, &["key", "create", "--description", &n.to_string()], b"").json();
        }
        let first = claviger_json(site, &["key", "list", "--limit", "3"], b"").json();
        let page = first["next_page"].as_str().expect("there is another page");
        let second = claviger_json(site, &["key", "list", "--limit", "3", "--page", page], b"").json();
        let count = |list: &Value| list["keys"].as_array().unwrap().len();
        assert_eq!((count(&first), count(&second), &second["next_page"]), (3, 1, &Value::Null));
        let tagged = claviger_json(site, &["key", "list", "--tag", "k=v"], b"").json();
        assert_eq!(tagged["keys"][0]["key_id"], made["key_id"]);

        let made_key = claviger_json(site, &["data-key", "generate", "alias/a", "--bytes", "5"], b"").json();
        assert_eq!(made_key["plaintext"].as_str().unwrap().len(), 8, "five bytes in base64");
        let random = claviger_json(site, &["random", "3"], b"").json();
        assert_eq!(random["random"].as_str().unwrap().len(), 4);
        assert_eq!(claviger(site, &["random", "7"], b"").stdout.len(), 7);

        let switched = claviger_json(site, &["key", "disable", "alias/a", "alias/none"], b"");
        assert_eq!(switched.code, 1, "one of them failed");
        let results = &switched.any_json()["results"];
        assert_eq!((&results[0]["key_id"], &results[0]["state"]), (&made["key_id"], &json!("Disabled")));
        assert_eq!(
            (&results[1]["key"], &results[1]["error"]["code"]),
            (&json!("alias/none"), &json!("NotFound"))
        );
        refused(site, &["encrypt", "alias/a"], b"x", "InvalidKeyState");
        let enabled = claviger_json(site, &["key", "enable", "alias/a"], b"").json();
        assert_eq!(enabled["results"][0]["state"], "Enabled");
    });
}

#[test]
fn refusals_bad_usage_and_an_absent_daemon_have_their_exit_codes() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let _ = claviger_json(site, &["key", "create", "--alias", "alias/a"], b"").json();
        refused(site, &["key", "describe", "alias/none"], b"", "NotFound");
        refused(site, &["key", "create", "--alias", "alias/a"], b"", "AlreadyExists");
        let rotated = ["key", "create", "--origin", "external", "--rotation-days", "30"];
        refused(site, &rotated, b"", "InvalidArgument");
        refused(site, &["key", "create", "--rotation-days", "6"], b"", "InvalidArgument");
        refused(site, &["encrypt", "alias/a"], &[0; 6145], "PlaintextTooLarge");
        refused(site, &["decrypt"], b"not a blob", "InvalidCiphertext");
        let long = format!("alias/{}", "a".repeat(MAX_NAME_LEN));
        for usage in [
            &["no-such-command"][..],
            &["encrypt"],
            &["key", "create", "--alias", "no-prefix"],
            &["key", "create", "--alias", &long],
            &["key", "create", "--spec", "AES_512"],
            &["random", "0"],
            &["random", "4097"],
            &["encrypt", "alias/a", "--context", "no-equals-sign"],
            &["encrypt", "alias/a", "--context", "k=1", "--context", "k=2"],
            &["data-key", "generate", "alias/a", "--bytes", "1025"],
        ] {
            let said = claviger(site, usage, b"x");
            assert_eq!((said.code, said.stdout.as_slice()), (2, &b""[..]), "{usage:?}: {}", said.stderr);
            assert!(!said.stderr.is_empty());
        }
        let nobody = site.dir().join("nobody.sock");
        let output = run(Command::new(binary("claviger")).args(["--socket", text(&nobody), "ping"]));
        assert_eq!(output.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&output.stderr).contains(text(&nobody)));
        // The application endpoint by the environment, as a service would.
        let mut status = Command::new(binary("claviger"));
        let output = run(status.env("CLAVIGER_SOCKET", text(&site.app_socket())).args(["--json", "status"]));
        assert_eq!(output.status.code(), Some(1));
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["error"]["code"], "AccessDenied");
    });
}

#[test]
fn one_client_token_on_the_command_line_makes_one_key() {
    on_both_tokens(|daemon| {
        let token = "00112233445566778899aabbccddeeff";
        let create = ["key", "create", "--client-token", token];
        let made = claviger_json(daemon.site(), &create, b"").json();
        assert_eq!(claviger_json(daemon.site(), &create, b"").json(), made);
        let other = [&create[..], &["--protection", "software"]].concat();
        refused(daemon.site(), &other, b"", "ClientTokenReused");
    });
}
