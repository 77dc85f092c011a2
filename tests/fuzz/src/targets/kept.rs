//! What is read back from the disk: records, the domain's files, the audit log, backups.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use claviger_protocol::Code;
use claviger_protocol::backup::{BackupHeader, BackupReader, SealedChunk, TAG_LEN};
use clavigerd::audit::{AuditLog, Event};
use clavigerd::backend::hsm::RecoveryFile;
use clavigerd::backend::hsm::domain::{DomainHeader, DomainKeys};
use clavigerd::backup::{Chunks, Entry, Opened};
use clavigerd::edge::{Background, Clock, Edge, Entropy, Workers};
use clavigerd::keyring::record::{
    AliasRecord, ClientTokenRecord, ImportRecord, IntentRecord, KeyRecord, OutboxRecord, VersionRecord,
};
use clavigerd::store::{MemoryStore, Record, Schema, Sealed, Store, StoreError, Versioned};
use serde_json::Value;
use tempfile::NamedTempFile;
use uuid::Uuid;

use super::folded;

/// Bytes of a record's MAC, at its end.
const MAC_LEN: usize = 32;
/// What the event is known by that follows whatever the log ends with.
const REQUEST_ID: u64 = 7;

/// Records under a key that no input knows.
static RECORDS: LazyLock<Sealed> = LazyLock::new(|| {
    let (workers, _) = Workers::manual();
    let (clock, entropy) = (Clock::manual(0).0, Entropy::seeded(1));
    let edge = Edge { clock, entropy, workers, background: Background::manual().0 };
    let store: Arc<dyn Store> = MemoryStore::new(&edge, 1).unwrap();
    Sealed::new(store, &[7; 32])
});

/// A record of any kind. Input: a byte that says which, the body.
pub(crate) fn record(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    match kind % 7 {
        0 => sealed::<KeyRecord>(body),
        1 => sealed::<VersionRecord>(body),
        2 => sealed::<AliasRecord>(body),
        3 => sealed::<ClientTokenRecord>(body),
        4 => sealed::<IntentRecord>(body),
        5 => sealed::<OutboxRecord>(body),
        _ => sealed::<ImportRecord>(body),
    }
}

/// A record that was sealed opens as itself at its own key, unless a bit of it is
/// another; its body is the one it was read from, but for the order of tags.
fn sealed<T: Record + Debug + PartialEq>(body: &[u8]) {
    let open = |key: &[u8], value: &[u8]| {
        RECORDS.unseal::<T>(key, &Versioned { revision: 1, value: value.to_vec() })
    };
    assert!(matches!(open(b"k/a", body), Err(StoreError::Damaged(_))), "nobody sealed it");
    let Some(Ok(record)) = T::read(Schema { number: T::SCHEMA, body }) else { return };
    let mut value = match RECORDS.put(b"k/a", &record) {
        Err(StoreError::TooLarge) => return,
        value => value.unwrap(),
    };
    let content = &value[..value.len() - MAC_LEN];
    assert_eq!(&content[..2], T::SCHEMA.to_le_bytes());
    assert_eq!(folded(&content[2..]), folded(body));
    assert_eq!(open(b"k/a", &value).unwrap(), (1, record));
    assert!(open(b"k/b", &value).is_err(), "it belongs to its key");
    let at = spot(body, value.len());
    value[at] ^= 1;
    assert!(matches!(open(b"k/a", &value), Err(StoreError::Damaged(_))));
    value.truncate(at);
    assert!(matches!(open(b"k/a", &value), Err(StoreError::Damaged(_))));
}

/// A place below `len` that an input chooses.
fn spot(input: &[u8], len: usize) -> usize {
    input.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % len
}

/// A domain file is accepted whole, with its checksum, and not with a bit changed.
pub(crate) fn domain(input: &[u8]) {
    let Ok(header) = DomainHeader::parse(input) else { return };
    assert_eq!(input.len(), 100);
    assert_eq!(&input[10..26], header.root.domain.as_bytes());
    assert_eq!(input[26..30], header.root.generation.to_le_bytes());
    assert_eq!(input[30..32], header.recovery_recipients.to_le_bytes());
    let mut other = input.to_vec();
    other[spot(input, input.len())] ^= 1;
    assert!(DomainHeader::parse(&other).is_err());
}

