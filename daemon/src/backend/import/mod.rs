//! Material that its owner brings: which layouts there are, which part of each the wrapping
//! key opens, and what is done with the rest where no token does it. What must not live
//! here: tokens, records, and who may import.
//!
//! Everything that is wrong inside an envelope is the one [`Wrong`]: padding, length, DER,
//! curve. Who could tell them apart could decrypt with the wrapping key (Bleichenbacher,
//! CRYPTO '98; Manger, CRYPTO '01).
//!
//! Sources: RSAES, RFC 8017 section 7; AES-KWP, RFC 5649; CKM_RSA_AES_KEY_WRAP, PKCS#11 v3.0
//! section 2.1.21; SM2EnvelopedKey, GB/T 35276-2017 section 7.4 (GM/T 0009-2012).

pub mod ahead;
mod enveloped;
#[cfg(test)]
mod tests;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use claviger_protocol::{Code, ImportAlgorithm, KeyPairSpec, KeySpec, SecretBytes, WrappingKeySpec};
use zeroize::Zeroizing;

use super::software;
use crate::failure::Failure;
use enveloped::Enveloped;

/// What a material's value is computed over, to tell it from others for ever.
pub const LABEL: &[u8] = b"claviger/v1/import-fingerprint";
/// The same for SM4, which vendors have no CMAC of: two blocks, so that no two keys share
/// both. No message of GCM meets them, for the reason given for check values.
pub const BLOCKS: &[u8; 32] = b"claviger/v1/imp4claviger/v1/imp5";
/// Bytes of the key that wraps the material in layouts of two steps.
const AES_LEN: usize = 32;
/// Bytes of an SM4 key.
const SM4_LEN: usize = 16;
/// Longest part of an envelope, in bytes: an RSA-4096 block before the PKCS#8 of RSA-4096.
pub const MAX_PART: usize = 8 * 1024;

/// What was brought isn't what was agreed: how, nobody learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the material does not open as the key's")]
pub struct Wrong;

/// What came out of an envelope, in the clear: only ever on its way into a token or
/// under the domain key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// A secret key.
    Secret(SecretBytes),
    /// A pair.
    Pair {
        /// PKCS#8 (version 0), written anew.
        pkcs8: SecretBytes,
        /// SubjectPublicKeyInfo, computed from the private key.
        public_key: Vec<u8>,
    },
}

/// How an envelope is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// One block: the secret.
    Block,
    /// A block, the AES key; and AES-KWP under it, of a secret or of PKCS#8.
    KeyWrapped,
    /// SM2EnvelopedKey.
    Enveloped,
    /// A block, the SM4 key; and SM4-ECB under it of the private scalar.
    ScalarUnderSm4,
}

/// Encrypted material whose layout is a legal one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    layout: Layout,
    algorithm: ImportAlgorithm,
    spec: KeySpec,
    /// What the wrapping key opens; none where the envelope's own DER is broken.
    block: Option<Vec<u8>>,
    /// What opens under the block's content.
    inner: Vec<u8>,
    /// The point that an SM2EnvelopedKey claims for its key.
    point: Option<Vec<u8>>,
}

impl Envelope {
    /// Sorts what was sent: `material`, and `ephemeral`, the encrypted key of layouts of two parts.
    ///
    /// # Errors
    /// `InvalidArgument` for a layout that isn't one of those of `SPEC.md` section 14, by what
    /// everybody may know: specs, algorithm, number of parts, their lengths.
    pub fn new(
        spec: KeySpec,
        wrapping: WrappingKeySpec,
        algorithm: ImportAlgorithm,
        material: Vec<u8>,
        ephemeral: Option<Vec<u8>>,
    ) -> Result<Self, Failure> {
        let layout = layout(wrapping, algorithm, spec, ephemeral.is_some())?;
        if [Some(&material), ephemeral.as_ref()].into_iter().flatten().any(|part| part.len() > MAX_PART) {
            return Err(illegal(format!("no part of encrypted material is longer than {MAX_PART} bytes")));
        }
        let modulus = modulus_len(wrapping);
        let joined = algorithm == ImportAlgorithm::RsaAesKeyWrapSha256;
        let (block, inner) = match (modulus, ephemeral) {
            (Some(modulus), _) if joined => match material.split_at_checked(modulus) {
                Some((block, inner)) if !inner.is_empty() => (block.to_vec(), inner.to_vec()),
                _ => return Err(illegal(format!("expected {modulus} bytes of RSA and AES-KWP behind them"))),
            },
            (_, Some(ephemeral)) => (ephemeral, material),
            (_, None) => (material, Vec::new()),
        };
        if let Some(modulus) = modulus.filter(|modulus| block.len() != *modulus) {
            return Err(illegal(format!("expected an RSA block of {modulus} bytes, found {}", block.len())));
        }
        let envelope = Self { layout, algorithm, spec, block: Some(block), inner, point: None };
        Ok(if layout == Layout::Enveloped { envelope.apart() } else { envelope })
    }

