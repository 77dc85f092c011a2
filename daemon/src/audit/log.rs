//! Where events go: JSON lines in one file, or memory in a simulation.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::line::Lines;
use super::{AuditFailed, Event};
use crate::edge::Worker;
use crate::metrics::groups::AuditCounts;
use crate::space::{Space, is_full};

/// Outcome of a call that was dropped before its answer: its client went away.
pub(super) const ABANDONED: u16 = u16::MAX;

/// Bytes of scratch memory that are kept between two batches.
const LARGEST_SPARE: usize = 64 * 1024;

/// Proof that a batch of events was recorded. Only [`AuditLog::record`] makes one.
#[derive(Debug)]
pub struct Recorded(());

/// The log.
pub struct AuditLog {
    sink: Mutex<Sink>,
    dirty: AtomicBool,
    /// The last write failed.
    failing: AtomicBool,
    /// What the file holds is not known any more; stays so until a restart.
    broken: AtomicBool,
    written: Notify,
    syncer: Worker,
    spare: Mutex<Vec<Scratch>>,
    /// Where room comes from on a full disk.
    space: OnceLock<Arc<Space>>,
    counts: AuditCounts,
}

/// What [`AuditLog::record`] writes its lines in.
#[derive(Default)]
struct Scratch {
    lines: Lines,
    text: Vec<u8>,
}

