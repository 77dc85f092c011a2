//! The backup that a running daemon hands out, chunk by chunk: one at a time, its
//! state in memory only. One that nobody reads any more gives way to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger_protocol::Code;
use claviger_protocol::backup::{BackupError, BackupHeader, MAX_CHUNK_LEN, SealedChunk};
use claviger_protocol::body::{BeginBackupReply, ReadBackupReply, VerifyBackupReply, VerifyBackupRequest};
use claviger_protocol::secret::Bytes;
use uuid::Uuid;

use super::chunks::{Chunks, END_LEN, Entry, MAX_ENTRY_LEN, Totals};
use crate::edge::Edge;
use crate::failure::Failure;
use crate::keyring::Keyring;

/// How long a backup that nobody reads is in the way of another.
const ABANDONED_AFTER: Duration = Duration::from_secs(30);
/// Bytes asked of the store for a chunk: one record more, and the end, still fit.
const STEP: usize = MAX_CHUNK_LEN - MAX_ENTRY_LEN - END_LEN;

/// The backup that is being read, if there is one.
#[derive(Default)]
pub struct Backups(Mutex<Option<Session>>);

struct Session {
    id: Uuid,
    export: u64,
    chunks: Chunks,
    next: u32,
    totals: Totals,
    /// Whether its last chunk was read.
    complete: bool,
    touched: Duration,
}

impl Backups {
    /// Begins a backup of the keyring's store.
    ///
    /// # Errors
    /// `Busy` while another is being read; what the store says.
    pub async fn begin(&self, keyring: &Keyring, edge: &Edge) -> Result<BeginBackupReply, Failure> {
        self.sweep(keyring, edge.clock.elapsed());
        if self.lock().as_ref().is_some_and(|session| !session.complete) {
            let text =
                "another backup is being read; try again when it is done, or 30 s after it was given up";
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
        let session = Session {
            id: edge.entropy.uuid()?,
            export: keyring.records().store().begin_export().await?,
            chunks: Chunks::new(&domain.keys, &header, &raw_header)?,
            next: 0,
            totals: Totals::default(),
            complete: false,
            touched: edge.clock.elapsed(),
        };
        let backup_id = session.id;
        *self.lock() = Some(session);
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
        // Out of its place while it is read: two calls can't read at once, and one that
        // is dropped half-way ends the backup.
        let mut session = self.take(backup_id, index)?;
        let part = keyring.records().store().export(session.export, STEP).await?;
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
        session.touched = edge.clock.elapsed();
        let Totals { puts, deletes } = session.totals;
        *self.lock() = Some(session);
        Ok(ReadBackupReply { chunk: Bytes(chunk), last: part.done, puts, deletes })
    }

    /// Ends a backup; one that isn't there is no error.
    pub fn end(&self, keyring: &Keyring, backup_id: Uuid) {
        let mut current = self.lock();
        if let Some(session) = current.take_if(|session| session.id == backup_id) {
            keyring.records().store().end_export(session.export);
        }
    }

    /// Forgets a backup that nobody has read for a while.
    pub fn sweep(&self, keyring: &Keyring, now: Duration) {
        let abandoned = |session: &mut Session| now.saturating_sub(session.touched) >= ABANDONED_AFTER;
        if let Some(session) = self.lock().take_if(abandoned) {
            keyring.records().store().end_export(session.export);
        }
    }

    fn take(&self, backup_id: Uuid, index: u32) -> Result<Session, Failure> {
        let mut current = self.lock();
        match &*current {
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

    fn lock(&self) -> MutexGuard<'_, Option<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
