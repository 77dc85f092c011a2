//! A lane: one token session, used by one caller at a time, either in place (a fast
//! call on a runtime thread, when nobody else is there) or from the queue of the
//! lane's worker. What must not live here: what commands mean, and which lane to use.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::command::{Answer, Command, HsmError, ObjectId, Token};
use crate::edge::Worker;
use crate::metrics;
use crate::metrics::groups::LaneCounts;

type Outcome = Result<Answer, HsmError>;

/// One token session and the worker that holds it when it isn't used in place.
pub struct Lane {
    token: Mutex<Box<dyn Token>>,
    worker: Worker,
    /// Whether a runtime thread may call the token.
    in_place: bool,
    /// Queued commands that haven't ended.
    unfinished: AtomicUsize,
    counts: LaneCounts,
}

/// One command, counted as unfinished until this is dropped.
struct Unfinished(Arc<Lane>);

impl Unfinished {
    fn count(lane: &Arc<Lane>) -> Self {
        lane.unfinished.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(lane))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer on its way to whoever waits for it. A session object that nobody
/// receives is destroyed.
struct Parcel {
    lane: Arc<Lane>,
    outcome: Option<Outcome>,
    /// How long the command waited for the lane.
    waited: Duration,
}

impl Parcel {
    fn open(mut self) -> Outcome {
        metrics::note(self.waited);
        self.outcome.take().unwrap_or_else(|| Err(HsmError::Fault("an answer was taken twice".to_owned())))
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(Ok(Answer::Object(object))) = self.outcome.take() {
            self.lane.release(object);
        }
    }
}

impl Lane {
    /// A lane of a token so fast that it may be used in place; how many commands may
    /// wait is the worker's capacity.
    #[must_use]
    pub fn new(token: Box<dyn Token>, worker: Worker) -> Arc<Self> {
        Self::with(token, worker, true)
    }

    /// A lane of a token that may be slow or hang, so that only the worker calls it.
    #[must_use]
    pub fn queued(token: Box<dyn Token>, worker: Worker) -> Arc<Self> {
        Self::with(token, worker, false)
    }

