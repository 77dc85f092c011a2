//! Bringing key material over the wire: every layout by OpenSSL's command line and by an
//! independent implementation, on both tokens and levels, and what must not come in. What time
//! does to tokens is in the simulation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger_protocol::body::{
    DecryptRequest, GenerateMacRequest, ImportKeyMaterialReply, ImportKeyMaterialRequest,
    ListKeyVersionsRequest,
};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    Code, ImportAlgorithm, KeySpec, KeyState, KeyUsage, Protection, SecretBytes, WrappingKeySpec,
};
use claviger_tests::audit::{events, path};
use claviger_tests::cli::claviger_json;
use claviger_tests::imports::{Parts, request, wrap};
use claviger_tests::keys::{LEVELS, decryption};
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

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn mac(wire: &mut Wire, key: Uuid) -> Result<Vec<u8>, Code> {
    let message = SecretBytes::new(b"message".to_vec());
    let made = wire.call(GenerateMacRequest { key: key.into(), algorithm: None, message });
    made.map(|made| made.mac.0).map_err(|refusal| refusal.code)
}

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
                let logged = events(&path(&site)).into_iter().filter(|event| event.resources == [key]);
                let logged = logged.filter(|event| event.operation == "importKeyMaterial").last().unwrap();
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
    let given = wire.import_parameters(key, wrapping, algorithm).unwrap();
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
            // Such a pair takes long to make; whoever asks again finds one made ahead.
            eventually("a large wrapping key", || wire.import_parameters(key, way.0, way.1).ok());
            bring(&mut wire, dir.path(), key, way, ("secret", &[7; 32], false));
            assert_eq!(mac(&mut wire, key), Ok(mac_outside(dir.path(), KeySpec::Hmac256, &[7; 32])));
        }
    });
}

/// A pair of OpenSSL's: PKCS#8 and SPKI.
fn theirs(dir: &Path, spec: KeySpec) -> (Vec<u8>, Vec<u8>) {
    let how = match spec {
        KeySpec::EcP256 => ["EC", "ec_paramgen_curve:P-256"],
        KeySpec::EcP384 => ["EC", "ec_paramgen_curve:P-384"],
        KeySpec::Sm2 => ["EC", "ec_paramgen_curve:SM2"],
        KeySpec::Rsa3072 => ["RSA", "rsa_keygen_bits:3072"],
        _ => ["RSA", "rsa_keygen_bits:2048"],
    };
    assert!(openssl(dir, &["genpkey", "-algorithm", how[0], "-pkeyopt", how[1], "-out", "p.pem"]).0);
    let pkcs8 = openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", "p.pem", "-outform", "DER"]).1;
    (pkcs8, openssl(dir, &["pkey", "-in", "p.pem", "-pubout", "-outform", "DER"]).1)
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

#[test]
fn a_token_is_the_keys_own_and_wears_out() {
    for token in each_token() {
        let site = Site::new(token);
        let mut daemon = site.start();
        for level in LEVELS {
            let dir = tempfile::tempdir().unwrap();
            let mut wire = daemon.admin();
            let [one, other] = [0, 1].map(|_| wire.create_external(KeySpec::Aes256, None, level).unwrap());
            let algorithm = ImportAlgorithm::RsaesOaepSha1;
            let given = wire.import_parameters(one, RSA_2048, algorithm).unwrap();
            let good = wrap(dir.path(), &given.public_key.0, algorithm, "secret", &[1; 32], false);
            let try_it = |wire: &mut Wire, key, token: &[u8], parts: Parts| {
                wire.call(request(key, token, parts, None)).map(|done| done.state).map_err(|r| r.code)
            };
            let token = given.token.0;
            let invalid = Err(Code::InvalidImportToken);
            assert_eq!(try_it(&mut wire, other, &token, good.clone()), invalid, "another key's");
            for at in [0, 15, 16, token.len() - 1] {
                let mut altered = token.clone();
                altered[at] ^= 1;
                assert_eq!(try_it(&mut wire, one, &altered, good.clone()), invalid, "byte {at}");
            }
            for cut in [&token[..0], &token[..16], &token[..token.len() - 1]] {
                assert_eq!(try_it(&mut wire, one, cut, good.clone()), invalid);
            }
            // None of these was a try. Seven that fail, and a restart, leave one.
            let garbage: Parts = (vec![0x42; 256], None);
            for _ in 0..7 {
                assert_eq!(try_it(&mut wire, one, &token, garbage.clone()), Err(Code::InvalidMaterial));
            }
            daemon.kill9();
            daemon = site.start();
            wire = daemon.admin();
            assert_eq!(try_it(&mut wire, one, &token, good.clone()), Ok(KeyState::Enabled));
            assert_eq!(try_it(&mut wire, one, &token, good.clone()), Ok(KeyState::Enabled), "again");
            assert_eq!(try_it(&mut wire, one, &token, garbage.clone()), Err(Code::InvalidMaterial));
            assert_eq!(try_it(&mut wire, one, &token, good.clone()), invalid, "worn out");
            daemon.kill9();
            daemon = site.start();
            wire = daemon.admin();
            assert_eq!(try_it(&mut wire, one, &token, good), invalid, "for good");
            // New parameters serve, and the key is as it was.
            assert_eq!(wire.describe(one).state, KeyState::Enabled);
            assert!(wire.import_secret(dir.path(), one, &[1; 32], None).is_ok());
        }
        daemon.terminate();
    }
}

#[test]
fn whatever_is_wrong_with_material_is_one_answer() {
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        let mut messages = std::collections::BTreeSet::new();
        for level in LEVELS {
            for algorithm in RSA {
                let joined = algorithm == ImportAlgorithm::RsaAesKeyWrapSha256;
                let key = wire.create_external(KeySpec::Aes256, None, level).unwrap();
                let given = wire.import_parameters(key, RSA_2048, algorithm).unwrap();
                let public = given.public_key.0;
                let secret = |bytes: &[u8]| wrap(dir.path(), &public, algorithm, "secret", bytes, false);
                let mut flipped = secret(&[1; 32]);
                flipped.0[100] ^= 1;
                let mut garbage = secret(&[1; 32]);
                garbage.0[..256].fill(0x42);
                let mut two = secret(&[1; 32]);
                two.1 = Some(two.0.clone());
                let cut = (secret(&[1; 32]).0[..255].to_vec(), None);
                let wrong =
                    [secret(&[1; 31]), secret(&[1; 33]), flipped, garbage, two, cut, secret(&[1; 16])];
                for (n, parts) in wrong.into_iter().enumerate() {
                    let refusal = wire.call(request(key, &given.token.0, parts, None)).unwrap_err();
                    assert_eq!(refusal.code, Code::InvalidMaterial, "{level} {algorithm}, {n}");
                    messages.insert(refusal.message);
                }
                let pair = wire.create_external(KeySpec::EcP256, None, level).unwrap();
                let given = wire.import_parameters(pair, RSA_2048, algorithm).unwrap();
                for spec in [KeySpec::EcP384, KeySpec::Rsa2048] {
                    let (pkcs8, _) = theirs(dir.path(), spec);
                    let parts = wrap(dir.path(), &given.public_key.0, algorithm, "pkcs8", &pkcs8, !joined);
                    let refusal = wire.call(request(pair, &given.token.0, parts, None)).unwrap_err();
                    assert_eq!(refusal.code, Code::InvalidMaterial, "{level} {algorithm} {spec}");
                    messages.insert(refusal.message);
                }
                for left in [key, pair] {
                    assert_eq!(wire.describe(left).state, KeyState::PendingImport);
                }
            }
        }
        assert_eq!(messages.len(), 1, "{messages:?}");
    });
}

