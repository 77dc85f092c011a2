//! What comes over a socket, and what is kept of it: headers, frames, bodies, batches,
//! contexts, blobs.

use claviger_protocol::batch::Results;
use claviger_protocol::blob::TAG_LEN;
use claviger_protocol::body::{BatchRequest, ErrorBody};
use claviger_protocol::codec::{self, DecodeError, EncodeError};
use claviger_protocol::limits::{CEILING_MAX_BODY, HEADER_LEN, MAX_BODY_BEFORE_HELLO, MAX_CONTEXT_LEN};
use claviger_protocol::{
    BlobRef, Code, EncryptionContext, FrameError, Header, Opcode, Reply, Request, frame,
};

use super::folded;

/// The cap that [`frames`] reads with: small, so that inputs meet it.
const FRAME_CAP: u32 = 4096;

/// Any 24 bytes are a header and come back unchanged; it is refused with one of
/// three codes (`SPEC.md` section 3).
pub(crate) fn header(input: &[u8]) {
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
pub(crate) fn frames(input: &[u8]) {
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
pub(crate) fn bodies(input: &[u8]) {
    let Some((&[low, high, direction], body)) = input.split_first_chunk::<3>() else { return };
    let Some(opcode) = Opcode::from_number(u16::from_le_bytes([low, high])) else { return };
    if direction & 1 == 0 {
        one_form(body, |body| Request::decode(opcode, body), Request::encode);
    } else {
        one_form(body, |body| Reply::decode(opcode, body), Reply::encode);
    }
}

/// A value is written as the bytes it was read from, but for what section 7.2 leaves
/// free (tags in any order, key ids in either case), and what was written is read and
/// written the same for ever. A refusal has one of the two codes of section 5.
fn one_form<T>(
    body: &[u8],
    read: impl Fn(&[u8]) -> Result<T, DecodeError>,
    write: impl Fn(&T) -> Result<Vec<u8>, EncodeError>,
) {
    match read(body) {
        Ok(value) => {
            assert!(body.len() <= CEILING_MAX_BODY);
            let written = write(&value).unwrap();
            if written != body {
                assert_eq!(folded(&written), folded(body), "only order and case are free");
                assert_eq!(write(&read(&written).unwrap()).unwrap(), written, "there is one form of a reply");
            }
        }
        Err(error) => assert!(matches!(error.code(), Code::Malformed | Code::InvalidArgument)),
    }
}

/// Each item of a batch is a call or is refused by itself, and the results never outgrow
/// the smallest frame. Input: as for [`bodies`], whose opcode doesn't matter.
pub(crate) fn batch(input: &[u8]) {
    let Some((_, body)) = input.split_first_chunk::<3>() else { return };
    let Ok(batch) = codec::decode::<BatchRequest>(body) else { return };
    let mut results = Results::new(batch.items.len(), MAX_BODY_BEFORE_HELLO);
    let mut codes = Vec::new();
    for item in &batch.items {
        codes.push(match item.request() {
            Ok(request) => {
                assert!(request.opcode().row().batchable);
                results.reply(item.body.clone())
            }
            Err(error) => {
                let message = error.to_string();
                results.refusal(error.code(), &ErrorBody { message, retry_after_ms: 0 });
                error.code()
            }
        });
    }
    let reply = results.finish();
    assert!(reply.results.iter().map(|result| result.status).eq(codes.iter().map(|code| code.number())));
    assert!(codec::encode(&reply).unwrap().len() <= MAX_BODY_BEFORE_HELLO);
}

/// An accepted context is the canonical form of its own pairs.
pub(crate) fn context(input: &[u8]) {
    let Ok(context) = EncryptionContext::from_canonical(input.to_vec()) else { return };
    assert!(input.len() <= MAX_CONTEXT_LEN);
    assert_eq!(EncryptionContext::from_pairs(context.pairs()).as_ref(), Ok(&context));
    assert_eq!(context.as_bytes(), input);
}

/// An accepted blob's parts are the input, in order, with room for a tag.
pub(crate) fn blob(input: &[u8]) {
    let Ok(blob) = BlobRef::parse(input) else { return };
    assert_eq!([blob.header, blob.sealed].concat(), input);
    assert_eq!([blob.prefix, blob.commitment].concat(), blob.header);
    assert_eq!(blob.header.len(), blob.suite.header_len());
    assert_eq!(blob.salt.len(), blob.suite.salt_len());
    assert!(blob.sealed.len() >= TAG_LEN);
}
