//! Time as an argument: the system's clock, or one that a test turns by hand.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

/// Milliseconds since the Unix epoch.
pub type Timestamp = i64;

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System { start: Instant },
    Manual(Arc<ManualTime>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System { start: Instant::now() })
    }

    /// A clock that stands still until [`ManualTime::advance`].
    #[must_use]
    pub fn manual(start: Timestamp) -> (Self, Arc<ManualTime>) {
        let time = Arc::new(ManualTime {
            wall: AtomicI64::new(start),
            elapsed_us: AtomicU64::new(0),
            sleepers: Mutex::default(),
        });
        (Self(Kind::Manual(Arc::clone(&time))), time)
    }

    /// Wall-clock time, for records and dates.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Kind::Manual(time) => {
                let elapsed = i64::try_from(time.elapsed().as_millis()).unwrap_or(i64::MAX);
                time.wall.load(Ordering::SeqCst).saturating_add(elapsed)
            }
        }
    }

    /// Time since the daemon started, which never goes back: for deadlines and durations.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Kind::System { start } => start.elapsed(),
            Kind::Manual(time) => time.elapsed(),
        }
    }

    /// Suspends the caller for at least `duration`.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Kind::System { .. } => tokio::time::sleep(duration).await,
            Kind::Manual(time) => time.sleep(duration).await,
        }
    }
}

/// The hand that turns a manual clock.
pub struct ManualTime {
    /// What the wall clock shows when no time has passed.
    wall: AtomicI64,
    elapsed_us: AtomicU64,
    sleepers: Mutex<Vec<(Duration, oneshot::Sender<()>)>>,
}

impl ManualTime {
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        let due = self.elapsed().saturating_add(duration);
        let (wake, woken) = oneshot::channel();
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push((due, wake));
        self.wake_due();
        let _ = woken.await;
    }

    fn wake_due(&self) {
        let now = self.elapsed();
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, later): (Vec<_>, Vec<_>) = sleepers.drain(..).partition(|(at, _)| *at <= now);
        *sleepers = later;
        drop(sleepers);
        for (_, wake) in due {
            let _ = wake.send(());
        }
    }

    /// Moves the clock on and wakes every sleeper whose time has come.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.elapsed_us.fetch_add(micros, Ordering::SeqCst);
        self.wake_due();
    }

    /// Sets the wall clock forward, or back, by so many milliseconds, as an administrator
    /// or NTP does: no time passes.
    pub fn step_wall(&self, by: Timestamp) {
        self.wall.fetch_add(by, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_manual_sleeper_wakes_exactly_when_its_time_comes() {
        let (clock, time) = Clock::manual(1_000);
        let mut sleep = Box::pin(clock.sleep(Duration::from_millis(5)));
        assert!((&mut sleep).now_or_never().is_none());
        time.advance(Duration::from_millis(4));
        assert!((&mut sleep).now_or_never().is_none());
        time.advance(Duration::from_millis(1));
        assert!(sleep.now_or_never().is_some());
        assert_eq!(clock.now(), 1_005);
        time.step_wall(-2_000);
        assert_eq!((clock.now(), clock.elapsed()), (-995, Duration::from_millis(5)));
    }
}
