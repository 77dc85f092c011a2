//! SOFTWARE level: AES-256-GCM with a key and a commitment of each message's
//! own, and the sealing of material under the domain key. Material is in the
//! clear only inside [`SoftwareKey`], wiped on drop.
//!
//! Sources: HKDF, RFC 5869; AES-GCM, NIST SP 800-38D; layout, `SPEC.md` section 9.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use claviger_protocol::blob::{BlobHeader, BlobRef, NONCE_LEN, TAG_LEN, authenticated_data};
use claviger_protocol::{Code, EncryptionContext, KeySpec, SecretBytes, Suite};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::edge::Entropy;
use crate::failure::Failure;

const MESSAGE_INFO: &[u8] = b"claviger/v1/aes-256-gcm";
const MATERIAL_INFO: &[u8] = b"claviger/v1/software-material";
const COMMITMENT_LEN: usize = 32;
const SALT_LEN: usize = 32;

/// A SOFTWARE AES_256 key in the clear.
pub struct SoftwareKey(Zeroizing<Vec<u8>>);

impl SoftwareKey {
    /// Takes 32 bytes of material.
    pub fn new(material: &SecretBytes) -> Result<Self, Failure> {
        if material.len() == 32 {
            Ok(Self(Zeroizing::new(material.expose().to_vec())))
        } else {
            Err(Failure::new(Code::Internal, "AES_256 material of a wrong length"))
        }
    }

    /// Encrypts into a whole ciphertext blob (suite SOFTWARE_AES_256_GCM_HKDF).
    pub fn seal(
        &self,
        (key_id, version_id): (Uuid, Uuid),
        entropy: &Entropy,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, Failure> {
        let salt: [u8; SALT_LEN] = entropy.array()?;
        let nonce: [u8; NONCE_LEN] = entropy.array()?;
        let header = BlobHeader { suite: Suite::SoftwareAes256, key_id, version_id, salt: &salt, nonce };
        // Room for all of it from the start: a reallocation would leave plaintext behind.
        let mut blob = header.prefix(plaintext.len() + TAG_LEN);
        let message = MessageKey::derive(&self.0, &salt, &blob)?;
        blob.extend_from_slice(&message.commitment);
        let aad = authenticated_data(&blob, context);
        let header_len = blob.len();
        blob.extend_from_slice(plaintext);
        let tag = message
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut blob[header_len..],
            )
            .map_err(|_| internal())?;
        blob.extend_from_slice(tag.as_ref());
        Ok(blob)
    }

    /// Opens a blob of that suite.
    pub fn open(&self, blob: &BlobRef<'_>, context: &EncryptionContext) -> Result<SecretBytes, Failure> {
        let message = MessageKey::derive(&self.0, blob.salt, blob.prefix)?;
        if !bool::from(message.commitment.ct_eq(blob.commitment)) {
            return Err(Failure::ciphertext());
        }
        let aad = authenticated_data(blob.header, context);
        open_gcm(&message.key, blob.nonce, &aad, blob.sealed).ok_or_else(Failure::ciphertext)
    }
}

struct MessageKey {
    key: LessSafeKey,
    commitment: [u8; COMMITMENT_LEN],
}

impl MessageKey {
    fn derive(key: &[u8], salt: &[u8], prefix: &[u8]) -> Result<Self, Failure> {
        let mut okm = Zeroizing::new([0; 32 + COMMITMENT_LEN]);
        expand(key, salt, &[MESSAGE_INFO, prefix], okm.as_mut())?;
        let mut commitment = [0; COMMITMENT_LEN];
        commitment.copy_from_slice(&okm[32..]);
        Ok(Self { key: gcm_key(&okm[..32])?, commitment })
    }
}

/// Seals material for the store: AES-256-GCM under HKDF(domain's software key,
/// salt = version id), bound to key, version and spec. → nonce ‖ ciphertext ‖ tag
pub fn seal_material(
    domain_key: &[u8; 32],
    (key_id, version_id, spec): (Uuid, Uuid, KeySpec),
    entropy: &Entropy,
    material: &SecretBytes,
) -> Result<Vec<u8>, Failure> {
    let key = material_key(domain_key, version_id)?;
    let nonce: [u8; NONCE_LEN] = entropy.array()?;
    let mut sealed = Zeroizing::new(Vec::with_capacity(material.len() + AES_256_GCM.tag_len()));
    sealed.extend_from_slice(material.expose());
    let aad = material_aad(key_id, version_id, spec);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut *sealed)
        .map_err(|_| internal())?;
    Ok([&nonce, sealed.as_slice()].concat())
}

