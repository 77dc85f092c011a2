//! HMAC secrets: known ones against software, new ones against each other.

use claviger_protocol::{MacAlgorithm, SecretBytes};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::KeyType;
use cryptoki::session::Session;

use super::super::means::Means;
use super::super::scrap::Scrap;
use super::super::template::{self, Usage};
use super::{expect, keep, said};
use crate::backend::software::MacKey;

const MESSAGE: &[u8] = b"claviger/v1/self-test";
const USAGE: Usage = Usage { mac: true, verify: true, ..Usage::NONE };

/// A known secret as long as the hash.
pub(super) fn hmac(session: &Session, means: &Means, algorithm: MacAlgorithm) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let secret = vec![0x0b; algorithm.digest().len()];
    let attributes = template::known_secret(KeyType::GENERIC_SECRET, USAGE, &secret, false);
    let key = keep(&scrap, session.create_object(&attributes))?;
    let mechanism = means.mac(algorithm).map_err(|e| e.to_string())?;
    let theirs = session.sign(&mechanism, key, MESSAGE).map_err(|e| said(&e))?;
    let ours = MacKey::new(algorithm, &SecretBytes::new(secret)).map_err(|e| e.to_string())?;
    expect(theirs == ours.mac(MESSAGE), &format!("the MAC is not {algorithm}"))
}

pub(super) fn generic_secret_key_gen(session: &Session) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let mut macs = Vec::new();
    for _ in 0..2 {
        let mut attributes = template::passing(KeyType::GENERIC_SECRET, USAGE);
        attributes.push(template::aes_length());
        let key = keep(&scrap, session.generate_key(&Mechanism::GenericSecretKeyGen, &attributes))?;
        macs.push(session.sign(&Mechanism::Sha256Hmac, key, MESSAGE).map_err(|e| said(&e))?);
    }
    expect(macs[0] != macs[1], "two new secrets are the same secret")
}
