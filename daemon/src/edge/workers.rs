//! Threads with bounded queues, for work that must not run on the async runtime
//! (PKCS#11 calls, disk). In simulation the queues are run by hand, in an order
//! the seed decides.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

/// Makes workers: real threads, or queues for a simulation to run.
#[derive(Clone)]
pub struct Workers(Kind);

#[derive(Clone)]
enum Kind {
    Threads(Arc<Threads>),
    Manual(Arc<ManualWorkers>),
}

/// How many threads run, and the signal that one has ended.
#[derive(Default)]
struct Threads {
    running: Mutex<usize>,
    ended: Condvar,
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let running = Running::count(self);
        // Linux shows 15 bytes of a thread's name.
        let thread = std::thread::Builder::new().name(name.chars().take(15).collect());
        thread.spawn(move || {
            run();
            drop(running);
        })?;
        Ok(())
    }
}

/// One of the threads that run, counted until dropped.
struct Running(Arc<Threads>);

impl Running {
    fn count(threads: &Arc<Threads>) -> Self {
        *threads.lock() += 1;
        Self(Arc::clone(threads))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.ended.notify_all();
    }
}

/// The queue is full; the job was dropped unrun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct Full;

/// A named queue whose jobs run one at a time, in order. Clones share the queue;
/// when the last is dropped, the thread finishes what is queued and ends.
#[derive(Clone)]
pub struct Worker(Arc<Handle>);

struct Handle {
    queue: Arc<Queue>,
}

struct Queue {
    name: String,
    capacity: usize,
    /// None in a simulation, where jobs take no time.
    started: Option<Instant>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            let job = loop {
                match state.jobs.pop_front() {
                    Some(job) => break job,
                    None if state.closed => return,
                    None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(state);
            // Whoever waits for this job finds its answer dropped; those behind it
            // must not wait for ever.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(queue = %self.name, "a job panicked; its queue goes on");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_all();
    }
}

impl Workers {
    /// One operating system thread for each worker.
    #[must_use]
    pub fn threads() -> Self {
        Self(Kind::Threads(Arc::default()))
    }

    /// No threads: [`ManualWorkers::step`] runs one job of the queue it is told.
    #[must_use]
    pub fn manual() -> (Self, Arc<ManualWorkers>) {
        let manual = Arc::new(ManualWorkers::default());
        (Self(Kind::Manual(Arc::clone(&manual))), manual)
    }

    /// How many threads can run at once: the machine's cores, one in a simulation.
    #[must_use]
    pub fn cores(&self) -> usize {
        match &self.0 {
            Kind::Threads(_) => std::thread::available_parallelism().map_or(1, usize::from),
            Kind::Manual(_) => 1,
        }
    }

    /// Starts a worker with room for `capacity` waiting jobs.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn start(&self, name: &str, capacity: usize) -> std::io::Result<Worker> {
        let queue = Arc::new(Queue {
            name: name.to_owned(),
            capacity,
            started: matches!(self.0, Kind::Threads(_)).then(Instant::now),
            state: Mutex::default(),
            wake: Condvar::new(),
        });
        match &self.0 {
            Kind::Threads(threads) => {
                let jobs = Arc::clone(&queue);
                threads.start(name, move || jobs.run())?;
            }
            Kind::Manual(manual) => manual.lock().push(Arc::downgrade(&queue)),
        }
        Ok(Worker(Arc::new(Handle { queue })))
    }

    /// Starts a thread that waits by itself and serves no queue. A simulation, where nothing
    /// is waited for, has none.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn aside(&self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        match &self.0 {
            Kind::Threads(threads) => threads.start(name, run),
            Kind::Manual(_) => Ok(()),
        }
    }

    /// Waits until every thread has ended; `false` where that takes too long. To be
    /// called before the process ends, when all workers have been dropped: a thread
    /// inside a vendor's library must not meet that library's exit handlers.
    pub fn finished(&self, within: Duration) -> bool {
        match &self.0 {
            Kind::Threads(threads) => {
                let left = threads.ended.wait_timeout_while(threads.lock(), within, |running| *running > 0);
                !left.unwrap_or_else(PoisonError::into_inner).1.timed_out()
            }
            Kind::Manual(_) => true,
        }
    }
}

