//! A key's life on the command line against a live daemon: every command of it, as text and
//! as an object.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

use claviger_protocol::Code;
use claviger_protocol::KeyRef;
use claviger_protocol::body::{DescribeKeyRequest, EncryptRequest};
use claviger_tests::cli::{claviger, claviger_json, item_refused, object, refused, said, words};
use claviger_tests::keys::encryption;
use claviger_tests::programs::{binary, run_with_input, text};
use claviger_tests::{Site, Token, Wire, each_token, eventually, on_both_tokens};
use serde_json::{Value, json};

/// The field of each item of a list.
fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().expect("a list").iter().map(|item| item[field].as_str().unwrap_or("-")).collect()
}

/// Whether it is a time as promised.
fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 24 && text.ends_with('Z') && text.contains('T'))
}

#[test]
fn a_key_is_described_tagged_and_protected() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let _ = object(site, "project create team/a --description cards");
        let create =
            "key create --alias alias/a --project team/a --rotation-days 30 --tag k=v --description cards";
        let made = object(site, create);
        let other = object(site, "key create --alias alias/b");
        let shown = object(site, "key describe alias/a");
        assert_eq!((&shown["project"], &shown["rotation"]["days"]), (&json!("team/a"), &json!(30)));
        assert!(is_time(&shown["rotation"]["next"]) && shown["rotation"]["last"].is_null(), "{shown}");

        assert_eq!(
            object(site, "key set-description alias/a checks"),
            json!({ "key_id": made["key_id"], "changed": true })
        );
        assert_eq!(object(site, "key set-description alias/a checks")["changed"], false);
        assert!(said(site, "key set-description alias/a cards").contains("changed"));
        assert_eq!(object(site, "key describe alias/a")["description"], "cards");

        let tagged = object(site, "key tag alias/a alias/b --tag k=w --tag env=prod");
        let done = |id: &Value| json!({ "key_id": id, "state": "Enabled", "changed": true });
        assert_eq!(tagged["results"], json!([done(&made["key_id"]), done(&other["key_id"])]));
        assert_eq!(object(site, "key tags alias/a")["tags"], json!({ "env": "prod", "k": "w" }));
        assert_eq!(said(site, "key tags alias/b"), "TAG  VALUE\nenv  prod\nk    w\n");
        let untagged = object(site, "key untag alias/a alias/b --tag k --tag none");
        assert_eq!(column(&untagged["results"], "state"), ["Enabled", "Enabled"]);
        assert!(said(site, "key untag alias/a --tag k").contains("alias/a  Enabled (unchanged)"));
        assert_eq!(object(site, "key tags alias/a")["tags"], json!({ "env": "prod" }));

        assert_eq!(object(site, "key protect alias/a")["results"][0]["changed"], true);
        assert_eq!(object(site, "key describe alias/a")["deletion_protection"], true);
        let refusal = item_refused(site, "key schedule-deletion alias/a --force", 0, "DeletionProtected");
        assert_eq!(refusal["key"], "alias/a");
        assert!(said(site, "key describe alias/a").contains("deletion protection  on\n"));
        assert_eq!(object(site, "key unprotect alias/a")["results"][0]["changed"], true);
        let planned = object(site, "key schedule-deletion alias/a --days 7");
        assert!(is_time(&planned["results"][0]["deletion_date"]), "{planned}");
    });
}

