//! Opens the sled database of a state directory. sled is never let at the only copy: it
//! takes a byte that it can't read, or that was damaged, for the end of its log, and
//! *writes zeros over all that follows while it opens* (measured, with one failing read);
//! and a kill while it rewrites its snapshot (`snap.*`, a derived index of the log) makes
//! every later open fail. So:
//!
//! 1. copy what of `store` an opening may write to (`sled_undo`) to `store.before.partial`,
//!    sync, rename to `store.before`;
//! 2. open `store`; if that fails with damage, undo what was done to it, copy all of it, open
//!    it again without `snap.*` (sled rebuilds the index from its log) and read every record;
//! 3. if it opens with everything that was acknowledged, remove the copy: it holds wrapped
//!    key material, which must not outlive a key's erasure. If not, undo what was done to
//!    `store`: what is refused is left as it was found.
//!
//! Nothing is committed while `store.before` stands, so that it is always right to begin by
//! undoing: an opening that was killed is begun anew. A disk without room for the copy is no
//! reason not to start; then there is none, and the log says so. A new database is made as
//! `store.new` and renamed once it is whole and synced, so that `store` is never half created.
//! `store.aside` is a whole store that belongs in the place of `store`: a rewrite's
//! (`sled_rewrite`), or what openings of before copied.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::files::{make_dir, remove_snapshots, remove_tree, sync_tree};
use super::head::{self, Head};
use super::open::{OpenError, STORE_DIR, io_error, sync_dir};
use super::sled_flush::Flusher;
use super::sled_records::{REVISION_KEY, unwrap_value};
use super::sled_undo::{AtStake, undo};
use crate::space::free_bytes;

/// Bytes of a segment of the log. sled moves a page of over a quarter of this to a
/// file of its own, which it writes without a sync, and a page may hold 20 records
/// of the largest size (340 KiB): with its default of 512 KiB, power loss could take
/// what was acknowledged. Part of the format: sled refuses another size.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

/// An opened database.
pub(super) struct Opened {
    pub(super) db: sled::Db,
    /// A handle of its own on the log file, to sync it.
    pub(super) log: File,
    /// Notes beside the log how far it has come.
    pub(super) head: Head,
    /// The last revision given.
    pub(super) revision: u64,
}

/// Why one attempt at opening failed.
pub(super) enum Trouble {
    /// The files don't make sense: recovery may help.
    Damage(String),
    /// They open, and lack what was acknowledged: nothing here brings it back.
    Loss { acknowledged: u64, revision: u64 },
    /// The system refused: recovery must not be tried.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(e)
                if !matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                Self::Io(e)
            }
            other => Self::Damage(other.to_string()),
        }
    }
}

/// Opens the database in `state_dir`; makes it where there is none, if it may be new.
/// Blocks on the disk.
pub(super) fn open(
    state_dir: &Path,
    cache_bytes: u64,
    may_be_new: bool,
    flusher: &Flusher,
) -> Result<Opened, OpenError> {
    let home = Home::new(state_dir);
    home.begin(cache_bytes, may_be_new, flusher)?;
    let opened = match open_existing(&home.store, cache_bytes) {
        Err(Trouble::Damage(reason)) => home.rebuild(cache_bytes, &reason),
        other => other,
    };
    let opened = opened.map_err(|trouble| home.give_up(trouble))?;
    // sled may have written a snapshot and repaired the log while it opened.
    sync_tree(&home.store)?;
    home.discard_before()?;
    Ok(opened)
}

/// Whether there is a store in the state directory, or the copy of one that is being opened.
#[must_use]
pub fn exists(state_dir: &Path) -> bool {
    let home = Home::new(state_dir);
    home.store.exists() || home.aside.exists()
}

/// Where things lie.
pub(super) struct Home {
    pub(super) state_dir: PathBuf,
    pub(super) store: PathBuf,
    pub(super) new: PathBuf,
    pub(super) aside: PathBuf,
    pub(super) partial: PathBuf,
    before: PathBuf,
    before_partial: PathBuf,
}

