//! SM2, SM3 and SM4 in a token, through the whole daemon: keys that stay in it, across
//! restarts, and tokens whose numbers do something else. The token is the SM test token;
//! OpenSSL is the other side.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use claviger_protocol::body::{CreateKeyRequest, GenerateMacRequest};
use claviger_protocol::{
    Code, EncryptionAlgorithm, KeySpec, KeyUsage, Protection, SecretBytes, SigningAlgorithm,
};
use claviger_tests::keys::new_key;
use claviger_tests::pairs::{opening, openssl, public_key, signing, verifying, write};
use claviger_tests::token::Token;
use claviger_tests::{Daemon, Site, Wire};
use serde_json::Value;
use uuid::Uuid;

fn made(spec: KeySpec, usage: KeyUsage) -> CreateKeyRequest {
    CreateKeyRequest { spec, usage: Some(usage), ..new_key(Protection::Hsm) }
}

/// One key of each kind that SM has, held by the token.
struct Keys {
    sm4: Uuid,
    signs: Uuid,
    opens: Uuid,
    mac: Uuid,
}

impl Keys {
    fn create(wire: &mut Wire) -> Self {
        let mut create = |spec, usage| wire.call(made(spec, usage)).unwrap().key_id;
        Self {
            sm4: create(KeySpec::Sm4, KeyUsage::EncryptDecrypt),
            signs: create(KeySpec::Sm2, KeyUsage::SignVerify),
            opens: create(KeySpec::Sm2, KeyUsage::EncryptDecrypt),
            mac: create(KeySpec::HmacSm3, KeyUsage::GenerateVerifyMac),
        }
    }

    /// What OpenSSL and the pairs say to each other.
    fn openssl(&self, wire: &mut Wire, dir: &Path) {
        let request = signing(self.signs, SigningAlgorithm::Sm2Dsa, b"a message");
        let signature = wire.call(request.clone()).unwrap().signature.0;
        assert!(wire.call(verifying(&request, &signature)).unwrap().valid);
        write(dir, "public.der", &public_key(wire, self.signs));
        write(dir, "signature", &signature);
        write(dir, "message", b"a message");
        let verify = ["dgst", "-keyform", "DER", "-verify", "public.der", "-signature", "signature"];
        let how = ["-sm3", "-sigopt", "distid:1234567812345678", "message"];
        assert!(openssl(dir, &[&verify[..], &how].concat()).0);

        write(dir, "public.der", &public_key(wire, self.opens));
        let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public.der"];
        let (done, mut sealed) = openssl(dir, &[&encrypt[..], &["-in", "message"]].concat());
        assert!(done);
        let opened = wire.call(opening(self.opens, EncryptionAlgorithm::Sm2Pke, &sealed)).unwrap();
        assert_eq!(opened.plaintext.expose(), b"a message");
        *sealed.last_mut().unwrap() ^= 1;
        let refusal = wire.call(opening(self.opens, EncryptionAlgorithm::Sm2Pke, &sealed)).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidCiphertext);
    }

    fn mac(&self, wire: &mut Wire) -> Vec<u8> {
        let message = SecretBytes::new(b"a message".to_vec());
        wire.call(GenerateMacRequest { key: self.mac.into(), algorithm: None, message }).unwrap().mac.0
    }
}

#[test]
fn sm_keys_live_in_the_token_and_work_after_a_restart() {
    let site = Site::new(Token::Sm("complete"));
    let daemon = site.start();
    let keys = Keys::create(&mut daemon.admin());
    let mut wire = daemon.app();
    for key in [keys.sm4, keys.signs, keys.opens, keys.mac] {
        assert_eq!(daemon.admin().describe(key).protection, Protection::Hsm);
    }
    let blob = wire.encrypt(keys.sm4, b"a secret");
    let mac = keys.mac(&mut wire);
    keys.openssl(&mut wire, site.dir());
    drop(wire);
    daemon.terminate();

    let daemon = site.start();
    let mut wire = daemon.app();
    assert_eq!(wire.decrypt(&blob), Ok(b"a secret".to_vec()));
    assert_eq!(keys.mac(&mut wire), mac);
    keys.openssl(&mut wire, site.dir());
    let mut flipped = blob.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(wire.decrypt(&flipped), Err(Code::InvalidCiphertext));
    daemon.terminate();
}

/// `hsm probe` of a liar: the mechanisms that failed, with their reasons.
fn failed(site: &Site) -> Vec<(String, String)> {
    let probe = site.hsm("probe", &["--json"]);
    let said: Value = serde_json::from_slice(&probe.stdout).unwrap();
    let mechanisms = said["members"][0]["mechanisms"].as_array().unwrap();
    let failed = mechanisms.iter().filter(|mechanism| mechanism["ok"] == false);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    failed.map(|mechanism| (text(&mechanism["use"]), text(&mechanism["reason"]))).collect()
}

/// A liar is refused where it lies, by `hsm probe` and by the daemon, and serves what it
/// is honest in.
fn liar(numbering: &'static str, mechanism: &str, reason: &str, refused: (KeySpec, KeyUsage)) {
    let site: Arc<Site> = Site::new(Token::Sm(numbering));
    let failed = failed(&site);
    assert!(failed.len() == 1 && failed[0].0 == mechanism && failed[0].1.starts_with(reason), "{failed:?}");
    let daemon: Daemon = site.start();
    let mut wire = daemon.admin();
    let refusal = wire.call(made(refused.0, refused.1)).unwrap_err();
    assert_eq!(refusal.code, Code::UnsupportedByHsm);
    assert!(refusal.message.contains(&format!("{mechanism}: {reason}")), "{}", refusal.message);
    let key = wire.create(Protection::Hsm);
    let blob = wire.encrypt(key, b"a secret");
    assert_eq!(wire.decrypt(&blob), Ok(b"a secret".to_vec()));
    daemon.terminate();
}

#[test]
fn a_liar_about_sm3_holds_no_sm_key() {
    let sm2 = (KeySpec::Sm2, KeyUsage::SignVerify);
    liar("liar=sm3", "sm3", "the digest is not SM3's", sm2);
}

#[test]
fn a_liar_about_sm4_holds_no_sm4_key() {
    let sm4 = (KeySpec::Sm4, KeyUsage::EncryptDecrypt);
    liar("liar=sm4", "sm4-gcm", "the ciphertext is not RFC 8998's", sm4);
}

#[test]
fn a_liar_about_signatures_holds_no_sm2_key_that_signs() {
    let sm2 = (KeySpec::Sm2, KeyUsage::SignVerify);
    liar("liar=sm2-sign", "sm2-sign", "a signature of SM2 is not SM2DSA", sm2);
}

#[test]
fn a_liar_about_ciphertexts_holds_no_sm2_key_that_decrypts() {
    let sm2 = (KeySpec::Sm2, KeyUsage::EncryptDecrypt);
    liar("liar=sm2-encrypt", "sm2-encrypt", "what was encrypted outside does not open", sm2);
}
