//! The binaries under test, and running them with a deadline.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use crate::PATIENCE;

/// A binary of this workspace, beside the running test's directory.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let target = test.ancestors().nth(2).expect("tests run from target/<profile>/deps");
    let binary = target.join(name);
    assert!(binary.is_file(), "{} is missing: run `cargo build --workspace --bins` first", binary.display());
    binary
}

/// `clavigerd` with these arguments, ready to be run.
#[must_use]
pub fn clavigerd<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(binary("clavigerd"));
    command.args(args);
    command
}

/// Runs a command that ends by itself, with these bytes on its standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    // Its own thread: the program may write before it has read all. It may also
    // end without reading at all.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let killer = Killer::after_patience(&child);
    let output = child.wait_with_output().expect("the program can be waited for");
    killer.disarm(command);
    feeder.join().expect("the feeder ends");
    output
}

/// Runs a command that ends by itself.
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, &[])
}

/// Runs a tool of the test's own that must succeed.
pub fn tool(command: &mut Command) -> Vec<u8> {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Waits for a process that was told to end.
pub fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the process is ours") {
            return status;
        }
        if began.elapsed() >= PATIENCE {
            let _ = child.kill();
            panic!("the process did not end within {PATIENCE:?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Kills a process that hangs, so that the test ends with a message.
struct Killer {
    done: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<bool>,
}

impl Killer {
    fn after_patience(child: &Child) -> Self {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let hangs = wait.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if hangs {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            hangs
        });
        Self { done, thread }
    }

    fn disarm(self, command: &Command) {
        drop(self.done);
        assert!(!self.thread.join().expect("the killer ends"), "{command:?} hung for {PATIENCE:?}");
    }
}

/// A path as text.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}
