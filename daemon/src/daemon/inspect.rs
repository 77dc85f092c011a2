//! What a configuration names, looked at without changing anything, connecting to
//! anything or trying a PIN: whether a daemon of this user would find it fit. Must not
//! live here: what the file itself says wrong (`config`), and what an HSM says (`hsm probe`).

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Group, User};

use super::trust;
use crate::backend::hsm::helper;
use crate::config::{Config, EndpointConfig, Isolation, MemberConfig, PinSource, TokenSource};

/// Every problem found, each a line that says what is wrong and what to do. `file` is
/// the configuration file; `uid` is the daemon's user, which has to be this process's.
#[must_use]
pub fn problems(config: &Config, file: Option<&Path>, uid: u32) -> Vec<String> {
    let mut found: Vec<String> = trust::problems(config, file, uid).iter().map(ToString::to_string).collect();
    found.extend(state_dir(&config.state_dir));
    for endpoint in config.sockets() {
        socket(endpoint, &mut found);
    }
    for member in &config.hsm {
        let what = |what: &str| format!("{what} of hsm {:?}", member.name);
        if let TokenSource::Module { path, .. } = &member.source {
            // In a unit of its own, the helper's user reads it.
            if !matches!(member.isolation, Isolation::Unit { .. }) {
                found.extend(usable(&what("the module"), path, Kind::File, AccessFlags::R_OK));
            }
        }
        if let Isolation::Process { helper: program } = &member.isolation {
            let program = program.clone().map_or_else(helper::beside, Ok);
            found.extend(executable(&what("the helper"), program, "install it, or set `helper`"));
        }
        found.extend(pin(member));
    }
    found
}

/// It is made when it isn't there, so what counts is the nearest directory that is.
fn state_dir(dir: &Path) -> Option<String> {
    let nearest = dir.ancestors().find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(dir);
    let what = if nearest == dir { "the state directory" } else { "the place of the state directory" };
    usable(what, nearest, Kind::Directory, AccessFlags::W_OK | AccessFlags::X_OK)
}

fn socket(endpoint: &EndpointConfig, found: &mut Vec<String>) {
    let name = &endpoint.name;
    if let Some(dir) = endpoint.socket.parent() {
        let what = format!("the directory of the socket of {name:?}");
        found.extend(usable(&what, dir, Kind::Directory, AccessFlags::W_OK | AccessFlags::X_OK));
    }
    let numeric = |text: &str| text.parse::<u32>().is_ok();
    let mut look = |kind: &str, wanted: Option<&String>, known: fn(&str) -> nix::Result<bool>| {
        let Some(wanted) = wanted.filter(|wanted| !numeric(wanted)) else { return };
        match known(wanted) {
            Ok(true) => {}
            Ok(false) => found.push(format!(
                "the {kind} {wanted:?} of the socket of {name:?}: there is no such {kind}: create it, or mend the name"
            )),
            Err(error) => found.push(format!("the {kind} {wanted:?} can't be looked up: {error}")),
        }
    };
    look("user", endpoint.owner.as_ref(), |name| Ok(User::from_name(name)?.is_some()));
    look("group", endpoint.group.as_ref(), |name| Ok(Group::from_name(name)?.is_some()));
}

/// A PIN that is in a file, or printed by a program; the environment and the credentials
/// are the unit's, and not there yet.
fn pin(member: &MemberConfig) -> Option<String> {
    // With a unit of its own, the PIN is that unit's.
    if matches!(member.isolation, Isolation::Unit { .. }) {
        return None;
    }
    let name = &member.name;
    match &member.pin {
        PinSource::File(path) => {
            let what = format!("the PIN file of hsm {name:?}");
            usable(&what, path, Kind::File, AccessFlags::R_OK).or_else(|| private(&what, path))
        }
        PinSource::Command(words) => {
            let program = PathBuf::from(words.first()?);
            executable(&format!("the PIN command of hsm {name:?}"), Ok(program), "install it, or mend `pin`")
        }
        PinSource::Credential(_) | PinSource::Env(_) => None,
    }
}

/// A PIN is for one user; what lets others write it, `trust` tells.
fn private(what: &str, path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let mode = path.metadata().ok()?.mode() & 0o7777;
    let told_there = mode & 0o022 != 0;
    (mode & 0o077 != 0 && !told_there).then(|| {
        format!("{what} {}: found mode {mode:04o}, expected 0600 or stricter: chmod 600", path.display())
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// Whether something of this kind is there and this user may do so with it.
fn usable(what: &str, path: &Path, kind: Kind, access: AccessFlags) -> Option<String> {
    let path_shown = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!("{what} {path_shown}: it isn't there: make it, or mend the path"));
        }
        Err(error) => return Some(format!("{what} {path_shown}: {error}: mend the path or its permissions")),
    };
    let (right, noun) = match kind {
        Kind::File => (metadata.is_file(), "file"),
        Kind::Directory => (metadata.is_dir(), "directory"),
    };
    if !right {
        return Some(format!("{what} {path_shown}: it isn't a {noun}: mend the path"));
    }
    let refused = nix::unistd::eaccess(path, access).err()?;
    Some(format!(
        "{what} {path_shown}: {}: let the daemon's user in, or run this as that user",
        refused.desc()
    ))
}

