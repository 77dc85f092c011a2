//! Recovery recipients and the recovery file. What must not live here: the making and
//! restoring of roots in tokens.
//!
//! # The recovery file
//! `root-<generation>.recovery` in the state directory, JSON, unknown keys refused:
//!
//! ```json
//! {
//!   "format": "claviger-recovery",
//!   "version": 1,
//!   "domain_id": "…",
//!   "root_generation": 1,
//!   "recipients": [
//!     { "fingerprint": "…", "oaep_hash": "sha-256", "wrap": "…", "seal": "…" }
//!   ]
//! }
//! ```
//!
//! `fingerprint` is SHA-256 of the recipient's SubjectPublicKeyInfo DER (RFC 5280);
//! `wrap` and `seal` are the two root keys, each in RSAES-OAEP (RFC 8017, section 7.1)
//! with that hash, MGF1 with the same, and no label. Byte strings are hexadecimal. The
//! file is worth nothing without a recipient's private key, and is as precious as the
//! token with it: keep a copy elsewhere.

use std::path::Path;

use aws_lc_rs::digest;
use claviger_hsm_profiles::OaepHash;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::command::HsmError;
use super::failure::failed;
use super::making::RootError;
use super::{RootId, files, template};

/// Smallest modulus of a recipient, in bits.
const MIN_BITS: usize = 3072;
/// Largest PEM file that is read, in bytes.
const MAX_PEM: u64 = 64 * 1024;
/// Largest recovery file that is read, in bytes: some hundreds of recipients.
pub(super) const MAX_FILE: u64 = 1024 * 1024;
const FORMAT: &str = "claviger-recovery";

/// Somebody who can restore the root, offline.
pub(super) struct Recipient {
    pub(super) fingerprint: String,
    pub(super) modulus: Vec<u8>,
    pub(super) exponent: Vec<u8>,
}

impl Recipient {
    /// Reads an RSA public key (PEM, SubjectPublicKeyInfo) of 3072 to 4096 bits.
    pub(super) fn load(path: &Path) -> Result<Self, RootError> {
        let bad = |reason: String| RootError::Recipient { path: path.to_owned(), reason };
        let text = read_text(path).map_err(bad)?;
        let key = RsaPublicKey::from_public_key_pem(&text)
            .map_err(|e| bad(format!("expected an RSA public key in PEM (SPKI): {e}")))?;
        let bits = key.n().bits();
        if bits < MIN_BITS {
            return Err(bad(format!("expected an RSA key of at least {MIN_BITS} bits, this has {bits}")));
        }
        Self::of(&key).map_err(bad)
    }

