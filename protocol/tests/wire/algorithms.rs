//! The golden signatures, ciphertexts, MACs and digests beside aws-lc-rs, as far as it has
//! the algorithm: the SM family is checked where it is computed, with the same vectors.

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use aws_lc_rs::{digest, hmac};
use claviger_protocol::{
    DigestAlgorithm, EncryptionAlgorithm, KeySpec, MacAlgorithm, MessageType, SigningAlgorithm,
};

use crate::common::{bytes, text, vectors};

fn hash(algorithm: DigestAlgorithm) -> Option<&'static digest::Algorithm> {
    match algorithm {
        DigestAlgorithm::Sm3 => None,
        DigestAlgorithm::Sha256 => Some(&digest::SHA256),
        DigestAlgorithm::Sha384 => Some(&digest::SHA384),
        DigestAlgorithm::Sha512 => Some(&digest::SHA512),
    }
}

fn verifier(algorithm: SigningAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        SigningAlgorithm::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
        SigningAlgorithm::RsaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
        SigningAlgorithm::RsaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
        SigningAlgorithm::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SigningAlgorithm::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SigningAlgorithm::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        SigningAlgorithm::EcdsaSha256 => &signature::ECDSA_P256_SHA256_ASN1,
        SigningAlgorithm::EcdsaSha384 => &signature::ECDSA_P384_SHA384_ASN1,
        SigningAlgorithm::Sm2Dsa => return None,
    })
}

#[test]
fn signatures_are_valid_where_the_vectors_say_so() {
    let (mut checked, mut valid) = (0, 0);
    for vector in vectors("signatures") {
        let name = text(&vector, "name");
        let algorithm: SigningAlgorithm = text(&vector, "algorithm").parse().unwrap();
        let spec: KeySpec = text(&vector, "spec").parse().unwrap();
        assert!(spec.signing_algorithms().contains(&algorithm), "{name}");
        let Some(verifier) = verifier(algorithm) else { continue };
        let key = ParsedPublicKey::new(verifier, bytes(&vector, "public_key")).unwrap();
        let (message, signature) = (bytes(&vector, "message"), bytes(&vector, "signature"));
        let found = if text(&vector, "message_type") == MessageType::Digest.name() {
            assert_eq!(message.len(), algorithm.digest().len(), "{name}");
            let hash = hash(algorithm.digest()).unwrap();
            key.verify_digest_sig(&digest::Digest::import_less_safe(&message, hash).unwrap(), &signature)
        } else {
            key.verify_sig(&message, &signature)
        };
        assert_eq!(found.is_ok(), vector["valid"].as_bool().unwrap(), "{name}");
        checked += 1;
        valid += u32::from(found.is_ok());
    }
    assert!(checked > 60 && valid >= 24, "{checked} {valid}");
}

#[test]
fn ciphertexts_open_where_the_vectors_say_so() {
    let mut checked = 0;
    for vector in vectors("ciphertexts") {
        let name = text(&vector, "name");
        let padding = match text(&vector, "algorithm").parse().unwrap() {
            EncryptionAlgorithm::RsaesOaepSha1 => &OAEP_SHA1_MGF1SHA1,
            EncryptionAlgorithm::RsaesOaepSha256 => &OAEP_SHA256_MGF1SHA256,
            EncryptionAlgorithm::Sm2Pke => continue,
        };
        let key = PrivateDecryptingKey::from_pkcs8(&bytes(&vector, "private_key")).unwrap();
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        let mut out = vec![0; key.min_output_size()];
        let opened =
            key.decrypt(padding, &bytes(&vector, "ciphertext"), &mut out, None).ok().map(|out| &*out);
        let wanted = vector["plaintext"].as_str().map(|hex| hex::decode(hex).unwrap());
        assert_eq!(opened, wanted.as_deref(), "{name}");
        checked += 1;
    }
    assert!(checked > 14, "{checked}");
}

#[test]
fn macs_and_digests_are_those_of_the_vectors() {
    let mut checked = 0;
    for vector in vectors("macs") {
        let algorithm: MacAlgorithm = text(&vector, "algorithm").parse().unwrap();
        let (key, mac) = (bytes(&vector, "key"), bytes(&vector, "mac"));
        let spec = KeySpec::ALL.iter().find(|spec| spec.mac_algorithm() == Some(algorithm)).unwrap();
        assert_eq!((spec.secret_len(), algorithm.digest().len()), (Some(key.len()), mac.len()));
        let with = match algorithm {
            MacAlgorithm::HmacSha256 => hmac::HMAC_SHA256,
            MacAlgorithm::HmacSha384 => hmac::HMAC_SHA384,
            MacAlgorithm::HmacSha512 => hmac::HMAC_SHA512,
            MacAlgorithm::HmacSm3 => continue,
        };
        let found = hmac::sign(&hmac::Key::new(with, &key), &bytes(&vector, "message"));
        assert_eq!(found.as_ref(), mac, "{}", vector["name"]);
        checked += 1;
    }
    for vector in vectors("digests") {
        let algorithm: DigestAlgorithm = text(&vector, "algorithm").parse().unwrap();
        let (message, wanted) = (bytes(&vector, "message"), bytes(&vector, "digest"));
        assert_eq!(wanted.len(), algorithm.len());
        let found = match hash(algorithm) {
            Some(hash) => digest::digest(hash, &message).as_ref().to_vec(),
            None => <sm3::Sm3 as sm3::Digest>::digest(&message).to_vec(),
        };
        assert_eq!(found, wanted, "{}", vector["name"]);
        checked += 1;
    }
    assert!(checked > 45, "{checked}");
}
