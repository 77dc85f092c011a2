//! The golden blobs and handshakes, checked with aws-lc-rs: a second, independent
//! computation of every key, commitment and tag that the vectors pin.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext as Iv, UnboundCipherKey};
use aws_lc_rs::{hkdf, hmac, iv::FixedLength};
use claviger_protocol::blob::{BlobHeader, BlobRef, authenticated_data};
use claviger_protocol::{EncryptionContext, Suite};
use serde_json::Value;

use crate::common::{bytes, number, text, vectors};

/// The key that GCM uses, and the commitment (`SPEC.md` sections 9.2 to 9.4).
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
        Suite::HsmAes256Direct => (key.to_vec(), Vec::new()),
    }
}

/// HKDF output of 64 bytes.
struct Okm;

impl hkdf::KeyType for Okm {
    fn len(&self) -> usize {
        64
    }
}

fn gcm(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

/// The plaintext of a blob, or which step refused it.
fn open(key: &[u8], blob: &[u8], context: &EncryptionContext) -> Result<Vec<u8>, &'static str> {
    let parts = BlobRef::parse(blob).map_err(|_| "unreadable")?;
    let (key, commitment) = message_key(parts.suite, key, parts.salt, parts.prefix);
    if commitment != parts.commitment {
        return Err("commitment");
    }
    let mut sealed = parts.sealed.to_vec();
    let aad = Aad::from(authenticated_data(parts.header, context));
    let plaintext = gcm(&key).open_in_place(Nonce::assume_unique_for_key(parts.nonce), aad, &mut sealed);
    plaintext.map(|plaintext| plaintext.to_vec()).map_err(|_| "tag")
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
        let aad = Aad::from(authenticated_data(&again, &context(&vector)));
        let mut sealed = plaintext;
        gcm(&message_key)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(header.nonce), aad, &mut sealed)
            .unwrap();
        again.extend_from_slice(&sealed);
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
