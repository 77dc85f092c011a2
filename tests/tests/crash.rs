//! kill -9 anywhere: nothing acknowledged is lost, nothing half-made is left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use claviger_protocol::body::CreateKeyRequest;
use claviger_protocol::{KeyState, Protection};
use claviger_tests::keys::{LEVELS, encryption, new_key};
use claviger_tests::{Daemon, Site, Token, Wire, audit, each_token, eventually};
use nix::sys::signal::Signal;
use uuid::Uuid;

const ROUNDS: usize = 10;
const CLIENTS: usize = 4;

/// A key that a daemon said is made.
struct Made {
    request: CreateKeyRequest,
    key_id: Uuid,
    /// What it encrypted, if that was answered, too.
    blob: Option<Vec<u8>>,
}

/// What clients of one round saw.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicUsize,
    made: Mutex<Vec<Made>>,
    unanswered: Mutex<Vec<CreateKeyRequest>>,
}

/// Makes keys, and uses each, until the daemon dies.
fn create_until_it_dies(mut wire: Wire, seen: &Seen) {
    for level in LEVELS.into_iter().cycle() {
        let request = new_key(level);
        let Some(reply) = wire.try_call(request.clone()) else {
            seen.unanswered.lock().unwrap().push(request);
            return;
        };
        let key_id = reply.expect("a key is made").key_id;
        seen.acknowledged.fetch_add(1, Ordering::SeqCst);
        let sealed = wire.try_call(encryption(key_id, key_id.as_bytes()));
        let died = sealed.is_none();
        let blob = sealed.map(|sealed| sealed.expect("the key encrypts").ciphertext_blob.0);
        seen.made.lock().unwrap().push(Made { request, key_id, blob });
        if died {
            return;
        }
    }
}

/// Runs clients against a daemon and kills it once `acknowledged` keys are made.
fn kill_while_creating(daemon: Daemon, acknowledged: usize) -> Seen {
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (wire, seen) = (daemon.admin(), Arc::clone(&seen));
            std::thread::spawn(move || create_until_it_dies(wire, &seen))
        })
        .collect();
    eventually("keys are made", || (seen.acknowledged.load(Ordering::SeqCst) >= acknowledged).then_some(()));
    daemon.kill9();
    for client in clients {
        client.join().unwrap();
    }
    Arc::into_inner(seen).expect("the clients have ended")
}

/// Every key that is listed does its work: there are no halves.
fn every_listed_key_works(wire: &mut Wire) -> BTreeSet<Uuid> {
    let listed = wire.list_all();
    for key in &listed {
        assert_eq!(key.state, KeyState::Enabled);
        let blob = wire.encrypt(key.key_id, b"whole");
        assert_eq!(wire.decrypt(&blob), Ok(b"whole".to_vec()), "{}", key.key_id);
        assert_eq!(wire.describe(key.key_id).version_count, 1);
    }
    let ids: BTreeSet<Uuid> = listed.iter().map(|key| key.key_id).collect();
    assert_eq!(ids.len(), listed.len(), "no key is listed twice");
    ids
}

#[test]
fn kill_9_in_the_middle_of_creates_loses_nothing_and_leaves_no_halves() {
    for token in each_token() {
        let site = Site::new(token);
        let mut all: Vec<Made> = Vec::new();
        let mut known = BTreeSet::new();
        for round in 0..ROUNDS {
            // Early and late: from before the first key to dozens of them.
            let seen = kill_while_creating(site.start(), round * round / 2);
            let daemon = site.start();
            let mut wire = daemon.admin();
            all.extend(seen.made.into_inner().unwrap());
            for made in &all {
                if let Some(blob) = &made.blob {
                    assert_eq!(wire.decrypt(blob), Ok(made.key_id.as_bytes().to_vec()));
                }
            }
            let listed = every_listed_key_works(&mut wire);
            let expected: BTreeSet<Uuid> =
                known.iter().copied().chain(all.iter().map(|m| m.key_id)).collect();
            assert!(expected.is_subset(&listed), "an acknowledged key is lost");
            // The calls that got no answer, again: each is one key, made then or now.
            known = expected;
            for request in seen.unanswered.into_inner().unwrap() {
                known.insert(wire.call(request).unwrap().key_id);
            }
            for made in &all {
                assert_eq!(wire.call(made.request.clone()).unwrap().key_id, made.key_id);
            }
            assert_eq!(every_listed_key_works(&mut wire), known, "round {round}");
            let counted: u64 = wire.status().keys.iter().map(|count| count.count).sum();
            assert_eq!(counted, known.len() as u64);
            daemon.kill9();
        }
        every_acknowledged_create_is_in_the_audit(&site, &all);
    }
}

