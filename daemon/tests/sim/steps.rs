//! Steps that a test chooses itself, where the dice would meet the moment too rarely.
//! The clock stands still, and no call is polled but those that are named.

use std::sync::Arc;

use clavigerd::keyring::record::path;
use clavigerd::store::Store;

use super::Sim;

/// Far more steps than any single call takes.
const ENOUGH: usize = 10_000;

impl Sim {
    /// Runs the next job of the first queue that has one and isn't held; `false`
    /// where there is none.
    fn work(&mut self, held: &[&str]) -> bool {
        let free = self.workers.ready().iter().position(|queue| !held.contains(&queue.as_str()));
        match free {
            Some(index) => self.workers.step(index).is_some(),
            None => false,
        }
    }

    /// Polls every change that goes on by itself once.
    fn poll_changes(&mut self) {
        for _ in 0..self.changes.running() {
            // The polled one goes to the end of the list.
            self.changes.step(0);
        }
    }

    /// One moment of a call's life: a job of a queue that isn't held, then a look at
    /// the call. Says whether it is answered.
    pub fn moment(&mut self, id: u64, held: &[&str]) -> bool {
        self.work(held);
        self.poll_changes();
        if let Some(index) = self.calls.iter().position(|(call, _)| *call == id) {
            self.poll(index);
        }
        self.answers.contains_key(&id)
    }

    /// Lets this call alone go to its answer, while these queues do nothing; `false`
    /// where it needs one of them, or a call that stands still.
    pub fn answer(&mut self, id: u64, held: &[&str]) -> bool {
        let mut idle = 0;
        while idle < 3 {
            let backlog = self.workers.ready().iter().any(|queue| !held.contains(&queue.as_str()));
            if self.moment(id, held) {
                return true;
            }
            idle = if backlog { 0 } else { idle + 1 };
        }
        false
    }

    /// Lets this call alone go on until it has put a job into the queue, which is held.
    pub fn until_queued(&mut self, id: u64, queue: &str) {
        for _ in 0..ENOUGH {
            if self.waits_in(queue) {
                return;
            }
            assert!(!self.moment(id, &[queue]), "the call {id} never waits for {queue}");
        }
        panic!("the call {id} never waits for {queue}");
    }

    /// Whether a job waits in the queue.
    pub fn waits_in(&self, queue: &str) -> bool {
        self.workers.ready().iter().any(|ready| ready == queue)
    }

    /// Runs whatever there is until nothing moves: calls, changes, queues.
    pub fn come_to_rest(&mut self) {
        for _ in 0..ENOUGH {
            let worked = self.work(&[]);
            self.poll_changes();
            for index in (0..self.calls.len()).rev() {
                self.poll(index);
            }
            if !worked && self.calls.is_empty() && self.workers.ready().is_empty() {
                assert_eq!(self.changes.running(), 0, "a change waits for nothing");
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// How many intents are in the store.
    pub fn intents(&mut self) -> usize {
        let store = Arc::clone(&self.store);
        let open = self.finish(async move { store.list(path::INTENTS, None, 1_000).await });
        open.unwrap().len()
    }
}
