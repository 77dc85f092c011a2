//! Tokens that can't be used: the daemon says why, answers ping and status, refuses
//! the rest as HsmUnavailable, and serves as soon as it can.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::body::{GetRandomRequest, PingRequest, StatusReply};
use claviger_protocol::values::{MemberState, ServiceState};
use claviger_protocol::{Code, Protection};
use claviger_tests::helper::{self, calls, spy_on};
use claviger_tests::keys::{decryption, encryption, list_request, new_key};
use claviger_tests::programs::text;
use claviger_tests::token::PIN;
use claviger_tests::{Daemon, Site, Wire, each_token, eventually};
use uuid::Uuid;

const WRONG_PIN: &str = "00000000";
/// Short, so that many of them pass in a test.
const RETRY: &str = "hsm_retry = \"100ms\"";
/// Ten retries and more, were there any.
const MANY_RETRIES: Duration = Duration::from_millis(1500);

fn initialised() -> Site {
    helper::initialised("")
}

/// Waits until status says that the member is in `state`, and looks at what is
/// answered meanwhile.
fn locked_with(wire: &mut Wire, state: MemberState) -> StatusReply {
    let status = eventually("the member's state", || {
        let status = wire.status();
        (status.pool[0].state == state && status.pool[0].reason != "not opened yet").then_some(status)
    });
    assert_eq!((status.state, status.domain_id), (ServiceState::Locked, Uuid::nil()));
    assert!(status.reason.contains(&status.pool[0].name), "{}", status.reason);
    assert!(!status.pool[0].reason.is_empty());
    let pong = wire.call(PingRequest { payload: vec![1].into() }).unwrap();
    assert_eq!(pong.payload.0, [1]);
    let refused = [
        wire.call(new_key(Protection::Hsm)).unwrap_err(),
        wire.call(new_key(Protection::Software)).unwrap_err(),
        wire.call(list_request(0, Vec::new())).unwrap_err(),
        wire.call(encryption(Uuid::from_u128(1), b"x")).unwrap_err(),
        wire.call(decryption(b"x")).unwrap_err(),
        wire.call(GetRandomRequest { length: 1 }).unwrap_err(),
    ];
    for refusal in refused {
        assert_eq!(refusal.code, Code::HsmUnavailable);
        assert!(refusal.message.contains("status"), "{}", refusal.message);
    }
    status
}

/// A key at each level, and blobs of theirs.
fn fill(daemon: &Daemon) -> Vec<Vec<u8>> {
    let mut wire = daemon.admin();
    let keys = claviger_tests::keys::LEVELS.map(|level| wire.create(level));
    keys.iter().map(|key| wire.encrypt(*key, b"from before")).collect()
}

fn opens(daemon: &Daemon, blobs: &[Vec<u8>]) {
    let mut wire = daemon.admin();
    for blob in blobs {
        assert_eq!(wire.decrypt(blob), Ok(b"from before".to_vec()));
    }
}

#[test]
fn a_wrong_pin_is_tried_exactly_once_and_then_the_member_is_off() {
    let mut site = initialised();
    let log = spy_on(&mut site);
    let site = Arc::new(site);
    let daemon = site.start();
    let blobs = fill(&daemon);
    daemon.terminate();
    assert_eq!(calls(&log, "C_Login"), 1, "the right PIN is asked for once, too");

    site.write_pin(WRONG_PIN, 0o600);
    let mut daemon = site.spawn();
    let mut wire = daemon.admin_when_listening();
    let status = locked_with(&mut wire, MemberState::PinRefused);
    assert!(status.pool[0].reason.contains("PIN"), "{}", status.pool[0].reason);
    assert_eq!(calls(&log, "C_Login"), 2);
    // Neither time nor the right PIN makes it try again: an operator has to.
    std::thread::sleep(MANY_RETRIES);
    site.write_pin(PIN, 0o600);
    std::thread::sleep(MANY_RETRIES);
    assert_eq!(calls(&log, "C_Login"), 2);
    assert_eq!(wire.status().pool[0].state, MemberState::PinRefused);
    assert!(!daemon.serves());
    daemon.terminate();

    let daemon = site.start();
    assert_eq!(calls(&log, "C_Login"), 3);
    opens(&daemon, &blobs);
    daemon.terminate();
    assert!(!site.said().contains(WRONG_PIN) && !site.said().contains(PIN));
}

#[test]
fn a_pin_file_that_others_can_read_is_refused_without_a_login() {
    let mut site = initialised();
    let log = spy_on(&mut site);
    let site = Arc::new(site);
    for mode in [0o640, 0o604, 0o644] {
        site.write_pin(PIN, mode);
        let why = why_not(&site);
        assert!(why.contains(text(&site.pin_file())) && why.contains("0600"), "{mode:o}: {why}");
    }
    assert_eq!(calls(&log, "C_Login"), 0);
    site.write_pin(PIN, 0o400);
    site.start().terminate();
}

