//! The sealing of SOFTWARE material under the domain key, and its check value.
//!
//! Sources: HKDF, RFC 5869; AES-GCM, NIST SP 800-38D.

use claviger_protocol::blob::{NONCE_LEN, TAG_LEN};
use claviger_protocol::{Code, KeySpec, SecretBytes};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::gcm::{GcmKey, hkdf_sha256};
use crate::edge::Entropy;
use crate::failure::Failure;

const MATERIAL_INFO: &[u8] = b"claviger/v1/software-material";

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
    let mut sealed = Zeroizing::new(Vec::with_capacity(material.len() + TAG_LEN));
    sealed.extend_from_slice(material.expose());
    let aad = material_aad(key_id, version_id, spec);
    let tag = key.seal(nonce, &aad, &mut sealed)?;
    Ok([&nonce, sealed.as_slice(), &tag].concat())
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
        .and_then(|(nonce, sealed)| key.open(*nonce, &material_aad(key_id, version_id, spec), sealed))
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

fn material_key(domain_key: &[u8; 32], version_id: Uuid) -> Result<GcmKey, Failure> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf_sha256(domain_key, version_id.as_bytes(), &[MATERIAL_INFO], key.as_mut())?;
    GcmKey::aes(key.as_ref())
}

fn material_aad(key_id: Uuid, version_id: Uuid, spec: KeySpec) -> [u8; 33] {
    let mut aad = [spec.number(); 33];
    aad[..16].copy_from_slice(key_id.as_bytes());
    aad[16..32].copy_from_slice(version_id.as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: (Uuid, Uuid) = (Uuid::from_u128(1), Uuid::from_u128(2));

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
