//! Bringing key material over the wire: every layout by OpenSSL's command line and by an
//! independent implementation, on both tokens and levels. What must not come in is in
//! `import_life`, what time does to tokens in the simulation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;

use claviger_protocol::body::ImportKeyMaterialReply;
use claviger_protocol::{Code, ImportAlgorithm, KeySpec, KeyState, KeyUsage, Protection, WrappingKeySpec};
use claviger_tests::audit::{events, path};
use claviger_tests::cli::claviger_json;
use claviger_tests::imports::{mac, now, request, theirs, wrap};
use claviger_tests::keys::LEVELS;
use claviger_tests::pairs::{opening, openssl, public_key, signing, verifying, write};
use claviger_tests::programs::tool;
use claviger_tests::{Site, Token, Wire, each_token, eventually, on_both_tokens};
use uuid::Uuid;

const RSA: [ImportAlgorithm; 4] = [
    ImportAlgorithm::RsaesPkcs1V15,
    ImportAlgorithm::RsaesOaepSha1,
    ImportAlgorithm::RsaesOaepSha256,
    ImportAlgorithm::RsaAesKeyWrapSha256,
];
const RSA_2048: WrappingKeySpec = WrappingKeySpec::Rsa2048;

/// The seeds' own lines (003, 004), the public key's decoding and the material's encoding included.
const BEGIN: &str = "openssl rand -out KeyMaterial.bin 32
openssl enc -d -base64 -A -in PublicKey_base64.txt -out PublicKey.bin";
const END: &str =
    "openssl enc -e -base64 -A -in EncryptedKeyMaterial.bin -out EncryptedKeyMaterial_base64.txt";
const LINES: [(ImportAlgorithm, &str); 3] = [
    (
        ImportAlgorithm::RsaesOaepSha256,
        "cp KeyMaterial.bin PlaintextKeyMaterial.bin
openssl pkeyutl -in PlaintextKeyMaterial.bin -inkey PublicKey.bin -out EncryptedKeyMaterial.bin -keyform der -pubin -encrypt -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256",
    ),
    (
        ImportAlgorithm::RsaesPkcs1V15,
        "cp KeyMaterial.bin PlaintextKeyMaterial.bin
openssl rsautl -encrypt -in PlaintextKeyMaterial.bin -pkcs -inkey PublicKey.bin -keyform der -pubin -out EncryptedKeyMaterial.bin",
    ),
    (
        ImportAlgorithm::RsaesOaepSha1,
        "openssl rsautl -encrypt -in KeyMaterial.bin -oaep -inkey PublicKey.bin  -keyform DER  -pubin -out EncryptedKeyMaterial.bin",
    ),
];

/// HMAC by OpenSSL, outside.
fn mac_outside(dir: &Path, spec: KeySpec, secret: &[u8]) -> Vec<u8> {
    write(dir, "message", b"message");
    let digest = spec.mac_algorithm().unwrap().digest().name().replace('_', "-");
    let key = format!("hexkey:{}", hex::encode(secret));
    let args = ["mac", "-digest", &digest, "-macopt", &key, "-in", "message", "-binary", "HMAC"];
    let (done, mac) = openssl(dir, &args);
    assert!(done);
    mac
}

/// What each token does by itself; the other layouts go through memory.
fn inside(token: Token, level: Protection, algorithm: ImportAlgorithm) -> bool {
    let can = match token {
        Token::Embedded => algorithm != ImportAlgorithm::RsaesPkcs1V15,
        _ => matches!(algorithm, ImportAlgorithm::RsaesPkcs1V15 | ImportAlgorithm::RsaesOaepSha1),
    };
    level == Protection::Hsm && can
}

#[test]
fn the_seeds_command_lines_end_in_an_enabled_key() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let mut wire = daemon.admin();
        for level in LEVELS {
            for (algorithm, line) in LINES {
                let dir = tempfile::tempdir().unwrap();
                let key = wire.create_external(KeySpec::Aes256, None, level).unwrap();
                let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
                let (key_name, method) = (key.to_string(), algorithm.name());
                let (public, token_file) = (file("PublicKey_base64.txt"), file("token_base64.txt"));
                let asked =
                    ["key", "import-params", &key_name, "--algorithm", method, "--encoding", "base64"];
                let files = ["--public-key-out", &public, "--token-out", &token_file];
                let given = claviger_json(&site, &[&asked[..], &files].concat(), b"").json();
                assert!(given["expires_at"].as_str().is_some(), "{given}");
                let script = [BEGIN, line, END].join("\n");
                tool(Command::new("sh").args(["-e", "-c", &script]).current_dir(dir.path()));
                let material = file("EncryptedKeyMaterial_base64.txt");
                let sent = ["key", "import", &key_name, "--material", &material, "--token", &token_file];
                let done = claviger_json(&site, &[&sent[..], &["--encoding", "base64"]].concat(), b"").json();
                assert_eq!(done["state"], "Enabled", "{level} {algorithm}");
                let through_memory = done["through_memory"].as_bool().unwrap();
                assert_eq!(through_memory, !inside(token, level, algorithm), "{level} {algorithm}");
                let blob = wire.encrypt(key, b"text");
                assert_eq!(wire.decrypt(&blob), Ok(b"text".to_vec()));
                let mut logged = events(&path(&site)).into_iter().filter(|event| event.resources == [key]);
                let logged = logged.rfind(|event| event.operation == "importKeyMaterial").unwrap();
                let detail = if through_memory { "through memory" } else { "inside the HSM" };
                assert_eq!((logged.outcome.as_str(), logged.detail.as_str()), ("Ok", detail));
            }
        }
        daemon.terminate();
    }
}