impl Home {
    pub(super) fn new(state_dir: &Path) -> Self {
        let named = |suffix: &str| state_dir.join(format!("{STORE_DIR}{suffix}"));
        Self {
            state_dir: state_dir.to_owned(),
            store: named(""),
            new: named(".new"),
            aside: named(".aside"),
            partial: named(".aside.partial"),
            before: named(".before"),
            before_partial: named(".before.partial"),
        }
    }

    /// Step 1: `store` is there, and what an opening may destroy of it beside it.
    fn begin(&self, cache_bytes: u64, may_be_new: bool, flusher: &Flusher) -> Result<(), OpenError> {
        for left in [&self.new, &self.partial, &self.before_partial] {
            remove_tree(left)?;
        }
        if self.aside.exists() {
            tracing::warn!(store = %self.store.display(), "a rewrite or an opening was cut off; going back to the store before it");
            wait_for_lock(&self.store).map_err(|trouble| self.explain(trouble))?;
            // What was copied of another store than this one. First: an opening that is cut
            // off from here on must not undo that.
            self.discard_before()?;
            remove_tree(&self.store)?;
            fs::rename(&self.aside, &self.store).map_err(io_error("name", &self.store))?;
            sync_dir(&self.state_dir)?;
        }
        if !self.store.exists() {
            return if may_be_new {
                self.create(cache_bytes, flusher)
            } else {
                Err(OpenError::Missing(self.store.clone()))
            };
        }
        if self.before.exists() {
            tracing::warn!(store = %self.store.display(), "an earlier opening was cut off; undoing it and beginning anew");
            return self.undo();
        }
        self.keep(false)
    }

    /// Copies what an opening may destroy: everything, where it has no snapshots to go by.
    fn keep(&self, everything: bool) -> Result<(), OpenError> {
        let at_stake = AtStake::of(&self.store, SEGMENT_BYTES as u64, everything)?;
        // Half as much again stays free for others.
        let needed = at_stake.bytes().saturating_add(at_stake.bytes() / 2);
        let free = free_bytes(&self.state_dir).map_err(io_error("ask the disk of", &self.state_dir))?;
        // Half of the log isn't worth the name: from here on there is this copy or none.
        self.discard_before()?;
        if let Some(missing) = needed.checked_sub(free).filter(|missing| *missing > 0) {
            let store = self.store.display();
            tracing::warn!(%store, missing, "no room for a copy of the store: it is opened without one");
            return Ok(());
        }
        at_stake.copy(&self.store, &self.before_partial)?;
        fs::rename(&self.before_partial, &self.before).map_err(io_error("name", &self.before))?;
        sync_dir(&self.state_dir)
    }

    /// `store` is what it was when it was copied. The copy stays.
    fn undo(&self) -> Result<(), OpenError> {
        wait_for_lock(&self.store).map_err(|trouble| self.explain(trouble))?;
        undo(&self.before, &self.store)
    }

    fn create(&self, cache_bytes: u64, flusher: &Flusher) -> Result<(), OpenError> {
        make_dir(&self.new)?;
        let create = || -> Result<(), Trouble> {
            let db = contain(|| config(&self.new, cache_bytes).open())?;
            contain(|| {
                db.insert(REVISION_KEY, &0_u64.to_le_bytes())?;
                flusher.flush(&db)
            })?;
            contain(|| {
                drop(db);
                Ok(())
            })
        };
        create().map_err(|trouble| self.explain(trouble))?;
        sync_tree(&self.new)?;
        fs::rename(&self.new, &self.store).map_err(io_error("name", &self.store))?;
        sync_dir(&self.state_dir)
    }

    /// Step 2, after damage.
    fn rebuild(&self, cache_bytes: u64, reason: &str) -> Result<Opened, Trouble> {
        tracing::warn!(store = %self.store.display(), reason, "the store doesn't open; rebuilding its index");
        if self.before.exists() {
            self.undo().map_err(failed)?;
        }
        self.keep(true).map_err(failed)?;
        remove_snapshots(&self.store).map_err(failed)?;
        let opened = open_existing(&self.store, cache_bytes)?;
        let records = verify(&opened).map_err(Trouble::Damage)?;
        tracing::warn!(store = %self.store.display(), records, "the store is whole again");
        Ok(opened)
    }

