//! Which algorithms there are, and which of them a key may be used with. Numbers
//! are never reused; names are the cloud KMS's own.
//!
//! Sources: RSASSA and RSAES, RFC 8017; ECDSA, FIPS 186-5; SM2, GB/T 32918.2 and .4
//! and GM/T 0009; HMAC, RFC 2104 and FIPS 198-1; SHA-2, FIPS 180-4; SM3, GB/T 32905.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::values::{KeySpec, KeyUsage, UnknownSpelling, wire_enum};

wire_enum! {
    /// How a message is signed.
    SigningAlgorithm, "signing algorithm" {
        /// RSASSA-PSS, MGF1 with the same hash, salt as long as the hash.
        RsaPssSha256 = 1 "RSA_PSS_SHA_256",
        /// The same with SHA-384.
        RsaPssSha384 = 2 "RSA_PSS_SHA_384",
        /// The same with SHA-512.
        RsaPssSha512 = 3 "RSA_PSS_SHA_512",
        /// RSASSA-PKCS1-v1_5.
        RsaPkcs1Sha256 = 4 "RSA_PKCS1_SHA_256",
        /// The same with SHA-384.
        RsaPkcs1Sha384 = 5 "RSA_PKCS1_SHA_384",
        /// The same with SHA-512.
        RsaPkcs1Sha512 = 6 "RSA_PKCS1_SHA_512",
        /// ECDSA on P-256; signatures are DER (r, s).
        EcdsaSha256 = 7 "ECDSA_SHA_256",
        /// ECDSA on P-384; signatures are DER (r, s).
        EcdsaSha384 = 8 "ECDSA_SHA_384",
        /// SM2 with SM3 over Z_A and the message; signatures are DER (r, s).
        Sm2Dsa = 9 "SM2DSA" | "SM2_SM3",
    }
}

wire_enum! {
    /// How a short message is encrypted to a key pair.
    EncryptionAlgorithm, "encryption algorithm" {
        /// RSAES-OAEP, SHA-1 and MGF1 with SHA-1, no label.
        RsaesOaepSha1 = 1 "RSAES_OAEP_SHA_1",
        /// RSAES-OAEP, SHA-256 and MGF1 with SHA-256, no label.
        RsaesOaepSha256 = 2 "RSAES_OAEP_SHA_256",
        /// SM2 encryption; ciphertexts are the DER of GM/T 0009 (x, y, C3, C2).
        Sm2Pke = 3 "SM2PKE",
    }
}

wire_enum! {
    /// How a data key is encrypted to a public key that a caller brings.
    ExportAlgorithm, "export algorithm" {
        /// RSAES-OAEP, SHA-1 and MGF1 with SHA-1, no label.
        RsaesOaepSha1 = 1 "RSAES_OAEP_SHA_1",
        /// RSAES-OAEP, SHA-256 and MGF1 with SHA-256, no label.
        RsaesOaepSha256 = 2 "RSAES_OAEP_SHA_256",
        /// RSAES-PKCS1-v1_5.
        RsaesPkcs1V15 = 3 "RSAES_PKCS1_V1_5",
        /// SM2 encryption, as [`EncryptionAlgorithm::Sm2Pke`].
        Sm2Pke = 4 "SM2PKE",
    }
}

wire_enum! {
    /// How material that is imported was encrypted to its wrapping key. Which layout each
    /// means for which key spec: `SPEC.md` section 14.
    ImportAlgorithm, "import algorithm" {
        /// RSAES-PKCS1-v1_5.
        RsaesPkcs1V15 = 1 "RSAES_PKCS1_V1_5",
        /// RSAES-OAEP, SHA-1 and MGF1 with SHA-1, no label.
        RsaesOaepSha1 = 2 "RSAES_OAEP_SHA_1",
        /// RSAES-OAEP, SHA-256 and MGF1 with SHA-256, no label.
        RsaesOaepSha256 = 3 "RSAES_OAEP_SHA_256",
        /// A random AES-256 key by RSAES-OAEP with SHA-256, then AES-KWP under it, as
        /// CKM_RSA_AES_KEY_WRAP has them.
        RsaAesKeyWrapSha256 = 4 "RSA_AES_KEY_WRAP_SHA_256",
        /// SM2 encryption, as [`EncryptionAlgorithm::Sm2Pke`].
        Sm2Pke = 5 "SM2PKE",
    }
}

