//! SIGHUP: what can change in a running daemon does, what can't is named, and a file
//! that is wrong changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use claviger_protocol::Protection;
use claviger_protocol::body::PingRequest;
use claviger_tests::keys::encryption;
use claviger_tests::programs::{clavigerd, run, text};
use claviger_tests::{Daemon, Site, Token, eventually};
use nix::sys::signal::Signal;

/// A place on a configuration with these limits and this log level.
fn place(limits: &str, level: &str) -> Arc<Site> {
    let mut site = Site::bare(Token::Embedded);
    // The variable would go before the configuration.
    site.set_env("CLAVIGER_LOG", "");
    site.set_limits(limits);
    site.set_sections(&format!("[log]\nlevel = \"{level}\"\n"));
    site.make_token();
    site.write_config();
    site.init_domain(&[]);
    Arc::new(site)
}

fn edit(site: &Site, from: &str, to: &str) {
    let text = std::fs::read_to_string(site.config_file()).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(site.config_file(), text.replacen(from, to, 1)).unwrap();
}

/// Has the configuration read again; gives what the daemon says until it is `done`.
fn reload(daemon: &Daemon, done: &str) -> String {
    let before = daemon.site().said().len();
    daemon.signal(Signal::SIGHUP);
    eventually(done, || Some(daemon.site().said().split_off(before)).filter(|said| said.contains(done)))
}

#[test]
fn changed_limits_hold_at_once_for_connections_that_are_open_too() {
    let site = place("max_plaintext = \"100B\"\nidle_timeout = \"1h\"", "info");
    let daemon = site.start();
    let mut app = daemon.app();
    let key = daemon.admin().create(Protection::Hsm);
    app.call(encryption(key, &[1; 200])).unwrap_err();
    edit(&site, "\"100B\"", "\"300B\"");
    let said = reload(&daemon, "limits.max_plaintext: 100 → 300");
    assert!(!said.contains("needs a restart") && !said.contains("idle_timeout"), "{said}");
    assert!(!app.encrypt(key, &[1; 200]).is_empty());
    app.call(encryption(key, &[1; 301])).unwrap_err();
    // Back to less: what was allowed is refused again, and what was made stays readable.
    let blob = app.encrypt(key, &[2; 300]);
    edit(&site, "\"300B\"", "\"10B\"");
    reload(&daemon, "limits.max_plaintext: 300 → 10");
    app.call(encryption(key, &[1; 11])).unwrap_err();
    assert_eq!(app.decrypt(&blob), Ok(vec![2; 300]));
    // A connection that speaks after the change is measured by the new timeout.
    edit(&site, "\"1h\"", "\"1s\"");
    reload(&daemon, "limits.idle_timeout: 3600s → 1s");
    app.call(PingRequest { payload: vec![].into() }).unwrap();
    app.expect_closed();
    daemon.terminate();
}

#[test]
fn what_needs_a_restart_is_named_each_time_and_takes_no_effect() {
    let site = place("max_connections = 50\nmax_plaintext = \"100B\"", "info");
    let daemon = site.start();
    edit(&site, "max_connections = 50", "max_connections = 1\nlane_queue = 7");
    edit(&site, "allow_software_tokens = true", "allow_software_tokens = false");
    edit(&site, "\"100B\"", "\"200B\"");
    edit(&site, "name = \"app\"", "name = \"sidecar\"");
    let keys = ["limits.max_connections", "limits.lane_queue", "allow_software_tokens", "endpoint"];
    for round in 0..2 {
        // The last of them to be told.
        let said = reload(&daemon, "key=\"endpoint\"");
        for key in keys {
            let line = said.lines().find(|line| line.contains(&format!("key={key:?}")));
            assert!(line.is_some_and(|line| line.contains("needs a restart")), "{key}: {said}");
        }
        assert_eq!(said.contains("max_plaintext"), round == 0, "what was done is not told again: {said}");
    }
    let mut open: Vec<_> = (0..3).map(|_| daemon.admin()).collect();
    open[0].create(Protection::Hsm);
    daemon.terminate();
    // The restart that was asked for.
    let daemon = site.start();
    let mut only = daemon.admin();
    claviger_tests::Wire::connect(&site.admin_socket()).expect_closed();
    assert_eq!(only.list_all().len(), 1);
    daemon.terminate();
}

#[test]
fn a_wrong_file_changes_nothing_and_is_told_as_check_config_tells_it() {
    let site = place("max_plaintext = \"100B\"", "info");
    let daemon = site.start();
    let key = daemon.admin().create(Protection::Software);
    let good = std::fs::read(site.config_file()).unwrap();
    edit(&site, "\"100B\"", "\"200B\"\nmax_body = \"1GiB\"\nno_such_limit = 1");
    let checked = run(&mut clavigerd(["check-config", "--config", text(site.config_file())]));
    let expected = String::from_utf8(checked.stderr).unwrap();
    let expected = expected.strip_prefix("clavigerd: ").unwrap().trim_end();
    assert!(expected.contains("limits.max_body"), "{expected}");
    let last = expected.lines().last().unwrap();
    let said = reload(&daemon, last);
    assert!(said.contains("the configuration stays as it was") && said.contains(expected), "{said}");
    daemon.app().call(encryption(key, &[1; 150])).unwrap_err();
    // Not even there.
    std::fs::remove_file(site.config_file()).unwrap();
    let said = reload(&daemon, "stays as it was");
    eventually("the file is named", || site.said().contains("No such file").then_some(()));
    assert!(!said.contains("configuration changed"), "{said}");
    std::fs::write(site.config_file(), good).unwrap();
    reload(&daemon, "nothing has changed");
    assert!(!daemon.app().encrypt(key, &[1; 100]).is_empty());
    daemon.terminate();
}

#[test]
fn the_log_level_changes_and_the_environment_goes_before_it() {
    let site = place("", "warn");
    let daemon = site.start();
    daemon.admin().list_all();
    edit(&site, "level = \"warn\"", "level = \"debug\"");
    reload(&daemon, "log.level: warn → debug");
    let before = site.said().len();
    daemon.admin().list_all();
    eventually("requests are logged", || site.said()[before..].contains("answered").then_some(()));
    edit(&site, "level = \"debug\"", "level = \"error\"");
    // Told by nobody: that is below the new level. A broken file is, once it is read.
    let before = site.said().len();
    daemon.signal(Signal::SIGHUP);
    eventually("the level is error", || {
        let before = site.said().len();
        daemon.admin().list_all();
        (site.said().len() == before).then_some(())
    });
    assert!(!site.said()[before..].contains("stays as it was"));
    daemon.terminate();

    let mut fixed = Site::bare(Token::Embedded);
    fixed.set_env("CLAVIGER_LOG", "info");
    fixed.set_sections("[log]\nlevel = \"off\"\n");
    fixed.make_token();
    fixed.write_config();
    fixed.init_domain(&[]);
    let fixed = Arc::new(fixed);
    let daemon = fixed.start();
    edit(&fixed, "level = \"off\"", "level = \"debug\"");
    let said = reload(&daemon, "log.level");
    assert!(said.contains("can't be changed") && said.contains("CLAVIGER_LOG"), "{said}");
    daemon.terminate();
}

#[test]
fn a_dev_daemon_has_no_file_to_read_and_lives_on() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut admin = daemon.admin();
    for _ in 0..10 {
        daemon.signal(Signal::SIGHUP);
        admin.call(PingRequest { payload: vec![].into() }).unwrap();
    }
    daemon.terminate();
}
