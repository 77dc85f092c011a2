//! What the system says of a process, and starting one under limits.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// `command`, started by another program that becomes it (`prlimit`, `setpriv`, …).
#[must_use]
pub fn exec(by: &[&str], command: &Command) -> Command {
    let (program, arguments) = by.split_first().expect("a program");
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Stops a process, and comes back when every thread of it stands still.
pub fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).expect("the process is ours");
    let stands = |task: std::io::Result<std::fs::DirEntry>| {
        // What ends meanwhile stands still, too.
        let status = task.and_then(|task| std::fs::read_to_string(task.path().join("status")));
        status.is_ok_and(|status| status.lines().any(|line| line.starts_with("State:\tT")))
    };
    eventually("every thread stops", || {
        std::fs::read_dir(proc(pid, "task")).expect("the process is there").all(stands).then_some(())
    });
}

/// A line of /proc/PID/status, such as `VmRSS` (proc_pid_status(5)).
#[must_use]
pub fn status(pid: Pid, field: &str) -> String {
    let all = std::fs::read_to_string(proc(pid, "status")).expect("the process is there");
    let value = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in\n{all}")).trim().to_owned()
}

/// A size of /proc/PID/status, in KiB.
#[must_use]
pub fn kib(pid: Pid, field: &str) -> u64 {
    let value = status(pid, field);
    value.strip_suffix(" kB").and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("{field}: {value}"))
}

/// Soft and hard limit, by the name that /proc/PID/limits has for it.
#[must_use]
pub fn limits(pid: Pid, name: &str) -> (String, String) {
    let all = std::fs::read_to_string(proc(pid, "limits")).expect("the process is there");
    let line = all.lines().find_map(|line| line.strip_prefix(name));
    let mut words = line.unwrap_or_else(|| panic!("no {name} in\n{all}")).split_whitespace();
    let mut next = || words.next().expect("two values").to_owned();
    (next(), next())
}

/// A file of /proc/PID.
#[must_use]
pub fn proc(pid: Pid, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}