enum Sink {
    /// Shared with a running sync, which must not need a new descriptor.
    File {
        file: Arc<File>,
        len: u64,
    },
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
        Ok(Self::new(Sink::File { file: Arc::new(file), len }, syncer))
    }

    fn new(sink: Sink, syncer: Worker) -> Self {
        Self {
            sink: Mutex::new(sink),
            dirty: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            written: Notify::new(),
            syncer,
            spare: Mutex::default(),
            space: OnceLock::new(),
            counts: AuditCounts::default(),
        }
    }

    /// On a full disk, room for events comes from there.
    pub fn on_disk(&self, space: Arc<Space>) {
        let _ = self.space.set(space);
    }

    /// A log that a simulation reads back with [`AuditLog::lines`].
    #[must_use]
    pub fn in_memory(syncer: Worker) -> Self {
        Self::new(Sink::Memory(Vec::new()), syncer)
    }

    /// Writes a batch of events; the kernel has them when this returns.
    ///
    /// # Errors
    /// [`AuditFailed`] where the file can't take them; then none of them is in it. For
    /// ever, once a sync failed or half a batch could not be taken back.
    pub fn record<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> Result<Recorded, AuditFailed> {
        let mut events = events.into_iter().peekable();
        if events.peek().is_none() {
            return Ok(Recorded(()));
        }
        let began = self.syncer.now();
        let mut scratch = self.scratch();
        let mut count = 0;
        for event in events {
            scratch.lines.put(event, &mut scratch.text);
            count += 1;
        }
        let appended = self.append(&scratch.text);
        let bytes = scratch.text.len();
        self.put_back(scratch);
        appended?;
        self.counts.write.record(self.syncer.now().saturating_sub(began));
        self.counts.events.add(count);
        self.counts.bytes.add(bytes as u64);
        if self.failing.swap(false, Ordering::AcqRel) {
            tracing::info!("the audit log can be written again");
        }
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.written.notify_one();
        }
        Ok(Recorded(()))
    }

    /// Memory to write lines in, used again and again: as many as threads write at once.
    fn scratch(&self) -> Scratch {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put_back(&self, mut scratch: Scratch) {
        scratch.text.clear();
        scratch.text.shrink_to(LARGEST_SPARE);
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }

    fn append(&self, text: &[u8]) -> Result<(), AuditFailed> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if self.broken.load(Ordering::Acquire) {
            return Err(AuditFailed);
        }
        match &mut *sink {
            Sink::Memory(log) => log.extend_from_slice(text),
            Sink::File { file, len } => {
                let mut written = (&**file).write_all(text);
                // A full disk: the ballast gives way, step by step.
                while written.as_ref().is_err_and(is_full)
                    && self.space.get().is_some_and(|space| space.give_way())
                {
                    if let Err(error) = file.set_len(*len) {
                        return Err(self.give_up(&error));
                    }
                    written = (&**file).write_all(text);
                }
                if let Err(error) = written {
                    // Once, however many calls it costs.
                    if !self.failing.swap(true, Ordering::AcqRel) {
                        tracing::error!(%error, "the audit log (audit.jsonl in the state directory) can't be written: calls are refused until it can");
                    }
                    // Half a batch must not stay: its calls will be refused.
                    return Err(file.set_len(*len).map_or_else(|e| self.give_up(&e), |()| AuditFailed));
                }
                *len += text.len() as u64;
            }
        }
        Ok(())
    }

    /// Refuses every event from now on. After a failed sync the kernel may have
    /// dropped what it held and call the next sync a success, and after half a batch
    /// the next line would be glued to it: only a new start looks at the file itself.
    fn give_up(&self, error: &io::Error) -> AuditFailed {
        if !self.broken.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "what the audit log (audit.jsonl in the state directory) holds is not certain any more: calls are refused; mend the disk and restart the daemon");
        }
        AuditFailed
    }

    /// Whether the next event is likely to be taken. While the log fails, `probe` is
    /// written to find out: a change must not be made that could not be recorded.
    pub fn ready(&self, probe: impl FnOnce() -> Option<Event>) -> bool {
        if self.broken.load(Ordering::Acquire) {
            return false;
        }
        !self.failing.load(Ordering::Acquire) || probe().is_some_and(|event| self.record(&[event]).is_ok())
    }

    /// What happened here so far.
    #[must_use]
    pub fn counts(&self) -> &AuditCounts {
        &self.counts
    }

    /// Whether events can't be written now.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire) || self.broken.load(Ordering::Acquire)
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
    /// [`AuditFailed`] where the disk refuses, from then on for ever, or too many
    /// syncs wait already.
    pub async fn sync(self: &Arc<Self>) -> Result<(), AuditFailed> {
        let (done, wait) = oneshot::channel();
        let log = Arc::clone(self);
        let sync = move || {
            let _ = done.send(log.sync_now());
        };
        self.syncer.submit(sync).map_err(|_| AuditFailed)?;
        wait.await.unwrap_or(Err(AuditFailed))
    }

    /// Returns when the worker that syncs has come to the end of what it has to do, well
    /// or not: not while it hangs.
    pub async fn answered(&self) {
        let (done, wait) = oneshot::channel::<()>();
        // Not refused by a full queue, which is what a worker that hangs leaves.
        self.syncer.submit_always(move || drop(done));
        let _ = wait.await;
    }

    fn sync_now(&self) -> Result<(), AuditFailed> {
        // Also where there is nothing to be had any more: nobody should try again.
        self.dirty.store(false, Ordering::Release);
        let file = match &*self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            _ if self.broken.load(Ordering::Acquire) => return Err(AuditFailed),
            Sink::Memory(_) => return Ok(()),
            Sink::File { file, .. } => Arc::clone(file),
        };
        let began = self.syncer.now();
        file.sync_data().map_err(|error| self.give_up(&error))?;
        self.counts.sync.record(self.syncer.now().saturating_sub(began));
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use serde_json::Value;
    use uuid::Uuid;

    fn syncer() -> Worker {
        crate::edge::Workers::manual().0.start("audit", 4).unwrap()
    }

    #[test]
    fn a_worker_that_hangs_does_not_answer_however_full_its_queue_is() {
        let (workers, manual) = crate::edge::Workers::manual();
        let log = Arc::new(AuditLog::in_memory(workers.start("audit", 1).unwrap()));
        let mut first = Box::pin(log.sync());
        assert!((&mut first).now_or_never().is_none());
        assert!(log.sync().now_or_never().is_some_and(|refused| refused.is_err()));
        let mut answered = Box::pin(log.answered());
        assert!((&mut answered).now_or_never().is_none());
        assert!(manual.step(0).is_some() && (&mut answered).now_or_never().is_none());
        assert!(manual.step(0).is_some() && answered.now_or_never().is_some());
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

    fn on_file(file: File) -> Arc<AuditLog> {
        let syncer = crate::edge::Workers::threads().start("audit", 4).unwrap();
        Arc::new(AuditLog::new(Sink::File { file: Arc::new(file), len: 0 }, syncer))
    }

    /// An empty file in memory that can't grow, as on a full disk.
    fn full() -> File {
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        use nix::sys::memfd::{MFdFlags, memfd_create};
        let file = memfd_create(c"full", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
        file.into()
    }

    fn pipe() -> (io::PipeReader, File) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, File::from(std::os::fd::OwnedFd::from(writer)))
    }

    #[tokio::test]
    async fn a_write_that_failed_is_taken_back_and_forgotten_once_there_is_space() {
        let log = on_file(full());
        assert_eq!(log.record(&[event(1)]).map(drop), Err(AuditFailed));
        assert!(!log.ready(|| Some(event(2))), "it is tried again, and still fails");
        assert!(log.record(&[]).is_ok());
        assert_eq!(log.sync().await, Ok(()), "what was there before is safe");
        let (space, path) = tempfile::NamedTempFile::new().unwrap().into_parts();
        *log.sink.lock().unwrap() = Sink::File { file: Arc::new(space), len: 0 };
        assert!(log.ready(|| Some(event(3))));
        assert!(log.ready(|| unreachable!("it works")));
        assert!(log.record(&[event(4)]).is_ok());
        assert_eq!(log.sync().await, Ok(()));
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
    }

    #[tokio::test]
    async fn a_failed_sync_is_for_ever() {
        // A pipe takes what is written and can't be synced.
        let (_reader, writer) = pipe();
        let log = on_file(writer);
        assert!(log.record(&[event(1)]).is_ok());
        assert_eq!(log.sync().await, Err(AuditFailed));
        assert_stays_broken(&log).await;
    }

    #[tokio::test]
    async fn half_a_batch_that_cannot_be_taken_back_is_for_ever() {
        // A pipe can't be cut either, and nobody reads from this one.
        let log = on_file(pipe().1);
        assert_eq!(log.record(&[event(1)]).map(drop), Err(AuditFailed));
        assert_stays_broken(&log).await;
    }

    /// Even on a file that works.
    async fn assert_stays_broken(log: &Arc<AuditLog>) {
        let good = tempfile::tempfile().unwrap();
        *log.sink.lock().unwrap() = Sink::File { file: Arc::new(good.try_clone().unwrap()), len: 0 };
        for _ in 0..3 {
            assert_eq!(log.record(&[event(2)]).map(drop), Err(AuditFailed));
            assert_eq!(log.sync().await, Err(AuditFailed));
            assert!(!log.ready(|| unreachable!("no probe helps")));
        }
        assert!(log.written().now_or_never().is_none(), "and nobody is woken to sync it");
        assert_eq!(good.metadata().unwrap().len(), 0);
    }
}
