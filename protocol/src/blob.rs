//! The ciphertext blob, laid out by hand (`SPEC.md` section 9).
//!
//! ```text
//!  0  4  magic "CLVB"
//!  4  1  format, 1
//!  5  1  suite
//!  6  2  reserved, zero
//!  8 16  key id          (UUID, big-endian as in RFC 9562)
//! 24 16  key version id  (UUID)
//! 40  s  salt            (s by suite: 32 or 16 or 0)
//!     12 nonce
//!     c  commitment      (c by suite: 32 or 0)
//!     n  ciphertext
//!     16 tag
//! ```
//! The authenticated data of every suite is the whole header (all that stands
//! before the ciphertext) followed by the canonical encryption context.

use uuid::Uuid;

use crate::{context::EncryptionContext, values::wire_enum};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::values::{KeySpec, UnknownSpelling};

/// First bytes of every blob.
pub const MAGIC: [u8; 4] = *b"CLVB";
/// The one layout there is.
pub const FORMAT: u8 = 1;
/// Bytes of the GCM nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of the GCM tag.
pub const TAG_LEN: usize = 16;
/// The salt of `HsmAes256Derived` that no blob carries: the sub-key of it serves
/// key check values alone, so a blob under it would share their nonce.
pub const RESERVED_SALT: [u8; 16] = *b"claviger/v1/chkv";
const FIXED_LEN: usize = 40;

wire_enum! {
    /// How a blob's ciphertext was made; decides the lengths of salt and commitment.
    Suite, "blob suite" {
        /// SOFTWARE AES_256: per-message key and commitment by HKDF-SHA-256, AES-256-GCM.
        SoftwareAes256 = 1 "SOFTWARE_AES_256_GCM_HKDF",
        /// HSM AES_256, derive-only: AES-256-GCM under a sub-key derived in the HSM.
        HsmAes256Derived = 2 "HSM_AES_256_GCM_DERIVED",
        /// HSM AES_256, direct: AES-256-GCM under the key itself.
        HsmAes256Direct = 3 "HSM_AES_256_GCM_DIRECT",
        /// SOFTWARE SM4: per-message key and commitment by HKDF over HMAC-SM3, SM4-GCM.
        SoftwareSm4 = 4 "SOFTWARE_SM4_GCM_HKDF_SM3",
        /// HSM SM4, direct: SM4-GCM under the key itself.
        HsmSm4Direct = 5 "HSM_SM4_GCM_DIRECT",
    }
}

impl Suite {
    /// The spec of the keys that make such blobs.
    #[must_use]
    pub const fn spec(self) -> KeySpec {
        match self {
            Self::SoftwareAes256 | Self::HsmAes256Derived | Self::HsmAes256Direct => KeySpec::Aes256,
            Self::SoftwareSm4 | Self::HsmSm4Direct => KeySpec::Sm4,
        }
    }

    /// Bytes of salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::SoftwareAes256 | Self::SoftwareSm4 => 32,
            Self::HsmAes256Derived => 16,
            Self::HsmAes256Direct | Self::HsmSm4Direct => 0,
        }
    }

    /// Bytes of key commitment.
    #[must_use]
    pub const fn commitment_len(self) -> usize {
        match self {
            Self::SoftwareAes256 | Self::SoftwareSm4 => 32,
            Self::HsmAes256Derived | Self::HsmAes256Direct | Self::HsmSm4Direct => 0,
        }
    }

    /// Bytes before the ciphertext.
    #[must_use]
    pub const fn header_len(self) -> usize {
        FIXED_LEN + self.salt_len() + NONCE_LEN + self.commitment_len()
    }
}

/// Why bytes are no blob of ours. Callers get one code for all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Too short for its suite.
    #[error("cut short")]
    Cut,
    /// Another magic, format or reserved bits.
    #[error("not a ciphertext blob of format 1")]
    Foreign,
    /// A suite number that this version doesn't know.
    #[error("unknown suite")]
    UnknownSuite,
    /// The salt is [`RESERVED_SALT`].
    #[error("reserved salt")]
    ReservedSalt,
}

/// What a new blob's header says. Written first; the ciphertext goes behind it.
#[derive(Debug, Clone, Copy)]
pub struct BlobHeader<'a> {
    /// How the ciphertext is made.
    pub suite: Suite,
    /// The key's id.
    pub key_id: Uuid,
    /// The key version's id.
    pub version_id: Uuid,
    /// As many bytes as the suite says.
    pub salt: &'a [u8],
    /// The GCM nonce.
    pub nonce: [u8; NONCE_LEN],
}

impl BlobHeader<'_> {
    /// Everything before the commitment: what the commitment is derived over. The
    /// vector has room for the whole header and `more` bytes behind it.
    ///
    /// # Panics
    /// If the salt isn't as long as the suite says: such a blob could never be opened.
    #[must_use]
    pub fn prefix(&self, more: usize) -> Vec<u8> {
        assert_eq!(self.salt.len(), self.suite.salt_len(), "a blob's salt is as long as its suite says");
        let mut out = Vec::with_capacity(self.suite.header_len() + more);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT, self.suite.number(), 0, 0]);
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(self.version_id.as_bytes());
        out.extend_from_slice(self.salt);
        out.extend_from_slice(&self.nonce);
        out
    }
}

