//! Tasks of the async runtime, tracked so that a stop can wait for them.

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Starts tasks and waits for them.
#[derive(Clone, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Starts a task on the current runtime.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(task)
    }

    /// Waits until every task has ended.
    pub async fn finished(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
