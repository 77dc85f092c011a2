//! What is counted with: plain atomics, made once and never resized, so that
//! counting takes no lock, no allocation and no lookup. What is counted, and what
//! it is called, must not live here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, in nanoseconds: 1, 2 and 5 of each power
/// of ten from 1 µs to 10 s. One more bucket takes what is longer.
pub const BOUNDS: [u64; 22] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds; wraps after 584 years of work.
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How many took at most each of [`BOUNDS`], and, last, how many there were.
    pub up_to: [u64; BOUNDS.len() + 1],
    /// All times together.
    pub sum: Duration,
}

impl Histogram {
    /// Counts one that took so long.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut total = 0;
        let up_to = std::array::from_fn(|index| {
            total += self.buckets.get(index).map_or(0, |bucket| bucket.load(Ordering::Relaxed));
            total
        });
        Snapshot { up_to, sum: Duration::from_nanos(self.sum.load(Ordering::Relaxed)) }
    }
}

impl Snapshot {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.up_to.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lands_in_the_first_bucket_that_holds_it() {
        let cases = [
            (Duration::ZERO, 0),
            (Duration::from_micros(1), 0),
            (Duration::from_nanos(1_001), 1),
            (Duration::from_micros(5), 2),
            (Duration::from_millis(3), 11),
            (Duration::from_secs(10), 21),
            (Duration::from_nanos(10_000_000_001), 22),
            (Duration::MAX, 22),
        ];
        for (took, bucket) in cases {
            let histogram = Histogram::default();
            histogram.record(took);
            let snapshot = histogram.snapshot();
            let first = snapshot.up_to.iter().position(|count| *count == 1);
            assert_eq!((first, snapshot.count()), (Some(bucket), 1), "{took:?}");
        }
    }

    #[test]
    fn bounds_ascend_and_counts_add_up() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
        let histogram = Histogram::default();
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.up_to[..8], [1, 2, 5, 10, 20, 50, 100, 100]);
        assert_eq!((snapshot.count(), snapshot.sum), (100, Duration::from_micros(5050)));
    }
}
