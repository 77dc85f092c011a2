//! The events of one call, from receipt to outcome. A call that is dropped in the
//! middle (its client went away) leaves its events all the same.

use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::Code;
use uuid::Uuid;

use super::log::ABANDONED;
use super::{AuditLog, Event, Level, ResourceKind};
use crate::edge::Clock;

/// One call's open event, and those it has closed already (one for each key of a
/// multi-key call).
pub struct Trail {
    open: Option<Event>,
    closed: Closed,
    began: Duration,
    clock: Clock,
    log: Arc<AuditLog>,
}

/// Events with their outcomes, ready to be recorded. If whoever should record them
/// goes away (a batch whose client did), they are recorded when this is dropped.
#[derive(Default)]
pub struct Closed {
    events: Vec<Event>,
    outbox: Vec<Uuid>,
    log: Option<Arc<AuditLog>>,
    /// When the last of them got its outcome, on the edge's clock.
    ended: Duration,
}

impl Closed {
    /// When the call had its outcome, on the edge's clock; none for one that was never begun.
    #[must_use]
    pub fn ended(&self) -> Option<Duration> {
        self.log.as_ref().map(|_| self.ended)
    }

    /// Takes in another call's.
    pub fn absorb(&mut self, mut other: Self) {
        self.log = self.log.take().or_else(|| other.log.take());
        self.ended = self.ended.max(other.ended);
        self.events.append(&mut other.events);
        self.outbox.append(&mut other.outbox);
    }

    /// The events, to be recorded now.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// It was tried to record the events; gives the ids of those that stand in the
    /// outbox too.
    #[must_use]
    pub fn settle(mut self) -> Vec<Uuid> {
        self.events.clear();
        std::mem::take(&mut self.outbox)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if let (Some(log), false) = (&self.log, self.events.is_empty()) {
            // Nobody is left to be answered; a failing log says so itself.
            let _ = log.record(&self.events);
        }
    }
}

impl Trail {
    /// Opens the event of a call that `began` then, on the clock.
    #[must_use]
    pub fn new(event: Event, began: Duration, clock: Clock, log: Arc<AuditLog>) -> Self {
        Self { open: Some(event), closed: Closed::default(), began, clock, log }
    }

    /// The trail of a call that leaves none (connection upkeep).
    #[must_use]
    pub fn none(clock: Clock, log: Arc<AuditLog>) -> Self {
        Self { open: None, closed: Closed::default(), began: Duration::ZERO, clock, log }
    }

    /// Notes a key that the call is about.
    pub fn about_key(&mut self, key_id: Uuid) {
        if let Some(event) = &mut self.open {
            event.resource_kind = ResourceKind::Key;
            if !event.resources.contains(&key_id) {
                event.resources.push(key_id);
            }
        }
    }

    /// Notes the keyed hash of the call's encryption context.
    pub fn with_context(&mut self, hash: [u8; 16]) {
        if let Some(event) = &mut self.open {
            event.context_hash = Some(hash);
        }
    }

    /// Notes a word about how it was done.
    pub fn with_detail(&mut self, detail: &'static str) {
        if let Some(event) = &mut self.open {
            event.detail = Some(detail.into());
        }
    }

