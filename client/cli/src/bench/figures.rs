//! Counting and summing up: the tally of a measurement, and the figures made of it.

use std::collections::BTreeMap;
use std::time::Duration;

use claviger_client::RawReply;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::Failure;

/// Significant digits of latencies: right to a thousandth.
const DIGITS: u8 = 3;
/// Longest latency that is told from longer ones, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// What one measurement counted.
pub(crate) struct Tally {
    /// Latencies of frames, in nanoseconds.
    latencies: Histogram<u64>,
    /// Calls that went well in time; the items of batches one by one.
    done: u64,
    /// Calls that didn't, whenever that was, by code.
    pub(crate) errors: Errors,
    /// How long it took.
    pub(crate) took: Duration,
    /// The last good reply.
    pub(crate) sample: Option<RawReply>,
}

/// How many calls failed, by the name of the code.
pub(crate) type Errors = BTreeMap<&'static str, u64>;

/// The figures of a measurement, or the medians of several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) ops_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, Failure> {
        let latencies = Histogram::new_with_bounds(1, LONGEST, DIGITS)
            .map_err(|error| Failure::local("Internal", format!("histogram: {error}")))?;
        Ok(Self { latencies, done: 0, errors: Errors::new(), took: Duration::ZERO, sample: None })
    }

    /// Takes note of a frame's reply: `done` calls went well, each of `errors` didn't.
    /// Only what `counts` is in the figures; errors always count.
    pub(crate) fn note(&mut self, counts: bool, latency: Duration, done: u64, errors: &[&'static str]) {
        if counts {
            self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            self.done += done;
        }
        for error in errors {
            *self.errors.entry(error).or_default() += 1;
        }
    }

    /// Adds what another task counted in the same measurement.
    pub(crate) fn add(&mut self, other: Self) {
        // Both have the same bounds: adding can't fail.
        let _ = self.latencies.add(other.latencies);
        self.done += other.done;
        count(&mut self.errors, other.errors);
        self.sample = other.sample.or(self.sample.take());
    }

    /// Calls that went well.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    pub(crate) fn figures(&self) -> Figures {
        let at = |quantile| microseconds(self.latencies.value_at_quantile(quantile));
        Figures {
            ops_per_second: rate(self.done, self.took),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: microseconds(self.latencies.max()),
        }
    }
}

impl Figures {
    /// Each figure's median over the rounds.
    pub(crate) fn medians(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            ops_per_second: of(|f| f.ops_per_second),
            p50_us: of(|f| f.p50_us),
            p99_us: of(|f| f.p99_us),
            p99_9_us: of(|f| f.p99_9_us),
            max_us: of(|f| f.max_us),
        }
    }
}

/// Adds counts of errors to others.
pub(crate) fn count(all: &mut Errors, more: Errors) {
    for (code, number) in more {
        *all.entry(code).or_default() += number;
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), middle.checked_sub(1).and_then(|below| values.get(below))) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => f64::midpoint(*lower, *upper),
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures have three digits")]
fn rate(done: u64, took: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 { done as f64 / seconds } else { 0.0 }
}

#[allow(clippy::cast_precision_loss, reason = "figures have three digits")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_each_figure_by_itself() {
        for (values, middle) in [(vec![], 0.0_f64), (vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5)] {
            assert_eq!(median(values).to_bits(), middle.to_bits());
        }
        let round = |rate, time| Figures {
            ops_per_second: rate,
            p50_us: time,
            p99_us: time,
            p99_9_us: time,
            max_us: time,
        };
        let medians = Figures::medians(&[round(1.0, 30.0), round(3.0, 10.0), round(2.0, 50.0)]);
        assert_eq!(medians, round(2.0, 30.0));
    }

    #[test]
    fn what_came_late_is_no_figure_and_an_error_always_counts() {
        let mut tally = Tally::new().unwrap();
        tally.note(true, Duration::from_micros(100), 2, &[]);
        tally.note(true, Duration::from_micros(300), 1, &["Busy", "Busy"]);
        tally.note(false, Duration::from_secs(9), 1, &["Throttled"]);
        let mut other = Tally::new().unwrap();
        other.note(true, Duration::from_micros(200), 1, &["Busy"]);
        tally.add(other);
        tally.took = Duration::from_millis(500);
        assert_eq!(tally.done(), 4);
        assert_eq!(tally.errors, Errors::from([("Busy", 3), ("Throttled", 1)]));
        let figures = tally.figures();
        assert_eq!(figures.ops_per_second.to_bits(), 8.0_f64.to_bits());
        assert!((figures.p50_us - 200.0).abs() < 1.0, "{figures:?}");
        assert!((figures.max_us - 300.0).abs() < 1.0, "{figures:?}");
    }
}
