//! The daemon's process as the system sees it: memory locked, no core dump, closed to
//! debuggers, descriptors enough; and what it says where it can't have that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;

use claviger_protocol::Protection;
use claviger_tests::process::{exec, kib, limits, proc};
use claviger_tests::programs::run;
use claviger_tests::{Daemon, Site, Token, each_token};

/// No privilege over memory, and little of it that may be locked.
const FEW_PAGES: [&str; 5] = [
    "prlimit",
    "--memlock=65536:65536",
    "setpriv",
    "--bounding-set=-ipc_lock,-sys_resource",
    "--inh-caps=-all",
];

fn site(lock_memory: &str) -> Arc<Site> {
    let site = Site::with_limits(Token::Embedded, "");
    let config = std::fs::read_to_string(site.config_file()).unwrap();
    std::fs::write(site.config_file(), format!("lock_memory = \"{lock_memory}\"\n{config}")).unwrap();
    site
}

fn may_lock() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn memory_is_locked_no_core_is_dumped_and_descriptors_are_raised() {
    if !may_lock() {
        eprintln!("not root: memory can't be locked here");
        return;
    }
    for token in each_token() {
        let site = Site::new(token);
        let by = ["prlimit", "--nofile=256:8192", "--core=unlimited:unlimited"];
        let mut daemon = Daemon::spawn(&site, exec(&by, &site.daemon_command()));
        daemon.wait_serving();
        let pid = daemon.pid();
        let mut admin = daemon.admin();
        let before = kib(pid, "VmLck");
        assert!(before > 0);
        // Later memory, too: nothing that is in use is outside (MCL_FUTURE).
        let key = admin.create(Protection::Hsm);
        for _ in 0..50 {
            admin.encrypt(key, &[1; 4096]);
        }
        let (locked, all) = (kib(pid, "VmLck"), kib(pid, "VmSize"));
        assert!(locked * 10 >= all * 9, "{locked} of {all} KiB are locked");
        assert_eq!(kib(pid, "VmSwap"), 0);
        // On fault: an address space of gigabytes doesn't become resident.
        assert!(kib(pid, "VmRSS") < 512 * 1024, "{} KiB", kib(pid, "VmRSS"));
        assert_eq!(limits(pid, "Max core file size"), ("0".into(), "0".into()));
        assert_eq!(limits(pid, "Max open files"), ("8192".into(), "8192".into()));
        daemon.terminate();
    }
}

#[test]
fn another_process_of_the_same_user_cannot_look_into_it() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    // A process that isn't dumpable has its /proc files owned by root (proc(5)).
    assert_eq!(std::fs::metadata(proc(daemon.pid(), "mem")).unwrap().uid(), 0);
    if may_lock() {
        daemon.terminate();
        look_as_the_same_user();
        return;
    }
    std::fs::File::open(proc(daemon.pid(), "mem")).unwrap_err();
    daemon.terminate();
}

/// The daemon as nobody in particular, and another process of that user.
fn look_as_the_same_user() {
    let somebody = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"];
    let site = Arc::new(Site::bare(Token::Embedded));
    std::os::unix::fs::chown(site.dir(), Some(54321), Some(54321)).unwrap();
    // As a unit with AmbientCapabilities=CAP_IPC_LOCK has it: nothing else.
    let by = [&somebody[..], &["--inh-caps=+ipc_lock", "--ambient-caps=+ipc_lock"]].concat();
    let mut daemon = Daemon::spawn(&site, exec(&by, &site.daemon_command()));
    daemon.wait_serving();
    let pid = daemon.pid();
    assert!(kib(pid, "VmLck") > 0, "the capability suffices");
    for file in ["mem", "environ", "maps", "auxv"] {
        let mut cat = Command::new("cat");
        cat.arg(proc(pid, file));
        let output = run(&mut exec(&somebody, &cat));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("Permission denied"), "{file}: {said}");
        assert!(output.stdout.is_empty(), "{file}");
    }
    daemon.terminate();
}

#[test]
fn memory_that_must_be_locked_and_cannot_be_is_refused_with_the_way_out() {
    let place = site("require");
    let output = run(&mut exec(&FEW_PAGES, &place.daemon_command()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["the memory can't be locked", "LimitMEMLOCK=infinity", "ulimit -l", "lock_memory = \"try\""]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!place.state_dir().join("audit.jsonl").exists(), "nothing was begun");
}

#[test]
fn memory_that_is_to_be_locked_if_possible_warns_and_off_says_nothing() {
    for (lock_memory, warns) in [("try", true), ("off", false)] {
        let site = site(lock_memory);
        let mut daemon = Daemon::spawn(&site, exec(&FEW_PAGES, &site.daemon_command()));
        daemon.wait_serving();
        assert_eq!(kib(daemon.pid(), "VmLck"), 0);
        let key = daemon.admin().create(Protection::Hsm);
        assert!(!daemon.app().encrypt(key, b"x").is_empty());
        daemon.terminate();
        let said = site.said();
        assert_eq!(said.contains("the memory could not be locked"), warns, "{said}");
    }
}

#[test]
fn too_few_descriptors_for_the_configured_connections_are_refused_with_the_numbers() {
    let site = Site::with_limits(Token::Embedded, "max_connections = 200");
    let output = run(&mut exec(&["prlimit", "--nofile=300:300"], &site.daemon_command()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["limits.max_connections", "found 200", "864", "300", "LimitNOFILE"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Exactly enough is enough.
    let mut daemon = Daemon::spawn(&site, exec(&["prlimit", "--nofile=864:864"], &site.daemon_command()));
    daemon.wait_serving();
    daemon.terminate();
}
