//! Durability, on the real daemon: killed at the writes, renames and syncs of its files,
//! with calls to the disk that fail, and with files that were damaged while it was off.
//! After each of these everything that was answered is there and right, or the daemon says
//! what is wrong; it never panics and never hangs. What the store alone stands is
//! `daemon/tests/store_suite`; full disks are `full_disk`.
//!
//! The short form runs with every other test; `make torture` takes every point there is
//! (`CLAVIGER_TORTURE=all`) and prints the counts. Faults are injected by strace(1).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use claviger_protocol::Code;
use claviger_protocol::values::{KeyState, Protection};
use claviger_tests::keys::{encryption, new_key};
use claviger_tests::process::stop;
use claviger_tests::programs::{text, tool};
use claviger_tests::wire::plain_hello;
use claviger_tests::{Daemon, Site, Token, Wire, audit, eventually};
use uuid::Uuid;

/// Keys made in one life.
const KEYS: usize = 6;
/// What a daemon answers with that could not write something, or is going.
const REFUSALS: [Code; 6] = [
    Code::StoreUnavailable,
    Code::AuditUnavailable,
    Code::ReadOnly,
    Code::HsmUnavailable,
    Code::ShuttingDown,
    Code::Busy,
];

/// Calls that change files, and the file that is meant where it must be said (`write` also
/// writes to sockets and logs).
const CHANGING: [(&str, Option<&str>); 8] = [
    ("pwrite64", None),
    ("fdatasync", None),
    ("fsync", None),
    ("sync_file_range", None),
    ("rename,renameat,renameat2", None),
    ("unlink,unlinkat", None),
    ("ftruncate", None),
    ("write", Some("audit.jsonl")),
];
/// Errors, and the calls that fail with them.
const ERRORS: [(&str, &str, Option<&str>); 12] = [
    // sled takes what it can't read for the end of its log.
    ("EIO", "pread64", Some("store/db")),
    ("EIO", "pwrite64", None),
    ("EIO", "fdatasync", None),
    ("EIO", "fsync", None),
    ("EIO", "sync_file_range", None),
    // Late: those who wait for it already do.
    ("EIO:delay_enter=300000", "sync_file_range", None),
    ("EIO", "write", Some("audit.jsonl")),
    ("ENOSPC", "pwrite64", None),
    ("ENOSPC", "rename,renameat,renameat2", None),
    ("ENOSPC", "write", Some("audit.jsonl")),
    ("EMFILE", "openat", None),
    ("ENOSPC", "fallocate", None),
];

/// Which of a call's occurrences are hit: all in the long form, until none is left.
fn occurrences(short: &[u32]) -> Box<dyn Iterator<Item = u32> + '_> {
    if std::env::var("CLAVIGER_TORTURE").is_ok_and(|form| form == "all") {
        Box::new(1..)
    } else {
        Box::new(short.iter().copied())
    }
}

/// What was answered, and so must last.
#[derive(Default)]
struct Answered {
    keys: Vec<(Uuid, Option<Vec<u8>>, KeyState)>,
}

fn open(site: &Site) -> Option<Wire> {
    let mut wire = Wire::try_connect(&site.admin_socket()).ok()?;
    wire.try_call(plain_hello())?.ok()?;
    Some(wire)
}

/// Makes keys and uses them, until the daemon is gone or it is enough.
fn work(site: &Site) -> Answered {
    let mut answered = Answered::default();
    let Some(mut wire) = open(site) else { return answered };
    let refused = |refusal: claviger_tests::Refusal| {
        assert!(REFUSALS.contains(&refusal.code), "{:?}: {}", refusal.code, refusal.message);
    };
    for number in 0..KEYS {
        let level = if number % 2 == 0 { Protection::Software } else { Protection::Hsm };
        let key_id = match wire.try_call(new_key(level)) {
            None => return answered,
            Some(Err(refusal)) => {
                refused(refusal);
                continue;
            }
            Some(Ok(reply)) => reply.key_id,
        };
        answered.keys.push((key_id, None, KeyState::Enabled));
        let last = answered.keys.len() - 1;
        match wire.try_call(encryption(key_id, key_id.as_bytes())) {
            None => return answered,
            Some(Err(refusal)) => refused(refusal),
            Some(Ok(reply)) => answered.keys[last].1 = Some(reply.ciphertext_blob.0),
        }
    }
    answered
}

