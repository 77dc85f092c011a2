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
    /// AES Key Wrap, RFC 3394.
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

/// What a mechanism is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MechanismUse {
    /// Making AES keys (CKM_AES_KEY_GEN).
    AesKeyGen,
    /// Wrapping and unwrapping keys (CKM_AES_KEY_WRAP).
    AesKeyWrap,
    /// Deriving message keys (CKM_AES_CBC_ENCRYPT_DATA).
    AesCbcEncryptData,
    /// Encryption (CKM_AES_GCM).
    AesGcm,
    /// Check values of keys that don't derive (CKM_AES_CMAC).
    AesCmac,
    /// Key pairs for the hand-over of a root (CKM_RSA_PKCS_KEY_PAIR_GEN).
    RsaKeyPairGen,
    /// The hand-over itself (CKM_RSA_PKCS_OAEP).
    RsaOaep,
}

impl MechanismUse {
    /// Every use, in the order in which they are tested and shown.
    pub const ALL: [Self; 7] = [
        Self::AesKeyGen,
        Self::AesKeyWrap,
        Self::AesCbcEncryptData,
        Self::AesGcm,
        Self::AesCmac,
        Self::RsaKeyPairGen,
        Self::RsaOaep,
    ];

    /// Its name in profiles and in `hsm probe`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesKeyGen => "aes-key-gen",
            Self::AesKeyWrap => "aes-key-wrap",
            Self::AesCbcEncryptData => "aes-cbc-encrypt-data",
            Self::AesGcm => "aes-gcm",
            Self::AesCmac => "aes-cmac",
            Self::RsaKeyPairGen => "rsa-key-pair-gen",
            Self::RsaOaep => "rsa-oaep",
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
