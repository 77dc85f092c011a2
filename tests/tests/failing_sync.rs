//! A disk that fails to sync the audit log: nobody knows then what it holds, so that
//! everything is refused until a new start has looked at the file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use claviger_protocol::{Code, Protection};
use claviger_tests::keys::{decryption, encryption, new_key};
use claviger_tests::programs::{text, wait};
use claviger_tests::{Daemon, Site, audit, each_token, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// strace on a running daemon, which fails every sync of the audit log with EIO.
struct Fault(Child);

impl Fault {
    /// Returns once every thread of the daemon is traced.
    fn inject(daemon: &Daemon) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &daemon.pid().to_string(), "-o", "/dev/null"]);
        strace.args(["-P", text(&audit::path(daemon.site()))]);
        strace.args(["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"]);
        let mut child = strace.stderr(Stdio::piped()).spawn().expect("strace is installed");
        let mut said = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let attached = said.any(|line| line.is_ok_and(|line| line.contains("attached")));
        // What else it says goes nowhere, and must not block it.
        std::thread::spawn(move || said.for_each(drop));
        assert!(attached, "strace could not attach to the daemon");
        Self(child)
    }

    /// Detaches: from now on the disk works again.
    fn mend(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        kill(pid, Signal::SIGINT).expect("strace runs");
        wait(&mut self.0);
    }
}

#[test]
fn a_failed_sync_of_the_audit_log_refuses_everything_until_a_restart() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let key = wire.create(Protection::Hsm);
        let blob = wire.encrypt(key, b"before");

        let fault = Fault::inject(&daemon);
        // Each call's event is written before its sync fails, so that the first may succeed.
        let refusal = eventually("calls are refused", || wire.call(encryption(key, b"x")).err());
        assert_eq!(refusal.code, Code::AuditUnavailable, "{}", refusal.message);
        fault.mend();

        // A disk that works again tells nothing of what it had dropped.
        for _ in 0..3 {
            assert_eq!(wire.call(decryption(&blob)).unwrap_err().code, Code::AuditUnavailable);
            let refused = wire.call(new_key(Protection::Hsm)).unwrap_err();
            assert_eq!(refused.code, Code::AuditUnavailable, "{}", refused.message);
        }
        let said = site.said();
        assert_eq!(said.matches("not certain any more").count(), 1, "it is told once: {said}");
        assert!(!said.contains("panicked"), "{said}");
        daemon.terminate();

        let daemon = site.start();
        let mut wire = daemon.admin();
        assert_eq!(wire.decrypt(&blob), Ok(b"before".to_vec()));
        let listed: Vec<_> = wire.list_all().iter().map(|listed| listed.key_id).collect();
        assert_eq!(listed, [key], "what was refused was not made");
        daemon.terminate();
        let events = audit::events(&audit::path(&site));
        // The outbox pays again what it can't know to be on the disk: twice in the log, one event.
        let created: BTreeSet<_> = events
            .iter()
            .filter(|event| event.operation == "createKey" && event.outcome == "Ok")
            .map(|event| (event.event_id.as_str(), event.resources.as_slice()))
            .collect();
        assert_eq!(created.iter().map(|(_, about)| *about).collect::<Vec<_>>(), [[key]]);
    }
}
