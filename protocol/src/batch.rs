//! The rules of a batch that its bytes alone decide (`SPEC.md` section 11): what
//! an item asks for, and whether a result still fits. Must not live here: running items.

use crate::body::{BatchItem, BatchReply, BatchResult, ErrorBody};
use crate::codec::{self, DecodeError};
use crate::limits::MIN_BATCH_RESULT_LEN;
use crate::secret::SecretBytes;
use crate::{Code, Opcode, Request};

/// Why an item can't be run; the item's result, not the batch's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// No such operation.
    #[error("no operation has the number {0:#06x}")]
    UnknownOpcode(u16),
    /// Not for batches, a batch itself among them.
    #[error("{} can't be called in a batch", .0.row().name)]
    NotBatchable(Opcode),
    /// The item's body.
    #[error(transparent)]
    Body(#[from] DecodeError),
}

impl ItemError {
    /// What the item is answered with.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownOpcode(_) => Code::UnknownOpcode,
            Self::NotBatchable(_) => Code::InvalidArgument,
            Self::Body(error) => error.code(),
        }
    }
}

impl BatchItem {
    /// The call that the item asks for.
    pub fn request(&self) -> Result<Request, ItemError> {
        let opcode = Opcode::from_number(self.opcode).ok_or(ItemError::UnknownOpcode(self.opcode))?;
        if !opcode.row().batchable {
            return Err(ItemError::NotBatchable(opcode));
        }
        Ok(Request::decode(opcode, self.body.expose())?)
    }
}

/// Places results in their order, so that the whole reply never outgrows its frame.
#[derive(Debug)]
pub struct Results {
    placed: Vec<BatchResult>,
    /// Bytes left for results, those still to come included.
    room: usize,
    /// Results still to come.
    awaited: usize,
}

impl Results {
    /// Room for the results of `items` items in a body of at most `max_body` bytes.
    #[must_use]
    pub fn new(items: usize, max_body: usize) -> Self {
        Self {
            placed: Vec::with_capacity(items),
            room: max_body.saturating_sub(size_of::<u64>()),
            awaited: items,
        }
    }

    /// Places the next item's reply body, or `ReplyTooLarge` if it doesn't fit.
    /// Says which code the item got.
    pub fn reply(&mut self, body: SecretBytes) -> Code {
        if self.fits(body.len()) {
            self.place(Code::Ok, body);
            return Code::Ok;
        }
        self.refusal(Code::ReplyTooLarge, &ErrorBody { message: String::new(), retry_after_ms: 0 });
        Code::ReplyTooLarge
    }

    /// Places the next item's refusal; its message is dropped if it doesn't fit.
    pub fn refusal(&mut self, code: Code, error: &ErrorBody) {
        let body = codec::encode(error).ok().filter(|body| self.fits(body.len()));
        let body = body.unwrap_or_else(|| {
            let silent = ErrorBody { message: String::new(), ..*error };
            codec::encode(&silent).unwrap_or_default()
        });
        self.place(code, body.into());
    }

    /// The batch's reply.
    #[must_use]
    pub fn finish(self) -> BatchReply {
        BatchReply { results: self.placed }
    }

    fn fits(&self, body: usize) -> bool {
        let later = self.awaited.saturating_sub(1) * MIN_BATCH_RESULT_LEN;
        RESULT_HEAD + body + later <= self.room
    }

    fn place(&mut self, code: Code, body: SecretBytes) {
        self.room = self.room.saturating_sub(RESULT_HEAD + body.len());
        self.awaited = self.awaited.saturating_sub(1);
        self.placed.push(BatchResult { status: code.number(), body });
    }
}

/// Status and length before a result's body.
const RESULT_HEAD: usize = size_of::<u16>() + size_of::<u64>();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_BATCH_ITEMS, MAX_BODY_BEFORE_HELLO};
    use proptest::prelude::*;

    #[test]
    fn the_smallest_result_is_as_small_as_its_limit_says() {
        let mut results = Results::new(1, 0);
        results.refusal(Code::Internal, &ErrorBody { message: "lost".into(), retry_after_ms: 7 });
        let reply = results.finish();
        assert_eq!(codec::encode(&reply).unwrap().len(), 8 + MIN_BATCH_RESULT_LEN);
        let error: ErrorBody = codec::decode(reply.results[0].body.expose()).unwrap();
        assert_eq!(error, ErrorBody { message: String::new(), retry_after_ms: 7 });
    }

    #[test]
    fn a_full_batch_of_refusals_fits_in_the_smallest_frame() {
        let mut results = Results::new(MAX_BATCH_ITEMS, MAX_BODY_BEFORE_HELLO);
        for _ in 0..MAX_BATCH_ITEMS {
            results.refusal(Code::Busy, &ErrorBody { message: "x".repeat(100), retry_after_ms: 1 });
        }
        let reply = results.finish();
        assert!(codec::encode(&reply).unwrap().len() <= MAX_BODY_BEFORE_HELLO);
        assert!(reply.results.iter().all(|result| result.status == Code::Busy.number()));
    }

    proptest! {
        #[test]
        fn no_reply_outgrows_its_frame_and_whatever_fits_is_kept(
            lengths in proptest::collection::vec(0_usize..300, 0..40),
            spare in 0_usize..4000,
        ) {
            let max_body = 8 + lengths.len() * MIN_BATCH_RESULT_LEN + spare;
            let mut results = Results::new(lengths.len(), max_body);
            let codes: Vec<_> =
                lengths.iter().map(|&length| results.reply(SecretBytes::new(vec![1; length]))).collect();
            let reply = results.finish();
            prop_assert!(codec::encode(&reply).unwrap().len() <= max_body);
            prop_assert_eq!(reply.results.len(), lengths.len());
            for (result, code) in reply.results.iter().zip(&codes) {
                prop_assert_eq!(result.status, code.number());
            }
            if 8 + lengths.iter().map(|length| length.max(&12) + 10).sum::<usize>() <= max_body {
                prop_assert!(codes.iter().all(|&code| code == Code::Ok));
            }
        }
    }
}