#[test]
fn a_deletion_is_planned_and_taken_back() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let made = object(site, "key create --alias alias/a");
        let _ = object(site, "key create --alias alias/b");
        // An application uses it.
        let used = EncryptRequest { ..encryption("alias/a".parse::<KeyRef>().unwrap(), b"x") };
        assert!(daemon.app().call(used).is_ok());
        let found = object(site, "key associations alias/a");
        assert_eq!(
            (found["key_id"].clone(), column(&found["associations"], "access_point")),
            (made["key_id"].clone(), vec!["app"])
        );
        assert!(is_time(&found["associations"][0]["last_used_at"]), "{found}");
        assert!(said(site, "key associations alias/a").contains("\napp "));
        assert_eq!(object(site, "key associations alias/b")["associations"], json!([]));

        let refusal = item_refused(site, "key schedule-deletion alias/b alias/a --days 30", 1, "KeyInUse");
        assert_eq!(column(&refusal["associations"], "access_point"), ["app"]);
        let message = refusal["error"]["message"].as_str().unwrap();
        assert!(message.contains("app") && message.contains("force"), "{message}");
        assert_eq!(
            object(site, "key describe alias/b")["state"],
            "PendingDeletion",
            "the other one is planned"
        );
        assert_eq!(object(site, "key describe alias/a")["state"], "Enabled");

        let planned = object(site, "key schedule-deletion alias/a --days 30 --force --yes");
        assert_eq!(planned["results"][0]["key_id"], made["key_id"]);
        refuse_what_a_planned_deletion_refuses(site, &planned["results"][0]["deletion_date"]);
        let cancelled = object(site, "key cancel-deletion alias/a");
        assert_eq!(
            (
                &cancelled["results"][0]["state"],
                object(site, "key describe alias/a")["deletion_date"].is_null()
            ),
            (&json!("Disabled"), true)
        );
        let _ = item_refused(site, "key cancel-deletion alias/a", 0, "InvalidKeyState");
        let _ = object(site, "key schedule-deletion alias/a --force");
        assert!(said(site, "key cancel-deletion alias/a alias/b --enable").contains("alias/b  Enabled\n"));
        let external = object(site, "key create --origin external --alias alias/x");
        assert_eq!(external["key_version_id"], Value::Null);
        let _ = object(site, "key schedule-deletion alias/x");
        assert_eq!(
            object(site, "key cancel-deletion alias/x --enable")["results"][0]["state"],
            "PendingImport"
        );
    });
}

/// alias/a is PendingDeletion.
fn refuse_what_a_planned_deletion_refuses(site: &Site, date: &Value) {
    let shown = object(site, "key describe alias/a");
    assert_eq!((&shown["state"], &shown["deletion_date"]), (&json!("PendingDeletion"), date));
    assert!(said(site, "key describe alias/a").contains("deletion date "));
    for line in [
        "alias delete alias/a",
        "key set-description alias/a x",
        "key rotate alias/a",
        "key rotation-policy alias/a --off",
    ] {
        refused(site, &words(line), b"", "InvalidKeyState");
    }
    refused(site, &["encrypt", "alias/a"], b"x", "InvalidKeyState");
    for line in [
        "key enable",
        "key disable",
        "key tag --tag a=b",
        "key untag --tag a",
        "key protect",
        "key schedule-deletion",
    ] {
        let _ = item_refused(site, &format!("{line} alias/a"), 0, "InvalidKeyState");
    }
}

#[test]
fn a_key_whose_time_has_come_leaves_its_tombstone() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let made = object(&site, "key create --alias alias/a --tag k=v --description x");
    let id = made["key_id"].as_str().unwrap();
    let blob = claviger(&site, &["encrypt", "alias/a"], b"secret").stdout;
    assert!(said(&site, &format!("key schedule-deletion {id} --days 0 --force")).contains(id));
    let shown = eventually("the key is deleted", || {
        let shown = object(&site, &format!("key describe {id}"));
        (shown["state"] == "Deleted").then_some(shown)
    });
    assert!(is_time(&shown["deletion_date"]), "{shown}");
    assert_eq!(
        (&shown["aliases"], &shown["tags"], &shown["description"]),
        (&json!([]), &json!({}), &json!(""))
    );
    refused(&site, &words("key describe alias/a"), b"", "NotFound");
    refused(&site, &["decrypt"], &blob, "InvalidKeyState");
    let refusal = item_refused(&site, &format!("key enable {id}"), 0, "InvalidKeyState");
    assert!(refusal["error"]["message"].as_str().unwrap().contains("deleted on "), "{refusal}");
    let _ = item_refused(&site, &format!("key cancel-deletion {id}"), 0, "InvalidKeyState");
    refused(&site, &words(&format!("alias create alias/b {id}")), b"", "InvalidKeyState");
    assert_eq!(object(&site, "key list")["keys"], json!([]));
    assert_eq!(column(&object(&site, "key list --state Deleted")["keys"], "key_id"), [id]);
    assert_eq!(column(&object(&site, "key list --symmetric --state Deleted")["keys"], "key_id"), [id]);
    assert_eq!(object(&site, "key list --state Deleted --tag k=v")["keys"], json!([]));
    let _ = object(&site, "key create --alias alias/a");
    daemon.terminate();
}

