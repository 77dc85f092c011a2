//! Several data-plane calls in as few frames as the connection allows.

use std::marker::PhantomData;

use claviger_protocol::body::{BatchItem, BatchReply, BatchRequest, HelloReply};
use claviger_protocol::{Opcode, Operation, SecretBytes, codec};

use crate::client::{Client, too_large};
use crate::connection;
use crate::error::{Error, ProtocolError};

/// Bytes of a batch's body before its items: their number.
const BATCH_BASE: usize = 8;
/// Bytes of an item beside its body: operation, and the body's length.
const ITEM_BASE: usize = 2 + 8;

/// Calls to be made together. Each has its own result; none depends on another.
#[derive(Default)]
pub struct Batch {
    items: Vec<Result<BatchItem, Error>>,
}

/// Where in a [`Batch`] a call stands, and which reply it will have.
pub struct Item<O> {
    index: usize,
    operation: PhantomData<fn() -> O>,
}

impl<O> Clone for Item<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Item<O> {}

/// The results of a [`Batch`].
#[derive(Debug)]
pub struct BatchResults {
    results: Vec<Option<ItemResult>>,
}

type ItemResult = (Option<Opcode>, Result<SecretBytes, Error>);

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a call; what comes back finds its result.
    pub fn push<O: Operation>(&mut self, request: O) -> Item<O> {
        let index = self.items.len();
        let item = request.into().encode().map_err(|_| too_large());
        self.items.push(item.map(|body| BatchItem { opcode: O::OPCODE.number(), body: body.into() }));
        Item { index, operation: PhantomData }
    }

    /// How many calls it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl BatchResults {
    /// Takes the result of one call.
    ///
    /// # Errors
    /// The call's own, the one that the frame it travelled in met, or
    /// [`ProtocolError::NoSuchItem`] if it was taken before, or is visibly of another batch.
    pub fn take<O: Operation>(&mut self, item: Item<O>) -> Result<O::Reply, Error> {
        let (opcode, result) =
            self.results.get_mut(item.index).and_then(Option::take).ok_or(ProtocolError::NoSuchItem)?;
        if opcode.is_some_and(|opcode| opcode != O::OPCODE) {
            return Err(ProtocolError::NoSuchItem.into());
        }
        let body = result?;
        codec::decode(body.expose())
            .map_err(|reason| ProtocolError::Body { opcode: O::OPCODE, reason }.into())
    }
}

impl Client {
    /// Makes the calls of a batch, in frames of as many items as the connection
    /// takes, one after the other, each within the call's time. A frame that fails
    /// fails its items only.
    pub async fn batch(&self, batch: Batch) -> BatchResults {
        let hello = match self.session().await {
            Ok(hello) => hello,
            Err(error) => {
                let failed = |_| Some((None, Err(error.clone())));
                return BatchResults { results: batch.items.into_iter().map(failed).collect() };
            }
        };
        let mut results: Vec<Option<ItemResult>> = Vec::with_capacity(batch.items.len());
        let mut frame = Frame::default();
        for item in batch.items {
            match item {
                Ok(item) => {
                    if !frame.has_room(&item, &hello) {
                        self.flush(&mut frame, &mut results).await;
                    }
                    frame.push(item, results.len());
                    results.push(None);
                }
                Err(error) => results.push(Some((None, Err(error)))),
            }
        }
        self.flush(&mut frame, &mut results).await;
        BatchResults { results }
    }

    async fn flush(&self, frame: &mut Frame, results: &mut [Option<ItemResult>]) {
        let Frame { items, indices, .. } = std::mem::take(frame);
        if items.is_empty() {
            return;
        }
        let opcodes: Vec<_> = items.iter().map(|item| Opcode::from_number(item.opcode)).collect();
        let answers = self.send_batch(items).await;
        let each: Vec<Result<SecretBytes, Error>> = match answers {
            Ok(answers) => answers,
            Err(error) => indices.iter().map(|_| Err(error.clone())).collect(),
        };
        for ((index, opcode), result) in indices.into_iter().zip(opcodes).zip(each) {
            if let Some(place) = results.get_mut(index) {
                *place = Some((opcode, result));
            }
        }
    }

    async fn send_batch(&self, items: Vec<BatchItem>) -> Result<Vec<Result<SecretBytes, Error>>, Error> {
        let expected = items.len();
        // A batch does no harm when repeated if none of its items does.
        let harmless =
            |item: &BatchItem| Opcode::from_number(item.opcode).is_some_and(|o| o.row().idempotent);
        let repeatable = items.iter().all(harmless);
        let body = SecretBytes::new(codec::encode(&BatchRequest { items }).map_err(|_| too_large())?);
        let reply = self.exchange(Opcode::Batch, &body, repeatable).await?;
        let reply: BatchReply = codec::decode(reply.expose())
            .map_err(|reason| ProtocolError::Body { opcode: Opcode::Batch, reason })?;
        if reply.results.len() != expected {
            return Err(ProtocolError::BatchResults { expected, got: reply.results.len() }.into());
        }
        Ok(reply.results.into_iter().map(|one| connection::refusal(one.status, one.body)).collect())
    }
}

/// The items of the next frame, with their places in the whole batch.
struct Frame {
    items: Vec<BatchItem>,
    indices: Vec<usize>,
    size: usize,
}

impl Default for Frame {
    fn default() -> Self {
        Self { items: Vec::new(), indices: Vec::new(), size: BATCH_BASE }
    }
}

impl Frame {
    fn has_room(&self, item: &BatchItem, hello: &HelloReply) -> bool {
        self.items.len() < usize::from(hello.max_batch)
            && self.size + ITEM_BASE + item.body.len() <= hello.max_body as usize
    }

    fn push(&mut self, item: BatchItem, index: usize) {
        self.size += ITEM_BASE + item.body.len();
        self.items.push(item);
        self.indices.push(index);
    }
}
