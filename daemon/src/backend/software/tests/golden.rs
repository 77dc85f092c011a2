//! The protocol's golden vectors, which were made without this code: every signature,
//! ciphertext, MAC and digest, and the blobs of SOFTWARE keys.

use claviger_protocol::blob::BlobRef;
use claviger_protocol::{
    DigestAlgorithm, EncryptionAlgorithm, EncryptionContext, KeyPairSpec, KeySpec, MacAlgorithm, MessageType,
    SecretBytes, SigningAlgorithm, Suite,
};
use serde_json::Value;

use crate::backend::software::sm2::Sm2Private;
use crate::backend::software::{MacKey, PrivateKey, PublicKey, SoftwareKey, digest};
use crate::failure::Failure;

fn vectors(file: &str, part: &str) -> Vec<Value> {
    let path = format!("{}/../protocol/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let family: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    family[part].as_array().unwrap().clone()
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{}: no text {field}", vector["name"]))
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(vector, field)).unwrap()
}

#[test]
fn signatures_are_valid_where_the_vectors_say_so() {
    let mut valid = 0;
    for vector in vectors("algorithms", "signatures") {
        let name = text(&vector, "name");
        let algorithm: SigningAlgorithm = text(&vector, "algorithm").parse().unwrap();
        let key = PublicKey::from_spki(&bytes(&vector, "public_key")).unwrap();
        assert_eq!(key.spec().map(KeyPairSpec::name), Some(text(&vector, "spec")), "{name}");
        let message = bytes(&vector, "message");
        let user_id = vector["user_id"].as_str().map(|hex| hex::decode(hex).unwrap());
        let digest = if text(&vector, "message_type") == MessageType::Digest.name() {
            message
        } else {
            key.digest_of(algorithm, &message, user_id.as_deref()).unwrap()
        };
        let found = key.verify(algorithm, &digest, &bytes(&vector, "signature"));
        assert_eq!(found, vector["valid"].as_bool().unwrap(), "{name}");
        valid += u32::from(found);
    }
    assert!(valid >= 30, "{valid}");
}

#[test]
fn ciphertexts_open_where_the_vectors_say_so() {
    let mut opened = 0;
    for vector in vectors("algorithms", "ciphertexts") {
        let name = text(&vector, "name");
        let algorithm: EncryptionAlgorithm = text(&vector, "algorithm").parse().unwrap();
        let private = bytes(&vector, "private_key");
        let (spec, material) = if algorithm == EncryptionAlgorithm::Sm2Pke {
            let scalar = ::sm2::NonZeroScalar::try_from(private.as_slice()).unwrap();
            (KeyPairSpec::Sm2, Sm2Private::encoded(&scalar).unwrap().0)
        } else {
            (KeyPairSpec::Rsa2048, SecretBytes::new(private))
        };
        let key = PrivateKey::from_pkcs8(spec, &material).unwrap();
        let found = key.decrypt(algorithm, &bytes(&vector, "ciphertext"));
        match vector["plaintext"].as_str() {
            Some(hex) => {
                assert_eq!(hex::encode(found.unwrap().expose()), hex, "{name}");
                opened += 1;
            }
            None => assert_eq!(found, Err(Failure::ciphertext()), "{name}"),
        }
    }
    assert!(opened >= 9, "{opened}");
}

#[test]
fn macs_and_digests_are_those_of_the_vectors() {
    for vector in vectors("algorithms", "macs") {
        let algorithm: MacAlgorithm = text(&vector, "algorithm").parse().unwrap();
        let key = MacKey::new(algorithm, &SecretBytes::new(bytes(&vector, "key"))).unwrap();
        assert_eq!(key.mac(&bytes(&vector, "message")), bytes(&vector, "mac"), "{}", vector["name"]);
    }
    for vector in vectors("algorithms", "digests") {
        let algorithm: DigestAlgorithm = text(&vector, "algorithm").parse().unwrap();
        assert_eq!(digest(algorithm, &bytes(&vector, "message")), bytes(&vector, "digest"));
    }
}

fn context(vector: &Value) -> EncryptionContext {
    let pairs = vector["context"].as_array().unwrap().iter();
    EncryptionContext::from_pairs(pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())))
        .unwrap()
}

/// The key of a SOFTWARE blob; none for the suites of HSMs.
fn key(suite: Suite, vector: &Value) -> Option<SoftwareKey> {
    let spec = match suite {
        Suite::SoftwareAes256 => KeySpec::Aes256,
        Suite::SoftwareSm4 => KeySpec::Sm4,
        _ => return None,
    };
    let material = bytes(vector, "key");
    assert_eq!(spec.secret_len(), Some(material.len()));
    Some(SoftwareKey::new(suite, &SecretBytes::new(material)).unwrap())
}

#[test]
fn blobs_open_where_the_vectors_say_so() {
    let (mut opened, mut refused) = (0, 0);
    for vector in vectors("blobs", "blobs") {
        let blob = bytes(&vector, "blob");
        let parsed = BlobRef::parse(&blob).unwrap();
        let Some(key) = key(parsed.suite, &vector) else { continue };
        let found = key.open(&parsed, &context(&vector)).unwrap();
        assert_eq!(found.expose(), bytes(&vector, "plaintext"), "{}", vector["name"]);
        opened += 1;
    }
    for vector in vectors("blobs", "refused_blobs") {
        let blob = bytes(&vector, "blob");
        let Ok(parsed) = BlobRef::parse(&blob) else { continue };
        // A flip may name the other suite: its key has another length then.
        let fits = matches!(
            (parsed.suite, bytes(&vector, "key").len()),
            (Suite::SoftwareAes256, 32) | (Suite::SoftwareSm4, 16)
        );
        let Some(key) = fits.then(|| key(parsed.suite, &vector)).flatten() else { continue };
        let found = key.open(&parsed, &context(&vector));
        assert_eq!(found, Err(Failure::ciphertext()), "{}", vector["name"]);
        refused += 1;
    }
    assert!(opened >= 8 && refused >= 150, "{opened} {refused}");
}