/// One life under strace, which injects a fault; gives what was answered, and whether the
/// fault was met.
fn life(site: &Arc<Site>, calls: &str, file: Option<&str>, fault: &str, when: u32) -> (Answered, bool) {
    let trace = site.dir().join("trace");
    let command = site.daemon_command();
    let mut strace = Command::new("strace");
    // The daemon keeps its pid, and strace ends with it.
    strace.args(["-D", "-f", "-qq", "-o", text(&trace), "-e", &format!("trace={calls}")]);
    strace.args(["-e", &format!("inject={calls}:{fault}:when={when}")]);
    if let Some(file) = file {
        strace.args(["-P", text(&site.state_dir().join(file))]);
    }
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut daemon = Daemon::spawn(site, strace);
    let serves = eventually("it serves or ends", || {
        let serves = daemon.serves();
        (serves || daemon.ended().is_some()).then_some(serves)
    });
    let answered = if serves { work(site) } else { Answered::default() };
    let status = match daemon.ended() {
        Some(status) => status,
        None => {
            daemon.signal(nix::sys::signal::Signal::SIGTERM);
            daemon.wait()
        }
    };
    // 101: a panic.
    assert_ne!(status.code(), Some(101), "{}", site.said());
    assert!(!site.said().contains("panicked"), "{}", site.said());
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    let injected = fs::read_to_string(&trace).unwrap_or_default().contains("(INJECTED)");
    (answered, killed || injected)
}

/// A daemon without faults finds everything that was answered, and works; and the audit
/// log tells of it.
fn all_is_there(site: &Arc<Site>, answered: &Answered, how: &str) {
    keys_are_there(site, answered, how);
    let events = audit::events(&audit::path(site));
    for (key_id, _, _) in &answered.keys {
        let made = |event: &audit::Event| event.operation == "createKey" && event.resources.contains(key_id);
        assert!(events.iter().any(made), "{how}: {key_id} was answered and isn't in the log");
    }
}

fn keys_are_there(site: &Arc<Site>, answered: &Answered, how: &str) {
    let daemon = site.start();
    let mut wire = daemon.admin();
    let listed = wire.list_all();
    for (key_id, blob, state) in &answered.keys {
        let key = listed.iter().find(|key| key.key_id == *key_id);
        assert_eq!(key.map(|key| key.state), Some(*state), "{how}: {key_id}");
        if let Some(blob) = blob {
            assert_eq!(wire.decrypt(blob), Ok(key_id.as_bytes().to_vec()), "{how}: {key_id}");
        }
    }
    wire.create(Protection::Software);
    daemon.terminate();
}

#[test]
fn killed_at_its_writes_renames_and_syncs_it_loses_nothing_that_it_answered() {
    let mut points = 0;
    for (calls, file) in CHANGING {
        for when in occurrences(&[1, 3, 8]) {
            // The first start too: a fresh place each time.
            let site = Site::new(Token::Embedded);
            let (answered, hit) = life(&site, calls, file, "signal=KILL", when);
            if !hit {
                break;
            }
            points += 1;
            all_is_there(&site, &answered, &format!("killed at {calls} {when}"));
        }
    }
    eprintln!("torture: killed at {points} points, nothing lost");
    assert!(points >= 12, "{points}: the faults aren't met any more");
}

#[test]
fn calls_to_the_disk_that_fail_are_refusals_or_a_clear_end_and_lose_nothing() {
    let mut points = 0;
    for (error, calls, file) in ERRORS {
        for when in occurrences(&[2, 6]) {
            // In a life after the first: there is something to lose.
            let site = Site::new(Token::Embedded);
            let first = site.start();
            let mut answered = work(&site);
            first.terminate();
            let (more, hit) = life(&site, calls, file, &format!("error={error}"), when);
            answered.keys.extend(more.keys);
            if !hit {
                break;
            }
            points += 1;
            all_is_there(&site, &answered, &format!("{error} at {calls} {when}"));
        }
    }
    eprintln!("torture: {points} failing calls, nothing lost");
    assert!(points >= 8, "{points}: the faults aren't met any more");
}

/// An image mounted on a directory, until dropped.
struct Mount(PathBuf);

