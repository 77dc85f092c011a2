//! A key's life on the command line, with what it has to refuse: each bad input with its code
//! and its exit code, and nothing is changed by it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

use claviger_tests::cli::{claviger, item_refused, object, refused, words};
use claviger_tests::programs::{binary, run};
use claviger_tests::{Site, Token, on_both_tokens};
use serde_json::json;

#[test]
fn aliases_that_are_taken_reserved_or_of_no_key() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let _ = object(site, "key create --alias alias/a");
        let _ = object(site, "key create --alias alias/b");
        let _ = object(site, "default-key create s3");
        for (line, code) in [
            ("alias create alias/a alias/b", "AlreadyExists"),
            ("key create --alias alias/a", "AlreadyExists"),
            ("alias create alias/c alias/none", "NotFound"),
            ("alias create alias/s3/c alias/a", "InvalidArgument"),
            ("alias update alias/none alias/a", "NotFound"),
            ("alias update alias/a alias/none", "NotFound"),
            ("alias update alias/a alias/s3/default", "UnsupportedByKey"),
            ("alias delete alias/none", "NotFound"),
            ("alias list --key alias/none", "NotFound"),
        ] {
            refused(site, &words(line), b"", code);
        }
        let _ = object(site, "key schedule-deletion alias/b");
        for line in
            ["alias create alias/c alias/b", "alias update alias/a alias/b", "alias update alias/b alias/a"]
        {
            refused(site, &words(line), b"", "InvalidKeyState");
        }
        for n in 0..49 {
            let _ = object(site, &format!("alias create alias/many{n} alias/a"));
        }
        refused(site, &words("alias create alias/many49 alias/a"), b"", "LimitExceeded");
        let said = claviger(site, &words("alias delete alias/none"), b"");
        assert!(said.stderr.contains("`claviger alias list`"), "{}", said.stderr);
    });
}

#[test]
fn the_twenty_first_tag_and_keys_that_are_not_there() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let tags: Vec<_> = (0..20).map(|n| format!("--tag k{n}=v")).collect();
        let _ = object(site, &format!("key create --alias alias/a {}", tags.join(" ")));
        let _ = item_refused(site, "key tag alias/a --tag k20=v", 0, "LimitExceeded");
        let replaced = object(site, "key tag alias/a --tag k19=w");
        assert_eq!(replaced["results"][0]["changed"], true, "another value of a tag is no other tag");
        assert_eq!(object(site, "key tags alias/a")["tags"].as_object().unwrap().len(), 20);
        for line in [
            "key tag alias/none --tag a=b",
            "key untag alias/none --tag a",
            "key protect alias/none",
            "key unprotect alias/none",
            "key schedule-deletion alias/none",
            "key cancel-deletion alias/none",
            "project move alias/none --to default",
        ] {
            let result = item_refused(site, line, 0, "NotFound");
            assert_eq!(result["key"], "alias/none");
        }
        for line in [
            "key set-description alias/none x",
            "key tags alias/none",
            "key associations alias/none",
            "key rotate alias/none",
            "key rotation-policy alias/none --off",
            "key create-version alias/none",
            "key versions alias/none",
            "key version alias/none 00000000-0000-4000-8000-000000000000",
            "key version alias/a 00000000-0000-4000-8000-000000000000",
        ] {
            refused(site, &words(line), b"", "NotFound");
        }
    });
}

#[test]
fn projects_that_are_not_there_taken_or_not_empty() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let made = object(site, "key create --alias alias/a");
        refused(site, &words("key create --project none"), b"", "NotFound");
        let _ = item_refused(site, "project move alias/a --to none", 0, "NotFound");
        assert_eq!(object(site, "key describe alias/a")["project"], "default");
        let _ = object(site, "project create team");
        for (line, code) in [
            ("project create team", "AlreadyExists"),
            ("project create default", "AlreadyExists"),
            ("project delete none", "NotFound"),
            ("project delete default", "InvalidArgument"),
        ] {
            refused(site, &words(line), b"", code);
        }
        let _ = object(site, "project move alias/a --to team");
        refused(site, &words("project delete team"), b"", "NotEmpty");
        let said = claviger(site, &words("project delete team"), b"");
        assert!(said.stderr.contains(made["key_id"].as_str().unwrap()), "{}", said.stderr);
        let said = claviger(site, &words("project delete none"), b"");
        assert!(said.stderr.contains("`claviger project list`"), "{}", said.stderr);
    });
}

