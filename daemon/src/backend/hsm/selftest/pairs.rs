//! Key pairs: known private keys go in wrapped, as stored ones do, and what they compute
//! is checked by software. SM2 and PSS sign differently every time, so that only a check
//! of the signature tells whether the number means what the profile says.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use claviger_hsm_profiles::MechanismUse;
use claviger_protocol::{EncryptionAlgorithm, KeySpec, SecretBytes, SigningAlgorithm};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use super::super::command::Template;
use super::super::failure::describe;
use super::super::means::{Held, Means};
use super::super::private::{self, Trouble};
use super::super::scrap::Scrap;
use super::super::template::{self, Usage};
use super::{expect, keep, known, said, vectors};
use crate::backend::software::{self, PrivateKey, PublicKey};
use crate::edge::Entropy;

pub(super) const PKCS1: [SigningAlgorithm; 3] =
    [SigningAlgorithm::RsaPkcs1Sha256, SigningAlgorithm::RsaPkcs1Sha384, SigningAlgorithm::RsaPkcs1Sha512];
pub(super) const PSS: [SigningAlgorithm; 3] =
    [SigningAlgorithm::RsaPssSha256, SigningAlgorithm::RsaPssSha384, SigningAlgorithm::RsaPssSha512];
pub(super) const ECDSA: [SigningAlgorithm; 2] =
    [SigningAlgorithm::EcdsaSha256, SigningAlgorithm::EcdsaSha384];
pub(super) const SM2: [SigningAlgorithm; 1] = [SigningAlgorithm::Sm2Dsa];

const TEXT: &[u8] = b"claviger/v1/self-test";

pub(super) fn told(trouble: Trouble) -> String {
    match trouble {
        Trouble::Token(error) => describe(&error),
        Trouble::Known(error) => error.to_string(),
    }
}

/// A known private key, wrapped outside and unwrapped inside.
fn known_pair(
    session: &Session,
    means: &Means,
    scrap: &Scrap<'_>,
    (spec, template): (KeySpec, Template),
) -> Result<(Held, PrivateKey), String> {
    let pkcs8 = match spec {
        KeySpec::EcP256 => vectors::EC_P256.as_slice(),
        KeySpec::EcP384 => &vectors::EC_P384,
        KeySpec::Sm2 => &vectors::SM2,
        _ => vectors::RSA_2048,
    };
    let ours = spec.pair().ok_or("the spec is no pair's")?;
    let ours = PrivateKey::from_pkcs8(ours, &SecretBytes::new(pkcs8.to_vec())).map_err(|e| e.to_string())?;
    let attributes = template::unwrapped_private(means, spec, template).map_err(|e| e.to_string())?;
    let handle = known_private(session, scrap, pkcs8, &attributes)?;
    Ok((Held { handle, spec, template }, ours))
}

/// A known PKCS#8 as an object with these attributes.
pub(super) fn known_private(
    session: &Session,
    scrap: &Scrap<'_>,
    pkcs8: &[u8],
    attributes: &[Attribute],
) -> Result<ObjectHandle, String> {
    let root = known(session, scrap, Usage::WRAP, &vectors::KW_KEK, false)?;
    let mut out = vec![0; pkcs8.len() + 16];
    let blob = AesKek::new(&AES_256, &vectors::KW_KEK)
        .and_then(|kek| kek.wrap_with_padding(pkcs8, &mut out))
        .map_err(|_| "AWS-LC's AES-KWP failed".to_owned())?;
    keep(scrap, session.unwrap_key(&Mechanism::AesKeyWrapPad, root, blob, attributes))
}

const fn signing(spec: KeySpec) -> Template {
    match spec {
        KeySpec::EcP256 | KeySpec::EcP384 => Template::EcSign,
        KeySpec::Sm2 => Template::Sm2Sign,
        _ => Template::RsaSign,
    }
}

