//! Key pairs, MACs, digests and exported data keys on the command line, against a scripted
//! daemon: what is sent, printed, written and exited with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../tests/support/mod.rs"]
mod support;
mod tool;

use std::fs;
use std::path::{Path, PathBuf};

use claviger_protocol::body::{
    AsymmetricDecryptReply, AsymmetricEncryptReply, AsymmetricSignReply, AsymmetricVerifyReply,
    CreateKeyReply, ExportDataKeyReply, GenerateAndExportDataKeyReply, GenerateDataKeyPairReply,
    GenerateDataKeyPairWithoutPlaintextReply, GenerateMacReply, GetPublicKeyReply, MessageDigestReply,
    VerifyMacReply,
};
use claviger_protocol::{
    Code, DataKeySize, DigestAlgorithm, EncryptionAlgorithm, ExportAlgorithm, KeyPairSpec, KeyRef, KeySpec,
    KeyUsage, MacAlgorithm, MessageType, Reply, Request, SigningAlgorithm,
};
use serde_json::{Value, json};
use support::OnThread;
use tool::{Ran, claviger};
use uuid::Uuid;

const KEY: Uuid = Uuid::from_u128(0x11);
const VERSION: Uuid = Uuid::from_u128(0x22);
const IDS: (Uuid, Uuid) = (KEY, VERSION);

/// A SubjectPublicKeyInfo of an RSA key, as far as anybody here looks into it.
const RSA_SPKI: &[u8] =
    &[0x30, 18, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0, 3, 1, 0];
/// The same of an SM2 key.
const SM2_SPKI: &[u8] = &[
    0x30, 26, 0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 1,
    0x82, 0x2d, 3, 3, 0, 4, 9,
];

/// `alias/rsa`, `alias/ec`, `alias/sm2`, `alias/hmac`; others can't be looked up.
fn spec_of(key: &KeyRef) -> Result<(KeySpec, &'static [u8]), (Code, &'static str)> {
    match key.to_string().as_str() {
        "alias/rsa" => Ok((KeySpec::Rsa2048, RSA_SPKI)),
        "alias/ec" => Ok((KeySpec::EcP384, SM2_SPKI)),
        "alias/sm2" => Ok((KeySpec::Sm2, SM2_SPKI)),
        "alias/many" => Err((Code::KeyVersionRequired, "the key has 2 versions; name the one that is meant")),
        "alias/aes" => Err((Code::InvalidKeyUsage, "the key has no public key")),
        _ => Err((Code::AccessDenied, "not allowed, or no such resource")),
    }
}