#[test]
fn deletions_out_of_their_bounds() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let _ = object(site, "key create --alias alias/a");
        for days in ["1097", "65535"] {
            let line = format!("key schedule-deletion alias/a --days {days}");
            refused(site, &words(&line), b"", "InvalidArgument");
        }
        if site.token() != Token::Embedded {
            // Without --dev a week is the least.
            refused(site, &words("key schedule-deletion alias/a --days 6"), b"", "InvalidArgument");
        }
        assert_eq!(object(site, "key describe alias/a")["state"], "Enabled");
    });
    let limits = "deletion_days_min = 20\ndeletion_days_max = 40";
    let site = Site::with_limits(Token::Embedded, limits);
    let daemon = site.start();
    let _ = object(&site, "key create --alias alias/a --protection software");
    for days in [19, 41] {
        let line = format!("key schedule-deletion alias/a --days {days}");
        refused(&site, &words(&line), b"", "InvalidArgument");
        let said = claviger(&site, &words(&line), b"");
        assert!(said.stderr.contains("20 to 40 days"), "{}", said.stderr);
    }
    let _ = object(&site, "key schedule-deletion alias/a --days 40");
    daemon.terminate();
}

#[test]
fn rotation_and_versions_of_keys_that_have_none() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let _ = object(site, "key create --alias alias/aes");
        let _ = object(site, "key create --alias alias/pair --spec EC_P256");
        let _ = object(site, "key create --alias alias/mine --origin external");
        let _ = object(site, "default-key create s3");
        for line in [
            "key rotate alias/pair",
            "key rotate alias/mine",
            "key rotate alias/s3/default",
            "key rotation-policy alias/pair --days 30",
            "key rotation-policy alias/mine --days 30",
            "key rotation-policy alias/s3/default --days 30",
            "key create-version alias/aes",
            "key create-version alias/mine",
            "key create-version alias/s3/default",
        ] {
            refused(site, &words(line), b"", "UnsupportedByKey");
        }
        for line in [
            "key rotation-policy alias/aes --days 6",
            "key rotation-policy alias/aes --days 731",
            "key create --origin external --rotation-days 30",
            "key create --spec SM2 --protection software --rotation-days 30",
            "key create --spec RSA_2048 --rotation-days 30",
        ] {
            refused(site, &words(line), b"", "InvalidArgument");
        }
        refused(site, &["encrypt", "alias/mine"], b"x", "InvalidKeyState");
        let _ = item_refused(site, "key enable alias/mine", 0, "InvalidKeyState");
        let token = "00112233445566778899aabbccddeeff";
        let _ = object(site, &format!("key rotate alias/aes --client-token {token}"));
        let other = format!("key create-version alias/pair --client-token {token}");
        refused(site, &words(&other), b"", "ClientTokenReused");
        assert_eq!(object(site, "key describe alias/aes")["version_count"], json!(2));
    });
}

#[test]
fn application_endpoints_manage_no_keys() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let _ = object(site, "key create --alias alias/a");
        let app = site.app_socket();
        for line in [
            "key schedule-deletion alias/a",
            "key rotate alias/a",
            "key tags alias/a",
            "key versions alias/a",
            "alias list",
            "alias create alias/b alias/a",
            "project list",
            "project create p",
            "default-key create s3",
        ] {
            let line = format!("{line} --socket {}", app.display());
            let mut command = site.program(Command::new(binary("claviger")));
            let output = run(command.args(words(&line)));
            assert_eq!(output.status.code(), Some(1), "{line}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.starts_with("claviger: AccessDenied: "), "{line}: {said}");
        }
    });
}

#[test]
fn flags_that_are_wrong_are_bad_usage() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    for line in [
        "key schedule-deletion",
        "key schedule-deletion alias/a --days -1",
        "key schedule-deletion alias/a --days soon",
        "key cancel-deletion",
        "key protect",
        "key set-description alias/a",
        "key tag alias/a",
        "key tag alias/a --tag novalue",
        "key tag alias/a --tag a=1 --tag a=2",
        "key untag alias/a",
        "key rotate",
        "key rotate alias/a --client-token 1",
        "key rotation-policy alias/a",
        "key rotation-policy alias/a --days 30 --off",
        "key versions alias/a --limit 0",
        "key version alias/a",
        "key version alias/a one",
        "key list --aliased --spec SM4",
        "key list --aliased --symmetric",
        "key list --symmetric --tag a=b",
        "key import-params alias/a --wrapping-spec EC_P256",
        "key import-params alias/a --algorithm ROT13",
        "key import-params alias/a",
        "key import-params alias/a --public-key-out f --token-out f",
        "key import-params alias/a --format pem --encoding base64 --public-key-out f --token-out g",
        "key import-params alias/a --public-key-out no/such/f --token-out g",
        "key import alias/a",
        "key import alias/a --material none --token none",
        "key import alias/a --material none --token none --expires tomorrow",
        "key delete-material",
        "alias create alias/a",
        "alias create pay alias/a",
        "alias create alias/s3/default alias/a",
        "alias delete",
        "alias list --key alias/a --limit 1",
        "project create",
        "project create a.b",
        "project move alias/a",
        "default-key create",
        "default-key create a/b",
    ] {
        let said = claviger(&site, &words(line), b"");
        assert_eq!((said.code, said.stdout.as_slice()), (2, &b""[..]), "{line}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{line}: {}", said.stderr);
    }
    daemon.terminate();
}
