//! Backups: made while the daemon works, read back whole, and restored where nothing
//! else is left; and every way in which one can be damaged, cut short or misplaced.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_protocol::backup::BackupReader;
use claviger_protocol::body::VerifyBackupRequest;
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeyState, Protection};
use claviger_tests::cli::{claviger, claviger_json};
use claviger_tests::keys::LEVELS;
use claviger_tests::programs::{binary, run, text, tool};
use claviger_tests::{Site, Token, Wire, each_token};

const SECRET: &[u8] = b"from before the fire";
/// Bytes of the header before the files in it (SPEC.md section 12.1).
const FIXED: usize = 76;

/// A recovery recipient's key pair by OpenSSL: private and public PEM.
fn key_pair(dir: &Path) -> (PathBuf, PathBuf) {
    let (private, public) = (dir.join("offline.key.pem"), dir.join("offline.pub.pem"));
    let make = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", text(&private)];
    tool(Command::new("openssl").args(make));
    tool(Command::new("openssl").args(["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]));
    (private, public)
}

/// A domain with a recovery recipient, whose private key is the second.
fn site_with_recipient(token: Token) -> (Arc<Site>, PathBuf) {
    let mut site = Site::bare(token);
    site.make_token();
    site.write_config();
    let (private, public) = key_pair(site.dir());
    site.init_domain(&["--recovery", text(&public)]);
    (Arc::new(site), private)
}

/// Everything burns but the configuration, the PIN, and what lies beside the state.
fn fire(site: &Site) {
    std::fs::remove_dir_all(site.state_dir()).unwrap();
    if site.token() == Token::SoftHsm {
        site.softhsm().wipe();
        site.softhsm().init_token();
    }
}

/// `clavigerd restore FILE --config …`, with a private key if there is one.
fn restore(site: &Site, file: &Path, private: Option<&Path>) -> Output {
    run(&mut restore_command(site, file, private))
}

fn restore_command(site: &Site, file: &Path, private: Option<&Path>) -> Command {
    let mut command = site.program(Command::new(binary("clavigerd")));
    command.arg("restore").arg(file).arg("--config").arg(site.config_file());
    if let Some(private) = private {
        command.arg("--private-key").arg(private);
    }
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// Every file of a directory but locks and logs: name and content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                all.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_backup_and_a_recovery_key_alone_bring_a_domain_back() {
    for token in each_token() {
        let (site, private) = site_with_recipient(token);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let blobs = LEVELS.map(|level| {
            let key = wire.create(level);
            wire.encrypt(key, SECRET)
        });
        let status = wire.status();
        let file = site.dir().join("monday.backup");
        let made = claviger_json(&site, &["backup", "create", text(&file)], &[]).json();
        assert!(made["records"].as_u64().unwrap() >= 4, "{made}");
        assert_eq!((&made["recovery_files"], &made["warnings"]), (&1.into(), &serde_json::json!([])));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), made["bytes"].as_u64().unwrap());
        let verified = claviger_json(&site, &["backup", "verify", text(&file)], &[]).json();
        assert_eq!(verified, made);
        daemon.terminate();
        let log = std::fs::read_to_string(site.state_dir().join("audit.jsonl")).unwrap();
        assert!(["beginBackup", "endBackup", "verifyBackup"].iter().all(|name| log.contains(name)));

        fire(&site);
        let without = restore(&site, &file, None);
        assert_eq!(without.status.code(), Some(1), "an empty HSM needs the private key");
        assert!(!site.state_dir().join("domain").exists() && !site.state_dir().join("store").exists());
        // As people do it: through the client's command.
        let mut command = site.program(Command::new(binary("claviger")));
        command.arg("restore").arg(&file).arg("--config").arg(site.config_file());
        done(&run(command.arg("--private-key").arg(&private)));
        assert!(!site.state_dir().join("restoring").exists());
        let daemon = site.start();
        let mut wire = daemon.admin();
        for blob in &blobs {
            assert_eq!(wire.decrypt(blob), Ok(SECRET.to_vec()));
        }
        let again = wire.status();
        assert_eq!((again.domain_id, again.root_generation), (status.domain_id, status.root_generation));
        assert_eq!(again.keys, status.keys);
        let key = wire.create(Protection::Hsm);
        wire.encrypt(key, b"and it goes on");
        daemon.terminate();
        let log = std::fs::read_to_string(site.state_dir().join("audit.jsonl")).unwrap();
        assert!(log.contains("restoreBackup"), "{log}");
        let pem = std::fs::read_to_string(&private).unwrap();
        assert!(!site.said().contains(pem.lines().nth(1).unwrap()));
    }
}

/// Loses the state but not the HSM, nor its PIN.
fn lose_state(site: &Site) {
    for name in ["store", "domain", "audit.jsonl"] {
        let path = site.state_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
    }
}

#[test]
fn a_backup_under_load_has_all_that_was_answered_before_it_and_no_halves() {
    let site = Site::with_limits(Token::Embedded, "");
    let daemon = site.start();
    let mut wire = daemon.admin();
    let before: Vec<_> = (0..60).map(|n| wire.create(LEVELS[n % 2])).collect();
    let blobs: Vec<_> = before.iter().map(|key| wire.encrypt(*key, SECRET)).collect();
    let (file, stop) = (site.dir().join("busy.backup"), AtomicBool::new(false));
    let made = std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut wire = daemon.admin();
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let key = wire.create(Protection::Software);
                    wire.switch(key, false);
                }
            });
        }
        // Several, so that changes fall before, into and after the reading.
        let made: Vec<_> = (0..8)
            .map(|_| claviger_json(&site, &["backup", "create", "--force", text(&file)], &[]))
            .collect();
        stop.store(true, Ordering::Relaxed);
        made.last().unwrap().json()
    });
    assert_eq!(claviger_json(&site, &["backup", "verify", text(&file)], &[]).json(), made);
    let after = wire.list_all().len();
    daemon.terminate();
    lose_state(&site);
    // The HSM still has the root: no private key is needed.
    done(&restore(&site, &file, None));
    let daemon = site.start();
    let mut wire = daemon.admin();
    for blob in &blobs {
        assert_eq!(wire.decrypt(blob), Ok(SECRET.to_vec()));
    }
    let listed = wire.list_all();
    assert!((before.len()..=after).contains(&listed.len()), "{} of {after}", listed.len());
    for key in listed {
        // A key is written with its version: one without the other would be half a batch.
        if key.state == KeyState::Disabled {
            wire.switch(key.key_id, true);
        }
        let blob = wire.encrypt(key.key_id, SECRET);
        assert_eq!(wire.decrypt(&blob), Ok(SECRET.to_vec()));
    }
    daemon.terminate();
}

