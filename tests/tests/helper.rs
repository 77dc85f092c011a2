//! The HSM's helper as a process of the daemon: killed, stopped, crashed and hung, idle
//! and under load. Calls succeed or are refused, none is wrong and none hangs, and the
//! daemon opens another helper by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use claviger_protocol::values::{MemberState, ServiceState};
use claviger_protocol::{Code, Protection};
use claviger_tests::helper::{calls, helpers, initialised, kill, spy_on};
use claviger_tests::keys::{LEVELS, decryption, encryption, new_key};
use claviger_tests::token::PIN;
use claviger_tests::{Daemon, Site, eventually};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

const WRONG_PIN: &str = "00000000";

/// The daemon's one helper.
fn helper(daemon: &Daemon) -> Pid {
    let found = helpers(daemon.pid());
    assert_eq!(found.len(), 1, "one helper, and nothing is left of former ones");
    found[0]
}

/// A key at each level, and blobs of theirs.
fn fill(daemon: &Daemon) -> Vec<Vec<u8>> {
    let mut wire = daemon.admin();
    LEVELS.map(|level| wire.create(level)).iter().map(|key| wire.encrypt(*key, b"from before")).collect()
}

/// Waits until the member is open by this epoch, and everything opens.
fn healed(daemon: &Daemon, epoch: u64, blobs: &[Vec<u8>]) {
    let mut wire = daemon.admin();
    eventually("the member is open again", || {
        let member = wire.status().pool.remove(0);
        (member.state == MemberState::Up && member.epoch >= epoch).then_some(())
    });
    for blob in blobs {
        assert_eq!(wire.decrypt(blob), Ok(b"from before".to_vec()));
    }
    let made = wire.create(Protection::Hsm);
    let sealed = wire.encrypt(made, b"after");
    assert_eq!(wire.decrypt(&sealed), Ok(b"after".to_vec()));
    assert_eq!(wire.status().state, ServiceState::Serving);
}

fn start(member: &str) -> (Arc<Site>, Daemon, Vec<Vec<u8>>) {
    let site = Arc::new(initialised(member));
    let daemon = site.start();
    let blobs = fill(&daemon);
    (site, daemon, blobs)
}

#[test]
fn a_helper_that_is_killed_while_idle_is_replaced_and_leaves_no_zombie() {
    let (_site, daemon, blobs) = start("");
    for epoch in 2..4 {
        let former = helper(&daemon);
        for shown in ["cmdline", "environ"] {
            let shown = std::fs::read(format!("/proc/{former}/{shown}")).unwrap();
            assert!(!String::from_utf8_lossy(&shown).contains(PIN));
        }
        // What a library prints goes where the log goes, and never into a lane.
        let end = |number: u8| std::fs::read_link(format!("/proc/{former}/fd/{number}")).unwrap();
        assert_eq!((end(0).as_path(), end(1)), (Path::new("/dev/null"), end(2)));
        kill(former, Signal::SIGKILL);
        healed(&daemon, epoch, &blobs);
        assert_ne!(helper(&daemon), former);
    }
    daemon.terminate();
}

