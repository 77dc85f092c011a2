//! The golden blobs and handshakes, checked with aws-lc-rs and RustCrypto's SM crates: a
//! second, independent computation of every key, commitment and tag that the vectors pin.

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext as Iv, UnboundCipherKey};
use aws_lc_rs::{hkdf, hmac, iv::FixedLength};
use claviger_protocol::blob::{BlobHeader, BlobRef, authenticated_data};
use claviger_protocol::{EncryptionContext, KeySpec, Suite};
use serde_json::Value;
use sm3::Sm3;
use sm4::Sm4;

use crate::common::{bytes, number, text, vectors};

/// The key that GCM uses, and the commitment (`SPEC.md` sections 9.2 to 9.7).
fn message_key(suite: Suite, key: &[u8], salt: &[u8], prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    match suite {
        Suite::SoftwareAes256 => {
            let info: [&[u8]; 2] = [b"claviger/v1/aes-256-gcm", prefix];
            let mut okm = [0; 64];
            let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key);
            extracted.expand(&info, Okm).unwrap().fill(&mut okm).unwrap();
            (okm[..32].to_vec(), okm[32..].to_vec())
        }
        Suite::HsmAes256Derived => {
            let mut data = [salt, b"claviger/v1/subk"].concat();
            let cbc = EncryptingKey::cbc(UnboundCipherKey::new(&AES_256, key).unwrap()).unwrap();
            cbc.less_safe_encrypt(&mut data, Iv::Iv128(FixedLength::from([0; 16]))).unwrap();
            (data, Vec::new())
        }
        Suite::SoftwareSm4 => {
            let mut okm = [0; 48];
            let info = [b"claviger/v1/sm4-gcm", prefix].concat();
            ::hkdf::Hkdf::<Sm3>::new(Some(salt), key).expand(&info, &mut okm).unwrap();
            (okm[..16].to_vec(), okm[16..].to_vec())
        }
        Suite::HsmAes256Direct | Suite::HsmSm4Direct => (key.to_vec(), Vec::new()),
    }
}

/// HKDF output of 64 bytes.
struct Okm;

impl hkdf::KeyType for Okm {
    fn len(&self) -> usize {
        64
    }
}

fn aes(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

fn sm4(key: &[u8]) -> AesGcm<Sm4, U12> {
    AesGcm::new_from_slice(key).unwrap()
}

/// Ciphertext and tag.
fn gcm_seal(suite: Suite, key: &[u8], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    if suite.spec() == KeySpec::Sm4 {
        return sm4(key).encrypt(&nonce.into(), Payload { msg: plaintext, aad }).unwrap();
    }
    let mut sealed = plaintext.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    aes(key).seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).unwrap();
    sealed
}

/// The plaintext, if the tag is right.
fn gcm_open(suite: Suite, key: &[u8], nonce: [u8; 12], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    if suite.spec() == KeySpec::Sm4 {
        return sm4(key).decrypt(&nonce.into(), Payload { msg: sealed, aad }).ok();
    }
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    aes(key).open_in_place(nonce, Aad::from(aad), &mut sealed).ok().map(|plaintext| plaintext.to_vec())
}

/// The plaintext of a blob, or which step refused it.
fn open(key: &[u8], blob: &[u8], context: &EncryptionContext) -> Result<Vec<u8>, &'static str> {
    let parts = BlobRef::parse(blob).map_err(|_| "unreadable")?;
    if parts.suite.spec().secret_len() != Some(key.len()) {
        return Err("another suite's key");
    }
    let (key, commitment) = message_key(parts.suite, key, parts.salt, parts.prefix);
    if commitment != parts.commitment {
        return Err("commitment");
    }
    let aad = authenticated_data(parts.header, context);
    gcm_open(parts.suite, &key, parts.nonce, &aad, parts.sealed).ok_or("tag")
}

fn context(vector: &Value) -> EncryptionContext {
    let pairs = vector["context"].as_array().unwrap().iter();
    let pairs = pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    EncryptionContext::from_pairs(pairs).unwrap()
}

