//! The daemon does all its work within what its unit allows: its system calls and
//! address families are checked against the unit's own filter, and it serves inside
//! what can be had of the unit's sandbox without systemd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use claviger_tests::manager::Notices;
use claviger_tests::process::{exec, kib};
use claviger_tests::programs::{run, text, tool};
use claviger_tests::{Daemon, Site, Token, each_token, eventually};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

fn unit() -> String {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/clavigerd.service");
    std::fs::read_to_string(unit).unwrap()
}

/// A directive's values, line by line.
fn values(unit: &str, name: &str) -> Vec<String> {
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    unit.lines().filter_map(of).collect()
}

/// The system calls behind a name of SystemCallFilter=, groups opened.
fn calls(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let shown = tool(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", name]));
    let shown = String::from_utf8(shown).unwrap();
    let members =
        shown.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.flat_map(calls).collect()
}

/// What the unit's filter lets through: names are added, and those after a tilde taken away.
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in values(unit, "SystemCallFilter") {
        let (takes_away, names) =
            line.strip_prefix('~').map_or((false, line.as_str()), |names| (true, names));
        let opened: BTreeSet<String> = names.split_whitespace().flat_map(calls).collect();
        if takes_away {
            allowed.retain(|call| !opened.contains(call));
        } else {
            allowed.extend(opened);
        }
    }
    assert!(allowed.contains("read") && !allowed.contains("reboot"), "a filter was understood");
    allowed
}

/// Starts, serves, reads its configuration again, and stops. Gives the pid that it had.
fn whole_life(site: &Arc<Site>, by: &[&str]) -> Pid {
    let notices = Notices::listen(site.dir());
    let mut command = exec(by, &site.daemon_command());
    command.env("NOTIFY_SOCKET", notices.path()).env("WATCHDOG_USEC", "200000");
    let mut daemon = Daemon::spawn(site, command);
    daemon.wait_serving();
    for level in claviger_tests::keys::LEVELS {
        let key = daemon.admin().create(level);
        let blob = daemon.app().encrypt(key, b"inside");
        assert_eq!(daemon.app().decrypt(&blob), Ok(b"inside".to_vec()));
    }
    daemon.signal(Signal::SIGHUP);
    let _ = notices.until(|notice| notice.says("RELOADING"));
    let _ = notices.until(|notice| notice.says("WATCHDOG"));
    let pid = daemon.pid();
    daemon.terminate();
    pid
}

/// The system calls of a daemon's whole life, its helper's among them: `name(arguments…`.
fn traced(token: Token) -> Vec<String> {
    let site = Site::with_sections(token, |site| {
        format!("[metrics]\nlisten = \"unix:{}\"\n", site.metrics_socket().display())
    });
    let trace = site.dir().join("trace");
    // -D: the daemon stays our own child.
    let pid = whole_life(&site, &["strace", "-D", "-f", "-q", "-o", text(&trace)]);
    // The tracer writes in its own time, the daemon's last call too.
    let pid = pid.to_string();
    let last = |line: &str| line.starts_with(&pid) && line.contains("exit_group(0");
    let whole = || std::fs::read_to_string(&trace).ok().filter(|trace| trace.lines().any(last));
    let trace = eventually("the trace is whole", whole);
    let calls = trace.lines().filter_map(|line| line.split_once(' ')).map(|(_, call)| call.trim_start());
    calls.map(str::to_owned).collect()
}

#[test]
fn every_system_call_of_a_whole_life_is_in_the_units_filter() {
    let unit = unit();
    let allowed = allowed(&unit);
    let families = values(&unit, "RestrictAddressFamilies").join(" ");
    for token in each_token() {
        let mut used = BTreeSet::new();
        for line in traced(token) {
            let Some((call, arguments)) = line.split_once('(') else { continue };
            if call.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                continue;
            }
            used.insert(call.to_owned());
            if matches!(call, "socket" | "socketpair") {
                let family = arguments.split([',', '|']).next().unwrap();
                assert!(families.split(' ').any(|known| known == family), "{line}");
            }
        }
        assert!(used.contains("mlockall") && used.contains("fdatasync"), "a whole life: {used:?}");
        let denied: Vec<&String> = used.difference(&allowed).collect();
        assert!(denied.is_empty(), "{token:?}: not in SystemCallFilter: {denied:?}");
        println!("{token:?}: {} system calls, all of them allowed: {used:?}", used.len());
    }
}

/// Read-only everywhere but at its own place, no network, no other's processes' memory,
/// no privilege but the one over memory that the tests lack a limit for.
fn sandbox(site: &Site) -> Vec<String> {
    let dir = text(site.dir());
    let script = format!(
        "mount --make-rprivate / && mount --bind {dir} {dir} && mount -o remount,bind,ro / && exec \"$@\""
    );
    let words = ["unshare", "--mount", "--net", "--ipc", "bash", "-c", &script, "bash"];
    let drop = [
        "setpriv",
        "--no-new-privs",
        "--bounding-set=-all,+ipc_lock",
        "--inh-caps=-all",
        "--ambient-caps=-all",
    ];
    words.iter().chain(&drop).map(|word| (*word).to_owned()).collect()
}

#[test]
fn it_serves_on_a_read_only_system_without_network_or_privileges() {
    let can = Command::new("unshare").args(["--mount", "--net", "--ipc", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("namespaces can't be made here");
        return;
    }
    let site = Site::with_limits(Token::Embedded, "");
    let sandbox = sandbox(&site);
    let words: Vec<&str> = sandbox.iter().map(String::as_str).collect();
    // It is one: elsewhere nothing can be written.
    let mut outside = exec(&words, Command::new("touch").arg("/claviger-was-here"));
    let refused = run(&mut outside);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("Read-only file system"), "{said}");
    whole_life(&site, &words);
    let mut daemon = Daemon::spawn(&site, exec(&words, &site.daemon_command()));
    daemon.wait_serving();
    assert!(kib(daemon.pid(), "VmLck") > 0);
    daemon.terminate();
}