#[test]
fn symmetric_keys_have_a_primary_version_and_a_policy() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        for level in ["hsm", "software"] {
            let alias = format!("alias/{level}");
            let made = object(site, &format!("key create --alias {alias} --protection {level}"));
            let old = claviger(site, &["encrypt", &alias], b"before").stdout;
            let token = "--client-token 00112233445566778899aabbccddee".to_owned()
                + if level == "hsm" { "00" } else { "01" };
            let rotated = object(site, &format!("key rotate {alias} {token}"));
            assert_eq!(object(site, &format!("key rotate {alias} {token}")), rotated, "once for one token");
            assert_eq!(rotated["key_id"], made["key_id"]);
            let shown = object(site, &format!("key describe {alias}"));
            assert_eq!(
                (&shown["primary_version_id"], &shown["version_count"]),
                (&rotated["key_version_id"], &json!(2))
            );
            let opened = claviger_json(site, &["decrypt"], &old).json();
            assert_eq!(opened["key_version_id"], made["key_version_id"], "older versions decrypt");

            let list = object(site, &format!("key versions {alias}"));
            let ids = column(&list["versions"], "key_version_id");
            assert_eq!(
                ids,
                [rotated["key_version_id"].as_str().unwrap(), made["key_version_id"].as_str().unwrap()]
            );
            assert_eq!(
                (&list["versions"][0]["primary"], &list["versions"][1]["primary"]),
                (&json!(true), &json!(false))
            );
            assert!(
                list["versions"].as_array().unwrap().iter().all(|version| is_time(&version["created_at"]))
            );
            let first = object(site, &format!("key versions {alias} --limit 1"));
            let page = first["next_page"].as_str().expect("there is another page");
            let second = object(site, &format!("key versions {alias} --limit 1 --page {page}"));
            assert_eq!(
                (column(&first["versions"], "key_version_id"), column(&second["versions"], "key_version_id")),
                (vec![ids[0]], vec![ids[1]])
            );
            assert!(said(site, &format!("key versions {alias}")).contains(" primary\n"));
            let version = object(site, &format!("key version {alias} {}", ids[1]));
            assert_eq!(
                (&version["number"], &version["primary"], &version["public_key"]),
                (&json!(1), &json!(false), &Value::Null)
            );
            assert_eq!(
                (&version["key_id"], &version["key_version_id"]),
                (&made["key_id"], &made["key_version_id"])
            );
            assert!(said(site, &format!("key version {alias} {}", ids[0])).contains(" yes\n"));

            let policy = object(site, &format!("key rotation-policy {alias} --days 90"));
            assert_eq!((&policy["rotation"]["days"], &policy["changed"]), (&json!(90), &json!(true)));
            assert!(is_time(&policy["rotation"]["next"]), "{policy}");
            assert_eq!(object(site, &format!("key rotation-policy {alias} --days 90"))["changed"], false);
            assert!(said(site, &format!("key describe {alias}")).contains("every 90 days, last "));
            let _ = object(site, &format!("key disable {alias}"));
            let off = object(site, &format!("key rotation-policy {alias} --off"));
            assert_eq!((&off["rotation"], &off["changed"]), (&Value::Null, &json!(true)));
            assert!(said(site, &format!("key rotation-policy {alias} --off")).contains("off (unchanged)"));
            refused(site, &["key", "rotate", &alias], b"", "InvalidKeyState");
        }
    });
}

#[test]
fn key_pairs_have_versions_side_by_side() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let made = object(site, "key create --spec EC_P256 --alias alias/pair");
        let first = claviger(site, &words("key public-key alias/pair"), b"").stdout;
        let second = object(site, "key create-version alias/pair");
        assert_eq!(second["key_id"], made["key_id"]);
        refused(site, &words("key public-key alias/pair"), b"", "KeyVersionRequired");
        refused(site, &words("sign alias/pair --algorithm ECDSA_SHA_256"), b"x", "KeyVersionRequired");
        let shown = object(site, "key describe alias/pair");
        assert_eq!((&shown["primary_version_id"], &shown["version_count"]), (&Value::Null, &json!(2)));
        let list = object(site, "key versions alias/pair");
        assert_eq!(column(&list["versions"], "key_version_id").len(), 2);
        assert!(list["versions"].as_array().unwrap().iter().all(|version| version["primary"] == false));
        let version =
            object(site, &format!("key version alias/pair {}", made["key_version_id"].as_str().unwrap()));
        assert_eq!(version["public_key"].as_str().unwrap().as_bytes(), first);
        let line = format!("key version alias/pair {}", second["key_version_id"].as_str().unwrap());
        assert!(said(site, &line).contains("\n-----BEGIN PUBLIC KEY-----\n"));
        let id = second["key_version_id"].as_str().unwrap();
        let signed =
            claviger(site, &["sign", "alias/pair", "--version", id, "--algorithm", "ECDSA_SHA_256"], b"x");
        assert_eq!(signed.code, 0, "{}", signed.stderr);
    });
}

