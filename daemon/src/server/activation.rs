//! Sockets that the service manager made and passes (sd_listen_fds(3)), adopted by
//! name: `admin`, or an endpoint's. They are the service manager's: clients may
//! connect while no daemon runs, and nothing here changes or removes their files.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

use crate::config::EndpointConfig;

/// Passed sockets that can't be served.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// As many names as sockets are needed.
    #[error(
        "found {names} names in LISTEN_FDNAMES for {sockets} passed sockets, expected one each: give every socket unit a FileDescriptorName="
    )]
    Names {
        /// Names.
        names: usize,
        /// Sockets.
        sockets: usize,
    },
    /// Two sockets of one name.
    #[error("two passed sockets are named {0:?}: give every socket unit a FileDescriptorName= of its own")]
    Twice(String),
    /// No endpoint has that name.
    #[error(
        "a socket named {0:?} was passed and no endpoint has that name: FileDescriptorName= is \"admin\" or an [[endpoint]]'s name"
    )]
    Unknown(String),
    /// It isn't what a daemon can serve.
    #[error("the passed socket {name:?}: {problem}")]
    Unfit {
        /// Its name.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// The sockets that were passed, by name.
#[derive(Debug, Default)]
pub struct Passed(BTreeMap<String, UnixListener>);

impl Passed {
    /// Takes what the environment names (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`).
    /// Once: before other descriptors are opened.
    ///
    /// # Errors
    /// [`PassedError`] where they are not named one by one, or aren't Unix stream sockets.
    pub fn from_environment() -> Result<Self, PassedError> {
        // Variables of somebody else, a parent's as a rule, mean nothing.
        let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        if !ours {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = listenfd::ListenFd::from_env();
        let names = name_each(&names, descriptors.len())?;
        let mut sockets = BTreeMap::new();
        for (index, name) in names.into_iter().enumerate() {
            let taken = descriptors.take_unix_listener(index).and_then(|taken| {
                taken.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such descriptor"))
            });
            let socket = taken
                .map_err(|error| unfit(&name, format!("{error}; expected ListenStream= with a path")))?;
            if sockets.insert(name.clone(), socket).is_some() {
                return Err(PassedError::Twice(name));
            }
        }
        Ok(Self(sockets))
    }

    /// The endpoint's socket, if one was passed for it.
    ///
    /// # Errors
    /// [`PassedError::Unfit`] where it listens elsewhere than the configuration says, or
    /// lets in more than the configuration does.
    pub(super) fn take(&mut self, config: &EndpointConfig) -> Result<Option<UnixListener>, PassedError> {
        let Some(socket) = self.0.remove(&config.name) else { return Ok(None) };
        let named = |problem| unfit(&config.name, problem);
        if !getsockopt(&socket, sockopt::AcceptConn).is_ok_and(|listens| listens) {
            return Err(named("it does not listen; expected ListenStream=, with Accept=no".to_owned()));
        }
        let path = socket.local_addr().ok().and_then(|address| address.as_pathname().map(PathBuf::from));
        if path.as_deref() != Some(config.socket.as_path()) {
            let found = path.map_or_else(|| "no path".to_owned(), |path| path.display().to_string());
            let expected = config.socket.display();
            return Err(named(format!("it listens on {found}, and the configuration says {expected}")));
        }
        no_wider(&config.socket, config.mode).map_err(named)?;
        socket.set_nonblocking(true).map_err(|error| named(error.to_string()))?;
        Ok(Some(socket))
    }

    /// To be asked before an endpoint takes its own: one that misses its socket for a
    /// wrong name would find its path in use, and say that instead.
    ///
    /// # Errors
    /// [`PassedError::Unknown`] where one is of no endpoint.
    pub(crate) fn only_of(&self, endpoints: &[&str]) -> Result<(), PassedError> {
        let unknown = self.0.keys().find(|name| !endpoints.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| Err(PassedError::Unknown(name.clone())))
    }
}

/// A passed socket's file may be stricter than the configuration, not laxer.
fn no_wider(path: &Path, mode: u32) -> Result<(), String> {
    let found =
        std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.mode() & 0o777;
    if found & !mode == 0 {
        return Ok(());
    }
    Err(format!(
        "{} has mode {found:04o}, expected {mode:04o} or stricter: set SocketMode={mode:04o}, or mode in the configuration",
        path.display()
    ))
}

/// One name for each of so many sockets.
fn name_each(names: &str, sockets: usize) -> Result<Vec<String>, PassedError> {
    let names: Vec<String> = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() == sockets { Ok(names) } else { Err(PassedError::Names { names: names.len(), sockets }) }
}

fn unfit(name: &str, problem: String) -> PassedError {
    PassedError::Unfit { name: name.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn config(socket: &Path, mode: u32) -> EndpointConfig {
        EndpointConfig {
            name: "app".into(),
            socket: socket.to_owned(),
            mode,
            owner: None,
            group: None,
            service: None,
        }
    }

    fn passed(name: &str, path: &Path) -> Passed {
        Passed(BTreeMap::from([(name.to_owned(), UnixListener::bind(path).unwrap())]))
    }

    #[test]
    fn every_socket_has_a_name() {
        assert_eq!(name_each("admin:app", 2).unwrap(), ["admin", "app"]);
        assert_eq!(name_each("", 0).unwrap(), Vec::<String>::new());
        for (names, sockets) in [("", 1), ("admin", 2), ("admin:app", 1), ("admin:", 2)] {
            assert!(name_each(names, sockets).is_err(), "{names} {sockets}");
        }
    }

    #[test]
    fn a_socket_goes_to_the_endpoint_of_its_name_and_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let mut sockets = passed("app", &path);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(sockets.take(&config(&path, 0o600)).unwrap().is_some());
        assert!(sockets.take(&config(&path, 0o600)).unwrap().is_none());
    }

    #[test]
    fn another_path_a_wider_mode_and_an_unknown_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let refused = passed("app", &path("1")).take(&config(&path("other"), 0o777)).unwrap_err().to_string();
        assert!(refused.contains("the configuration says"), "{refused}");
        let mut wide = passed("app", &path("2"));
        std::fs::set_permissions(path("2"), Permissions::from_mode(0o666)).unwrap();
        let refused = wide.take(&config(&path("2"), 0o660)).unwrap_err().to_string();
        assert!(refused.contains("0666") && refused.contains("SocketMode=0660"), "{refused}");
        let passed = passed("apps", &path("3"));
        let refused = passed.only_of(&["admin", "app"]).unwrap_err().to_string();
        assert!(refused.contains("\"apps\""), "{refused}");
        passed.only_of(&["admin", "apps"]).unwrap();
    }
}
