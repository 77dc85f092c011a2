//! Ciphertext blobs at SOFTWARE level: AES-256-GCM or SM4-GCM with a key and a commitment
//! of each message's own. Material is in the clear only inside [`SoftwareKey`], wiped on drop.
//!
//! Sources: HKDF, RFC 5869; layout, `SPEC.md` section 9.

use claviger_protocol::blob::{BlobHeader, BlobRef, NONCE_LEN, TAG_LEN, authenticated_data};
use claviger_protocol::{Code, EncryptionContext, SecretBytes, Suite};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::gcm::{GcmKey, hkdf_sha256, hkdf_sm3};
use crate::edge::Entropy;
use crate::failure::Failure;

const AES_INFO: &[u8] = b"claviger/v1/aes-256-gcm";
const SM4_INFO: &[u8] = b"claviger/v1/sm4-gcm";
const AES_LEN: usize = 32;
const SM4_LEN: usize = 16;
const COMMITMENT_LEN: usize = 32;
const SALT_LEN: usize = 32;

/// A SOFTWARE key in the clear, for one of the two suites.
pub struct SoftwareKey {
    suite: Suite,
    key: Zeroizing<Vec<u8>>,
}

impl SoftwareKey {
    /// Takes the material of a suite: 32 bytes for AES_256, 16 for SM4.
    ///
    /// # Errors
    /// Another length, or a suite of the HSM's.
    pub fn new(suite: Suite, material: &SecretBytes) -> Result<Self, Failure> {
        match (suite, material.len()) {
            (Suite::SoftwareAes256, AES_LEN) | (Suite::SoftwareSm4, SM4_LEN) => {
                Ok(Self { suite, key: Zeroizing::new(material.expose().to_vec()) })
            }
            _ => Err(Failure::new(Code::Internal, "key material of a wrong length")),
        }
    }

    /// Encrypts into a whole ciphertext blob.
    ///
    /// # Errors
    /// The generator or the library failed.
    pub fn seal(
        &self,
        (key_id, version_id): (Uuid, Uuid),
        entropy: &Entropy,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, Failure> {
        let salt: [u8; SALT_LEN] = entropy.array()?;
        let nonce: [u8; NONCE_LEN] = entropy.array()?;
        let header = BlobHeader { suite: self.suite, key_id, version_id, salt: &salt, nonce };
        // Room for all of it from the start: a reallocation would leave plaintext behind.
        let mut blob = header.prefix(plaintext.len() + TAG_LEN);
        let message = MessageKey::derive(self.suite, &self.key, &salt, &blob)?;
        blob.extend_from_slice(&message.commitment);
        let aad = authenticated_data(&blob, context);
        let header_len = blob.len();
        blob.extend_from_slice(plaintext);
        let tag = message.key.seal(nonce, &aad, &mut blob[header_len..])?;
        blob.extend_from_slice(&tag);
        Ok(blob)
    }

    /// Opens a blob of the same suite.
    ///
    /// # Errors
    /// The one error of everything that doesn't open.
    pub fn open(&self, blob: &BlobRef<'_>, context: &EncryptionContext) -> Result<SecretBytes, Failure> {
        if blob.suite != self.suite {
            return Err(Failure::ciphertext());
        }
        let message = MessageKey::derive(self.suite, &self.key, blob.salt, blob.prefix)?;
        if !bool::from(message.commitment.ct_eq(blob.commitment)) {
            return Err(Failure::ciphertext());
        }
        let aad = authenticated_data(blob.header, context);
        message.key.open(blob.nonce, &aad, blob.sealed).ok_or_else(Failure::ciphertext)
    }
}

struct MessageKey {
    key: GcmKey,
    commitment: [u8; COMMITMENT_LEN],
}

impl MessageKey {
    fn derive(suite: Suite, key: &[u8], salt: &[u8], prefix: &[u8]) -> Result<Self, Failure> {
        let mut okm = Zeroizing::new([0; AES_LEN + COMMITMENT_LEN]);
        let (key, commits) = if suite == Suite::SoftwareSm4 {
            let okm = &mut okm[..SM4_LEN + COMMITMENT_LEN];
            hkdf_sm3(key, salt, &[SM4_INFO, prefix], okm)?;
            (GcmKey::sm4(&okm[..SM4_LEN])?, &okm[SM4_LEN..])
        } else {
            hkdf_sha256(key, salt, &[AES_INFO, prefix], okm.as_mut())?;
            (GcmKey::aes(&okm[..AES_LEN])?, &okm[AES_LEN..])
        };
        let mut commitment = [0; COMMITMENT_LEN];
        commitment.copy_from_slice(commits);
        Ok(Self { key, commitment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: (Uuid, Uuid) = (Uuid::from_u128(1), Uuid::from_u128(2));

    const SUITES: [(Suite, usize); 2] = [(Suite::SoftwareAes256, 32), (Suite::SoftwareSm4, 16)];

    fn key((suite, len): (Suite, usize), byte: u8) -> SoftwareKey {
        SoftwareKey::new(suite, &SecretBytes::new(vec![byte; len])).unwrap()
    }

    fn context(value: &str) -> EncryptionContext {
        EncryptionContext::from_pairs([("purpose", value)]).unwrap()
    }

    #[test]
    fn a_blob_opens_with_its_key_and_context_only() {
        let entropy = Entropy::seeded(1);
        for suite in SUITES {
            let blob = key(suite, 1).seal(IDS, &entropy, b"secret", &context("a")).unwrap();
            let parsed = BlobRef::parse(&blob).unwrap();
            assert_eq!(key(suite, 1).open(&parsed, &context("a")).unwrap().expose(), b"secret");
            assert_eq!(key(suite, 1).open(&parsed, &context("b")), Err(Failure::ciphertext()));
            assert_eq!(key(suite, 2).open(&parsed, &context("a")), Err(Failure::ciphertext()));
            let other = SUITES[usize::from(suite.0 == Suite::SoftwareAes256)];
            assert_eq!(key(other, 1).open(&parsed, &context("a")), Err(Failure::ciphertext()));
            assert!(SoftwareKey::new(suite.0, &SecretBytes::new(vec![1; suite.1 - 1])).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_one_and_the_same_refusal() {
        for suite in SUITES {
            let blob = key(suite, 1).seal(IDS, &Entropy::seeded(2), b"xyz", &context("a")).unwrap();
            for bit in 0..blob.len() * 8 {
                let mut bad = blob.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                if let Ok(parsed) = BlobRef::parse(&bad) {
                    let opened = key(suite, 1).open(&parsed, &context("a"));
                    assert_eq!(opened, Err(Failure::ciphertext()), "bit {bit}");
                }
            }
        }
    }
}
