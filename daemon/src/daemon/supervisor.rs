//! What the service manager is told (sd_notify(3)): that the daemon is ready, what it
//! is doing, that it is alive. Without a service manager nobody is told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::edge::Clock;

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Supervisor(Mutex<Phase>);

/// How far the daemon is, as the service manager was told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Ready,
    Stopping,
}

impl Supervisor {
    /// The daemon can be asked: its sockets are served, and how the domain is is known.
    /// Said once, however often; `status` is said every time, until the stop.
    pub(super) fn ready(&self, status: &str) {
        let status = &one_line(status);
        let mut phase = self.phase();
        match *phase {
            Phase::Starting => tell(&[NotifyState::Ready, NotifyState::Status(status)]),
            Phase::Ready => tell(&[NotifyState::Status(status)]),
            Phase::Stopping => return,
        }
        *phase = Phase::Ready;
    }

    /// The configuration is read again. Not said before the daemon is ready or once it
    /// stops: [`Supervisor::reloaded`] must not be taken for the end of the start.
    pub(super) fn reloading(&self) {
        if *self.phase() == Phase::Ready {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => tell(&[NotifyState::Reloading, now]),
                Err(error) => tracing::debug!(%error, "no monotonic clock"),
            }
        }
    }

    /// That is done, well or not.
    pub(super) fn reloaded(&self) {
        if *self.phase() == Phase::Ready {
            tell(&[NotifyState::Ready]);
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon stops, and takes at most so long.
    pub(super) fn stopping(&self, at_most: Duration) {
        *self.phase() = Phase::Stopping;
        let micros = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
        tell(&[
            NotifyState::Stopping,
            NotifyState::Status("stopping: what is in flight is finished"),
            NotifyState::ExtendTimeoutUsec(micros),
        ]);
    }

    /// How often the service manager wants to hear that the daemon is alive, if it does.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|every| !every.is_zero())
    }

    /// The daemon is alive.
    pub(super) fn alive() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// A status as one line: what an HSM's library says is in it, and a line of its own
/// would be another message to the service manager.
fn one_line(status: &str) -> String {
    status.replace(char::is_control, " ")
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told (NOTIFY_SOCKET)");
    }
}

/// Says `beat` twice in every period, as long as `alive` comes to its end: what hangs
/// in there is what a restart may mend.
pub(super) async fn pulse<F: Future<Output = ()>>(
    clock: &Clock,
    period: Duration,
    alive: impl Fn() -> F,
    beat: impl Fn(),
) {
    loop {
        alive().await;
        beat();
        clock.sleep(period / 2).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::cell::Cell;

    #[test]
    fn a_status_is_one_line_whatever_a_library_said() {
        assert_eq!(one_line("locked: a\nSTOPPING=1\r\n\0\tb"), "locked: a STOPPING=1    b");
        assert_eq!(one_line("läuft"), "läuft");
    }

    #[test]
    fn the_pulse_beats_twice_a_period_and_stops_where_something_hangs() {
        let (clock, time) = Clock::manual(0);
        let (beats, hangs) = (Cell::new(0), Cell::new(false));
        let alive = || {
            let hangs = hangs.get();
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
            }
        };
        let beat = || beats.set(beats.get() + 1);
        let mut pulse = Box::pin(pulse(&clock, Duration::from_secs(10), alive, beat));
        assert!((&mut pulse).now_or_never().is_none());
        assert_eq!(beats.get(), 1);
        for expected in 2..5 {
            time.advance(Duration::from_secs(5));
            assert!((&mut pulse).now_or_never().is_none());
            assert_eq!(beats.get(), expected);
        }
        hangs.set(true);
        for _ in 0..4 {
            time.advance(Duration::from_secs(5));
            assert!((&mut pulse).now_or_never().is_none());
        }
        assert_eq!(beats.get(), 4, "a daemon that hangs is not alive");
    }
}
