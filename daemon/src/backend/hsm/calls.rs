//! Single PKCS#11 calls with the parameters that Claviger fixes: nonce and tag
//! lengths, derivation data. No choice is made here.

use cryptoki::error::Result;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::ekdf::AesCbcDeriveParams;
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::command::HsmError;
use super::failure::failed;
use super::means::Cipher;
use super::template::{self, Usage};

/// Length of a GCM nonce, in bytes.
pub(super) const NONCE_LEN: usize = 12;
/// Length of a GCM tag, in bytes.
pub(super) const TAG_LEN: usize = 16;
/// What follows the salt in the data that a message key is derived with.
pub(super) const SUBKEY_LABEL: &[u8; 16] = b"claviger/v1/subk";

const TAG_BITS: u64 = 128;

/// AES-GCM: ciphertext ‖ tag.
pub(super) fn gcm_seal(
    session: &Session,
    key: ObjectHandle,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> std::result::Result<Vec<u8>, HsmError> {
    gcm_seal_raw(session, Cipher::Aes, key, nonce, aad, plaintext).map_err(|e| failed(&e))?
}

/// As [`gcm_seal`] with either cipher, and PKCS#11's own error outside.
pub(super) fn gcm_seal_raw(
    session: &Session,
    cipher: Cipher,
    key: ObjectHandle,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<std::result::Result<Vec<u8>, HsmError>> {
    let mut used = nonce;
    let parameters = GcmParams::new(&mut used, aad, TAG_BITS.into())?;
    let sealed = session.encrypt(&gcm(cipher, &parameters), key, plaintext)?;
    // Some tokens ignore the caller's nonce and write their own in its place.
    if used != nonce {
        return Ok(Err(HsmError::Unsupported("the token replaced the nonce".to_owned())));
    }
    if sealed.len() != plaintext.len() + TAG_LEN {
        return Ok(Err(HsmError::Fault("the token's ciphertext has a wrong length".to_owned())));
    }
    Ok(Ok(sealed))
}

/// The reverse, of ciphertext ‖ tag; the caller has checked that there is a tag.
pub(super) fn gcm_open(
    session: &Session,
    cipher: Cipher,
    key: ObjectHandle,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let mut used = nonce;
    let parameters = GcmParams::new(&mut used, aad, TAG_BITS.into())?;
    session.decrypt(&gcm(cipher, &parameters), key, sealed)
}

/// CK_GCM_PARAMS under the cipher's number.
fn gcm<'a>(cipher: Cipher, parameters: &'a GcmParams<'a>) -> Mechanism<'a> {
    let number = match cipher {
        Cipher::Aes => MechanismType::AES_GCM,
        Cipher::Sm4(number) => number,
    };
    Mechanism::VendorDefined(VendorDefinedMechanism::new(number, Some(parameters)))
}

/// CKM_AES_CBC_ENCRYPT_DATA with an IV of zeros over salt ‖ [`SUBKEY_LABEL`]: an
/// AES-256 session key that encrypts and decrypts, and nothing else.
pub(super) fn derive(session: &Session, key: ObjectHandle, salt: &[u8; 16]) -> Result<ObjectHandle> {
    let mut data = [0; 32];
    data[..16].copy_from_slice(salt);
    data[16..].copy_from_slice(SUBKEY_LABEL);
    let mechanism = Mechanism::AesCbcEncryptData(AesCbcDeriveParams::new([0; 16], &data));
    session.derive_key(&mechanism, key, &template::derived_key(Usage::ENCRYPT))
}
