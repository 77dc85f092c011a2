//! Key pairs, MACs, digests and exported data keys, by others than our own code: the
//! independent reader of the specification, and OpenSSL as the README has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;

use claviger_protocol::body::CreateKeyRequest;
use claviger_protocol::{Code, KeySpec, KeyUsage, Protection};
use claviger_tests::keys::new_key;
use claviger_tests::programs::{binary, run, text, tool};
use claviger_tests::{Daemon, Site, Token, each_token};
use serde_json::Value;

fn decoder(args: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("decoder/decoder.py");
    serde_json::from_slice(&tool(Command::new("python3").arg("-B").arg(script).args(args))).unwrap()
}

/// A key, unless no HSM of this domain can hold it.
fn made(daemon: &Daemon, spec: KeySpec, usage: KeyUsage, level: Protection) -> Option<String> {
    let request = CreateKeyRequest { spec, usage: Some(usage), ..new_key(level) };
    match daemon.admin().call(request) {
        Ok(reply) => Some(reply.key_id.to_string()),
        Err(refusal) if refusal.code == Code::UnsupportedByHsm && level == Protection::Hsm => None,
        Err(refusal) => panic!("{spec} {level}: {}", refusal.message),
    }
}

/// What the independent decoder has to say about every usage of the specs; gives how many there were.
fn compared(daemon: &Daemon, level: Protection, specs: impl Iterator<Item = KeySpec>) -> usize {
    let socket = daemon.site().app_socket();
    let app = text(&socket);
    let mut count = 0;
    for spec in specs {
        for &usage in spec.usages() {
            let Some(key) = made(daemon, spec, usage, level) else { continue };
            match usage {
                KeyUsage::GenerateVerifyMac => {
                    let said = decoder(&["macs", app, &key, spec.name()]);
                    assert_eq!(said["length"], spec.mac_algorithm().unwrap().digest().len(), "{said}");
                }
                _ if spec.pair().is_some() => {
                    let said = decoder(&["pair", app, &key]);
                    assert_eq!(
                        (&said["spec"], &said["key_id"]),
                        (&spec.name().into(), &key.into()),
                        "{said}"
                    );
                    assert!(said["checked"].as_u64().unwrap() >= 2, "{said}");
                }
                _ => {
                    let said = decoder(&["encrypt", app, &key]);
                    assert!(said["suite"].as_str().unwrap().contains("_GCM_"), "{said}");
                }
            }
            count += 1;
        }
    }
    count
}

#[test]
fn the_independent_decoder_agrees_about_every_spec_in_software() {
    let daemon = Site::new(Token::Embedded).start();
    assert_eq!(compared(&daemon, Protection::Software, KeySpec::ALL.iter().copied()), 16);
    daemon.terminate();
}

#[test]
fn the_independent_decoder_agrees_about_every_spec_in_hsms() {
    for token in each_token() {
        let daemon = Site::new(token).start();
        // One size of RSA, as tokens take seconds for the longer ones. No SM4, SM2 and HMAC_SM3: these
        // tokens have none of them.
        let longer = [KeySpec::Rsa3072, KeySpec::Rsa4096];
        let specs = KeySpec::ALL.iter().copied().filter(|spec| !longer.contains(spec));
        assert_eq!(compared(&daemon, Protection::Hsm, specs), 8);
        daemon.terminate();
    }
}

#[test]
fn the_independent_decoder_gets_pairs_and_exported_data_keys() {
    let daemon = Site::new(Token::Embedded).start();
    let app = daemon.site().app_socket();
    for (spec, level, pairs) in [
        (KeySpec::Aes256, Protection::Hsm, &["RSA_2048", "EC_P256", "SM2"][..]),
        (KeySpec::Aes256, Protection::Software, &["EC_P384"]),
        (KeySpec::Sm4, Protection::Software, &["SM2"]),
    ] {
        let key = made(&daemon, spec, KeyUsage::EncryptDecrypt, level).expect("every domain has these");
        for pair in pairs {
            let said = decoder(&["data-keys", text(&app), &key, pair]);
            let exports = [("RSA_2048", 3), ("SM2", 1)].into_iter().find(|(name, _)| name == pair);
            assert_eq!(said["exported"], exports.map_or(0, |(_, count)| count), "{said}");
        }
    }
    daemon.terminate();
}

/// The README's section of that heading, as one script.
fn readme(heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let section = readme.split(heading).nth(1).expect("the heading").split("\nFrom Rust").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_readmes_lines_about_key_pairs_do_what_they_say() {
    let daemon = Site::new(Token::Embedded).start();
    let script = readme("### Signatures, key pairs, MACs");
    assert!(script.matches("claviger ").count() >= 15, "{script}");
    let script = script.replace("/tmp/claviger/", &format!("{}/", text(daemon.site().dir())));
    let demo = "claviger key create --alias alias/demo";
    let path = format!("{}:{}", text(binary("claviger").parent().unwrap()), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euxo", "pipefail", "-c", &format!("{demo}\n{script}")]);
    command.env("PATH", path).env("CLAVIGER_SOCKET", daemon.site().admin_socket());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["Verified OK\n", "Signature Verified Successfully\n", "\nsecret\n", "\nvalid\n"] {
        assert!(said.contains(part), "{part:?} isn't in {said}");
    }
    daemon.terminate();
}
