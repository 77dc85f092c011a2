//! A running `clavigerd`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs::wait;
use crate::site::Site;
use crate::wire::Wire;
use crate::{PATIENCE, eventually};

/// What the daemon prints once it serves, before its admin socket's path.
const SERVING: &str = "clavigerd: serving on ";

/// A running daemon; killed when dropped.
pub struct Daemon {
    site: Arc<Site>,
    child: Child,
    serving: Receiver<()>,
    readers: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts a daemon by this command, which becomes it (`exec`): same pid, same output.
    #[must_use]
    pub fn spawn(site: &Arc<Site>, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (said_so, serving) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![collect(stdout, &site.said, Some(said_so)), collect(stderr, &site.said, None)];
        Self { site: Arc::clone(site), child, serving, readers }
    }

    /// Waits until the daemon says that it serves.
    pub fn wait_serving(&mut self) {
        match self.serving.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => panic!("the daemon did not serve within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                let status = wait(&mut self.child);
                panic!("the daemon ended with {status} before it served");
            }
        }
    }

    /// Whether the daemon has said yet that it serves.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.serving.try_recv().is_ok()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("the process is ours");
        if status.is_some() {
            self.join_readers();
        }
        status
    }

    /// The place it runs at.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// A connection to the admin endpoint, hello said.
    #[must_use]
    pub fn admin(&self) -> Wire {
        Wire::open(&self.site.admin_socket())
    }

    /// A connection to the application endpoint, hello said.
    #[must_use]
    pub fn app(&self) -> Wire {
        Wire::open(&self.site.app_socket())
    }

    /// A connection to the admin endpoint as soon as it listens, serving or not.
    #[must_use]
    pub fn admin_when_listening(&mut self) -> Wire {
        let (site, child) = (&self.site, &mut self.child);
        eventually("the daemon listens", || {
            let ended = child.try_wait().expect("the process is ours");
            assert!(ended.is_none(), "the daemon ended with {ended:?} before it listened");
            Wire::try_open(&site.admin_socket())
        })
    }

    /// SIGKILL: nothing is finished, nothing is flushed.
    pub fn kill9(mut self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM, which must end it with success.
    pub fn terminate(mut self) {
        let status = self.end(Signal::SIGTERM);
        assert!(status.success(), "after SIGTERM the daemon ended with {status}");
    }

    /// Sends a signal and doesn't wait.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the process is ours and not waited for");
    }

    /// Waits for a daemon that ends by itself.
    pub fn wait(mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        self.join_readers();
        status
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let status = wait(&mut self.child);
        self.join_readers();
        status
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader of the daemon's output ends");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Our own child and not waited for yet, or already gone: no other process.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what programs said at {}:\n{}", self.site.dir().display(), self.site.said());
        }
    }
}

fn collect(
    from: impl Read + Send + 'static,
    to: &Arc<Mutex<Vec<u8>>>,
    serving: Option<Sender<()>>,
) -> JoinHandle<()> {
    let to = Arc::clone(to);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            to.lock().unwrap().extend_from_slice(&line);
            if line.starts_with(SERVING.as_bytes())
                && let Some(serving) = &serving
            {
                let _ = serving.send(());
            }
            line.clear();
        }
    })
}
