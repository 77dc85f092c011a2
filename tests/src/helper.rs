//! The HSM's helper processes, as tests see them.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::programs::text;
use crate::site::Site;
use crate::token::{SOFTHSM_MODULE, SPY_MODULE, Token};

/// An initialised domain on SoftHSM2 with these lines in its `[[hsm]]`, and a daemon that
/// comes back to a lost HSM soon; nothing runs.
#[must_use]
pub fn initialised(member: &str) -> Site {
    let mut site = Site::bare(Token::SoftHsm);
    site.set_limits("hsm_retry = \"100ms\"");
    site.set_member(member);
    site.make_token();
    site.write_config();
    site.init_domain(&[]);
    site
}

/// Puts OpenSC's call logger before SoftHSM2; says where it writes.
pub fn spy_on(site: &mut Site) -> PathBuf {
    assert!(Path::new(SPY_MODULE).is_file(), "{SPY_MODULE} is missing: install opensc");
    let log = site.dir().join("calls");
    site.set_env("PKCS11SPY", SOFTHSM_MODULE);
    site.set_env("PKCS11SPY_OUTPUT", text(&log));
    site.set_module(SPY_MODULE);
    site.write_config();
    log
}

/// How often a PKCS#11 function was called.
#[must_use]
pub fn calls(log: &Path, function: &str) -> usize {
    let suffix = format!(": {function}");
    std::fs::read_to_string(log).unwrap_or_default().lines().filter(|line| line.ends_with(&suffix)).count()
}

/// The children of a process, zombies among them.
#[must_use]
pub fn helpers(parent: Pid) -> Vec<Pid> {
    let is_child = |stat: &str| {
        // pid (comm) state ppid …; comm may hold anything.
        let after = stat.rsplit_once(')')?.1;
        after.split_whitespace().nth(1)?.parse().ok().map(|ppid: i32| ppid == parent.as_raw())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let children = numbers.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        is_child(&stat) == Some(true)
    });
    children.map(Pid::from_raw).collect()
}

/// Signals a process of the test's own.
pub fn kill(process: Pid, signal: Signal) {
    nix::sys::signal::kill(process, signal).unwrap();
}