/// Opens what [`seal_material`] sealed.
pub fn open_material(
    domain_key: &[u8; 32],
    (key_id, version_id, spec): (Uuid, Uuid, KeySpec),
    sealed: &[u8],
) -> Result<SecretBytes, Failure> {
    let key = material_key(domain_key, version_id)?;
    sealed
        .split_first_chunk::<NONCE_LEN>()
        .and_then(|(nonce, sealed)| open_gcm(&key, *nonce, &material_aad(key_id, version_id, spec), sealed))
        .ok_or_else(|| {
            Failure::new(Code::Internal, "the key's sealed material doesn't open; see the daemon's log")
        })
}

/// First 8 bytes of HMAC-SHA-256(key, label): says whether it is the same key, and nothing else.
pub fn check_value(material: &SecretBytes) -> [u8; 8] {
    use aws_lc_rs::hmac;
    let key = hmac::Key::new(hmac::HMAC_SHA256, material.expose());
    let tag = hmac::sign(&key, b"claviger/v1/check-value");
    let mut out = [0; 8];
    out.copy_from_slice(&tag.as_ref()[..8]);
    out
}

fn material_key(domain_key: &[u8; 32], version_id: Uuid) -> Result<LessSafeKey, Failure> {
    let mut key = Zeroizing::new([0; 32]);
    expand(domain_key, version_id.as_bytes(), &[MATERIAL_INFO], key.as_mut())?;
    gcm_key(key.as_ref())
}

fn material_aad(key_id: Uuid, version_id: Uuid, spec: KeySpec) -> [u8; 33] {
    let mut aad = [spec.number(); 33];
    aad[..16].copy_from_slice(key_id.as_bytes());
    aad[16..32].copy_from_slice(version_id.as_bytes());
    aad
}

fn expand(key: &[u8], salt: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Failure> {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key)
        .expand(info, Len(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| internal())
}

fn gcm_key(key: &[u8]) -> Result<LessSafeKey, Failure> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| internal())
}

fn open_gcm(key: &LessSafeKey, nonce: [u8; NONCE_LEN], aad: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let plaintext =
        key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer).ok()?.len();
    // Taken over, not copied: the one buffer that held it is the one that is wiped.
    buffer.truncate(plaintext);
    Some(SecretBytes::new(std::mem::take(&mut *buffer)))
}

fn internal() -> Failure {
    Failure::new(Code::Internal, "the cryptographic library failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: (Uuid, Uuid) = (Uuid::from_u128(1), Uuid::from_u128(2));

    fn key(byte: u8) -> SoftwareKey {
        SoftwareKey::new(&SecretBytes::new(vec![byte; 32])).unwrap()
    }

    fn context(value: &str) -> EncryptionContext {
        EncryptionContext::from_pairs([("purpose", value)]).unwrap()
    }

    #[test]
    fn a_blob_opens_with_its_key_and_context_only() {
        let entropy = Entropy::seeded(1);
        let blob = key(1).seal(IDS, &entropy, b"secret", &context("a")).unwrap();
        let parsed = BlobRef::parse(&blob).unwrap();
        assert_eq!(key(1).open(&parsed, &context("a")).unwrap().expose(), b"secret");
        assert_eq!(key(1).open(&parsed, &context("b")), Err(Failure::ciphertext()));
        assert_eq!(key(2).open(&parsed, &context("a")), Err(Failure::ciphertext()));
    }

    #[test]
    fn every_flipped_bit_is_one_and_the_same_refusal() {
        let blob = key(1).seal(IDS, &Entropy::seeded(2), b"xyz", &context("a")).unwrap();
        for bit in 0..blob.len() * 8 {
            let mut bad = blob.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(parsed) = BlobRef::parse(&bad) {
                assert_eq!(key(1).open(&parsed, &context("a")), Err(Failure::ciphertext()), "bit {bit}");
            }
        }
    }

    #[test]
    fn sealed_material_is_bound_to_its_place() {
        let material = SecretBytes::new(vec![9; 32]);
        let place = (IDS.0, IDS.1, KeySpec::Aes256);
        let sealed = seal_material(&[5; 32], place, &Entropy::seeded(3), &material).unwrap();
        assert_eq!(open_material(&[5; 32], place, &sealed).unwrap(), material);
        for (domain, place) in [
            ([6; 32], place),
            ([5; 32], (IDS.1, IDS.1, KeySpec::Aes256)),
            ([5; 32], (IDS.0, IDS.0, KeySpec::Aes256)),
            ([5; 32], (IDS.0, IDS.1, KeySpec::Sm4)),
        ] {
            assert!(open_material(&domain, place, &sealed).is_err());
        }
        assert!(open_material(&[5; 32], place, &sealed[..20]).is_err());
        assert!(open_material(&[5; 32], place, &[]).is_err());
    }
}
