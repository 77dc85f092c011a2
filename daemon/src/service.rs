//! The way of a request, top to bottom: [`Service::call`] is the one story.
//! Each step takes the proof of the step before and hands on its own:
//!
//! ```text
//! bytes → Request → Resolved → Permit → Admitted → (Grant) → Reply → Recorded → bytes
//! ```
//! No sockets here: simulation calls the same function.

mod reply;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use claviger_protocol::batch::Results;
use claviger_protocol::body::{BatchItem, BatchReply};
use claviger_protocol::ops::{Access, AuditSync};
use claviger_protocol::{Code, Header, Opcode, Reply, Request, SecretBytes};
use tokio::sync::oneshot;

use crate::admission::Admission;
use crate::audit::{AuditLog, Closed, Event, Outbox, Trail};
use crate::backend::hsm::pool::Pool;
use crate::backup::Backups;
use crate::config::Limits;
use crate::edge::Edge;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::keyring::Keyring;
use crate::ops;
use crate::policy;
use crate::resolve::resolve;

use reply::{error_body, write_reply};

pub use reply::write_refusal;

/// A request off the wire: its header, and its body decoded or the reason why not.
pub struct Frame {
    header: Header,
    request: Result<Request, Failure>,
    received: Duration,
}

impl Frame {
    /// Reads a frame that was complete at `received` on the edge's clock.
    #[must_use]
    pub fn read(header: Header, body: &[u8], received: Duration) -> Self {
        Self { header, request: decode(&header, body), received }
    }
}

/// A call that has run and is not answered yet: its events must be recorded first.
pub struct Outcome {
    header: Header,
    result: Result<SecretBytes, Failure>,
    events: Closed,
}

impl Outcome {
    /// The id of the request it answers.
    #[must_use]
    pub fn request_id(&self) -> u64 {
        self.header.request_id
    }
}

/// Everything that calls need, shared by all connections.
pub struct Service {
    /// Time, randomness, threads.
    pub edge: Edge,
    /// Every limit.
    pub limits: Limits,
    /// The audit log.
    pub log: Arc<AuditLog>,
    /// How the pool's members are.
    pub pool: Pool,
    /// What is still to be done about committed events.
    pub outbox: Outbox,
    /// The backup that is being read.
    pub backups: Backups,
    admission: Admission,
    keyring: OnceLock<Arc<Keyring>>,
    stopping: AtomicBool,
}

