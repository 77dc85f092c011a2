//! AES-256-GCM and SM4-GCM under keys of one message, and HKDF over both hashes.
//!
//! Sources: GCM, NIST SP 800-38D; SM4-GCM, RFC 8998; HKDF, RFC 5869.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use claviger_protocol::SecretBytes;
use claviger_protocol::blob::{NONCE_LEN, TAG_LEN};
use sm3::Sm3;
use sm4::Sm4;
use zeroize::Zeroizing;

use super::internal;
use crate::failure::Failure;

/// A key of one message, or of one place.
pub(in crate::backend) enum GcmKey {
    /// AES-256.
    Aes(LessSafeKey),
    /// SM4.
    Sm4(Box<AesGcm<Sm4, aes_gcm::aead::consts::U12>>),
}

impl GcmKey {
    /// Takes 32 bytes.
    pub(in crate::backend) fn aes(key: &[u8]) -> Result<Self, Failure> {
        UnboundKey::new(&AES_256_GCM, key).map(|key| Self::Aes(LessSafeKey::new(key))).map_err(|_| internal())
    }

    /// Takes 16 bytes.
    pub(in crate::backend) fn sm4(key: &[u8]) -> Result<Self, Failure> {
        AesGcm::new_from_slice(key).map(|key| Self::Sm4(Box::new(key))).map_err(|_| internal())
    }

    /// Encrypts in place and gives the tag.
    pub(in crate::backend) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], Failure> {
        match self {
            Self::Aes(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), text);
                tag.ok().and_then(|tag| tag.as_ref().try_into().ok()).ok_or_else(internal)
            }
            Self::Sm4(key) => {
                let tag = key.encrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(text));
                tag.map(Into::into).map_err(|_| internal())
            }
        }
    }

    /// Opens ciphertext ‖ tag; `None` where it doesn't authenticate.
    pub(in crate::backend) fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
    ) -> Option<SecretBytes> {
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let len = match self {
            Self::Aes(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(aad), &mut buffer).ok()?.len()
            }
            Self::Sm4(key) => {
                let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>()?;
                let tag = (*tag).into();
                key.decrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(&mut *text), &tag).ok()?;
                text.len()
            }
        };
        // Taken over, not copied: the one buffer that held it is the one that is wiped.
        buffer.truncate(len);
        Some(SecretBytes::new(std::mem::take(&mut *buffer)))
    }
}

/// HKDF-SHA-256.
pub(super) fn hkdf_sha256(key: &[u8], salt: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Failure> {
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

/// HKDF over HMAC-SM3.
pub(super) fn hkdf_sm3(key: &[u8], salt: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Failure> {
    ::hkdf::Hkdf::<Sm3>::new(Some(salt), key).expand_multi_info(info, out).map_err(|_| internal())
}