/// Brings what the oracle makes of it.
fn bring(
    wire: &mut Wire,
    dir: &Path,
    key: Uuid,
    (wrapping, algorithm): (WrappingKeySpec, ImportAlgorithm),
    (kind, material, two): (&str, &[u8], bool),
) -> ImportKeyMaterialReply {
    // A large pair takes long to make; whoever asks again finds one made ahead.
    let given = eventually("a wrapping key", || wire.import_parameters(key, wrapping, algorithm).ok());
    assert!(given.expires_at > now() + 23 * 60 * 60 * 1000);
    let parts = wrap(dir, &given.public_key.0, algorithm, kind, material, two);
    wire.call(request(key, &given.token.0, parts, None)).unwrap()
}

#[test]
fn secrets_of_every_layout_are_what_was_sent() {
    let sm2 = (WrappingKeySpec::Sm2, ImportAlgorithm::Sm2Pke);
    let ways: Vec<_> = RSA.iter().map(|algorithm| (RSA_2048, *algorithm)).chain([sm2]).collect();
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        for level in LEVELS {
            for (spec, length) in [(KeySpec::Hmac256, 32), (KeySpec::Hmac256, 45), (KeySpec::Hmac512, 40)] {
                for way in ways.iter().step_by(if length == 32 { 1 } else { 3 }) {
                    let secret: Vec<u8> = (1..=length).collect();
                    let key = wire.create_external(spec, None, level).unwrap();
                    let done = bring(&mut wire, dir.path(), key, *way, ("secret", &secret, false));
                    assert_eq!(done.state, KeyState::Enabled);
                    let outside = mac_outside(dir.path(), spec, &secret);
                    assert_eq!(mac(&mut wire, key), Ok(outside), "{level} {spec} {length} {way:?}");
                }
            }
        }
        // SM4 and HMAC-SM3 at the level that always has them.
        for (spec, length) in [(KeySpec::Sm4, 16), (KeySpec::HmacSm3, 64)] {
            for way in &ways {
                let secret: Vec<u8> = (1..=length).collect();
                let key = wire.create_external(spec, None, Protection::Software).unwrap();
                bring(&mut wire, dir.path(), key, *way, ("secret", &secret, false));
                if spec == KeySpec::HmacSm3 {
                    assert_eq!(mac(&mut wire, key), Ok(mac_outside(dir.path(), spec, &secret)));
                } else {
                    let blob = wire.encrypt(key, b"text");
                    assert_eq!(wire.decrypt(&blob), Ok(b"text".to_vec()));
                }
            }
        }
        for larger in [WrappingKeySpec::Rsa3072, WrappingKeySpec::Rsa4096] {
            let key = wire.create_external(KeySpec::Hmac256, None, Protection::Hsm).unwrap();
            let way = (larger, ImportAlgorithm::RsaAesKeyWrapSha256);
            bring(&mut wire, dir.path(), key, way, ("secret", &[7; 32], false));
            assert_eq!(mac(&mut wire, key), Ok(mac_outside(dir.path(), KeySpec::Hmac256, &[7; 32])));
        }
    });
}

