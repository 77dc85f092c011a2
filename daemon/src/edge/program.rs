//! Running another program to its end, or to the end of its time.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

/// Pause between two looks at whether a program has ended that prints no more.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Runs a program without input, and gives what it prints, at most `most` bytes of it
/// and in memory that never moves. One that hasn't ended `within` that time is killed,
/// with the programs that it started: it is in a process group of its own, which a
/// terminal takes for one in the background.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::TimedOut`] when its time is over.
pub fn output(
    command: &mut Command,
    most: usize,
    within: Duration,
) -> io::Result<(ExitStatus, Zeroizing<Vec<u8>>)> {
    let due = Instant::now() + within;
    let command = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running { child: command.spawn()?, ended: false };
    let mut printed = Zeroizing::new(Vec::with_capacity(most));
    if let Some(mut stdout) = running.child.stdout.take() {
        while printed.len() < most && wait_to_read(&stdout, due)? {
            let filled = printed.len();
            printed.resize(most, 0);
            let read = stdout.read(&mut printed[filled..]);
            printed.truncate(filled + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                break;
            }
        }
    }
    loop {
        if let Some(status) = running.child.try_wait()? {
            running.ended = true;
            return Ok((status, printed));
        }
        left(due)?;
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A program that is not left alone: unless it was seen to end, it is killed with its
/// group when dropped.
struct Running {
    child: Child,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Alive or not, it was not waited for: its number, and its group's, is its own.
        if let (false, Ok(group)) = (self.ended, i32::try_from(self.child.id())) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Waits until there is something to read, or the end of it.
fn wait_to_read(from: &impl AsFd, due: Instant) -> io::Result<bool> {
    loop {
        let timeout = PollTimeout::try_from(left(due)?).unwrap_or(PollTimeout::MAX);
        let mut wanted = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, timeout) {
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The time that is left, rounded up to what poll(2) counts in.
fn left(due: Instant) -> io::Result<Duration> {
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "its time is over"));
    }
    Ok(left.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_prints_is_given_up_to_the_bound() {
        let long = Duration::from_mins(1);
        let (status, printed) = output(&mut sh("printf abc; printf def"), 5, long).unwrap();
        assert_eq!((status.success(), printed.as_slice()), (true, &b"abcde"[..]));
        let (status, printed) = output(&mut sh("exit 3"), 5, long).unwrap();
        assert_eq!((status.code(), printed.len(), printed.capacity()), (Some(3), 0, 5));
        // One that prints on and on is not waited for: its pipe is closed.
        assert!(!output(&mut sh("exec yes"), 5, long).unwrap().0.success());
        assert!(output(&mut Command::new("/nonexistent/x"), 5, long).is_err());
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_those_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("held");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Silent; trickling; gone while a child of it holds the pipe; silent with its pipe
        // closed. Each holds the fifo open for writing, in a child of its own.
        for end in ["wait", "while printf x; do sleep 0.01; done", "exit 0", "exec 1>&-; wait"] {
            let script = format!("sleep 1000 3>{} & {end}", fifo.display());
            let held = std::thread::spawn({
                let fifo = fifo.clone();
                move || std::fs::read(fifo).map(|_| ())
            });
            let ended = output(&mut sh(&script), 1 << 20, Duration::from_millis(300));
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut, "{end}");
            // The end of the fifo is the end of all who held it.
            held.join().unwrap().unwrap();
        }
    }
}
