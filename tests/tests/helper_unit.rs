//! The HSM's helper as a unit of its own: reached by its socket, run by hand and as
//! systemd runs it, outliving daemons and outlived by them; and a daemon that meets
//! something else at that socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use claviger_protocol::Protection;
use claviger_protocol::values::MemberState;
use claviger_tests::helper::{calls, helpers, initialised, kill, spy_on};
use claviger_tests::keys::LEVELS;
use claviger_tests::programs::{binary, run, text, tool, wait};
use claviger_tests::token::PIN;
use claviger_tests::{Daemon, Site, eventually};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A helper that the test runs; killed when dropped.
struct Unit(Child);

impl Unit {
    /// `clavigerd-hsm --config … --member a MORE`, behind `wrapper` if there is one.
    fn run(site: &Site, wrapper: &[&str], more: &[&str]) -> Self {
        let program = binary("clavigerd-hsm");
        let mut words = wrapper.to_vec();
        words.extend([text(&program), "--config", text(site.config_file()), "--member", "a"]);
        words.extend(more);
        let mut command = Command::new(words[0]);
        let mut command = {
            command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            site.program(command)
        };
        Self(command.spawn().unwrap())
    }

    fn by_hand(site: &Site) -> Self {
        let unit = Self::run(site, &[], &["--socket", text(&socket(site))]);
        eventually("the helper listens", || UnixStream::connect(socket(site)).ok().map(drop));
        unit
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn socket(site: &Site) -> PathBuf {
    site.dir().join("hsm.sock")
}

fn unit_site() -> Site {
    let mut site = initialised("");
    point_at_unit(&mut site, "30s");
    site
}

fn point_at_unit(site: &mut Site, call_timeout: &str) {
    let path = socket(site);
    let path = text(&path);
    let lines = format!("isolation = \"unit\"\nsocket = {path:?}\ncall_timeout = {call_timeout:?}");
    site.set_member(&lines);
    site.write_config();
}

fn fill(daemon: &Daemon) -> Vec<Vec<u8>> {
    let mut wire = daemon.admin();
    LEVELS.map(|level| wire.create(level)).iter().map(|key| wire.encrypt(*key, b"from before")).collect()
}

fn opens(daemon: &Daemon, blobs: &[Vec<u8>]) {
    let mut wire = daemon.admin();
    for blob in blobs {
        assert_eq!(wire.decrypt(blob), Ok(b"from before".to_vec()));
    }
    wire.create(Protection::Hsm);
}

fn up_again(daemon: &Daemon, epoch: u64) {
    let mut wire = daemon.admin();
    eventually("the member is open again", || {
        let member = wire.status().pool.remove(0);
        (member.state == MemberState::Up && member.epoch >= epoch).then_some(())
    });
}

#[test]
fn a_unit_outlives_daemons_and_a_daemon_outlives_its_unit() {
    let mut site = unit_site();
    let log = spy_on(&mut site);
    let site = Arc::new(site);
    let unit = Unit::by_hand(&site);
    let daemon = site.start();
    assert!(helpers(daemon.pid()).is_empty(), "the helper isn't the daemon's");
    let blobs = fill(&daemon);
    daemon.kill9();
    let daemon = site.start();
    opens(&daemon, &blobs);
    assert_eq!(calls(&log, "C_Login"), 2, "one for each daemon");
    // The unit crashes, and systemd (here: the test) starts another.
    kill(unit.pid(), Signal::SIGKILL);
    drop(unit);
    let mut wire = daemon.admin();
    eventually("the member is down", || (wire.status().pool[0].state == MemberState::Down).then_some(()));
    let _unit = Unit::by_hand(&site);
    up_again(&daemon, 2);
    opens(&daemon, &blobs);
    daemon.terminate();
}

#[test]
fn as_systemd_starts_it_on_the_first_connection() {
    let site = Arc::new(unit_site());
    let path = socket(&site);
    let _unit = Unit::run(&site, &["systemd-socket-activate", "-E", "SOFTHSM2_CONF", "-l", text(&path)], &[]);
    eventually("somebody listens", || path.exists().then_some(()));
    let daemon = site.start();
    let blobs = fill(&daemon);
    opens(&daemon, &blobs);
    daemon.terminate();
}

#[test]
fn a_unit_that_hangs_is_left_alone_and_taken_up_again() {
    let mut site = unit_site();
    point_at_unit(&mut site, "2s");
    let site = Arc::new(site);
    let unit = Unit::by_hand(&site);
    let daemon = site.start();
    let blobs = fill(&daemon);
    kill(unit.pid(), Signal::SIGSTOP);
    let mut wire = daemon.admin();
    eventually("the member is down", || (wire.status().pool[0].state == MemberState::Down).then_some(()));
    kill(unit.pid(), Signal::SIGCONT);
    up_again(&daemon, 2);
    opens(&daemon, &blobs);
    daemon.terminate();
}

#[test]
fn a_unit_whose_pin_was_refused_tries_no_other_for_any_daemon() {
    let mut site = unit_site();
    let log = spy_on(&mut site);
    let site = Arc::new(site);
    site.write_pin("00000000", 0o600);
    let unit = Unit::by_hand(&site);
    for _ in 0..2 {
        let mut daemon = site.spawn();
        let mut wire = daemon.admin_when_listening();
        eventually("the PIN is refused", || {
            (wire.status().pool[0].state == MemberState::PinRefused).then_some(())
        });
        daemon.terminate();
    }
    assert_eq!(calls(&log, "C_Login"), 1);
    drop(unit);
    site.write_pin(PIN, 0o600);
    let _unit = Unit::by_hand(&site);
    site.start().terminate();
}

#[test]
fn a_unit_serves_one_daemon_and_only_with_its_own_configuration() {
    let site = Arc::new(unit_site());
    let _unit = Unit::by_hand(&site);
    let daemon = site.start();
    let second = site.hsm("probe", &[]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another daemon uses the helper"), "{said}");
    daemon.terminate();
    let probe = site.hsm("probe", &["--json"]);
    let said: serde_json::Value = serde_json::from_slice(&probe.stdout).unwrap();
    assert_eq!(said["members"][0]["isolation"], "unit");
    // The file changes, and the unit was started with the former one.
    let config = std::fs::read_to_string(site.config_file()).unwrap();
    std::fs::write(site.config_file(), config.replace("token_label", "serial = \"1\" #")).unwrap();
    let probe = site.hsm("probe", &[]);
    let said = String::from_utf8_lossy(&probe.stderr).into_owned();
    assert!(said.contains("another configuration than the daemon's"), "{said}");
}

#[test]
fn garbage_from_a_peer_costs_only_its_connection() {
    let site = Arc::new(unit_site());
    let _unit = Unit::by_hand(&site);
    let huge = [0xff_u8; 64];
    let frames: [&[u8]; 6] =
        [b"", &[0; 4], &[1, 0, 0, 0, 9], &[3, 0, 0, 0, 64, 1, 2], &huge, &[200, 0, 0, 0, 64]];
    for frame in frames {
        let mut stream = UnixStream::connect(socket(&site)).unwrap();
        stream.write_all(frame).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap_or_default(), 0, "{frame:?}");
    }
    let daemon = site.start();
    let blobs = fill(&daemon);
    opens(&daemon, &blobs);
    daemon.terminate();
}

#[test]
fn a_foreign_user_is_refused_even_where_the_sockets_mode_lets_it_in() {
    assert!(nix::unistd::geteuid().is_root(), "this test takes another user's place: run it as root");
    let site = Arc::new(unit_site());
    let _unit = Unit::by_hand(&site);
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(site.dir(), 0o711);
    open(&socket(&site), 0o666);
    // A greeting of another version, and how many bytes are said to it.
    let greeting = br#"{"protocol":1,"version":"x"}"#;
    let mut frame = (9 + u32::try_from(greeting.len()).unwrap()).to_le_bytes().to_vec();
    frame.push(64);
    frame.extend((greeting.len() as u64).to_le_bytes());
    frame.extend(greeting);
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(30)\ns.connect(sys.argv[1])\n\
                  try:\n  s.send(bytes.fromhex(sys.argv[2]))\n  print(len(s.recv(10)))\n\
                  except (BrokenPipeError, ConnectionResetError):\n  print(0)";
    let said_to = |uid: &str| {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={uid}")).args(["--regid=65534", "--clear-groups"]);
        command.args(["/usr/bin/python3", "-c", script]).arg(socket(&site)).arg(hex::encode(&frame));
        String::from_utf8(tool(&mut command)).unwrap().trim().to_owned()
    };
    assert_eq!((said_to("65534").as_str(), said_to("0").as_str()), ("0", "10"));
    site.start().terminate();
}

/// What a daemon says of the member when this answers at the helper's socket.
fn met_with(site: &Arc<Site>, answer: &'static [u8]) -> String {
    let _ = std::fs::remove_file(socket(site));
    let listener = UnixListener::bind(socket(site)).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(answer);
                // Keeps it open until the daemon closes it.
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    let mut daemon = site.spawn();
    let mut wire = daemon.admin_when_listening();
    let reason = eventually("a reason", || {
        let member = wire.status().pool.remove(0);
        assert_ne!(member.state, MemberState::Up);
        (member.reason != "not opened yet").then_some(member.reason)
    });
    daemon.terminate();
    reason
}

#[test]
fn whatever_a_false_helper_says_the_daemon_stays_locked_and_alive() {
    let answers: [&'static [u8]; 5] = [
        &[0xff; 4096],
        &[0, 0, 0, 0],
        &[1, 0, 0, 0, 64],
        &[9, 0, 0, 0, 65, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[10, 0, 0, 0, 65, 1],
    ];
    let mut site = unit_site();
    // A frame that never ends is waited for four times as long.
    point_at_unit(&mut site, "100ms");
    let site = Arc::new(site);
    for answer in answers {
        let reason = met_with(&site, answer);
        assert!(reason.contains("helper"), "{answer:?}: {reason}");
    }
}

#[test]
fn what_cannot_be_a_unit_is_refused_with_what_to_do() {
    let mut site = initialised("");
    let hsm = |site: &Site, more: &[&str]| {
        let mut command = Command::new(binary("clavigerd-hsm"));
        command.args(["--config", text(site.config_file())]).args(more);
        let output = run(&mut site.program(command));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let path = socket(&site);
    let by_hand = ["--member", "a", "--socket", text(&path)];
    let (code, said) = hsm(&site, &by_hand);
    assert!(code == Some(2) && said.contains("\"unit\""), "{said}");
    point_at_unit(&mut site, "30s");
    let (code, said) = hsm(&site, &["--member", "b", "--socket", text(&path)]);
    assert!(code == Some(2) && said.contains("\"b\""), "{said}");
    let (code, said) = hsm(&site, &["--member", "a"]);
    assert!(code == Some(2) && said.contains("--socket PATH"), "{said}");
    let (code, said) = hsm(&site, &["--member", "a", "--socket", text(&path), "--peer", "no-such-user"]);
    assert!(code == Some(2) && said.contains("no-such-user"), "{said}");
    let mut unit = Unit::by_hand(&site);
    let (code, said) = hsm(&site, &by_hand);
    assert!(code == Some(1) && said.contains("another helper listens"), "{said}");
    // One that is told to end ends, and leaves a socket that the next one takes over.
    kill(unit.pid(), Signal::SIGTERM);
    wait(&mut unit.0);
    assert!(path.exists());
    let _next = Unit::by_hand(&site);
}
