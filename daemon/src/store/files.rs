//! Files and directories, for a store's opening: looked through, copied, synced, removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::open::{OpenError, io_error, sync_dir};

/// Bytes of all files below `dir`.
pub(super) fn size(dir: &Path) -> Result<u64, OpenError> {
    let mut bytes: u64 = 0;
    for (path, is_dir) in entries(dir)? {
        bytes = bytes.saturating_add(if is_dir {
            size(&path)?
        } else {
            fs::metadata(&path).map_err(io_error("look at", &path))?.len()
        });
    }
    Ok(bytes)
}

pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
    DirBuilder::new().mode(0o700).create(dir).map_err(io_error("create", dir))
}

pub(super) fn remove_tree(dir: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", dir)(error)),
        _ => Ok(()),
    }
}

pub(super) fn entries(dir: &Path) -> Result<Vec<(PathBuf, bool)>, OpenError> {
    let read = || -> io::Result<Vec<_>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            found.push((entry.path(), entry.file_type()?.is_dir()));
        }
        Ok(found)
    };
    read().map_err(io_error("read", dir))
}

/// Copies all below `from` but for the file `without`, durably.
pub(super) fn copy_tree(from: &Path, to: &Path, without: Option<&str>) -> Result<(), OpenError> {
    make_dir(to)?;
    for (path, is_dir) in entries(from)? {
        let Some(name) = path.file_name().filter(|name| without.is_none_or(|without| *name != without))
        else {
            continue;
        };
        let target = to.join(name);
        if is_dir {
            copy_tree(&path, &target, None)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    sync_dir(to)
}

/// Copies a file, durably.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), OpenError> {
    let copy = || File::open(fs::copy(from, to).map(|_| to)?)?.sync_all();
    copy().map_err(io_error("copy", from))
}

pub(super) fn remove_snapshots(dir: &Path) -> Result<(), OpenError> {
    for (path, is_dir) in entries(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !is_dir && name.starts_with("snap.") {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    sync_dir(dir)
}

/// Syncs every file and directory below `dir`, and `dir`.
pub(super) fn sync_tree(dir: &Path) -> Result<(), OpenError> {
    for (path, is_dir) in entries(dir)? {
        if is_dir {
            sync_tree(&path)?;
        } else {
            // sled's own threads may remove an old snapshot meanwhile.
            match File::open(&path).and_then(|file| file.sync_all()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("sync", &path)(error));
                }
                _ => {}
            }
        }
    }
    sync_dir(dir)
}