impl Worker {
    /// Queues a job.
    ///
    /// # Errors
    /// [`Full`] at once where the queue has no room.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        let mut state = self.0.queue.lock();
        if state.jobs.len() >= self.0.queue.capacity {
            return Err(Full);
        }
        state.jobs.push_back(Box::new(job));
        drop(state);
        self.0.queue.wake.notify_one();
        Ok(())
    }

    /// Queues a job that must not be lost (returning a handle, releasing an
    /// object): the capacity doesn't count.
    pub fn submit_always(&self, job: impl FnOnce() + Send + 'static) {
        self.0.queue.lock().jobs.push_back(Box::new(job));
        self.0.queue.wake.notify_one();
    }

    /// Time on a clock of the queue's own, to measure jobs with; it stands still in a
    /// simulation.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.queue.started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// Jobs that wait.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.0.queue.lock().jobs.len()
    }
}

/// The queues of a simulation.
#[derive(Default)]
pub struct ManualWorkers {
    queues: Mutex<Vec<Weak<Queue>>>,
}

impl ManualWorkers {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the queues that have work, in the order they were started.
    #[must_use]
    pub fn ready(&self) -> Vec<String> {
        let live = self.lock().iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        live.iter().filter(|q| !q.lock().jobs.is_empty()).map(|q| q.name.clone()).collect()
    }

    /// Runs the next job of the `index`-th queue that has work (modulo their
    /// number); says which queue it was, or `None` where all are empty.
    pub fn step(&self, index: usize) -> Option<String> {
        let live = self.lock().iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        let ready: Vec<_> = live.into_iter().filter(|q| !q.lock().jobs.is_empty()).collect();
        let queue = ready.get(index.checked_rem(ready.len())?)?;
        let job = queue.lock().jobs.pop_front()?;
        job();
        Some(queue.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_runs_jobs_in_order_and_drains_on_drop() {
        let worker = Workers::threads().start("t", 100).unwrap();
        let (send, receive) = mpsc::channel();
        for i in 0..50 {
            let send = send.clone();
            worker.submit(move || send.send(i).unwrap()).unwrap();
        }
        drop((worker, send));
        assert_eq!(receive.iter().collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_panicking_job_costs_only_itself() {
        let worker = Workers::threads().start("t", 4).unwrap();
        let (send, receive) = mpsc::channel();
        let (lost, after) = (send.clone(), send);
        worker
            .submit(move || {
                let _lost = lost;
                panic!("a job that panics, as it should");
            })
            .unwrap();
        worker.submit(move || after.send(1).unwrap()).unwrap();
        assert_eq!(receive.iter().collect::<Vec<_>>(), [1]);
        worker.submit(|| ()).unwrap();
    }

    #[test]
    fn threads_are_waited_for_and_a_stuck_one_only_so_long() {
        let workers = Workers::threads();
        let worker = workers.start("t", 1).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        worker
            .submit(move || {
                let _ = wait.recv();
            })
            .unwrap();
        drop(worker);
        assert!(!workers.finished(Duration::from_millis(10)));
        drop(go);
        assert!(workers.finished(Duration::from_mins(1)));
        assert!(workers.finished(Duration::ZERO));
    }

    #[test]
    fn a_manual_queue_runs_only_when_stepped_and_refuses_when_full() {
        let (workers, manual) = Workers::manual();
        let worker = workers.start("m", 1).unwrap();
        worker.submit(|| ()).unwrap();
        assert_eq!(worker.submit(|| ()), Err(Full));
        assert_eq!(manual.ready(), ["m"]);
        assert_eq!(manual.step(7).as_deref(), Some("m"));
        assert_eq!(manual.step(0), None);
    }
}
