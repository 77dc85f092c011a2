//! A domain back from its backup, onto a host that has none: offline, by `clavigerd
//! restore`, while no daemon runs on the state directory.
//!
//! Everything is made in the directory `restoring` inside the state directory:
//! the domain file, the recovery files, the root in the HSM (if it isn't there), and,
//! once the whole backup is verified, a fresh store. Only then a file `complete`
//! is written there and all of it is moved into place. While `restoring` stands, no daemon
//! serves; killed at any point, restoring the same backup again finishes the work. In the
//! end the directory is renamed in one step, and what is left of it removed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use claviger_protocol::backup::{BackupError, BackupHeader, BackupReader};
use uuid::Uuid;

use super::chunks::{Chunks, Entry, Totals};
use crate::audit::{AuditLog, Event};
use crate::backend::hsm::domain::{self, Domain, DomainError};
use crate::backend::hsm::{self, RootError, files};
use crate::config::Config;
use crate::daemon::{DaemonError, has_records};
use crate::edge::Edge;
use crate::failure::Failure;
use crate::keyring::tombstones::{Deleted, bury, left_out};
use crate::store::{
    Change, Expect, MAX_BATCH_OPS, Op, OpenError, Sealed, SledStore, StateLock, Store, StoreError,
};

const STAGING: &str = "restoring";
/// The staging directory of a restore that is over.
const DONE: &str = "restoring.done";
const COMPLETE: &str = "complete";
const STORE: &str = "store";
const DOMAIN: &str = "domain";

/// Why a backup isn't restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file isn't a backup that this daemon knows. Nothing was touched.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: BackupError,
    },
    /// A chunk is altered, cut or out of its place. No record was restored.
    #[error("{}: chunk {index} is damaged, or not of this backup: nothing was restored", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which chunk, from 0.
        index: u32,
    },
    /// The state directory is in use or can't be used.
    #[error(transparent)]
    State(#[from] OpenError),
    /// There is something here that a restore would destroy.
    #[error("{}: {reason}: a backup is only restored where nothing is lost by it", path.display())]
    Occupied {
        /// What is in the way.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The list of tombstones isn't one, or is another domain's.
    #[error("{}: {reason}", path.display())]
    Tombstones {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The HSM lacks the root and there is no key to bring it back.
    #[error(
        "the HSM doesn't hold the domain's root ({0}): give the private key of a recovery recipient with --private-key"
    )]
    NoRoot(DomainError),
    /// The backup has no recovery file, so no private key helps.
    #[error(
        "the backup has no recovery recipient: it can only be restored where the HSM still holds the root"
    )]
    NoRecipient,
    /// The root can't be brought into the HSM.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The HSM can't be opened.
    #[error("the HSM: {0}")]
    Hsm(#[from] hsm::member::OpenError),
    /// The domain can't be opened.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The new store, or the one that is there.
    #[error("{0}")]
    Store(String),
    /// A file, or its directory.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        Self::Store(format!("the new store can't be written: {error}"))
    }
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The domain.
    pub domain: Uuid,
    /// Its root generation.
    pub root_generation: u32,
    /// When the backup was begun, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Records and removals in it; none where only the last step of an interrupted
    /// restore was left.
    pub totals: Option<Totals>,
    /// Keys of the backup that were deleted since, as the list of tombstones says, and didn't
    /// come back to life.
    pub buried: BTreeSet<Uuid>,
}

/// Refuses a state directory in which a restore was interrupted, and removes what one that
/// was finished has left.
///
/// # Errors
/// [`RestoreError::Occupied`], and a directory that can't be removed.
pub fn settle(state_dir: &Path) -> Result<(), RestoreError> {
    remove_tree(&state_dir.join(DONE))?;
    let path = state_dir.join(STAGING);
    let reason = "a restore was interrupted; run `clavigerd restore` with the same backup again";
    if path.exists() { Err(RestoreError::Occupied { path, reason }) } else { Ok(()) }
}

