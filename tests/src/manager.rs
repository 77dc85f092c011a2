//! A service manager, as far as a daemon meets one: it holds the listening sockets and
//! passes them on (sd_listen_fds(3)), and is told how the daemon is (sd_notify(3)).

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

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

/// Where a daemon says how it is. Read all the time, as a manager does: a daemon that is not
/// heard waits once its socket's queue is full.
#[derive(Debug)]
pub struct Notices {
    heard: Receiver<Notice>,
    path: PathBuf,
}

/// What is sent to ourselves: all that was said before it has been read.
const MARK: &str = "X_TESTS_MARK=1";

impl Notices {
    /// Listens in `dir`.
    #[must_use]
    pub fn listen(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len) = socket.recv(&mut buffer) {
                let notice = String::from_utf8(buffer[..len].to_vec()).expect("notices are text");
                if tell.send(Notice(notice)).is_err() {
                    return;
                }
            }
        });
        Self { heard, path }
    }

    /// For `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &str {
        text(&self.path)
    }

    /// Messages up to the first that `wanted` is true of, which is the last.
    #[must_use]
    pub fn until(&self, wanted: impl Fn(&Notice) -> bool) -> Vec<Notice> {
        let mut seen = Vec::new();
        loop {
            let notice = self.heard.recv_timeout(PATIENCE);
            seen.push(notice.unwrap_or_else(|_| panic!("not told within {PATIENCE:?}: {seen:?}")));
            if seen.last().is_some_and(&wanted) {
                return seen;
            }
        }
    }

    /// Whatever was said and not taken yet. All of it, once the daemon has ended.
    #[must_use]
    pub fn rest(&self) -> Vec<Notice> {
        self.mark().expect("the notify socket is there");
        let mut rest = self.until(|notice| notice.0 == MARK);
        rest.pop();
        rest
    }

    fn mark(&self) -> std::io::Result<usize> {
        UnixDatagram::unbound()?.send_to(MARK.as_bytes(), &self.path)
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        // Nobody takes it any more, which the reader notices; nobody may be there either.
        let (_, nobody) = channel();
        self.heard = nobody;
        let _ = self.mark();
    }
}
