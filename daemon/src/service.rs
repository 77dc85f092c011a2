//! The way of a request, top to bottom: [`Service::call`] is the one story.
//! Each step takes the proof of the step before and hands on its own:
//!
//! ```text
//! bytes → Request → Resolved → Permit → Admitted → (Grant) → Reply → Recorded → bytes
//! ```
//! No sockets here: simulation calls the same function.

mod exit;
mod first_use;
mod reply;
mod trails;

use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use claviger_protocol::batch::Results;
use claviger_protocol::body::{BatchItem, BatchReply};
use claviger_protocol::ops::Access;
use claviger_protocol::{Code, Header, Opcode, Reply, Request, SecretBytes};
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::admission::{Admission, behind};
use crate::audit::{AuditLog, Closed, Outbox, Trail};
use crate::backend::hsm::pool::Pool;
use crate::backup::Backups;
use crate::config::Limits;
use crate::edge::Edge;
use crate::failure::Failure;
use crate::identity::{Caller, EndpointKind};
use crate::keyring::Keyring;
use crate::metrics::{self, Requests, Times};
use crate::ops;
use crate::policy;
use crate::resolve::resolve;
use crate::space::Space;

use exit::Serious;
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
    endpoint: EndpointKind,
    /// None where it never became a call.
    times: Option<Times>,
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
    /// Every limit, as it is now.
    limits: ArcSwap<Limits>,
    /// The audit log.
    pub log: Arc<AuditLog>,
    /// How the pool's members are.
    pub pool: Pool,
    /// What is still to be done about committed events.
    pub outbox: Outbox,
    /// Requests answered, for metrics.
    pub requests: Requests,
    serious: Serious,
    /// The backup that is being read.
    pub backups: Backups,
    admission: Admission,
    keyring: OnceLock<Arc<Keyring>>,
    stopping: AtomicBool,
    space: OnceLock<Arc<Space>>,
}