/// Why a daemon does not serve here: what it said when it ended, or what its status says.
fn why_not(site: &Arc<Site>) -> String {
    let before = site.said().len();
    let mut daemon = site.spawn();
    let why = eventually("a reason", || {
        if let Some(status) = daemon.ended() {
            assert_eq!(status.code(), Some(1), "the rest exits with 1");
            return Some(site.said()[before..].to_owned());
        }
        let status = Wire::try_open(&site.admin_socket())?.status();
        assert_eq!(status.state, ServiceState::Locked);
        (status.pool[0].reason != "not opened yet").then_some(status.pool[0].reason.clone())
    });
    drop(daemon);
    why
}

#[test]
fn a_wrong_module_path_is_named() {
    let mut site = initialised();
    for path in ["/nonexistent/libpkcs11.so", "/etc/hostname"] {
        site.set_module(path);
        site.write_config();
        let probe = site.hsm("probe", &[]);
        assert_eq!(probe.status.code(), Some(1));
        let said = String::from_utf8_lossy(&probe.stderr).into_owned();
        assert!(said.contains(path), "{said}");
        let init = site.hsm("init", &[]);
        assert_eq!(init.status.code(), Some(1));
    }
    site.set_module("/nonexistent/libpkcs11.so");
    site.write_config();
    let why = why_not(&Arc::new(site));
    assert!(why.contains("/nonexistent/libpkcs11.so"), "{why}");
}

#[test]
fn a_token_without_the_root_is_told_apart_and_never_given_another() {
    let site = Arc::new(initialised());
    let daemon = site.start();
    let blobs = fill(&daemon);
    daemon.terminate();
    // A token of the same name and PIN that isn't the domain's.
    let away = site.dir().join("tokens-away");
    std::fs::rename(site.softhsm().tokens(), &away).unwrap();
    std::fs::create_dir(site.softhsm().tokens()).unwrap();
    site.softhsm().init_token();
    let mut daemon = site.spawn();
    let mut wire = daemon.admin_when_listening();
    let status = locked_with(&mut wire, MemberState::NoRoot);
    assert!(status.reason.contains("root"), "{}", status.reason);
    std::thread::sleep(MANY_RETRIES);
    assert_eq!(wire.status().pool[0].state, MemberState::NoRoot);
    daemon.terminate();
    // Init doesn't make a second domain over the first one's store.
    let init = site.hsm("init", &[]);
    assert_eq!(init.status.code(), Some(1), "{}", String::from_utf8_lossy(&init.stderr));
    // The right token is back, and so are the keys.
    std::fs::remove_dir_all(site.softhsm().tokens()).unwrap();
    std::fs::rename(&away, site.softhsm().tokens()).unwrap();
    let daemon = site.start();
    opens(&daemon, &blobs);
    daemon.terminate();
}

#[test]
fn a_domain_that_was_never_made_says_how_to_make_it() {
    for token in each_token() {
        let mut site = Site::bare(token);
        site.set_limits(RETRY);
        site.make_token();
        site.write_config();
        let site = Arc::new(site);
        let why = why_not(&site);
        assert!(why.contains("hsm init"), "{token:?}: {why}");
        site.init_domain(&[]);
        let daemon = site.start();
        daemon.admin().create(Protection::Hsm);
        daemon.terminate();
        let again = site.hsm("init", &[]);
        assert_eq!(again.status.code(), Some(1), "{token:?}: a domain is made once");
    }
}

#[test]
fn all_hsms_away_at_start_then_back_the_daemon_unlocks_by_itself() {
    let site = Arc::new(initialised());
    let daemon = site.start();
    let blobs = fill(&daemon);
    daemon.terminate();
    let away = site.dir().join("tokens-away");
    std::fs::rename(site.softhsm().tokens(), &away).unwrap();
    std::fs::create_dir(site.softhsm().tokens()).unwrap();
    let mut daemon = site.spawn();
    let mut early = daemon.admin_when_listening();
    let status = locked_with(&mut early, MemberState::Down);
    assert!(status.reason.contains("token"), "{}", status.reason);
    assert!(!daemon.serves());
    std::fs::remove_dir(site.softhsm().tokens()).unwrap();
    std::fs::rename(&away, site.softhsm().tokens()).unwrap();
    daemon.wait_serving();
    // On the connection that was open all the while, too.
    assert_eq!(early.status().state, ServiceState::Serving);
    assert_eq!(early.status().pool[0].state, MemberState::Up);
    assert_eq!(early.decrypt(&blobs[0]), Ok(b"from before".to_vec()));
    opens(&daemon, &blobs);
    daemon.terminate();
}

#[test]
fn stopping_while_locked_is_a_clean_stop() {
    let site = Arc::new(initialised());
    site.softhsm().wipe();
    let mut daemon = site.spawn();
    locked_with(&mut daemon.admin_when_listening(), MemberState::Down);
    daemon.terminate();
}
