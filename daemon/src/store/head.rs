//! How far the store has come, kept beside sled's log: sled takes a damaged place
//! in its log for the end that a crash left, and silently drops all that follows.
//!
//! The file is written after each sync of the log and not synced itself: it may lag
//! behind the log, after power loss, and is never ahead of it. A store that opens
//! with less than it says has lost what was acknowledged. It guards against decay,
//! not against people: whoever can write it can roll it back with the store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file: the last acknowledged revision (u64 LE), then its complement. A later
/// layout is longer, which is how this one knows that it isn't meant.
pub(super) struct Head(File);

const LEN: usize = 16;

/// Where the file of a store in `dir` is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("acknowledged")
}

impl Head {
    /// Opens or makes the file, and says what it says: 0 where it is new or unreadable.
    ///
    /// # Errors
    /// `InvalidData` for the file of a newer daemon.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, u64)> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path(dir))?;
        if file.metadata()?.len() > LEN as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its file `acknowledged` is of a newer clavigerd",
            ));
        }
        let mut bytes = [0; LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        Ok((Self(file), decode(bytes).unwrap_or_default()))
    }

    /// Notes that everything up to `revision` is on the disk.
    pub(super) fn note(&self, revision: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(revision), 0)
    }
}

fn encode(revision: u64) -> [u8; LEN] {
    (u128::from(!revision) << 64 | u128::from(revision)).to_le_bytes()
}

fn decode(bytes: [u8; LEN]) -> Option<u64> {
    let (revision, _) = bytes.split_first_chunk()?;
    let revision = u64::from_le_bytes(*revision);
    (encode(revision) == bytes).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_says_what_was_noted_and_nothing_when_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (head, revision) = Head::open(dir.path()).unwrap();
        assert_eq!(revision, 0);
        head.note(7).unwrap();
        head.note(u64::MAX - 1).unwrap();
        assert_eq!(Head::open(dir.path()).unwrap().1, u64::MAX - 1);
        head.note(0x0102_0304).unwrap();
        assert_eq!(Head::open(dir.path()).unwrap().1, 0x0102_0304);
        let sound = fs::read(path(dir.path())).unwrap();
        assert_eq!(sound[..9], [4, 3, 2, 1, 0, 0, 0, 0, 0xFB]);
        for bit in 0..128 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(path(dir.path()), flipped).unwrap();
            assert_eq!(Head::open(dir.path()).unwrap().1, 0, "bit {bit}");
        }
        for longer in [17, 24, 32] {
            let file = [&sound[..], &[0; 16]].concat();
            fs::write(path(dir.path()), &file[..longer]).unwrap();
            assert_eq!(Head::open(dir.path()).map(|_| ()).unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(fs::read(path(dir.path())).unwrap(), file[..longer], "it is untouched");
        }
        for len in 0..16 {
            fs::write(path(dir.path()), &sound[..len]).unwrap();
            assert_eq!(Head::open(dir.path()).unwrap().1, 0);
        }
    }
}