fn every_acknowledged_create_is_in_the_audit(site: &Arc<Site>, all: &[Made]) {
    // The start drains what was committed and not yet written.
    site.start().terminate();
    let events = audit::events(&audit::path(site));
    let audited: BTreeSet<Uuid> = events
        .iter()
        .filter(|event| event.operation == "createKey" && event.outcome == "Ok")
        .flat_map(|event| event.resources.clone())
        .collect();
    for made in all {
        assert!(audited.contains(&made.key_id), "{} has no createKey event", made.key_id);
    }
}

#[test]
fn enabling_and_disabling_survives_kill_9() {
    for token in each_token() {
        let site = Site::new(token);
        let mut daemon = site.start();
        let key = daemon.admin().create(Protection::Hsm);
        let blob = daemon.admin().encrypt(key, b"secret");
        for on in [false, true, false, true] {
            daemon.admin().switch(key, on);
            daemon.kill9();
            daemon = site.start();
            let state = if on { KeyState::Enabled } else { KeyState::Disabled };
            assert_eq!(daemon.admin().describe(key).state, state);
            assert_eq!(daemon.admin().decrypt(&blob).is_ok(), on);
        }
        daemon.terminate();
    }
}

/// How long a start takes, from its beginning until it serves.
fn start_time(site: &Arc<Site>) -> Duration {
    let began = Instant::now();
    let daemon = site.start();
    let took = began.elapsed();
    daemon.kill9();
    took
}

/// Starts a daemon and kills it after a part of a start's time: the moment is what
/// is tested here, nothing waits for anything.
fn kill_at(site: &Arc<Site>, after: Duration) {
    let daemon = site.spawn();
    std::thread::sleep(after);
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
}

#[test]
fn kill_9_in_the_middle_of_start_up_and_it_starts_again() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let blobs = LEVELS.map(|level| {
            let key = wire.create(level);
            wire.encrypt(key, b"from before")
        });
        daemon.kill9();
        let whole = start_time(&site);
        for part in 0..12 {
            kill_at(&site, whole * part / 10);
        }
        let daemon = site.start();
        let mut wire = daemon.admin();
        for blob in &blobs {
            assert_eq!(wire.decrypt(blob), Ok(b"from before".to_vec()));
        }
        assert_eq!(every_listed_key_works(&mut wire).len(), LEVELS.len());
        daemon.terminate();
    }
}

#[test]
fn kill_9_in_the_middle_of_the_very_first_start_and_it_starts_again() {
    let whole = start_time(&Site::new(Token::Embedded));
    for part in 0..10 {
        let site = Site::new(Token::Embedded);
        // Twice: the second start finds what the first one left, and is killed, too.
        kill_at(&site, whole * part / 9);
        kill_at(&site, whole * (9 - part) / 9);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let keys = LEVELS.map(|level| wire.create(level));
        let blobs = keys.map(|key| wire.encrypt(key, b"first"));
        daemon.kill9();
        let daemon = site.start();
        for blob in &blobs {
            assert_eq!(daemon.admin().decrypt(blob), Ok(b"first".to_vec()), "part {part}");
        }
        daemon.terminate();
    }
}

#[test]
fn kill_9_in_the_middle_of_hsm_init_and_it_can_be_done_again() {
    for token in each_token() {
        let made = fresh(token);
        let began = Instant::now();
        made.init_domain(&[]);
        let whole = began.elapsed();
        for part in 0..10 {
            let site = fresh(token);
            let mut init = site.hsm_command("init", &[]).spawn().unwrap();
            std::thread::sleep(whole * part / 9);
            init.kill().unwrap();
            init.wait().unwrap();
            // Either it had not got to the end, and starts anew, or there is a domain.
            let again = site.hsm("init", &[]);
            let said = String::from_utf8_lossy(&again.stderr).into_owned();
            assert!(again.status.success() || said.contains("domain"), "part {part}: {said}");
            let daemon = site.start();
            let mut wire = daemon.admin();
            wire.create(Protection::Hsm);
            wire.create(Protection::Software);
            assert_eq!(every_listed_key_works(&mut wire).len(), 2, "part {part}");
            daemon.terminate();
        }
    }
}

/// A token and a configuration, and no domain yet.
fn fresh(token: Token) -> Arc<Site> {
    let mut site = Site::bare(token);
    site.make_token();
    site.write_config();
    Arc::new(site)
}