/// Reads a file as `claviger backup verify` does, over a raw connection.
fn good(wire: &mut Wire, bytes: &[u8]) -> bool {
    let Ok(mut reader) = BackupReader::new(bytes) else { return false };
    let (mut sums, mut totals) = ((0, 0), (0, 0));
    loop {
        let Ok(chunk) = reader.chunk() else { return false };
        let Some(chunk) = chunk else { return sums == totals };
        let header = Bytes(reader.raw_header.clone());
        let (index, last, chunk) = (chunk.index, chunk.last, Bytes(chunk.bytes));
        match wire.call(VerifyBackupRequest { header, index, last, chunk }) {
            Ok(reply) => {
                sums = (sums.0 + reply.puts, sums.1 + reply.deletes);
                totals = (reply.total_puts, reply.total_deletes);
            }
            Err(refusal) => {
                assert!(
                    [Code::InvalidCiphertext, Code::InvalidArgument].contains(&refusal.code),
                    "{refusal:?}"
                );
                return false;
            }
        }
    }
}

/// A backup's header and its chunks, each with its length.
fn parts(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut reader = BackupReader::new(file).unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.chunk().unwrap() {
        chunks.push([&u32::try_from(chunk.bytes.len()).unwrap().to_le_bytes()[..], &chunk.bytes].concat());
    }
    (reader.raw_header, chunks)
}

