//! Replies as bytes: frames, refusals, and what of a batch fits into one frame.

use claviger_protocol::body::{BatchResult, ErrorBody};
use claviger_protocol::{Code, Header, SecretBytes, codec};

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
    put_frame(header, failure.code, error_body(failure).expose(), out);
}

fn put_frame(header: &Header, code: Code, body: &[u8], out: &mut Vec<u8>) {
    // No body is over the connection's cap, which is far below 4 GiB.
    let length = u32::try_from(body.len()).unwrap_or(0);
    out.extend_from_slice(&header.reply(code.number(), length).to_bytes());
    out.extend_from_slice(body);
}

fn error_body(failure: &Failure) -> SecretBytes {
    let retry_after_ms = if failure.code == Code::Busy { BUSY_RETRY_MS } else { 0 };
    let body = ErrorBody { message: failure.message.to_string(), retry_after_ms };
    SecretBytes::new(codec::encode(&body).unwrap_or_default())
}

/// What is left of a batch's reply (`SPEC.md` section 11): every result that is
/// still to come keeps room for at least a code without a message.
pub(super) struct Room {
    left: usize,
    to_come: usize,
}

impl Room {
    /// Status and length of a result.
    const RESULT: usize = 2 + 8;
    /// A result that is an error without a message.
    const LEAST: usize = Self::RESULT + 8 + 4;

    pub(super) fn new(max_body: u32, items: usize) -> Self {
        Self { left: (max_body as usize).saturating_sub(8), to_come: items }
    }

    pub(super) fn place(&mut self, result: Result<SecretBytes, Failure>) -> BatchResult {
        self.to_come = self.to_come.saturating_sub(1);
        let usable = self.left.saturating_sub(self.to_come * Self::LEAST + Self::RESULT);
        let bare = |code| (code, error_body(&Failure::new(code, "")));
        let (code, body) = match result {
            Ok(body) if body.len() <= usable => (Code::Ok, body),
            Ok(_) => bare(Code::ReplyTooLarge),
            Err(failure) => {
                let whole = error_body(&failure);
                if whole.len() <= usable { (failure.code, whole) } else { bare(failure.code) }
            }
        };
        self.left = self.left.saturating_sub(Self::RESULT + body.len());
        BatchResult { status: code.number(), body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reply_always_fits_and_says_what_did_not() {
        let max_body = 64 * 1024;
        let mut room = Room::new(max_body, 1024);
        let results: Vec<_> = (0..1024)
            .map(|i| match i % 3 {
                0 => Err(Failure::new(Code::InvalidArgument, "x".repeat(200))),
                _ => Ok(SecretBytes::new(vec![0; 300])),
            })
            .map(|result| room.place(result))
            .collect();
        let size = 8 + results.iter().map(|result| 10 + result.body.len()).sum::<usize>();
        assert!(size <= max_body as usize, "{size}");
        assert_eq!(results[1].status, Code::Ok.number());
        assert_eq!(results[1022].status, Code::ReplyTooLarge.number());
        assert_eq!(results[1023].status, Code::InvalidArgument.number());
        for result in results {
            assert!(result.status == 0 || codec::decode::<ErrorBody>(result.body.expose()).is_ok());
        }
    }
}
