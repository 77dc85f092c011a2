//! What Claviger knows of each kind of HSM: pure data and its schema. What lives
//! here: the profile's TOML form, its checks, and the built-in profiles. What must
//! not: PKCS#11 calls, or anything that is true of one token and not of its kind.
//!
//! A profile grows by addition: a new key is optional, or has a default, so that a
//! file written for an earlier version still loads. Unknown keys are refused.

mod load;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use load::ProfileError;

/// One kind of HSM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Its name, such as `embedded` or `softhsm2`: `[a-z0-9-]`, 1 to 32 characters.
    pub name: String,
    /// Whether it is hardware; software never counts as such.
    pub hardware: bool,
    /// Whether a call is so fast, and so sure to return, that the thread of an async
    /// runtime may make it itself. To be said only of what was measured: unless it is,
    /// every call waits in a queue of its own thread.
    #[serde(default)]
    pub in_place: bool,
    /// Whether it holds a key to the mechanisms that CKA_ALLOWED_MECHANISMS names; private
    /// keys then get it. Tokens that don't know the attribute refuse a key that has it.
    #[serde(default)]
    pub allowed_mechanisms: bool,
    /// Which slots a member of this kind has.
    pub layout: Layout,
    /// How key material leaves it.
    pub wrap: Wrap,
    /// How message keys are derived inside it; decides the suite of its keys.
    pub derivation: Derivation,
    /// Deviations that the daemon knows how to handle.
    #[serde(default)]
    pub quirks: Vec<Quirk>,
    /// What the token must say of itself, or the profile is refused for it.
    #[serde(rename = "match")]
    pub matches: Match,
    /// CKM_* number of each mechanism that the daemon uses.
    pub mechanisms: BTreeMap<MechanismUse, u64>,
    /// CKK_* numbers of keys that PKCS#11 itself has no number for.
    #[serde(default)]
    pub key_types: KeyTypes,
    /// How SM2's results are written, which no standard of PKCS#11 says.
    #[serde(default)]
    pub forms: Forms,
    /// How a root generation is handed from token to token.
    pub handover: Handover,
}

/// Which slots a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One slot; serving and making keys run in two sessions of it.
    OneSlot,
    /// Two slots with the same root, so that making keys can't hold serving up.
    ServeAndMake,
}

/// How key material leaves a token. Only authenticated wraps exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrap {
    /// AES Key Wrap, RFC 3394; private keys, which it has no padding for, by RFC 5649.
    AesKw,
}

/// How message keys are derived inside a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Derivation {
    /// CKM_AES_CBC_ENCRYPT_DATA: keys can only derive (suite HSM_AES_256_GCM_DERIVED).
    CbcEncryptData,
    /// None: keys encrypt themselves (suite HSM_AES_256_GCM_DIRECT).
    None,
}

/// A deviation from PKCS#11 that the daemon handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quirk {
    /// Sessions are never closed, only forgotten with the library.
    KeepSessionsOpen,
    /// It refuses to unwrap into an object that is to be unmodifiable, so root keys
    /// stay modifiable; sensitive and not extractable they are all the same.
    UnwrapsModifiable,
    /// Its RSAES-OAEP has no SHA-256: raw RSA runs inside, the padding is removed outside,
    /// in constant time.
    #[serde(rename = "oaep-sha-256-outside")]
    OaepSha256Outside,
    /// Before it wraps by RFC 5649 it fills the key up with zeros to a multiple of 8 bytes,
    /// and wraps those too. A private key's DER says where it ends.
    WrapsZeroPadded,
}

/// CKK_* numbers of a vendor's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct KeyTypes {
    /// SM2 key pairs.
    pub sm2: Option<u64>,
    /// SM4 keys.
    pub sm4: Option<u64>,
}

/// How SM2's results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Forms {
    /// Signatures.
    pub sm2_signature: Form,
    /// Ciphertexts.
    pub sm2_ciphertext: Form,
}

/// One of the two usual forms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// DER: SEQUENCE { r, s }; SEQUENCE { x, y, C3, C2 } (GM/T 0009).
    #[default]
    Der,
    /// As it is: r ‖ s; 04 ‖ x ‖ y ‖ C3 ‖ C2.
    Raw,
}

/// What a token must say of itself: prefixes, an empty one fits all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Match {
    /// Of CK_TOKEN_INFO.manufacturerID.
    pub manufacturer: String,
    /// Of CK_TOKEN_INFO.model.
    pub model: String,
    /// Of CK_INFO.libraryDescription.
    pub library: String,
}

