//! Bringing one's own material on the command line, with OpenSSL as cloud KMS documentation
//! has it: files coded in base64, each padding, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

use claviger_tests::cli::{claviger, claviger_json, object, refused, said, words};
use claviger_tests::programs::tool;
use claviger_tests::{Site, on_both_tokens};
use serde_json::{Value, json};

/// A line of shell in the site's directory.
fn shell(site: &Site, line: &str) {
    tool(Command::new("sh").args(["-ec", line]).current_dir(site.dir()));
}

/// A line with `@name` for a file of the site.
fn at(site: &Site, line: &str) -> String {
    line.replace('@', &format!("{}/", site.dir().display()))
}

/// The algorithm, and the documentation's own lines that encrypt KeyMaterial.bin by it.
const PADDINGS: [(&str, &str); 3] = [
    (
        "RSAES_OAEP_SHA_256",
        "openssl pkeyutl -in KeyMaterial.bin -inkey PublicKey.bin -out EncryptedKeyMaterial.bin -keyform der -pubin -encrypt -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256",
    ),
    (
        "RSAES_PKCS1_V1_5",
        "openssl rsautl -encrypt -in KeyMaterial.bin -pkcs -inkey PublicKey.bin -keyform der -pubin -out EncryptedKeyMaterial.bin",
    ),
    (
        "RSAES_OAEP_SHA_1",
        "openssl rsautl -encrypt -in KeyMaterial.bin -oaep -inkey PublicKey.bin -keyform DER -pubin -out EncryptedKeyMaterial.bin",
    ),
];

/// Encrypts KeyMaterial.bin to fresh import parameters of a key; files are base64.
fn wrap(site: &Site, key: &str, algorithm: &str, line: &str) {
    let params = format!(
        "key import-params {key} --algorithm {algorithm} --encoding base64 --public-key-out @PublicKey_base64.txt --token-out @token.txt"
    );
    assert!(said(site, &at(site, &params)).contains("expires "));
    shell(
        site,
        &format!(
            "openssl enc -d -base64 -A -in PublicKey_base64.txt -out PublicKey.bin
             {line}
             openssl enc -e -base64 -A -in EncryptedKeyMaterial.bin -out EncryptedKeyMaterial_base64.txt"
        ),
    );
}

const IMPORT: &str = "--material @EncryptedKeyMaterial_base64.txt --token @token.txt --encoding base64";

#[test]
fn openssls_lines_end_in_an_enabled_key() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        for (n, (algorithm, line)) in PADDINGS.into_iter().enumerate() {
            let key = format!("alias/mine{n}");
            let made = object(site, &format!("key create --origin external --alias {key}"));
            shell(site, "openssl rand -out KeyMaterial.bin 32");
            wrap(site, &key, algorithm, line);
            let imported = object(site, &at(site, &format!("key import {key} {IMPORT}")));
            assert_eq!((&imported["key_id"], &imported["state"]), (&made["key_id"], &json!("Enabled")));
            assert_eq!(imported["material_expires_at"], Value::Null);
            let blob = claviger(site, &["encrypt", &key], b"secret").stdout;
            assert_eq!(claviger(site, &["decrypt"], &blob).stdout, b"secret", "{algorithm}");
        }
    });
}

#[test]
fn material_goes_expires_and_comes_back() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let (algorithm, line) = PADDINGS[0];
        let _ = object(site, "key create --origin external --alias alias/mine");
        shell(site, "openssl rand -out KeyMaterial.bin 32");
        wrap(site, "alias/mine", algorithm, line);
        let import = at(site, &format!("key import alias/mine {IMPORT}"));
        let timed = object(site, &format!("{import} --expires 2099-01-01T00:00:00Z"));
        assert_eq!(timed["material_expires_at"], "2099-01-01T00:00:00.000Z");
        assert!(said(site, "key describe alias/mine").contains("material expires "));
        let blob = claviger(site, &["encrypt", "alias/mine"], b"secret").stdout;

        assert_eq!(object(site, "key delete-material alias/mine --yes")["state"], "PendingImport");
        refused(site, &["decrypt"], &blob, "InvalidKeyState");
        refused(site, &words("key delete-material alias/mine"), b"", "InvalidKeyState");
        let again = object(site, &import);
        assert_eq!(again["key_version_id"], timed["key_version_id"], "the same version");
        assert_eq!(
            claviger_json(site, &["decrypt"], &blob).json()["key_version_id"],
            timed["key_version_id"]
        );

        // Another material, another key's token, a token that isn't one, a time that is over.
        refused(site, &words(&format!("{import} --expires 2020-01-01T00:00:00Z")), b"", "InvalidArgument");
        shell(site, "openssl rand -out KeyMaterial.bin 32");
        wrap(site, "alias/mine", algorithm, line);
        refused(site, &words(&import), b"", "MaterialMismatch");
        let _ = object(site, "key create --origin external --alias alias/other");
        let other = at(site, &format!("key import alias/other {IMPORT}"));
        refused(site, &words(&other), b"", "InvalidImportToken");
        shell(site, "printf bm8gdG9rZW4= > token.txt");
        refused(site, &words(&import), b"", "InvalidImportToken");
        shell(site, "head -c 16 KeyMaterial.bin > short && mv short KeyMaterial.bin");
        wrap(site, "alias/other", algorithm, line);
        refused(site, &words(&other), b"", "InvalidMaterial");
    });
}

#[test]
fn keys_of_our_own_making_take_no_material() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let _ = object(site, "key create --alias alias/ours");
        let params = at(site, "key import-params alias/ours --public-key-out @p --token-out @t");
        refused(site, &words(&params), b"", "UnsupportedByKey");
        refused(site, &words("key delete-material alias/ours"), b"", "UnsupportedByKey");
        let _ = object(site, "key create --origin external --alias alias/mine");
        for flags in ["--wrapping-spec SM2 --algorithm RSAES_OAEP_SHA_1", "--algorithm SM2PKE"] {
            let line = format!("key import-params alias/mine {flags} --public-key-out @p --token-out @t");
            refused(site, &words(&at(site, &line)), b"", "InvalidArgument");
        }
    });
}