    /// The caller's id of the request.
    #[must_use]
    pub fn request_id(&self) -> u64 {
        self.open.as_ref().map(|event| event.request_id).unwrap_or_default()
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> Uuid {
        self.open.as_ref().map(|event| event.event_id).unwrap_or_default()
    }

    /// The event as it stands, with this outcome: to be stored before or with a change.
    #[must_use]
    pub fn snapshot(&self, code: Code) -> Option<Event> {
        self.open.clone().map(|event| self.finish(event, code, self.clock.elapsed()))
    }

    /// The event was committed to the outbox with its change.
    pub fn in_outbox(&mut self) {
        let id = self.event_id();
        self.closed.outbox.push(id);
    }

    /// A trail of its own for one key of a multi-key call.
    #[must_use]
    pub fn fork(&self, event_id: Uuid) -> Self {
        Self {
            open: self.open.clone().map(|event| Event { event_id, resources: Vec::new(), ..event }),
            closed: Closed::default(),
            began: self.began,
            clock: self.clock.clone(),
            log: Arc::clone(&self.log),
        }
    }

    /// Closes a fork into this trail, whose own event gives way to its forks'.
    pub fn join(&mut self, fork: Self, code: Code) {
        self.closed.absorb(fork.close(code));
    }

    /// Closes the call's event; what is returned still has to be recorded.
    #[must_use]
    pub fn close(mut self, code: Code) -> Closed {
        let ended = self.clock.elapsed();
        if let Some(event) = self.open.take()
            && self.closed.events.is_empty()
        {
            // What was committed with its event has come about, whatever failed behind it.
            let code = if self.closed.outbox.contains(&event.event_id) { Code::Ok } else { code };
            self.closed.events = vec![self.finish(event, code, ended)];
        }
        self.closed.ended = ended;
        self.closed.log = Some(Arc::clone(&self.log));
        std::mem::take(&mut self.closed)
    }

    fn finish(&self, mut event: Event, code: Code, ended: Duration) -> Event {
        let took = ended.saturating_sub(self.began);
        event.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        event.outcome = code.number();
        event.level = match code {
            Code::AccessDenied
            | Code::Unauthenticated
            | Code::HsmUnavailable
            | Code::StoreUnavailable
            | Code::InvalidCiphertext
            | Code::InvalidImportToken
            | Code::InvalidMaterial
            | Code::MaterialMismatch => Level::Warning,
            Code::Internal => Level::Incident,
            _ => Level::Normal,
        };
        event
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let Some(event) = self.open.take() {
            if self.closed.events.is_empty() {
                let committed = self.closed.outbox.contains(&event.event_id);
                let ok = self.finish(event, Code::Ok, self.clock.elapsed());
                let abandoned = Event { outcome: if committed { ok.outcome } else { ABANDONED }, ..ok };
                self.closed.events.push(abandoned);
            }
            // Recorded as this goes.
            self.closed.log = Some(Arc::clone(&self.log));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Arc<AuditLog> {
        let (workers, _) = crate::edge::Workers::manual();
        Arc::new(AuditLog::in_memory(workers.start("audit", 4).unwrap()))
    }

    fn trail(log: &Arc<AuditLog>) -> Trail {
        let (clock, _) = Clock::manual(0);
        Trail::new(Event::internal(Uuid::from_u128(1), 0, "encrypt"), Duration::ZERO, clock, Arc::clone(log))
    }

    #[test]
    fn a_dropped_call_leaves_its_event() {
        let log = log();
        drop(trail(&log));
        assert_eq!(log.lines().len(), 1);
        assert!(log.lines()[0].contains("Abandoned"));
    }

    #[test]
    fn a_closed_call_is_recorded_by_whoever_closed_it() {
        let log = log();
        let closed = trail(&log).close(Code::AccessDenied);
        assert!(log.lines().is_empty());
        let levels: Vec<_> = closed.events().map(|event| event.level).collect();
        assert_eq!(levels, [Level::Warning]);
        assert!(closed.settle().is_empty());
        assert!(log.lines().is_empty(), "what was settled is somebody else's to record");
    }

    #[test]
    fn what_was_committed_with_its_event_is_never_told_otherwise() {
        let log = log();
        let mut call = trail(&log);
        call.in_outbox();
        let outcomes: Vec<_> = call.close(Code::Busy).events().map(|event| event.outcome).collect();
        assert_eq!(outcomes, [Code::Ok.number()]);
        let mut call = trail(&log);
        call.in_outbox();
        drop(call);
        assert!(log.lines().iter().all(|line| !line.contains("Abandoned") && !line.contains("Busy")));
    }

    #[test]
    fn closed_events_that_nobody_took_are_recorded() {
        let log = log();
        let mut batch = Closed::default();
        batch.absorb(trail(&log).close(Code::Ok));
        batch.absorb(trail(&log).close(Code::Busy));
        drop(batch);
        assert_eq!(log.lines().len(), 2);
    }

    #[test]
    fn forks_stand_for_their_call() {
        let log = log();
        let mut call = trail(&log);
        for (id, code) in [(2, Code::Ok), (3, Code::InvalidKeyState)] {
            let fork = call.fork(Uuid::from_u128(id));
            call.join(fork, code);
        }
        let closed = call.close(Code::Ok);
        let outcomes: Vec<_> = closed.events().map(|e| (e.event_id.as_u128(), e.outcome)).collect();
        assert_eq!(outcomes, [(2, 0), (3, Code::InvalidKeyState.number())]);
    }
}