#[test]
fn every_altered_byte_every_cut_and_every_misplaced_chunk_is_found() {
    let site = Site::with_limits(Token::Embedded, "");
    let daemon = site.start();
    let mut wire = daemon.admin();
    wire.create(Protection::Software);
    let back_up = |name: &str| {
        let file = site.dir().join(name);
        let _ = claviger_json(&site, &["backup", "create", text(&file)], &[]).json();
        std::fs::read(file).unwrap()
    };
    let small = back_up("small.backup");
    assert!(good(&mut wire, &small));
    for at in 0..small.len() {
        let mut bad = small.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(!good(&mut wire, &bad), "byte {at}");
        assert!(!good(&mut wire, &small[..at]), "cut at {at}");
    }
    assert!(!good(&mut wire, &[&small[..], &[0]].concat()));
    for _ in 0..90 {
        wire.create(Protection::Software);
    }
    let (header, chunks) = parts(&back_up("large.backup"));
    let (other_header, others) = parts(&back_up("other.backup"));
    assert!(chunks.len() >= 4, "{}", chunks.len());
    let file = |chunks: &[Vec<u8>]| [header.clone(), chunks.concat()].concat();
    assert!(good(&mut wire, &file(&chunks)));
    for end in 0..chunks.len() {
        assert!(!good(&mut wire, &file(&chunks[..end])), "cut after chunk {end}");
        let mut spliced = chunks.clone();
        spliced[end] = others[end.min(others.len() - 1)].clone();
        assert!(!good(&mut wire, &file(&spliced)), "another backup's chunk {end}");
        let mut without = chunks.clone();
        without.remove(end);
        assert!(!good(&mut wire, &file(&without)), "without chunk {end}");
    }
    let mut swapped = chunks.clone();
    swapped.swap(0, 1);
    assert!(!good(&mut wire, &file(&swapped)));
    assert!(!good(&mut wire, &file(&[&chunks[..], &chunks[chunks.len() - 1..]].concat())));
    assert!(!good(&mut wire, &[other_header, chunks.concat()].concat()));
    daemon.terminate();
}

#[test]
fn what_is_damaged_newer_or_of_another_domain_is_refused_and_touches_nothing() {
    let site = Site::with_limits(Token::Embedded, "");
    let daemon = site.start();
    daemon.admin().create(Protection::Hsm);
    let file = site.dir().join("good.backup");
    let _ = claviger_json(&site, &["backup", "create", text(&file)], &[]).json();
    let again = claviger(&site, &["backup", "create", text(&file)], &[]);
    assert!(again.code == 2 && again.stderr.contains("--force"), "{}", again.stderr);
    let _ = claviger_json(&site, &["backup", "create", "--force", text(&file)], &[]).json();
    let whole = std::fs::read(&file).unwrap();
    let bad = site.dir().join("bad.backup");
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 3;
        bytes
    };
    let cases = [
        (changed(0), "not a backup"),
        (changed(8), "version 2"),
        (changed(FIXED + 50), ""),
        (changed(40), "damaged"),
        (changed(whole.len() - 1), "damaged"),
        (changed(whole.len() / 2), "damaged"),
        (whole[..whole.len() - 1].to_vec(), "cut short"),
        (Vec::new(), "cut short"),
    ];
    for (bytes, why) in &cases {
        std::fs::write(&bad, bytes).unwrap();
        let said = claviger(&site, &["backup", "verify", text(&bad)], &[]);
        assert!(said.code == 1 && said.stderr.contains(why), "{why}: {}", said.stderr);
    }
    let live = restore(&site, &file, None);
    assert!(live.status.code() == Some(1) && said(&live).contains("another daemon"), "{}", said(&live));
    daemon.terminate();
    let full = restore(&site, &file, None);
    assert!(full.status.code() == Some(1) && said(&full).contains("has records"), "{}", said(&full));
    site.start().terminate();

    lose_state(&site);
    let before = files(&site.state_dir());
    for (bytes, why) in &cases {
        std::fs::write(&bad, bytes).unwrap();
        let refused = restore(&site, &bad, None);
        assert!(
            refused.status.code() == Some(1) && said(&refused).contains(why),
            "{why}: {}",
            said(&refused)
        );
        assert_eq!(files(&site.state_dir()).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    }
    let elsewhere = Site::with_limits(Token::Embedded, "");
    let stranger = restore(&elsewhere, &file, None);
    assert!(said(&stranger).contains("another domain"), "{}", said(&stranger));
    let daemon = elsewhere.start();
    let verdict = claviger(&elsewhere, &["backup", "verify", text(&file)], &[]);
    assert!(verdict.code == 1 && verdict.stderr.contains("domain"), "{}", verdict.stderr);
    daemon.terminate();
    done(&restore(&site, &file, None));
    site.start().terminate();
}

