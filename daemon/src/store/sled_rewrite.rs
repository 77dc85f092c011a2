//! The store rewritten while it is in use, for erasure. sled's log keeps what was deleted
//! until it happens to need the room; so the live records are copied into a new database,
//! which takes the old one's place, and the old one's files are removed:
//!
//! 1. on a thread of its own: all records in the order of their keys into `store.new`, and
//!    those that change meanwhile again (`export`), with the revisions they have; it is closed
//!    and opened once: what doesn't open is no store, and sled makes its snapshot then, without
//!    which the next start would read and copy all of it (`sled_undo`);
//! 2. on the committer, so that nothing changes: what is left of that, the revision counter,
//!    the head, and everything synced;
//! 3. still there: `store` is renamed `store.aside`, `store.new` becomes `store`, and
//!    `store.aside` `store.aside.partial`, each synced; the gate has the new database;
//! 4. on the thread again: the old database is closed, and its files are removed.
//!
//! A crash before the last rename is an opening that was cut off, as `sled_open` knows it:
//! `store.new` is rubbish, and `store.aside`, beside which nothing is committed, is right.
//! After it the new store is whole and alone. Until the first rename a failure costs the copy
//! and no more; from then on it is fatal, as that of a commit.
//!
//! sled knows a database's directory by the name it was opened under, `store.new` here. It
//! uses that to open, and for blob files, of which there are none (`sled_open`).

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::StoreError;
use super::export::{Exports, Part, Records, STEP};
use super::files::{make_dir, remove_tree, sync_tree};
use super::head::Head;
use super::open::{OpenError, StateLock, io_error, sync_dir};
use super::sled_flush::Flusher;
use super::sled_open::{Home, Trouble, config, contain, wait_for_lock};
use super::sled_records::{REVISION_KEY, tree_key, wrap_value};
use super::sled_store::{Answer, Disk, Shared};
use crate::edge::Worker;

/// Bytes read at a time: commits wait no longer than for that.
const PART_BYTES: usize = 64 * 1024;
/// Bytes given to sled between two syncs: what may wait in its buffers.
const UNSYNCED_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that must be free for the next of them: sled writes twice as much, and more at times.
const STEP_ROOM: u64 = 16 * 1024 * 1024;
/// Bytes of a record beside its key and value: its tag and its revision.
const RECORD_BYTES: usize = 9;

/// A rewrite that is under way. It travels with its jobs.
pub(super) struct Rewrite {
    shared: Arc<Shared>,
    committer: Worker,
    worker: Worker,
    home: Home,
    answer: Answer,
    /// The number of the reading.
    number: u64,
    /// The revision at its beginning.
    revision: u64,
    began: Duration,
    /// Other daemons, and another rewrite, stay out.
    lock: Arc<StateLock>,
    alone: OwnedSemaphorePermit,
}

/// The new database.
struct Copy {
    db: sled::Db,
    log: Arc<File>,
    head: Arc<Head>,
    flusher: Flusher,
    records: u64,
    unsynced: usize,
}

