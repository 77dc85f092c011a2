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
use claviger_protocol::ops::AuditSync;
use claviger_protocol::{Code, Header, Opcode, Reply, Request, SecretBytes};

use crate::admission::Admission;
use crate::audit::{AuditLog, Closed, Event, Trail};
use crate::backend::hsm::pool::Pool;
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
    admission: Admission,
    keyring: OnceLock<Arc<Keyring>>,
    /// Outbox entries whose events are in the log, to be removed from the store.
    outbox_done: std::sync::Mutex<Vec<uuid::Uuid>>,
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
            admission: Admission::new(places),
            keyring: OnceLock::new(),
            outbox_done: std::sync::Mutex::default(),
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
            Failure::new(Code::HsmUnavailable, "no HSM can open the domain key yet; see `claviger status`")
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
    pub async fn call(&self, caller: &Arc<Caller>, frame: Frame) -> Outcome {
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

    /// One operation: the pipeline.
    async fn one(
        &self,
        caller: &Arc<Caller>,
        request_id: u64,
        deadline: Duration,
        request: Request,
    ) -> (Result<Reply, Failure>, Closed) {
        let mut trail = match self.open_trail(caller, request_id, request.opcode()) {
            Ok(trail) => trail,
            Err(failure) => return (Err(failure), Closed::default()),
        };
        let steps = async {
            let resolved = resolve(self.keyring(), caller, request, &mut trail).await?;
            let permit = policy::authorise(resolved)?;
            let admitted = self.admission.enter(permit)?;
            ops::dispatch(self, &admitted, &mut trail).await
        };
        let result = self.within(deadline, steps).await;
        let code = result.as_ref().err().map_or(Code::Ok, |failure| failure.code);
        (result, trail.close(code))
    }

    /// Every item goes the whole way by itself; a result that doesn't fit in the
    /// reply any more is replaced by `ReplyTooLarge`.
    async fn batch(
        &self,
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
            events.extend(its_events);
            outbox.extend(its_outbox);
            answers.push((outcome.header, outcome.result));
        }
        match self.log.record(&events) {
            Ok(recorded) => {
                self.outbox_done
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .append(&mut outbox);
                for (header, result) in answers {
                    write_reply(&recorded, &header, result, out);
                }
            }
            Err(_) => {
                for (header, _) in answers {
                    write_refusal(&header, &Code::AuditUnavailable.into(), out);
                }
            }
        }
    }

    /// Takes the outbox entries that may be removed from the store.
    pub fn take_outbox_done(&self) -> Vec<uuid::Uuid> {
        std::mem::take(&mut self.outbox_done.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
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

    /// Runs `steps` until the deadline; a timer is made only if they have to wait.
    async fn within<T>(
        &self,
        deadline: Duration,
        steps: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut steps = std::pin::pin!(steps);
        let mut timer = std::pin::pin!(async {
            let left = deadline.saturating_sub(self.edge.clock.elapsed());
            self.edge.clock.sleep(left).await;
        });
        std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(result) = steps.as_mut().poll(cx) {
                return std::task::Poll::Ready(result);
            }
            timer.as_mut().poll(cx).map(|()| {
                Err(Failure::new(
                    Code::DeadlineExceeded,
                    "the deadline passed; the call may or may not have taken effect",
                ))
            })
        })
        .await
    }
}

fn decode(header: &Header, body: &[u8]) -> Result<Request, Failure> {
    let opcode = Opcode::from_number(header.opcode).ok_or(Code::UnknownOpcode)?;
    Request::decode(opcode, body).map_err(Failure::from)
}

/// Deadlines that are asked for are cut to this.
const LONGEST_DEADLINE: Duration = Duration::from_mins(1);
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
