//! One connection: read, take all complete frames apart, run them in place, write
//! once. A call that can't be done at once goes on by itself; its reply follows
//! out of order, by its request id.
//!
//! A connection runs at most 64 frames or 200 µs, then lets others run. It stops
//! reading while its peer doesn't take its replies.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use claviger_protocol::frame::{self, FrameError, Header};
use claviger_protocol::limits::{HEADER_LEN, MAX_BODY_BEFORE_HELLO};
use claviger_protocol::{Code, Opcode, Reply};
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, poll};
use tokio::io::{Interest, Ready};
use tokio::net::UnixStream;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

use super::buffer::{Budget, Input, Output, Reserved};
use super::handshake::greet;
use crate::admission::behind;
use crate::failure::Failure;
use crate::identity::{Caller, Endpoint, Peer};
use crate::metrics::groups::Traffic;
use crate::policy;
use crate::service::{Frame, Outcome, Service, TIME_SLICE, write_refusal};

/// Frames that a connection runs before it lets others run.
const FRAMES_PER_TURN: usize = 64;
/// Unsent reply bytes above which no further frame is run.
const UNSENT_LIMIT: usize = 1024 * 1024;
/// Bytes of a planned deletion's result for each byte of its key's shortest name.
const REPLY_PER_BYTE: usize = 140;
/// What of its request a reply may give back, but for batches and lists.
const REPLY_ECHO: usize = 64 * 1024;
/// What it may have beyond that.
const REPLY_EXTRA: usize = 16 * 1024;
/// Hellos that may be refused before the connection is closed.
const REFUSED_HELLOS: u32 = 8;

/// What a listener gives every connection.
pub(super) struct Context {
    pub(super) service: Arc<Service>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) budget: Arc<Budget>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) own_uid: u32,
    pub(super) stop: CancellationToken,
}

/// A running connection.
pub(super) struct Connection {
    context: Arc<Context>,
    stream: UnixStream,
    number: u64,
    peer: Arc<Peer>,
    caller: Option<Arc<Caller>>,
    input: Input,
    output: Output,
    calls: FuturesUnordered<ReusableBoxFuture<'static, Outcome>>,
    /// The box of a call that was answered in place, for the next one.
    spare: Option<ReusableBoxFuture<'static, Outcome>>,
    /// Calls in flight, and what is reserved for their replies.
    waiting: BTreeMap<u64, usize>,
    finished: Vec<Outcome>,
    reserved: Reserved,
    /// What is reserved for the finished calls.
    concluding: usize,
    refused_hellos: u32,
    /// A complete frame waits for memory, or for the peer to read.
    held: bool,
    /// Since when a frame is incomplete.
    partial_since: Option<Duration>,
    /// Bytes of a frame that was refused before it was read, still to come.
    skip: usize,
    /// No more input is taken; what is in flight is finished.
    closing: bool,
    opened: Duration,
    /// When the bytes came that completed what is complete: a connection reads only
    /// when all complete frames have run.
    received: Duration,
    last_activity: Duration,
}

/// How a turn ended.
#[derive(PartialEq, Eq)]
enum Turn {
    /// Complete frames may be left in the buffer.
    More,
    /// None is left.
    Done,
    /// One is left and can't run yet.
    Held,
}

impl Connection {
    /// A connection whose peer the kernel has named; none where memory for its
    /// buffer is out of budget.
    pub(super) fn new(context: Arc<Context>, stream: UnixStream, number: u64) -> Option<Self> {
        let peer = Peer::of(&stream).ok()?;
        let input = Input::new(&context.budget)?;
        let now = context.service.edge.clock.elapsed();
        let (output, reserved) = (Output::new(&context.budget), Reserved::none(&context.budget));
        Some(Self {
            context,
            stream,
            number,
            peer: Arc::new(peer),
            caller: None,
            input,
            output,
            reserved,
            concluding: 0,
            refused_hellos: 0,
            held: false,
            partial_since: None,
            calls: FuturesUnordered::new(),
            spare: None,
            waiting: BTreeMap::new(),
            finished: Vec::new(),
            skip: 0,
            closing: false,
            opened: now,
            received: now,
            last_activity: now,
        })
    }

