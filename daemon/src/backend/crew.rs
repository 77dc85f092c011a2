//! Threads for cryptography in software that takes too long for a thread of the async
//! runtime: private keys, new pairs, large messages. What must not live here: what is
//! computed.

use claviger_protocol::Code;
use tokio::sync::oneshot;

use crate::edge::{Worker, Workers};
use crate::failure::Failure;
use crate::metrics;

/// The threads, each with its own queue.
pub struct Crew {
    /// For what ends within milliseconds.
    using: Vec<Worker>,
    /// For new pairs: one of RSA_4096 takes as long as a thousand signatures, and who asks
    /// for many waits for themselves alone.
    making: Worker,
}

impl Crew {
    /// One thread for each core, at most four, and one that makes pairs; `queue` jobs may wait
    /// for each.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn start(workers: &Workers, queue: usize) -> std::io::Result<Self> {
        let names = (0..workers.cores().min(4)).map(|number| format!("crypto-{number}"));
        let using = names.map(|name| workers.start(&name, queue)).collect::<Result<_, _>>()?;
        Ok(Self { using, making: workers.start("crypto-make", queue)? })
    }

    /// Runs a job on the thread with the shortest queue; how long it waited there belongs
    /// to the call's queue time. Once begun it runs to its end; where nobody waits any
    /// longer, it isn't begun.
    ///
    /// # Errors
    /// `Busy` at once where that queue is full.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let worker = self.using.iter().min_by_key(|worker| worker.backlog()).ok_or(Code::Internal)?;
        run_on(worker, job).await
    }

    /// Makes a new pair, in the queue of those alone.
    ///
    /// # Errors
    /// `Busy` at once where that queue is full.
    pub async fn make<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        run_on(&self.making, job).await
    }
}

async fn run_on<T: Send + 'static>(
    worker: &Worker,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (send, receive) = oneshot::channel();
    let (clock, asked) = (worker.clone(), worker.now());
    let queued = worker.submit(move || {
        if send.is_closed() {
            return;
        }
        let waited = clock.now().saturating_sub(asked);
        let _ = send.send((job(), waited));
    });
    queued.map_err(|_| Failure::new(Code::Busy, "too many private-key operations at once; try again"))?;
    let (result, waited) = receive.await.map_err(|_| Code::Internal)?;
    metrics::note(waited);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    #[test]
    fn jobs_go_to_the_shortest_queue_and_a_full_one_says_so() {
        let (workers, manual) = Workers::manual();
        let crew = Crew::start(&workers, 1).unwrap();
        let mut first = Box::pin(crew.run(|| 1));
        assert!((&mut first).now_or_never().is_none());
        let second = crew.run(|| 2).now_or_never().unwrap();
        assert_eq!(second.map_err(|failure| failure.code), Err(Code::Busy));
        assert!(manual.step(0).is_some());
        assert_eq!(first.now_or_never().unwrap(), Ok(1));
    }

    #[test]
    fn pairs_that_are_made_hold_nothing_else_up() {
        let (workers, manual) = Workers::manual();
        let crew = Crew::start(&workers, 1).unwrap();
        let mut made = Box::pin(crew.make(|| 1));
        assert!((&mut made).now_or_never().is_none());
        let second = crew.make(|| 2).now_or_never().unwrap();
        assert_eq!(second.map_err(|failure| failure.code), Err(Code::Busy));
        let mut used = Box::pin(crew.run(|| 3));
        assert!((&mut used).now_or_never().is_none());
        assert_eq!(manual.step(0).as_deref(), Some("crypto-0"));
        assert_eq!((used.now_or_never().unwrap(), (&mut made).now_or_never()), (Ok(3), None));
        assert_eq!(manual.step(0).as_deref(), Some("crypto-make"));
        assert_eq!(made.now_or_never().unwrap(), Ok(1));
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let (workers, manual) = Workers::manual();
        let crew = Crew::start(&workers, 2).unwrap();
        let begun = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&begun);
        let mut left = Box::pin(crew.make(move || seen.store(true, Relaxed)));
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        let mut stayed = Box::pin(crew.make(|| 1));
        assert!((&mut stayed).now_or_never().is_none());
        while manual.step(0).is_some() {}
        assert_eq!((stayed.now_or_never().unwrap(), begun.load(Relaxed)), (Ok(1), false));
    }

    #[test]
    fn a_job_that_panics_fails_its_caller_alone() {
        let crew = Crew::start(&Workers::threads(), 4).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let failed = runtime.block_on(crew.run(|| panic!("a bug")));
        assert_eq!(failed.map_err(|failure: Failure| failure.code), Err::<(), _>(Code::Internal));
        assert_eq!(runtime.block_on(crew.run(|| 3)), Ok(3));
    }
}
