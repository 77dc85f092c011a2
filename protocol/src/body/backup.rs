//! Bodies of backups: a file that the client writes and the daemon fills.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
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
}
