//! sled's flush, for those who must hear of a disk that fails.
//!
//! sled 0.34 writes on threads of its own. Where the thread that put the last record into a
//! buffer hands it over, a failing write is noted and **nobody is woken**
//! (`Log::exit_reservation`): a flush that waits by then waits for ever, and every commit
//! with it (one `sync_file_range` that fails late shows it, `tests/torture`). Whoever flushes
//! next finds the note and wakes all. So a flush that takes long is joined by another.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// How long a flush may take before another asks what became of it. The next one waits
/// twice as long, and so on: few gather behind a disk that is only slow. It is the disk's
/// time, not the daemon's: no clock is asked.
const LATE: Duration = Duration::from_secs(1);

type Flushing<'a> = Pin<Box<dyn Future<Output = sled::Result<usize>> + Send + 'a>>;

/// Hands all that was written to the kernel. Blocks.
///
/// # Errors
/// What this write, or any before it, met.
pub(super) fn flush(db: &sled::Db) -> sled::Result<usize> {
    joined(|| Box::pin(db.flush_async()), LATE)
}

/// The answer of one flush; more are begun while it doesn't come.
fn joined<'a>(begin: impl Fn() -> Flushing<'a>, mut late: Duration) -> sled::Result<usize> {
    let (wake, woken) = sync_channel(1);
    let waker = Waker::from(Arc::new(Bell(wake)));
    let mut flushing = pin!(begin());
    loop {
        if let Poll::Ready(answer) = flushing.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        if woken.recv_timeout(late) == Err(RecvTimeoutError::Timeout) {
            // Polled once it is under way, and needs nobody to wait for it.
            let _ = begin().as_mut().poll(&mut Context::from_waker(Waker::noop()));
            late = late.saturating_mul(2);
        }
    }
}

/// Wakes the thread that waits for a flush.
struct Bell(SyncSender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Full: it is about to look anyway.
        let _ = self.0.try_send(());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::cell::Cell;
    use std::future::{pending, ready};
    use std::thread;

    use tokio::sync::watch;

    use super::*;

    /// As sled does it: the first sleeps, whatever becomes of its write; the third to ask
    /// finds what happened and wakes all.
    #[test]
    fn a_flush_that_nobody_wakes_is_joined_until_it_has_its_answer() {
        let (found, finding) = watch::channel(false);
        let count = Cell::new(0);
        let begin = || -> Flushing<'_> {
            count.set(count.get() + 1);
            if count.get() == 3 {
                found.send_replace(true);
            }
            if count.get() > 1 {
                return Box::pin(pending());
            }
            let mut finding = finding.clone();
            Box::pin(async move {
                let _ = finding.wait_for(|found| *found).await;
                Err(sled::Error::Io(std::io::Error::other("the disk")))
            })
        };
        assert!(matches!(joined(begin, Duration::from_millis(1)), Err(sled::Error::Io(_))));
        assert_eq!(count.get(), 3);
    }

    #[test]
    fn the_answer_wakes_its_thread_however_long_it_would_wait() {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let answered = Cell::new(Some(answered));
        thread::scope(|scope| {
            scope.spawn(|| answer.send(7).unwrap());
            let begin = || -> Flushing<'_> {
                let answered = answered.take().expect("one flush is enough");
                Box::pin(async move { Ok(answered.await.unwrap()) })
            };
            assert_eq!(joined(begin, Duration::MAX).unwrap(), 7);
        });
        assert_eq!(joined(|| Box::pin(ready(Ok(1))), Duration::ZERO).unwrap(), 1);
    }
}
