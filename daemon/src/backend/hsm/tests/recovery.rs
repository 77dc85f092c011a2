//! The token is lost; a recipient's private key and the recovery file bring it back.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use super::support::{Bench, Token, isolated, on_each_token};
use crate::backend::hsm::domain::DomainError;
use crate::backend::hsm::{self, RootError};
use crate::edge::Edge;

on_each_token!(a_recipient_restores_the_root, a_recovery_file_that_does_not_fit_changes_nothing);

/// A key pair made by OpenSSL.
pub(super) struct Keys {
    dir: PathBuf,
    name: String,
}

impl Keys {
    pub(super) fn make(dir: &Path, name: &str, bits: u32) -> Self {
        let keys = Self { dir: dir.to_owned(), name: name.to_owned() };
        openssl(&["genrsa", "-out", keys.private().to_str().unwrap(), &bits.to_string()]);
        keys.write_public();
        keys
    }

    fn write_public(&self) {
        let (private, public) = (self.private(), self.public());
        let arguments = ["-in", private.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()];
        openssl(&[["pkey"].as_slice(), &arguments].concat());
    }

    pub(super) fn private(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    pub(super) fn public(&self) -> PathBuf {
        self.dir.join(format!("{}.pub.pem", self.name))
    }
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let done = Process::new("openssl").args(arguments).output().unwrap();
    assert!(done.status.success(), "openssl {arguments:?}: {done:?}");
    done.stdout
}

pub(super) fn restore(bench: &Bench, file: &Path, key: &Path) -> Result<(), RootError> {
    hsm::restore(&bench.daemon(), file, key, &Edge::system(), &mut |_| ControlFlow::Continue(()))
}

fn a_recipient_restores_the_root(token: Token) {
    let mut bench = Bench::new(token);
    let (a, b) = (Keys::make(bench.path(), "a", 3072), Keys::make(bench.path(), "b", 4096));
    let root = bench.init(&[a.public(), b.public()]);
    let member = bench.open(Some(&root), 1).unwrap();
    let before = bench.domain(&member).unwrap();
    assert_eq!(before.recovery_recipients, 2);
    drop(member);
    let file = bench.daemon().state_dir.join("root-1.recovery");
    for keys in [b, a] {
        bench.wipe();
        let member = bench.open(Some(&root), 2).unwrap();
        let lost = bench.domain(&member).err();
        assert!(matches!(&lost, Some(DomainError::NoRoot(r)) if *r == root), "{lost:?}");
        drop(member);
        restore(&bench, &file, &keys.private()).unwrap();
        let member = bench.open(Some(&root), 3).unwrap();
        let after = bench.domain(&member).unwrap();
        assert_eq!(after.id, before.id);
        assert_eq!(after.keys.record_mac(), before.keys.record_mac());
        assert_eq!(after.keys.software_seal(), before.keys.software_seal());
        drop(member);
        assert!(matches!(restore(&bench, &file, &keys.private()), Err(RootError::Held)));
    }
}

fn a_recovery_file_that_does_not_fit_changes_nothing(token: Token) {
    let mut bench = Bench::new(token);
    let keys = Keys::make(bench.path(), "a", 3072);
    let stranger = Keys::make(bench.path(), "s", 3072);
    let root = bench.init(&[keys.public()]);
    let file = bench.daemon().state_dir.join("root-1.recovery");
    let text = fs::read_to_string(&file).unwrap();
    bench.wipe();
    let refused = |text: &str, key: &Path| {
        let bad = bench.path().join("bad.recovery");
        fs::write(&bad, text).unwrap();
        let error = restore(&bench, &bad, key).unwrap_err();
        assert!(!matches!(error, RootError::Held | RootError::Stopped(_)), "{error}");
        error.to_string()
    };
    assert!(refused(&text, &stranger.private()).contains("wrapped to this key"));
    assert!(refused(&text, &keys.public()).contains("private key"));
    let other_domain = text.replacen(&root.domain.to_string(), &uuid::Uuid::nil().to_string(), 1);
    assert!(refused(&other_domain, &keys.private()).contains("another domain"));
    assert!(
        refused(&text.replacen("\"version\": 1", "\"version\": 2", 1), &keys.private()).contains("version")
    );
    assert!(refused(&text[..text.len() / 2], &keys.private()).contains("EOF"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (wrap, seal) = (json["recipients"][0]["wrap"].clone(), json["recipients"][0]["seal"].clone());
    let mut swapped = json.clone();
    swapped["recipients"][0]["wrap"] = seal.clone();
    swapped["recipients"][0]["seal"] = wrap;
    refused(&swapped.to_string(), &keys.private());
    let mut flipped = json;
    let seal = seal.as_str().unwrap();
    let other = if seal.ends_with('0') { '1' } else { '0' };
    flipped["recipients"][0]["seal"] = format!("{}{other}", &seal[..seal.len() - 1]).into();
    refused(&flipped.to_string(), &keys.private());
    // After all that, the right one still works.
    restore(&bench, &file, &keys.private()).unwrap();
    let member = bench.open(Some(&root), 1).unwrap();
    bench.domain(&member).unwrap();
}

/// The fingerprint is what OpenSSL computes of the public key.
#[test]
fn recipients_are_checked_and_named_by_their_fingerprint() {
    let name = concat!(module_path!(), "::recipients_are_checked_and_named_by_their_fingerprint");
    isolated(name, || {
        let bench = Bench::new(Token::Embedded);
        let good = Keys::make(bench.path(), "good", 3072);
        let small = Keys::make(bench.path(), "small", 2048);
        let curve = Keys { dir: bench.path().to_owned(), name: "curve".to_owned() };
        let arguments = ["-name", "prime256v1", "-genkey", "-noout", "-out"];
        let to = curve.private();
        openssl(&[["ecparam"].as_slice(), &arguments, &[to.to_str().unwrap()]].concat());
        curve.write_public();
        let go = &mut |_| ControlFlow::Continue(());
        let missing = bench.path().join("missing.pem");
        for bad in [small.public(), curve.public(), good.private(), missing] {
            let recipients = [good.public(), bad.clone()];
            let refused = hsm::init(&bench.daemon(), &recipients, &Edge::system(), go).unwrap_err();
            assert!(matches!(&refused, RootError::Recipient { path, .. } if *path == bad), "{refused}");
            assert!(!bench.daemon().state_dir.join("root.intent").exists());
        }
        let made = hsm::init(&bench.daemon(), &[good.public()], &Edge::system(), go).unwrap();
        let public = good.public();
        let der = ["-pubin", "-in", public.to_str().unwrap(), "-outform", "DER"];
        let der = openssl(&[["pkey"].as_slice(), &der].concat());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        assert_eq!(made.recipients, [hex::encode(digest)]);
        assert_eq!(made.recovery_file, Some(bench.daemon().state_dir.join("root-1.recovery")));
    });
}