/// An accepted recovery file is written so that it is read the same.
pub(crate) fn recovery(input: &[u8]) {
    match RecoveryFile::parse(input) {
        Ok(file) => assert_eq!(RecoveryFile::parse(&file.encode().unwrap()).as_ref(), Ok(&file)),
        Err(said) => assert!(!said.is_empty()),
    }
}

/// Whatever an audit log ends with, the next event is one line of its own, and nothing
/// that was there is lost.
pub(crate) fn audit(input: &[u8]) {
    // In memory, where there is such a place: the log syncs what it writes.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let file = NamedTempFile::new_in(place).unwrap();
    let path = file.path();
    fs::write(path, input).unwrap();
    let log = AuditLog::open(path, Workers::manual().0.start("audit", 1).unwrap()).unwrap();
    let mut event = Event::internal(Uuid::nil(), 0, "rotateKey");
    event.request_id = REQUEST_ID;
    log.record(&[event]).unwrap();
    let after = fs::read(path).unwrap();
    let added = after.strip_prefix(input).unwrap();
    let cut = !(input.is_empty() || input.ends_with(b"\n"));
    let line = if cut { added.strip_prefix(b"\n").unwrap() } else { added };
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
    assert_eq!(serde_json::from_slice::<Value>(line).unwrap()["request_id"], REQUEST_ID);
}

/// A backup's header has one form; its chunks are the rest of the file, in order; none
/// opens that the domain didn't seal.
pub(crate) fn backup(input: &[u8]) {
    if let Ok(header) = BackupHeader::parse(input) {
        assert_eq!(header.encode().unwrap(), input);
    }
    let Ok(mut reader) = BackupReader::new(input) else { return };
    let chunks = Chunks::new(&keys(), &reader.header, &reader.raw_header).unwrap();
    let mut read = reader.raw_header.clone();
    let mut last = None;
    while let Ok(chunk) = reader.chunk() {
        let Some(chunk) = chunk else {
            assert_eq!((last, read.as_slice()), (Some(true), input), "whatever was read is all there was");
            return;
        };
        assert!(chunk.bytes.len() >= TAG_LEN);
        read.extend(u32::try_from(chunk.bytes.len()).unwrap().to_le_bytes());
        read.extend(&chunk.bytes);
        last = Some(chunk.last);
        assert_eq!(chunks.open(chunk, &RECORDS).unwrap_err().code, Code::InvalidCiphertext);
    }
}

fn keys() -> DomainKeys {
    DomainKeys::derive(Uuid::nil(), &[7; 32]).unwrap()
}

/// What is inside a chunk has one form, and opens as itself in its own place alone, with
/// no record in it that the domain didn't seal.
pub(crate) fn chunk(input: &[u8]) {
    let Some(opened) = Opened::parse(input) else { return };
    assert_eq!(opened.encode().unwrap(), input);
    let header = BackupHeader {
        domain_id: Uuid::nil(),
        root_generation: 1,
        created_at: 0,
        salt: [1; 32],
        domain_file: Vec::new(),
        recovery: Vec::new(),
    };
    let chunks = Chunks::new(&keys(), &header, b"header").unwrap();
    let bytes = chunks.seal(3, &opened.entries, opened.totals).unwrap();
    let open = |index, last, bytes: &[u8]| {
        chunks
            .open(SealedChunk { index, last, bytes: bytes.to_vec() }, &RECORDS)
            .map_err(|failure| failure.code)
    };
    let last = opened.totals.is_some();
    for (index, last) in [(2, last), (3, !last)] {
        assert_eq!(open(index, last, &bytes), Err(Code::InvalidCiphertext), "it has one place");
    }
    let mut other = bytes.clone();
    other[spot(input, bytes.len())] ^= 1;
    assert_eq!(open(3, last, &other), Err(Code::InvalidCiphertext));
    let strange =
        |entry: &Entry| matches!(entry, Entry::Put(key, value) if RECORDS.check(key, value).is_err());
    let refused = opened.entries.iter().any(strange);
    assert_eq!(open(3, last, &bytes), if refused { Err(Code::InvalidCiphertext) } else { Ok(opened) });
}
