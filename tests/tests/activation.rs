//! Sockets that the service manager holds: served by name, never closed over a restart,
//! refused where they aren't what the configuration says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_protocol::body::PingRequest;
use claviger_protocol::{Code, Protection};
use claviger_tests::manager::Sockets;
use claviger_tests::programs::{run, text};
use claviger_tests::wire::{plain_hello, request_frame};
use claviger_tests::{Daemon, Site, Token, Wire, eventually};

/// A place with three endpoints, and the manager that holds their sockets.
fn place(token: Token) -> (Arc<Site>, Sockets) {
    let more = |site: &Site| {
        let socket = site.dir().join("more.sock");
        format!("[[endpoint]]\nname = \"more\"\nmode = \"0660\"\nsocket = \"{}\"\n", socket.display())
    };
    let site = Site::with_sections(token, more);
    let mut sockets = Sockets::default();
    // In an order of the manager's own.
    sockets.listen("more", &site.dir().join("more.sock"), 0o660);
    sockets.listen("app", &site.app_socket(), 0o600);
    sockets.listen("admin", &site.admin_socket(), 0o600);
    (site, sockets)
}

fn start(site: &Arc<Site>, sockets: &Sockets) -> Daemon {
    let mut passing = sockets.pass_to(&site.daemon_command());
    let command = std::mem::replace(&mut passing.command, Command::new("true"));
    let mut daemon = Daemon::spawn(site, command);
    daemon.wait_serving();
    daemon
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[test]
fn each_socket_is_served_as_the_endpoint_of_its_name() {
    for token in claviger_tests::each_token() {
        let (site, sockets) = place(token);
        let paths = [site.admin_socket(), site.app_socket(), site.dir().join("more.sock")];
        let inodes = paths.each_ref().map(|path| inode(path));
        let daemon = start(&site, &sockets);
        let key = daemon.admin().create(Protection::Hsm);
        let blob = daemon.app().encrypt(key, b"through");
        assert_eq!(Wire::open(&paths[2]).decrypt(&blob), Ok(b"through".to_vec()));
        // An application endpoint stays one, whatever the order of the sockets.
        let refused = daemon.app().call(claviger_tests::keys::new_key(Protection::Hsm)).unwrap_err();
        assert_eq!(refused.code, Code::AccessDenied, "{refused:?}");
        daemon.terminate();
        assert_eq!(paths.each_ref().map(|path| inode(path)), inodes, "the files are the manager's");
    }
}

#[test]
fn clients_that_come_while_no_daemon_runs_are_served_by_the_next() {
    let (site, sockets) = place(Token::Embedded);
    // Before the first start, too.
    let mut early = Wire::connect(&site.app_socket());
    let daemon = start(&site, &sockets);
    early.hello();
    daemon.terminate();
    let mut waiting: Vec<Wire> = (0..20).map(|_| Wire::connect(&site.app_socket())).collect();
    for wire in &mut waiting {
        wire.send_bytes(&request_frame(1, plain_hello()));
    }
    let daemon = start(&site, &sockets);
    for wire in &mut waiting {
        assert_eq!(wire.wait(1).code(), Code::Ok);
    }
    daemon.kill9();
    let mut wire = Wire::connect(&site.admin_socket());
    let daemon = start(&site, &sockets);
    wire.hello();
    assert_eq!(wire.list_all().len(), 0);
    daemon.terminate();
}

#[test]
fn no_connection_is_refused_over_restarts_under_load() {
    let (site, sockets) = place(Token::Embedded);
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (socket, done) = (site.app_socket(), Arc::clone(&done));
            std::thread::spawn(move || {
                let (mut served, mut cut) = (0_u32, 0_u32);
                while !done.load(Ordering::Relaxed) {
                    // Refused, it would end the test here.
                    let mut wire = Wire::connect(&socket);
                    let sent = wire.try_send_bytes(&request_frame(1, plain_hello()));
                    if sent.is_ok() && wire.read_frame().is_some_and(|hello| hello.code() == Code::Ok) {
                        let ping = request_frame(2, PingRequest { payload: vec![7].into() });
                        let _ = wire.try_send_bytes(&ping);
                        served += u32::from(wire.read_frame().is_some());
                    } else {
                        cut += 1;
                    }
                }
                (served, cut)
            })
        })
        .collect();
    let mut daemon = start(&site, &sockets);
    for round in 0..5 {
        let mut key = daemon.admin();
        key.create(Protection::Software);
        if round % 2 == 0 {
            daemon.terminate();
        } else {
            daemon.kill9();
        }
        daemon = start(&site, &sockets);
    }
    done.store(true, Ordering::Relaxed);
    let results: Vec<_> = clients.into_iter().map(|client| client.join().expect("never refused")).collect();
    daemon.terminate();
    assert!(results.iter().all(|(served, _)| *served > 0), "{results:?}");
    println!("served and cut by a stop, of each client over 5 restarts: {results:?}");
}

