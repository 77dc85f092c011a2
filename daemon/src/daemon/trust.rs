//! Whether what the daemon relies on is out of others' reach: the state directory and
//! what is in it, the directories of its sockets, the PIN and configuration files. Each
//! is to be the daemon's user's or root's, and writable by nobody else. Looks, and
//! changes nothing.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, PinSource};

/// Permission bits that let group and others write.
const FOREIGN_WRITE: u32 = 0o022;

/// How far down the state directory is looked at: the store has a directory in it.
const STATE_DEPTH: u32 = 3;

/// Something that others can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// What it is for.
    what: String,
    path: PathBuf,
    found: String,
    expected: String,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, path, found, expected } = self;
        write!(f, "{what} {}: found {found}, expected {expected}", path.display())
    }
}

/// Everything that others can change, for a daemon of this user. What isn't there is
/// nothing to distrust: whoever needs it says so.
#[must_use]
pub fn problems(config: &Config, file: Option<&Path>, uid: u32) -> Vec<Distrust> {
    let mut found = Vec::new();
    let mut look = |what: &str, path: &Path| found.extend(distrust(what, path, uid));
    if let Some(file) = file {
        look("the configuration file", file);
        // Whoever can write there can put another file in its place.
        let dir = std::path::absolute(file).ok().and_then(|file| Some(file.parent()?.to_owned()));
        look("the directory of the configuration file", &dir.unwrap_or_default());
    }
    look("the state directory", &config.state_dir);
    for path in within(&config.state_dir, STATE_DEPTH) {
        look("in the state directory,", &path);
    }
    for endpoint in config.sockets() {
        if let Some(dir) = endpoint.socket.parent() {
            look(&format!("the directory of the socket of {:?},", endpoint.name), dir);
        }
    }
    for member in &config.hsm {
        if let PinSource::File(pin) = &member.pin {
            look(&format!("the PIN file of {:?},", member.name), pin);
            if let Some(dir) = pin.parent() {
                look(&format!("the directory of the PIN file of {:?},", member.name), dir);
            }
        }
    }
    found
}

/// Everything in a directory and those below it, but sockets: these have the mode that the
/// configuration gives them. Links are followed: what counts is what will be used.
fn within(dir: &Path, depth: u32) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = std::fs::metadata(&path).map(|metadata| metadata.file_type());
        if kind.as_ref().is_ok_and(std::os::unix::fs::FileTypeExt::is_socket) {
            continue;
        }
        if kind.is_ok_and(|kind| kind.is_dir()) && depth > 1 {
            all.extend(within(&path, depth - 1));
        }
        all.push(path);
    }
    all
}

/// A link is followed.
fn distrust(what: &str, path: &Path, uid: u32) -> Option<Distrust> {
    let of = |found: String, expected: &str| Distrust {
        what: what.to_owned(),
        path: path.to_owned(),
        found,
        expected: expected.to_owned(),
    };
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return Some(of(error.to_string(), "something that the daemon may look at")),
        Ok(metadata) => metadata,
    };
    if metadata.uid() != uid && metadata.uid() != 0 {
        let expected = format!("the daemon's user ({uid}) or root: chown it");
        return Some(of(format!("owner {}", metadata.uid()), &expected));
    }
    let mode = metadata.mode() & 0o7777;
    // The sticky bit doesn't help: others may still put something there first.
    if mode & FOREIGN_WRITE != 0 {
        let best = if metadata.is_dir() { "0700" } else { "0600" };
        let expected = format!("no write permission for group and others ({best} is best): chmod go-w");
        return Some(of(format!("mode {mode:04o}"), &expected));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A private place with everything that is looked at, and its configuration.
    fn place() -> (tempfile::TempDir, Config, u32) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["state", "state/store", "state/store/blobs", "run", "app", "metrics", "pins"] {
            fs::create_dir(path(name)).unwrap();
            chmod(&path(name), 0o700);
        }
        for name in ["state/audit.jsonl", "state/store/db", "pins/a", "claviger.toml"] {
            fs::write(path(name), "").unwrap();
            chmod(&path(name), 0o600);
        }
        let toml = format!(
            "state_dir = {:?}\n[admin]\nsocket = {:?}\n[[endpoint]]\nname = \"app\"\nsocket = {:?}\n\
             [[hsm]]\nname = \"a\"\nprofile = \"embedded\"\npin = {{ file = {:?} }}\n\
             [metrics]\nlisten = \"unix:{}\"\n",
            path("state"),
            path("run/admin.sock"),
            path("app/app.sock"),
            path("pins/a"),
            path("metrics/m.sock").display(),
        );
        let config = Config::parse(&toml, "t").unwrap();
        let uid = fs::metadata(dir.path()).unwrap().uid();
        (dir, config, uid)
    }

    #[test]
    fn each_thing_that_others_can_write_is_told_with_its_mode() {
        let (dir, config, uid) = place();
        let file = dir.path().join("claviger.toml");
        assert_eq!(problems(&config, Some(&file), uid), []);
        for name in [
            "state",
            "state/audit.jsonl",
            "state/store",
            "state/store/db",
            "state/store/blobs",
            "run",
            "app",
            "metrics",
            "pins",
            "pins/a",
            "claviger.toml",
        ] {
            let path = dir.path().join(name);
            let usual = fs::metadata(&path).unwrap().mode() & 0o777;
            for more in [0o020, 0o002, 0o022, 0o1022] {
                chmod(&path, usual | more);
                let told = problems(&config, Some(&file), uid);
                assert_eq!(told.len(), 1, "{told:?}");
                let text = told[0].to_string();
                let mode = format!("mode {:04o}", usual | more);
                assert!(text.contains(&mode) && text.contains(&path.display().to_string()), "{text}");
            }
            chmod(&path, usual);
        }
    }

    #[test]
    fn a_link_is_what_it_leads_to() {
        let (dir, config, uid) = place();
        let (log, elsewhere) = (dir.path().join("state/audit.jsonl"), dir.path().join("elsewhere"));
        fs::rename(&log, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
        assert_eq!(problems(&config, None, uid), []);
        chmod(&elsewhere, 0o666);
        assert_eq!(problems(&config, None, uid).len(), 1);
    }

    #[test]
    fn what_belongs_to_somebody_else_is_told() {
        let (_dir, config, uid) = place();
        // The same place, seen by a daemon of another user.
        if uid == 0 {
            let pin = PinSource::File(config.state_dir.parent().unwrap().join("pins/a"));
            let PinSource::File(path) = &pin else { unreachable!() };
            std::os::unix::fs::chown(path, Some(1234), None).unwrap();
            let told = problems(&config, None, 0);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].to_string().contains("owner 1234"), "{}", told[0]);
            assert_eq!(problems(&config, None, 1234), [], "root's and its own are trusted");
        } else {
            assert_eq!(problems(&config, None, uid + 1).len(), 10);
        }
    }

    #[test]
    fn what_is_not_there_is_not_distrusted() {
        let (dir, config, uid) = place();
        drop(dir);
        assert_eq!(problems(&config, Some(Path::new("/nonexistent/x")), uid), []);
    }
}