/// Declares the uses with their names, in the order in which they are tested and shown.
macro_rules! uses {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// What a mechanism is used for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum MechanismUse {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl MechanismUse {
            /// Every use, in the order in which they are tested and shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in profiles and in `hsm probe`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

uses! {
    /// Making AES keys (CKM_AES_KEY_GEN).
    AesKeyGen = "aes-key-gen",
    /// Wrapping and unwrapping secret keys (CKM_AES_KEY_WRAP).
    AesKeyWrap = "aes-key-wrap",
    /// Deriving message keys (CKM_AES_CBC_ENCRYPT_DATA).
    AesCbcEncryptData = "aes-cbc-encrypt-data",
    /// Encryption (CKM_AES_GCM).
    AesGcm = "aes-gcm",
    /// Check values of keys that don't derive (CKM_AES_CMAC).
    AesCmac = "aes-cmac",
    /// RSA key pairs, also for the hand-over of a root (CKM_RSA_PKCS_KEY_PAIR_GEN).
    RsaKeyPairGen = "rsa-key-pair-gen",
    /// The hand-over itself (CKM_RSA_PKCS_OAEP).
    RsaOaep = "rsa-oaep",
    /// Wrapping and unwrapping private keys (CKM_AES_KEY_WRAP_PAD: RFC 5649).
    AesKeyWrapPad = "aes-key-wrap-pad",
    /// RSASSA-PKCS1-v1_5 (CKM_RSA_PKCS, over a DigestInfo).
    RsaPkcs = "rsa-pkcs",
    /// RSASSA-PSS (CKM_RSA_PKCS_PSS, over a digest).
    RsaPss = "rsa-pss",
    /// RSAES-OAEP with SHA-1 (CKM_RSA_PKCS_OAEP).
    RsaOaepSha1 = "rsa-oaep-sha-1",
    /// RSAES-OAEP with SHA-256 (CKM_RSA_PKCS_OAEP).
    RsaOaepSha256 = "rsa-oaep-sha-256",
    /// Raw RSA (CKM_RSA_X_509), only for [`Quirk::OaepSha256Outside`].
    RsaX509 = "rsa-x-509",
    /// RSAES-PKCS1-v1_5 of imports (CKM_RSA_PKCS), of tokens that refuse a wrong padding
    /// instead of making a plaintext up.
    RsaPkcsUnwrap = "rsa-pkcs-unwrap",
    /// The same of other tokens: raw RSA as a signature (CKM_RSA_X_509), the padding removed
    /// outside.
    RsaX509Sign = "rsa-x-509-sign",
    /// Key pairs on P-256 and P-384 (CKM_EC_KEY_PAIR_GEN).
    EcKeyPairGen = "ec-key-pair-gen",
    /// ECDSA over a digest (CKM_ECDSA).
    Ecdsa = "ecdsa",
    /// HMAC secrets (CKM_GENERIC_SECRET_KEY_GEN).
    GenericSecretKeyGen = "generic-secret-key-gen",
    /// HMAC with SHA-256 (CKM_SHA256_HMAC).
    HmacSha256 = "hmac-sha-256",
    /// HMAC with SHA-384 (CKM_SHA384_HMAC).
    HmacSha384 = "hmac-sha-384",
    /// HMAC with SHA-512 (CKM_SHA512_HMAC).
    HmacSha512 = "hmac-sha-512",
    /// HMAC with SM3; a vendor's number.
    HmacSm3 = "hmac-sm3",
    /// SM3 digests; a vendor's number. No operation asks a token for one: it is tested,
    /// because a wrong one says that the numbering isn't this token's.
    Sm3 = "sm3",
    /// Making SM4 keys; a vendor's number.
    Sm4KeyGen = "sm4-key-gen",
    /// Check values of SM4 keys, one block; a vendor's number.
    Sm4Ecb = "sm4-ecb",
    /// Encryption with SM4, CK_GCM_PARAMS; a vendor's number.
    Sm4Gcm = "sm4-gcm",
    /// SM2 key pairs; a vendor's number.
    Sm2KeyPairGen = "sm2-key-pair-gen",
    /// SM2 signatures over e = SM3(Z_A ‖ M); a vendor's number.
    Sm2Sign = "sm2-sign",
    /// SM2 decryption; a vendor's number.
    Sm2Encrypt = "sm2-encrypt",
}

impl MechanismUse {
    /// Whether its number is a vendor's own, because PKCS#11 has none.
    #[must_use]
    pub const fn is_vendors(self) -> bool {
        matches!(
            self,
            Self::HmacSm3
                | Self::Sm3
                | Self::Sm4KeyGen
                | Self::Sm4Ecb
                | Self::Sm4Gcm
                | Self::Sm2KeyPairGen
                | Self::Sm2Sign
                | Self::Sm2Encrypt
        )
    }

    /// Whether every profile must have a number for it: without these there is no root, no
    /// hand-over of one and no AES_256.
    #[must_use]
    pub const fn is_required(self, derivation: Derivation) -> bool {
        match self {
            Self::AesKeyGen
            | Self::AesKeyWrap
            | Self::AesGcm
            | Self::AesCmac
            | Self::RsaKeyPairGen
            | Self::RsaOaep => true,
            Self::AesCbcEncryptData => matches!(derivation, Derivation::CbcEncryptData),
            _ => false,
        }
    }
}

/// How a root generation is handed from token to token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Handover {
    /// Hash of OAEP and of its MGF1.
    pub oaep_hash: OaepHash,
    /// Modulus of the receiving key pair: 3072 or 4096.
    pub modulus_bits: u32,
}

/// Hash of RSAES-OAEP (RFC 8017, section 7.1), and of its MGF1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OaepHash {
    /// SHA-1: sound in OAEP, and the only one that some tokens have.
    #[serde(rename = "sha-1")]
    Sha1,
    /// SHA-256.
    #[serde(rename = "sha-256")]
    Sha256,
}

impl Profile {
    /// Whether the profile names this quirk.
    #[must_use]
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}
