//! The claim on the state directory: that it is ours, private, of a format that
//! we know, and that no other daemon runs on it. What lies inside (store, domain
//! file, embedded token) belongs to the rooms that open it; they ask for a
//! [`StateLock`] first.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the layout of the state directory that this daemon writes and reads.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "format";
const FORMAT_LABEL: &str = "claviger state directory, format ";
const LOCK_FILE: &str = "lock";
/// Directory of the store inside the state directory.
pub(super) const STORE_DIR: &str = "store";

/// Why the state directory or the store in it can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon holds the directory.
    #[error("another daemon runs on the state directory {0}: stop it, or give this one its own state_dir")]
    Locked(PathBuf),
    /// Others than its owner may write there.
    #[error("the state directory {dir} is writable by group or others (mode {mode:04o}): chmod it to 0700")]
    Permissive {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is another user's: what would be made in it, that user's daemon couldn't read.
    #[error("the state directory {dir} belongs to user {owner}, and this runs as {uid}: run it as that user")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs this.
        uid: u32,
    },
    /// The path is something else than a directory.
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// A newer daemon wrote it. Nothing was touched.
    #[error(
        "{dir} was written by a newer daemon (format {found}, this one knows up to {FORMAT}): run that one"
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// The format that it has.
        found: u32,
    },
    /// The format file is missing beside a store, or isn't one. Nothing was touched.
    #[error("{0} doesn't say which format its directory has: restore it, or use another state directory")]
    Unmarked(PathBuf),
    /// There is a domain and no store.
    #[error(
        "{0} is missing, and there is a domain whose keys were in it: restore a backup (clavigerd restore)"
    )]
    Missing(PathBuf),
    /// The operating system refused.
    #[error("can't {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database can't be read, and recovery didn't help.
    #[error("the store in {dir} is damaged ({reason}); {advice}")]
    Damaged {
        /// The database's directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do.
        advice: String,
    },
}

/// Turns an I/O error into an [`OpenError`] that says what was tried on which file.
pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}

/// A state directory that is checked, and locked against other daemons until the
/// last holder drops it. The kernel releases it with the process, however that ends.
#[derive(Debug)]
pub struct StateLock {
    dir: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl StateLock {
    /// Creates `dir` (mode 0700) if it isn't there, checks it, and locks it. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`]; where the format is newer or unknown, or another daemon holds
    /// it, nothing in the directory has been changed.
    pub fn acquire(dir: &Path) -> Result<Arc<Self>, OpenError> {
        create_private(dir)?;
        check_private(dir)?;
        // Before the lock file too: an unknown format is left as it is.
        check_format(dir)?;
        let path = dir.join(LOCK_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
        // Again, now that nobody else can write it in between.
        if !check_format(dir)? {
            write_format(dir)?;
        }
        Ok(Arc::new(Self { dir: dir.to_owned(), _file: file }))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Creates a directory with mode 0700, and those above it; one that is there stays as it is.
fn create_private(dir: &Path) -> Result<(), OpenError> {
    if dir.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

fn check_private(dir: &Path) -> Result<(), OpenError> {
    let metadata = fs::metadata(dir).map_err(io_error("look at", dir))?;
    if !metadata.is_dir() {
        return Err(OpenError::NotADirectory(dir.to_owned()));
    }
    let (owner, uid) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    if owner != uid {
        return Err(OpenError::Foreign { dir: dir.to_owned(), owner, uid });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(OpenError::Permissive { dir: dir.to_owned(), mode });
    }
    Ok(())
}

/// Whether the directory has a format file; an error where it has one that we
/// can't serve, or where it has a store and no format file.
fn check_format(dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join(FORMAT_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if dir.join(STORE_DIR).exists() { Err(OpenError::Unmarked(path)) } else { Ok(false) };
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let number = String::from_utf8(text).ok().and_then(|text| {
        let number = text.strip_prefix(FORMAT_LABEL)?.strip_suffix('\n')?;
        number.parse::<u32>().ok()
    });
    match number {
        Some(FORMAT) => Ok(true),
        Some(found) if found > FORMAT => Err(OpenError::Newer { dir: dir.to_owned(), found }),
        _ => Err(OpenError::Unmarked(path)),
    }
}

/// Writes the format file whole or not at all, and durably.
fn write_format(dir: &Path) -> Result<(), OpenError> {
    let (path, partial) = (dir.join(FORMAT_FILE), dir.join("format.new"));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        writeln!(file, "{FORMAT_LABEL}{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    };
    write().map_err(io_error("write", &path))?;
    sync_dir(dir)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(io_error("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_directory_is_made_private_and_a_second_claim_is_refused_until_the_first_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        let lock = StateLock::acquire(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let refused = StateLock::acquire(&dir).unwrap_err();
        assert!(matches!(&refused, OpenError::Locked(d) if *d == dir));
        let text = refused.to_string();
        assert!(text.contains("another daemon") && text.contains(&*dir.to_string_lossy()), "{text}");
        drop(lock);
        StateLock::acquire(&dir).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for mode in [0o720, 0o702, 0o777, 0o1777] {
            chmod(home.path(), mode);
            let refused = StateLock::acquire(home.path()).unwrap_err();
            assert!(matches!(refused, OpenError::Permissive { mode: m, .. } if m == mode), "{refused}");
        }
        chmod(home.path(), 0o750);
        StateLock::acquire(home.path()).unwrap();
    }

    #[test]
    fn another_users_directory_is_refused_untouched() {
        if !nix::unistd::geteuid().is_root() {
            return; // nobody else can give a directory away
        }
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(home.path(), Some(1234), None).unwrap();
        let refused = StateLock::acquire(home.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Foreign { owner: 1234, uid: 0, .. }), "{refused}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_newer_or_unknown_format_is_refused_untouched() {
        let home = tempfile::tempdir().unwrap();
        let list = || fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        let marker = home.path().join(FORMAT_FILE);
        fs::write(&marker, format!("{FORMAT_LABEL}2\n")).unwrap();
        assert!(matches!(StateLock::acquire(home.path()), Err(OpenError::Newer { found: 2, .. })));
        for wrong in ["", "1\n", &format!("{FORMAT_LABEL}1"), &format!("{FORMAT_LABEL}0\n")] {
            fs::write(&marker, wrong).unwrap();
            assert!(matches!(StateLock::acquire(home.path()), Err(OpenError::Unmarked(_))), "{wrong:?}");
        }
        assert_eq!(list(), [FORMAT_FILE]);
        fs::remove_file(&marker).unwrap();
        fs::create_dir(home.path().join(STORE_DIR)).unwrap();
        assert!(matches!(StateLock::acquire(home.path()), Err(OpenError::Unmarked(_))));
        assert_eq!(list(), [STORE_DIR]);
    }

    #[test]
    fn a_file_or_an_unreachable_path_is_said_plainly() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("f");
        fs::write(&file, "").unwrap();
        assert!(matches!(StateLock::acquire(&file), Err(OpenError::NotADirectory(_))));
        let below = StateLock::acquire(&file.join("x")).unwrap_err();
        assert!(below.to_string().starts_with("can't create "), "{below}");
    }
}