#[test]
fn killed_under_load_no_answer_is_wrong_and_none_is_missing() {
    let (_site, daemon, blobs) = start("");
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4_usize)
        .map(|n| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            let mut wire = daemon.admin();
            std::thread::spawn(move || {
                let key = wire.create(Protection::Hsm);
                while !over.load(Ordering::SeqCst) {
                    let text = answered.fetch_add(1, Ordering::SeqCst).to_string().into_bytes();
                    let sealed = match wire.call(encryption(key, &text)) {
                        Ok(sealed) => sealed.ciphertext_blob.0,
                        Err(refusal) => {
                            assert_eq!(refusal.code, Code::HsmUnavailable, "{}", refusal.message);
                            continue;
                        }
                    };
                    match wire.call(decryption(&sealed)) {
                        Ok(opened) => assert_eq!(opened.plaintext.expose(), text),
                        Err(refusal) => assert_eq!(refusal.code, Code::HsmUnavailable, "{}", refusal.message),
                    }
                    // One of them keeps the other lane at work.
                    if n == 0
                        && let Err(refusal) = wire.call(new_key(Protection::Hsm))
                    {
                        assert_eq!(refusal.code, Code::HsmUnavailable, "{}", refusal.message);
                    }
                }
            })
        })
        .collect();
    for epoch in 2..5 {
        let before = answered.load(Ordering::SeqCst);
        eventually("load", || (answered.load(Ordering::SeqCst) > before + 50).then_some(()));
        kill(helper(&daemon), Signal::SIGKILL);
        healed(&daemon, epoch, &blobs);
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    healed(&daemon, 4, &blobs);
    daemon.terminate();
}

#[test]
fn a_helper_that_hangs_is_killed_at_its_limit_and_replaced() {
    let (_site, daemon, blobs) = start("call_timeout = \"2s\"");
    let former = helper(&daemon);
    kill(former, Signal::SIGSTOP);
    // Refused, not stuck; SOFTWARE keys don't notice.
    let mut wire = daemon.admin();
    let refused = wire.call(decryption(&blobs[0])).unwrap_err();
    assert_eq!(refused.code, Code::HsmUnavailable);
    assert_eq!(wire.decrypt(&blobs[1]), Ok(b"from before".to_vec()));
    healed(&daemon, 2, &blobs);
    assert_ne!(helper(&daemon), former);
    daemon.terminate();
}

#[test]
fn a_helper_ends_with_its_daemon_however_that_ends() {
    let site = Arc::new(initialised(""));
    for hard in [true, false] {
        let daemon = site.start();
        let helper = helper(&daemon);
        if hard {
            daemon.kill9();
        } else {
            daemon.terminate();
        }
        let gone = || (!Path::new(&format!("/proc/{helper}")).exists()).then_some(());
        eventually("the helper ends", gone);
    }
    // A signal that is meant for both doesn't end it.
    let daemon = site.start();
    let helper = helper(&daemon);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        kill(helper, signal);
    }
    let blobs = fill(&daemon);
    healed(&daemon, 1, &blobs);
    assert_eq!(helpers(daemon.pid()), [helper]);
    daemon.terminate();
}

#[test]
fn a_stopped_helper_does_not_keep_the_daemon_from_stopping() {
    let (_site, daemon, _) = start("call_timeout = \"2s\"");
    kill(helper(&daemon), Signal::SIGSTOP);
    daemon.terminate();
}

#[test]
fn a_new_helper_tries_a_wrong_pin_once_and_never_again() {
    let mut site = initialised("");
    let log = spy_on(&mut site);
    let site = Arc::new(site);
    let daemon = site.start();
    let blobs = fill(&daemon);
    kill(helper(&daemon), Signal::SIGKILL);
    healed(&daemon, 2, &blobs);
    assert_eq!(calls(&log, "C_Login"), 2, "one for each helper");
    site.write_pin(WRONG_PIN, 0o600);
    kill(helper(&daemon), Signal::SIGKILL);
    let mut wire = daemon.admin();
    eventually("the member is latched", || {
        (wire.status().pool[0].state == MemberState::PinRefused).then_some(())
    });
    site.write_pin(PIN, 0o600);
    // Ten retries and more, were there any.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(calls(&log, "C_Login"), 3);
    assert_eq!(wire.call(decryption(&blobs[0])).unwrap_err().code, Code::HsmUnavailable);
    assert_eq!(wire.decrypt(&blobs[1]), Ok(b"from before".to_vec()), "SOFTWARE keys go on");
    daemon.terminate();
    let daemon = site.start();
    healed(&daemon, 1, &blobs);
    daemon.terminate();
    assert!(!site.said().contains(WRONG_PIN) && !site.said().contains(PIN));
}

