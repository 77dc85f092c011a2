//! What holds for any bytes at all: one function a parser, `fn(&[u8])`, which
//! fails (by an assertion) when a property breaks. They need nothing but their
//! input, so a fuzzer's harness can call them as they are. Must not live here:
//! inputs, mutation, sockets.
//!
//! A further parser joins with its function and a row in [`TARGETS`]; the test in
//! `tests/corpus.rs` then runs it over the whole corpus.

use claviger_hsm_profiles::Profile;
use claviger_protocol::blob::TAG_LEN;
use claviger_protocol::codec::{DecodeError, EncodeError};
use claviger_protocol::limits::{CEILING_MAX_BODY, HEADER_LEN, MAX_CONTEXT_LEN};
use claviger_protocol::{
    BlobRef, Code, EncryptionContext, FrameError, Header, Opcode, Reply, Request, frame,
};
use clavigerd::config::Config;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("header", header),
    ("frames", frames),
    ("bodies", bodies),
    ("context", context),
    ("blob", blob),
    ("config", config),
    ("profile", profile),
];

/// The cap that [`frames`] reads with: small, so that inputs meet it.
const FRAME_CAP: u32 = 4096;

/// Any 24 bytes are a header and come back unchanged; it is refused with one of
/// three codes (`SPEC.md` section 3).
fn header(input: &[u8]) {
    let Some(bytes) = input.first_chunk::<HEADER_LEN>() else { return };
    let header = Header::from_bytes(bytes);
    assert_eq!(header.to_bytes(), *bytes);
    if let Err(code) = header.check_request() {
        assert!(matches!(code, Code::UnsupportedVersion | Code::UnsupportedFlag | Code::Malformed));
    }
    assert_eq!(header.reply(0, 0).check_request(), Ok(()), "a reply's header has nothing unasked for");
}

/// A stream is cut into frames whole: a frame is found only when all of it is
/// there, whatever is claimed over the cap ends the stream, and nothing is read twice.
fn frames(input: &[u8]) {
    let mut rest = input;
    loop {
        match frame::peek(rest, FRAME_CAP) {
            Ok(Some(header)) => {
                assert!(header.length <= FRAME_CAP);
                let whole = HEADER_LEN + header.length as usize;
                let (taken, left) = rest.split_at(whole);
                assert_eq!(frame::peek(taken, FRAME_CAP), Ok(Some(header)), "it needs nothing after it");
                assert_eq!(frame::peek(&taken[..whole - 1], FRAME_CAP), Ok(None), "it needs all of it");
                rest = left;
            }
            Ok(None) => {
                let claimed = rest.first_chunk::<4>().map(|length| u32::from_le_bytes(*length));
                assert!(claimed.is_none_or(|length| rest.len() < HEADER_LEN + length as usize));
                return;
            }
            Err(FrameError::TooLarge { length, cap }) => {
                assert!(length > cap && cap == FRAME_CAP);
                return;
            }
        }
    }
}

/// A request or a reply of any operation. Input: the opcode (2 bytes, little-endian),
/// a byte whose lowest bit is 1 for a reply, the body.
fn bodies(input: &[u8]) {
    let Some((&[low, high, direction], body)) = input.split_first_chunk::<3>() else { return };
    let Some(opcode) = Opcode::from_number(u16::from_le_bytes([low, high])) else { return };
    if direction & 1 == 0 {
        one_form(body, Request::decode(opcode, body), Request::encode);
    } else {
        one_form(body, Reply::decode(opcode, body), Reply::encode);
    }
}

/// A value is written as exactly the bytes it was read from; a refusal has one of
/// the two codes of section 5.
fn one_form<T>(
    body: &[u8],
    read: Result<T, DecodeError>,
    write: impl Fn(&T) -> Result<Vec<u8>, EncodeError>,
) {
    match read {
        Ok(value) => {
            assert!(body.len() <= CEILING_MAX_BODY);
            assert!(write(&value).as_deref() == Ok(body), "there is one form of a body");
        }
        Err(error) => assert!(matches!(error.code(), Code::Malformed | Code::InvalidArgument)),
    }
}

/// An accepted context is the canonical form of its own pairs.
fn context(input: &[u8]) {
    let Ok(context) = EncryptionContext::from_canonical(input.to_vec()) else { return };
    assert!(input.len() <= MAX_CONTEXT_LEN);
    assert_eq!(EncryptionContext::from_pairs(context.pairs()).as_ref(), Ok(&context));
    assert_eq!(context.as_bytes(), input);
}

/// An accepted blob's parts are the input, in order, with room for a tag.
fn blob(input: &[u8]) {
    let Ok(blob) = BlobRef::parse(input) else { return };
    assert_eq!([blob.header, blob.sealed].concat(), input);
    assert_eq!([blob.prefix, blob.commitment].concat(), blob.header);
    assert_eq!(blob.header.len(), blob.suite.header_len());
    assert_eq!(blob.salt.len(), blob.suite.salt_len());
    assert!(blob.sealed.len() >= TAG_LEN);
}

/// A configuration is read the same twice; a refusal says something.
fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = Config::parse(text, "fuzz.toml").map(|_| ()).map_err(|error| error.to_string());
    let again = Config::parse(text, "fuzz.toml").map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(read, again);
    assert!(read.err().is_none_or(|said| !said.is_empty()));
}

/// An HSM's profile: as [`config`].
fn profile(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = Profile::parse("fuzz.toml", text).map(|_| ()).map_err(|error| error.to_string());
    let again = Profile::parse("fuzz.toml", text).map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(read, again);
    assert!(read.err().is_none_or(|said| !said.is_empty()));
}