/// A command under strace, which injects `fault` into the `when`th of these calls.
fn with_fault(command: &Command, calls: &str, fault: &str, when: usize) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    strace.args(["-e", &format!("inject={calls}:{fault}:when={when}"), "--"]);
    strace.arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut strace)
}

#[test]
fn a_full_disk_at_any_step_of_a_backup_leaves_no_file_and_says_so() {
    let site = Site::with_limits(Token::Embedded, "");
    let daemon = site.start();
    daemon.admin().create(Protection::Software);
    let dir = site.dir().join("backups");
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("f.backup");
    let mut command = site.program(Command::new(binary("claviger")));
    command.arg("--socket").arg(site.admin_socket()).args(["backup", "create", text(&file)]);
    let mut failed = 0;
    for call in ["write", "fsync", "rename", "openat"] {
        for when in 1.. {
            let output = with_fault(&command, call, "error=ENOSPC", when);
            if output.status.success() {
                let _ = std::fs::remove_file(&file);
                // Past the last call of this kind; the runtime's own writes may be lost unharmed.
                if when > 12 {
                    break;
                }
                continue;
            }
            failed += 1;
            assert!(!said(&output).is_empty());
            let left = files(&dir);
            // Only a failed sync of the directory leaves the file, which is whole.
            let whole = left.get(&file).is_some_and(|bytes| good(&mut daemon.admin(), bytes));
            assert!(left.is_empty() || (left.len() == 1 && whole), "{call} {when}: {:?}", left.keys());
            let _ = std::fs::remove_file(&file);
            assert!(when < 200, "{call} fails for ever");
        }
    }
    assert!(failed >= 4, "{failed}");
    done(&run(&mut command));
    daemon.terminate();
}

#[test]
fn a_restore_that_fails_or_is_killed_anywhere_serves_nothing_and_can_be_done_again() {
    let (site, private) = site_with_recipient(Token::SoftHsm);
    let daemon = site.start();
    let mut wire = daemon.admin();
    let blobs = LEVELS.map(|level| {
        let key = wire.create(level);
        wire.encrypt(key, SECRET)
    });
    let file = site.dir().join("f.backup");
    let _ = claviger_json(&site, &["backup", "create", text(&file)], &[]).json();
    daemon.terminate();
    let command = restore_command(&site, &file, Some(&private));
    let mut failed = 0;
    for (calls, fault, steps) in [
        ("rename", "signal=KILL", &[1, 3, 5, 6, 7, 8, 9, 10, 11, 12][..]),
        ("fsync,fdatasync", "signal=KILL", &[1, 8, 16, 24][..]),
        ("write,pwrite64", "error=ENOSPC", &[1, 6, 12, 18, 24][..]),
        ("fsync,fdatasync", "error=ENOSPC", &[2, 9, 17][..]),
        ("mkdir", "error=ENOSPC", &[1, 2][..]),
        ("unlink,unlinkat,rmdir", "signal=KILL", &[1, 2, 3, 4, 5, 6, 7][..]),
    ] {
        for when in steps {
            fire(&site);
            let first = with_fault(&command, calls, fault, *when);
            let state = site.state_dir();
            if !first.status.success() {
                failed += 1;
                if state.join("restoring").exists() && failed < 4 {
                    let refused = run(&mut site.daemon_command());
                    assert!(said(&refused).contains("restore was interrupted"), "{}", said(&refused));
                }
                // Nothing serves half of it: no domain without its store, and `restoring` forbids.
                assert!(
                    !state.join("domain").exists()
                        || state.join("restoring").exists()
                        || state.join("store").exists()
                );
                // Killed in the very last step, it was over: what is left is removed at the next start.
                let over = state.join("domain").exists() && !state.join("restoring").exists();
                if over {
                    site.start().terminate();
                } else {
                    done(&restore(&site, &file, Some(&private)));
                }
            }
            assert!(!state.join("restoring").exists() && !state.join("restoring.done").exists());
        }
    }
    assert!(failed >= 8, "only {failed} faults were hit");
    let daemon = site.start();
    for blob in &blobs {
        assert_eq!(daemon.admin().decrypt(blob), Ok(SECRET.to_vec()));
    }
    daemon.terminate();
}
