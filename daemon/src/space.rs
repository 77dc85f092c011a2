//! Room on the disk of the state directory. A ballast file holds some in reserve, so
//! that a full disk doesn't end the daemon: changes are refused while there is less than
//! sled may need (it must never see a full disk), and what is used goes on, with the
//! audit log growing into what the ballast gives up. A quarter of it is kept for the
//! next start, whose store writes before it can say anything.
//!
//! No threads and no timers: `daemon/upkeep` and the store's committer ask.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

/// The file in the state directory.
pub const BALLAST: &str = "ballast";

type FreeFn = Box<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// The room, and the ballast.
pub struct Space {
    dir: PathBuf,
    ballast: Mutex<Ballast>,
    /// Bytes of the whole ballast.
    size: u64,
    free: FreeFn,
    read_only: AtomicBool,
    /// Until the daemon serves, what an earlier run left is put in order, on the room
    /// that the ballast gave up for that.
    started: AtomicBool,
    /// The ballast made room for this start.
    began_full: AtomicBool,
}

struct Ballast {
    file: File,
    len: u64,
}

/// Files that a start makes, and some more: sockets, a snapshot, copies.
const SPARE_INODES: u64 = 32;

impl Space {
    /// Looks at the disk of `dir` and gives up as much of the ballast as the store may
    /// need to open. `size` bytes of ballast are laid down where there is room for them.
    ///
    /// # Errors
    /// The ballast file can't be opened or made, or the disk can't be asked.
    pub fn open(dir: &Path, size: u64) -> io::Result<Self> {
        Self::open_with(dir, size, Box::new(free_bytes))
    }

    fn open_with(dir: &Path, size: u64, free: FreeFn) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(BALLAST))?;
        let len = file.metadata()?.len();
        let space = Self {
            dir: dir.to_owned(),
            ballast: Mutex::new(Ballast { file, len }),
            size,
            free,
            read_only: AtomicBool::new(false),
            started: AtomicBool::new(false),
            began_full: AtomicBool::new(false),
        };
        let free = (space.free)(dir)?;
        if free < space.floor() {
            space.shrink_by(space.floor() - free, 0)?;
            space.began_full.store(true, Ordering::Release);
            tracing::warn!(free, dir = %dir.display(), "the disk is full: the ballast makes room for the start");
        }
        Ok(space)
    }

    /// Bytes that must be free for a change: what sled may write for one group of commits,
    /// and what a start needs.
    const fn floor(&self) -> u64 {
        self.size / 4
    }

    /// The start is over: from now on a full disk refuses changes, and one that was full
    /// then, until the ballast is whole again.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
        if self.began_full.load(Ordering::Acquire) {
            self.refuse_changes(0);
        }
        self.look();
    }

    /// Whether changes are refused for want of room.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// Asks the disk, and says whether a change may be written now. The ballast is whole
    /// again before changes are taken again.
    pub fn look(&self) -> bool {
        // A disk that can't be asked says so when it is written.
        let Ok(free) = (self.free)(&self.dir) else { return !self.is_read_only() };
        if free < self.floor() {
            self.refuse_changes(free);
            return !self.is_read_only();
        }
        let missing = self.missing();
        let fits = missing > 0 && free >= missing.saturating_add(2 * self.floor());
        if fits && let Err(error) = self.refill() {
            tracing::warn!(%error, "the ballast can't be made whole");
            return !self.is_read_only();
        }
        if self.is_read_only()
            && self.missing() == 0
            && (self.free)(&self.dir).is_ok_and(|free| free >= 2 * self.floor())
        {
            self.read_only.store(false, Ordering::Release);
            tracing::info!("there is room on the disk again: changes are taken");
        }
        !self.is_read_only()
    }

    /// Whether so many bytes more may be written by what can wait: the ballast comes first,
    /// and twice what a change needs stays free.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        let wanted = bytes.saturating_add(self.missing()).saturating_add(2 * self.floor());
        !self.is_read_only() && (self.free)(&self.dir).is_ok_and(|free| free >= wanted)
    }

    fn refuse_changes(&self, free: u64) {
        if self.started.load(Ordering::Acquire) && !self.read_only.swap(true, Ordering::AcqRel) {
            let dir = self.dir.display();
            tracing::error!(free, %dir, "the disk is full: changes are refused and keys stay in use; free space there");
        }
    }

    /// The audit log found the disk full: gives up some of the ballast for it. `false`
    /// where only the next start's share is left.
    pub fn give_way(&self) -> bool {
        self.refuse_changes(0);
        match self.shrink_by((self.size / 16).max(1), self.floor()) {
            Ok(given) => given,
            Err(error) => {
                tracing::error!(%error, "the ballast can't be made smaller");
                false
            }
        }
    }

    fn ballast(&self) -> std::sync::MutexGuard<'_, Ballast> {
        self.ballast.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self) -> u64 {
        self.size.saturating_sub(self.ballast().len)
    }

    /// Cuts so many bytes off, but not below `keep`; says whether any were.
    fn shrink_by(&self, bytes: u64, keep: u64) -> io::Result<bool> {
        let mut ballast = self.ballast();
        let len = ballast.len.saturating_sub(bytes).max(keep.min(ballast.len));
        if len == ballast.len {
            return Ok(false);
        }
        ballast.file.set_len(len)?;
        // A file system frees what was cut when it has noted that durably.
        ballast.file.sync_all()?;
        ballast.len = len;
        Ok(true)
    }

    /// Lays the ballast down whole: real blocks, not a hole.
    fn refill(&self) -> io::Result<()> {
        let mut ballast = self.ballast();
        let laid = i64::try_from(self.size).map_err(io::Error::other).and_then(|size| {
            posix_fallocate(&ballast.file, 0, size)?;
            ballast.file.sync_all()
        });
        if laid.is_err() {
            // What was laid down in part is given back.
            ballast.file.set_len(ballast.len)?;
        } else {
            ballast.len = self.size;
        }
        laid
    }
}

