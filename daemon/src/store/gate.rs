//! Keeps readers away from what is written but not yet on the disk: a reader of
//! such a key waits for the sync, and never learns a value that a power cut could
//! take back. No I/O here.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::export::Exports;

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
    exports: Exports,
    /// The copy that is to take the database's place.
    rewrite: Exports,
}

/// What a reader wants to look at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    Key(&'a [u8]),
    Prefix(&'a [u8]),
}

impl<D: Clone> Gate<D> {
    pub(super) fn new(database: D) -> Self {
        let state = State {
            database: Some(database),
            doubtful: BTreeSet::new(),
            failed: None,
            reader_waits: false,
            exports: Exports::default(),
            rewrite: Exports::default(),
        };
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
        self.settled(scope)?.database.as_ref().ok_or_else(closed).and_then(read)
    }

    /// As [`Gate::read`] of everything, for a copy of it.
    pub(super) fn export<T>(
        &self,
        read: impl FnOnce(&D, &mut Exports) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.settled(Scope::Prefix(b""))?;
        let state = &mut *state;
        read(state.database.as_ref().ok_or_else(closed)?, &mut state.exports)
    }

    /// Ends a copy; waits for nothing but the lock.
    pub(super) fn end_export(&self, number: u64) {
        self.lock().exports.end(number);
    }

    /// Reads for a copy that takes the database's place. It may be of what isn't on the
    /// disk yet: nothing comes of that copy where the sync fails. For the same reason it is
    /// refused after a failure.
    pub(super) fn rewrite<T>(
        &self,
        read: impl FnOnce(&D, &mut Exports) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.lock();
        state.refuse_after_failure()?;
        let state = &mut *state;
        read(state.database.as_ref().ok_or_else(closed)?, &mut state.rewrite)
    }

    /// Ends that copy.
    pub(super) fn end_rewrite(&self, number: u64) {
        self.lock().rewrite.end(number);
    }

    /// Puts that copy in the database's place; gives what was there.
    pub(super) fn replace(&self, database: D) -> Option<D> {
        let mut state = self.lock();
        // Closed stays closed.
        if state.database.is_some() { state.database.replace(database) } else { Some(database) }
    }

    /// Waits until nothing within the scope is in doubt.
    fn settled(&self, scope: Scope<'_>) -> Result<MutexGuard<'_, State<D>>, StoreError> {
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
        Ok(state)
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
        state.refuse_after_failure()?;
        let state = &mut *state;
        let database = state.database.as_ref().ok_or_else(closed)?;
        write(database, &mut |key| {
            state.exports.note(&key);
            state.rewrite.note(&key);
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
    fn refuse_after_failure(&self) -> Result<(), StoreError> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(StoreError::Failed(reason.clone())))
    }

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

pub(super) fn closed() -> StoreError {
    StoreError::Failed("the store is closed".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    type Log = Mutex<Vec<&'static str>>;

    #[allow(clippy::unnecessary_wraps)] // the shape that the gate wants
    fn note(log: &Log, what: &'static str) -> Result<(), StoreError> {
        log.lock().unwrap().push(what);
        Ok(())
    }

    fn write(gate: &Gate<()>, key: &[u8], log: &Log, what: &'static str) -> Result<(), StoreError> {
        gate.write(|(), touch| {
            touch(key.to_vec());
            note(log, what)
        })
    }

    /// Starts a reader of what was just written, and goes on once it waits.
    fn with_waiting_reader(gate: &Gate<()>, log: &Log, then: impl FnOnce()) -> Result<(), StoreError> {
        thread::scope(|scope| {
            let reader = scope.spawn(|| gate.read(Scope::Prefix(b"a"), |()| note(log, "read")));
            while !gate.lock().reader_waits {
                assert!(!reader.is_finished(), "it read what isn't on the disk");
                thread::yield_now();
            }
            then();
            reader.join().unwrap()
        })
    }

    #[test]
    fn a_reader_waits_for_the_sync_of_its_keys_only() {
        let (gate, log) = (Gate::new(()), Log::default());
        write(&gate, b"a/1", &log, "write").unwrap();
        gate.read(Scope::Key(b"a"), |()| note(&log, "other key")).unwrap();
        gate.read(Scope::Prefix(b"b"), |()| note(&log, "other prefix")).unwrap();
        with_waiting_reader(&gate, &log, || gate.settle()).unwrap();
        assert_eq!(*log.lock().unwrap(), ["write", "other key", "other prefix", "read"]);
    }

    /// Many rounds, since a writer that barges in wins only most of the time.
    #[test]
    fn a_waiting_reader_goes_before_the_next_write() {
        for _ in 0..200 {
            let (gate, log) = (Gate::new(()), Log::default());
            write(&gate, b"a", &log, "first").unwrap();
            with_waiting_reader(&gate, &log, || {
                gate.settle();
                write(&gate, b"a", &log, "second").unwrap();
                gate.settle();
            })
            .unwrap();
            assert_eq!(*log.lock().unwrap(), ["first", "read", "second"]);
        }
    }

    #[test]
    fn a_failure_wakes_the_reader_with_an_error() {
        let (gate, log) = (Gate::new(()), Log::default());
        write(&gate, b"a", &log, "first").unwrap();
        let refused = with_waiting_reader(&gate, &log, || assert!(gate.fail("why")));
        assert_eq!(refused, Err(StoreError::Failed("why".into())));
        assert!(!gate.fail("again"), "told once");
        gate.settle();
        assert!(gate.read(Scope::Key(b"a"), |()| Ok(())).is_err(), "in doubt for ever");
        assert!(gate.read(Scope::Key(b"b"), |()| Ok(())).is_ok());
        assert!(write(&gate, b"b", &log, "late").is_err());
    }
}