/// Restores a backup. Blocks on disk and HSM. Without `private_key` the HSM must hold
/// the root already.
///
/// # Errors
/// [`RestoreError`]. The domain is there whole afterwards or not at all; an HSM into
/// which the root was brought keeps it.
pub async fn restore(
    config: &Config,
    file: &Path,
    private_key: Option<&Path>,
    tombstones: Option<&Path>,
    edge: &Edge,
) -> Result<Restored, RestoreError> {
    // First of all: of a newer version nothing is understood, and nothing is touched.
    let opened = open(file)?;
    let header = opened.header;
    let deleted = tombstones.map(|path| super::tombstones::read(path, header.domain_id)).transpose()?;
    let deleted = deleted.unwrap_or_default();
    let made_of = made_of(&opened.raw_header, &deleted);
    let state = StateLock::acquire(&config.state_dir)?;
    let staging = Staging { state_dir: config.state_dir.clone(), dir: config.state_dir.join(STAGING) };
    let report = |totals, buried| Restored {
        domain: header.domain_id,
        root_generation: header.root_generation,
        created_at: header.created_at,
        totals,
        buried,
    };
    if staging.dir.join(COMPLETE).exists() {
        staging.is_of(&header)?;
        staging.is_made_of(&made_of)?;
        staging.finish(&header, edge).await?;
        return Ok(report(None, BTreeSet::new()));
    }
    staging.refuse_occupied(&header, &state, config, edge).await?;
    let made = staging.make(config, &header, (file, &deleted), private_key, edge).await;
    let (totals, buried) = made.inspect_err(|_| staging.give_up())?;
    files::replace(&staging.dir, COMPLETE, &made_of).map_err(io_error(&staging.dir))?;
    staging.finish(&header, edge).await?;
    Ok(report(Some(totals), buried))
}

/// Reads a whole backup with a domain that can open it, and checks everything.
///
/// # Errors
/// [`RestoreError::File`] or [`RestoreError::Damaged`].
fn verify(file: &Path, domain: &Domain, records: &Sealed) -> Result<Totals, RestoreError> {
    let mut counted = Totals::default();
    let mut contents = Contents::open(file, domain)?;
    while let Some(entries) = contents.next(records)? {
        for entry in &entries {
            counted.count(entry);
        }
    }
    Ok(counted)
}

fn open(path: &Path) -> Result<BackupReader<BufReader<File>>, RestoreError> {
    let file = File::open(path).map_err(BackupError::Io);
    file.and_then(|file| BackupReader::new(BufReader::new(file))).map_err(bad_file(path))
}

fn bad_file(path: &Path) -> impl FnOnce(BackupError) -> RestoreError + '_ {
    |error| RestoreError::File { path: path.to_owned(), error }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RestoreError + '_ {
    |error| RestoreError::Io { path: path.to_owned(), error }
}

/// A backup's entries, chunk by chunk.
struct Contents {
    path: PathBuf,
    reader: BackupReader<BufReader<File>>,
    chunks: Chunks,
    counted: Totals,
}

impl Contents {
    fn open(path: &Path, domain: &Domain) -> Result<Self, RestoreError> {
        let reader = open(path)?;
        let chunks = Chunks::new(&domain.keys, &reader.header, &reader.raw_header)
            .map_err(|failure: Failure| RestoreError::Store(failure.to_string()))?;
        Ok(Self { path: path.to_owned(), reader, chunks, counted: Totals::default() })
    }

    /// The next chunk's entries; `None` after the last, whose totals were right.
    fn next(&mut self, records: &Sealed) -> Result<Option<Vec<Entry>>, RestoreError> {
        let Some(chunk) = self.reader.chunk().map_err(bad_file(&self.path))? else { return Ok(None) };
        let index = chunk.index;
        let damaged = || RestoreError::Damaged { path: self.path.clone(), index };
        let opened = self.chunks.open(chunk, records).map_err(|_| damaged())?;
        for entry in &opened.entries {
            self.counted.count(entry);
        }
        if opened.totals.is_some_and(|totals| totals != self.counted) {
            return Err(damaged());
        }
        Ok(Some(opened.entries))
    }
}

/// The directory in which everything is made ready.
struct Staging {
    state_dir: PathBuf,
    dir: PathBuf,
}

impl Staging {
    /// Whether what an interrupted restore left here is of the same domain.
    fn is_of(&self, header: &BackupHeader) -> Result<(), RestoreError> {
        let reason = "another domain's restore was interrupted here; finish that one with its own backup";
        for path in [self.dir.join(DOMAIN), self.state_dir.join(DOMAIN)] {
            let there = files::read(&path, header.domain_file.len() as u64).map_err(io_error(&path))?;
            if there.is_some_and(|bytes| bytes != header.domain_file) {
                return Err(RestoreError::Occupied { path: self.dir.clone(), reason });
            }
        }
        Ok(())
    }

    /// Whether what is ready here was made of the same backup and the same tombstones: others
    /// would bring other keys back.
    fn is_made_of(&self, made_of: &[u8]) -> Result<(), RestoreError> {
        let path = self.dir.join(COMPLETE);
        let there = files::read(&path, made_of.len() as u64).map_err(io_error(&path))?;
        // An earlier version wrote nothing there.
        if there.is_none_or(|there| there.is_empty() || there == made_of) {
            return Ok(());
        }
        let reason = "a restore of another backup, or with other tombstones, was interrupted here; finish it with the same ones first";
        Err(RestoreError::Occupied { path: self.dir.clone(), reason })
    }