    /// Step 3. Under another name first: half of a copy must not be taken for a whole one.
    fn discard_before(&self) -> Result<(), OpenError> {
        if !self.before.exists() {
            return Ok(());
        }
        fs::rename(&self.before, &self.before_partial).map_err(io_error("name", &self.before_partial))?;
        sync_dir(&self.state_dir)?;
        remove_tree(&self.before_partial)
    }

    /// What was opened in vain is again as it was found.
    fn give_up(&self, trouble: Trouble) -> OpenError {
        let untouched = || {
            if self.before.exists() {
                self.undo()?;
                self.discard_before()?;
            }
            Ok(())
        };
        untouched().err().unwrap_or_else(|| self.explain(trouble))
    }

    fn explain(&self, trouble: Trouble) -> OpenError {
        let damaged = |reason, advice| OpenError::Damaged { dir: self.store.clone(), reason, advice };
        match trouble {
            Trouble::Damage(reason) => damaged(
                reason,
                format!("move {} away and restore a backup (clavigerd restore)", self.store.display()),
            ),
            Trouble::Io(source) => io_error("open the store in", &self.store)(source),
            Trouble::Loss { acknowledged, revision } => damaged(
                format!("change {acknowledged} was acknowledged and only {revision} are in its log"),
                format!(
                    "move {} away and restore a backup (clavigerd restore), or remove {} to go on without what is missing",
                    self.store.display(),
                    head::path(&self.store).display()
                ),
            ),
        }
    }
}

/// An error of the files' own, on the way of an opening.
fn failed(error: OpenError) -> Trouble {
    match error {
        OpenError::Io { source, .. } => Trouble::Io(source),
        other => Trouble::Damage(other.to_string()),
    }
}

pub(super) fn config(dir: &Path, cache_bytes: u64) -> sled::Config {
    sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        // Its background flush isn't durable, only logs errors, and made recovery panic after power loss.
        .flush_every_ms(None)
        .mode(sled::Mode::HighThroughput)
}

fn open_existing(dir: &Path, cache_bytes: u64) -> Result<Opened, Trouble> {
    wait_for_lock(dir)?;
    let db = contain(|| config(dir, cache_bytes).open())?;
    let counter = contain(|| db.get(REVISION_KEY))?;
    // Written when the store was made: without it, the log is gone or cut.
    let counter = counter.ok_or_else(|| Trouble::Damage("its revision counter is missing".into()))?;
    let bytes = <[u8; 8]>::try_from(&*counter)
        .map_err(|_| Trouble::Damage("its revision counter is malformed".into()))?;
    let log = File::options().read(true).write(true).open(dir.join("db")).map_err(Trouble::Io)?;
    let revision = u64::from_le_bytes(bytes);
    let (head, acknowledged) = Head::open(dir).map_err(Trouble::Io)?;
    if acknowledged > revision {
        return Err(Trouble::Loss { acknowledged, revision });
    }
    Ok(Opened { db, log, head, revision })
}

/// sled's own threads may hold a database a moment longer than whoever dropped it
/// (to make it, or to open it in vain); sled itself would not wait for its lock.
/// Nobody else can have it: we hold the state directory's.
pub(super) fn wait_for_lock(dir: &Path) -> Result<(), Trouble> {
    match File::open(dir.join("db")) {
        Ok(log) => log.lock().map_err(Trouble::Io),
        // Damage, which opening it will tell.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Trouble::Io(error)),
    }
}

/// Runs a call of sled's; on damaged files it may panic inside.
pub(super) fn contain<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Trouble> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Ok(result?),
        Err(_) => Err(Trouble::Damage("the database panicked while it was read".into())),
    }
}

/// Reads every record; gives their number.
fn verify(opened: &Opened) -> Result<u64, String> {
    let check = || -> Result<Result<u64, String>, sled::Error> {
        let mut records = 0;
        // `?` ends the iteration at the first error: a damaged tree repeats it for ever.
        for item in opened.db.iter() {
            let (key, value) = item?;
            if &*key == REVISION_KEY {
                continue;
            }
            match unwrap_value(&value) {
                Some((revision, _)) if revision <= opened.revision => records += 1,
                _ => return Ok(Err("a record has no sound revision".into())),
            }
        }
        Ok(Ok(records))
    };
    match contain(check) {
        Ok(verdict) => verdict,
        Err(_) => Err("a record can't be read".into()),
    }
}