#[test]
fn aliases_and_projects_come_and_go() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let (one, two) = (object(site, "key create"), object(site, "key create"));
        let (one, two) = (one["key_id"].as_str().unwrap(), two["key_id"].as_str().unwrap());
        let pointed = |alias: &str, key: &str, changed: bool| json!({ "alias": alias, "key_id": key, "changed": changed });
        assert_eq!(object(site, &format!("alias create alias/x {one}")), pointed("alias/x", one, true));
        assert!(said(site, "alias create alias/y alias/x").contains(one), "a key is named by an alias too");
        assert_eq!(object(site, &format!("alias update alias/x {two}")), pointed("alias/x", two, true));
        assert!(said(site, &format!("alias update alias/x {two}")).contains("(unchanged)"));
        assert_eq!(object(site, "key describe alias/x")["key_id"], two);
        let all = object(site, "alias list");
        assert_eq!(
            all["aliases"],
            json!([{ "alias": "alias/x", "key_id": two }, { "alias": "alias/y", "key_id": one }])
        );
        let first = object(site, "alias list --limit 1");
        let page = first["next_page"].as_str().expect("there is another page");
        assert_eq!(
            column(&object(site, &format!("alias list --limit 1 --page {page}"))["aliases"], "alias"),
            ["alias/y"]
        );
        assert_eq!(
            column(&object(site, &format!("alias list --key {one}"))["aliases"], "alias"),
            ["alias/y"]
        );
        assert!(said(site, "alias list --key alias/x").ends_with(&format!("\nalias/x  {two}\n")));
        let named = object(site, "key list --aliased");
        assert_eq!(
            (column(&named["keys"], "alias"), column(&named["keys"], "key_id")),
            (vec!["alias/x", "alias/y"], vec![two, one])
        );
        assert_eq!(object(site, "alias delete alias/y"), pointed("alias/y", one, true));
        refused(site, &words("key describe alias/y"), b"", "NotFound");

        assert_eq!(object(site, "project create team/b --description cards"), json!({ "project": "team/b" }));
        assert!(said(site, "project create a").contains("project  a\n"));
        let projects = object(site, "project list");
        assert_eq!(column(&projects["projects"], "project"), ["a", "default", "team/b"]);
        assert!(
            projects["projects"][1]["created_at"].is_null()
                && is_time(&projects["projects"][2]["created_at"])
        );
        let first = object(site, "project list --limit 2");
        let page = first["next_page"].as_str().expect("there is another page");
        assert_eq!(
            column(&object(site, &format!("project list --limit 2 --page {page}"))["projects"], "project"),
            ["team/b"]
        );
        assert!(said(site, "project list").contains("\ndefault  always there"));
        let moved = object(site, &format!("project move {one} alias/x --to team/b"));
        assert_eq!(
            (&moved["results"][0]["key_id"], &moved["results"][1]["changed"]),
            (&json!(one), &json!(true))
        );
        assert!(said(site, "project move alias/x --to team/b").contains("(unchanged)"));
        assert_eq!(column(&object(site, "key list --project team/b")["keys"], "key_id").len(), 2);
        assert_eq!(
            column(&object(site, "key list --aliased --project team/b")["keys"], "alias"),
            ["alias/x"]
        );
        assert_eq!(object(site, "key list --project default")["keys"], json!([]));
        refused(site, &words("project delete team/b"), b"", "NotEmpty");
        let _ = object(site, &format!("project move {one} {two} --to a"));
        assert_eq!(object(site, "project delete team/b"), json!({ "project": "team/b" }));
    });
}