#[test]
fn ways_that_are_none_get_no_parameters() {
    let daemon = Site::new(Token::Embedded).start();
    let mut wire = daemon.admin();
    for level in LEVELS {
        let aes = wire.create_external(KeySpec::Aes256, None, level).unwrap();
        let p256 = wire.create_external(KeySpec::EcP256, None, level).unwrap();
        for (key, wrapping, algorithm) in [
            (aes, WrappingKeySpec::Sm2, ImportAlgorithm::RsaesOaepSha1),
            (aes, RSA_2048, ImportAlgorithm::Sm2Pke),
            (p256, WrappingKeySpec::Sm2, ImportAlgorithm::Sm2Pke),
        ] {
            let refusal = wire.import_parameters(key, wrapping, algorithm).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidArgument, "{refusal:?}");
        }
        let made_here = wire.create(level);
        let refusal = wire.import_parameters(made_here, RSA_2048, RSA[0]).unwrap_err();
        assert_eq!(refusal.code, Code::UnsupportedByKey, "{refusal:?}");
        let refusal = wire.call(request(made_here, &[1; 48], (vec![1; 256], None), None)).unwrap_err();
        assert_eq!(refusal.code, Code::UnsupportedByKey, "{refusal:?}");
        assert_eq!(wire.delete_material(made_here).unwrap_err().code, Code::UnsupportedByKey);
    }
    daemon.terminate();
}