/// An SM2 ciphertext: coordinates of threes and fours, a hash of fives, and the plaintext.
fn sm2_cipher(plaintext: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let items =
        [&[2, 32][..], &[3; 32], &[2, 32], &[4; 32], &[4, 32], &[5; 32], &[4, length(plaintext)], plaintext]
            .concat();
    [&[0x30, length(&items)], items.as_slice()].concat()
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

/// What is asked is put into what is answered, so that the tests see it.
fn answer(request: Request) -> Result<Reply, (Code, &'static str)> {
    let (key_id, key_version_id) = IDS;
    Ok(match request {
        Request::CreateKey(r) => {
            assert_eq!((r.spec, r.usage), (KeySpec::Sm2, Some(KeyUsage::SignVerify)));
            assert_eq!(r.sm2_user_id.unwrap().0, b"ALICE");
            Reply::CreateKey(CreateKeyReply { key_id, key_version_id: Some(key_version_id) })
        }
        Request::GetPublicKey(r) => {
            let (spec, public_key) = spec_of(&r.key)?;
            let (usage, public_key) = (KeyUsage::SignVerify, public_key.to_vec().into());
            Reply::GetPublicKey(GetPublicKeyReply { key_id, key_version_id, spec, usage, public_key })
        }
        Request::AsymmetricSign(r) => {
            let user = r.user_id.unwrap_or_default().0;
            let kind = u8::from(r.message_type == MessageType::Digest);
            let version = u8::from(r.key_version_id.is_some());
            let head = [&[r.algorithm.number(), kind, version], user.as_slice(), r.message.expose()].concat();
            let signature = head.into();
            Reply::AsymmetricSign(AsymmetricSignReply { key_id, key_version_id, signature })
        }
        Request::AsymmetricVerify(r) => {
            let head = [&[r.algorithm.number(), 0, 0], r.message.expose()].concat();
            let valid = head == r.signature.0;
            Reply::AsymmetricVerify(AsymmetricVerifyReply { key_id, key_version_id, valid })
        }
        Request::AsymmetricEncrypt(r) => {
            let ciphertext = match r.algorithm {
                EncryptionAlgorithm::Sm2Pke => sm2_cipher(r.plaintext.expose()),
                other => [&[other.number()], turned(r.plaintext.expose()).as_slice()].concat(),
            };
            let ciphertext = ciphertext.into();
            Reply::AsymmetricEncrypt(AsymmetricEncryptReply { key_id, key_version_id, ciphertext })
        }
        Request::AsymmetricDecrypt(r) => {
            let plaintext = match r.algorithm {
                EncryptionAlgorithm::Sm2Pke if r.ciphertext.0 != sm2_cipher(b"hi") => {
                    return Err((Code::InvalidCiphertext, "the ciphertext can't be decrypted"));
                }
                EncryptionAlgorithm::Sm2Pke => b"hi".to_vec(),
                other => {
                    assert_eq!(r.ciphertext.0[0], other.number());
                    turned(&r.ciphertext.0[1..])
                }
            };
            let plaintext = plaintext.into();
            Reply::AsymmetricDecrypt(AsymmetricDecryptReply { key_id, key_version_id, plaintext })
        }
        Request::GenerateMac(r) => {
            let mac = [&[r.algorithm.map_or(0, MacAlgorithm::number)], r.message.expose()].concat().into();
            Reply::GenerateMac(GenerateMacReply { key_id, key_version_id, mac })
        }
        Request::VerifyMac(r) => {
            let valid = r.mac.0 == [&[0], r.message.expose()].concat();
            Reply::VerifyMac(VerifyMacReply { key_id, key_version_id, valid })
        }
        Request::MessageDigest(r) => {
            assert_eq!(r.algorithm, DigestAlgorithm::Sm3);
            Reply::MessageDigest(MessageDigestReply { digest: turned(r.message.expose()).into() })
        }
        other => return data_key(other),
    })
}

fn data_key(request: Request) -> Result<Reply, (Code, &'static str)> {
    let (key_id, key_version_id) = IDS;
    let exported = |algorithm: ExportAlgorithm, public_key: &[u8]| {
        let wanted = if algorithm == ExportAlgorithm::Sm2Pke { SM2_SPKI } else { RSA_SPKI };
        assert_eq!(public_key, wanted);
        vec![algorithm.number(); 3].into()
    };
    Ok(match request {
        Request::GenerateDataKeyPair(r) => Reply::GenerateDataKeyPair(GenerateDataKeyPairReply {
            key_id,
            key_version_id,
            public_key: vec![r.pair_spec.number()].into(),
            private_key: vec![b'k'; 48].into(),
            ciphertext_blob: b"blob".to_vec().into(),
        }),
        Request::GenerateDataKeyPairWithoutPlaintext(r) => {
            assert_eq!(r.pair_spec, KeyPairSpec::Sm2);
            Reply::GenerateDataKeyPairWithoutPlaintext(GenerateDataKeyPairWithoutPlaintextReply {
                key_id,
                key_version_id,
                public_key: SM2_SPKI.to_vec().into(),
                ciphertext_blob: b"blob".to_vec().into(),
            })
        }
        Request::ExportDataKey(r) if r.ciphertext_blob.0 != b"blob" => {
            return Err((Code::InvalidCiphertext, "the ciphertext can't be decrypted"));
        }
        Request::ExportDataKey(r) => {
            let exported_data_key = exported(r.algorithm, &r.public_key.0);
            Reply::ExportDataKey(ExportDataKeyReply { key_id, key_version_id, exported_data_key })
        }
        Request::GenerateAndExportDataKey(r) => {
            assert_eq!(r.size, DataKeySize::Bytes(16));
            Reply::GenerateAndExportDataKey(GenerateAndExportDataKeyReply {
                key_id,
                key_version_id,
                ciphertext_blob: b"blob".to_vec().into(),
                exported_data_key: exported(r.algorithm, &r.public_key.0),
            })
        }
        other => panic!("{other:?} isn't sent by these commands"),
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
        Self { daemon, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The words of a line; `@name` is a file of the directory.
    fn run(&self, line: &str, input: &[u8]) -> Ran {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| match word.strip_prefix('@') {
                Some(name) => self.path(name).to_str().unwrap().to_owned(),
                None => word.to_owned(),
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        claviger(Some(self.daemon.path()), &words, input)
    }

    fn stdout(&self, line: &str, input: &[u8]) -> Vec<u8> {
        let ran = self.run(line, input);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
        ran.stdout
    }

    fn object(&self, line: &str, input: &[u8]) -> Value {
        serde_json::from_slice(&self.stdout(&format!("--json {line}"), input)).unwrap()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }
}

fn with_ids(mut object: Value) -> Value {
    object["key_id"] = json!(KEY);
    object["key_version_id"] = json!(VERSION);
    object
}

#[test]
fn keys_are_made_with_usage_and_user_id() {
    let place = Place::new();
    let line = "key create --spec Ctyun_SM2 --usage SIGN_VERIFY --sm2-user-id ALICE";
    assert_eq!(place.object(line, b""), with_ids(json!({})));
}

#[test]
fn public_keys_are_pem_or_der() {
    let place = Place::new();
    let pem = "-----BEGIN PUBLIC KEY-----\nMBIwDQYJKoZIhvcNAQEBBQADAQA=\n-----END PUBLIC KEY-----\n";
    assert_eq!(place.stdout("key public-key alias/rsa", b""), pem.as_bytes());
    assert_eq!(place.stdout("key public-key alias/rsa --format der", b""), RSA_SPKI);
    let coded = place.stdout("key public-key alias/rsa --format der --encoding base64", b"");
    assert_eq!(coded, b"MBIwDQYJKoZIhvcNAQEBBQADAQA=\n");
    let found =
        |key: &str| with_ids(json!({ "public_key": key, "spec": "RSA_2048", "usage": "SIGN_VERIFY" }));
    assert_eq!(place.object("key public-key alias/rsa", b""), found(pem));
    let der = "MBIwDQYJKoZIhvcNAQEBBQADAQA=";
    assert_eq!(place.object("key public-key alias/rsa --format der", b""), found(der));
    let line = format!("key public-key alias/rsa --version {VERSION} --out @pub.pem");
    assert_eq!(place.object(&line, b"").get("public_key"), None);
    assert_eq!(place.file("pub.pem"), pem.as_bytes());
    let ran = place.run("key public-key alias/many", b"");
    assert_eq!((ran.code, ran.error_code()), (1, "KeyVersionRequired"));
}

#[test]
fn a_signature_says_what_was_asked_for() {
    let place = Place::new();
    for (line, head) in [
        ("sign alias/rsa", &[1, 0, 0][..]),
        ("sign alias/ec", &[8, 0, 0]),
        ("sign alias/sm2", &[9, 0, 0]),
        ("sign alias/sm2 --user-id BOB", &[9, 0, 0, b'B', b'O', b'B']),
        ("sign alias/rsa --algorithm RSA_PKCS1_SHA_512 --digest", &[6, 1, 0]),
        ("sign alias/other --algorithm SM2_SM3", &[9, 0, 0]),
    ] {
        assert_eq!(place.stdout(line, b"text"), [head, b"text"].concat(), "{line}");
    }
    let versioned = format!("sign alias/rsa --version {VERSION} --encoding hex");
    assert_eq!(place.stdout(&versioned, b"t"), b"01000174\n");
    let object = json!({ "signature": "CQAAdA==", "algorithm": "SM2DSA" });
    assert_eq!(place.object("sign alias/sm2", b"t"), with_ids(object));
    let ran = place.run("sign alias/other", b"t");
    assert_eq!((ran.code, ran.error_code()), (1, "AccessDenied"));
    assert!(ran.stderr.contains("--algorithm"), "{}", ran.stderr);
    assert_eq!(place.run("sign alias/aes", b"t").error_code(), "InvalidKeyUsage");
    assert_eq!(place.run("sign alias/many", b"t").error_code(), "KeyVersionRequired");
}

#[test]
fn a_wrong_signature_is_exit_1_and_no_error() {
    let place = Place::new();
    place.put("good", &[7, 0, 0, b't']);
    place.put("bad", b"");
    place.put("coded", b"BwAA\ndA==\n");
    place.put("noncode", b"!");
    let verify = "verify alias/ec --algorithm ECDSA_SHA_256 --signature";
    assert_eq!(place.stdout(&format!("{verify} @good"), b"t"), b"valid\n");
    assert_eq!(place.stdout(&format!("{verify} @coded --encoding base64"), b"t"), b"valid\n");
    let ran = place.run(&format!("{verify} @bad"), b"t");
    assert_eq!((ran.code, ran.stdout.as_slice(), ran.stderr.as_str()), (1, &b"not valid\n"[..], ""));
    let ran = place.run(&format!("--json {verify} @bad"), b"t");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((ran.code, object), (1, with_ids(json!({ "valid": false }))));
    assert_eq!(place.object(&format!("{verify} @good"), b"t"), with_ids(json!({ "valid": true })));
    let ran = place.run(&format!("{verify} @noncode --encoding base64"), b"t");
    assert_eq!((ran.code, ran.error_code()), (2, "Usage"));
    // By the key's own algorithm: another signature.
    assert_eq!(place.run("verify alias/ec --signature @good", b"t").code, 1);
}

#[test]
fn a_message_that_no_frame_takes_points_to_its_digest() {
    let place = Place::new();
    let long = vec![0; 1 << 20];
    let ran = place.run("sign alias/ec", &long);
    assert_eq!((ran.code, ran.error_code()), (1, "FrameTooLarge"));
    assert!(ran.stderr.contains("--digest"), "{}", ran.stderr);
    let ran = place.run("digest --algorithm SM3", &long);
    assert!(ran.stderr.contains("openssl dgst -sm3"), "{}", ran.stderr);
    assert_eq!(place.run("mac alias/hmac", &long).error_code(), "FrameTooLarge");
}

#[test]
fn short_messages_go_to_key_pairs_and_come_back() {
    let place = Place::new();
    assert_eq!(place.stdout("asymmetric encrypt alias/rsa", b"ab"), [2, b'b', b'a']);
    let sha1 = "--algorithm RSAES_OAEP_SHA_1 --encoding base64";
    assert_eq!(place.stdout(&format!("asymmetric encrypt alias/rsa {sha1}"), b"ab"), b"AWJh\n");
    assert_eq!(place.stdout(&format!("asymmetric decrypt alias/rsa {sha1}"), b"AWJh\n"), b"ab");
    let object = json!({ "ciphertext": "AmJh", "algorithm": "RSAES_OAEP_SHA_256" });
    assert_eq!(place.object("asymmetric encrypt alias/rsa", b"ab"), with_ids(object));
    let object = json!({ "plaintext": "YWI=", "algorithm": "RSAES_OAEP_SHA_256" });
    assert_eq!(place.object("asymmetric decrypt alias/rsa", &[2, b'b', b'a']), with_ids(object));
    let ran = place.run("asymmetric encrypt alias/ec", b"ab");
    assert_eq!((ran.code, ran.error_code()), (1, "InvalidKeyUsage"));
}

#[test]
fn sm2_ciphertexts_have_three_forms() {
    let place = Place::new();
    let raw = |tail: [&[u8]; 2]| [&[4][..], &[3; 32], &[4; 32], tail[0], tail[1]].concat();
    for (format, form) in
        [("der", sm2_cipher(b"hi")), ("c1c3c2", raw([&[5; 32], b"hi"])), ("c1c2c3", raw([b"hi", &[5; 32]]))]
    {
        let encrypt = format!("asymmetric encrypt alias/sm2 --sm2-format {format}");
        assert_eq!(place.stdout(&encrypt, b"hi"), form, "{format}");
        let decrypt = format!("asymmetric decrypt alias/sm2 --sm2-format {format}");
        assert_eq!(place.stdout(&decrypt, &form), b"hi", "{format}");
    }
    // The other order decrypts to nothing, and a form for RSA is bad usage.
    let other = raw([b"hi", &[5; 32]]);
    let ran = place.run("asymmetric decrypt alias/sm2 --sm2-format c1c3c2", &other);
    assert_eq!((ran.code, ran.error_code()), (1, "InvalidCiphertext"));
    let ran = place.run("asymmetric encrypt alias/rsa --sm2-format c1c3c2", b"hi");
    assert_eq!((ran.code, ran.error_code()), (2, "Usage"));
}

#[test]
fn macs_and_digests_are_made_and_checked() {
    let place = Place::new();
    assert_eq!(place.stdout("mac alias/hmac", b"t"), [0, b't']);
    assert_eq!(place.stdout("mac alias/hmac --algorithm HMAC_SM3 --encoding hex", b"t"), b"0474\n");
    assert_eq!(place.object("mac alias/hmac --out @mac", b"t"), with_ids(json!({})));
    assert_eq!(place.object("mac alias/hmac", b"t"), with_ids(json!({ "mac": "AHQ=" })));
    assert_eq!(place.stdout("verify-mac alias/hmac --mac @mac", b"t"), b"valid\n");
    let ran = place.run("--json verify-mac alias/hmac --mac @mac", b"u");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((ran.code, object), (1, with_ids(json!({ "valid": false }))));
    assert_eq!(place.stdout("digest --algorithm SM3 --encoding hex", b"\xab\x01"), b"01ab\n");
    let object = json!({ "digest": "Aas=", "algorithm": "SM3" });
    assert_eq!(place.object("digest --algorithm SM3", b"\xab\x01"), object);
}

#[test]
fn pairs_go_to_three_places() {
    let place = Place::new();
    let generate = "data-key generate alias/pay --pair EC_P256";
    let files = "--public-key-out @pub --private-key-out @key --blob-out @blob";
    assert_eq!(place.stdout(&format!("{generate} {files}"), b""), b"");
    assert_eq!(place.file("pub"), b"-----BEGIN PUBLIC KEY-----\nBg==\n-----END PUBLIC KEY-----\n");
    let key = String::from_utf8(place.file("key")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\na2tr"), "{key}");
    assert_eq!((tool::mode(&place.path("key")), place.file("blob")), (0o600, b"blob".to_vec()));
    let der = format!("{generate} --format der --public-key-out @pub --blob-out @blob");
    assert_eq!(place.stdout(&der, b""), [b'k'; 48]);
    assert_eq!(place.file("pub"), [6]);
    let object = place.object(&format!("{generate} --format der --private-key-out @key"), b"");
    let left = json!({ "public_key": "Bg==", "ciphertext_blob": "YmxvYg==", "pair": "EC_P256" });
    assert_eq!(object, with_ids(left));
    assert_eq!(place.file("key"), [b'k'; 48]);
    let ran = place.run(generate, b"");
    assert_eq!((ran.code, ran.error_code()), (2, "Usage"));
    assert!(ran.stderr.contains("--private-key-out FILE"), "{}", ran.stderr);
    let ran = place.run(&format!("{generate} --public-key-out @x --private-key-out @x --blob-out @b"), b"");
    assert_eq!((ran.code, ran.error_code()), (2, "Usage"));
    // The last place can't be written: no file appears.
    let full = "--public-key-out @p2 --private-key-out /dev/full --blob-out @b2";
    assert_eq!(place.run(&format!("{generate} {full}"), b"").error_code(), "Output");
    assert_eq!(tool::names(place.dir.path()), ["blob", "key", "pub"]);
}

#[test]
fn pairs_can_be_had_without_their_private_key() {
    let place = Place::new();
    let generate = "data-key generate alias/pay --pair SM2 --without-plaintext";
    let object = place.object(&format!("{generate} --format der"), b"");
    assert_eq!((object["ciphertext_blob"].as_str(), object.get("private_key")), (Some("YmxvYg=="), None));
    assert_eq!(place.stdout(&format!("{generate} --public-key-out @pub --format der"), b""), b"blob");
    assert_eq!(place.file("pub"), SM2_SPKI);
    assert_eq!(place.run(&format!("{generate} --private-key-out @key"), b"").code, 2);
}

#[test]
fn data_keys_are_exported_to_keys_in_any_form() {
    let place = Place::new();
    place.put("rsa.der", RSA_SPKI);
    place.put("sm2.der", SM2_SPKI);
    let pem = "-----BEGIN PUBLIC KEY-----\nMBIwDQYJKoZIhvcNAQEBBQADAQA=\n-----END PUBLIC KEY-----\n";
    place.put("rsa.pem", pem.as_bytes());
    place.put("rsa.b64", b"MBIwDQYJKoZIhvcNAQEBBQADAQA=\n");
    place.put("private.pem", pem.replace("PUBLIC", "PRIVATE").as_bytes());
    place.put("bag.pem", format!("\nBag Attributes\n  friendlyName: x\n{pem}\n\n").as_bytes());
    for (line, blob, want) in [
        ("--public-key @rsa.der", &b"blob"[..], &[2; 3][..]),
        ("--public-key @rsa.pem", b"blob", &[2; 3]),
        ("--public-key @bag.pem", b"blob", &[2; 3]),
        ("--public-key @rsa.b64 --encoding base64", b"YmxvYg==\n", b"AgIC\n"),
        ("--public-key @rsa.der --encoding hex", b"626c6f62", b"020202\n"),
        ("--public-key @rsa.pem --algorithm RSAES_PKCS1_V1_5", b"blob", &[3; 3]),
        ("--public-key @sm2.der --key alias/pay", b"blob", &[4; 3]),
    ] {
        assert_eq!(place.stdout(&format!("data-key export {line}"), blob), want, "{line}");
    }
    let ran = place.run("data-key export --public-key @rsa.b64", b"blob");
    assert!(ran.stderr.contains("--encoding base64"), "{}", ran.stderr);
    let ran = place.run("data-key export --public-key @rsa.der --in @rsa.pem --blob-out @x --out @ex", b"");
    assert_eq!((ran.code, ran.stderr.contains("add --generate KEY")), (2, true), "{}", ran.stderr);
    assert!(!Path::new(&place.path("ex")).exists());
    let object = json!({ "exported_data_key": "BAQE", "algorithm": "SM2PKE" });
    assert_eq!(place.object("data-key export --public-key @sm2.der", b"blob"), with_ids(object));
    let ran = place.run("data-key export --public-key @private.pem", b"blob");
    assert_eq!((ran.code, ran.error_code()), (2, "Usage"));
    assert!(ran.stderr.contains("PRIVATE KEY"), "{}", ran.stderr);
    assert_eq!(place.run("data-key export --public-key @rsa.der", b"x").error_code(), "InvalidCiphertext");
    let made = "data-key export --generate alias/pay --bytes 16 --public-key @rsa.der";
    assert_eq!(place.stdout(&format!("{made} --blob-out @blob --out @exported"), b""), b"");
    assert_eq!((place.file("blob"), place.file("exported")), (b"blob".to_vec(), vec![2; 3]));
    let coded = format!("{made} --blob-out @coded --encoding base64");
    assert_eq!(
        (place.stdout(&coded, b""), place.file("coded")),
        (b"AgIC\n".to_vec(), b"YmxvYg==\n".to_vec())
    );
    let object = json!({ "exported_data_key": "AgIC", "ciphertext_blob": "YmxvYg==", "algorithm": "RSAES_OAEP_SHA_256" });
    assert_eq!(place.object(made, b""), with_ids(object));
    assert_eq!(place.run(made, b"").code, 2, "two results, one stdout");
    assert_eq!(place.run("data-key export --bytes 16 --public-key @rsa.der", b"blob").code, 2);
    assert!(Path::new(&place.path("blob")).exists());
}

#[test]
fn algorithms_have_the_numbers_that_the_tests_above_expect() {
    assert_eq!(SigningAlgorithm::Sm2Dsa.number(), 9);
    assert_eq!(ExportAlgorithm::Sm2Pke.number(), 4);
    assert_eq!(EncryptionAlgorithm::RsaesOaepSha256.number(), 2);
}