impl Service {
    /// A service whose domain is still locked.
    #[must_use]
    pub fn new(edge: Edge, limits: Limits, log: Arc<AuditLog>, pool: Pool) -> Self {
        let places = (limits.max_connections as usize).saturating_mul(limits.max_in_flight as usize);
        Self {
            edge,
            limits,
            log,
            pool,
            outbox: Outbox::default(),
            backups: Backups::default(),
            admission: Admission::new(places),
            keyring: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Opens the domain's keys to calls. Once; a second time is ignored.
    pub fn unlock(&self, keyring: Arc<Keyring>) {
        let _ = self.keyring.set(keyring);
    }

    /// The keyring, once the domain is unlocked.
    pub fn keyring(&self) -> Result<&Arc<Keyring>, Failure> {
        self.keyring.get().ok_or_else(|| {
            Failure::new(
                Code::HsmUnavailable,
                "the domain is locked: no HSM has opened its key yet; try again, and see `claviger status`",
            )
        })
    }

    /// Tells status that the daemon is stopping.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the daemon is stopping.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Runs one frame. What comes back must go through [`Service::conclude`].
    pub async fn call(self: &Arc<Self>, caller: &Arc<Caller>, frame: Frame) -> Outcome {
        let header = frame.header;
        let deadline = self.deadline(&frame);
        match frame.request {
            Err(failure) => self.refusal(caller, header, failure),
            Ok(Request::Batch(batch)) if batch.items.len() > usize::from(self.limits.max_batch) => {
                let text = format!("a batch has at most {} items", self.limits.max_batch);
                self.refusal(caller, header, Failure::new(Code::InvalidArgument, text))
            }
            Ok(Request::Batch(batch)) => {
                let (reply, events) = self.batch(caller, header, deadline, batch.items).await;
                Outcome { header, result: self.encode(&Reply::Batch(reply)), events }
            }
            Ok(request) => {
                let (result, events) = self.one(caller, header.request_id, deadline, request).await;
                Outcome { header, result: result.and_then(|reply| self.encode(&reply)), events }
            }
        }
    }

    /// One operation, within its deadline.
    async fn one(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request_id: u64,
        deadline: Duration,
        request: Request,
    ) -> (Result<Reply, Failure>, Closed) {
        let row = request.opcode().row();
        let mut trail = match self.open_trail(caller, request_id, request.opcode()) {
            Ok(trail) => trail,
            Err(failure) => return (Err(failure), Closed::default()),
        };
        if self.edge.clock.elapsed() >= deadline {
            return (Err(late()), trail.close(Code::DeadlineExceeded));
        }
        if row.access == Access::Write {
            return self.change(caller, deadline, request, trail).await;
        }
        let steps = self.steps(caller, request, &mut trail);
        let result = self.within(deadline, steps).await.unwrap_or_else(|| Err(late()));
        let code = result.as_ref().err().map_or(Code::Ok, |failure| failure.code);
        (result, trail.close(code))
    }

    /// The pipeline.
    async fn steps(
        &self,
        caller: &Arc<Caller>,
        request: Request,
        trail: &mut Trail,
    ) -> Result<Reply, Failure> {
        let resolved = resolve(self.keyring(), caller, request, trail).await?;
        let permit = policy::authorise(resolved)?;
        let admitted = self.admission.enter(permit)?;
        let result = ops::dispatch(self, &admitted, trail).await;
        if result.as_ref().is_err_and(|failure| failure.code == Code::HsmUnavailable) {
            self.note_hsm_trouble();
        }
        result
    }

    /// A change, once begun, goes to its end in the background: neither a deadline nor
    /// a client that went away may leave an intent, a count or an event half-way.
    async fn change(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        deadline: Duration,
        request: Request,
        mut trail: Trail,
    ) -> (Result<Reply, Failure>, Closed) {
        if !self.log.ready(|| self.resumed()) {
            let failure = Failure::new(Code::AuditUnavailable, UNRECORDABLE);
            return (Err(failure), trail.close(Code::AuditUnavailable));
        }
        let (done, ended) = oneshot::channel();
        let (service, caller) = (Arc::clone(self), Arc::clone(caller));
        self.edge.background.start(async move {
            let result = service.steps(&caller, request, &mut trail).await;
            let code = result.as_ref().err().map_or(Code::Ok, |failure| failure.code);
            if let Err((_, closed)) = done.send((result, trail.close(code))) {
                // Nobody waits any more: its event is recorded all the same.
                service.record(closed);
            }
        });
        match self.within(deadline, ended).await {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => (Err(Code::Internal.into()), Closed::default()),
            None => (Err(late()), Closed::default()),
        }
    }

    /// A serving daemon whose HSM fails says so in status and, once, in the log.
    fn note_hsm_trouble(&self) {
        if let Some(keyring) = self.keyring.get()
            && self.pool.failed_a_call(&keyring.member().name, self.edge.clock.now())
        {
            tracing::error!(hsm = %keyring.member().name, "the HSM failed a call; if it was away, restart the daemon to open it again");
        }
    }

    /// Every item goes the whole way by itself; a result that doesn't fit in the
    /// reply any more is replaced by `ReplyTooLarge`.
    async fn batch(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        header: Header,
        deadline: Duration,
        items: Vec<BatchItem>,
    ) -> (BatchReply, Closed) {
        let mut all = Closed::default();
        let mut results = Results::new(items.len(), self.limits.max_body as usize);
        let mut slice = self.edge.clock.elapsed();
        for item in items {
            let (result, closed) = match item.request() {
                Ok(request) => self.one(caller, header.request_id, deadline, request).await,
                Err(error) => {
                    let closed = self.refused(caller, header.request_id, item.opcode, error.code());
                    (Err(Failure::new(error.code(), error.to_string())), closed)
                }
            };
            all.absorb(closed);
            match result.and_then(|reply| self.encode(&reply)) {
                Ok(body) => {
                    results.reply(body);
                }
                Err(failure) => results.refusal(failure.code, &error_body(&failure)),
            }
            if self.edge.clock.elapsed().saturating_sub(slice) >= TIME_SLICE {
                yield_now().await;
                slice = self.edge.clock.elapsed();
            }
        }
        (results.finish(), all)
    }

    /// The outcome of a hello that was accepted.
    #[must_use]
    pub fn greeted(&self, header: Header, reply: &Reply) -> Outcome {
        Outcome { header, result: self.encode(reply), events: Closed::default() }
    }

    /// The outcome of a frame that doesn't become a call; it leaves an event.
    #[must_use]
    pub fn refusal(&self, caller: &Caller, header: Header, failure: Failure) -> Outcome {
        let events = self.refused(caller, header.request_id, header.opcode, failure.code);
        Outcome { header, result: Err(failure), events }
    }

    /// Records the events of calls that have run, then writes their replies: the
    /// only way to an answer.
    pub fn conclude(&self, outcomes: Vec<Outcome>, out: &mut Vec<u8>) {
        let mut events = Vec::new();
        let mut outbox = Vec::new();
        let mut answers = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let (its_events, its_outbox) = outcome.events.take();
            answers.push((outcome.header, outcome.result, !its_outbox.is_empty()));
            events.extend(its_events);
            outbox.extend(its_outbox);
        }
        match self.log.record(&events) {
            Ok(recorded) => {
                self.outbox.recorded(outbox);
                for (header, result, _) in answers {
                    write_reply(&recorded, &header, result, out);
                }
            }
            Err(_) => {
                self.outbox.owe(outbox);
                for (header, result, changed) in answers {
                    let failure = match result {
                        _ if changed => Failure::new(Code::AuditUnavailable, MADE_UNRECORDED),
                        Err(failure) if failure.code == Code::AuditUnavailable => failure,
                        _ => Code::AuditUnavailable.into(),
                    };
                    write_refusal(&header, &failure, out);
                }
            }
        }
    }

    fn encode(&self, reply: &Reply) -> Result<SecretBytes, Failure> {
        let body = reply.encode().map(SecretBytes::new).map_err(|_| Code::ReplyTooLarge)?;
        if body.len() > self.limits.max_body as usize { Err(Code::ReplyTooLarge.into()) } else { Ok(body) }
    }

    fn open_trail(&self, caller: &Caller, request_id: u64, opcode: Opcode) -> Result<Trail, Failure> {
        let row = opcode.row();
        if row.audit == AuditSync::None {
            return Ok(Trail::none(self.edge.clock.clone(), Arc::clone(&self.log)));
        }
        let event_id = self.edge.entropy.uuid()?;
        let event = Event::of_request(event_id, self.edge.clock.now(), caller, request_id, Some(row));
        Ok(Trail::new(event, self.edge.clock.clone(), Arc::clone(&self.log)))
    }

    /// The event that finds out whether the audit log can be written again.
    fn resumed(&self) -> Option<Event> {
        let event_id = self.edge.entropy.uuid().ok()?;
        Some(Event::internal(event_id, self.edge.clock.now(), "auditResumed"))
    }

    /// The event of a request that could not be read.
    fn refused(&self, caller: &Caller, request_id: u64, opcode: u16, code: Code) -> Closed {
        let Ok(event_id) = self.edge.entropy.uuid() else {
            return Closed::default();
        };
        let row = Opcode::from_number(opcode).map(Opcode::row);
        let event = Event::of_request(event_id, self.edge.clock.now(), caller, request_id, row);
        Trail::new(event, self.edge.clock.clone(), Arc::clone(&self.log)).close(code)
    }

    fn deadline(&self, frame: &Frame) -> Duration {
        let wanted = match frame.header.deadline_ms {
            0 => self.limits.default_deadline,
            ms => Duration::from_millis(ms.into()).min(LONGEST_DEADLINE),
        };
        frame.received.saturating_add(wanted)
    }

    /// Runs `steps` until the deadline, or gives none; a timer is made only if they
    /// have to wait.
    async fn within<T>(&self, deadline: Duration, steps: impl Future<Output = T>) -> Option<T> {
        let mut steps = std::pin::pin!(steps);
        let mut timer = std::pin::pin!(async {
            let left = deadline.saturating_sub(self.edge.clock.elapsed());
            self.edge.clock.sleep(left).await;
        });
        std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(result) = steps.as_mut().poll(cx) {
                return std::task::Poll::Ready(Some(result));
            }
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// Records events that no reply waits for.
    fn record(&self, closed: Closed) {
        let (events, outbox) = closed.take();
        match self.log.record(&events) {
            Ok(_) => self.outbox.recorded(outbox),
            Err(_) => self.outbox.owe(outbox),
        }
    }
}

fn late() -> Failure {
    Failure::new(
        Code::DeadlineExceeded,
        "the deadline passed; a change may still be made: repeat it with its client token",
    )
}

fn decode(header: &Header, body: &[u8]) -> Result<Request, Failure> {
    let opcode = Opcode::from_number(header.opcode).ok_or(Code::UnknownOpcode)?;
    Request::decode(opcode, body).map_err(Failure::from)
}

/// Deadlines that are asked for are cut to this.
const LONGEST_DEADLINE: Duration = Duration::from_mins(1);
/// Why a change isn't begun while the audit log fails.
const UNRECORDABLE: &str =
    "the audit log can't be written, so nothing was changed; free space in the state directory";
/// What a change is answered with whose event the log could not take.
const MADE_UNRECORDED: &str =
    "the change was made and is kept; its audit event is written as soon as the log can be";
/// How long a batch or a connection runs before it lets others run.
pub const TIME_SLICE: Duration = Duration::from_micros(200);
/// Lets the executor run others first.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