    /// Serves the connection to its end, which also ends what only it could go on with.
    pub(super) async fn serve(self) {
        let (service, number) = (Arc::clone(&self.context.service), self.number);
        self.run().await;
        service.backups.left(number);
    }

    /// Takes turns until the connection's end.
    async fn run(mut self) {
        let stop = self.context.stop.clone();
        let clock = self.context.service.edge.clock.clone();
        let mut timer = clock.sleep(self.until_check()).boxed();
        loop {
            let turn = self.take_turn().await;
            self.collect();
            let concluded = self.conclude();
            let Ok(sent) = self.send() else { return };
            if self.is_over() {
                return;
            }
            self.held = turn == Turn::Held;
            // What was held may run now: nothing else would say so.
            if turn == Turn::More || (self.held && (concluded || sent)) {
                tokio::task::yield_now().await;
                if !stop.is_cancelled() {
                    continue;
                }
            }
            let interest = self.interest();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.closing => self.turn_away(),
                () = &mut timer => {
                    if self.is_overdue() {
                        return;
                    }
                    timer = clock.sleep(self.until_check()).boxed();
                }
                Some(outcome) = self.calls.next(), if !self.calls.is_empty() => self.finish(outcome),
                ready = wait_ready(&self.stream, interest) => match ready {
                    Ok(readable) => if readable && self.receive().is_err() { self.closing = true },
                    Err(_) => return,
                },
            }
        }
    }

    /// Runs complete frames until there are none, or the turn is over.
    async fn take_turn(&mut self) -> Turn {
        let clock = self.context.service.edge.clock.clone();
        let began = clock.elapsed();
        for _ in 0..FRAMES_PER_TURN {
            if self.closing {
                return Turn::Done;
            }
            self.discard_skipped();
            let Some(header) = self.next_frame() else {
                let waits = !self.input.window().is_empty() && !self.closing;
                self.partial_since = waits.then(|| self.partial_since.unwrap_or_else(|| clock.elapsed()));
                return Turn::Done;
            };
            self.partial_since = None;
            if self.output.unsent().len() > UNSENT_LIMIT {
                return Turn::Held;
            }
            let reply = self.reply_bound(&header);
            if self.reserved.grow(reply) {
                self.run_frame(header, reply).await;
            } else if self.reserved.is_none() {
                // Nothing of this connection's own will make room.
                self.input.consume(HEADER_LEN + header.length as usize);
                self.refuse(header, Code::Busy.into());
            } else {
                return Turn::Held;
            }
            if clock.elapsed().saturating_sub(began) >= TIME_SLICE {
                break;
            }
        }
        Turn::More
    }

    /// The header of the next complete frame, if there is one. Refuses frames
    /// that are too large for the connection or for the daemon's memory.
    fn next_frame(&mut self) -> Option<Header> {
        let cap = match self.caller {
            None => u32::try_from(MAX_BODY_BEFORE_HELLO).unwrap_or(u32::MAX),
            Some(_) => self.context.service.limits().max_body,
        };
        let head = *self.input.window().first_chunk::<HEADER_LEN>()?;
        match frame::peek(self.input.window(), cap) {
            Ok(Some(header)) => Some(header),
            Ok(None) => {
                let header = Header::from_bytes(&head);
                if !self.input.fit(header.length as usize) {
                    self.refuse(header, Code::Busy.into());
                    self.skip = HEADER_LEN + header.length as usize;
                    self.discard_skipped();
                }
                None
            }
            Err(error @ FrameError::TooLarge { .. }) => {
                self.refuse(Header::from_bytes(&head), Failure::new(Code::FrameTooLarge, error.to_string()));
                self.closing = true;
                None
            }
        }
    }

    /// Bytes that a frame's reply may take at most.
    fn reply_bound(&self, header: &Header) -> usize {
        match Opcode::from_number(header.opcode) {
            Some(
                Opcode::Batch
                | Opcode::ListKeys
                | Opcode::ListAliasKeys
                | Opcode::ListSymmetricKeys
                | Opcode::ListAlias
                | Opcode::ListProjects
                | Opcode::ListKeyVersions
                | Opcode::ListBackups
                | Opcode::ListTombstones,
            ) => self.context.service.limits().max_body as usize,
            // A key's result may name who uses it, which is longer than what asked for it.
            Some(Opcode::ScheduleKeyDeletion) => {
                let most = self.context.service.limits().max_body as usize;
                (header.length as usize).saturating_mul(REPLY_PER_BYTE).min(most) + REPLY_EXTRA
            }
            _ => (header.length as usize).min(REPLY_ECHO) + REPLY_EXTRA,
        }
    }

    /// Runs one complete frame, for whose reply so many bytes are reserved: in place
    /// if it can be done at once.
    async fn run_frame(&mut self, header: Header, reply: usize) {
        let service = Arc::clone(&self.context.service);
        self.last_activity = service.edge.clock.elapsed();
        let whole = HEADER_LEN + header.length as usize;
        // Until the reply is written, unless the call goes on by itself.
        self.concluding += reply;
        let Some(caller) = self.caller.clone() else {
            self.hello(header);
            self.input.consume(whole);
            return;
        };
        if let Err(failure) = self.check_call(&header) {
            self.input.consume(whole);
            self.refuse(header, failure);
            return;
        }
        let body = self.input.window().get(HEADER_LEN..whole).unwrap_or_default();
        let frame = Frame::read(header, body, self.received);
        self.input.consume(whole);
        let more = self.input.window().len() >= HEADER_LEN;
        let run = async move { behind::scope(more, service.call(&caller, frame)).await };
        let mut call = match self.spare.take() {
            Some(mut spare) => {
                spare.set(run);
                spare
            }
            None => ReusableBoxFuture::new(run),
        };
        match poll!(&mut call) {
            Poll::Ready(outcome) => {
                self.finished.push(outcome);
                self.spare = Some(call);
            }
            Poll::Pending => {
                self.concluding -= reply;
                self.waiting.insert(header.request_id, reply);
                self.calls.push(call);
            }
        }
    }

    /// What can be said of a call before its body is looked at (`SPEC.md` 3.1, steps 3 to 9).
    fn check_call(&self, header: &Header) -> Result<(), Failure> {
        header.check_request()?;
        let opcode = Opcode::from_number(header.opcode).ok_or(Code::UnknownOpcode)?;
        if opcode == Opcode::Hello {
            return Err(Failure::new(Code::HelloRequired, "this connection has said hello already"));
        }
        if !policy::serves(self.context.endpoint.kind, opcode.row()) {
            return Err(Code::AccessDenied.into());
        }
        if self.waiting.contains_key(&header.request_id) {
            return Err(Failure::new(Code::InvalidArgument, "a request with this id is still unanswered"));
        }
        if self.waiting.len() >= self.context.service.limits().max_in_flight as usize {
            return Err(Failure::new(Code::Busy, "too many unanswered requests on this connection"));
        }
        Ok(())
    }

    /// A frame before hello is complete. What can be mended may be sent again;
    /// what isn't a hello, or comes from the wrong peer, ends the connection.
    fn hello(&mut self, header: Header) {
        let context = Arc::clone(&self.context);
        let whole = HEADER_LEN + header.length as usize;
        let body = self.input.window().get(HEADER_LEN..whole).unwrap_or_default();
        let greeted = header.check_request().map_err(Failure::from).and_then(|()| {
            greet(&header, body, &context.endpoint, &self.peer, context.own_uid, &context.service.limits())
        });
        let caller = Arc::new(Caller {
            endpoint: Arc::clone(&context.endpoint),
            peer: Arc::clone(&self.peer),
            access_key: None,
            connection: self.number,
        });
        match greeted {
            Ok(reply) => {
                self.finished.push(context.service.greeted(&caller, header, &Reply::Hello(reply)));
                self.caller = Some(caller);
            }
            Err(failure) => {
                self.refused_hellos += 1;
                self.closing = matches!(failure.code, Code::HelloRequired | Code::AccessDenied)
                    || self.refused_hellos >= REFUSED_HELLOS;
                self.finished.push(context.service.refusal(&caller, header, failure));
            }
        }
    }

    /// The daemon stops: what is in flight is finished, what has just come is refused.
    fn turn_away(&mut self) {
        let _ = self.receive();
        self.discard_skipped();
        while let (false, Some(header)) = (self.closing, self.next_frame()) {
            self.input.consume(HEADER_LEN + header.length as usize);
            self.refuse(header, Code::ShuttingDown.into());
        }
        self.closing = true;
    }

    fn finish(&mut self, outcome: Outcome) {
        self.done(outcome);
        self.collect();
    }

    /// Takes whatever else has finished: it goes out with the same write. Called
    /// every turn, so that a flood of input can't keep a waiting call from its end;
    /// for no longer than a turn, so that what is finished isn't kept either.
    fn collect(&mut self) {
        let clock = self.context.service.edge.clock.clone();
        let began = clock.elapsed();
        while let Some(Some(outcome)) = self.calls.next().now_or_never() {
            self.done(outcome);
            if clock.elapsed().saturating_sub(began) >= TIME_SLICE {
                return;
            }
        }
    }

    fn done(&mut self, outcome: Outcome) {
        self.concluding += self.waiting.remove(&outcome.request_id()).unwrap_or_default();
        self.finished.push(outcome);
    }

    /// Records what has finished and writes its replies; says whether there was any.
    fn conclude(&mut self) -> bool {
        let concluded = !self.finished.is_empty();
        if concluded {
            self.last_activity = self.context.service.edge.clock.elapsed();
            self.context.service.conclude(std::mem::take(&mut self.finished), self.output.tail());
        }
        self.output.count();
        self.reserved.shrink(std::mem::take(&mut self.concluding));
        concluded
    }

    /// Refuses a frame that doesn't become a call. Whoever has said hello leaves an event.
    fn refuse(&mut self, header: Header, failure: Failure) {
        match &self.caller {
            Some(caller) => self.finished.push(self.context.service.refusal(caller, header, failure)),
            None => write_refusal(&header, &failure, self.output.tail()),
        }
    }

    fn discard_skipped(&mut self) {
        let here = self.skip.min(self.input.window().len());
        self.input.consume(here);
        self.skip -= here;
    }

    /// Writes what the socket takes now; says whether that was anything.
    fn send(&mut self) -> io::Result<bool> {
        let mut sent = false;
        while !self.output.unsent().is_empty() {
            match self.stream.try_write(self.output.unsent()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.output.sent(count);
                    self.context.traffic.sent.add(count as u64);
                    sent = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Reads what is there; an error is the end of the input.
    fn receive(&mut self) -> io::Result<()> {
        if self.input.space().is_empty() {
            // A whole frame is in the buffer, which waits for the peer to read.
            return Ok(());
        }
        match self.stream.try_read(self.input.space()) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.filled(count);
                self.received = self.context.service.edge.clock.elapsed();
                self.context.traffic.received.add(count as u64);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn interest(&self) -> Option<Interest> {
        let reads = !self.closing && !self.held;
        let writes = !self.output.unsent().is_empty();
        match (reads, writes) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    fn is_over(&self) -> bool {
        self.closing && self.calls.is_empty() && self.output.unsent().is_empty()
    }

    /// When the connection is closed if nothing else happens: no hello in time, a
    /// frame that doesn't come whole, or a peer that is silent or doesn't read.
    fn due(&self) -> Duration {
        let limits = self.context.service.limits();
        let begun = match self.caller {
            None => Some(self.opened),
            Some(_) => self.partial_since,
        };
        let idle = self.last_activity.saturating_add(limits.idle_timeout);
        begun.map_or(idle, |begun| idle.min(begun.saturating_add(limits.handshake_timeout)))
    }

    /// When the timer has to look again.
    fn until_check(&self) -> Duration {
        let limits = self.context.service.limits();
        let now = self.context.service.edge.clock.elapsed();
        // A frame may begin at any time: its own timeout is looked for often enough.
        self.due().saturating_sub(now).min(limits.handshake_timeout).max(Duration::from_millis(1))
    }

    fn is_overdue(&self) -> bool {
        self.calls.is_empty() && self.context.service.edge.clock.elapsed() >= self.due()
    }
}

/// Waits until the socket can do what is wanted; says whether it can be read.
async fn wait_ready(stream: &UnixStream, interest: Option<Interest>) -> io::Result<bool> {
    match interest {
        Some(interest) => stream.ready(interest).await.map(Ready::is_readable),
        None => std::future::pending().await,
    }
}