#[test]
fn golden_blobs_open_and_are_made_again_byte_for_byte() {
    for vector in vectors("blobs") {
        let name = text(&vector, "name");
        let (key, blob, plaintext) =
            (bytes(&vector, "key"), bytes(&vector, "blob"), bytes(&vector, "plaintext"));
        assert_eq!(open(&key, &blob, &context(&vector)), Ok(plaintext.clone()), "{name}");

        let parts = BlobRef::parse(&blob).unwrap();
        assert_eq!(u64::from(parts.suite.number()), number(&vector, "suite"), "{name}");
        assert_eq!(parts.suite.name(), text(&vector, "suite_name"), "{name}");
        assert_eq!(parts.key_id.to_string(), text(&vector, "key_id"), "{name}");
        assert_eq!(parts.version_id.to_string(), text(&vector, "key_version_id"), "{name}");
        assert_eq!(parts.commitment, bytes(&vector, "commitment"), "{name}");

        let (salt, nonce) = (bytes(&vector, "salt"), bytes(&vector, "nonce"));
        let header = BlobHeader {
            suite: parts.suite,
            key_id: parts.key_id,
            version_id: parts.version_id,
            salt: &salt,
            nonce: nonce.try_into().unwrap(),
        };
        let mut again = header.prefix(0);
        let (message_key, commitment) = message_key(header.suite, &key, &salt, &again);
        again.extend_from_slice(&commitment);
        let aad = authenticated_data(&again, &context(&vector));
        again.extend_from_slice(&gcm_seal(header.suite, &message_key, header.nonce, &aad, &plaintext));
        assert_eq!(hex::encode(again), hex::encode(blob), "{name}");
    }
}

#[test]
fn every_suite_has_blobs_that_open_and_blobs_that_do_not() {
    let accepted = vectors("blobs");
    let refused = vectors("refused_blobs");
    for suite in Suite::ALL {
        let number = u64::from(suite.number());
        assert!(accepted.iter().any(|v| v["suite"] == number), "no golden blob of {suite}");
        let of_suite = refused.iter().filter(|v| bytes(v, "blob").get(5) == Some(&suite.number()));
        assert!(of_suite.count() > suite.header_len(), "too few refused blobs of {suite}");
    }
}

#[test]
fn refused_blobs_do_not_parse_or_do_not_open() {
    for vector in vectors("refused_blobs") {
        let name = text(&vector, "name");
        let blob = bytes(&vector, "blob");
        let unreadable = vector["unreadable"].as_bool().unwrap();
        assert_eq!(BlobRef::parse(&blob).is_err(), unreadable, "{name}");
        assert!(open(&bytes(&vector, "key"), &blob, &context(&vector)).is_err(), "{name}");
    }
}

#[test]
fn handshake_proofs_and_authenticators_are_what_the_text_says() {
    let mut checked = 0;
    for vector in vectors("handshakes").iter().filter(|vector| number(vector, "method") == 1) {
        let mac = |key: &[u8], parts: &[&[u8]]| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat());
            tag.as_ref().to_vec()
        };
        let small = |field| u8::try_from(number(vector, field)).unwrap();
        let counted = |field| {
            let text = text(vector, field);
            [&u16::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
        };
        let transcript = [
            ["method", "min_version", "max_version", "version", "frame_authenticator"].map(small).to_vec(),
            counted("endpoint"),
            counted("access_key"),
            bytes(vector, "client_nonce"),
            bytes(vector, "server_nonce"),
        ]
        .concat();
        assert_eq!(transcript, bytes(vector, "transcript"));
        let secret = bytes(vector, "secret_key");
        for (label, field) in [
            (&b"claviger/v1/hello/client"[..], "client_proof"),
            (b"claviger/v1/hello/server", "server_proof"),
            (b"claviger/v1/hello/frames", "frame_key"),
        ] {
            assert_eq!(mac(&secret, &[label, &transcript]), bytes(vector, field), "{field}");
        }
        for sent in vector["frames"].as_array().unwrap() {
            let direction = [u8::try_from(number(sent, "direction")).unwrap()];
            let sequence = number(sent, "sequence").to_le_bytes();
            let parts: [&[u8]; 3] = [&direction, &sequence, &bytes(sent, "header_and_body")];
            assert_eq!(mac(&bytes(vector, "frame_key"), &parts)[..16], bytes(sent, "authenticator"));
            checked += 1;
        }
    }
    assert!(checked > 0);
}