/// Bytes that an unprivileged process may still write on the disk of `dir` (statvfs(3)):
/// none, where it can't make files any more.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = statvfs(dir)?;
    // File systems that make their inodes as they need them have none to count.
    if disk.files() > 0 && disk.files_available() < SPARE_INODES {
        return Ok(0);
    }
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// Whether a write failed because the disk, or the user's share of it, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    const SIZE: u64 = 1 << 20;
    const FLOOR: u64 = SIZE / 4;

    /// A disk of `total` bytes that others fill, with the ballast's own bytes counted.
    struct Disk {
        dir: tempfile::TempDir,
        total: Arc<AtomicU64>,
    }

    impl Disk {
        fn new(total: u64) -> Self {
            Self { dir: tempfile::tempdir().unwrap(), total: Arc::new(AtomicU64::new(total)) }
        }

        fn set(&self, total: u64) {
            self.total.store(total, Ordering::SeqCst);
        }

        fn ballast(&self) -> u64 {
            std::fs::metadata(self.dir.path().join(BALLAST)).unwrap().len()
        }

        fn open(&self) -> Space {
            let total = Arc::clone(&self.total);
            let free = move |dir: &Path| {
                let ballast = std::fs::metadata(dir.join(BALLAST)).map_or(0, |file| file.len());
                Ok(total.load(Ordering::SeqCst).saturating_sub(ballast))
            };
            Space::open_with(self.dir.path(), SIZE, Box::new(free)).unwrap()
        }
    }

    #[test]
    fn the_ballast_is_laid_down_where_there_is_room_and_is_not_a_hole() {
        let disk = Disk::new(10 * SIZE);
        let space = disk.open();
        assert_eq!(disk.ballast(), 0);
        space.started();
        assert_eq!(disk.ballast(), SIZE);
        let blocks = std::fs::metadata(disk.dir.path().join(BALLAST)).unwrap().blocks();
        assert!(blocks * 512 >= SIZE, "{blocks}");
        assert!(space.look() && !space.is_read_only());
        // Too little for it, and enough for changes.
        let disk = Disk::new(2 * FLOOR);
        let space = disk.open();
        space.started();
        assert!(space.look());
        assert_eq!(disk.ballast(), 0);
    }

    #[test]
    fn what_can_wait_has_no_room_in_the_ballast_nor_in_what_changes_need() {
        let disk = Disk::new(10 * SIZE);
        let space = disk.open();
        assert!(!space.has_room(10 * SIZE - SIZE - 2 * FLOOR + 1), "the ballast comes first");
        assert!(space.has_room(10 * SIZE - SIZE - 2 * FLOOR));
        space.started();
        assert!(!space.has_room(10 * SIZE - SIZE - 2 * FLOOR + 1), "it is there");
        assert!(space.has_room(10 * SIZE - SIZE - 2 * FLOOR));
        assert!(!space.has_room(u64::MAX));
        disk.set(SIZE + 2 * FLOOR - 1);
        assert!(space.look() && !space.has_room(0), "changes have");
        disk.set(SIZE);
        space.look();
        disk.set(10 * SIZE);
        assert!(space.is_read_only() && !space.has_room(0));
    }

    #[test]
    fn a_full_disk_refuses_changes_until_the_ballast_is_whole_again() {
        let disk = Disk::new(10 * SIZE);
        let space = disk.open();
        space.started();
        disk.set(SIZE + FLOOR - 1);
        assert!(!space.look() && space.is_read_only());
        // The log takes three quarters of the ballast, and no more.
        let mut steps = 0;
        while space.give_way() {
            steps += 1;
        }
        assert_eq!((steps, disk.ballast()), (12, FLOOR));
        // A little room isn't enough; room for the whole is.
        disk.set(SIZE + FLOOR);
        assert!(!space.look());
        disk.set(SIZE + 2 * FLOOR);
        assert!(space.look() && !space.is_read_only());
        assert_eq!(disk.ballast(), SIZE);
    }

    #[test]
    fn a_start_on_a_full_disk_gets_the_room_it_needs() {
        let disk = Disk::new(10 * SIZE);
        disk.open().started();
        disk.set(SIZE);
        let space = disk.open();
        assert_eq!(disk.ballast(), SIZE - FLOOR, "as much as the floor was given up");
        assert!(space.look(), "what an earlier run left may be put in order");
        space.started();
        assert!(space.is_read_only());
        // With no ballast left there is nothing to give, and it opens all the same.
        disk.set(0);
        drop((disk.open(), disk.open(), disk.open(), disk.open()));
        assert_eq!(disk.ballast(), 0);
        assert!(!disk.open().give_way());
    }
}