    fn with(token: Box<dyn Token>, worker: Worker, in_place: bool) -> Arc<Self> {
        let (token, unfinished, counts) = (Mutex::new(token), AtomicUsize::new(0), LaneCounts::default());
        Arc::new(Self { token, worker, in_place, unfinished, counts })
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another token in the place of this one, when no command is under way. Objects of
    /// the former are dead: the new one has a new epoch.
    pub fn replace(&self, token: Box<dyn Token>) {
        let former = std::mem::replace(&mut *self.lock(), token);
        // Ended outside the lock: it may take a while.
        drop(former);
    }

    /// Carries the command out in place, if the token allows that, nobody holds the
    /// lane and nothing waits for it; `None` where it must be queued.
    pub fn try_run(&self, command: &Command) -> Option<Outcome> {
        if !self.in_place || self.worker.backlog() > 0 {
            return None;
        }
        let mut token = match self.token.try_lock() {
            Ok(token) => token,
            Err(TryLockError::Poisoned(token)) => token.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.counts.in_place.one();
        Some(self.counted(token.execute(command)))
    }

    /// Queues the command at once, whether or not the future is ever polled, and it
    /// runs even if the future is dropped.
    ///
    /// # Errors
    /// [`HsmError::Busy`] at once where the queue is full.
    pub fn run(
        self: &Arc<Self>,
        command: Command,
    ) -> impl Future<Output = Result<Answer, HsmError>> + Send + 'static {
        let (send, receive) = oneshot::channel();
        let lane = Arc::clone(self);
        let queued = self.queue(command, move |outcome, waited| {
            // Comes back, and is dropped here, where nobody waits any longer.
            let _ = send.send(Parcel { lane, outcome: Some(outcome), waited });
        });
        async move {
            queued?;
            match receive.await {
                Ok(parcel) => parcel.open(),
                Err(_) => Err(HsmError::Unavailable("the lane has stopped".to_owned())),
            }
        }
    }

    /// Queues the command; `then` gets its outcome on the lane's thread, after the
    /// lane is free again. An object in it is `then`'s to release.
    ///
    /// # Errors
    /// [`HsmError::Busy`] where the queue is full; `then` is dropped uncalled.
    pub fn run_then(
        self: &Arc<Self>,
        command: Command,
        then: impl FnOnce(Result<Answer, HsmError>) + Send + 'static,
    ) -> Result<(), HsmError> {
        self.queue(command, |outcome, _| then(outcome))
    }

    /// Queues the command; `then` also hears how long it waited for the lane.
    fn queue(
        self: &Arc<Self>,
        command: Command,
        then: impl FnOnce(Outcome, Duration) + Send + 'static,
    ) -> Result<(), HsmError> {
        let unfinished = Unfinished::count(self);
        let asked = self.worker.now();
        let job = move || {
            let lane = &*unfinished.0;
            let mut token = lane.lock();
            let began = lane.worker.now();
            let outcome = lane.counted(token.execute(&command));
            let ended = lane.worker.now();
            drop(token);
            let waited = began.saturating_sub(asked);
            lane.counts.queued.one();
            lane.counts.wait.record(waited);
            lane.counts.hold.record(ended.saturating_sub(began));
            drop(unfinished);
            then(outcome, waited);
        };
        self.worker.submit(job).map_err(|_| {
            self.counts.refused.one();
            HsmError::Busy
        })
    }

    /// Queues the destruction of an object. It is never lost, never waits, and doesn't
    /// count against the queue's capacity.
    pub fn release(self: &Arc<Self>, object: ObjectId) {
        let lane = Arc::clone(self);
        self.worker.submit_always(move || {
            if let Err(error) = lane.lock().execute(&Command::Destroy { object }) {
                tracing::warn!(%error, "a session object could not be destroyed");
            }
        });
    }

    /// Waits for the lane and carries the command out. Only off the async runtime.
    pub fn run_now(&self, command: &Command) -> Result<Answer, HsmError> {
        self.lock().execute(command)
    }

    /// Counts an outcome that is the token's failure, not the caller's.
    fn counted(&self, outcome: Outcome) -> Outcome {
        if let Err(HsmError::Unavailable(_) | HsmError::Fault(_) | HsmError::ObjectGone) = &outcome {
            self.counts.failures.one();
        }
        outcome
    }

    /// What happened here so far.
    #[must_use]
    pub fn counts(&self) -> &LaneCounts {
        &self.counts
    }

    /// Queued commands that haven't ended: those that wait, and the one under way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// Commands that wait.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.worker.backlog()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{ManualWorkers, Workers};
    use futures_util::FutureExt;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    /// Hands out objects and counts those that are alive.
    struct Counting(Arc<AtomicU64>);

    const OBJECT: ObjectId = ObjectId { epoch: 1, handle: 5 };

    impl Token for Counting {
        fn execute(&mut self, command: &Command) -> Outcome {
            match command {
                Command::Derive { .. } => {
                    self.0.fetch_add(1, Ordering::SeqCst);
                    Ok(Answer::Object(OBJECT))
                }
                Command::Destroy { .. } => {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                    Ok(Answer::Done)
                }
                _ => Ok(Answer::Done),
            }
        }
    }

    fn derive() -> Command {
        Command::Derive { object: OBJECT, salt: [0; 16] }
    }

    fn manual(capacity: usize) -> (Arc<Lane>, Arc<ManualWorkers>, Arc<AtomicU64>) {
        let (workers, hand) = Workers::manual();
        let alive = Arc::new(AtomicU64::new(0));
        let lane = Lane::new(Box::new(Counting(Arc::clone(&alive))), workers.start("l", capacity).unwrap());
        (lane, hand, alive)
    }

    #[test]
    fn nothing_runs_in_place_past_what_waits_or_works() {
        let (lane, hand, _) = manual(4);
        assert!(lane.try_run(&Command::Canary).is_some());
        let waiting = lane.run(Command::Canary);
        assert!(lane.try_run(&Command::Canary).is_none());
        hand.step(0);
        assert_eq!(waiting.now_or_never(), Some(Ok(Answer::Done)));
        let held = lane.lock();
        assert!(lane.try_run(&Command::Canary).is_none());
        drop(held);
        assert!(lane.try_run(&Command::Canary).is_some());
    }

    #[test]
    fn a_slow_token_is_called_from_the_queue_only() {
        let (workers, hand) = Workers::manual();
        let lane = Lane::queued(Box::new(Counting(Arc::default())), workers.start("l", 4).unwrap());
        assert!(lane.try_run(&Command::Canary).is_none());
        let waiting = lane.run(Command::Canary);
        hand.step(0);
        assert_eq!(waiting.now_or_never(), Some(Ok(Answer::Done)));
        assert!(lane.try_run(&Command::Canary).is_none());
    }

    #[test]
    fn a_full_queue_is_busy_at_once_and_releases_still_fit() {
        let (lane, hand, alive) = manual(1);
        let first = lane.run(derive());
        assert_eq!(lane.run(Command::Canary).now_or_never(), Some(Err(HsmError::Busy)));
        assert_eq!(lane.run_then(Command::Canary, |_| unreachable!()), Err(HsmError::Busy));
        hand.step(0);
        assert_eq!(first.now_or_never(), Some(Ok(Answer::Object(OBJECT))));
        let _held = lane.run(Command::Canary);
        lane.release(OBJECT);
        while hand.step(0).is_some() {}
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn an_object_is_destroyed_whenever_its_receiver_leaves() {
        for polled in [false, true] {
            for runs_first in [false, true] {
                let (lane, hand, alive) = manual(4);
                let mut future = Box::pin(lane.run(derive()));
                if polled {
                    assert!((&mut future).now_or_never().is_none());
                }
                if runs_first {
                    hand.step(0);
                    assert_eq!(alive.load(Ordering::SeqCst), 1);
                }
                drop(future);
                while hand.step(0).is_some() {}
                assert_eq!(alive.load(Ordering::SeqCst), 0, "polled {polled}, runs first {runs_first}");
            }
        }
    }

    #[test]
    fn what_waits_and_what_is_under_way_is_unfinished() {
        let (lane, hand, _) = manual(1);
        let first = lane.run(Command::Canary);
        assert_eq!((lane.waiting(), lane.backlog()), (1, 1));
        assert_eq!(lane.run(Command::Canary).now_or_never(), Some(Err(HsmError::Busy)));
        assert_eq!(lane.waiting(), 1);
        hand.step(0);
        assert_eq!(first.now_or_never(), Some(Ok(Answer::Done)));
        assert_eq!(lane.waiting(), 0);
        let under_way = Arc::clone(&lane);
        let seen = lane.run_then(Command::Canary, move |_| assert_eq!(under_way.waiting(), 0));
        assert_eq!((seen, lane.waiting()), (Ok(()), 1));
        hand.step(0);
        assert_eq!(lane.waiting(), 0);
    }

    #[tokio::test]
    async fn a_call_hears_how_long_it_waited_and_the_lane_counts_it() {
        let lane = Lane::new(Box::new(Counting(Arc::default())), Workers::threads().start("x", 4).unwrap());
        let held = lane.lock();
        let call = metrics::waited(lane.run(Command::Canary));
        drop(held);
        let (outcome, waited) = call.await;
        assert_eq!(outcome, Ok(Answer::Done));
        assert!(waited > Duration::ZERO);
        let (outcome, waited) = metrics::waited(async { lane.try_run(&Command::Canary) }).await;
        assert_eq!((outcome, waited), (Some(Ok(Answer::Done)), Duration::ZERO));
        let counts = lane.counts();
        assert_eq!((counts.queued.get(), counts.in_place.get(), counts.failures.get()), (1, 1, 0));
        assert_eq!((counts.wait.snapshot().count(), counts.hold.snapshot().count()), (1, 1));
    }

    #[test]
    fn callbacks_run_on_the_lanes_thread_with_the_lane_free() {
        let lane = Lane::new(Box::new(Counting(Arc::default())), Workers::threads().start("x", 4).unwrap());
        let (send, receive) = mpsc::channel();
        let again = Arc::clone(&lane);
        lane.run_then(derive(), move |outcome| {
            assert_eq!(outcome, Ok(Answer::Object(OBJECT)));
            again.release(OBJECT);
            let name = std::thread::current().name().map(str::to_owned);
            send.send((name, again.run_now(&Command::Canary))).unwrap();
        })
        .unwrap();
        assert_eq!(receive.recv().unwrap(), (Some("x".to_owned()), Ok(Answer::Done)));
    }
}
