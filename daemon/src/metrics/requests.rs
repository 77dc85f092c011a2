//! Requests by operation, outcome and endpoint: indexed arrays, so that counting
//! one costs an index and a few additions.

use std::sync::OnceLock;
use std::time::Duration;

use claviger_protocol::{Code, Opcode};

use super::{Counter, Histogram};
use crate::identity::EndpointKind;

/// One more than the highest code's number, and than the number of operations.
const CODES: usize = 128;
/// What a request is counted as whose operation isn't known.
const UNKNOWN: &str = "unknown";

/// When a call ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the complete frame to the start of the work, and waiting for a lane.
    pub queue: Duration,
    /// The rest, to the outcome.
    pub work: Duration,
}

/// Requests of one operation with one outcome.
#[derive(Debug, Default)]
pub struct Series {
    /// On the admin endpoint.
    pub admin: Counter,
    /// On application endpoints.
    pub app: Counter,
    /// Their queue times.
    pub queue: Histogram,
    /// Their work times.
    pub work: Histogram,
}

/// All requests.
pub struct Requests {
    /// By operation (in the table's order, then the unknown) and outcome (by number).
    /// One is made when it first happens, for good.
    series: Vec<[OnceLock<Series>; CODES]>,
}

impl Requests {
    /// No requests yet. Every operation's success is shown from the start.
    #[must_use]
    pub fn new() -> Self {
        let none = || std::array::from_fn(|_| OnceLock::new());
        let requests = Self { series: (0..=Opcode::ALL.len()).map(|_| none()).collect() };
        for &opcode in Opcode::ALL {
            requests.series(Some(opcode), Code::Ok);
        }
        requests
    }

    /// Counts a request that has its outcome. `times` is none for one that was
    /// refused before it became a call.
    pub fn count(&self, opcode: Option<Opcode>, code: Code, endpoint: EndpointKind, times: Option<Times>) {
        let Some(series) = self.series(opcode, code) else { return };
        match endpoint {
            EndpointKind::Admin => series.admin.one(),
            EndpointKind::App => series.app.one(),
        }
        if let Some(times) = times {
            series.queue.record(times.queue);
            series.work.record(times.work);
        }
    }

    /// Every series that there is: operation, outcome.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Code, &Series)> {
        let names = Opcode::ALL.iter().map(|opcode| opcode.row().name).chain([UNKNOWN]);
        names.zip(&self.series).flat_map(|(name, outcomes)| {
            let made = |code: &Code| outcomes.get(usize::from(code.number())).and_then(OnceLock::get);
            Code::ALL.iter().filter_map(move |code| Some((name, *code, made(code)?)))
        })
    }

    fn series(&self, opcode: Option<Opcode>, code: Code) -> Option<&Series> {
        let operation = opcode.map_or(Opcode::ALL.len(), place);
        let slot = self.series.get(operation)?.get(usize::from(code.number()))?;
        Some(slot.get_or_init(Series::default))
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

/// The operation's place in the table.
fn place(opcode: Opcode) -> usize {
    Opcode::ALL.binary_search(&opcode).unwrap_or(Opcode::ALL.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_every_code_has_a_place_of_its_own() {
        let requests = Requests::new();
        assert_eq!(requests.all().count(), Opcode::ALL.len(), "successes are shown from the start");
        for opcode in Opcode::ALL.iter().copied().map(Some).chain([None]) {
            for &code in Code::ALL {
                requests.count(opcode, code, EndpointKind::App, None);
            }
        }
        let all: Vec<_> = requests.all().collect();
        assert_eq!(all.len(), (Opcode::ALL.len() + 1) * Code::ALL.len());
        assert!(all.iter().all(|(_, _, series)| series.app.get() == 1 && series.admin.get() == 0));
    }

    #[test]
    fn a_refusal_before_the_call_has_no_times() {
        let requests = Requests::new();
        let times = Times { queue: Duration::from_micros(3), work: Duration::from_micros(30) };
        requests.count(Some(Opcode::Encrypt), Code::Ok, EndpointKind::Admin, Some(times));
        requests.count(Some(Opcode::Encrypt), Code::Busy, EndpointKind::App, None);
        let of = |code| requests.all().find(|(name, c, _)| *name == "Encrypt" && *c == code).unwrap().2;
        assert_eq!((of(Code::Ok).admin.get(), of(Code::Ok).work.snapshot().sum), (1, times.work));
        assert_eq!((of(Code::Busy).app.get(), of(Code::Busy).queue.snapshot().count()), (1, 0));
    }
}
