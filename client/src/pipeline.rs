//! Many calls under way on one connection, driven by one task: for work in bulk,
//! where a task, a channel and a timer for each call would cost more than the call.
//! Must not live here: reconnecting and repeating, which is [`crate::Client`]'s.

use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use claviger_protocol::body::HelloReply;
use claviger_protocol::{Code, Header, Opcode, Reply, Request, SecretBytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::buffer::{Inbox, Outbox};
use crate::client::too_large;
use crate::connection::{self, check_header};
use crate::error::{Error, ProtocolError};
use crate::options::Options;

/// One connection and the calls on it, each with a `T` that comes back with its
/// reply, in the order in which replies are ready. [`Pipeline::submit`] queues,
/// [`Pipeline::ready`] sends and waits, [`Pipeline::take`] gives replies one by one.
///
/// What a [`crate::Client`] does by itself is the caller's here: waiting for a place
/// ([`Pipeline::room`]), time limits (put `ready` into a timeout), and what to do when
/// the connection is lost, after which every method fails.
pub struct Pipeline<T> {
    stream: UnixStream,
    hello: HelloReply,
    deadline_ms: u32,
    outbox: Outbox,
    inbox: Inbox,
    calls: Calls<T>,
    /// Why nothing more can come, once that is so.
    ended: Option<Error>,
}

/// A reply as it came: its operation and its body, not decoded yet.
#[derive(Debug)]
pub struct RawReply {
    opcode: Opcode,
    body: SecretBytes,
}

impl RawReply {
    /// The body's bytes.
    #[must_use]
    pub fn body(&self) -> &SecretBytes {
        &self.body
    }

    /// What the body says.
    ///
    /// # Errors
    /// [`ProtocolError::Body`].
    pub fn decode(&self) -> Result<Reply, Error> {
        let opcode = self.opcode;
        Reply::decode(opcode, self.body.expose())
            .map_err(|reason| ProtocolError::Body { opcode, reason }.into())
    }
}

impl<T> Pipeline<T> {
    /// Connects and says hello, in one attempt. `options` gives the time for that, the
    /// deadline that each call announces to the daemon, and the agent's name.
    ///
    /// # Errors
    /// As [`crate::Client::connect`].
    pub async fn connect(socket: &Path, options: &Options) -> Result<Self, Error> {
        let opened = connection::connect(socket, &options.agent, options.connect_timeout).await;
        let (stream, hello) = opened.map_err(|failure| failure.at(socket))?;
        let deadline_ms = u32::try_from(options.timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let (outbox, inbox, calls) = (Outbox::default(), Inbox::new(), Calls::default());
        Ok(Self { stream, hello, deadline_ms, outbox, inbox, calls, ended: None })
    }

    /// What the daemon announced.
    #[must_use]
    pub fn session(&self) -> &HelloReply {
        &self.hello
    }

    /// Calls without their replies.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.count
    }

    /// How many more calls the daemon takes now.
    #[must_use]
    pub fn room(&self) -> usize {
        usize::try_from(self.hello.max_in_flight).unwrap_or(usize::MAX).saturating_sub(self.calls.count)
    }

    /// Queues a call.
    ///
    /// # Errors
    /// `FrameTooLarge` over the connection's cap, `Busy` without [`Pipeline::room`]; the
    /// call isn't queued then, and the pipeline goes on.
    pub fn submit(&mut self, request: impl Into<Request>, tag: T) -> Result<(), Error> {
        let request = request.into();
        let body = SecretBytes::new(request.encode().map_err(|_| too_large())?);
        self.submit_encoded(request.opcode(), body.expose(), tag)
    }

    /// Queues a call whose body ([`Request::encode`]) is at hand, such as one that is
    /// sent many times.
    ///
    /// # Errors
    /// As [`Pipeline::submit`].
    pub fn submit_encoded(&mut self, opcode: Opcode, body: &[u8], tag: T) -> Result<(), Error> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let fits = u32::try_from(body.len()).ok().filter(|length| *length <= self.hello.max_body);
        let length = fits.ok_or_else(too_large)?;
        if self.room() == 0 {
            let most = self.hello.max_in_flight;
            let message = format!("{most} calls are under way, as many as the daemon takes");
            return Err(Error::refused(Code::Busy, message));
        }
        let id = self.calls.insert(opcode, tag);
        self.outbox.push(&Header::request(opcode.number(), id, self.deadline_ms, length), body);
        Ok(())
    }

    /// Sends what is queued and waits until [`Pipeline::take`] has a reply to give; at
    /// once where no call is under way. May be dropped and called again at any time.
    ///
    /// # Errors
    /// `ConnectionLost` or `Protocol`: nothing more will come.
    pub async fn ready(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.poll_ready(context)).await
    }

    /// The next reply that has come, with its call's tag; none where [`Pipeline::ready`]
    /// must wait for one. A refused call is an error beside its tag.
    ///
    /// # Errors
    /// As [`Pipeline::ready`].
    #[allow(clippy::type_complexity, reason = "the connection's failure, and the call's own")]
    pub fn take(&mut self) -> Result<Option<(T, Result<RawReply, Error>)>, Error> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let taken = self.take_frame();
        if let Err(error) = &taken {
            self.ended = Some(error.clone());
        }
        taken
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(ended) = &self.ended {
            return Poll::Ready(Err(ended.clone()));
        }
        let polled = self.exchange(context);
        if let Poll::Ready(Err(error)) = &polled {
            self.ended = Some(error.clone());
        }
        polled
    }

    fn exchange(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.outbox.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, self.outbox.unsent()) {
                Poll::Ready(Ok(count)) if count > 0 => self.outbox.advance(count),
                Poll::Ready(_) => return Poll::Ready(Err(lost())),
                Poll::Pending => break,
            }
        }
        loop {
            let whole = self.inbox.has_frame(self.hello.max_body).map_err(ProtocolError::from)?;
            if whole || self.calls.count == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut room = ReadBuf::new(self.inbox.room());
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut room));
            let count = room.filled().len();
            if read.is_err() || count == 0 {
                return Poll::Ready(Err(lost()));
            }
            self.inbox.filled(count);
        }
    }

    #[allow(clippy::type_complexity, reason = "as `take`")]
    fn take_frame(&mut self) -> Result<Option<(T, Result<RawReply, Error>)>, Error> {
        let frame = self.inbox.next_frame(self.hello.max_body).map_err(ProtocolError::from)?;
        let Some((header, body)) = frame else { return Ok(None) };
        check_header(&header)?;
        let (opcode, tag) =
            self.calls.remove(header.request_id).ok_or(ProtocolError::UnknownRequest(header.request_id))?;
        if opcode.number() != header.opcode {
            let (expected, got) = (opcode.number(), header.opcode);
            return Err(ProtocolError::WrongOperation { expected, got }.into());
        }
        let reply = connection::refusal(header.status, body).map(|body| RawReply { opcode, body });
        Ok(Some((tag, reply)))
    }
}