#[test]
fn pairs_of_every_layout_are_what_was_sent() {
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        for level in LEVELS {
            for (spec, usage) in [
                (KeySpec::Rsa2048, KeyUsage::SignVerify),
                (KeySpec::Rsa2048, KeyUsage::EncryptDecrypt),
                (KeySpec::EcP256, KeyUsage::SignVerify),
                (KeySpec::EcP384, KeyUsage::SignVerify),
                (KeySpec::Sm2, KeyUsage::SignVerify),
            ] {
                if spec == KeySpec::Sm2 && level == Protection::Hsm {
                    continue;
                }
                let rare = usage == KeyUsage::EncryptDecrypt || spec == KeySpec::EcP384;
                for algorithm in RSA.into_iter().step_by(if rare { 3 } else { 1 }) {
                    let (pkcs8, spki) = theirs(dir.path(), spec);
                    let key = wire.create_external(spec, Some(usage), level).unwrap();
                    let two = algorithm != ImportAlgorithm::RsaAesKeyWrapSha256;
                    bring(&mut wire, dir.path(), key, (RSA_2048, algorithm), ("pkcs8", &pkcs8, two));
                    assert_eq!(public_key(&mut wire, key), spki, "{level} {spec} {algorithm}");
                    does_its_work(&mut wire, dir.path(), key, spec, usage);
                }
            }
        }
        for two in [true, false] {
            let (pkcs8, spki) = theirs(dir.path(), KeySpec::Sm2);
            let usage = KeyUsage::SignVerify;
            let key = wire.create_external(KeySpec::Sm2, Some(usage), Protection::Software).unwrap();
            let way = (WrappingKeySpec::Sm2, ImportAlgorithm::Sm2Pke);
            bring(&mut wire, dir.path(), key, way, ("scalar", &pkcs8[36..68], two));
            assert_eq!(public_key(&mut wire, key), spki);
            does_its_work(&mut wire, dir.path(), key, KeySpec::Sm2, usage);
        }
    });
}

/// A token with SM2 has the wrapping key too, and SM material goes where SM keys are.
#[test]
fn sm_material_comes_into_a_token_that_has_sm() {
    let daemon = Site::new(Token::Sm("complete")).start();
    let dir = tempfile::tempdir().unwrap();
    let mut wire = daemon.admin();
    let level = Protection::Hsm;
    let sm2 = (WrappingKeySpec::Sm2, ImportAlgorithm::Sm2Pke);
    for way in [sm2, (RSA_2048, RSA[0]), (RSA_2048, RSA[1]), (RSA_2048, RSA[3])] {
        let key = wire.create_external(KeySpec::HmacSm3, None, level).unwrap();
        bring(&mut wire, dir.path(), key, way, ("secret", &[3; 48], false));
        assert_eq!(mac(&mut wire, key), Ok(mac_outside(dir.path(), KeySpec::HmacSm3, &[3; 48])));
        let key = wire.create_external(KeySpec::Sm4, None, level).unwrap();
        bring(&mut wire, dir.path(), key, way, ("secret", &[3; 16], false));
        let blob = wire.encrypt(key, b"text");
        let same = wire.import_secret(dir.path(), key, &[3; 16], None).unwrap();
        assert_eq!(wire.decrypt(&blob), Ok(b"text".to_vec()), "{same:?}");
        let other = wire.import_secret(dir.path(), key, &[4; 16], None).unwrap_err();
        assert_eq!(other.code, Code::MaterialMismatch);
    }
    for (way, kind, two) in [
        (sm2, "scalar", true),
        (sm2, "scalar", false),
        ((RSA_2048, RSA[1]), "pkcs8", true),
        ((RSA_2048, RSA[3]), "pkcs8", false),
    ] {
        let (pkcs8, spki) = theirs(dir.path(), KeySpec::Sm2);
        let material = if kind == "scalar" { &pkcs8[36..68] } else { &pkcs8 };
        let key = wire.create_external(KeySpec::Sm2, Some(KeyUsage::SignVerify), level).unwrap();
        let done = bring(&mut wire, dir.path(), key, way, (kind, material, two));
        assert!(done.through_memory);
        assert_eq!(public_key(&mut wire, key), spki);
        does_its_work(&mut wire, dir.path(), key, KeySpec::Sm2, KeyUsage::SignVerify);
    }
    daemon.terminate();
}

/// Signs or decrypts what OpenSSL's public half checks or encrypts.
fn does_its_work(wire: &mut Wire, dir: &Path, key: Uuid, spec: KeySpec, usage: KeyUsage) {
    if usage == KeyUsage::SignVerify {
        let request = signing(key, spec.signing_algorithms()[0], b"message");
        let signature = wire.call(request.clone()).unwrap().signature.0;
        assert!(wire.call(verifying(&request, &signature)).unwrap().valid);
        return;
    }
    let algorithm = spec.encryption_algorithms()[0];
    write(dir, "text", b"text");
    let pkeyutl = ["pkeyutl", "-encrypt", "-inkey", "p.pem", "-in", "text"];
    let (done, sealed) = openssl(dir, &[&pkeyutl[..], &["-pkeyopt", "rsa_padding_mode:oaep"]].concat());
    assert!(done);
    assert_eq!(wire.call(opening(key, algorithm, &sealed)).unwrap().plaintext.expose(), b"text");
}