    /// Refuses a state directory in which anything would be lost: records, another
    /// domain, another recovery file.
    async fn refuse_occupied(
        &self,
        header: &BackupHeader,
        state: &Arc<StateLock>,
        config: &Config,
        edge: &Edge,
    ) -> Result<(), RestoreError> {
        let occupied = |path: PathBuf, reason| Err(RestoreError::Occupied { path, reason });
        let same = |path: &Path, bytes: &[u8]| {
            let limit = domain::MAX_COPY_LEN.max(bytes.len() as u64);
            let there = files::read(path, limit).map_err(io_error(path))?;
            Ok::<_, RestoreError>(there.is_none_or(|there| there == bytes))
        };
        let path = self.state_dir.join(DOMAIN);
        if !same(&path, &header.domain_file)? {
            return occupied(path, "another domain is here");
        }
        for (name, bytes) in copies(header) {
            let path = self.state_dir.join(name);
            if !same(&path, bytes)? {
                return occupied(path, "another recovery file is here");
            }
        }
        let records = has_records(state, &config.limits, edge).await;
        if records.map_err(|error: DaemonError| RestoreError::Store(error.to_string()))? {
            return occupied(self.state_dir.join(STORE), "the store has records");
        }
        self.is_of(header)
    }

    /// Makes everything ready here. What an earlier attempt left is used or made anew.
    async fn make(
        &self,
        config: &Config,
        header: &BackupHeader,
        (file, deleted): (&Path, &Deleted),
        private_key: Option<&Path>,
        edge: &Edge,
    ) -> Result<(Totals, BTreeSet<Uuid>), RestoreError> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.dir).map_err(io_error(&self.dir))?;
        files::sync(&self.state_dir).map_err(io_error(&self.state_dir))?;
        let staged = Config { state_dir: self.dir.clone(), ..config.clone() };
        files::replace(&self.dir, DOMAIN, &header.domain_file).map_err(io_error(&self.dir))?;
        for (name, bytes) in copies(header) {
            files::replace(&self.dir, &name, bytes).map_err(io_error(&self.dir))?;
        }
        let named = domain::header(&self.dir)?.ok_or(DomainError::Missing)?.root;
        if (named.domain, named.generation) != (header.domain_id, header.root_generation) {
            return Err(RestoreError::Damaged { path: file.to_owned(), index: 0 });
        }
        if let Some(private_key) = private_key {
            self.bring_root(&staged, header, private_key, edge)?;
        }
        let domain = open_domain(&staged, edge)?;
        self.fill(&staged, &domain, (file, deleted), edge).await
    }

    fn bring_root(
        &self,
        staged: &Config,
        header: &BackupHeader,
        private_key: &Path,
        edge: &Edge,
    ) -> Result<(), RestoreError> {
        let (name, _) = copies(header)
            .find(|(name, _)| *name == recovery_name(header.root_generation))
            .ok_or(RestoreError::NoRecipient)?;
        let go_on = &mut |_| ControlFlow::Continue(());
        match hsm::restore(staged, &self.dir.join(name), private_key, edge, go_on) {
            Ok(()) | Err(RootError::Held) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Verifies the whole backup, then writes its records into a new store.
    async fn fill(
        &self,
        staged: &Config,
        domain: &Domain,
        (file, deleted): (&Path, &Deleted),
        edge: &Edge,
    ) -> Result<(Totals, BTreeSet<Uuid>), RestoreError> {
        remove_tree(&self.dir.join(STORE))?;
        let state = StateLock::acquire(&self.dir)?;
        let limits = &staged.limits;
        let store = SledStore::open(&state, limits.store_cache_bytes, limits.store_queue, edge)?;
        let records = Sealed::new(Arc::clone(&store) as Arc<dyn Store>, domain.keys.record_mac());
        let written = write(&store, &records, domain, (file, deleted)).await;
        let closed = store.close().await;
        let written = written?;
        closed?;
        files::sync(&self.dir.join(STORE)).map_err(io_error(&self.dir))?;
        Ok(written)
    }

    /// Moves what is ready into place; again after a kill, from where it stopped.
    async fn finish(&self, header: &BackupHeader, edge: &Edge) -> Result<(), RestoreError> {
        let staged = self.dir.join(STORE);
        if staged.exists() {
            // What is there has no records: that was looked at before.
            remove_tree(&self.state_dir.join(STORE))?;
            fs::rename(&staged, self.state_dir.join(STORE)).map_err(io_error(&staged))?;
        }
        // The domain file last: without it nothing is served.
        for name in copies(header).map(|(name, _)| name).chain([DOMAIN.to_owned()]) {
            let staged = self.dir.join(&name);
            if staged.exists() {
                fs::rename(&staged, self.state_dir.join(&name)).map_err(io_error(&staged))?;
            }
        }
        files::sync(&self.state_dir).map_err(io_error(&self.state_dir))?;
        self.leave_event(header, edge).await.map_err(io_error(&self.state_dir.join("audit.jsonl")))?;
        let done = self.state_dir.join(DONE);
        remove_tree(&done)?;
        // In one step: half of it removed would be neither finished nor unfinished.
        fs::rename(&self.dir, &done).map_err(io_error(&self.dir))?;
        files::sync(&self.state_dir).map_err(io_error(&self.state_dir))?;
        remove_tree(&done)
    }

    async fn leave_event(&self, header: &BackupHeader, edge: &Edge) -> io::Result<()> {
        let syncer = edge.workers.start("audit-sync", 1)?;
        let log = Arc::new(AuditLog::open(&self.state_dir.join("audit.jsonl"), syncer)?);
        let id = edge.entropy.uuid().map_err(io::Error::other)?;
        let mut event = Event::internal(id, edge.clock.now(), "restoreBackup");
        event.resources.push(header.domain_id);
        log.record(&[event]).map_err(|_| io::Error::other("the event can't be written"))?;
        log.sync().await.map_err(|_| io::Error::other("the event can't be synced"))
    }

    /// Removes what a failed attempt has made, but not the note of a root that is
    /// half in the HSM: the next attempt needs it to clean up there.
    fn give_up(&self) {
        if self.dir.join("root.intent").exists() {
            return;
        }
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!(%error, "what the restore has made can't be removed; the next one will");
        }
    }
}

