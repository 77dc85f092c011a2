//! The backup that a running daemon hands out, chunk by chunk: one at a time, its
//! state in memory only. One that nobody reads any more gives way to the next.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use claviger_protocol::Code;
use claviger_protocol::backup::{BackupError, BackupHeader, MAX_CHUNK_LEN, SealedChunk};
use claviger_protocol::body::{BeginBackupReply, ReadBackupReply, VerifyBackupReply, VerifyBackupRequest};
use claviger_protocol::secret::Bytes;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::chunks::{Chunks, END_LEN, Entry, MAX_ENTRY_LEN, Totals};
use crate::edge::{Edge, Timestamp};
use crate::failure::Failure;
use crate::keyring::Keyring;
use crate::store::Store;

/// How long a backup that nobody reads is in the way of another.
const ABANDONED_AFTER: Duration = Duration::from_secs(30);
/// Bytes asked of the store for a chunk: one record more, and the end, still fit.
const STEP: usize = MAX_CHUNK_LEN - MAX_ENTRY_LEN - END_LEN;

/// The backup that is being read, if there is one. Whoever begins, reads or ends one holds
/// it all the while, so that two calls never meet in the middle.
#[derive(Default)]
pub struct Backups {
    current: Mutex<Option<Session>>,
    /// Those that were read to their end, until the client says what became of the file.
    read: std::sync::Mutex<VecDeque<Made>>,
}

/// A backup that was read to its end.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Its id.
    pub backup_id: Uuid,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When its last record was read: it is the store as it was then.
    pub read_at: Timestamp,
}

/// Backups that may be read to their end and not be ended yet.
const MAX_READ: usize = 64;

struct Session {
    id: Uuid,
    created_at: Timestamp,
    /// The connection that began it; with it, it is over.
    connection: u64,
    export: Export,
    chunks: Chunks,
    next: u32,
    totals: Totals,
    /// Whether its last chunk was read.
    complete: bool,
    touched: Duration,
}

/// A copy of the store that is being made; it ends with its session, however that goes.
struct Export {
    store: Arc<dyn Store>,
    number: u64,
}

impl Drop for Export {
    fn drop(&mut self) {
        self.store.end_export(self.number);
    }
}

impl Backups {
    /// Begins a backup of the keyring's store.
    ///
    /// # Errors
    /// `Busy` while another is being read; what the store says.
    pub async fn begin(
        &self,
        keyring: &Keyring,
        edge: &Edge,
        connection: u64,
    ) -> Result<BeginBackupReply, Failure> {
        let mut current = self.current.lock().await;
        current.take_if(|session| session.is_over(edge.clock.elapsed()));
        if current.is_some() {
            let text = "another backup is being read; try again when it is done";
            return Err(Failure::new(Code::Busy, text));
        }
        let domain = keyring.domain();
        let header = BackupHeader {
            domain_id: domain.id,
            root_generation: domain.root_generation,
            created_at: edge.clock.now(),
            salt: edge.entropy.array()?,
            domain_file: domain.files.domain.clone(),
            recovery: domain.files.recovery.clone(),
        };
        let raw_header = header.encode().map_err(unfit)?;
        let store = Arc::clone(keyring.records().store());
        let export = Export { number: store.begin_export().await?, store };
        let session = Session {
            id: edge.entropy.uuid()?,
            created_at: header.created_at,
            connection,
            export,
            chunks: Chunks::new(&domain.keys, &header, &raw_header)?,
            next: 0,
            totals: Totals::default(),
            complete: false,
            touched: edge.clock.elapsed(),
        };
        let backup_id = session.id;
        *current = Some(session);
        Ok(BeginBackupReply {
            backup_id,
            header: Bytes(raw_header),
            keys: keyring.counts().into_iter().map(|(_, _, count)| count).sum(),
            recovery_recipients: if header.recovery.is_empty() { 0 } else { domain.recovery_recipients },
        })
    }

