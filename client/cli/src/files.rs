//! Bytes in and out: standard streams, and files that appear whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use claviger_protocol::SecretBytes;
use claviger_protocol::limits::CEILING_MAX_BODY;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::failure::Failure;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// Reads a file, or standard input if there is none or its name is `-`; at most
/// one byte more than any frame could carry, so that the caller sees "too much".
///
/// # Errors
/// `Input` with exit code 2 where it can't be read.
pub(crate) async fn read(file: Option<PathBuf>) -> Result<SecretBytes, Failure> {
    named("--in", file.filter(|file| file != Path::new("-"))).await
}

/// The same for the file of another flag; without one it is standard input.
pub(crate) async fn named(flag: &'static str, file: Option<PathBuf>) -> Result<SecretBytes, Failure> {
    let reading = tokio::task::spawn_blocking(move || read_now(flag, file.as_deref()));
    reading.await.map_err(|error| Failure::local("Internal", error.to_string()))?
}

fn read_now(flag: &str, file: Option<&Path>) -> Result<SecretBytes, Failure> {
    let Some(path) = file else {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let _ = writeln!(io::stderr(), "claviger: reading from the terminal; end with Ctrl-D");
        }
        return collect(stdin.lock(), CEILING_MAX_BODY).map_err(|e| unreadable(flag, "standard input", &e));
    };
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(flag, &name, &error))?;
    collect(file, CEILING_MAX_BODY).map_err(|error| unreadable(flag, &name, &error))
}

fn unreadable(flag: &str, name: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("{name} can't be read: {error}; check {flag}"))
}

/// Reads up to `most` + 1 bytes; nothing of them is left in memory but the result.
fn collect(mut from: impl Read, most: usize) -> io::Result<SecretBytes> {
    let mut chunks: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    let mut total = 0;
    while total <= most {
        let mut chunk = Zeroizing::new(vec![0; CHUNK]);
        let mut filled = 0;
        while filled < CHUNK {
            match from.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Within the capacity, so that nothing is moved; `Zeroizing` wipes all of it.
        chunk.truncate(filled);
        total += filled;
        chunks.push(chunk);
        if filled < CHUNK {
            break;
        }
    }
    let mut whole = Vec::with_capacity(total);
    for chunk in &chunks {
        whole.extend_from_slice(chunk);
    }
    if whole.len() > most + 1 {
        whole[most + 1..].zeroize();
        whole.truncate(most + 1);
    }
    Ok(SecretBytes::new(whole))
}

/// Where bytes go.
pub(crate) enum Sink {
    /// Standard output.
    Stdout,
    /// A regular file that appears when it is complete.
    File(PendingFile),
    /// Something that is there and isn't a regular file: a pipe, a device.
    Direct(File, PathBuf),
}

impl Sink {
    /// Opens a sink before the call is made, so that a path that can't be written
    /// costs nothing; `-` is standard output.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::Stdout);
        };
        let unwritable =
            |error: io::Error| Failure::usage(format!("{} can't be written: {error}", path.display()));
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => Err(Failure::usage(format!("{} is a directory", path.display()))),
            Ok(there) if !there.is_file() => OpenOptions::new()
                .write(true)
                .open(path)
                .map(|file| Self::Direct(file, path.to_owned()))
                .map_err(unwritable),
            // Through a link, so that the link stays one.
            Ok(_) => fs::canonicalize(path).and_then(PendingFile::create).map(Self::File).map_err(unwritable),
            Err(_) => PendingFile::create(path.to_owned()).map(Self::File).map_err(unwritable),
        }
    }

    /// Whether raw bytes would go to a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout) && io::stdout().is_terminal()
    }

    /// Whether it is standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// Writes all of `bytes`; a regular file still has to be [`Sink::finish`]ed.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout => to_stdout(Zeroizing::new(bytes.to_vec())).await,
            Self::File(file) => file.write(bytes),
            Self::Direct(file, path) => file.write_all(bytes).map_err(|error| broken(path, &error)),
        }
    }

    /// Puts a regular file in its place.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::File(file) => file.put_in_place(),
            Self::Stdout | Self::Direct(..) => Ok(()),
        }
    }
}

/// Writes to standard output on a thread, which a signal needn't wait for.
pub(crate) async fn to_stdout(bytes: Zeroizing<Vec<u8>>) -> Result<(), Failure> {
    let writing = tokio::task::spawn_blocking(move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes).and_then(|()| stdout.flush())
    });
    let written = writing.await.map_err(|error| Failure::local("Internal", error.to_string()))?;
    written.map_err(|error| Failure::output(&error))
}

fn broken(path: &Path, error: &io::Error) -> Failure {
    Failure::local("Output", format!("{} can't be written: {error}", path.display()))
}

/// A file of mode 0600 beside its target, that takes the target's place when it is
/// complete, and goes away if that never happens.
pub(crate) struct PendingFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl PendingFile {
    pub(crate) fn create(target: PathBuf) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        // 32 of the name's bytes are enough to recognise it, and keep within NAME_MAX.
        let short: String = name.chars().take(8).collect();
        let unique = Uuid::from_bytes(claviger_client::client_token()).simple();
        let temporary = target.with_file_name(format!(".{short}.{unique}.tmp"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(Self { file, temporary, target })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| broken(&self.target, &error))
    }

    pub(crate) fn put_in_place(self) -> Result<(), Failure> {
        let placed = self.file.sync_all().and_then(|()| fs::rename(&self.temporary, &self.target));
        // The directory too, or the name could be lost with the power.
        let dir = self.target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let placed = placed.and_then(|()| File::open(dir)?.sync_all());
        placed.map_err(|error| broken(&self.target, &error))
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        // After the rename there is nothing of this name left.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn collects_across_chunks_and_stops_one_past_the_limit() {
        for (have, most, want) in [
            (0, 10, 0),
            (10, 10, 10),
            (11, 10, 11),
            (CHUNK, CHUNK, CHUNK),
            (3 * CHUNK + 5, usize::MAX - 1, 3 * CHUNK + 5),
            (5 * CHUNK, CHUNK, CHUNK + 1),
        ] {
            let bytes: Vec<u8> = (0..have).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let got = collect(bytes.as_slice(), most).unwrap();
            assert_eq!(got.expose(), &bytes[..want], "{have} {most}");
        }
    }

    #[tokio::test]
    async fn a_file_appears_whole_with_mode_0600_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, "before").unwrap();
        let mut sink = Sink::open(Some(&path)).unwrap();
        sink.write(b"after").await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        sink.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[tokio::test]
    async fn what_is_not_finished_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::open(Some(&dir.path().join("out"))).unwrap();
        sink.write(b"half").await.unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        drop(sink);
        assert!(names(dir.path()).is_empty());
    }

    #[tokio::test]
    async fn links_stay_links_and_devices_stay_devices() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "before").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut sink = Sink::open(Some(&link)).unwrap();
        sink.write(b"after").await.unwrap();
        sink.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"after");
        let mut sink = Sink::open(Some(Path::new("/dev/null"))).unwrap();
        sink.write(b"gone").await.unwrap();
        sink.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_place_that_can_not_be_written_is_bad_usage_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Sink::open(Some(dir.path())).is_err());
        assert!(Sink::open(Some(&dir.path().join("no/such/dir"))).is_err());
        assert!(matches!(Sink::open(Some(Path::new("-"))), Ok(Sink::Stdout)));
    }
}