impl Service {
    /// A service whose domain is still locked.
    #[must_use]
    pub fn new(edge: Edge, limits: Limits, log: Arc<AuditLog>, pool: Pool) -> Self {
        let places = (limits.max_connections as usize).saturating_mul(limits.max_in_flight as usize);
        Self {
            edge,
            limits: ArcSwap::from_pointee(limits),
            log,
            pool,
            outbox: Outbox::default(),
            requests: Requests::new(),
            serious: Serious::default(),
            backups: Backups::default(),
            admission: Admission::new(places),
            keyring: OnceLock::new(),
            stopping: AtomicBool::new(false),
            space: OnceLock::new(),
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

    /// Every limit, as it is now. What is read from it holds for one step, not for a
    /// whole connection: an operator may change it meanwhile.
    pub fn limits(&self) -> impl Deref<Target = Arc<Limits>> + use<> {
        self.limits.load()
    }

    /// Other limits from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Calls that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.admission.running()
    }

    /// The disk that state is kept on.
    pub fn on_disk(&self, space: Arc<Space>) {
        let _ = self.space.set(space);
    }

    /// Asks the disk; says whether changes are refused because it is full.
    pub fn disk_is_full(&self) -> bool {
        self.space.get().is_some_and(|space| !space.look())
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
        let (header, received, began) = (frame.header, frame.received, self.edge.clock.elapsed());
        let span = exit::span(caller, &header);
        let (mut outcome, waited) =
            metrics::waited(self.answer(caller, frame, began)).instrument(span.clone()).await;
        let ended = outcome.events.ended().unwrap_or_else(|| self.edge.clock.elapsed());
        outcome.times = Some(exit::times(received, began, ended, waited));
        self.exit(&span, &outcome);
        outcome
    }

    async fn answer(self: &Arc<Self>, caller: &Arc<Caller>, frame: Frame, began: Duration) -> Outcome {
        let header = frame.header;
        let deadline = self.deadline(&frame);
        let outcome =
            |result, events| Outcome { header, result, events, endpoint: caller.endpoint.kind, times: None };
        match frame.request {
            Err(failure) => self.refusal(caller, header, failure),
            Ok(Request::Batch(batch)) if batch.items.len() > usize::from(self.limits().max_batch) => {
                let text = format!("a batch has at most {} items", self.limits().max_batch);
                self.refusal(caller, header, Failure::new(Code::InvalidArgument, text))
            }
            Ok(Request::Batch(batch)) => {
                // Its items go one after another, so that nothing is gained by another thread.
                let items = self.batch(caller, header, deadline, batch.items);
                let (reply, events) = Box::pin(behind::scope(false, items)).await;
                outcome(self.encode(&Reply::Batch(reply)), events)
            }
            Ok(request) => {
                let (result, events) = self.one(caller, header.request_id, began, deadline, request).await;
                outcome(result.and_then(|reply| self.encode(&reply)), events)
            }
        }
    }

    /// One operation, within its deadline.
    async fn one(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request_id: u64,
        began: Duration,
        deadline: Duration,
        request: Request,
    ) -> (Result<Reply, Failure>, Closed) {
        let row = request.opcode().row();
        let mut trail = match self.open_trail(caller, request_id, request.opcode(), began) {
            Ok(trail) => trail,
            Err(failure) => return (Err(failure), Closed::default()),
        };
        if began >= deadline {
            return (Err(late()), trail.close(Code::DeadlineExceeded));
        }
        if row.access == Access::Write {
            return Box::pin(self.change(caller, deadline, request, trail)).await;
        }
        let result = self
            .within(deadline, pin!(self.steps(caller, request, &mut trail)))
            .await
            .unwrap_or_else(|| Err(late()));
        let code = result.as_ref().err().map_or(Code::Ok, |failure| failure.code);
        (result, trail.close(code))
    }

    /// The pipeline.
    async fn steps(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request: Request,
        trail: &mut Trail,
    ) -> Result<Reply, Failure> {
        if let Some(service) = &caller.endpoint.service {
            Box::pin(self.first_use(caller, service, &request, trail.request_id())).await?;
        }
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
        if !self.can_record() {
            let failure = Failure::new(Code::AuditUnavailable, UNRECORDABLE);
            return (Err(failure), trail.close(Code::AuditUnavailable));
        }
        let (done, ended) = oneshot::channel();
        let (service, caller) = (Arc::clone(self), Arc::clone(caller));
        self.edge.background.start(async move {
            let (result, waited) = metrics::waited(service.steps(&caller, request, &mut trail)).await;
            let code = result.as_ref().err().map_or(Code::Ok, |failure| failure.code);
            if let Err((_, closed, _)) = done.send((result, trail.close(code), waited)) {
                // Nobody waits any more: its event is recorded all the same.
                service.record(closed);
            }
        });
        match self.within(deadline, pin!(ended)).await {
            Some(Ok((result, closed, waited))) => {
                metrics::note(waited);
                (result, closed)
            }
            Some(Err(_)) => (Err(Code::Internal.into()), Closed::default()),
            None => (Err(late()), Closed::default()),
        }
    }

    /// A serving daemon whose HSM fails says so in status and, once, in the log.
    fn note_hsm_trouble(&self) {
        if let Some(keyring) = self.keyring.get()
            // One behind a helper is opened again, and `daemon/watch.rs` tells of it.
            && keyring.member().tether().is_none()
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
        let mut results = Results::new(items.len(), self.limits().max_body as usize);
        let mut slice = self.edge.clock.elapsed();
        let mut began = slice;
        for item in items {
            let (result, closed) = match item.request() {
                Ok(request) => {
                    let ((result, closed), waited) =
                        metrics::waited(self.one(caller, header.request_id, began, deadline, request)).await;
                    metrics::note(waited);
                    let times = exit::times(began, began, closed.ended().unwrap_or(began), waited);
                    self.count(item.opcode, caller.endpoint.kind, &result, Some(times));
                    (result, closed)
                }
                Err(error) => {
                    let closed = self.refused(caller, header.request_id, item.opcode, error.code());
                    let result = Err(Failure::new(error.code(), error.to_string()));
                    self.count(item.opcode, caller.endpoint.kind, &result, None);
                    (result, closed)
                }
            };
            all.absorb(closed);
            match result.and_then(|reply| self.encode(&reply)) {
                Ok(body) => {
                    results.reply(body);
                }
                Err(failure) => results.refusal(failure.code, &error_body(&failure)),
            }
            began = self.edge.clock.elapsed();
            if began.saturating_sub(slice) >= TIME_SLICE {
                yield_now().await;
                slice = self.edge.clock.elapsed();
                began = slice;
            }
        }
        (results.finish(), all)
    }

    /// The outcome of a hello that was accepted.
    #[must_use]
    pub fn greeted(&self, caller: &Caller, header: Header, reply: &Reply) -> Outcome {
        let endpoint = caller.endpoint.kind;
        Outcome { header, result: self.encode(reply), events: Closed::default(), endpoint, times: None }
    }

    /// The outcome of a frame that doesn't become a call; it leaves an event.
    #[must_use]
    pub fn refusal(&self, caller: &Caller, header: Header, failure: Failure) -> Outcome {
        let events = self.refused(caller, header.request_id, header.opcode, failure.code);
        Outcome { header, result: Err(failure), events, endpoint: caller.endpoint.kind, times: None }
    }

    /// Records the events of calls that have run, then writes their replies: the
    /// only way to an answer.
    pub fn conclude(&self, outcomes: Vec<Outcome>, out: &mut Vec<u8>) {
        let recorded = self.log.record(outcomes.iter().flat_map(|outcome| outcome.events.events()));
        for Outcome { header, result, events, endpoint, times } in outcomes {
            let outbox = events.settle();
            match &recorded {
                Ok(recorded) => {
                    self.outbox.recorded(outbox);
                    self.count(header.opcode, endpoint, &result, times);
                    write_reply(recorded, &header, result, out);
                }
                Err(_) => {
                    let failure = match result {
                        _ if !outbox.is_empty() => Failure::new(Code::AuditUnavailable, MADE_UNRECORDED),
                        Err(failure) if failure.code == Code::AuditUnavailable => failure,
                        _ => Code::AuditUnavailable.into(),
                    };
                    self.outbox.owe(outbox);
                    write_refusal(&header, &failure, out);
                    let refused: Result<(), Failure> = Err(failure);
                    self.count(header.opcode, endpoint, &refused, times);
                }
            }
        }
    }

    fn encode(&self, reply: &Reply) -> Result<SecretBytes, Failure> {
        let body = reply.encode().map(SecretBytes::new).map_err(|_| Code::ReplyTooLarge)?;
        if body.len() > self.limits().max_body as usize { Err(Code::ReplyTooLarge.into()) } else { Ok(body) }
    }

    fn deadline(&self, frame: &Frame) -> Duration {
        let wanted = match frame.header.deadline_ms {
            0 => self.limits().default_deadline,
            ms => Duration::from_millis(ms.into()).min(LONGEST_DEADLINE),
        };
        frame.received.saturating_add(wanted)
    }

    /// Runs `steps` until the deadline, or gives none; a timer is made only if they
    /// have to wait.
    async fn within<T>(&self, deadline: Duration, mut steps: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut timer = pin!(async {
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
