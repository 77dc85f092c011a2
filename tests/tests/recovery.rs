//! The fire: every HSM is lost, and the domain comes back from a recovery file and
//! its recipient's private key, made and kept with OpenSSL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use claviger_protocol::Protection;
use claviger_tests::keys::LEVELS;
use claviger_tests::programs::{text, tool};
use claviger_tests::{Site, Token, each_token};

/// An RSA key pair by OpenSSL: private and public PEM.
fn key_pair(dir: &Path, name: &str, bits: u32) -> (PathBuf, PathBuf) {
    let (private, public) = (dir.join(format!("{name}.key.pem")), dir.join(format!("{name}.pub.pem")));
    let bits = format!("rsa_keygen_bits:{bits}");
    tool(Command::new("openssl").args([
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        &bits,
        "-out",
        text(&private),
    ]));
    tool(Command::new("openssl").args(["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]));
    (private, public)
}

/// The recovery files of a site.
fn recovery_files(site: &Site) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(site.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "recovery")).collect();
    files.sort();
    files
}

/// The token burns, and an empty one of the same name takes its place.
fn fire(site: &Site) {
    match site.token() {
        Token::Embedded => std::fs::remove_dir_all(site.state_dir().join("token")).unwrap(),
        Token::SoftHsm | Token::Sm(_) => {
            site.softhsm().wipe();
            site.softhsm().init_token();
        }
    }
}

#[test]
fn a_lost_token_is_restored_from_its_recovery_file_and_old_blobs_open() {
    for token in each_token() {
        let mut site = Site::bare(token);
        site.make_token();
        site.write_config();
        let (private, public) = key_pair(site.dir(), "offline", 3072);
        let (stranger, _) = key_pair(site.dir(), "stranger", 3072);
        site.init_domain(&["--recovery", text(&public)]);
        let files = recovery_files(&site);
        assert_eq!(files.len(), 1, "{files:?}");
        let site = Arc::new(site);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let status = wire.status();
        assert_eq!(status.recovery_recipients, 1);
        assert!(!status.warnings.iter().any(|warning| warning.contains("recovery")), "{:?}", status.warnings);
        let blobs = LEVELS.map(|level| {
            let key = wire.create(level);
            wire.encrypt(key, b"from before the fire")
        });
        daemon.terminate();

        fire(&site);
        let restore = |private: &Path| {
            site.hsm("restore", &["--recovery-file", text(&files[0]), "--private-key", text(private)])
        };
        let wrong = restore(&stranger);
        assert_eq!(wrong.status.code(), Some(1), "another's key restores nothing");
        let right = restore(&private);
        assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
        let daemon = site.start();
        let mut wire = daemon.admin();
        for blob in &blobs {
            assert_eq!(wire.decrypt(blob), Ok(b"from before the fire".to_vec()));
        }
        assert_eq!(wire.status().domain_id, status.domain_id);
        assert_eq!(wire.status().root_generation, status.root_generation);
        let key = wire.create(Protection::Hsm);
        wire.encrypt(key, b"and it goes on");
        daemon.terminate();
        // The private key never came near anything that is kept.
        let pem = std::fs::read_to_string(&private).unwrap();
        assert!(!site.said().contains(pem.lines().nth(1).unwrap()));
    }
}

#[test]
fn several_recipients_each_restore_alone() {
    let mut site = Site::bare(Token::SoftHsm);
    site.make_token();
    site.write_config();
    let pairs = ["first", "second"].map(|name| key_pair(site.dir(), name, 3072));
    let recipients: Vec<&str> = pairs.iter().flat_map(|(_, public)| ["--recovery", text(public)]).collect();
    site.init_domain(&recipients);
    let site = Arc::new(site);
    let daemon = site.start();
    let mut wire = daemon.admin();
    assert_eq!(wire.status().recovery_recipients, 2);
    let key = wire.create(Protection::Hsm);
    let blob = wire.encrypt(key, b"secret");
    daemon.terminate();
    for (private, _) in &pairs {
        fire(&site);
        let restored = recovery_files(&site).iter().any(|file| {
            let args = ["--recovery-file", text(file), "--private-key", text(private)];
            site.hsm("restore", &args).status.success()
        });
        assert!(restored, "{}", private.display());
        let daemon = site.start();
        assert_eq!(daemon.admin().decrypt(&blob), Ok(b"secret".to_vec()));
        daemon.terminate();
    }
}

#[test]
fn weak_and_broken_recovery_keys_are_refused_before_anything_is_made() {
    for token in each_token() {
        let mut site = Site::bare(token);
        site.make_token();
        site.write_config();
        let (private, weak) = key_pair(site.dir(), "weak", 2048);
        let broken = site.dir().join("broken.pem");
        std::fs::write(&broken, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").unwrap();
        let missing = site.dir().join("missing.pem");
        for file in [&weak, &broken, &missing, &private] {
            let output = site.hsm("init", &["--recovery", text(file)]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{}: {said}", file.display());
            assert!(said.contains(text(file)), "{said}");
        }
        // Nothing stands in the way of doing it right.
        site.init_domain(&[]);
        Arc::new(site).start().terminate();
    }
}

#[test]
fn blobs_open_outside_by_the_documented_formats_and_the_recovery_key_alone() {
    for token in each_token() {
        let mut site = Site::bare(token);
        site.make_token();
        site.write_config();
        let (private, public) = key_pair(site.dir(), "offline", 3072);
        site.init_domain(&["--recovery", text(&public)]);
        let site = Arc::new(site);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let mut sealed = Vec::new();
        for (level, plaintext) in LEVELS.into_iter().zip(["in the HSM", "in software"]) {
            // Others beside it: the oracle has to find the right one.
            let keys: Vec<_> = (0..3).map(|_| wire.create(level)).collect();
            sealed.push((wire.encrypt(keys[1], plaintext.as_bytes()), plaintext));
        }
        daemon.terminate();
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/open_domain.py");
        let mut command = Command::new("python3");
        command.arg("-B").arg(oracle).arg(site.state_dir()).arg(&private);
        let opened = tool(command.args(sealed.iter().map(|(blob, _)| hex::encode(blob))));
        let opened: Vec<String> = String::from_utf8(opened).unwrap().lines().map(str::to_owned).collect();
        let wanted: Vec<String> = sealed.iter().map(|(_, plaintext)| hex::encode(plaintext)).collect();
        assert_eq!(opened, wanted);
    }
}