wire_enum! {
    /// Kinds of wrapping key for imports. Numbers are those of [`KeySpec`].
    WrappingKeySpec, "wrapping key spec" {
        /// RSA, 2048-bit modulus.
        Rsa2048 = 3 "RSA_2048",
        /// RSA, 3072-bit modulus.
        Rsa3072 = 4 "RSA_3072",
        /// RSA, 4096-bit modulus.
        Rsa4096 = 5 "RSA_4096",
        /// SM2 on its recommended curve.
        Sm2 = 8 "SM2" | "Ctyun_SM2" | "EC_SM2",
    }
}

wire_enum! {
    /// How a MAC is made.
    MacAlgorithm, "MAC algorithm" {
        /// 32 bytes.
        HmacSha256 = 1 "HMAC_SHA_256",
        /// 48 bytes.
        HmacSha384 = 2 "HMAC_SHA_384",
        /// 64 bytes.
        HmacSha512 = 3 "HMAC_SHA_512",
        /// 32 bytes.
        HmacSm3 = 4 "HMAC_SM3",
    }
}

wire_enum! {
    /// How a digest is made.
    DigestAlgorithm, "digest algorithm" {
        /// 32 bytes.
        Sm3 = 1 "SM3",
        /// 32 bytes.
        Sha256 = 2 "SHA_256",
        /// 48 bytes.
        Sha384 = 3 "SHA_384",
        /// 64 bytes.
        Sha512 = 4 "SHA_512",
    }
}

wire_enum! {
    /// What the bytes to sign are.
    MessageType, "message type" {
        /// The message: the daemon hashes it.
        Message = 1 "MESSAGE",
        /// Its digest, of the algorithm's hash (SM2DSA: over Z_A and the message).
        Digest = 2 "DIGEST",
    }
}

wire_enum! {
    /// Kinds of key pair that GenerateDataKeyPair makes. Numbers are those of [`KeySpec`].
    KeyPairSpec, "key pair spec" {
        /// RSA, 2048-bit modulus.
        Rsa2048 = 3 "RSA_2048",
        /// RSA, 3072-bit modulus.
        Rsa3072 = 4 "RSA_3072",
        /// RSA, 4096-bit modulus.
        Rsa4096 = 5 "RSA_4096",
        /// NIST P-256.
        EcP256 = 6 "EC_P256",
        /// NIST P-384.
        EcP384 = 7 "EC_P384",
        /// SM2 on its recommended curve.
        Sm2 = 8 "SM2" | "Ctyun_SM2" | "EC_SM2",
    }
}

impl KeySpec {
    /// What keys of this spec can be for; the first is the default.
    #[must_use]
    pub const fn usages(self) -> &'static [KeyUsage] {
        match self {
            Self::Aes256 | Self::Sm4 => &[KeyUsage::EncryptDecrypt],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 | Self::Sm2 => {
                &[KeyUsage::SignVerify, KeyUsage::EncryptDecrypt]
            }
            Self::EcP256 | Self::EcP384 => &[KeyUsage::SignVerify],
            Self::Hmac256 | Self::Hmac384 | Self::Hmac512 | Self::HmacSm3 => &[KeyUsage::GenerateVerifyMac],
        }
    }

    /// The kind of key pair it is; none for secret keys.
    #[must_use]
    pub const fn pair(self) -> Option<KeyPairSpec> {
        KeyPairSpec::from_number(self.number())
    }

    /// Length of a secret key in bytes; none for pairs.
    #[must_use]
    pub const fn secret_len(self) -> Option<usize> {
        match self {
            Self::Aes256 | Self::Hmac256 | Self::HmacSm3 => Some(32),
            Self::Sm4 => Some(16),
            Self::Hmac384 => Some(48),
            Self::Hmac512 => Some(64),
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 | Self::EcP256 | Self::EcP384 | Self::Sm2 => None,
        }
    }

    /// What keys of this spec sign with.
    #[must_use]
    pub const fn signing_algorithms(self) -> &'static [SigningAlgorithm] {
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => &[
                SigningAlgorithm::RsaPssSha256,
                SigningAlgorithm::RsaPssSha384,
                SigningAlgorithm::RsaPssSha512,
                SigningAlgorithm::RsaPkcs1Sha256,
                SigningAlgorithm::RsaPkcs1Sha384,
                SigningAlgorithm::RsaPkcs1Sha512,
            ],
            Self::EcP256 => &[SigningAlgorithm::EcdsaSha256],
            Self::EcP384 => &[SigningAlgorithm::EcdsaSha384],
            Self::Sm2 => &[SigningAlgorithm::Sm2Dsa],
            _ => &[],
        }
    }

    /// What is encrypted to pairs of this spec with.
    #[must_use]
    pub const fn encryption_algorithms(self) -> &'static [EncryptionAlgorithm] {
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => {
                &[EncryptionAlgorithm::RsaesOaepSha1, EncryptionAlgorithm::RsaesOaepSha256]
            }
            Self::Sm2 => &[EncryptionAlgorithm::Sm2Pke],
            _ => &[],
        }
    }

    /// What keys of this spec make MACs with.
    #[must_use]
    pub const fn mac_algorithm(self) -> Option<MacAlgorithm> {
        match self {
            Self::Hmac256 => Some(MacAlgorithm::HmacSha256),
            Self::Hmac384 => Some(MacAlgorithm::HmacSha384),
            Self::Hmac512 => Some(MacAlgorithm::HmacSha512),
            Self::HmacSm3 => Some(MacAlgorithm::HmacSm3),
            _ => None,
        }
    }
}

