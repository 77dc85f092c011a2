//! Digests, and MAC keys in memory.

use ::hmac::{Hmac, KeyInit, Mac};
use aws_lc_rs::{digest as sha, hmac};
use claviger_protocol::{Code, DigestAlgorithm, MacAlgorithm, SecretBytes};
use sm3::{Digest, Sm3};

use crate::failure::Failure;

/// Lengths of MAC key material, in bytes.
const MATERIAL: std::ops::RangeInclusive<usize> = 32..=64;

/// The digest of a message.
#[must_use]
pub fn digest(algorithm: DigestAlgorithm, message: &[u8]) -> Vec<u8> {
    match algorithm {
        DigestAlgorithm::Sm3 => Sm3::digest(message).to_vec(),
        DigestAlgorithm::Sha256 => sha::digest(&sha::SHA256, message).as_ref().to_vec(),
        DigestAlgorithm::Sha384 => sha::digest(&sha::SHA384, message).as_ref().to_vec(),
        DigestAlgorithm::Sha512 => sha::digest(&sha::SHA512, message).as_ref().to_vec(),
    }
}

/// A MAC key in the clear; wiped when dropped.
pub struct MacKey(Kind);

enum Kind {
    Sha(Box<hmac::Key>),
    Sm3(Box<Hmac<Sm3>>),
}

impl MacKey {
    /// Takes 32 to 64 bytes.
    ///
    /// # Errors
    /// Another length.
    pub fn new(algorithm: MacAlgorithm, material: &SecretBytes) -> Result<Self, Failure> {
        let wrong = || Failure::new(Code::Internal, "MAC key material of a wrong length");
        if !MATERIAL.contains(&material.len()) {
            return Err(wrong());
        }
        let key = material.expose();
        Ok(Self(match algorithm {
            MacAlgorithm::HmacSha256 => Kind::Sha(Box::new(hmac::Key::new(hmac::HMAC_SHA256, key))),
            MacAlgorithm::HmacSha384 => Kind::Sha(Box::new(hmac::Key::new(hmac::HMAC_SHA384, key))),
            MacAlgorithm::HmacSha512 => Kind::Sha(Box::new(hmac::Key::new(hmac::HMAC_SHA512, key))),
            MacAlgorithm::HmacSm3 => Kind::Sm3(Box::new(Hmac::new_from_slice(key).map_err(|_| wrong())?)),
        }))
    }

    /// The MAC of a message, whole.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Kind::Sha(key) => hmac::sign(key, message).as_ref().to_vec(),
            Kind::Sm3(key) => (**key).clone().chain_update(message).finalize().into_bytes().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        hex::encode(bytes)
    }

    /// GB/T 32905-2016 annex A, and FIPS 180-4's "abc".
    #[test]
    fn digests_are_the_standards_own() {
        assert_eq!(
            hex(&digest(DigestAlgorithm::Sm3, b"abc")),
            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
        );
        assert_eq!(
            hex(&digest(DigestAlgorithm::Sm3, &b"abcd".repeat(16))),
            "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"
        );
        assert_eq!(
            hex(&digest(DigestAlgorithm::Sha256, b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        for &algorithm in DigestAlgorithm::ALL {
            assert_eq!(digest(algorithm, b"").len(), algorithm.len());
        }
    }

    #[test]
    fn a_mac_depends_on_key_message_and_algorithm() {
        let key = |byte| SecretBytes::new(vec![byte; 32]);
        for &algorithm in MacAlgorithm::ALL {
            let mac = MacKey::new(algorithm, &key(1)).unwrap().mac(b"m");
            assert_eq!(mac.len(), algorithm.digest().len());
            assert_ne!(mac, MacKey::new(algorithm, &key(2)).unwrap().mac(b"m"));
            assert_ne!(mac, MacKey::new(algorithm, &key(1)).unwrap().mac(b"n"));
            for len in [0, 31, 65] {
                assert!(MacKey::new(algorithm, &SecretBytes::new(vec![1; len])).is_err());
            }
        }
    }
}