/// The kernel took bytes of every call that was queued before the loss was seen, as
/// far as one can tell.
fn lost() -> Error {
    Error::ConnectionLost { maybe_done: true }
}

/// The calls under way, each in a place that its request id names.
struct Calls<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    count: usize,
}

struct Place<T> {
    /// The upper half of the id: a late or invented reply misses the place's next call.
    uses: u32,
    call: Option<(Opcode, T)>,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), count: 0 }
    }
}

impl<T> Calls<T> {
    /// Takes a place and gives the request id.
    fn insert(&mut self, opcode: Opcode, tag: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { uses: 0, call: None });
            // There are never more calls under way than a `u32` of the hello says.
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        self.count += 1;
        let place = &mut self.places[index as usize];
        place.uses = place.uses.wrapping_add(1);
        place.call = Some((opcode, tag));
        u64::from(place.uses) << 32 | u64::from(index)
    }

    /// The call of a request id, once.
    fn remove(&mut self, id: u64) -> Option<(Opcode, T)> {
        let index = u32::try_from(id & u64::from(u32::MAX)).ok()?;
        let place = self.places.get_mut(index as usize).filter(|place| u64::from(place.uses) == id >> 32)?;
        let call = place.call.take()?;
        self.free.push(index);
        self.count -= 1;
        Some(call)
    }
}
