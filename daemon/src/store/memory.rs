//! The store in memory, for simulation: the same rules as the one on disk, with
//! every commit and read a job of a worker that the simulation steps, and a crash
//! that keeps or loses what nobody was told of, as the seed decides.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::export::{Exported, Exports, Records};
use super::inbox::Inbox;
use super::rules::{self, Commit, MAX_WAITING_BYTES, Watchers};
use super::{Change, Future, Hook, Listed, Op, Store, StoreError, Versioned};
use crate::edge::{Edge, Entropy, Worker};

/// The store in memory.
pub struct MemoryStore {
    shared: Arc<Shared>,
    commits: Inbox<Commit>,
    reads: Worker,
    entropy: Entropy,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    watchers: Watchers,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Vec<u8>, Versioned>,
    revision: u64,
    exports: Exports,
    crashes: u64,
}

impl MemoryStore {
    /// An empty store; at most `queue` commits, and as many reads, may wait.
    /// Its workers are named `store-commit` and `store-read`.
    ///
    /// # Errors
    /// Where the edge gives no worker.
    pub fn new(edge: &Edge, queue: usize) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let worker = edge.workers.start("store-commit", queue)?;
        Ok(Arc::new(Self {
            shared,
            commits: Inbox::new(worker, queue, MAX_WAITING_BYTES, move |group| serving.serve(group)),
            reads: edge.workers.start("store-read", queue)?,
            entropy: edge.entropy.clone(),
        }))
    }

    /// Power loss and restart. What was answered stays; of the commits that wait,
    /// the first few (as the edge's randomness decides) stay and the rest are
    /// lost, each whole; none is answered, and nobody watches any more.
    pub fn crash(&self) {
        self.shared.watchers.clear();
        let waiting = self.commits.take();
        let random = self.entropy.array().map_or(0, usize::from_le_bytes);
        // A log's durable part is a prefix: a later batch never survives an earlier one.
        let kept = random % (waiting.len() + 1);
        let mut state = self.shared.lock();
        state.crashes += 1;
        for commit in waiting.into_iter().take(kept) {
            let _ = state.apply(commit.batch);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, group: Vec<Commit>) {
        for Commit { batch, answer } in group {
            let keys = rules::changed_keys(&batch);
            let result = self.lock().apply(batch);
            if result.is_ok() {
                self.watchers.call(&keys);
            }
            // A caller that went away doesn't undo its commit.
            let _ = answer.send(result);
        }
    }
}

impl State {
    fn apply(&mut self, batch: Vec<Op>) -> Result<u64, StoreError> {
        rules::judge(&batch, |key| Ok(self.records.get(key).map(|record| record.revision)))?;
        self.revision += 1;
        let revision = self.revision;
        for key in rules::changed_keys(&batch) {
            self.exports.note(&key);
        }
        for op in batch {
            match op.change {
                Change::Put(value) => {
                    self.records.insert(op.key, Versioned { revision, value });
                }
                Change::Delete => {
                    self.records.remove(&op.key);
                }
                Change::Check => {}
            }
        }
        Ok(revision)
    }

    fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Listed {
        list(&self.records, prefix, after, limit)
    }
}

fn list(records: &BTreeMap<Vec<u8>, Versioned>, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Listed {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let from = records.range::<[u8], _>((start, Bound::Unbounded));
    let within = from.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
    within.map(|(key, record)| (key.clone(), record.clone())).collect()
}

impl Records for BTreeMap<Vec<u8>, Versioned> {
    fn after(&self, key: Option<&[u8]>, limit: usize) -> Result<Listed, StoreError> {
        Ok(list(self, b"", key, limit))
    }

    fn at(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        Ok(self.get(key).cloned())
    }
}

impl MemoryStore {
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Future<'_, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let queued = self.reads.submit(move || {
            let _ = answer.send(Ok(read(&mut shared.lock())));
        });
        Box::pin(async move {
            queued.map_err(|_| StoreError::Busy)?;
            rules::answer(answered).await
        })
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Future<'_, Result<Option<Versioned>, StoreError>> {
        let key = key.to_vec();
        self.read(move |state| state.records.get(&key).cloned())
    }

    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Future<'_, Result<Listed, StoreError>> {
        let (prefix, after) = (prefix.to_vec(), after.map(<[u8]>::to_vec));
        self.read(move |state| state.list(&prefix, after.as_deref(), limit))
    }

    fn commit(&self, batch: Vec<Op>) -> Future<'_, Result<u64, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let queued = rules::measure(&batch).and_then(|bytes| {
            self.commits.push(Commit { batch, answer }, bytes).map_err(|_| StoreError::Busy)
        });
        Box::pin(async move {
            queued?;
            rules::answer(answered).await
        })
    }

    fn begin_export(&self) -> Future<'_, Result<u64, StoreError>> {
        self.read(|state| state.exports.begin())
    }

    fn export(&self, number: u64, bytes: usize) -> Future<'_, Result<Exported, StoreError>> {
        let step = self.read(move |state| state.exports.step(number, bytes, &state.records));
        Box::pin(async move { step.await?.map(Exported::from) })
    }

    fn end_export(&self, number: u64) {
        self.shared.lock().exports.end(number);
    }

    /// Memory keeps nothing of what was deleted: all there is to it is its place among the
    /// commits, and that a crash before it leaves it unanswered.
    fn rewrite(&self) -> Future<'_, Result<u64, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let crashes = shared.lock().crashes;
        self.commits.after(move || {
            let state = shared.lock();
            if state.crashes == crashes {
                let _ = answer.send(Ok(state.revision));
            }
        });
        Box::pin(rules::answer(answered))
    }

    fn watch(&self, hook: Hook) {
        self.shared.watchers.add(hook);
    }
}
