//! Bodies and records to bytes and back: the only file that touches bincode.
//!
//! Fixed-width little-endian integers, `u64` lengths, byte strings in one piece.
//! Enums never reach this codec as serde enums: they travel as the numbers of
//! [`crate::values`], so a reordered declaration can't change the wire.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError as Bincode;
use serde::{Serialize, de::DeserializeOwned};

use crate::limits::CEILING_MAX_BODY;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<CEILING_MAX_BODY>> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<CEILING_MAX_BODY>();

/// Why bytes could not be read as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end early, claim a length they don't have, or aren't UTF-8.
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// The value is complete and bytes follow it.
    #[error("{0} bytes left over after the body")]
    Leftover(usize),
    /// The shape is right and a value breaks its rule.
    #[error("{0}")]
    Invalid(String),
}

/// A value could not be written: it is larger than any frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value too large to encode")]
pub struct EncodeError;

/// Writes `value` as a body.
///
/// # Errors
/// Only where the value is beyond every frame limit or refuses to serialise.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(|_| EncodeError)
}

/// Reads a body whole; bytes left over are an error.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = bincode::serde::decode_from_slice::<T, _>(bytes, CONFIG).map_err(classify)?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(DecodeError::Leftover(left)),
    }
}

fn classify(error: Bincode) -> DecodeError {
    match error {
        Bincode::OtherString(text) => DecodeError::Invalid(text),
        Bincode::Other(text) => DecodeError::Malformed(text),
        Bincode::UnexpectedEnd { .. } => DecodeError::Malformed("it ends early"),
        Bincode::LimitExceeded => DecodeError::Malformed("a length is over the limit"),
        Bincode::Utf8 { .. } => DecodeError::Malformed("a text is not UTF-8"),
        Bincode::InvalidBooleanValue(_) => DecodeError::Malformed("a boolean is neither 0 nor 1"),
        _ => DecodeError::Malformed("it does not have this operation's shape"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_fixed_width_little_endian_and_lengths_are_u64() {
        assert_eq!(encode(&0x0102_0304_u32).unwrap(), [4, 3, 2, 1]);
        assert_eq!(encode("ab").unwrap(), [2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
        assert_eq!(encode(&Some(7_u16)).unwrap(), [1, 7, 0]);
    }

    #[test]
    fn leftovers_and_cuts_are_refused() {
        assert_eq!(decode::<u16>(&[1, 0, 9]), Err(DecodeError::Leftover(1)));
        assert!(matches!(decode::<u16>(&[1]), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn a_huge_claimed_length_allocates_nothing() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.push(1);
        assert!(matches!(decode::<String>(&bytes), Err(DecodeError::Malformed(_))));
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(DecodeError::Malformed(_))));
    }
}
