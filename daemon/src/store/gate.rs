//! Keeps readers away from what is written but not yet on the disk: a reader of
//! such a key waits for the sync, and never learns a value that a power cut could
//! take back. No I/O here.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::StoreError;

/// The gate, around the database handle `D` (`None` once closed).
pub(super) struct Gate<D> {
    state: Mutex<State<D>>,
    turn: Condvar,
}

struct State<D> {
    database: Option<D>,
    /// Keys written since the last good sync. After a failure they stay for ever.
    doubtful: BTreeSet<Vec<u8>>,
    failed: Option<String>,
    reader_waits: bool,
}

/// What a reader wants to look at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    Key(&'a [u8]),
    Prefix(&'a [u8]),
}

impl<D: Clone> Gate<D> {
    pub(super) fn new(database: D) -> Self {
        let state =
            State { database: Some(database), doubtful: BTreeSet::new(), failed: None, reader_waits: false };
        Self { state: Mutex::new(state), turn: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads, apart from any writing, and only what is on the disk. One thread
    /// reads: the gate keeps a place for one.
    pub(super) fn read<T>(
        &self,
        scope: Scope<'_>,
        read: impl FnOnce(&D) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.lock();
        while state.doubts(scope) {
            if let Some(reason) = &state.failed {
                return Err(StoreError::Failed(reason.clone()));
            }
            state.reader_waits = true;
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.reader_waits = false;
        self.turn.notify_all();
        state.database.as_ref().ok_or_else(closed).and_then(read)
    }

    /// Writes: `write` gets the database, and `touch` to name each key before it
    /// changes. A reader that waited for the last sync goes first, so that a
    /// steady stream of commits starves nobody.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&D, &mut dyn FnMut(Vec<u8>)) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.lock();
        while state.reader_waits && state.failed.is_none() {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(reason) = &state.failed {
            return Err(StoreError::Failed(reason.clone()));
        }
        let state = &mut *state;
        let database = state.database.as_ref().ok_or_else(closed)?;
        write(database, &mut |key| {
            state.doubtful.insert(key);
        })
    }

    /// All that was written is on the disk now.
    pub(super) fn settle(&self) {
        let mut state = self.lock();
        if state.failed.is_none() {
            state.doubtful.clear();
        }
        self.turn.notify_all();
    }

    /// Nothing is written any more; reads of what was in doubt are refused. Says
    /// whether that is news: not after a failure, nor once closed.
    pub(super) fn fail(&self, reason: &str) -> bool {
        let mut state = self.lock();
        let news = state.failed.is_none() && state.database.is_some();
        if news {
            state.failed = Some(reason.to_owned());
        }
        self.turn.notify_all();
        news
    }

    /// The database, for a sync; `None` once closed.
    pub(super) fn database(&self) -> Option<D> {
        self.lock().database.clone()
    }

    /// Takes the database away: everything after is refused.
    pub(super) fn close(&self) -> Option<D> {
        self.lock().database.take()
    }
}

impl<D> State<D> {
    fn doubts(&self, scope: Scope<'_>) -> bool {
        match scope {
            Scope::Key(key) => self.doubtful.contains(key),
            Scope::Prefix(prefix) => {
                let first = self
                    .doubtful
                    .range::<[u8], _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
                first.take(1).any(|key| key.starts_with(prefix))
            }
        }
    }
}

fn closed() -> StoreError {
    StoreError::Failed("the store is closed".into())
}