impl Rewrite {
    /// Sets it going.
    pub(super) fn start(shared: &Arc<Shared>, committer: &Worker, answer: Answer) {
        let begun = || {
            let alone = Arc::clone(&shared.rewriting).try_acquire_owned().map_err(|_| StoreError::Busy)?;
            let disk = shared.gate.database().ok_or_else(super::gate::closed)?;
            let worker = shared.workers.start("store-rewrite", 1);
            let worker = worker.map_err(|error| StoreError::Rewrite(format!("no thread: {error}")))?;
            Ok((alone, disk.lock, worker))
        };
        let (alone, lock, worker) = match begun() {
            Ok(begun) => begun,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let rewrite = Self {
            shared: Arc::clone(shared),
            committer: committer.clone(),
            worker: worker.clone(),
            home: Home::new(lock.dir()),
            answer,
            number: 0,
            revision: 0,
            began: shared.clock.elapsed(),
            lock,
            alone,
        };
        worker.submit_always(move || rewrite.copy());
    }

    /// Step 1.
    fn copy(mut self) {
        let begun = self.make_copy().and_then(|copy| {
            (self.number, self.revision) =
                self.read(|_, reading| Ok((reading.begin(), self.shared.revision.load(Ordering::Relaxed))))?;
            Ok(copy)
        });
        let filled = begun
            .and_then(|copy| self.filled(copy))
            .and_then(|copy| copy.reopened(&self.home.new, self.shared.cache_bytes))
            .and_then(|copy| self.filled(copy));
        match filled {
            Ok(copy) => self.committer.clone().submit_always(move || self.finish(copy)),
            Err(error) => self.give_up(None, error),
        }
    }

    fn make_copy(&self) -> Result<Copy, StoreError> {
        self.room_for_copy()?;
        let home = &self.home;
        // What an earlier one couldn't remove.
        remove_tree(&home.new).and_then(|()| remove_tree(&home.partial)).map_err(open_failed)?;
        make_dir(&home.new).map_err(open_failed)?;
        let db = contain(|| config(&home.new, self.shared.cache_bytes).open()).map_err(failed)?;
        let rest = || {
            let log = File::options().read(true).write(true).open(home.new.join("db"))?;
            Ok((log, Head::open(&home.new)?.0, Flusher::start(&self.shared.workers)?))
        };
        match rest() {
            Ok((log, head, flusher)) => {
                let (log, head) = (Arc::new(log), Arc::new(head));
                Ok(Copy { db, log, head, flusher, records: 0, unsynced: 0 })
            }
            Err(error) => {
                close(db);
                Err(failed(Trouble::Io(error)))
            }
        }
    }

    /// Whether the disk has room for a copy: of the size that the store has, or of what its
    /// records take (measured: sled's files are twice that, in whatever order they come).
    fn room_for_copy(&self) -> Result<(), StoreError> {
        let size =
            self.read(|disk, _| disk.log.metadata().map(|log| log.len()).map_err(|e| failed(e.into())))?;
        if self.room_for(size).is_ok() {
            return Ok(());
        }
        let (mut live, mut last): (u64, Option<Vec<u8>>) = (0, None);
        loop {
            let found = self.read(|disk, _| disk.db.after(last.as_deref(), STEP))?;
            let bytes = found.iter().map(|(key, record)| key.len() + record.value.len() + RECORD_BYTES);
            live = bytes.fold(live, |sum, bytes| sum.saturating_add(bytes as u64));
            last = found.into_iter().next_back().map(|(key, _)| key);
            if last.is_none() {
                return self.room_for(live.saturating_mul(5) / 2);
            }
        }
    }

    fn room_for(&self, bytes: u64) -> Result<(), StoreError> {
        match self.shared.space.get() {
            Some(space) if !space.has_room(bytes) => Err(StoreError::ReadOnly),
            _ => Ok(()),
        }
    }

    /// Reads the old database; an error of it costs the copy only.
    fn read<T>(
        &self,
        read: impl FnOnce(&Disk, &mut Exports) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let read = |disk: &Disk, reading: &mut Exports| {
            read(disk, reading).map_err(|error| match error {
                StoreError::Failed(reason) => StoreError::Rewrite(reason),
                other => other,
            })
        };
        contain(|| Ok(self.shared.gate.rewrite(read))).map_err(failed)?
    }

    /// Copies until little is left.
    fn filled(&self, mut copy: Copy) -> Result<Copy, StoreError> {
        match self.fill(&mut copy) {
            Ok(()) => Ok(copy),
            Err(error) => {
                close(copy);
                Err(error)
            }
        }
    }

    fn fill(&self, copy: &mut Copy) -> Result<(), StoreError> {
        while let Some(part) =
            self.read(|disk, reading| reading.approach(self.number, PART_BYTES, &disk.db))?
        {
            copy.take(part)?;
            if copy.unsynced > UNSYNCED_BYTES {
                self.room_for(STEP_ROOM)?;
                copy.sync(&self.shared)?;
            }
        }
        // Most of the waiting for the disk is done before commits have to wait for it too.
        copy.sync(&self.shared)?;
        sync_tree(&self.home.new).map_err(open_failed)
    }

    /// Steps 2 and 3.
    fn finish(self, mut copy: Copy) {
        let (worker, held) = (self.worker.clone(), self.shared.clock.elapsed());
        if let Err(error) = self.catch_up(&mut copy) {
            return worker.submit_always(move || self.give_up(Some(copy), error));
        }
        if let Err(error) = fs::rename(&self.home.store, &self.home.aside) {
            let error = StoreError::Rewrite(format!("{}: {error}", self.home.aside.display()));
            return worker.submit_always(move || self.give_up(Some(copy), error));
        }
        if let Err(error) = self.swap() {
            let reason = format!("rewrite: {error}");
            self.shared.fail(&reason);
            return worker.submit_always(move || self.fail(copy, reason));
        }
        let Copy { db, log, head, records, .. } = copy;
        let old = self.shared.gate.replace(Disk { db, log, head, lock: Arc::clone(&self.lock) });
        let held = self.shared.clock.elapsed().saturating_sub(held);
        worker.submit_always(move || self.discard(old, records, held));
    }

    /// Step 2.
    fn catch_up(&self, copy: &mut Copy) -> Result<(), StoreError> {
        let shared = &self.shared;
        loop {
            let part = self.read(|disk, reading| reading.step(self.number, PART_BYTES, &disk.db))?;
            let done = part.done;
            copy.take(part)?;
            if done {
                break;
            }
        }
        let revision = shared.revision.load(Ordering::Relaxed);
        contain(|| copy.db.insert(REVISION_KEY, &revision.to_le_bytes())).map_err(failed)?;
        copy.sync(shared)?;
        copy.head.note(revision).map_err(|error| failed(Trouble::Io(error)))?;
        sync_tree(&self.home.new).map_err(open_failed)
    }

    /// Step 3 from its first rename on.
    fn swap(&self) -> Result<(), OpenError> {
        let home = &self.home;
        sync_dir(&home.state_dir)?;
        fs::rename(&home.new, &home.store).map_err(io_error("name", &home.store))?;
        sync_dir(&home.state_dir)?;
        fs::rename(&home.aside, &home.partial).map_err(io_error("name", &home.partial))?;
        sync_dir(&home.state_dir)
    }

    /// Step 4.
    fn discard(self, old: Option<Disk>, records: u64, held: Duration) {
        close(old);
        let removed = wait_for_lock(&self.home.partial).map_err(failed).and_then(|()| {
            remove_tree(&self.home.partial).and_then(|()| sync_dir(&self.home.state_dir)).map_err(open_failed)
        });
        match removed {
            Ok(()) => {
                let took = self.shared.clock.elapsed().saturating_sub(self.began);
                tracing::info!(
                    records,
                    ?took,
                    ?held,
                    "the store was rewritten: nothing that was deleted is in its files"
                );
                let revision = self.revision;
                self.end(Ok(revision));
            }
            Err(error) => {
                tracing::warn!(%error, "the store was rewritten, and what it was can't be removed");
                self.end(Err(error));
            }
        }
    }

    /// The store goes on as it was.
    fn give_up(self, copy: Option<Copy>, error: StoreError) {
        tracing::warn!(%error, "the store wasn't rewritten");
        self.shared.gate.end_rewrite(self.number);
        close(copy);
        // What can't be removed now, the next one or the next opening removes.
        if let Err(error) = remove_tree(&self.home.new) {
            tracing::warn!(%error, "the unfinished copy of the store is left");
        }
        self.end(Err(error));
    }

    /// Answers; whoever hears of it may begin another.
    fn end(self, result: Result<u64, StoreError>) {
        drop((self.lock, self.alone));
        let _ = self.answer.send(result);
    }

    /// What became of the files, the next opening decides.
    fn fail(self, copy: Copy, reason: String) {
        close(copy);
        self.end(Err(StoreError::Failed(reason)));
    }
}

impl Copy {
    /// Puts a part in.
    fn take(&mut self, part: Part) -> Result<(), StoreError> {
        for (key, record) in part.entries {
            let at = tree_key(&key);
            let Some(record) = record else {
                self.unsynced += at.len();
                contain(|| self.db.remove(&at)).map_err(failed)?;
                continue;
            };
            let value = wrap_value(record.revision, &record.value);
            self.unsynced += at.len() + value.len();
            self.records += 1;
            contain(|| self.db.insert(at, value)).map_err(failed)?;
        }
        Ok(())
    }

