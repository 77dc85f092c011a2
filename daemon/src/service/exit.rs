//! The exit of a request: its span's end, its line in the log, its place in the
//! metrics. Nothing here holds what the request carried, only who asked for what
//! operation and what came of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claviger_protocol::{Code, Header, Opcode};
use tracing::Span;
use tracing::field::Empty;

use super::{Outcome, Service};
use crate::failure::Failure;
use crate::identity::{Caller, EndpointKind};
use crate::metrics::Times;

/// How often at most one kind of serious outcome is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Outcomes that an operator should hear of though no client complains.
const SERIOUS: [Code; 4] =
    [Code::Internal, Code::HsmUnavailable, Code::StoreUnavailable, Code::AuditUnavailable];

/// The one span of a request. Without the log level `debug` it is nothing.
pub(super) fn span(caller: &Caller, header: &Header) -> Span {
    tracing::debug_span!(
        "request",
        operation = name(header.opcode),
        endpoint = %caller.endpoint.name,
        connection = caller.connection,
        request_id = header.request_id,
        outcome = Empty,
        queue_us = Empty,
        work_us = Empty,
    )
}

/// When a call ran whose frame was complete at `received`.
pub(super) fn times(received: Duration, began: Duration, ended: Duration, waited: Duration) -> Times {
    let all = ended.saturating_sub(received);
    let queue = began.saturating_sub(received).saturating_add(waited).min(all);
    Times { queue, work: all.saturating_sub(queue) }
}

impl Service {
    /// A call has its outcome: its span ends, and the log hears of it.
    pub(super) fn exit(&self, span: &Span, outcome: &Outcome) {
        if let Err(failure) = &outcome.result {
            self.serious.tell(outcome.header.opcode, failure, self.edge.clock.elapsed());
        }
        if span.is_disabled() {
            return;
        }
        let times = outcome.times.unwrap_or(Times { queue: Duration::ZERO, work: Duration::ZERO });
        span.record("outcome", code(&outcome.result).name());
        span.record("queue_us", micros(times.queue));
        span.record("work_us", micros(times.work));
        span.in_scope(|| tracing::debug!("answered"));
    }

    /// A request is answered: the metrics hear of it.
    pub(super) fn count<T>(
        &self,
        opcode: u16,
        endpoint: EndpointKind,
        result: &Result<T, Failure>,
        times: Option<Times>,
    ) {
        self.requests.count(Opcode::from_number(opcode), code(result), endpoint, times);
    }
}

fn code<T>(result: &Result<T, Failure>) -> Code {
    result.as_ref().err().map_or(Code::Ok, |failure| failure.code)
}

fn name(opcode: u16) -> &'static str {
    Opcode::from_number(opcode).map_or("unknown", |opcode| opcode.row().name)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What of serious outcomes is told: of each kind one a second, and how many were not.
#[derive(Default)]
pub(super) struct Serious([Kind; SERIOUS.len()]);

#[derive(Default)]
struct Kind {
    /// When the next may be told, in microseconds of the edge's clock.
    due: AtomicU64,
    untold: AtomicU64,
}

impl Serious {
    fn tell(&self, opcode: u16, failure: &Failure, now: Duration) {
        let kind = SERIOUS.iter().zip(&self.0).find(|(code, _)| **code == failure.code);
        if let Some((_, kind)) = kind
            && let Some(untold) = kind.turn(now)
        {
            tracing::warn!(
                operation = name(opcode),
                outcome = failure.code.name(),
                message = %failure.message,
                untold,
                "a request failed"
            );
        }
    }
}

impl Kind {
    /// Whether one may be told now: how many were not since the last.
    fn turn(&self, now: Duration) -> Option<u64> {
        let due = self.due.load(Ordering::Relaxed);
        let next = micros(now.saturating_add(TELL_EVERY));
        let mine = micros(now) >= due
            && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            return Some(self.untold.swap(0, Ordering::Relaxed));
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_lane_is_queue_time_and_nothing_is_negative() {
        let us = Duration::from_micros;
        assert_eq!(times(us(10), us(15), us(100), us(0)), Times { queue: us(5), work: us(85) });
        assert_eq!(times(us(10), us(15), us(100), us(40)), Times { queue: us(45), work: us(45) });
        // A wait longer than the call: what it waited for was begun by another.
        assert_eq!(times(us(10), us(15), us(20), us(40)), Times { queue: us(10), work: us(0) });
        assert_eq!(times(us(20), us(15), us(10), us(0)), Times { queue: us(0), work: us(0) });
    }

    #[test]
    fn one_a_second_is_told_with_the_number_of_the_others() {
        let kind = Kind::default();
        let turns: Vec<_> = (0..=20).map(|tenth| kind.turn(Duration::from_millis(tenth * 100))).collect();
        let told: Vec<_> = turns.iter().enumerate().filter_map(|(at, told)| Some((at, (*told)?))).collect();
        assert_eq!(told, [(0, 0), (10, 9), (20, 9)]);
    }
}