impl Mount {
    fn on(dir: &Path, image: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        tool(Command::new("mount").args(["-o", "loop", text(image), text(dir)]));
        let mounted = Self(dir.to_owned());
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
        mounted
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// kill -9 keeps what the kernel holds; a power cut doesn't. The state lies on a disk image;
/// while the daemon is stopped the image is copied, and the copy has what the disk had.
#[test]
#[ignore = "needs root, loop mounts and mkfs.ext4"]
fn power_that_fails_takes_nothing_that_was_answered() {
    for rounds in [1, 3, 10] {
        let site = Site::new(Token::Embedded);
        let (live, cut) = (site.dir().join("live"), site.dir().join("cut"));
        File::create(&live).unwrap().set_len(300 << 20).unwrap();
        tool(Command::new("mkfs.ext4").args(["-q", "-F", text(&live)]));
        let disk = Mount::on(&site.state_dir(), &live);
        let daemon = site.start();
        let mut answered = Answered::default();
        for _ in 0..rounds {
            answered.keys.extend(work(&site).keys);
        }
        assert_eq!(answered.keys.len(), rounds * KEYS);
        stop(daemon.pid());
        fs::copy(&live, &cut).unwrap();
        daemon.kill9();
        drop(disk);
        let _disk = Mount::on(&site.state_dir(), &cut);
        all_is_there(&site, &answered, &format!("power loss after {rounds} rounds"));
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.is_file() {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// A damage: its name, and what it does to a file of so many bytes.
type Damage = (&'static str, fn(&File, u64));

const DAMAGES: [Damage; 5] = [
    ("a flipped bit near the start", |file, len| flip(file, len / 64)),
    ("a flipped bit in the middle", |file, len| flip(file, len / 2)),
    ("cut in half", |file, len| file.set_len(len / 2).unwrap()),
    ("emptied", |file, _| file.set_len(0).unwrap()),
    ("a page of zeros", |file, len| {
        let page = vec![0; usize::try_from(len.min(4096)).unwrap()];
        file.write_all_at(&page, (len / 4) & !4095).unwrap();
    }),
];

fn flip(file: &File, at: u64) {
    let mut byte = [0];
    if file.read_at(&mut byte, at).unwrap() == 1 {
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }
}

#[test]
fn damaged_at_rest_it_says_so_or_has_everything() {
    let site = Site::new(Token::Embedded);
    let first = site.start();
    let answered = work(&site);
    first.terminate();
    let good = site.dir().join("good");
    let state = site.state_dir();
    tool(Command::new("cp").args(["-a", text(&state), text(&good)]));
    let (mut refused, mut served) = (0, 0);
    for file in files(&good) {
        for (what, damage) in DAMAGES {
            fs::remove_dir_all(&state).unwrap();
            tool(Command::new("cp").args(["-a", text(&good), text(&state)]));
            let damaged = state.join(file.strip_prefix(&good).unwrap());
            let open = File::options().read(true).write(true).open(&damaged).unwrap();
            damage(&open, open.metadata().unwrap().len());
            drop(open);
            let how = format!("{}: {what}", damaged.display());
            if serves(&site, &how) {
                // The audit log has no hash chain yet that would tell: keys alone.
                keys_are_there(&site, &answered, &how);
                served += 1;
            } else {
                refused += 1;
            }
        }
    }
    eprintln!("torture: {} damaged files: {refused} refused, {served} whole", refused + served);
    assert!(refused > 0 && served > 0);
}

/// Whether a daemon serves here; one that doesn't ends, or says why it is locked.
fn serves(site: &Arc<Site>, how: &str) -> bool {
    let before = site.said().len();
    let mut daemon = Daemon::spawn(site, site.daemon_command());
    let verdict = eventually(how, || {
        if daemon.serves() {
            return Some(true);
        }
        let locked = site.said()[before..].contains("stays locked");
        (daemon.ended().is_some() || locked).then_some(false)
    });
    let status = match daemon.ended() {
        Some(status) => {
            assert!(site.said().len() > before, "{how}: it ended without a word");
            status
        }
        None => {
            daemon.signal(nix::sys::signal::Signal::SIGTERM);
            daemon.wait()
        }
    };
    assert_ne!(status.code(), Some(101), "{how}: {}", &site.said()[before..]);
    assert!(!site.said()[before..].contains("panicked"), "{how}: {}", &site.said()[before..]);
    verdict
}
