//! What an opening of sled's may destroy, kept until it has ended well.
//!
//! sled takes a byte that it can't read, or that was damaged, for the end of its log, and
//! *writes zeros over all that follows while it opens* (`sled_open`). What follows is the log
//! since its last snapshot, whose place in it stands in the snapshot's name: a segment from
//! before holds pages that the snapshot knows of, or nothing that is needed any more. So of
//! the log only this is copied:
//!
//! - every segment whose header says that it came with or after the newest snapshot (the
//!   segment that the snapshot ends in, too);
//! - every segment whose header isn't sound: sled may take it for free;
//! - all of them, where there is no snapshot, or one whose name isn't as expected.
//!
//! All other files are copied whole: they are small, and sled replaces them. That makes a
//! start's cost one of what has changed since the last, not of the size of the store.
//!
//! A segment begins with CRC-32 of what follows (u32 LE, inverted), its place in the log and
//! a place that was stable then (i64 LE each, exclusive-or 2^63 − 1): `SegmentHeader` in
//! sled's `pagecache/logger.rs`.
//!
//! The copy is a directory: `log`, which is offset, length (u64 LE) and bytes of each stretch,
//! in the end 2^64 − 1 and the log's length; and `files` with the rest.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files::{copy_file, copy_tree, entries, make_dir, remove_tree, size};
use super::open::{OpenError, io_error, sync_dir};

/// sled's log in a database's directory.
pub(super) const LOG: &str = "db";
const HEADER_LEN: usize = 20;
/// What stands in the place of an offset after the last stretch.
const END: u64 = u64::MAX;

/// The stretches of a log that an opening may write to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AtStake {
    stretches: Vec<(u64, u64)>,
    log_len: u64,
    /// Bytes of the other files.
    files: u64,
}

impl AtStake {
    /// What is at stake in a database of segments of so many bytes; everything, where it is
    /// opened without its snapshots.
    pub(super) fn of(store: &Path, segment: u64, everything: bool) -> Result<Self, OpenError> {
        let path = store.join(LOG);
        let since = if everything { None } else { newest_snapshot(store)? };
        let look = || {
            let log = match File::open(&path) {
                // Damage, which opening it will tell.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
                other => other?,
            };
            let log_len = log.metadata()?.len();
            let mut stretches = Vec::new();
            let mut at = 0;
            while at < log_len {
                let len = segment.min(log_len - at);
                let needed = match since {
                    None => true,
                    Some(since) => may_be_written(&log, (at, len), since / segment * segment)?,
                };
                stretches.push((at, if needed { len } else { len.min(HEADER_LEN as u64) }));
                at += len;
            }
            Ok((stretches, log_len))
        };
        let (stretches, log_len) = look().map_err(io_error("read", &path))?;
        Ok(Self { stretches, log_len, files: size(store)?.saturating_sub(log_len) })
    }

    /// Bytes that a copy takes.
    pub(super) fn bytes(&self) -> u64 {
        self.stretches.iter().map(|(_, len)| len).sum::<u64>().saturating_add(self.files)
    }

    /// Copies it to `to`, durably, but for the name.
    pub(super) fn copy(&self, store: &Path, to: &Path) -> Result<(), OpenError> {
        make_dir(to)?;
        copy_tree(store, &to.join("files"), Some(LOG))?;
        let path = to.join("log");
        let write = || {
            let mut out = BufWriter::new(File::create(&path)?);
            let log = if self.log_len > 0 { Some(File::open(store.join(LOG))?) } else { None };
            for (at, len) in self.stretches.iter().copied() {
                let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                if let Some(log) = &log {
                    log.read_exact_at(&mut bytes, at)?;
                }
                out.write_all(&at.to_le_bytes())?;
                out.write_all(&len.to_le_bytes())?;
                out.write_all(&bytes)?;
            }
            out.write_all(&END.to_le_bytes())?;
            out.write_all(&self.log_len.to_le_bytes())?;
            out.into_inner()?.sync_all()
        };
        write().map_err(io_error("copy the log to", &path))?;
        sync_dir(to)
    }
}

/// Makes a database what it was when the copy at `from` was made. It may be cut off, and is
/// then done again.
pub(super) fn undo(from: &Path, store: &Path) -> Result<(), OpenError> {
    let path = store.join(LOG);
    let write = || {
        let log = File::options().write(true).open(&path)?;
        let mut copy = BufReader::new(File::open(from.join("log"))?);
        loop {
            let (at, len) = (number(&mut copy)?, number(&mut copy)?);
            if at == END {
                log.set_len(len)?;
                return log.sync_all();
            }
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            copy.read_exact(&mut bytes)?;
            log.write_all_at(&bytes, at)?;
        }
    };
    write().map_err(io_error("put back", &path))?;
    for (path, is_dir) in entries(store)? {
        if is_dir {
            remove_tree(&path)?;
        } else if !path.ends_with(LOG) {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    for (path, is_dir) in entries(&from.join("files"))? {
        let Some(name) = path.file_name() else { continue };
        let target = store.join(name);
        if is_dir {
            copy_tree(&path, &target, None)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    sync_dir(store)
}

fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// The place in the log up to which the newest snapshot reaches; none where there is none, or
/// where a name isn't as expected: sled takes the last by name, whatever it is.
fn newest_snapshot(store: &Path) -> Result<Option<u64>, OpenError> {
    let mut newest = None;
    for (path, _) in entries(store)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(place) = name.strip_prefix("snap.") else { continue };
        match u64::from_str_radix(place, 16) {
            Ok(place_) if place.len() == 16 => newest = newest.max(Some(place_)),
            _ => return Ok(None),
        }
    }
    Ok(newest)
}

/// Whether an opening may write to what a segment holds, or to what it seems not to hold.
fn may_be_written(log: &File, (at, len): (u64, u64), since: u64) -> io::Result<bool> {
    let mut header = [0; HEADER_LEN];
    if len >= HEADER_LEN as u64 {
        log.read_exact_at(&mut header, at)?;
        if let Some(place) = place(&header) {
            return Ok(place >= since);
        }
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    log.read_exact_at(&mut bytes, at)?;
    Ok(bytes.iter().any(|byte| *byte != 0))
}

/// A segment's place in the log, by its header; none where that isn't sound.
fn place(header: &[u8; HEADER_LEN]) -> Option<u64> {
    let (crc, places) = header.split_first_chunk::<4>()?;
    if crc32fast::hash(places) ^ u32::MAX != u32::from_le_bytes(*crc) {
        return None;
    }
    let place = i64::from_le_bytes(*places.first_chunk()?) ^ i64::MAX;
    u64::try_from(place).ok()
}

#[cfg(test)]
#[path = "sled_undo_tests.rs"]
mod tests;
