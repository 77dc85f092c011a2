//! A daemon doesn't run on what others can change: each such thing is named with what was
//! found and what was expected, and nothing is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use claviger_tests::process::exec;
use claviger_tests::programs::{run, text};
use claviger_tests::token::PIN;
use claviger_tests::{Daemon, Site, Token, each_token};

/// Nobody in particular, and not who runs the tests.
const SOMEBODY: u32 = 54321;

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

/// What a daemon says that doesn't start.
fn refused(command: &mut Command) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "it didn't serve");
    said
}

/// A place with every kind of thing that is looked at, each in a directory of its own.
fn place(token: Token) -> Arc<Site> {
    let site = Site::with_sections(token, |site| {
        for name in ["apps", "metrics"] {
            std::fs::create_dir(site.dir().join(name)).unwrap();
            chmod(&site.dir().join(name), 0o750);
        }
        let path = |name: &str| site.dir().join(name).display().to_string();
        format!(
            "[[endpoint]]\nname = \"more\"\nsocket = \"{}\"\n[metrics]\nlisten = \"unix:{}\"\n",
            path("apps/more.sock"),
            path("metrics/metrics.sock")
        )
    });
    // With everything that a daemon leaves.
    site.start().terminate();
    site
}

/// Everything that must be out of others' reach.
fn guarded(site: &Site) -> Vec<PathBuf> {
    let inside = std::fs::read_dir(site.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = inside.collect();
    assert!(all.len() >= 3, "store, audit log, domain: {all:?}");
    all.extend(["state", "apps", "metrics", "pin", "claviger.toml", ""].map(|name| site.dir().join(name)));
    all
}

#[test]
fn what_group_or_others_can_write_is_refused_with_path_found_and_expected() {
    for token in each_token() {
        let site = place(token);
        for path in guarded(&site) {
            let usual = mode(&path);
            for more in [0o020, 0o002] {
                chmod(&path, usual | more);
                let said = refused(&mut site.daemon_command());
                let path = text(&path).trim_end_matches('/');
                let found = format!("{path}: found mode {:04o}", usual | more);
                let found_dir = format!("{path}/: found mode {:04o}", usual | more);
                assert!(said.contains(&found) || said.contains(&found_dir), "{found}: {said}");
                assert!(said.contains("expected no write permission for group and others"), "{said}");
                assert!(said.contains("chmod go-w") && !said.contains(PIN), "{said}");
            }
            assert_eq!(mode(&path), usual | 0o002, "it only looks");
            chmod(&path, usual);
        }
        site.start().terminate();
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let site = place(Token::Embedded);
    let wrong = ["state", "metrics", "claviger.toml"].map(|name| site.dir().join(name));
    let usual = wrong.each_ref().map(|path| mode(path));
    wrong.iter().zip(usual).for_each(|(path, usual)| chmod(path, usual | 0o022));
    let said = refused(&mut site.daemon_command());
    for path in &wrong {
        assert_eq!(said.matches(text(path)).count(), 1, "{said}");
    }
    wrong.iter().zip(usual).for_each(|(path, usual)| chmod(path, usual));
    site.start().terminate();
}

#[test]
fn a_pin_file_that_others_can_read_or_own_is_not_used() {
    let site = place(Token::SoftHsm);
    for mode in [0o640, 0o604] {
        chmod(&site.pin_file(), mode);
        let mut daemon = site.spawn();
        let status = daemon.admin_when_listening().status();
        assert!(status.reason.contains(&format!("{mode:04o}")) || !daemon.serves(), "{status:?}");
        daemon.terminate();
        assert!(site.said().contains("lets others at the PIN"), "{}", site.said());
    }
    chmod(&site.pin_file(), 0o600);
    site.start().terminate();
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    let site = place(Token::Embedded);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root can give things to somebody else: the unit test of trust.rs covers the rest");
        return;
    }
    for path in guarded(&site) {
        chown(&path, Some(SOMEBODY), None).unwrap();
        let said = refused(&mut site.daemon_command());
        assert!(
            said.contains(&format!("found owner {SOMEBODY}, expected the daemon's user (0) or root")),
            "{said}"
        );
        chown(&path, Some(0), None).unwrap();
    }
    // The daemon's own user and root are both trusted, a third isn't.
    let everything = guarded(&site);
    let as_somebody = |command: &Command| {
        let uid = format!("--reuid={SOMEBODY}");
        exec(&["setpriv", &uid, "--regid=54321", "--clear-groups"], command)
    };
    chmod(&site.dir().join("claviger.toml"), 0o644);
    for path in everything.iter().filter(|path| !path.ends_with("claviger.toml")) {
        give(path);
    }
    let command = site.daemon_command();
    // Without root's capability its memory can't be locked whole.
    let text = std::fs::read_to_string(site.config_file()).unwrap();
    std::fs::write(site.config_file(), format!("lock_memory = \"try\"\n{text}")).unwrap();
    let mut daemon = Daemon::spawn(&site, as_somebody(&command));
    daemon.wait_serving();
    daemon.terminate();
    chown(site.state_dir().join("audit.jsonl"), Some(SOMEBODY + 1), None).unwrap();
    let said = refused(&mut as_somebody(&command));
    assert!(said.contains(&format!("found owner {}", SOMEBODY + 1)), "{said}");
}

/// Gives a tree to somebody.
fn give(path: &Path) {
    chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    for entry in std::fs::read_dir(path).into_iter().flatten() {
        give(&entry.unwrap().path());
    }
}
