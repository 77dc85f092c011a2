//! What a profile gives for keys of each spec: mechanisms under the token's own numbers,
//! key types, forms. What must not live here: calls, and whether a mechanism passed its
//! self-test.

use claviger_hsm_profiles::{Derivation, Forms, MechanismUse, OaepHash, Profile, Quirk};
use claviger_protocol::{EncryptionAlgorithm, KeySpec, KeyUsage, MacAlgorithm, SigningAlgorithm};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::vendor_defined::VendorDefinedMechanism;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{KeyType, ObjectHandle};
use cryptoki::types::Ulong;

use super::command::{HsmError, Template};
use super::handover;
use super::private::unfit;

/// A profile, as what is made of it.
#[derive(Debug, Clone)]
pub(super) struct Means(Profile);

/// An object, and what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) handle: ObjectHandle,
    pub(super) spec: KeySpec,
    pub(super) template: Template,
}

/// Which block cipher GCM runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes,
    /// A vendor's SM4.
    Sm4(MechanismType),
}

impl Means {
    pub(super) fn of(profile: &Profile) -> Self {
        Self(profile.clone())
    }

    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.0.has(quirk)
    }

    pub(super) fn forms(&self) -> Forms {
        self.0.forms
    }

    /// A vendor's number for a use.
    pub(super) fn vendors(&self, used: MechanismUse) -> Result<MechanismType, HsmError> {
        let number = self.0.mechanisms.get(&used).copied().ok_or_else(|| missing(used))?;
        MechanismType::new_vendor_defined(number).map_err(|_| missing(used))
    }

    /// The same as a mechanism without parameters.
    pub(super) fn plain(&self, used: MechanismUse) -> Result<Mechanism<'static>, HsmError> {
        let number = self.vendors(used)?;
        Ok(Mechanism::VendorDefined(VendorDefinedMechanism::new::<()>(number, None)))
    }

    /// CKK_* of a spec's keys.
    pub(super) fn key_type(&self, spec: KeySpec) -> Result<KeyType, HsmError> {
        let vendors = |number: Option<u64>, name| {
            let number = number.ok_or_else(|| HsmError::Unsupported(no_key_type(name)))?;
            KeyType::new_vendor_defined(number).map_err(|_| HsmError::Unsupported(no_key_type(name)))
        };
        match spec {
            KeySpec::Aes256 => Ok(KeyType::AES),
            KeySpec::Sm4 => vendors(self.0.key_types.sm4, "sm4"),
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => Ok(KeyType::RSA),
            KeySpec::EcP256 | KeySpec::EcP384 => Ok(KeyType::EC),
            KeySpec::Sm2 => vendors(self.0.key_types.sm2, "sm2"),
            KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 | KeySpec::HmacSm3 => {
                Ok(KeyType::GENERIC_SECRET)
            }
        }
    }

    /// What makes keys or pairs of a spec.
    pub(super) fn generation(&self, spec: KeySpec) -> Result<Mechanism<'static>, HsmError> {
        match spec {
            KeySpec::Aes256 => Ok(Mechanism::AesKeyGen),
            KeySpec::Sm4 => self.plain(MechanismUse::Sm4KeyGen),
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => Ok(Mechanism::RsaPkcsKeyPairGen),
            KeySpec::EcP256 | KeySpec::EcP384 => Ok(Mechanism::EccKeyPairGen),
            KeySpec::Sm2 => self.plain(MechanismUse::Sm2KeyPairGen),
            KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 | KeySpec::HmacSm3 => {
                Ok(Mechanism::GenericSecretKeyGen)
            }
        }
    }

    /// The cipher of a spec's messages.
    pub(super) fn cipher(&self, spec: KeySpec) -> Result<Cipher, HsmError> {
        match spec {
            KeySpec::Aes256 => Ok(Cipher::Aes),
            KeySpec::Sm4 => self.vendors(MechanismUse::Sm4Gcm).map(Cipher::Sm4),
            _ => Err(HsmError::Unsupported(format!("{spec} keys don't encrypt messages"))),
        }
    }

    pub(super) fn mac(&self, algorithm: MacAlgorithm) -> Result<Mechanism<'static>, HsmError> {
        match algorithm {
            MacAlgorithm::HmacSha256 => Ok(Mechanism::Sha256Hmac),
            MacAlgorithm::HmacSha384 => Ok(Mechanism::Sha384Hmac),
            MacAlgorithm::HmacSha512 => Ok(Mechanism::Sha512Hmac),
            MacAlgorithm::HmacSm3 => self.plain(MechanismUse::HmacSm3),
        }
    }

    /// What signs: a DigestInfo for RSASSA-PKCS1-v1_5, a digest for the others.
    pub(super) fn signing(&self, algorithm: SigningAlgorithm) -> Result<Mechanism<'static>, HsmError> {
        let pss = |hash_alg, mgf| {
            // Salts of 32, 48 or 64 bytes: as long as the hash.
            let s_len = u64::try_from(algorithm.digest().len()).unwrap_or_default();
            Mechanism::RsaPkcsPss(PkcsPssParams { hash_alg, mgf, s_len: Ulong::new(s_len) })
        };
        Ok(match algorithm {
            SigningAlgorithm::RsaPssSha256 => pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
            SigningAlgorithm::RsaPssSha384 => pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
            SigningAlgorithm::RsaPssSha512 => pss(MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
            SigningAlgorithm::RsaPkcs1Sha256
            | SigningAlgorithm::RsaPkcs1Sha384
            | SigningAlgorithm::RsaPkcs1Sha512 => Mechanism::RsaPkcs,
            SigningAlgorithm::EcdsaSha256 | SigningAlgorithm::EcdsaSha384 => Mechanism::Ecdsa,
            SigningAlgorithm::Sm2Dsa => self.plain(MechanismUse::Sm2Sign)?,
        })
    }

    /// What decrypts with a private key, and whether the padding is still to be removed.
    pub(super) fn decryption(
        &self,
        algorithm: EncryptionAlgorithm,
    ) -> Result<(Mechanism<'static>, bool), HsmError> {
        let outside = self.0.has(Quirk::OaepSha256Outside);
        Ok(match algorithm {
            EncryptionAlgorithm::RsaesOaepSha1 => (handover::oaep(OaepHash::Sha1), false),
            EncryptionAlgorithm::RsaesOaepSha256 if outside => (Mechanism::RsaX509, true),
            EncryptionAlgorithm::RsaesOaepSha256 => (handover::oaep(OaepHash::Sha256), false),
            EncryptionAlgorithm::Sm2Pke => (self.plain(MechanismUse::Sm2Encrypt)?, false),
        })
    }

    /// Whether the token holds an object to the mechanisms that it was unwrapped with.
    pub(super) fn restricts(&self) -> bool {
        self.0.allowed_mechanisms
    }

    /// The mechanisms that a private key may be used with: among those of its usage, raw RSA
    /// would make a key that signs decrypt too.
    pub(super) fn allowed(&self, template: Template) -> Result<Vec<MechanismType>, HsmError> {
        Ok(match template {
            Template::RsaSign => vec![MechanismType::RSA_PKCS, MechanismType::RSA_PKCS_PSS],
            Template::RsaDecrypt if self.has(Quirk::OaepSha256Outside) => {
                vec![MechanismType::RSA_PKCS_OAEP, MechanismType::RSA_X_509]
            }
            Template::RsaDecrypt => vec![MechanismType::RSA_PKCS_OAEP],
            Template::EcSign => vec![MechanismType::ECDSA],
            Template::Sm2Sign => vec![self.vendors(MechanismUse::Sm2Sign)?],
            Template::Sm2Decrypt => vec![self.vendors(MechanismUse::Sm2Encrypt)?],
            Template::AesDeriveOnly | Template::AesDirect | Template::HmacSecret | Template::Sm4Direct => {
                return Err(unfit());
            }
        })
    }

    /// The mechanisms that keys of a spec need for a usage, beside the random generator.
    pub(super) fn needed(&self, spec: KeySpec, usage: KeyUsage) -> Vec<MechanismUse> {
        use MechanismUse as M;
        let profile = &self.0;
        let mut needed = match spec {
            KeySpec::Aes256 if profile.derivation == Derivation::CbcEncryptData => {
                vec![M::AesKeyGen, M::AesKeyWrap, M::AesGcm, M::AesCbcEncryptData]
            }
            KeySpec::Aes256 => vec![M::AesKeyGen, M::AesKeyWrap, M::AesGcm, M::AesCmac],
            KeySpec::Sm4 => vec![M::Sm4KeyGen, M::AesKeyWrap, M::Sm4Gcm, M::Sm4Ecb],
            KeySpec::Hmac256 => vec![M::GenericSecretKeyGen, M::AesKeyWrap, M::HmacSha256],
            KeySpec::Hmac384 => vec![M::GenericSecretKeyGen, M::AesKeyWrap, M::HmacSha384],
            KeySpec::Hmac512 => vec![M::GenericSecretKeyGen, M::AesKeyWrap, M::HmacSha512],
            KeySpec::HmacSm3 => vec![M::GenericSecretKeyGen, M::AesKeyWrap, M::HmacSm3],
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let sha256 =
                    if profile.has(Quirk::OaepSha256Outside) { M::RsaX509 } else { M::RsaOaepSha256 };
                match usage {
                    KeyUsage::SignVerify => vec![M::RsaKeyPairGen, M::AesKeyWrapPad, M::RsaPkcs, M::RsaPss],
                    _ => vec![M::RsaKeyPairGen, M::AesKeyWrapPad, M::RsaOaepSha1, sha256],
                }
            }
            KeySpec::EcP256 | KeySpec::EcP384 => vec![M::EcKeyPairGen, M::AesKeyWrapPad, M::Ecdsa],
            KeySpec::Sm2 => match usage {
                KeyUsage::SignVerify => vec![M::Sm2KeyPairGen, M::AesKeyWrapPad, M::Sm2Sign],
                _ => vec![M::Sm2KeyPairGen, M::AesKeyWrapPad, M::Sm2Encrypt],
            },
        };
        // A wrong number for the digest says that the other numbers are another token's.
        let numbered = needed.iter().any(|used| used.is_vendors());
        if numbered && profile.mechanisms.contains_key(&M::Sm3) {
            needed.push(M::Sm3);
        }
        needed
    }
}

fn missing(used: MechanismUse) -> HsmError {
    HsmError::Unsupported(format!("the profile has no number for {}", used.name()))
}

fn no_key_type(name: &str) -> String {
    format!("the profile has no key type for {name}")
}
