//! Where a PIN comes from. It is read when a token is opened, wiped after the login,
//! and kept nowhere.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::PinSource;
use crate::edge::{self, Entropy};

/// Longest PIN that is read, in bytes.
const MAX_PIN: usize = 1024;
/// How long a PIN command may take.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// Permission bits of group and others.
const FOREIGN: u32 = 0o077;

/// Reads a PIN: the first line of what the source gives, without its line break.
///
/// # Errors
/// A text for the operator, without anything of what was read.
pub(super) fn read(source: &PinSource) -> Result<Zeroizing<String>, String> {
    match source {
        PinSource::File(path) => from_file(path),
        PinSource::Credential(name) => from_credential(name),
        PinSource::Env(name) => {
            let value = std::env::var(name).map(Zeroizing::new);
            first_line(value.map_err(|_| format!("the environment has no {name}"))?.as_bytes())
        }
        PinSource::Command(words) => from_command(words, COMMAND_TIME),
    }
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let named = |e: io::Error| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(named)?;
    // Asked of what was opened, so that it can't be swapped in between.
    let mode = file.metadata().map_err(named)?.mode();
    if mode & FOREIGN != 0 {
        return Err(format!(
            "{}: mode {:04o} lets others at the PIN; expected 0600 or stricter",
            path.display(),
            mode & 0o7777
        ));
    }
    first_line(&limited(file).map_err(named)?).map_err(|e| format!("{}: {e}", path.display()))
}

/// systemd keeps credentials in a directory that only the unit can read.
fn from_credential(name: &str) -> Result<Zeroizing<String>, String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!("{name:?} is not the name of a credential"));
    }
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or("no $CREDENTIALS_DIRECTORY: the unit passes no credentials")?;
    let path = Path::new(&dir).join(name);
    let named = |e: io::Error| format!("credential {name}: {e}");
    let read = File::open(path).and_then(limited).map_err(named)?;
    first_line(&read).map_err(|e| format!("credential {name}: {e}"))
}

fn from_command(words: &[String], within: Duration) -> Result<Zeroizing<String>, String> {
    let (program, arguments) = words.split_first().ok_or("the PIN command is empty")?;
    let output = edge::program_output(Command::new(program).args(arguments), MAX_PIN + 1, within);
    let (status, printed) = output.map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => {
            let within = humantime::format_duration(within);
            format!(
                "{program}: it has not ended within {within}; it must print the PIN and end, asking nobody"
            )
        }
        _ => format!("{program}: {e}"),
    })?;
    if !status.success() {
        return Err(format!("{program}: {status}"));
    }
    first_line(&printed).map_err(|e| format!("{program}: {e}"))
}

fn limited(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // As large as it can get, so that it never moves and leaves a copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(MAX_PIN + 2));
    source.take(MAX_PIN as u64 + 1).read_to_end(&mut out)?;
    Ok(out)
}

fn first_line(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_PIN {
        return Err(format!("the PIN is longer than {MAX_PIN} bytes"));
    }
    let text = std::str::from_utf8(line).map_err(|_| "the PIN is not UTF-8")?;
    if text.is_empty() {
        return Err("the PIN is empty".to_owned());
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a random PIN to a file of mode 0600, where there is none yet.
pub(super) fn create(path: &Path, entropy: &Entropy) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let pin = random(entropy).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(pin.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// 128 bits in hexadecimal.
pub(super) fn random(entropy: &Entropy) -> Result<Zeroizing<String>, String> {
    let bytes = Zeroizing::new(entropy.array::<16>().map_err(|e| e.to_string())?);
    Ok(Zeroizing::new(hex::encode(bytes.as_slice())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_read_is_refused_and_the_pin_is_not_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        fs::write(&path, "12345678\r\nmore").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read(&PinSource::File(path.clone())).unwrap_err();
            assert!(error.contains("expected 0600") && !error.contains("1234"), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(*read(&PinSource::File(path)).unwrap(), "12345678");
    }

    #[test]
    fn empty_long_and_binary_pins_are_refused() {
        for bad in [b"".to_vec(), b"\n1234".to_vec(), vec![b'1'; 1025], vec![0xff; 8]] {
            assert!(first_line(&bad).is_err());
        }
        assert!(first_line(&[b'1'; 1024]).is_ok());
    }

    #[test]
    fn a_command_gives_its_first_line_or_its_failure() {
        let run = |words: &[&str]| read(&PinSource::Command(words.iter().map(|w| (*w).to_owned()).collect()));
        assert_eq!(*run(&["printf", "4321\\nrest"]).unwrap(), "4321");
        assert!(run(&["false"]).unwrap_err().contains("false"));
        assert!(run(&["/nonexistent/pin"]).is_err());
        assert!(run(&[]).is_err());
        let long = "x".repeat(MAX_PIN + 1);
        assert!(run(&["printf", &long]).unwrap_err().contains("longer than"));
        assert_eq!(run(&["printf", &long[1..]]).unwrap().len(), MAX_PIN);
    }

    #[test]
    fn a_command_that_does_not_end_is_named_and_what_it_printed_is_not() {
        let words = ["sh", "-c", "echo 4321; exec sleep 1000"].map(str::to_owned);
        let error = from_command(&words, Duration::from_millis(100)).unwrap_err();
        assert!(error.starts_with("sh: it has not ended within 100ms"), "{error}");
        assert!(!error.contains("4321"), "{error}");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_whatever_it_does_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let words = |script: &str| ["sh", "-c", script].map(str::to_owned);
        let short = Duration::from_millis(300);
        let survived = dir.path().join("survived");
        let late = format!("read -r x < {0}/fifo; touch {1}", dir.path().display(), survived.display());
        let fifo = dir.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // Silent; with a PIN and its pipe open; with a PIN and its pipe closed.
        for begin in ["", "echo 12345678; ", "echo 12345678; exec >&-; "] {
            let error = from_command(&words(&format!("{begin}{late}")), short).unwrap_err();
            assert!(error.contains("within 300ms") && error.contains("sh: "), "{error}");
            assert!(!error.contains("1234"), "{error}");
        }
        // They are gone: nobody reads what they waited for.
        let mut to = OpenOptions::new();
        let error = to.write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENXIO));
        assert!(!survived.exists());
    }

    #[test]
    fn a_command_that_prints_slowly_or_too_much_is_read_to_the_bound() {
        let words = |script: &str| ["sh", "-c", script].map(str::to_owned);
        let pin = from_command(&words("printf 12; sleep 0.05; echo 34"), COMMAND_TIME).unwrap();
        assert_eq!(*pin, "1234");
        // Without an end: it is cut off at once, not waited for.
        assert!(from_command(&words("while :; do echo 1; done"), COMMAND_TIME).is_err());
    }

    #[test]
    fn a_credential_is_a_name_and_never_a_path() {
        for name in ["", "../x", "a/b", ".x"] {
            assert!(from_credential(name).unwrap_err().contains("not the name"));
        }
    }

    #[test]
    fn a_pin_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        create(&path, &Entropy::system()).unwrap();
        let first = fs::read(&path).unwrap();
        create(&path, &Entropy::system()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(first.len(), 33);
    }
}
