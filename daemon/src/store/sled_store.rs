//! The store on disk: one sled tree, one committer, one reader, each on a thread
//! of its own. How the files are opened and mended is in `sled_open`, what is in the tree
//! in `sled_records`, and how the store is rewritten in `sled_rewrite`.
//!
//! The committer takes every batch that waits, judges each against the state that
//! those before it make, applies them, makes them durable together (sled's `flush`, which only hands them
//! to the kernel, then our `fdatasync`), calls the watchers, and answers. After
//! an error of flush or sync nobody knows what is on the disk: the store is
//! failed for ever, says so through [`SledStore::failed`], and the daemon must end.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, oneshot, watch};

use super::export::Exported;
use super::gate::{Gate, Scope};
use super::head::Head;
use super::inbox::Inbox;
use super::open::{OpenError, StateLock, io_error};
use super::rules::{self, Commit, MAX_WAITING_BYTES, Watchers};
use super::sled_flush::Flusher;
use super::sled_open::{self, Opened};
use super::sled_records::{Group, failed, get, list};
use super::sled_rewrite::Rewrite;
use super::{Future, Hook, Listed, Op, Store, StoreError, Versioned};
use crate::edge::{Clock, Edge, Worker, Workers};
use crate::metrics::groups::StoreCounts;
use crate::space::Space;

pub(super) type Answer = oneshot::Sender<Result<u64, StoreError>>;
type SyncFn = Box<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// The store on disk.
pub struct SledStore {
    shared: Arc<Shared>,
    commits: Inbox<Commit>,
    reads: Worker,
}

/// What closing gives back.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) db: sled::Db,
    /// A handle of its own on the log, to sync it.
    pub(super) log: Arc<File>,
    pub(super) head: Arc<Head>,
    /// Keeps other daemons out for as long as anything here may write.
    pub(super) lock: Arc<StateLock>,
}

pub(super) struct Shared {
    pub(super) gate: Gate<Disk>,
    flusher: Flusher,
    pub(super) sync: SyncFn,
    pub(super) clock: Clock,
    counts: StoreCounts,
    /// Last revision given; only the committer changes it.
    pub(super) revision: AtomicU64,
    watchers: Watchers,
    failure: watch::Sender<Option<String>>,
    /// Whose word is asked before sled writes: it must not find the disk full.
    pub(super) space: OnceLock<Arc<Space>>,
    pub(super) cache_bytes: u64,
    pub(super) workers: Workers,
    /// Whoever rewrites the store has its only permit.
    pub(super) rewriting: Arc<Semaphore>,
}

impl SledStore {
    /// Opens the store in a locked state directory, or makes it where there is none. Blocks
    /// on the disk: call it on a worker. `cache_bytes` bounds sled's page cache, `queue` the
    /// commits, and the reads, that may wait.
    ///
    /// # Errors
    /// [`OpenError`], with what to do; then the store is as it was found.
    pub fn open(
        state: &Arc<StateLock>,
        cache_bytes: u64,
        queue: usize,
        edge: &Edge,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_with(state, (cache_bytes, queue), edge, true, Box::new(File::sync_data))
    }

    /// As [`SledStore::open`], of a store that has been there: one that is gone isn't made anew.
    ///
    /// # Errors
    /// [`OpenError::Missing`] too.
    pub fn reopen(
        state: &Arc<StateLock>,
        cache_bytes: u64,
        queue: usize,
        edge: &Edge,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_with(state, (cache_bytes, queue), edge, false, Box::new(File::sync_data))
    }