/// What the daemon says to these sockets, having ended.
fn refused(site: &Site, sockets: &Sockets, names: &str) -> String {
    let mut passing = sockets.pass_as(&site.daemon_command(), names);
    let output = run(&mut passing.command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.status.code().is_some(), "{}: {said}", output.status);
    assert_eq!(said.matches("clavigerd: ").count(), 1, "one message: {said}");
    said
}

#[test]
fn sockets_that_do_not_fit_the_configuration_are_refused_by_name() {
    let (site, sockets) = place(Token::Embedded);
    let said = refused(&site, &sockets, "more:app:sidecar");
    assert!(said.contains("\"sidecar\"") && said.contains("FileDescriptorName="), "{said}");
    let said = refused(&site, &sockets, "more:app");
    assert!(said.contains("2 names") && said.contains("3 passed sockets"), "{said}");
    let said = refused(&site, &sockets, "more:app:app");
    assert!(said.contains("\"app\"") && said.contains("of its own"), "{said}");
    // Each other's: the paths differ.
    let said = refused(&site, &sockets, "admin:app:more");
    for path in [site.admin_socket(), site.dir().join("more.sock")] {
        assert!(said.contains(text(&path)), "{said}");
    }
    let mut wide = Sockets::default();
    let other = Site::with_limits(Token::Embedded, "");
    wide.listen("app", &other.app_socket(), 0o666);
    let said = refused(&other, &wide, "app");
    assert!(said.contains("0666") && said.contains("SocketMode=0600"), "{said}");
    for path in [site.admin_socket(), site.app_socket(), other.app_socket()] {
        assert!(path.exists(), "{} is the manager's", path.display());
    }
    // Nothing of that harmed the place.
    start(&site, &sockets).terminate();
}

#[test]
fn what_was_passed_to_another_process_is_not_touched() {
    let site = Site::with_limits(Token::Embedded, "");
    let mut command = site.daemon_command();
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "admin");
    let mut daemon = Daemon::spawn(&site, command);
    daemon.wait_serving();
    assert_eq!(daemon.admin().list_all().len(), 0);
    daemon.terminate();
    assert!(!site.admin_socket().exists(), "its own socket goes with it");
}

#[test]
fn one_socket_may_be_passed_and_the_others_made() {
    let site = Site::with_limits(Token::Embedded, "");
    let mut sockets = Sockets::default();
    sockets.listen("app", &site.app_socket(), 0o600);
    let daemon = start(&site, &sockets);
    let key = daemon.admin().create(Protection::Hsm);
    assert!(!daemon.app().encrypt(key, b"x").is_empty());
    daemon.terminate();
    assert!(site.app_socket().exists() && !site.admin_socket().exists());
}

#[test]
fn systemds_own_tool_activates_the_daemon() {
    let site = Site::with_limits(Token::Embedded, "");
    let (admin, app) = (site.admin_socket(), site.app_socket());
    // It makes the sockets, waits for the first client and becomes the daemon. Modes are
    // not its business.
    let tool = ["-l", text(&admin), "-l", text(&app), "--fdname=admin:app", "-E", "CLAVIGER_LOG=debug"];
    let by = [&["systemd-socket-activate"][..], &tool].concat();
    let mut daemon = Daemon::spawn(&site, claviger_tests::process::exec(&by, &site.daemon_command()));
    eventually("the tool listens", || site.said().contains("app.sock as 4").then_some(()));
    for socket in [&admin, &app] {
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut first = Wire::connect(&app);
    first.hello();
    daemon.wait_serving();
    let key = daemon.admin().create(Protection::Hsm);
    assert!(!first.encrypt(key, b"x").is_empty());
    drop(first);
    daemon.terminate();
    assert!(admin.exists() && app.exists());
}
