//! A service manager, as far as a daemon meets one: it holds the listening sockets and
//! passes them on (sd_listen_fds(3)), and is told how the daemon is (sd_notify(3)).

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};

use crate::PATIENCE;
use crate::process::exec;
use crate::programs::text;

/// Descriptor numbers from here on are nobody's while sockets are put in order.
const OUT_OF_THE_WAY: i32 = 100;

/// Listening sockets by name, held over the lives of many daemons.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, UnixListener)>);

impl Sockets {
    /// Listens, as a socket unit with this `FileDescriptorName=` and `SocketMode=` does.
    pub fn listen(&mut self, name: &str, path: &Path, mode: u32) {
        let socket = UnixListener::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        self.0.push((name.to_owned(), socket));
    }

    /// `command` with the sockets as its descriptors 3, 4, …
    #[must_use]
    pub fn pass_to(&self, command: &Command) -> Passing {
        let names: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        self.pass_as(command, &names.join(":"))
    }

    /// The same with other names.
    #[must_use]
    pub fn pass_as(&self, command: &Command, names: &str) -> Passing {
        let copy = |socket| fcntl(socket, FcntlArg::F_DUPFD(OUT_OF_THE_WAY)).expect("a descriptor is free");
        let copies: Vec<i32> = self.0.iter().map(|(_, socket)| copy(socket)).collect();
        let moves: Vec<_> = (3..).zip(&copies).map(|(to, from)| format!("{to}<&{from} {from}<&-")).collect();
        // The process has its pid only when it runs: a shell sets it, and becomes the daemon.
        let script = format!("exec {}; LISTEN_PID=$$ exec \"$@\"", moves.join(" "));
        let mut passing = exec(&["bash", "-c", &script, "bash"], command);
        passing.env("LISTEN_FDS", copies.len().to_string()).env("LISTEN_FDNAMES", names);
        Passing { command: passing, copies }
    }
}

/// A command that gets sockets; they are open in this process until it is dropped.
pub struct Passing {
    /// To be started once.
    pub command: Command,
    copies: Vec<i32>,
}

impl Drop for Passing {
    fn drop(&mut self) {
        for copy in &self.copies {
            let _ = nix::unistd::close(*copy);
        }
    }
}

/// One message of a daemon to its manager: `NAME=value` lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice(String);

impl Notice {
    /// The value of `NAME=`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether it says `NAME=1`.
    #[must_use]
    pub fn says(&self, name: &str) -> bool {
        self.value(name) == Some("1")
    }
}

/// Where a daemon says how it is.
#[derive(Debug)]
pub struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notices {
    /// Listens in `dir`.
    #[must_use]
    pub fn listen(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// For `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &str {
        text(&self.path)
    }

    /// Messages up to the first that `wanted` is true of, which is the last.
    #[must_use]
    pub fn until(&self, wanted: impl Fn(&Notice) -> bool) -> Vec<Notice> {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut seen = Vec::new();
        loop {
            let notice = self.receive().unwrap_or_else(|| panic!("not told within {PATIENCE:?}: {seen:?}"));
            seen.push(notice);
            if seen.last().is_some_and(&wanted) {
                return seen;
            }
        }
    }

    /// Whatever was said and not read yet. All of it, once the daemon has ended.
    #[must_use]
    pub fn rest(&self) -> Vec<Notice> {
        self.socket.set_nonblocking(true).unwrap();
        let rest = std::iter::from_fn(|| self.receive()).collect();
        self.socket.set_nonblocking(false).unwrap();
        rest
    }

    fn receive(&self) -> Option<Notice> {
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(len) => Some(Notice(String::from_utf8(buffer[..len].to_vec()).expect("notices are text"))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("the notify socket: {error}"),
        }
    }
}
