//! What is counted with: plain atomics, made once and never resized, so that
//! counting takes no lock, no allocation and no lookup. What is counted, and what
//! it is called, must not live here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Copies of what is counted: threads that count the same thing at the same time would
/// otherwise take its cache line from each other, which costs more than the counting.
const STRIPES: usize = 8;

/// The copy that this thread counts in.
fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    // Destroyed already: the thread is at its end, and any copy will do.
    STRIPE.try_with(|stripe| *stripe).unwrap_or_default()
}

/// A cache line of its own, and its neighbour, which processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Box<[Line<AtomicU64>; STRIPES]>);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        if let Some(line) = self.0.get(stripe()) {
            line.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.iter().map(|line| line.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
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
pub struct Histogram(Box<[Line<Buckets>; STRIPES]>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
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
        if let Some(Line(buckets)) = self.0.get(stripe())
            && let Some(count) = buckets.counts.get(bucket)
        {
            count.fetch_add(1, Ordering::Relaxed);
            buckets.sum.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let all =
            |of: &dyn Fn(&Buckets) -> u64| self.0.iter().map(|line| of(&line.0)).fold(0, u64::wrapping_add);
        let mut total = 0_u64;
        let up_to = std::array::from_fn(|index| {
            let here = |buckets: &Buckets| {
                buckets.counts.get(index).map_or(0, |count| count.load(Ordering::Relaxed))
            };
            total = total.wrapping_add(all(&here));
            total
        });
        Snapshot { up_to, sum: Duration::from_nanos(all(&|buckets| buckets.sum.load(Ordering::Relaxed))) }
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
    fn what_many_threads_count_adds_up() {
        let (counter, histogram) = (Counter::default(), Histogram::default());
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.one();
                        histogram.record(Duration::from_micros(3));
                    }
                });
            }
        });
        let all = 2000 * STRIPES as u64;
        let snapshot = histogram.snapshot();
        assert_eq!((counter.get(), snapshot.count(), snapshot.up_to[1]), (all, all, 0));
        assert_eq!(snapshot.sum, Duration::from_micros(3 * all));
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
