//! What the service manager is told (`Type=notify-reload`): ready once and when, what
//! the daemon is doing, that it is alive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use claviger_tests::cli::claviger;
use claviger_tests::manager::{Notice, Notices};
use claviger_tests::token::PIN;
use claviger_tests::{Daemon, Site, Token, each_token};
use nix::sys::signal::Signal;

/// A daemon that is told where to say how it is.
fn start(site: &Arc<Site>, notices: &Notices, more: &[(&str, &str)]) -> Daemon {
    let mut command = site.daemon_command();
    command.env("NOTIFY_SOCKET", notices.path()).envs(more.iter().copied());
    Daemon::spawn(site, command)
}

fn count(notices: &[Notice], name: &str) -> usize {
    notices.iter().filter(|notice| notice.says(name)).count()
}

#[test]
fn ready_is_said_once_it_serves_and_stopping_when_it_stops() {
    for token in each_token() {
        let site = Site::with_limits(token, "stop_timeout = \"30s\"");
        let notices = Notices::listen(site.dir());
        let mut daemon = start(&site, &notices, &[]);
        let seen = notices.until(|notice| notice.says("READY"));
        let ready = seen.last().unwrap();
        assert_eq!((seen.len(), ready.value("STATUS")), (1, Some("serving")), "{seen:?}");
        // It is true: calls are answered from now on.
        assert_eq!(daemon.admin().list_all().len(), 0);
        daemon.wait_serving();
        daemon.terminate();
        let rest = notices.rest();
        assert_eq!((count(&rest, "READY"), count(&rest, "STOPPING"), rest.len()), (0, 1, 1), "{rest:?}");
        assert!(rest[0].value("STATUS").unwrap().starts_with("stopping"), "{rest:?}");
        // Longer than the unit would wait by itself.
        let extended: u64 = rest[0].value("EXTEND_TIMEOUT_USEC").unwrap().parse().unwrap();
        assert!(extended >= 30_000_000, "{extended}");
    }
}

#[test]
fn a_daemon_whose_hsm_is_away_is_ready_says_why_and_serves_when_it_comes() {
    let mut site = Site::bare(Token::SoftHsm);
    site.set_limits("hsm_retry = \"100ms\"");
    site.make_token();
    site.write_config();
    site.init_domain(&[]);
    let site = Arc::new(site);
    let (tokens, away) = (site.softhsm().tokens().to_owned(), site.dir().join("away"));
    std::fs::rename(&tokens, &away).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    let notices = Notices::listen(site.dir());
    let mut daemon = start(&site, &notices, &[]);
    let seen = notices.until(|notice| notice.says("READY"));
    let status = seen.last().unwrap().value("STATUS").unwrap();
    assert!(status.starts_with("the domain is locked: "), "{status}");
    // What it was ready for: to be asked.
    let said = claviger(&site, &["status"], b"");
    let shown = String::from_utf8_lossy(&said.stdout);
    assert!(shown.contains("locked"), "{said:?}");
    std::fs::remove_dir(&tokens).unwrap();
    std::fs::rename(&away, &tokens).unwrap();
    let seen = notices.until(|notice| notice.value("STATUS") == Some("serving"));
    assert_eq!(count(&seen, "READY"), 0, "once is enough: {seen:?}");
    daemon.wait_serving();
    daemon.terminate();
}

#[test]
fn a_refused_pin_is_told_and_it_is_not_tried_again() {
    let site = Site::with_limits(Token::SoftHsm, "hsm_retry = \"100ms\"");
    site.write_pin("00000000", 0o600);
    let notices = Notices::listen(site.dir());
    let daemon = start(&site, &notices, &[]);
    let seen = notices.until(|notice| notice.says("READY"));
    let status = seen.last().unwrap().value("STATUS").unwrap();
    assert!(status.starts_with("the domain is locked until a restart: "), "{status}");
    assert!(!status.contains("00000000"), "{status}");
    daemon.terminate();
    site.write_pin(PIN, 0o600);
}

#[test]
fn reloading_is_said_with_its_time_and_ready_when_it_is_done_well_or_not() {
    let site = Site::with_limits(Token::Embedded, "");
    let notices = Notices::listen(site.dir());
    let daemon = start(&site, &notices, &[]);
    let _ = notices.until(|notice| notice.says("READY"));
    let good = std::fs::read(site.config_file()).unwrap();
    let mut before = 0;
    for file in [good.clone(), b"[limits]\nmax_body = 7\n".to_vec(), good] {
        std::fs::write(site.config_file(), file).unwrap();
        daemon.signal(Signal::SIGHUP);
        let seen = notices.until(|notice| notice.says("READY"));
        assert_eq!((seen.len(), count(&seen, "RELOADING")), (2, 1), "{seen:?}");
        // What notify-reload needs to tell an old answer from a new one.
        let at: u64 = seen[0].value("MONOTONIC_USEC").unwrap().parse().unwrap();
        assert!(at > before, "{at} {before}");
        before = at;
    }
    daemon.terminate();
}

#[test]
fn the_watchdog_hears_of_a_daemon_that_lives_and_only_if_it_wants_to() {
    let site = Site::with_limits(Token::Embedded, "");
    let notices = Notices::listen(site.dir());
    let daemon = start(&site, &notices, &[("WATCHDOG_USEC", "200000")]);
    // Locked or serving: alive.
    for _ in 0..5 {
        let _ = notices.until(|notice| notice.says("WATCHDOG"));
    }
    daemon.terminate();
    let _ = notices.rest();
    for more in [&[][..], &[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")]] {
        let daemon = start(&site, &notices, more);
        let seen = notices.until(|notice| notice.says("READY"));
        daemon.terminate();
        assert_eq!(count(&seen, "WATCHDOG") + count(&notices.rest(), "WATCHDOG"), 0, "{more:?}");
    }
}

#[test]
fn a_service_manager_that_is_gone_is_no_obstacle() {
    let site = Site::with_limits(Token::Embedded, "");
    let mut command = site.daemon_command();
    command.env("NOTIFY_SOCKET", site.dir().join("nobody")).env("WATCHDOG_USEC", "50000");
    let mut daemon = Daemon::spawn(&site, command);
    daemon.wait_serving();
    assert_eq!(daemon.admin().list_all().len(), 0);
    daemon.terminate();
    assert!(site.said().contains("NOTIFY_SOCKET"), "{}", site.said());
}
