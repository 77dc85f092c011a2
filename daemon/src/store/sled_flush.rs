//! sled's flush, for those who must hear of a disk that fails.
//!
//! sled 0.34 writes on threads of its own. Where the one that put the last record into a buffer
//! hands it over (each batch does), a failing write is noted and **nobody is woken**
//! (`Log::exit_reservation`): a flush that waits by then waits for ever, and every commit with
//! it (`tests/torture`: a `sync_file_range` that fails late). Whoever flushes next finds the
//! note, and wakes all. So a thread looks after each flush, and joins one that takes long.
//! sled's own asynchronous flush, given up after a while, would do without a thread; it costs
//! a hand-over, and made a key's creation a fifth slower.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::edge::Workers;

/// How often a look is taken. It is the disk's time, not the daemon's: no clock is asked.
const LOOK: Duration = Duration::from_secs(1);

/// Flushes databases, and sees to it that each flush ends.
pub(super) struct Flusher {
    under_way: Arc<UnderWay>,
    /// The thread's end comes with this one's.
    _here: Sender<Infallible>,
}

/// The flush that is under way, with its number.
#[derive(Default)]
struct UnderWay(Mutex<(u64, Option<sled::Db>)>);

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, (u64, Option<sled::Db>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, db: &sled::Db) -> Ending {
        let mut now = self.lock();
        *now = (now.0.wrapping_add(1), Some(db.clone()));
        Ending(Arc::clone(self))
    }
}

/// Ends what is under way, also where sled panics.
struct Ending(Arc<UnderWay>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().1 = None;
    }
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the operating system gives none.
    pub(super) fn start(workers: &Workers) -> io::Result<Self> {
        let under_way = Arc::new(UnderWay::default());
        let (here, gone) = channel();
        let watched = Arc::clone(&under_way);
        workers.aside("store-flush", move || watch(&watched, &gone))?;
        Ok(Self { under_way, _here: here })
    }

    /// Hands all that was written to the kernel. Blocks.
    ///
    /// # Errors
    /// What this write, or any before it, met.
    pub(super) fn flush(&self, db: &sled::Db) -> sled::Result<()> {
        let _ending = self.under_way.begin(db);
        #[allow(clippy::disallowed_methods, reason = "the one that is looked after")]
        db.flush().map(drop)
    }
}

fn watch(under_way: &UnderWay, gone: &Receiver<Infallible>) {
    let mut looks = Looks::default();
    while gone.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let (number, db) = under_way.lock().clone();
        if looks.at(db.as_ref().map(|_| number))
            && let Some(db) = db
        {
            // Polled once it is on its way on a thread of sled's, and nobody's to wait for.
            let _ = pin!(db.flush_async()).poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// The flush that was seen last, and how often.
#[derive(Default)]
struct Looks {
    number: Option<u64>,
    times: u32,
}

impl Looks {
    /// Whether the flush that is under way is to be joined now. Each next time takes twice as
    /// long: few gather behind a disk that is only slow.
    fn at(&mut self, under_way: Option<u64>) -> bool {
        if under_way.is_none() || under_way != self.number {
            *self = Self { number: under_way, times: 0 };
            return false;
        }
        self.times = self.times.saturating_add(1);
        self.times.is_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flush_that_takes_long_is_joined_and_ever_more_seldom() {
        let mut looks = Looks::default();
        assert!(!looks.at(None) && !looks.at(None), "nothing to join");
        let joined: Vec<_> = (0..20).filter(|_| looks.at(Some(7))).collect();
        assert_eq!(joined, [1, 2, 4, 8, 16], "not when it is seen first");
        assert!(!looks.at(Some(8)) && looks.at(Some(8)), "another");
        assert!(!looks.at(None) && !looks.at(Some(8)), "it ended");
    }

    #[test]
    fn what_is_under_way_ends_with_its_flush_even_in_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::Config::new().path(dir.path()).open().unwrap();
        let under_way = Arc::new(UnderWay::default());
        let ending = under_way.begin(&db);
        assert!(matches!(&*under_way.lock(), (1, Some(_))));
        drop(ending);
        assert!(matches!(&*under_way.lock(), (1, None)));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ending = under_way.begin(&db);
            panic!("as sled does");
        }));
        assert!(panicked.is_err());
        assert!(matches!(&*under_way.lock(), (2, None)));
    }
}