    /// Closed and opened again.
    fn reopened(self, dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let Self { db, log, head, flusher, records, unsynced } = self;
        close(db);
        wait_for_lock(dir).map_err(failed)?;
        let db = contain(|| config(dir, cache_bytes).open()).map_err(failed)?;
        Ok(Self { db, log, head, flusher, records, unsynced })
    }

    /// Puts on the disk what it has taken.
    fn sync(&mut self, shared: &Shared) -> Result<(), StoreError> {
        contain(|| self.flusher.flush(&self.db)).map_err(failed)?;
        self.unsynced = 0;
        (shared.sync)(&self.log).map_err(|error| failed(Trouble::Io(error)))
    }
}

/// Drops what holds a database, which flushes once more, and may panic where that fails.
fn close<T>(held: T) {
    let _ = contain(|| {
        drop(held);
        Ok(())
    });
}

fn failed(trouble: Trouble) -> StoreError {
    StoreError::Rewrite(match trouble {
        Trouble::Damage(reason) => reason,
        Trouble::Io(error) => error.to_string(),
        Trouble::Loss { .. } => "its copy lacks records".to_owned(),
    })
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn open_failed(error: OpenError) -> StoreError {
    StoreError::Rewrite(error.to_string())
}

#[cfg(test)]
#[path = "sled_rewrite_tests.rs"]
mod tests;