#[test]
fn material_goes_and_comes_back_and_no_other_takes_its_place() {
    for token in each_token() {
        let site = Site::new(token);
        let mut daemon = site.start();
        for level in LEVELS {
            let dir = tempfile::tempdir().unwrap();
            let mut wire = daemon.admin();
            let (spec, usage) = (KeySpec::Aes256, None);
            let key = wire.create_external(spec, usage, level).unwrap();
            let first = wire.import_secret(dir.path(), key, &[1; 32], None).unwrap();
            let blob = wire.encrypt(key, b"before");
            let mismatch = |wire: &mut Wire| {
                let refused = wire.import_secret(dir.path(), key, &[2; 32], None);
                assert_eq!(refused.unwrap_err().code, Code::MaterialMismatch);
            };
            mismatch(&mut wire);
            for disabled in [false, true] {
                if disabled {
                    wire.switch(key, false);
                }
                assert_eq!(wire.delete_material(key).unwrap().state, KeyState::PendingImport);
                assert_eq!(wire.decrypt(&blob), Err(Code::InvalidKeyState));
                assert_eq!(wire.delete_material(key).unwrap_err().code, Code::InvalidKeyState);
                mismatch(&mut wire);
                daemon.kill9();
                daemon = site.start();
                wire = daemon.admin();
                mismatch(&mut wire);
                let back = wire.import_secret(dir.path(), key, &[1; 32], None).unwrap();
                let before = if disabled { KeyState::Disabled } else { KeyState::Enabled };
                assert_eq!((back.state, back.key_version_id), (before, first.key_version_id));
                if disabled {
                    wire.switch(key, true);
                }
                assert_eq!(wire.decrypt(&blob), Ok(b"before".to_vec()));
            }
            let request = ListKeyVersionsRequest { key: key.into(), limit: 0, page: Bytes::default() };
            assert_eq!(wire.call(request).unwrap().versions.len(), 1);
            // The same material under another key opens nothing of this one's.
            let other = wire.create_external(spec, usage, level).unwrap();
            wire.import_secret(dir.path(), other, &[1; 32], None).unwrap();
            let foreign = decryption(&blob);
            let foreign = DecryptRequest { key: Some(other.into()), ..foreign };
            assert!(wire.call(foreign).is_err());
        }
        daemon.terminate();
    }
}

#[test]
fn material_expires_and_importing_it_again_gives_it_another_end() {
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        for level in LEVELS {
            let key = wire.create_external(KeySpec::Hmac256, None, level).unwrap();
            let given = wire.import_parameters(key, RSA_2048, RSA[2]).unwrap();
            let parts = wrap(dir.path(), &given.public_key.0, RSA[2], "secret", &[1; 32], false);
            let until = |wire: &mut Wire, at| wire.call(request(key, &given.token.0, parts.clone(), at));
            assert_eq!(until(&mut wire, Some(now() - 1)).unwrap_err().code, Code::InvalidArgument);
            let at = now() + 3_000;
            assert_eq!(until(&mut wire, Some(at)).unwrap().material_expires_at, Some(at));
            assert!(mac(&mut wire, key).is_ok());
            eventually("the material expires", || {
                (wire.describe(key).state == KeyState::PendingImport).then_some(())
            });
            // In time: within a second, and a moment for asking.
            assert!((0..2_500).contains(&(now() - at)), "{} ms after", now() - at);
            assert_eq!(mac(&mut wire, key), Err(Code::InvalidKeyState));
            assert_eq!(wire.describe(key).material_expires_at, None);
            // An end that is taken off again.
            let soon = now() + 3_000;
            until(&mut wire, Some(soon)).unwrap();
            assert_eq!(until(&mut wire, None).unwrap().material_expires_at, None);
            std::thread::sleep(Duration::from_millis(u64::try_from(soon - now()).unwrap_or(0) + 2_200));
            assert!(mac(&mut wire, key).is_ok());
        }
        let pair = wire.create_external(KeySpec::EcP256, None, Protection::Hsm).unwrap();
        let algorithm = RSA[1];
        let given = wire.import_parameters(pair, RSA_2048, algorithm).unwrap();
        let (pkcs8, _) = theirs(dir.path(), KeySpec::EcP256);
        let parts = wrap(dir.path(), &given.public_key.0, algorithm, "pkcs8", &pkcs8, true);
        let ending = request(pair, &given.token.0, parts.clone(), Some(now() + 60_000));
        assert_eq!(wire.call(ending).unwrap_err().code, Code::InvalidArgument);
        wire.call(request(pair, &given.token.0, parts, None)).unwrap();
        assert_eq!(wire.delete_material(pair).unwrap_err().code, Code::UnsupportedByKey);
    });
}

#[test]
fn the_same_client_token_imports_once() {
    on_both_tokens(|daemon| {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = daemon.admin();
        let key = wire.create_external(KeySpec::Aes256, None, Protection::Hsm).unwrap();
        let algorithm = ImportAlgorithm::RsaesOaepSha1;
        let given = wire.import_parameters(key, RSA_2048, algorithm).unwrap();
        let parts = wrap(dir.path(), &given.public_key.0, algorithm, "secret", &[1; 32], false);
        let request = request(key, &given.token.0, parts, None);
        let first = wire.call(request.clone()).unwrap();
        assert_eq!(wire.call(request.clone()).unwrap(), first);
        wire.delete_material(key).unwrap();
        // What it first did: the material isn't brought a second time.
        let later = wire.call(request.clone()).unwrap();
        assert_eq!((later.key_version_id, later.state), (first.key_version_id, KeyState::PendingImport));
        let other = ImportKeyMaterialRequest { expires_at: Some(now() + 60_000), ..request };
        assert_eq!(wire.call(other).unwrap_err().code, Code::ClientTokenReused);
    });
}
