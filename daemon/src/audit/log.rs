//! Where events go: JSON lines in one file, or memory in a simulation.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use claviger_protocol::Code;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};

use uuid::Uuid;

use super::{AuditFailed, Event};
use crate::edge::{Timestamp, Worker};

/// Outcome of a call that was dropped before its answer: its client went away.
pub(super) const ABANDONED: u16 = u16::MAX;

/// Proof that a batch of events was recorded. Only [`AuditLog::record`] makes one.
#[derive(Debug)]
pub struct Recorded(());

/// The log.
pub struct AuditLog {
    sink: Mutex<Sink>,
    dirty: AtomicBool,
    written: Notify,
    syncer: Worker,
}

enum Sink {
    File { file: File, len: u64 },
    Memory(Vec<u8>),
}

impl AuditLog {
    /// Opens (or makes, mode 0600) the log at `path`. A last line that a power
    /// loss cut is closed, so that the next event starts on a line of its own.
    pub fn open(path: &Path, syncer: Worker) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut len = file.seek(SeekFrom::End(0))?;
        if len > 0 {
            file.seek(SeekFrom::Start(len - 1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                len += 1;
            }
        }
        file.sync_all()?;
        Ok(Self::new(Sink::File { file, len }, syncer))
    }

    fn new(sink: Sink, syncer: Worker) -> Self {
        Self { sink: Mutex::new(sink), dirty: AtomicBool::new(false), written: Notify::new(), syncer }
    }

    /// A log that a simulation reads back with [`AuditLog::lines`].
    #[must_use]
    pub fn in_memory(syncer: Worker) -> Self {
        Self::new(Sink::Memory(Vec::new()), syncer)
    }

    /// Writes a batch of events; the kernel has them when this returns.
    ///
    /// # Errors
    /// [`AuditFailed`] where the file can't take them; then none of them is in it.
    pub fn record(&self, events: &[Event]) -> Result<Recorded, AuditFailed> {
        if events.is_empty() {
            return Ok(Recorded(()));
        }
        let mut text = Vec::with_capacity(events.len() * 384);
        for event in events {
            serde_json::to_writer(&mut text, &line(event)).map_err(|_| AuditFailed)?;
            text.push(b'\n');
        }
        match &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Memory(log) => log.extend_from_slice(&text),
            Sink::File { file, len } => {
                if let Err(error) = file.write_all(&text) {
                    tracing::error!(%error, "the audit log can't be written: calls are refused until it can");
                    // Half a batch must not stay: its calls will be refused.
                    let _ = file.set_len(*len);
                    return Err(AuditFailed);
                }
                *len += text.len() as u64;
            }
        }
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.written.notify_one();
        }
        Ok(Recorded(()))
    }

    /// Waits until there are events that no [`AuditLog::sync`] has seen.
    pub async fn written(&self) {
        while !self.dirty.load(Ordering::Acquire) {
            self.written.notified().await;
        }
    }

    /// Puts what was written on the disk, on the log's own worker.
    ///
    /// # Errors
    /// [`AuditFailed`] where the disk refuses, or too many syncs wait already.
    pub async fn sync(self: &Arc<Self>) -> Result<(), AuditFailed> {
        let (done, wait) = oneshot::channel();
        let log = Arc::clone(self);
        self.syncer.submit(move || drop(done.send(log.sync_now()))).map_err(|_| AuditFailed)?;
        match wait.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the audit log can't be synced");
                Err(AuditFailed)
            }
            Err(_) => Err(AuditFailed),
        }
    }

    fn sync_now(&self) -> io::Result<()> {
        self.dirty.store(false, Ordering::Release);
        let file = match &*self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Memory(_) => return Ok(()),
            Sink::File { file, .. } => file.try_clone()?,
        };
        file.sync_data().inspect_err(|_| self.dirty.store(true, Ordering::Release))
    }

    /// The log's lines so far, of an in-memory log.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match &*self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Memory(log) => String::from_utf8_lossy(log).lines().map(str::to_owned).collect(),
            Sink::File { .. } => Vec::new(),
        }
    }
}

/// An event as one JSON object, in the order in which people read it.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event_id: Uuid,
    #[serde(rename = "type")]
    kind: &'static str,
    level: &'static str,
    endpoint: &'a str,
    access_key: Option<&'a str>,
    peer: Option<PeerLine>,
    connection: u64,
    request_id: u64,
    operation: &'a str,
    resource_type: &'static str,
    resources: &'a [Uuid],
    context_hash: Option<String>,
    outcome: &'static str,
    duration_us: u64,
}

#[derive(Serialize)]
struct PeerLine {
    uid: u32,
    gid: u32,
    pid: i32,
}

fn line(event: &Event) -> Line<'_> {
    Line {
        time: rfc3339(event.time),
        event_id: event.event_id,
        kind: event.kind.name(),
        level: event.level.name(),
        endpoint: &event.endpoint,
        access_key: event.access_key.as_deref(),
        peer: event.peer.map(|(uid, gid, pid)| PeerLine { uid, gid, pid }),
        connection: event.connection,
        request_id: event.request_id,
        operation: &event.operation,
        resource_type: event.resource_kind.name(),
        resources: &event.resources,
        context_hash: event.context_hash.map(hex::encode),
        outcome: outcome_name(event.outcome),
        duration_us: event.duration_us,
    }
}

fn outcome_name(number: u16) -> &'static str {
    match number {
        ABANDONED => "Abandoned",
        _ => Code::from_number(number).map_or("Unknown", Code::name),
    }
}

fn rfc3339(time: Timestamp) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(time).unwrap_or(0));
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn syncer() -> Worker {
        crate::edge::Workers::manual().0.start("audit", 4).unwrap()
    }

    fn event(number: u64) -> Event {
        let mut event = Event::internal(Uuid::from_u128(7), 1_000, "rotateKey");
        event.request_id = number;
        event
    }

    #[test]
    fn every_event_is_one_json_line_with_its_names() {
        let log = AuditLog::in_memory(syncer());
        log.record(&[event(1), event(2)]).unwrap();
        let lines = log.lines();
        assert_eq!(lines.len(), 2);
        let value: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(value["request_id"], 2);
        assert_eq!(value["time"], "1970-01-01T00:00:01.000Z");
        assert_eq!(value["operation"], "rotateKey");
        assert_eq!(value["outcome"], "Ok");
    }

    #[test]
    fn a_cut_last_line_is_closed_on_open_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        AuditLog::open(&path, syncer()).unwrap().record(&[event(1)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        AuditLog::open(&path, syncer()).unwrap().record(&[event(2)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(serde_json::from_str::<Value>(lines[0]).is_err());
        assert!(serde_json::from_str::<Value>(lines[1]).is_ok());
    }

    #[test]
    fn a_log_that_cannot_be_written_says_so_and_keeps_no_half() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, "").unwrap();
        let read_only = File::open(&path).unwrap();
        let log = AuditLog::new(Sink::File { file: read_only, len: 0 }, syncer());
        assert_eq!(log.record(&[event(1)]).map(|_| ()), Err(AuditFailed));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert!(log.record(&[]).is_ok());
    }
}
