//! Replies as bytes.

use claviger_protocol::body::ErrorBody;
use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::{Code, Header, SecretBytes, codec};
use zeroize::Zeroize;

use crate::audit::Recorded;
use crate::failure::Failure;

/// When a client that was told `Busy` should come back, in milliseconds.
const BUSY_RETRY_MS: u32 = 10;

/// Writes an answer; the proof says that its event is recorded.
pub(super) fn write_reply(
    _recorded: &Recorded,
    header: &Header,
    result: Result<SecretBytes, Failure>,
    out: &mut Vec<u8>,
) {
    match result {
        Ok(body) => put_frame(header, Code::Ok, body.expose(), out),
        Err(failure) => write_refusal(header, &failure, out),
    }
}

/// Writes the refusal of a frame that never became a call, or that could not be
/// recorded: it reveals nothing and needs no event.
pub fn write_refusal(header: &Header, failure: &Failure, out: &mut Vec<u8>) {
    let body = codec::encode(&error_body(failure)).unwrap_or_default();
    put_frame(header, failure.code, &body, out);
}

fn put_frame(header: &Header, code: Code, body: &[u8], out: &mut Vec<u8>) {
    // No body is over the connection's cap, which is far below 4 GiB.
    let length = u32::try_from(body.len()).unwrap_or(0);
    make_room(out, HEADER_LEN + body.len());
    out.extend_from_slice(&header.reply(code.number(), length).to_bytes());
    out.extend_from_slice(body);
}

/// Grows a buffer without leaving its old bytes, plaintexts among them, behind.
fn make_room(out: &mut Vec<u8>, more: usize) {
    let needed = out.len() + more;
    if out.capacity() < needed {
        let mut roomy = Vec::with_capacity(needed.max(2 * out.capacity()));
        roomy.extend_from_slice(out);
        std::mem::replace(out, roomy).zeroize();
    }
}

/// What a refusal says on the wire.
pub(super) fn error_body(failure: &Failure) -> ErrorBody {
    let retry_after_ms = if failure.code == Code::Busy { BUSY_RETRY_MS } else { 0 };
    ErrorBody { message: failure.message.to_string(), retry_after_ms }
}
