//! A bounded queue in front of a worker that takes everything waiting at once:
//! what makes group commit. It knows nothing of stores.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::edge::{Full, Worker};

/// What serves a group; it must not panic (the worker's thread would die).
type Serve<T> = Arc<dyn Fn(Vec<T>) + Send + Sync>;

/// The queue. When it is dropped, what waits is still served.
pub(super) struct Inbox<T> {
    worker: Worker,
    waiting: Arc<Mutex<Waiting<T>>>,
    serve: Serve<T>,
    max_items: usize,
    max_bytes: usize,
}

struct Waiting<T> {
    items: Vec<T>,
    bytes: usize,
}

impl<T: Send + 'static> Inbox<T> {
    /// A queue for at most `max_items` items of `max_bytes` bytes together, which
    /// `worker` hands to `serve` in the order they came.
    pub(super) fn new(
        worker: Worker,
        max_items: usize,
        max_bytes: usize,
        serve: impl Fn(Vec<T>) + Send + Sync + 'static,
    ) -> Self {
        let waiting = Arc::new(Mutex::new(Waiting { items: Vec::new(), bytes: 0 }));
        Self { worker, waiting, serve: Arc::new(serve), max_items, max_bytes }
    }

    /// Queues an item that holds `bytes` bytes.
    ///
    /// # Errors
    /// [`Full`] at once where items or bytes are over the bound.
    pub(super) fn push(&self, item: T, bytes: usize) -> Result<(), Full> {
        let mut waiting = lock(&self.waiting);
        let total = waiting.bytes.saturating_add(bytes);
        if waiting.items.len() >= self.max_items || total > self.max_bytes {
            return Err(Full);
        }
        let first = waiting.items.is_empty();
        waiting.items.push(item);
        waiting.bytes = total;
        drop(waiting);
        // One job takes all that came by the time it runs, so one job is enough.
        if first {
            let (waiting, serve) = (Arc::clone(&self.waiting), Arc::clone(&self.serve));
            self.worker.submit_always(move || {
                let group = take(&waiting);
                if !group.is_empty() {
                    serve(group);
                }
            });
        }
        Ok(())
    }

    /// Runs `last` on the worker after all that waits now.
    pub(super) fn after(&self, last: impl FnOnce() + Send + 'static) {
        self.worker.submit_always(last);
    }

    /// The worker that serves: what is submitted there runs between two groups.
    pub(super) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        lock(&self.waiting).items.len()
    }

    /// Takes everything that waits, unserved.
    pub(super) fn take(&self) -> Vec<T> {
        take(&self.waiting)
    }
}

fn take<T>(waiting: &Mutex<Waiting<T>>) -> Vec<T> {
    let mut waiting = lock(waiting);
    waiting.bytes = 0;
    std::mem::take(&mut waiting.items)
}

fn lock<T>(waiting: &Mutex<Waiting<T>>) -> MutexGuard<'_, Waiting<T>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Workers;

    #[test]
    fn a_job_takes_all_that_waits_in_order_and_bounds_refuse_at_once() {
        let (workers, manual) = Workers::manual();
        let groups = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&groups);
        let worker = workers.start("t", 1).unwrap();
        let inbox = Inbox::new(worker, 3, 10, move |group: Vec<u8>| seen.lock().unwrap().push(group));
        inbox.push(1, 4).unwrap();
        inbox.push(2, 4).unwrap();
        assert_eq!(inbox.push(3, 3), Err(Full), "bytes");
        inbox.push(4, 2).unwrap();
        assert_eq!(inbox.push(5, 0), Err(Full), "items");
        while manual.step(0).is_some() {}
        inbox.push(6, 10).unwrap();
        while manual.step(0).is_some() {}
        assert_eq!(*groups.lock().unwrap(), [vec![1, 2, 4], vec![6]]);
    }
}
