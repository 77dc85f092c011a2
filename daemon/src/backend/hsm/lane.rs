//! A lane: one token session, used by one caller at a time. In place if it is
//! free, else by its own worker, in order.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use tokio::sync::oneshot;

use super::command::{Answer, Command, HsmError, ObjectId, Token};
use crate::edge::Worker;

/// See the module.
pub struct Lane {
    token: Mutex<Box<dyn Token>>,
    worker: Worker,
}

impl Lane {
    /// A lane over `token`; calls that can't run in place wait in `worker`'s queue.
    pub fn new(token: Box<dyn Token>, worker: Worker) -> Arc<Self> {
        Arc::new(Self { token: Mutex::new(token), worker })
    }

    /// Runs a command in place, only if nobody holds the lane and nobody waits for it.
    pub fn try_run(&self, command: &Command) -> Option<Result<Answer, HsmError>> {
        if self.worker.backlog() > 0 {
            return None;
        }
        match self.token.try_lock() {
            Ok(mut token) => Some(token.execute(command)),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner().execute(command)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Queues a command. It runs even if the future is dropped; an object that
    /// nobody received is destroyed.
    ///
    /// # Errors
    /// [`HsmError::Busy`] at once where the queue is full.
    pub fn run(
        self: &Arc<Self>,
        command: Command,
    ) -> impl Future<Output = Result<Answer, HsmError>> + Send + 'static + use<> {
        let (answer, answered) = oneshot::channel();
        let lane = Arc::clone(self);
        let queued = self.worker.submit(move || {
            if let Err(Ok(Answer::Object(object))) = answer.send(lane.run_now(&command)) {
                let _ = lane.run_now(&Command::Destroy { object });
            }
        });
        async move {
            queued.map_err(|_| HsmError::Busy)?;
            answered.await.unwrap_or_else(|_| Err(HsmError::Unavailable("the lane has ended".into())))
        }
    }

    /// Runs a command, waiting for the lane: only off the runtime.
    pub fn run_now(&self, command: &Command) -> Result<Answer, HsmError> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).execute(command)
    }

    /// Queues the destruction of an object; never lost, never blocks.
    pub fn release(self: &Arc<Self>, object: ObjectId) {
        let lane = Arc::clone(self);
        self.worker.submit_always(move || {
            let _ = lane.run_now(&Command::Destroy { object });
        });
    }
}