/// Verifies the whole backup, then writes it.
async fn write(
    store: &Arc<SledStore>,
    records: &Sealed,
    domain: &Domain,
    (file, deleted): (&Path, &Deleted),
) -> Result<(Totals, BTreeSet<Uuid>), RestoreError> {
    let totals = verify(file, domain, records)?;
    let mut contents = Contents::open(file, domain)?;
    while let Some(entries) = contents.next(records)? {
        // What was deleted since never comes into the store: not even to be overwritten there.
        let kept: Vec<_> = entries.iter().filter(|entry| !left_out(deleted, entry.key())).collect();
        for batch in kept.chunks(MAX_BATCH_OPS) {
            store.commit(batch.iter().map(|entry| operation(entry)).collect()).await?;
        }
    }
    let buried = bury(records, deleted).await?;
    Ok((totals, buried))
}

/// The member and the domain key, by the root in the HSM.
fn open_domain(staged: &Config, edge: &Edge) -> Result<Domain, RestoreError> {
    let [member] = staged.hsm.as_slice() else { return Err(RootError::Members(staged.hsm.len()).into()) };
    let root = domain::header(&staged.state_dir)?.ok_or(DomainError::Missing)?.root;
    let opened = hsm::member::open(member, Some(&root), &edge.workers, &staged.limits, 1)?;
    domain::open_domain(&staged.state_dir, &opened).map_err(|error| match error {
        DomainError::NoRoot(_) => RestoreError::NoRoot(error),
        error => RestoreError::Domain(error),
    })
}

fn operation(entry: &Entry) -> Op {
    let (key, change) = match entry {
        Entry::Put(key, value) => (key, Change::Put(value.clone())),
        Entry::Delete(key) => (key, Change::Delete),
    };
    Op { key: key.clone(), expect: Expect::Any, change }
}

/// What tells a restore from another: SHA-256 of the backup's header and of the tombstones.
fn made_of(raw_header: &[u8], deleted: &Deleted) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(raw_header);
    for (key_id, at) in deleted {
        hash.update(key_id.as_bytes());
        hash.update(&at.to_le_bytes());
    }
    hash.finish().as_ref().to_vec()
}

/// The recovery files of a backup: name in the state directory, content.
fn copies(header: &BackupHeader) -> impl Iterator<Item = (String, &[u8])> {
    header.recovery.iter().map(|copy| (recovery_name(copy.generation), copy.bytes.as_slice()))
}

fn recovery_name(generation: u32) -> String {
    format!("root-{generation}.recovery")
}

fn remove_tree(dir: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(dir)(error)),
        _ => Ok(()),
    }
}
