//! Frames: one fixed header both ways, then the body (`SPEC.md` section 3).
//!
//! ```text
//!  0  4  length      bytes after the header: body, and authenticator if flagged
//!  4  1  version     1
//!  5  1  flags       bit 0: a 16-byte frame authenticator follows the body
//!  6  2  opcode      a reply repeats its request's
//!  8  8  request id  chosen by the client, repeated in the reply
//! 16  4  deadline    request: milliseconds from receipt, 0 = the daemon's default; reply: 0
//! 20  2  status      request: 0; reply: a code number
//! 22  2  reserved    0
//! ```
//! All integers are little-endian.

use crate::{Code, limits::HEADER_LEN};

/// The one protocol version there is.
pub const VERSION: u8 = 1;

/// Bits of the header's flags byte.
pub mod flags {
    /// A 16-byte frame authenticator follows the body. Reserved: specified in
    /// `SPEC.md` section 4, refused with `UnsupportedFlag` until access keys exist.
    pub const AUTHENTICATED: u8 = 1;
}

/// A frame's header, read or to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes that follow the header.
    pub length: u32,
    /// Protocol version.
    pub version: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Operation number.
    pub opcode: u16,
    /// Pairs a reply with its request.
    pub request_id: u64,
    /// Milliseconds from receipt within which an answer is wanted; 0 = default.
    pub deadline_ms: u32,
    /// A [`crate::Code`] number; 0 in requests.
    pub status: u16,
    /// Zero.
    pub reserved: u16,
}

/// A header that ends the connection: what follows can't be delimited or trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Larger than the connection's cap.
    #[error("a frame of {length} bytes is over this connection's cap of {cap}")]
    TooLarge {
        /// Claimed length.
        length: u32,
        /// The cap.
        cap: u32,
    },
}

impl Header {
    /// The header of a request.
    #[must_use]
    pub fn request(opcode: u16, request_id: u64, deadline_ms: u32, length: u32) -> Self {
        Self { length, version: VERSION, flags: 0, opcode, request_id, deadline_ms, status: 0, reserved: 0 }
    }

    /// The header of the reply to `self`.
    #[must_use]
    pub fn reply(&self, status: u16, length: u32) -> Self {
        Self { length, version: VERSION, flags: 0, deadline_ms: 0, status, reserved: 0, ..*self }
    }

    /// What a request with this header is refused with before its opcode is looked
    /// at: version, then flags, then the fields that are zero in requests. The
    /// connection goes on; the body is skipped.
    ///
    /// # Errors
    /// `UnsupportedVersion`, `UnsupportedFlag` or `Malformed`.
    pub const fn check_request(&self) -> Result<(), Code> {
        if self.version != VERSION {
            Err(Code::UnsupportedVersion)
        } else if self.flags != 0 {
            Err(Code::UnsupportedFlag)
        } else if self.status != 0 || self.reserved != 0 {
            Err(Code::Malformed)
        } else {
            Ok(())
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&self.length.to_le_bytes());
        out[4] = self.version;
        out[5] = self.flags;
        out[6..8].copy_from_slice(&self.opcode.to_le_bytes());
        out[8..16].copy_from_slice(&self.request_id.to_le_bytes());
        out[16..20].copy_from_slice(&self.deadline_ms.to_le_bytes());
        out[20..22].copy_from_slice(&self.status.to_le_bytes());
        out[22..24].copy_from_slice(&self.reserved.to_le_bytes());
        out
    }

    /// Reads a header. Any bytes are a header; what they claim is judged later.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let [
            l0,
            l1,
            l2,
            l3,
            version,
            flags,
            o0,
            o1,
            r0,
            r1,
            r2,
            r3,
            r4,
            r5,
            r6,
            r7,
            d0,
            d1,
            d2,
            d3,
            s0,
            s1,
            z0,
            z1,
        ] = *bytes;
        Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            version,
            flags,
            opcode: u16::from_le_bytes([o0, o1]),
            request_id: u64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
            status: u16::from_le_bytes([s0, s1]),
            reserved: u16::from_le_bytes([z0, z1]),
        }
    }
}

/// Looks for one complete frame at the start of `buffer`: its header, if the
/// whole of it and its body are there. `cap` bounds what follows a header.
///
/// # Errors
/// [`FrameError::TooLarge`] as soon as the length field claims more than `cap`.
pub fn peek(buffer: &[u8], cap: u32) -> Result<Option<Header>, FrameError> {
    if let Some(length) = buffer.first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        if length > cap {
            return Err(FrameError::TooLarge { length, cap });
        }
    }
    let Some(head) = buffer.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let header = Header::from_bytes(head);
    let whole = HEADER_LEN + header.length as usize;
    Ok((buffer.len() >= whole).then_some(header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn version_comes_before_flags_and_flags_before_zero_fields() {
        let mut header = Header { reserved: 1, ..Header::request(2, 1, 0, 0) };
        assert_eq!(header.check_request(), Err(Code::Malformed));
        header.flags = flags::AUTHENTICATED;
        assert_eq!(header.check_request(), Err(Code::UnsupportedFlag));
        header.version = 2;
        assert_eq!(header.check_request(), Err(Code::UnsupportedVersion));
        assert_eq!(Header { status: 1, ..Header::request(2, 1, 0, 0) }.check_request(), Err(Code::Malformed));
        assert_eq!(Header::request(0xffff, u64::MAX, u32::MAX, 0).check_request(), Ok(()));
    }

    proptest! {
        #[test]
        fn any_24_bytes_are_a_header_and_come_back_unchanged(bytes: [u8; HEADER_LEN]) {
            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }

        #[test]
        fn peek_waits_for_the_whole_frame_and_refuses_early(body in 0_u32..100, have in 0_usize..200) {
            let mut bytes = Header::request(7, 1, 0, body).to_bytes().to_vec();
            bytes.resize(HEADER_LEN + body as usize, 0);
            let have = have.min(bytes.len());
            let got = peek(&bytes[..have], 50);
            if body > 50 && have >= 4 {
                prop_assert_eq!(got, Err(FrameError::TooLarge { length: body, cap: 50 }));
            } else {
                prop_assert_eq!(got.unwrap().is_some(), have == bytes.len() && body <= 50);
            }
        }
    }
}