impl From<EncryptionAlgorithm> for ExportAlgorithm {
    fn from(algorithm: EncryptionAlgorithm) -> Self {
        match algorithm {
            EncryptionAlgorithm::RsaesOaepSha1 => Self::RsaesOaepSha1,
            EncryptionAlgorithm::RsaesOaepSha256 => Self::RsaesOaepSha256,
            EncryptionAlgorithm::Sm2Pke => Self::Sm2Pke,
        }
    }
}

impl KeyPairSpec {
    /// The key spec of the same number.
    #[must_use]
    pub const fn key_spec(self) -> KeySpec {
        match self {
            Self::Rsa2048 => KeySpec::Rsa2048,
            Self::Rsa3072 => KeySpec::Rsa3072,
            Self::Rsa4096 => KeySpec::Rsa4096,
            Self::EcP256 => KeySpec::EcP256,
            Self::EcP384 => KeySpec::EcP384,
            Self::Sm2 => KeySpec::Sm2,
        }
    }
}

impl SigningAlgorithm {
    /// The hash of the message.
    #[must_use]
    pub const fn digest(self) -> DigestAlgorithm {
        match self {
            Self::RsaPssSha256 | Self::RsaPkcs1Sha256 | Self::EcdsaSha256 => DigestAlgorithm::Sha256,
            Self::RsaPssSha384 | Self::RsaPkcs1Sha384 | Self::EcdsaSha384 => DigestAlgorithm::Sha384,
            Self::RsaPssSha512 | Self::RsaPkcs1Sha512 => DigestAlgorithm::Sha512,
            Self::Sm2Dsa => DigestAlgorithm::Sm3,
        }
    }
}

impl MacAlgorithm {
    /// The hash beneath.
    #[must_use]
    pub const fn digest(self) -> DigestAlgorithm {
        match self {
            Self::HmacSha256 => DigestAlgorithm::Sha256,
            Self::HmacSha384 => DigestAlgorithm::Sha384,
            Self::HmacSha512 => DigestAlgorithm::Sha512,
            Self::HmacSm3 => DigestAlgorithm::Sm3,
        }
    }
}

impl DigestAlgorithm {
    /// Bytes of a digest. A digest is never empty.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(self) -> usize {
        match self {
            Self::Sm3 | Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spec_has_algorithms_for_each_of_its_usages_and_for_no_other() {
        for &spec in KeySpec::ALL {
            let usages = spec.usages();
            assert!(!usages.is_empty(), "{spec}");
            let symmetric = spec.secret_len().is_some();
            assert_eq!(spec.pair().is_none(), symmetric, "{spec}");
            assert_eq!(
                usages.contains(&KeyUsage::SignVerify),
                !spec.signing_algorithms().is_empty(),
                "{spec}"
            );
            let encrypts = usages.contains(&KeyUsage::EncryptDecrypt);
            assert_eq!(encrypts && !symmetric, !spec.encryption_algorithms().is_empty(), "{spec}");
            assert_eq!(
                usages.contains(&KeyUsage::GenerateVerifyMac),
                spec.mac_algorithm().is_some(),
                "{spec}"
            );
        }
    }

    #[test]
    fn pairs_have_the_numbers_and_names_of_their_specs() {
        for &pair in KeyPairSpec::ALL {
            assert_eq!(pair.number(), pair.key_spec().number());
            assert_eq!(pair.name(), pair.key_spec().name());
            assert_eq!(pair.key_spec().pair(), Some(pair));
        }
    }
}