    fn of(key: &RsaPublicKey) -> Result<Self, String> {
        let spki = key.to_public_key_der().map_err(|e| e.to_string())?;
        Ok(Self {
            fingerprint: hex::encode(digest::digest(&digest::SHA256, spki.as_bytes())),
            modulus: key.n().to_bytes_be(),
            exponent: key.e().to_bytes_be(),
        })
    }
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, String> {
    let bytes = files::read(path, MAX_PEM).map_err(|e| e.to_string())?;
    let bytes = Zeroizing::new(bytes.ok_or("no such file")?);
    let text = std::str::from_utf8(&bytes).map_err(|_| "not a PEM file")?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A recipient's private key, on its way into a token. Wiped when dropped.
pub(super) struct RecoveryKey {
    key: RsaPrivateKey,
    pub(super) fingerprint: String,
}

impl RecoveryKey {
    /// Reads an unencrypted RSA private key (PEM, PKCS#8 or PKCS#1).
    pub(super) fn load(path: &Path) -> Result<Self, RootError> {
        let bad = |reason: String| RootError::Recipient { path: path.to_owned(), reason };
        let text = read_text(path).map_err(bad)?;
        let key =
            RsaPrivateKey::from_pkcs8_pem(&text).or_else(|_| RsaPrivateKey::from_pkcs1_pem(&text)).map_err(
                |_| bad("expected an unencrypted RSA private key in PEM (PKCS#8 or PKCS#1)".to_owned()),
            )?;
        let fingerprint = Recipient::of(&key.to_public_key()).map_err(bad)?.fingerprint;
        Ok(Self { key, fingerprint })
    }

    /// Puts it into a token as a session object that only unwraps.
    pub(super) fn import(&self, session: &Session) -> Result<ObjectHandle, HsmError> {
        let incomplete = || HsmError::Fault("the recovery key lacks its CRT parts".to_owned());
        let [p, q] = self.key.primes() else { return Err(incomplete()) };
        let (dp, dq) = self.key.dp().zip(self.key.dq()).ok_or_else(incomplete)?;
        let coefficient = self.key.crt_coefficient().ok_or_else(incomplete)?;
        let mut attributes = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(false),
            Attribute::Modulus(self.key.n().to_bytes_be()),
            Attribute::PublicExponent(self.key.e().to_bytes_be()),
            Attribute::PrivateExponent(self.key.d().to_bytes_be()),
            Attribute::Prime1(p.to_bytes_be()),
            Attribute::Prime2(q.to_bytes_be()),
            Attribute::Exponent1(dp.to_bytes_be()),
            Attribute::Exponent2(dq.to_bytes_be()),
            Attribute::Coefficient(coefficient.to_bytes_be()),
        ];
        attributes.extend(template::unwrapping_only());
        let made = session.create_object(&attributes);
        for attribute in &mut attributes {
            if let Attribute::PrivateExponent(bytes)
            | Attribute::Prime1(bytes)
            | Attribute::Prime2(bytes)
            | Attribute::Exponent1(bytes)
            | Attribute::Exponent2(bytes)
            | Attribute::Coefficient(bytes) = attribute
            {
                bytes.zeroize();
            }
        }
        made.map_err(|e| failed(&e))
    }
}

/// A root generation, wrapped to its recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryFile {
    format: String,
    version: u32,
    domain_id: Uuid,
    root_generation: u32,
    pub(super) recipients: Vec<Share>,
}

/// The root's two keys, wrapped to one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Share {
    pub(super) fingerprint: String,
    pub(super) oaep_hash: OaepHash,
    #[serde(with = "hexadecimal")]
    pub(super) wrap: Vec<u8>,
    #[serde(with = "hexadecimal")]
    pub(super) seal: Vec<u8>,
}

impl RecoveryFile {
    pub(super) fn new(root: RootId, recipients: Vec<Share>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: 1,
            domain_id: root.domain,
            root_generation: root.generation,
            recipients,
        }
    }

    /// Its name in the state directory.
    pub(super) fn name(root: RootId) -> String {
        format!("root-{}.recovery", root.generation)
    }

    /// The root that it holds.
    #[must_use]
    pub fn root(&self) -> RootId {
        RootId { domain: self.domain_id, generation: self.root_generation }
    }

    pub(super) fn write(&self, state_dir: &Path) -> std::io::Result<()> {
        files::replace(state_dir, &Self::name(self.root()), &self.encode()?)
    }

    pub(super) fn load(path: &Path) -> Result<Self, RootError> {
        let bad = |reason: String| RootError::Recovery { path: path.to_owned(), reason };
        let bytes = files::read(path, MAX_FILE).map_err(|e| bad(e.to_string()))?;
        let bytes = bytes.ok_or_else(|| bad("no such file".to_owned()))?;
        Self::parse(&bytes).map_err(bad)
    }

    /// Its bytes in the state directory.
    ///
    /// # Errors
    /// None that is known: nothing in it can't be JSON.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }

    /// Reads it from all of `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if file.format != FORMAT || file.version != 1 {
            return Err(format!("expected format {FORMAT}, version 1"));
        }
        Ok(file)
    }

    /// What is wrapped to this key.
    pub(super) fn share(&self, fingerprint: &str) -> Option<&Share> {
        self.recipients.iter().find(|share| share.fingerprint == fingerprint)
    }
}

/// Byte strings as hexadecimal text.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