    /// `sync` makes the log durable; tests give one that fails.
    fn open_with(
        state: &Arc<StateLock>,
        (cache_bytes, queue): (u64, usize),
        edge: &Edge,
        may_be_new: bool,
        sync: SyncFn,
    ) -> Result<Arc<Self>, OpenError> {
        let no_thread = || io_error("start a thread for the store in", state.dir());
        let start = |name: &str| edge.workers.start(name, queue).map_err(no_thread());
        let (committer, reads) = (start("store-commit")?, start("store-read")?);
        let flusher = Flusher::start(&edge.workers).map_err(no_thread())?;
        let Opened { db, log, head, revision } =
            sled_open::open(state.dir(), cache_bytes, may_be_new, &flusher)?;
        let shared = Arc::new(Shared {
            gate: Gate::new(Disk { db, log: Arc::new(log), head: Arc::new(head), lock: Arc::clone(state) }),
            flusher,
            sync,
            clock: edge.clock.clone(),
            counts: StoreCounts::default(),
            revision: AtomicU64::new(revision),
            watchers: Watchers::default(),
            failure: watch::Sender::new(None),
            space: OnceLock::new(),
            cache_bytes,
            workers: edge.workers.clone(),
            rewriting: Arc::new(Semaphore::new(1)),
        });
        let serving = Arc::clone(&shared);
        let commits = Inbox::new(committer, queue, MAX_WAITING_BYTES, move |group| serving.serve(group));
        Ok(Arc::new(Self { shared, commits, reads }))
    }

    /// From now on nothing is written while there is no room for it.
    pub fn on_disk(&self, space: Arc<Space>) {
        let _ = self.shared.space.set(space);
    }

    /// Says, once, why no commit will ever succeed again. The daemon must end then:
    /// after a failed sync, what the kernel still shows may not be on the disk.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.shared.failure.subscribe()
    }

    /// Finishes the commits that wait, makes all durable, and gives back the
    /// database and its hold on the state directory; calls after its answer are refused. A
    /// rewrite that is under way ends, and what it made is removed.
    ///
    /// # Errors
    /// [`StoreError::Failed`] where the last sync fails, or the store had failed before.
    #[must_use = "only the answer says that all is on the disk"]
    pub fn close(&self) -> Future<'_, Result<(), StoreError>> {
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.commits.after(move || {
            let _ = answer.send(shared.close());
        });
        Box::pin(async move {
            let closed = rules::answer(answered).await;
            // The permit is never taken away for good: whoever had it, is done.
            let _ = self.shared.rewriting.acquire().await;
            closed
        })
    }

    /// What happened here so far.
    #[must_use]
    pub fn counts(&self) -> &StoreCounts {
        &self.shared.counts
    }

    /// Commits that wait for the committer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.commits.len()
    }

    /// Bytes of the log on disk: blob files, which sled counts too, there are none.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where too many reads wait, else what the database says.
    pub async fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        self.read(|shared| match shared.gate.database() {
            Some(disk) => {
                disk.log.metadata().map(|log| log.len()).map_err(|error| failed(sled::Error::Io(error)))
            }
            None => Ok(0),
        })
        .await
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Future<'_, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let queued = self.reads.submit(move || {
            let _ = answer.send(shared.contain(|| read(&shared)));
        });
        Box::pin(async move {
            queued.map_err(|_| StoreError::Busy)?;
            rules::answer(answered).await
        })
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Future<'_, Result<Option<Versioned>, StoreError>> {
        let key = key.to_vec();
        self.read(move |shared| shared.gate.read(Scope::Key(&key), |disk| get(&disk.db, &key)))
    }

    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Future<'_, Result<Listed, StoreError>> {
        let (prefix, after) = (prefix.to_vec(), after.map(<[u8]>::to_vec));
        self.read(move |shared| {
            shared.gate.read(Scope::Prefix(&prefix), |disk| list(&disk.db, &prefix, after.as_deref(), limit))
        })
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
        self.read(move |shared| shared.gate.export(|_, exports| Ok(exports.begin())))
    }

    fn export(&self, number: u64, bytes: usize) -> Future<'_, Result<Exported, StoreError>> {
        self.read(move |shared| {
            let part = shared.gate.export(|disk, exports| exports.step(number, bytes, &disk.db))?;
            Ok(Exported::from(part))
        })
    }

    fn end_export(&self, number: u64) {
        self.shared.gate.end_export(number);
    }

    fn rewrite(&self) -> Future<'_, Result<u64, StoreError>> {
        let (answer, answered) = oneshot::channel();
        Rewrite::start(&self.shared, self.commits.worker(), answer);
        Box::pin(rules::answer(answered))
    }

    fn watch(&self, hook: Hook) {
        self.shared.watchers.add(hook);
    }
}

