//! The encryption context in its one canonical encoding (`SPEC.md` section 8).
//!
//! Independent of the body codec: these bytes are authenticated with every
//! ciphertext, and must mean the same for ever.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{limits::MAX_CONTEXT_LEN, secret::Bytes};

/// Why bytes or pairs are no encryption context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Over 8 KiB in canonical form.
    #[error("an encryption context has at most 8192 bytes in canonical form")]
    TooLong,
    /// Bytes end inside the encoding, follow it, or claim lengths they don't have.
    #[error("the encryption context is cut or has bytes left over")]
    Malformed,
    /// Keys not in ascending byte order.
    #[error("the encryption context's keys are not sorted")]
    Unsorted,
    /// One key twice.
    #[error("the encryption context has a key twice")]
    Duplicate,
    /// A key of no bytes.
    #[error("the encryption context has an empty key")]
    EmptyKey,
    /// A key or value is not UTF-8.
    #[error("the encryption context is not UTF-8")]
    NotUtf8,
}

/// A map of texts that is authenticated, not encrypted, with a ciphertext.
///
/// Canonical form: `u16` count, then for each pair in ascending byte order of its
/// key: `u16` key length, key, `u16` value length, value; integers little-endian.
///
/// Its `Debug` shows only the length: contexts name people and accounts, and logs
/// and audit have no more than a keyed hash of them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EncryptionContext(Vec<u8>);

impl fmt::Debug for EncryptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionContext({} bytes)", self.0.len())
    }
}

impl Default for EncryptionContext {
    fn default() -> Self {
        Self(vec![0, 0])
    }
}

impl EncryptionContext {
    /// Builds the canonical form of pairs given in any order.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ContextError> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().as_bytes().cmp(b.0.as_ref().as_bytes()));
        let count = u16::try_from(pairs.len()).map_err(|_| ContextError::TooLong)?;
        let mut out = count.to_le_bytes().to_vec();
        for (key, value) in &pairs {
            for part in [key.as_ref(), value.as_ref()] {
                let len = u16::try_from(part.len()).map_err(|_| ContextError::TooLong)?;
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(part.as_bytes());
            }
        }
        Self::from_canonical(out)
    }

    /// Checks bytes that claim to be canonical, and takes them.
    pub fn from_canonical(bytes: Vec<u8>) -> Result<Self, ContextError> {
        if bytes.len() > MAX_CONTEXT_LEN {
            return Err(ContextError::TooLong);
        }
        let mut rest = bytes.as_slice();
        let count = take_u16(&mut rest)?;
        let mut previous: Option<&str> = None;
        for _ in 0..count {
            let key = take_text(&mut rest)?;
            take_text(&mut rest)?;
            if key.is_empty() {
                return Err(ContextError::EmptyKey);
            }
            match previous.map(|p| p.as_bytes().cmp(key.as_bytes())) {
                Some(std::cmp::Ordering::Equal) => return Err(ContextError::Duplicate),
                Some(std::cmp::Ordering::Greater) => return Err(ContextError::Unsorted),
                _ => previous = Some(key),
            }
        }
        if rest.is_empty() { Ok(Self(bytes)) } else { Err(ContextError::Malformed) }
    }

    /// The canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs().next().is_none()
    }

    /// The pairs, in canonical order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.0.get(2..).unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            Some((take_text(&mut rest).ok()?, take_text(&mut rest).ok()?))
        })
    }
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, ContextError> {
    let (head, tail) = rest.split_first_chunk::<2>().ok_or(ContextError::Malformed)?;
    *rest = tail;
    Ok(u16::from_le_bytes(*head))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, ContextError> {
    let len = usize::from(take_u16(rest)?);
    let (head, tail) = rest.split_at_checked(len).ok_or(ContextError::Malformed)?;
    *rest = tail;
    std::str::from_utf8(head).map_err(|_| ContextError::NotUtf8)
}

impl Serialize for EncryptionContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for EncryptionContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_canonical(Bytes::deserialize(deserializer)?.0).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_bytes_are_as_specified() {
        let context = EncryptionContext::from_pairs([("b", "2"), ("a", "")]).unwrap();
        assert_eq!(context.as_bytes(), b"\x02\x00\x01\x00a\x00\x00\x01\x00b\x01\x002");
        assert_eq!(EncryptionContext::default().as_bytes(), [0, 0]);
        assert_eq!(context.pairs().collect::<Vec<_>>(), [("a", ""), ("b", "2")]);
    }

    #[test]
    fn debug_shows_no_pair() {
        let context = EncryptionContext::from_pairs([("patient", "Jane")]).unwrap();
        assert_eq!(format!("{context:?}"), "EncryptionContext(17 bytes)");
    }

    #[test]
    fn anything_else_is_refused() {
        for (bytes, want) in [
            (&b""[..], ContextError::Malformed),
            (b"\x01\x00", ContextError::Malformed),
            (b"\x00\x00x", ContextError::Malformed),
            (b"\x01\x00\x05\x00a", ContextError::Malformed),
            (b"\x02\x00\x01\x00b\x00\x00\x01\x00a\x00\x00", ContextError::Unsorted),
            (b"\x02\x00\x01\x00a\x00\x00\x01\x00a\x00\x00", ContextError::Duplicate),
            (b"\x01\x00\x00\x00\x00\x00", ContextError::EmptyKey),
            (b"\x01\x00\x01\x00\xff\x00\x00", ContextError::NotUtf8),
        ] {
            assert_eq!(EncryptionContext::from_canonical(bytes.to_vec()), Err(want), "{bytes:?}");
        }
        let long = "x".repeat(MAX_CONTEXT_LEN);
        assert_eq!(EncryptionContext::from_pairs([("k", &long)]), Err(ContextError::TooLong));
        let fits = "x".repeat(MAX_CONTEXT_LEN - 7);
        assert!(EncryptionContext::from_pairs([("k", &fits)]).is_ok());
        assert_eq!(EncryptionContext::from_pairs([("k", "1"), ("k", "2")]), Err(ContextError::Duplicate));
    }

    proptest! {
        #[test]
        fn accepted_bytes_are_exactly_the_canonical_form_of_their_pairs(
            pairs in proptest::collection::btree_map("[a-z]{1,8}", ".{0,16}", 0..8)
        ) {
            let context = EncryptionContext::from_pairs(&pairs).unwrap();
            let again = EncryptionContext::from_canonical(context.as_bytes().to_vec()).unwrap();
            prop_assert_eq!(again.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<std::collections::BTreeMap<_, _>>(), pairs);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(context) = EncryptionContext::from_canonical(bytes.clone()) {
                let again = EncryptionContext::from_pairs(context.pairs()).unwrap();
                prop_assert_eq!(again.as_bytes(), bytes);
            }
        }
    }
}
