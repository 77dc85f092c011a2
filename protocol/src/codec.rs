//! Bodies and records to bytes and back: the only file that touches bincode.
//!
//! Fixed-width little-endian integers, `u64` lengths, byte strings in one piece.
//! Enums never reach this codec as serde enums: they travel as the numbers of
//! [`crate::values`], so a reordered declaration can't change the wire.

use bincode::BorrowDecode;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::de::read::{BorrowReader, Reader};
use bincode::de::{Decoder, DecoderImpl};
use bincode::enc::write::SizeWriter;
use bincode::error::DecodeError as Bincode;
use bincode::serde::BorrowCompat;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroize;

use crate::Code;
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

impl DecodeError {
    /// What a request with this fault is answered with.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) | Self::Leftover(_) => Code::Malformed,
            Self::Invalid(_) => Code::InvalidArgument,
        }
    }
}

/// A value could not be written: it is larger than any frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("value too large to encode")]
pub struct EncodeError;

/// Writes `value` as a body, in one allocation of the exact size. The caller
/// wipes the bytes if the value holds secrets ([`crate::SecretBytes::new`] takes
/// them over without a copy).
///
/// # Errors
/// The body would be larger than any frame.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Appends `value` as a body to `out`, and says how many bytes it took. If `out`
/// has to grow, its old memory is wiped: no copy of a secret is left behind.
///
/// # Errors
/// The body would be larger than any frame; `out` is unchanged.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
    let mut counter = SizeWriter::default();
    bincode::serde::encode_into_writer(value, &mut counter, CONFIG).map_err(|_| EncodeError)?;
    let size = counter.bytes_written;
    if size > CEILING_MAX_BODY {
        return Err(EncodeError);
    }
    let start = out.len();
    if out.capacity() - start < size {
        let mut roomy = Vec::with_capacity((start + size).max(2 * start));
        roomy.extend_from_slice(out);
        std::mem::replace(out, roomy).zeroize();
    }
    out.resize(start + size, 0);
    let written = bincode::serde::encode_into_slice(value, &mut out[start..], CONFIG);
    if written.is_ok_and(|written| written == size) {
        return Ok(size);
    }
    out[start..].zeroize();
    out.truncate(start);
    Err(EncodeError)
}

/// Reads a body whole; bytes left over are an error. No length that the bytes
/// claim makes it allocate more than they could hold.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let beyond = CEILING_MAX_BODY
        .checked_sub(bytes.len())
        .ok_or(DecodeError::Malformed("it is longer than any frame"))?;
    let mut decoder = DecoderImpl::new(Input { rest: bytes }, CONFIG, ());
    // What the codec may still claim is now exactly what is there.
    decoder.claim_bytes_read(beyond).map_err(classify)?;
    let BorrowCompat(value) = BorrowCompat::<T>::borrow_decode(&mut decoder).map_err(classify)?;
    match decoder.reader().rest.len() {
        0 => Ok(value),
        left => Err(DecodeError::Leftover(left)),
    }
}

const CUT: &str = "it ends early, or claims a length that it does not have";

/// The bytes not read yet.
struct Input<'a> {
    rest: &'a [u8],
}

impl Reader for Input<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Bincode> {
        bytes.copy_from_slice(self.take_bytes(bytes.len())?);
        Ok(())
    }

    fn peek_read(&mut self, n: usize) -> Option<&[u8]> {
        self.rest.get(..n)
    }

    fn consume(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }
}

impl<'a> BorrowReader<'a> for Input<'a> {
    fn take_bytes(&mut self, length: usize) -> Result<&'a [u8], Bincode> {
        let missing = length.saturating_sub(self.rest.len());
        let (head, tail) =
            self.rest.split_at_checked(length).ok_or(Bincode::UnexpectedEnd { additional: missing })?;
        self.rest = tail;
        Ok(head)
    }
}

fn classify(error: Bincode) -> DecodeError {
    match error {
        Bincode::OtherString(text) => DecodeError::Invalid(text),
        Bincode::Other(text) => DecodeError::Malformed(text),
        // The limit is what is there, so it is met before anything is allocated or read.
        Bincode::LimitExceeded => DecodeError::Malformed(CUT),
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
        for claimed in [u64::MAX, CEILING_MAX_BODY as u64 - 8, 2] {
            let mut bytes = claimed.to_le_bytes().to_vec();
            bytes.push(1);
            // `CUT` is the limit's refusal; the reader's, after the allocation, would be another.
            assert_eq!(decode::<String>(&bytes), Err(DecodeError::Malformed(CUT)), "{claimed}");
            assert_eq!(decode::<crate::SecretBytes>(&bytes), Err(DecodeError::Malformed(CUT)), "{claimed}");
            assert_eq!(decode::<Vec<u64>>(&bytes), Err(DecodeError::Malformed(CUT)), "{claimed}");
        }
    }

    #[test]
    fn the_largest_body_is_read_and_nothing_larger() {
        let largest = encode(&crate::SecretBytes::new(vec![1; CEILING_MAX_BODY - 8])).unwrap();
        assert_eq!(largest.len(), CEILING_MAX_BODY);
        assert_eq!(decode::<crate::SecretBytes>(&largest).unwrap().len(), CEILING_MAX_BODY - 8);
        assert_eq!(encode(&crate::SecretBytes::new(vec![1; CEILING_MAX_BODY - 7])), Err(EncodeError));
        let larger = [largest.as_slice(), &[0]].concat();
        assert!(matches!(decode::<crate::SecretBytes>(&larger), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn appending_keeps_what_stands_before_and_says_what_it_added() {
        let mut out = vec![9, 9];
        assert_eq!(encode_into(&1_u16, &mut out), Ok(2));
        assert_eq!(out, [9, 9, 1, 0]);
        assert_eq!(encode(&7_u64).unwrap().capacity(), 8);
    }
}
