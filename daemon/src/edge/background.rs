//! Tasks that go on whatever becomes of whoever started them: on the async runtime,
//! tracked so that a stop can wait for them, or run by hand in a simulation.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio_util::task::TaskTracker;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts work that must come to its end, and waits for it.
#[derive(Clone)]
pub struct Background(Kind);

#[derive(Clone)]
enum Kind {
    Runtime(TaskTracker),
    Manual(Arc<ManualBackground>),
}

/// The tasks of a simulation.
#[derive(Default)]
pub struct ManualBackground(Mutex<Vec<Task>>);

impl Background {
    /// Tasks of the current tokio runtime.
    #[must_use]
    pub fn runtime() -> Self {
        Self(Kind::Runtime(TaskTracker::new()))
    }

    /// Tasks that run only when [`ManualBackground::step`] polls them.
    #[must_use]
    pub fn manual() -> (Self, Arc<ManualBackground>) {
        let manual = Arc::new(ManualBackground::default());
        (Self(Kind::Manual(Arc::clone(&manual))), manual)
    }

    /// Starts a task that nobody has to wait for.
    pub fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Kind::Runtime(tracker) => drop(tracker.spawn(task)),
            Kind::Manual(manual) => manual.lock().push(Box::pin(task)),
        }
    }

    /// Waits until every task has ended. A simulation's are its own business.
    pub async fn finished(&self) {
        if let Kind::Runtime(tracker) = &self.0 {
            tracker.close();
            tracker.wait().await;
        }
    }
}

impl ManualBackground {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have not ended.
    pub fn running(&self) -> usize {
        self.lock().len()
    }

    /// Polls the `index`-th task (modulo their number); `false` where there is none.
    pub fn step(&self, index: usize) -> bool {
        let mut tasks = self.lock();
        let Some(index) = index.checked_rem(tasks.len()) else { return false };
        // Out of the list while it runs: it may start others.
        let mut task = tasks.remove(index);
        drop(tasks);
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending {
            self.lock().push(task);
        }
        true
    }

    /// Forgets them all, as a crash does.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn manual_tasks_run_when_stepped_and_may_start_others() {
        let (tasks, manual) = Background::manual();
        let (done, mut finished) = oneshot::channel();
        let inner = tasks.clone();
        tasks.start(async move { inner.start(async move { done.send(7).unwrap() }) });
        assert!(manual.step(5));
        assert_eq!(manual.running(), 1);
        assert!(manual.step(0));
        assert_eq!(finished.try_recv(), Ok(7));
        assert!(!manual.step(0));
    }
}
