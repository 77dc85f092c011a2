//! Key pairs, MACs, digests and exported data keys, by others than our own code: the
//! independent reader of the specification, and OpenSSL as the README has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;

use claviger_protocol::body::CreateKeyRequest;
use claviger_protocol::{Code, KeySpec, KeyUsage, Protection};
use claviger_tests::keys::{LEVELS, new_key};
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

/// Every usage of every spec at every level, with `act`; gives how many there were.
fn each(daemon: &Daemon, act: impl Fn(&str, KeySpec, KeyUsage)) -> usize {
    let mut count = 0;
    for level in LEVELS {
        for &spec in KeySpec::ALL {
            for &usage in spec.usages() {
                let Some(key) = made(daemon, spec, usage, level) else { continue };
                act(&key, spec, usage);
                count += 1;
            }
        }
    }
    count
}

#[test]
#[ignore = "until the daemon has the operations"]
fn the_independent_decoder_agrees_with_the_daemon_about_every_spec() {
    for token in each_token() {
        let daemon = Site::new(token).start();
        let app = daemon.site().app_socket();
        let used = each(&daemon, |key, spec, usage| match usage {
            KeyUsage::GenerateVerifyMac => {
                let said = decoder(&["macs", text(&app), key, spec.name()]);
                assert_eq!(said["length"], spec.mac_algorithm().unwrap().digest().len(), "{said}");
            }
            _ if spec.pair().is_some() => {
                let said = decoder(&["pair", text(&app), key]);
                assert_eq!((&said["spec"], &said["key_id"]), (&spec.name().into(), &key.into()), "{said}");
                assert!(said["checked"].as_u64().unwrap() >= 2, "{said}");
            }
            _ => {
                for pair in ["RSA_2048", "EC_P256", "EC_P384", "SM2"] {
                    let said = decoder(&["data-keys", text(&app), key, pair]);
                    assert_eq!(said["pair"], pair, "{said}");
                }
                decoder(&["encrypt", text(&app), key]);
            }
        });
        // 16 usages of the specs at SOFTWARE level; at HSM level all but the SM family.
        assert!(used >= 16 + 11, "{used}");
        daemon.terminate();
    }
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
#[ignore = "until the daemon has the operations"]
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