#[test]
fn a_token_that_goes_away_and_comes_back_is_found_again() {
    let (site, daemon, blobs) = start("");
    let away = site.dir().join("tokens-away");
    std::fs::rename(site.softhsm().tokens(), &away).unwrap();
    kill(helper(&daemon), Signal::SIGKILL);
    let mut wire = daemon.admin();
    eventually("the member is down", || (wire.status().pool[0].state == MemberState::Down).then_some(()));
    assert_eq!(wire.call(decryption(&blobs[0])).unwrap_err().code, Code::HsmUnavailable);
    std::fs::rename(&away, site.softhsm().tokens()).unwrap();
    healed(&daemon, 2, &blobs);
    daemon.terminate();
}

/// What a blob needs may be derived from an object that died with a former helper.
#[test]
fn blobs_of_an_earlier_daemon_open_after_the_helper_was_replaced() {
    let (site, daemon, blobs) = start("");
    daemon.terminate();
    let daemon = site.start();
    let mut wire = daemon.admin();
    let keys = wire.list_all();
    for key in &keys {
        // The version's own object is there now; what the older blob needs is not.
        wire.encrypt(key.key_id, b"x");
    }
    kill(helper(&daemon), Signal::SIGKILL);
    healed(&daemon, 2, &blobs);
    daemon.terminate();
}

#[test]
fn a_helper_that_is_not_there_or_is_something_else_is_named() {
    for (program, why) in [("/nonexistent/helper", "/nonexistent/helper"), ("/bin/true", "helper")] {
        let mut site = initialised("");
        site.set_member(&format!("helper = {program:?}"));
        site.write_config();
        let probe = site.hsm("probe", &[]);
        assert_eq!(probe.status.code(), Some(1));
        let said = String::from_utf8_lossy(&probe.stderr).into_owned();
        assert!(said.contains(why), "{said}");
        let site = Arc::new(site);
        let mut daemon = site.spawn();
        let mut wire = daemon.admin_when_listening();
        let reason = eventually("the reason", || {
            let member = wire.status().pool.remove(0);
            (member.reason != "not opened yet").then_some(member.reason)
        });
        assert!(reason.contains(why), "{reason}");
        daemon.terminate();
    }
}

#[test]
fn the_same_in_the_daemon_itself_where_that_is_wanted() {
    let (site, daemon, blobs) = start("isolation = \"thread\"");
    assert!(helpers(daemon.pid()).is_empty());
    healed(&daemon, 1, &blobs);
    daemon.terminate();
    // The keys are the same wherever the module runs, and probe says where.
    drop(site);
    for isolation in ["thread", "process"] {
        let mut site = initialised("");
        site.set_member(&format!("isolation = {isolation:?}"));
        site.write_config();
        let probe = site.hsm("probe", &["--json"]);
        let said: serde_json::Value = serde_json::from_slice(&probe.stdout).unwrap();
        assert_eq!(said["members"][0]["isolation"], isolation);
        assert_eq!(said["members"][0]["specs"][0]["available"], true);
    }
}

#[test]
fn the_helper_exports_nothing_that_a_module_could_take_for_its_own() {
    let exports = |name: &str| {
        let binary = claviger_tests::programs::binary(name);
        let listed = claviger_tests::programs::tool(std::process::Command::new("nm").arg("-D").arg(binary));
        String::from_utf8(listed).unwrap().lines().filter(|line| line.contains(" T C_")).count()
    };
    assert_eq!((exports("clavigerd"), exports("clavigerd-hsm")), (2, 0));
}

/// Nobody but a daemon can use the flag that it starts helpers with.
#[test]
fn started_by_hand_as_if_by_a_daemon_it_says_what_is_wrong() {
    let mut command = std::process::Command::new(claviger_tests::programs::binary("clavigerd-hsm"));
    let output = claviger_tests::programs::run(command.args(["--for", "a"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("clavigerd alone"));
}