    /// An SM2EnvelopedKey by its parts.
    fn apart(self) -> Self {
        let parts = self.block.as_deref().and_then(Enveloped::from_der);
        let (block, inner, point) = match parts {
            Some(parts) => (Some(parts.key.to_vec()), parts.scalar.to_vec(), Some(parts.point.to_vec())),
            None => (None, Vec::new(), None),
        };
        Self { block, inner, point, ..self }
    }

    /// How its block was encrypted.
    #[must_use]
    pub fn algorithm(&self) -> ImportAlgorithm {
        self.algorithm
    }

    /// What the material is to be.
    #[must_use]
    pub fn spec(&self) -> KeySpec {
        self.spec
    }

    /// What the wrapping key opens.
    ///
    /// # Errors
    /// There is no such part.
    pub fn block(&self) -> Result<&[u8], Wrong> {
        self.block.as_deref().ok_or(Wrong)
    }

    /// For a token that may open all of it: what is under AES-KWP with the block's content
    /// for a key, or `None` where the block is the material. Not for SM2's layouts.
    #[must_use]
    pub fn key_wrapped(&self) -> Option<Option<&[u8]>> {
        match self.layout {
            Layout::Block => Some(None),
            Layout::KeyWrapped => Some(Some(&self.inner)),
            Layout::Enveloped | Layout::ScalarUnderSm4 => None,
        }
    }

    /// The material, from what the wrapping key made of [`Envelope::block`]; what it didn't open
    /// takes the way of what it did, with another key.
    ///
    /// # Errors
    /// The one error of all that is wrong.
    pub fn finish(&self, opened: Result<SecretBytes, Wrong>) -> Result<Material, Wrong> {
        match self.layout {
            Layout::Block => opened.and_then(|secret| self.material(secret)),
            Layout::KeyWrapped => {
                let (key, right) = key_or_zeros::<AES_LEN>(opened);
                let inner = unwrap_kwp(&key, &self.inner).and_then(|inner| self.material(inner));
                inner.and_then(|material| right.map(|()| material))
            }
            Layout::Enveloped | Layout::ScalarUnderSm4 => {
                let (key, right) = key_or_zeros::<SM4_LEN>(opened);
                let scalar = software::sm4_ecb_decrypt(&key, &self.inner).ok_or(Wrong)?;
                let (pkcs8, public_key) = software::sm2_pair(&scalar).ok_or(Wrong)?;
                let claimed = self.point.as_ref().is_none_or(|point| public_key.ends_with(point));
                right?;
                if claimed { Ok(Material::Pair { pkcs8, public_key }) } else { Err(Wrong) }
            }
        }
    }

    /// Checks what was found inside.
    fn material(&self, inside: SecretBytes) -> Result<Material, Wrong> {
        match self.spec.pair() {
            Some(pair) => {
                let (pkcs8, public_key) = software::read_pair(pair, &inside).ok_or(Wrong)?;
                Ok(Material::Pair { pkcs8, public_key })
            }
            None if secret_lengths(self.spec).contains(&inside.len()) => Ok(Material::Secret(inside)),
            None => Err(Wrong),
        }
    }
}

/// Lengths that the material of secret keys may have, in bytes; 0 for pairs.
#[must_use]
pub fn secret_lengths(spec: KeySpec) -> std::ops::RangeInclusive<usize> {
    match spec {
        KeySpec::Aes256 => 32..=32,
        KeySpec::Sm4 => 16..=16,
        KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 | KeySpec::HmacSm3 => 32..=64,
        KeySpec::Rsa2048
        | KeySpec::Rsa3072
        | KeySpec::Rsa4096
        | KeySpec::EcP256
        | KeySpec::EcP384
        | KeySpec::Sm2 => 0..=0,
    }
}