/// What a known key of each spec signs with each of the algorithms that are its own is
/// right in the eyes of software.
pub(super) fn signs(
    session: &Session,
    means: &Means,
    specs: &[KeySpec],
    algorithms: &[SigningAlgorithm],
) -> Result<(), String> {
    let scrap = Scrap::new(session);
    for &spec in specs {
        let (key, ours) = known_pair(session, means, &scrap, (spec, signing(spec)))?;
        for algorithm in algorithms.iter().filter(|own| spec.signing_algorithms().contains(own)) {
            let digest = software::digest(algorithm.digest(), TEXT);
            let signature = private::sign(session, means, &key, *algorithm, &digest).map_err(told)?;
            let right = ours.public_key().verify(*algorithm, &digest, &signature);
            expect(right, &format!("a signature of {spec} is not {algorithm}"))?;
        }
    }
    Ok(())
}

/// What software encrypts to a known key opens, and nothing else does.
pub(super) fn decrypts(
    session: &Session,
    means: &Means,
    spec: KeySpec,
    algorithm: EncryptionAlgorithm,
) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let template = if spec == KeySpec::Sm2 { Template::Sm2Decrypt } else { Template::RsaDecrypt };
    let (key, ours) = known_pair(session, means, &scrap, (spec, template))?;
    let sealed = ours.public_key().encrypt(algorithm.into(), TEXT, &Entropy::system());
    let mut sealed = sealed.map_err(|e| e.to_string())?;
    let opened = private::decrypt(session, means, &key, algorithm, &sealed)
        .map_err(|trouble| format!("what was encrypted outside does not open: {}", told(trouble)))?;
    expect(opened.expose() == TEXT, "the plaintext is another")?;
    // The last byte: of the number that RSA takes, and of SM2's C2.
    if let Some(last) = sealed.last_mut() {
        *last ^= 1;
    }
    let refused = private::decrypt(session, means, &key, algorithm, &sealed).is_err();
    expect(refused, "an altered ciphertext was opened")
}

/// New pairs differ, and each private key is its public key's. It shows in one of the
/// ways to use a pair: a way that is wrong itself has a test of its own.
pub(super) fn generates(session: &Session, means: &Means, specs: &[KeySpec]) -> Result<(), String> {
    for &spec in specs {
        let ways = ways(means, spec);
        let mut outcomes = ways.iter().map(|template| two_pairs(session, means, spec, *template));
        let first = outcomes.next().unwrap_or(Err(format!("nothing is done with {spec} pairs")));
        if first.is_err() && !outcomes.any(|outcome| outcome.is_ok()) {
            return first;
        }
    }
    Ok(())
}

/// What pairs of a spec are for, as far as the profile has the mechanisms.
fn ways(means: &Means, spec: KeySpec) -> Vec<Template> {
    let sm2 = [(MechanismUse::Sm2Sign, Template::Sm2Sign), (MechanismUse::Sm2Encrypt, Template::Sm2Decrypt)];
    match spec {
        KeySpec::Sm2 => sm2
            .iter()
            .filter(|(used, _)| means.vendors(*used).is_ok())
            .map(|(_, template)| *template)
            .collect(),
        _ => vec![signing(spec)],
    }
}

fn two_pairs(session: &Session, means: &Means, spec: KeySpec, template: Template) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let mut found: Vec<Vec<u8>> = Vec::new();
    for _ in 0..2 {
        let (public, private) = template::passing_pair(means, spec, template).map_err(|e| e.to_string())?;
        let mechanism = means.generation(spec).map_err(|e| e.to_string())?;
        let (public, private) =
            session.generate_key_pair(&mechanism, &public, &private).map_err(|e| said(&e))?;
        let made = [public, private].map(|made| keep(&scrap, Ok(made)));
        made.into_iter().collect::<Result<Vec<_>, _>>()?;
        let spki = private::public_key(session, public, spec).map_err(|e| e.to_string())?;
        let key = Held { handle: private, spec, template };
        let public = PublicKey::from_spki(&spki).map_err(|e| e.to_string())?;
        let belongs = private::belongs(session, means, &key, &public).map_err(told)?;
        expect(belongs, &format!("a new {spec} pair is no pair"))?;
        found.push(spki);
    }
    expect(found[0] != found[1], "two new pairs are the same pair")
}