/// A blob taken apart, borrowing its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef<'a> {
    /// How the ciphertext was made.
    pub suite: Suite,
    /// The key's id.
    pub key_id: Uuid,
    /// The key version's id.
    pub version_id: Uuid,
    /// Salt, as long as the suite says.
    pub salt: &'a [u8],
    /// The GCM nonce.
    pub nonce: [u8; NONCE_LEN],
    /// Key commitment, as long as the suite says.
    pub commitment: &'a [u8],
    /// Everything before the commitment.
    pub prefix: &'a [u8],
    /// Everything before the ciphertext.
    pub header: &'a [u8],
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

impl<'a> BlobRef<'a> {
    /// Takes a blob apart. Nothing is authenticated yet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let fixed = bytes.get(..FIXED_LEN).ok_or(BlobError::Cut)?;
        if fixed[..4] != MAGIC || fixed[4] != FORMAT || fixed[6..8] != [0, 0] {
            return Err(BlobError::Foreign);
        }
        let suite = Suite::from_number(fixed[5]).ok_or(BlobError::UnknownSuite)?;
        if bytes.len() < suite.header_len() + TAG_LEN {
            return Err(BlobError::Cut);
        }
        let (header, sealed) = bytes.split_at(suite.header_len());
        let (prefix, commitment) = header.split_at(header.len() - suite.commitment_len());
        let (before_nonce, nonce) = prefix.split_last_chunk::<NONCE_LEN>().ok_or(BlobError::Cut)?;
        let salt = &before_nonce[FIXED_LEN..];
        if salt == RESERVED_SALT {
            return Err(BlobError::ReservedSalt);
        }
        Ok(Self {
            suite,
            key_id: uuid_at(fixed, 8),
            version_id: uuid_at(fixed, 24),
            salt,
            nonce: *nonce,
            commitment,
            prefix,
            header,
            sealed,
        })
    }
}

/// The authenticated data of a blob: its header, then the canonical context.
#[must_use]
pub fn authenticated_data(header: &[u8], context: &EncryptionContext) -> Vec<u8> {
    [header, context.as_bytes()].concat()
}

fn uuid_at(fixed: &[u8], at: usize) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&fixed[at..at + 16]);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(suite: Suite) -> Vec<u8> {
        let salt = vec![7; suite.salt_len()];
        let header = BlobHeader {
            suite,
            key_id: Uuid::from_u128(1),
            version_id: Uuid::from_u128(2),
            salt: &salt,
            nonce: [3; NONCE_LEN],
        };
        let mut blob = header.prefix(0);
        blob.extend(vec![4; suite.commitment_len()]);
        blob.extend([5; 3]);
        blob.extend([6; TAG_LEN]);
        blob
    }

    #[test]
    fn every_suite_comes_apart_as_it_was_put_together() {
        for &suite in Suite::ALL {
            let bytes = sample(suite);
            let blob = BlobRef::parse(&bytes).unwrap();
            assert_eq!((blob.suite, blob.key_id.as_u128(), blob.version_id.as_u128()), (suite, 1, 2));
            assert_eq!(blob.salt, vec![7; suite.salt_len()]);
            assert_eq!(blob.nonce, [3; NONCE_LEN]);
            assert_eq!(blob.commitment, vec![4; suite.commitment_len()]);
            assert_eq!(blob.sealed, [[5; 3].as_slice(), &[6; TAG_LEN]].concat());
            assert_eq!(blob.header.len(), suite.header_len());
        }
    }

    #[test]
    fn cut_and_foreign_bytes_are_refused() {
        let good = sample(Suite::SoftwareAes256);
        let shortest = Suite::SoftwareAes256.header_len() + TAG_LEN;
        for len in 0..shortest {
            assert_eq!(BlobRef::parse(&good[..len]), Err(BlobError::Cut), "{len}");
        }
        for (at, want) in [
            (0, BlobError::Foreign),
            (4, BlobError::Foreign),
            (5, BlobError::UnknownSuite),
            (6, BlobError::Foreign),
            (7, BlobError::Foreign),
        ] {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            assert_eq!(BlobRef::parse(&bad), Err(want), "byte {at}");
        }
    }

    #[test]
    fn the_check_values_salt_is_refused() {
        let mut blob = sample(Suite::HsmAes256Derived);
        blob[FIXED_LEN..FIXED_LEN + 16].copy_from_slice(&RESERVED_SALT);
        assert_eq!(BlobRef::parse(&blob), Err(BlobError::ReservedSalt));
        blob[FIXED_LEN] ^= 1;
        assert!(BlobRef::parse(&blob).is_ok());
    }

    #[test]
    #[should_panic(expected = "as long as its suite says")]
    fn a_salt_of_another_length_is_never_written() {
        let header = BlobHeader {
            suite: Suite::HsmAes256Derived,
            key_id: Uuid::nil(),
            version_id: Uuid::nil(),
            salt: &[0; 15],
            nonce: [0; NONCE_LEN],
        };
        let _ = header.prefix(0);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = BlobRef::parse(&bytes);
        }
    }
}
