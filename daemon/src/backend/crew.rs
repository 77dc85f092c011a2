//! Threads for cryptography in software that takes too long for a thread of the async
//! runtime: private keys, new pairs, large messages. What must not live here: what is
//! computed.

use claviger_protocol::Code;
use tokio::sync::oneshot;

use crate::edge::{Worker, Workers};
use crate::failure::Failure;
use crate::metrics;

/// The threads, each with its own queue.
pub struct Crew(Vec<Worker>);

impl Crew {
    /// One thread for each core, at most four; `queue` jobs may wait for each.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn start(workers: &Workers, queue: usize) -> std::io::Result<Self> {
        let names = (0..workers.cores().min(4)).map(|number| format!("crypto-{number}"));
        names.map(|name| workers.start(&name, queue)).collect::<Result<_, _>>().map(Self)
    }

    /// Runs a job on the thread with the shortest queue; how long it waited there belongs
    /// to the call's queue time. It runs even if nobody waits any longer.
    ///
    /// # Errors
    /// `Busy` at once where that queue is full.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let worker = self.0.iter().min_by_key(|worker| worker.backlog()).ok_or(Code::Internal)?;
        let (send, receive) = oneshot::channel();
        let (clock, asked) = (worker.clone(), worker.now());
        let queued = worker.submit(move || {
            let waited = clock.now().saturating_sub(asked);
            let _ = send.send((job(), waited));
        });
        queued.map_err(|_| Failure::new(Code::Busy, "too many private-key operations at once; try again"))?;
        let (result, waited) = receive.await.map_err(|_| Code::Internal)?;
        metrics::note(waited);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

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
    fn a_job_that_panics_fails_its_caller_alone() {
        let crew = Crew::start(&Workers::threads(), 4).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let failed = runtime.block_on(crew.run(|| panic!("a bug")));
        assert_eq!(failed.map_err(|failure: Failure| failure.code), Err::<(), _>(Code::Internal));
        assert_eq!(runtime.block_on(crew.run(|| 3)), Ok(3));
    }
}
