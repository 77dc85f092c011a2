//! The store as the rest of the daemon sees it: an ordered map with versions,
//! atomic batches and a watch, such as a distributed store could give too.
//! No type of the database underneath crosses this interface.
//!
//! Two forms: [`SledStore`] on disk, [`MemoryStore`] for simulation; one suite of
//! tests holds both to the same rules. [`Sealed`] authenticates the values of
//! either. [`StateLock`] is the claim on the state directory that opening needs.

use std::pin::Pin;

mod export;
mod files;
mod gate;
mod head;
mod inbox;
mod memory;
mod open;
mod rules;
mod sealed;
mod sled_flush;
mod sled_open;
mod sled_records;
mod sled_rewrite;
mod sled_store;
mod sled_undo;

pub use export::Exported;
pub use memory::MemoryStore;
pub use open::{OpenError, StateLock};
pub use sealed::{Record, Schema, Sealed};
pub use sled_open::exists;
pub use sled_store::SledStore;

/// A future on the heap, for an interface with more than one form.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Operations of one batch at most.
pub const MAX_BATCH_OPS: usize = 100;
/// Bytes of one key at most.
pub const MAX_KEY_LEN: usize = 512;
/// Bytes of one value at most: larger ones would become files that sled writes without a sync.
pub const MAX_VALUE_LEN: usize = 16 * 1024;

/// A value and the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Number of the commit that last wrote this key; never 0.
    pub revision: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// Keys in byte order with what is at each.
pub type Listed = Vec<(Vec<u8>, Versioned)>;

/// Hears of every commit: the keys that it wrote or removed. It runs on the
/// committer, so it must be quick, and must not wait for the store.
pub type Hook = Box<dyn Fn(&[Vec<u8>]) + Send + Sync>;

/// What a key must be like for a batch to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Not there.
    Absent,
    /// There, last written by this revision.
    Revision(u64),
}

/// What a batch does to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes it.
    Put(Vec<u8>),
    /// Removes it.
    Delete,
    /// Nothing: only the expectation counts.
    Check,
}

/// One operation of a batch. Where a batch names a key more than once, every
/// expectation is held against the state before the batch, and the last change counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Which key.
    pub key: Vec<u8>,
    /// What it must be like.
    pub expect: Expect,
    /// What becomes of it.
    pub change: Change,
}

/// Why the store didn't do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A batch's expectation of this key wasn't met; nothing was written.
    #[error("another change came first")]
    Conflict {
        /// The key.
        key: Vec<u8>,
    },
    /// The committer's or reader's queue is full.
    #[error("the store's queue is full")]
    Busy,
    /// The disk is full. Nothing was written, and nothing is lost.
    #[error("the disk is full: nothing can be changed")]
    ReadOnly,
    /// The batch or a value in it is larger than allowed.
    #[error("the change is too large for the store")]
    TooLarge,
    /// The database failed; says how. No later commit succeeds.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The copy was ended: another took its place, or too much changed while it was read.
    #[error("the copy of the store was ended: another began, or too much changed meanwhile")]
    ExportLost,
    /// The store couldn't be rewritten, or what it was couldn't be removed; says why. It goes
    /// on, and nothing is lost.
    #[error("the store couldn't be rewritten: {0}")]
    Rewrite(String),
    /// A record doesn't authenticate, or can't be read.
    #[error("the record at {0} is damaged or foreign")]
    Damaged(String),
}

/// The store. A commit that returned `Ok` is on the disk.
pub trait Store: Send + Sync {
    /// Reads one key.
    fn get(&self, key: &[u8]) -> Future<'_, Result<Option<Versioned>, StoreError>>;

    /// Reads at most `limit` keys that start with `prefix`, in byte order, after
    /// the key `after` if given.
    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Future<'_, Result<Listed, StoreError>>;

    /// Writes a batch whole or not at all; the answer is its revision. The batch is
    /// on its way when this returns: dropping the future forgets the answer, not the commit.
    fn commit(&self, batch: Vec<Op>) -> Future<'_, Result<u64, StoreError>>;

    /// Begins a copy of the whole store, in the place of any that is being made; its number.
    fn begin_export(&self) -> Future<'_, Result<u64, StoreError>>;

    /// The next part of a copy, of about `bytes` bytes (one record more at most). All
    /// parts together are the store at the moment of the last.
    ///
    /// # Errors
    /// [`StoreError::ExportLost`] where the copy was ended.
    fn export(&self, number: u64, bytes: usize) -> Future<'_, Result<Exported, StoreError>>;

    /// Ends a copy that nobody wants any more.
    fn end_export(&self, number: u64);

    /// Rewrites the store, for erasure: the answer is a revision not older than this call, and
    /// nothing that was deleted up to it is in the store's files any more. Reads and commits
    /// go on meanwhile. It is on its way when this returns, like a commit.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another is under way, [`StoreError::ReadOnly`] where the
    /// disk hasn't room for a copy, [`StoreError::Rewrite`] where something else went wrong:
    /// the store goes on, and may still hold what was deleted.
    fn rewrite(&self) -> Future<'_, Result<u64, StoreError>>;

    /// Calls `hook` with the keys of every commit, after it is on the disk and
    /// before its caller hears of it: caches invalidate here.
    fn watch(&self, hook: Hook);
}