    /// The next chunk of a backup.
    ///
    /// # Errors
    /// `NotFound` where that backup isn't there any more, `InvalidArgument` where another
    /// chunk is the next, `Busy` where too much changed; a record that doesn't authenticate
    /// ends the backup.
    pub async fn read(
        &self,
        keyring: &Keyring,
        edge: &Edge,
        backup_id: Uuid,
        index: u32,
    ) -> Result<ReadBackupReply, Failure> {
        let mut current = self.current.lock().await;
        // Out of its place while it is read: a call that is dropped half-way ends the backup.
        let mut session = take(&mut current, backup_id, index)?;
        let part = session.export.store.export(session.export.number, STEP).await?;
        let mut entries = Vec::with_capacity(part.entries.len());
        for (key, value) in part.entries {
            if let Some(value) = &value {
                keyring.records().check(&key, value).inspect_err(|error| {
                    tracing::error!(%error, "the backup is given up: a record of the store is damaged");
                })?;
            }
            let entry =
                value.map_or_else(|| Entry::Delete(key.clone()), |value| Entry::Put(key.clone(), value));
            session.totals.count(&entry);
            entries.push(entry);
        }
        let chunk = session.chunks.seal(index, &entries, part.done.then_some(session.totals))?;
        session.next = index.checked_add(1).ok_or(Code::ReplyTooLarge)?;
        session.complete = part.done;
        if part.done {
            let (begun_at, read_at) = (session.created_at, edge.clock.now());
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.truncate(MAX_READ - 1);
            read.push_front(Made { backup_id, begun_at, read_at });
        }
        session.touched = edge.clock.elapsed();
        let Totals { puts, deletes } = session.totals;
        *current = Some(session);
        Ok(ReadBackupReply { chunk: Bytes(chunk), last: part.done, puts, deletes })
    }

    /// Ends a backup; one that isn't there is no error. Gives one that was read to its end.
    pub async fn end(&self, backup_id: Uuid) -> Option<Made> {
        self.current.lock().await.take_if(|session| session.id == backup_id);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let place = read.iter().position(|made| made.backup_id == backup_id)?;
        read.remove(place)
    }

    /// A connection is gone, and with it the backup that it began.
    pub fn left(&self, connection: u64) {
        // One that is being read ends with the call that reads it.
        if let Ok(mut current) = self.current.try_lock() {
            current.take_if(|session| session.connection == connection);
        }
    }

    /// Forgets a backup that nobody has read for a while.
    pub fn sweep(&self, now: Duration) {
        // One that is being read just now is not abandoned.
        if let Ok(mut current) = self.current.try_lock() {
            current.take_if(|session| session.is_abandoned(now));
        }
    }
}

impl Session {
    fn is_abandoned(&self, now: Duration) -> bool {
        now.saturating_sub(self.touched) >= ABANDONED_AFTER
    }

    /// Whether it may give way to another.
    fn is_over(&self, now: Duration) -> bool {
        self.complete || self.is_abandoned(now)
    }
}

/// The session, if this is its next chunk.
fn take(current: &mut Option<Session>, backup_id: Uuid, index: u32) -> Result<Session, Failure> {
    match current {
        Some(session) if session.id == backup_id && !session.complete => {
            if session.next != index {
                let text = format!("the next chunk is {}", session.next);
                return Err(Failure::new(Code::InvalidArgument, text));
            }
        }
        _ => return Err(gone()),
    }
    current.take().ok_or_else(gone)
}

/// Checks one chunk of a file.
///
/// # Errors
/// `InvalidCiphertext` where it isn't what this domain has written at that place,
/// `InvalidArgument` where the header can't be read.
pub(crate) fn verify(keyring: &Keyring, body: &VerifyBackupRequest) -> Result<VerifyBackupReply, Failure> {
    let header = BackupHeader::parse(&body.header.0).map_err(unfit)?;
    let chunks = Chunks::new(&keyring.domain().keys, &header, &body.header.0)?;
    let chunk = SealedChunk { index: body.index, last: body.last, bytes: body.chunk.0.clone() };
    let opened = chunks.open(chunk, keyring.records())?;
    let mut counted = Totals::default();
    for entry in &opened.entries {
        counted.count(entry);
    }
    let totals = opened.totals.unwrap_or_default();
    Ok(VerifyBackupReply {
        puts: counted.puts,
        deletes: counted.deletes,
        total_puts: totals.puts,
        total_deletes: totals.deletes,
    })
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn unfit(error: BackupError) -> Failure {
    Failure::new(Code::InvalidArgument, format!("the backup's header: {error}"))
}

fn gone() -> Failure {
    Failure::new(Code::NotFound, "that backup is not, or no longer, being read; begin it again")
}