impl Shared {
    /// Runs what may panic (sled, on damaged files; a watcher) and latches the
    /// failure where it did, or where the database failed.
    fn contain<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(StoreError::Failed("a panic inside the store".into())));
        if let Err(StoreError::Failed(reason)) = &result {
            self.fail(reason);
        }
        result
    }

    pub(super) fn fail(&self, reason: &str) {
        if !self.gate.fail(reason) {
            return;
        }
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(reason, "the store failed; no change is accepted any more");
                *failure = Some(reason.to_owned());
            }
            first
        });
    }

    fn serve(&self, group: Vec<Commit>) {
        // Answers that a panic leaves unsent fail their callers: the senders are dropped.
        let _ = self.contain(|| self.commit_group(group));
    }

    fn commit_group(&self, group: Vec<Commit>) -> Result<(), StoreError> {
        if self.space.get().is_some_and(|space| !space.look()) {
            for commit in group {
                let _ = commit.answer.send(Err(StoreError::ReadOnly));
            }
            return Ok(());
        }
        let (batches, answers): (Vec<_>, Vec<Answer>) =
            group.into_iter().map(|commit| (commit.batch, commit.answer)).unzip();
        match self.contain(|| self.write(&batches)) {
            Err(failed) => {
                for answer in answers {
                    let _ = answer.send(Err(failed.clone()));
                }
                Err(failed)
            }
            Ok(results) => {
                self.gate.settle();
                for (batch, _) in batches.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
                    self.watchers.call(&rules::changed_keys(batch));
                }
                // A caller that went away doesn't undo its commit.
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(result);
                }
                Ok(())
            }
        }
    }

    /// Judges each batch in turn, applies them, and makes them durable. Also a
    /// refusal is only told after the sync: it may rest on a batch before it.
    fn write(&self, batches: &[Vec<Op>]) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        let began = self.clock.elapsed();
        let results = self.gate.write(|disk, touch| {
            let mut group = Group::new(&disk.db, self.revision.load(Ordering::Relaxed));
            let mut results = Vec::with_capacity(batches.len());
            for batch in batches {
                match group.add(batch, touch) {
                    Err(StoreError::Failed(reason)) => return Err(StoreError::Failed(reason)),
                    result => results.push(result),
                }
            }
            self.revision.store(group.apply()?, Ordering::Relaxed);
            Ok(results)
        })?;
        let written = self.clock.elapsed();
        self.counts.write.record(written.saturating_sub(began));
        let committed = results.iter().filter(|result| result.is_ok()).count();
        if committed > 0 {
            self.make_durable()?;
            self.counts.sync.record(self.clock.elapsed().saturating_sub(written));
            self.counts.groups.one();
        }
        self.counts.commits.add(committed as u64);
        self.counts.refused.add((results.len() - committed) as u64);
        Ok(results)
    }

    fn make_durable(&self) -> Result<(), StoreError> {
        let Some(disk) = self.gate.database() else { return Ok(()) };
        self.flusher.flush(&disk.db).map_err(failed)?;
        let noted =
            (self.sync)(&disk.log).and_then(|()| disk.head.note(self.revision.load(Ordering::Relaxed)));
        noted.map_err(|error| StoreError::Failed(format!("sync: {error}")))
    }

    fn close(&self) -> Result<(), StoreError> {
        // Not borrowed any longer when a failure of this sync is told.
        let before = self.failure.borrow().clone();
        let result = match before {
            Some(reason) => Err(StoreError::Failed(reason)),
            None => self.contain(|| self.make_durable()),
        };
        let database = self.gate.close();
        // Dropping the last handle flushes once more, and may panic on damaged files.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        result
    }
}

#[cfg(test)]
#[path = "sled_tests.rs"]
pub(super) mod tests;
