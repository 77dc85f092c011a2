//! The daemon's side of material that is brought from outside: wrapping keys in memory, the
//! pairs that come out of envelopes, and the values that tell materials apart.
//!
//! Sources: RSAES, RFC 8017 section 7; CMAC, NIST SP 800-38B; PKCS#8, RFC 5208.

use aws_lc_rs::cmac;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{
    KeyPair as RsaKeyPair, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm,
    OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};
use claviger_protocol::{Code, ImportAlgorithm, KeyPairSpec, KeySpec, SecretBytes, WrappingKeySpec};
use sm4::Sm4;
use sm4::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use super::public::PublicKey;
use super::sm2::{self, Sm2Private};
use super::{MacKey, internal};
use crate::backend::encoding::{self, Pkcs8};
use crate::backend::import::{BLOCKS, LABEL};
use crate::failure::Failure;

/// Bytes of an SM4 block.
const BLOCK: usize = 16;

/// The private key of a wrapping pair in memory; wiped when dropped.
pub struct UnwrappingKey(Kind);

enum Kind {
    Rsa(PrivateDecryptingKey),
    Sm2(Box<Sm2Private>),
}

impl UnwrappingKey {
    /// Reads the PKCS#8 that [`PrivateKey::generate`](super::PrivateKey::generate) makes.
    ///
    /// # Errors
    /// `Internal`: another kind of key.
    pub fn from_pkcs8(spec: WrappingKeySpec, pkcs8: &SecretBytes) -> Result<Self, Failure> {
        let wrong = || Failure::new(Code::Internal, format!("the wrapping key is no {spec} key"));
        Ok(Self(match spec {
            WrappingKeySpec::Sm2 => {
                let (key, _) = Sm2Private::from_pkcs8(pkcs8.expose()).ok_or_else(wrong)?;
                Kind::Sm2(Box::new(key))
            }
            WrappingKeySpec::Rsa2048 | WrappingKeySpec::Rsa3072 | WrappingKeySpec::Rsa4096 => {
                Kind::Rsa(PrivateDecryptingKey::from_pkcs8(pkcs8.expose()).map_err(|_| wrong())?)
            }
        }))
    }

    /// Opens a block; `None` for everything that doesn't open, after the same time: AWS-LC
    /// removes both paddings in constant time.
    #[must_use]
    pub fn open(&self, algorithm: ImportAlgorithm, block: &[u8]) -> Option<SecretBytes> {
        match (&self.0, algorithm) {
            (Kind::Sm2(key), ImportAlgorithm::Sm2Pke) => key.decrypt(block),
            (Kind::Rsa(key), ImportAlgorithm::RsaesPkcs1V15) => {
                let key = Pkcs1PrivateDecryptingKey::new(key.clone()).ok()?;
                opened(key.min_output_size(), |out| Some(key.decrypt(block, out).ok()?.len()))
            }
            (Kind::Rsa(key), ImportAlgorithm::RsaesOaepSha1) => oaep(key, &OAEP_SHA1_MGF1SHA1, block),
            (Kind::Rsa(key), ImportAlgorithm::RsaesOaepSha256 | ImportAlgorithm::RsaAesKeyWrapSha256) => {
                oaep(key, &OAEP_SHA256_MGF1SHA256, block)
            }
            (Kind::Rsa(_), ImportAlgorithm::Sm2Pke) | (Kind::Sm2(_), _) => None,
        }
    }
}

fn oaep(key: &PrivateDecryptingKey, hash: &'static OaepAlgorithm, block: &[u8]) -> Option<SecretBytes> {
    let key = OaepPrivateDecryptingKey::new(key.clone()).ok()?;
    opened(key.min_output_size(), |out| Some(key.decrypt(hash, block, out, None).ok()?.len()))
}

/// What `open` writes to the beginning of a buffer that is wiped, whatever comes of it.
fn opened(length: usize, open: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<SecretBytes> {
    let mut out = Zeroizing::new(vec![0; length]);
    let length = open(&mut out)?;
    out.truncate(length);
    Some(SecretBytes::new(std::mem::take(&mut *out)))
}

/// Reads the PKCS#8 of a pair as others write it. → the PKCS#8 that is kept, and the SPKI
/// computed from the private key; `None` for another kind or size of key, numbers that make
/// none, or bytes behind it.
pub(in crate::backend) fn read_pair(spec: KeyPairSpec, der: &SecretBytes) -> Option<(SecretBytes, Vec<u8>)> {
    let whole = Pkcs8::from_der(der.expose())?;
    let plain = whole.plain()?;
    let der = plain.as_slice();
    let (pkcs8, spki) = match spec {
        KeyPairSpec::Sm2 => sm2::read_pkcs8(der)?,
        KeyPairSpec::EcP256 | KeyPairSpec::EcP384 => {
            let algorithm = if spec == KeyPairSpec::EcP256 {
                &ECDSA_P256_SHA256_FIXED_SIGNING
            } else {
                &ECDSA_P384_SHA384_FIXED_SIGNING
            };
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, der).ok()?;
            let pkcs8 = pair.to_pkcs8v1().ok()?;
            (SecretBytes::new(pkcs8.as_ref().to_vec()), encoding::ec_spki(spec, pair.public_key().as_ref())?)
        }
        KeyPairSpec::Rsa2048 | KeyPairSpec::Rsa3072 | KeyPairSpec::Rsa4096 => {
            let pair = RsaKeyPair::from_pkcs8(der).ok()?;
            let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
            let spki = encoding::rsa_spki_of(pair.public_key().as_ref())?;
            (SecretBytes::new(pkcs8.as_ref().to_vec()), spki)
        }
    };
    if whole.public.is_some_and(|public| encoding::public_bits(&spki) != Some(public)) {
        return None;
    }
    let public = PublicKey::from_spki(&spki).ok()?;
    (public.spec() == Some(spec)).then_some((pkcs8, spki))
}

/// SM4-ECB without padding; `None` for no whole number of blocks.
pub(in crate::backend) fn sm4_ecb_decrypt(key: &[u8; BLOCK], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = Sm4::new(key.into());
    let mut text = Zeroizing::new(sealed.to_vec());
    let (blocks, rest) = text.as_chunks_mut::<BLOCK>();
    if !rest.is_empty() || blocks.is_empty() {
        return None;
    }
    for block in blocks {
        cipher.decrypt_block(block.into());
    }
    Some(text)
}

/// What tells a secret key's material from every other: AES-CMAC or the spec's HMAC of
/// [`LABEL`], two blocks under SM4. The same that a token computes.
///
/// # Errors
/// A pair, or material of a wrong length.
pub fn import_value(spec: KeySpec, material: &SecretBytes) -> Result<SecretBytes, Failure> {
    let key = material.expose();
    let value = match (spec, spec.mac_algorithm()) {
        (_, Some(algorithm)) => MacKey::new(algorithm, material)?.mac(LABEL),
        (KeySpec::Aes256, None) => {
            let key = cmac::Key::new(cmac::AES_256, key).map_err(|_| internal())?;
            cmac::sign(&key, LABEL).map_err(|_| internal())?.as_ref().to_vec()
        }
        (KeySpec::Sm4, None) => {
            let cipher = Sm4::new_from_slice(key).map_err(|_| internal())?;
            let mut value = BLOCKS.to_vec();
            for block in value.as_chunks_mut::<BLOCK>().0 {
                cipher.encrypt_block(block.into());
            }
            value
        }
        (_, None) => return Err(internal()),
    };
    Ok(SecretBytes::new(value))
}
