//! Bodies of backups: a file that the client writes and the daemon fills.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
use crate::names::KeyRef;
use crate::secret::Bytes;

bodies! {
    /// Begins a backup of the whole store; one that nobody reads any more gives way.
    BeginBackupRequest {}

    /// A backup has begun.
    BeginBackupReply {
        /// Names it in the calls that follow.
        backup_id: Uuid,
        /// First bytes of the file.
        header: Bytes,
        /// Keys that the domain had when it began: an estimate, for progress.
        keys: u64,
        /// Recovery recipients whose wrapped root is in the header.
        recovery_recipients: u16,
    }

    /// The next chunk, please.
    ReadBackupRequest {
        /// Which backup.
        backup_id: Uuid,
        /// Which chunk, from 0 and one after the other.
        index: u32,
    }

    /// A chunk of a backup.
    ReadBackupReply {
        /// The chunk: ciphertext and tag, without its length.
        chunk: Bytes,
        /// Whether nothing follows it.
        last: bool,
        /// Records written so far, this chunk's among them.
        puts: u64,
        /// Removals of records so far.
        deletes: u64,
    }

    /// The file is in its place, or was given up.
    EndBackupRequest {
        /// Which backup.
        backup_id: Uuid,
        /// Whether the file is whole and on the disk.
        complete: bool,
    }

    /// The backup is ended.
    EndBackupReply {}

    /// Is this chunk of this domain's, whole and in its place?
    VerifyBackupRequest {
        /// The file's header, at most 524,288 bytes.
        #[serde(deserialize_with = "rules::backup_header")]
        header: Bytes,
        /// The chunk's place, from 0.
        index: u32,
        /// Whether it is the last of the file.
        last: bool,
        /// The chunk: ciphertext and tag, at most 65,552 bytes.
        #[serde(deserialize_with = "rules::backup_chunk")]
        chunk: Bytes,
    }

    /// It is.
    VerifyBackupReply {
        /// Records in this chunk.
        puts: u64,
        /// Removals in this chunk.
        deletes: u64,
        /// In the last chunk: records of the whole file; else 0.
        total_puts: u64,
        /// In the last chunk: removals of the whole file; else 0.
        total_deletes: u64,
    }

    /// Backups that were made and are not known to be gone, latest first.
    ListBackupsRequest {
        /// Only those that hold this key.
        key: Option<KeyRef>,
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::page_token")]
        page: Bytes,
    }

    /// One page of backups.
    ListBackupsReply {
        /// The backups.
        backups: Vec<BackupSummary>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// A backup whose file was put in its place.
    BackupSummary {
        /// The id that BeginBackup gave it.
        backup_id: Uuid,
        /// When it was begun: the file's header has the same time.
        created_at: i64,
        /// Keys that it holds and that were deleted since.
        holds_deleted: u32,
    }

    /// Deleted keys, in the order of their ids.
    ListTombstonesRequest {
        /// At most so many, 1 to 1,000; 0 means 100.
        #[serde(deserialize_with = "rules::page_limit")]
        limit: u16,
        /// A former reply's `next_page`, or empty.
        #[serde(deserialize_with = "rules::page_token")]
        page: Bytes,
    }

    /// One page of tombstones.
    ListTombstonesReply {
        /// The domain whose keys they were.
        domain_id: Uuid,
        /// The tombstones.
        tombstones: Vec<Tombstone>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// What is left of a deleted key.
    Tombstone {
        /// Its id.
        key_id: Uuid,
        /// When it was made.
        created_at: i64,
        /// When it was destroyed.
        deleted_at: i64,
        /// When its last byte had left the state directory.
        erased_at: Option<i64>,
    }
}