/// Whether material of a spec can be brought by an algorithm to a wrapping key at all.
///
/// # Errors
/// `InvalidArgument`, with what would be possible.
pub fn check(spec: KeySpec, wrapping: WrappingKeySpec, algorithm: ImportAlgorithm) -> Result<(), Failure> {
    let one = layout(wrapping, algorithm, spec, false);
    if one.is_err() { layout(wrapping, algorithm, spec, true).map(drop) } else { Ok(()) }
}

/// The layout of what was sent.
fn layout(
    wrapping: WrappingKeySpec,
    algorithm: ImportAlgorithm,
    spec: KeySpec,
    two_parts: bool,
) -> Result<Layout, Failure> {
    use ImportAlgorithm as A;
    let sm2 = wrapping == WrappingKeySpec::Sm2;
    if sm2 != (algorithm == A::Sm2Pke) {
        let fit = if sm2 { "SM2PKE" } else { "RSAES_* and RSA_AES_KEY_WRAP_SHA_256" };
        return Err(illegal(format!("to a wrapping key {wrapping} material is encrypted by {fit}")));
    }
    let parts = |wanted, layout| match (two_parts == wanted, wanted) {
        (true, _) => Ok(layout),
        (false, true) => Err(illegal(format!(
            "{algorithm} brings {spec} in two parts: an encrypted ephemeral key, and the material under it"
        ))),
        (false, false) => {
            Err(illegal(format!("{algorithm} brings {spec} in one part, without an ephemeral key")))
        }
    };
    match (algorithm, spec.pair()) {
        (A::RsaAesKeyWrapSha256, _) => parts(false, Layout::KeyWrapped),
        (A::RsaesPkcs1V15 | A::RsaesOaepSha1 | A::RsaesOaepSha256, Some(_)) => {
            parts(true, Layout::KeyWrapped)
        }
        (A::Sm2Pke, Some(KeyPairSpec::Sm2)) if two_parts => Ok(Layout::ScalarUnderSm4),
        (A::Sm2Pke, Some(KeyPairSpec::Sm2)) => Ok(Layout::Enveloped),
        (A::Sm2Pke, Some(_)) => Err(illegal(format!(
            "SM2PKE doesn't bring {spec}; use a wrapping key RSA_2048, RSA_3072 or RSA_4096"
        ))),
        (_, None) => parts(false, Layout::Block),
    }
}

/// Bytes of the block that a wrapping key opens; none where they differ.
const fn modulus_len(wrapping: WrappingKeySpec) -> Option<usize> {
    match wrapping {
        WrappingKeySpec::Rsa2048 => Some(256),
        WrappingKeySpec::Rsa3072 => Some(384),
        WrappingKeySpec::Rsa4096 => Some(512),
        WrappingKeySpec::Sm2 => None,
    }
}

fn illegal(text: String) -> Failure {
    Failure::new(Code::InvalidArgument, text)
}

/// The key that was opened, or zeros in its place, and whether it was.
fn key_or_zeros<const N: usize>(
    opened: Result<SecretBytes, Wrong>,
) -> (Zeroizing<[u8; N]>, Result<(), Wrong>) {
    let mut key = Zeroizing::new([0; N]);
    let right = opened.ok().filter(|opened| opened.len() == N).ok_or(Wrong);
    if let Ok(opened) = &right {
        key.copy_from_slice(opened.expose());
    }
    (key, right.map(drop))
}

/// AES-KWP (RFC 5649) under an AES-256 key.
fn unwrap_kwp(key: &[u8; AES_LEN], wrapped: &[u8]) -> Result<SecretBytes, Wrong> {
    let kek = AesKek::new(&AES_256, key).map_err(|_| Wrong)?;
    let mut out = Zeroizing::new(vec![0; wrapped.len()]);
    let length = kek.unwrap_with_padding(wrapped, &mut out).map_err(|_| Wrong)?.len();
    out.truncate(length);
    // Taken over, not copied: the one buffer that held it is the one that is wiped.
    Ok(SecretBytes::new(std::mem::take(&mut *out)))
}