#[test]
fn lists_are_filtered_and_paged() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let (aes, sm4) = ("key create --protection software", "key create --spec SM4 --protection software");
        for line in [aes, sm4, aes, sm4, "key create --spec EC_P256 --protection software"] {
            let _ = object(site, line);
        }
        let (mut page, mut specs) = (String::new(), Vec::new());
        loop {
            let list = object(site, &format!("key list --symmetric --limit 3{page}"));
            specs.extend(column(&list["keys"], "spec").into_iter().map(str::to_owned));
            let Some(next) = list["next_page"].as_str() else { break };
            page = format!(" --page {next}");
        }
        assert_eq!(specs, ["AES_256", "AES_256", "SM4", "SM4"]);
        assert_eq!(column(&object(site, "key list --spec SM4")["keys"], "spec"), ["SM4", "SM4"]);
        let one = object(site, "key list --spec SM4 --limit 1");
        let id = one["keys"][0]["key_id"].as_str().unwrap();
        let _ = object(site, &format!("key disable {id}"));
        assert_eq!(column(&object(site, "key list --state Disabled --spec SM4")["keys"], "key_id"), [id]);
        assert_eq!(object(site, "key list --state Disabled --spec AES_256")["keys"], json!([]));
        assert_eq!(column(&object(site, "key list --symmetric --state Disabled")["keys"], "key_id"), [id]);
        refused(site, &words("key list --symmetric --page AAAA"), b"", "InvalidArgument");
        refused(site, &words("key list --aliased --page _w"), b"", "InvalidArgument");
    });
}

#[test]
fn a_service_has_a_default_key_that_is_made_when_it_is_used() {
    for token in each_token() {
        let site = Site::with_sections(token, |site| {
            let socket = |name: &str| text(&site.dir().join(name)).to_owned();
            format!("[[endpoint]]\nname = \"store\"\nsocket = {:?}\nservice = \"s3\"\n", socket("store.sock"))
        });
        let daemon = site.start();
        let store = site.dir().join("store.sock");
        let mut command = site.program(Command::new(binary("claviger")));
        command.args(["--socket", text(&store), "--json", "encrypt", "alias/s3/default"]);
        let output = run_with_input(&mut command, b"secret");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let sealed: Value = serde_json::from_slice(&output.stdout).unwrap();

        let shown = object(&site, "key describe alias/s3/default");
        assert_eq!((&shown["key_id"], &shown["aliases"]), (&sealed["key_id"], &json!(["alias/s3/default"])));
        let again = object(&site, "default-key create s3");
        assert_eq!(again["key_id"], sealed["key_id"], "it is there already");
        assert!(said(&site, "default-key create s3").contains(sealed["key_id"].as_str().unwrap()));
        assert_ne!(object(&site, "default-key create queue")["key_id"], sealed["key_id"]);
        // Another endpoint doesn't know it by that name.
        let used = encryption("alias/s3/default".parse::<KeyRef>().unwrap(), b"x");
        assert_eq!(daemon.app().call(used).unwrap_err().code, Code::AccessDenied);
        let key = "alias/s3/default".parse::<KeyRef>().unwrap();
        assert!(Wire::open(&store).call(DescribeKeyRequest { key }).is_err(), "keys are managed elsewhere");

        for line in ["alias list", "key list --aliased"] {
            assert!(said(&site, line).contains("alias/s3/default"), "{line}");
        }
        assert_eq!(object(&site, "key tag alias/s3/default --tag a=b")["results"][0]["changed"], true);
        refuse_what_default_keys_refuse(&site);
        daemon.terminate();
    }
}

fn refuse_what_default_keys_refuse(site: &Site) {
    let key = "alias/s3/default";
    for line in ["key enable", "key disable", "key protect", "key unprotect", "key schedule-deletion --force"]
    {
        let _ = item_refused(site, &format!("{line} {key}"), 0, "UnsupportedByKey");
    }
    let _ = item_refused(site, &format!("project move {key} --to default"), 0, "UnsupportedByKey");
    for line in [
        &format!("key set-description {key} x"),
        &format!("key rotate {key}"),
        &format!("key rotation-policy {key} --days 30"),
        &format!("alias create alias/q {key}"),
    ] {
        refused(site, &words(line), b"", "UnsupportedByKey");
    }
    let _ = object(site, "key create --alias alias/plain");
    refused(site, &words("alias create alias/s3/x alias/plain"), b"", "InvalidArgument");
    refused(site, &words("key create --alias alias/queue/x"), b"", "InvalidArgument");
}