fn executable(what: &str, program: io::Result<PathBuf>, advice: &str) -> Option<String> {
    match program {
        Ok(path) => {
            usable(what, &path, Kind::File, AccessFlags::X_OK).map(|said| format!("{said} ({advice})"))
        }
        Err(error) => Some(format!("{what} can't be found: {error}; {advice}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A place where everything is as it should be; `{dir}` in `more` is where it is.
    fn place(more: &str) -> (tempfile::TempDir, Config, u32) {
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o700);
        for file in ["module.so", "pin", "helper"] {
            fs::write(dir.path().join(file), "x").unwrap();
            chmod(&dir.path().join(file), 0o700);
        }
        for sub in ["run", "state"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
            chmod(&dir.path().join(sub), 0o700);
        }
        let base = "state_dir = '{dir}/state'\n[[hsm]]\nname = 'a'\nprofile = 'softhsm2'\n\
             module = '{dir}/module.so'\ntoken_label = 't'\nhelper = '{dir}/helper'\n";
        let mut toml = base.to_owned() + more;
        if !more.contains("pin =") {
            toml = base.to_owned() + "pin = { file = '{dir}/pin' }\n" + more;
        }
        if !more.contains("[admin]") {
            toml.push_str("[admin]\nsocket = '{dir}/run/admin.sock'\n");
        }
        let toml = toml.replace("{dir}", &dir.path().display().to_string());
        let config = Config::parse(&toml, "t").unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        (dir, config, uid)
    }

    #[test]
    fn a_place_that_is_fit_has_no_problem_and_is_not_changed() {
        let (dir, config, uid) = place("");
        assert_eq!(problems(&config, None, uid), Vec::<String>::new());
        fs::remove_dir(dir.path().join("state")).unwrap();
        assert_eq!(problems(&config, None, uid), Vec::<String>::new(), "it is made at the start");
        assert!(!dir.path().join("state").exists());
    }

    #[test]
    fn each_thing_that_is_missing_or_of_another_kind_is_told() {
        for (name, part) in [("module.so", "the module"), ("pin", "the PIN file"), ("helper", "the helper")] {
            let (dir, config, uid) = place("");
            let path = dir.path().join(name);
            fs::remove_file(&path).unwrap();
            let told = problems(&config, None, uid);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(part) && told[0].contains("isn't there"), "{told:?}");
            fs::create_dir(&path).unwrap();
            chmod(&path, 0o700);
            let told = problems(&config, None, uid);
            assert!(told.len() == 1 && told[0].contains("isn't a file"), "{told:?}");
        }
        let (dir, config, uid) = place("");
        fs::remove_dir(dir.path().join("run")).unwrap();
        fs::remove_dir(dir.path().join("state")).unwrap();
        fs::write(dir.path().join("state"), "").unwrap();
        chmod(&dir.path().join("state"), 0o600);
        let told = problems(&config, None, uid);
        assert_eq!(told.len(), 2, "all are told at once: {told:?}");
        assert!(told[0].contains("the state directory") && told[0].contains("isn't a directory"), "{told:?}");
        assert!(told[1].contains("the socket of \"admin\""), "{told:?}");
    }

    #[test]
    fn modes_owners_and_programs_are_looked_at() {
        let (dir, config, uid) = place("");
        chmod(&dir.path().join("pin"), 0o644);
        let told = problems(&config, None, uid);
        assert!(told.len() == 1 && told[0].contains("mode 0644"), "{told:?}");
        chmod(&dir.path().join("pin"), 0o666);
        assert_eq!(problems(&config, None, uid).len(), 1, "told once");
        chmod(&dir.path().join("pin"), 0o600);
        chmod(&dir.path().join("helper"), 0o600);
        let told = problems(&config, None, uid);
        assert!(told.len() == 1 && told[0].contains("set `helper`"), "{told:?}");
        let (_dir, config, uid) = place(
            "[admin]\nsocket = '{dir}/run/a.sock'\nowner = 'nobody-of-this-name'\ngroup = 'nor-this'\n",
        );
        let told = problems(&config, None, uid);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("no such user") && told[1].contains("no such group"), "{told:?}");
        let (_dir, config, uid) = place("pin = { command = ['/nonexistent/pass', 'x'] }\n");
        let told = problems(&config, None, uid);
        assert!(told.len() == 1 && told[0].starts_with("the PIN command"), "{told:?}");
    }

    #[test]
    fn what_is_of_the_unit_is_not_looked_for() {
        for pin in ["pin = { env = 'NOT_SET_HERE' }\n", "pin = { credential = 'a' }\n"] {
            let (_dir, config, uid) = place(pin);
            assert_eq!(problems(&config, None, uid), Vec::<String>::new());
        }
    }
}
