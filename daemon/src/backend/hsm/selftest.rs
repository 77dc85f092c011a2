//! Known-answer tests of every mechanism that the profile names, on every slot, each
//! time a member is opened: a number means what the token makes of it, so nothing is
//! used before it has given an answer that was computed elsewhere. What a test makes
//! in the token it destroys again.

use aws_lc_rs::aead;
use claviger_hsm_profiles::{Derivation, MechanismUse, Profile};
use cryptoki::error::Error;
use cryptoki::mechanism::ekdf::AesCbcDeriveParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::calls;
use super::failure::describe;
use super::handover::{self, Receiver};
use super::login::{LoggedIn, Opened};
use super::probe::{MechanismReport, ProbeReport};
use super::scrap::Scrap;
use super::template::{self, Usage};

mod vectors;

const RANDOM: &str = "random";
/// Enough for OAEP with SHA-256, and made in a fraction of a second.
const TEST_MODULUS_BITS: u64 = 2048;

/// Tests everything.
pub(super) fn run(opened: &Opened, profile: &Profile) -> ProbeReport {
    let mut mechanisms = vec![report(RANDOM, None, each(opened, |token| random(&token.owner)))];
    // A key pair takes long to make: one, where keys are made, tests both of its uses.
    let (pair, oaep) = rsa(&opened.make().owner, profile);
    for used in MechanismUse::ALL {
        let Some(number) = profile.mechanisms.get(&used).copied() else { continue };
        let outcome = each(opened, |token| {
            listed(opened, token, used, number)?;
            let session = &token.owner;
            match used {
                MechanismUse::AesKeyGen => aes_key_gen(session),
                MechanismUse::AesKeyWrap => aes_key_wrap(session),
                MechanismUse::AesCbcEncryptData => cbc_encrypt_data(session),
                MechanismUse::AesGcm => gcm(session),
                MechanismUse::AesCmac => cmac(session),
                MechanismUse::RsaKeyPairGen => pair.clone(),
                MechanismUse::RsaOaep => oaep.clone(),
            }
        });
        mechanisms.push(report(used.name(), Some(number), outcome));
    }
    ProbeReport::conclude(mechanisms, needed(profile))
}

/// What AES_256 keys need, by the profile's suite.
fn needed(profile: &Profile) -> &'static [&'static str] {
    match profile.derivation {
        Derivation::CbcEncryptData => {
            &[RANDOM, "aes-key-gen", "aes-key-wrap", "aes-gcm", "aes-cbc-encrypt-data"]
        }
        Derivation::None => &[RANDOM, "aes-key-gen", "aes-key-wrap", "aes-gcm", "aes-cmac"],
    }
}

fn report(used_for: &str, number: Option<u64>, outcome: Result<(), String>) -> MechanismReport {
    MechanismReport {
        used_for: used_for.to_owned(),
        mechanism: number.map(|number| format!("0x{number:04X}")),
        ok: outcome.is_ok(),
        reason: outcome.err(),
    }
}

fn each(opened: &Opened, test: impl Fn(&LoggedIn) -> Result<(), String>) -> Result<(), String> {
    opened.tokens().iter().try_for_each(test)
}

fn listed(opened: &Opened, token: &LoggedIn, used: MechanismUse, number: u64) -> Result<(), String> {
    if number != *callable(used) {
        return Err(format!("this version can't call mechanism 0x{number:04X} for it"));
    }
    let listed = token.mechanisms(&opened.library).map_err(|e| e.to_string())?;
    if listed.contains(&number) { Ok(()) } else { Err("the token doesn't list it".to_owned()) }
}

/// The one mechanism that this version knows for a use.
const fn callable(used: MechanismUse) -> MechanismType {
    match used {
        MechanismUse::AesKeyGen => MechanismType::AES_KEY_GEN,
        MechanismUse::AesKeyWrap => MechanismType::AES_KEY_WRAP,
        MechanismUse::AesCbcEncryptData => MechanismType::AES_CBC_ENCRYPT_DATA,
        MechanismUse::AesGcm => MechanismType::AES_GCM,
        MechanismUse::AesCmac => MechanismType::AES_CMAC,
        MechanismUse::RsaKeyPairGen => MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        MechanismUse::RsaOaep => MechanismType::RSA_PKCS_OAEP,
    }
}

fn said(error: &Error) -> String {
    describe(error)
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn keep(scrap: &Scrap<'_>, made: cryptoki::error::Result<ObjectHandle>) -> Result<ObjectHandle, String> {
    scrap.keep(made).map_err(|e| e.to_string())
}

fn known(
    session: &Session,
    scrap: &Scrap<'_>,
    usage: Usage,
    value: &[u8],
    extractable: bool,
) -> Result<ObjectHandle, String> {
    keep(scrap, session.create_object(&template::known_key(usage, value, extractable)))
}

/// Two draws differ, and no draw is one byte repeated: a generator that is stuck.
fn random(session: &Session) -> Result<(), String> {
    let mut draws = [[0u8; 32]; 2];
    for draw in &mut draws {
        session.generate_random_slice(draw).map_err(|e| said(&e))?;
    }
    let stuck = draws.iter().any(|draw| draw.iter().all(|byte| *byte == draw[0]));
    expect(!stuck && draws[0] != draws[1], "the generator repeats itself")
}

fn aes_key_gen(session: &Session) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let mut sealed = Vec::new();
    for _ in 0..2 {
        let passing = template::passing_key(Usage::ENCRYPT);
        let key = keep(&scrap, session.generate_key(&Mechanism::AesKeyGen, &passing))?;
        sealed.push(calls::gcm_seal(session, key, [0; 12], b"", &[0; 32]).map_err(|e| e.to_string())?);
    }
    expect(sealed[0] != sealed[1], "two new keys are the same key")
}

/// RFC 3394, section 4.6; then the way back, and one flipped bit refused.
fn aes_key_wrap(session: &Session) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let root = known(session, &scrap, Usage::WRAP, &vectors::KW_KEK, false)?;
    let key = known(session, &scrap, Usage::ENCRYPT, &vectors::KW_KEY, true)?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, root, key).map_err(|e| said(&e))?;
    expect(wrapped == vectors::KW_WRAPPED, "the wrapped key is not RFC 3394's")?;
    let unwrapped = template::session_key(Usage::ENCRYPT);
    let unwrap = |blob: &[u8]| session.unwrap_key(&Mechanism::AesKeyWrap, root, blob, &unwrapped);
    let back = keep(&scrap, unwrap(&wrapped))?;
    computes_like(session, back, &vectors::KW_KEY)?;
    let mut flipped = wrapped;
    flipped[20] ^= 1;
    expect(keep(&scrap, unwrap(&flipped)).is_err(), "an altered blob was unwrapped")
}

/// NIST SP 800-38A, F.2.5 (CBC-AES256), two blocks.
fn cbc_encrypt_data(session: &Session) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let base = known(session, &scrap, Usage { derive: true, ..Usage::NONE }, &vectors::SP800_KEY, false)?;
    let parameters = AesCbcDeriveParams::new(vectors::CBC_IV, &vectors::CBC_DATA);
    let attributes = template::derived_key(Usage::ENCRYPT);
    let derived =
        keep(&scrap, session.derive_key(&Mechanism::AesCbcEncryptData(parameters), base, &attributes))?;
    computes_like(session, derived, &vectors::CBC_DERIVED)
}

/// The GCM specification's test case 16, both ways, and one flipped bit refused.
fn gcm(session: &Session) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let key = known(session, &scrap, Usage::ENCRYPT, &vectors::GCM_KEY, false)?;
    let (nonce, aad) = (vectors::GCM_NONCE, &vectors::GCM_AAD);
    let sealed =
        calls::gcm_seal(session, key, nonce, aad, &vectors::GCM_PLAINTEXT).map_err(|e| e.to_string())?;
    expect(sealed == vectors::GCM_SEALED, "the ciphertext is not the test vector's")?;
    let opened = calls::gcm_open(session, key, nonce, aad, &sealed).map_err(|e| said(&e))?;
    expect(opened == vectors::GCM_PLAINTEXT, "the plaintext is not the test vector's")?;
    let mut flipped = sealed;
    flipped[0] ^= 1;
    let refused = calls::gcm_open(session, key, nonce, aad, &flipped).is_err();
    expect(refused, "an altered ciphertext was opened")
}

/// NIST SP 800-38B, D.3, example 10 (CMAC-AES256, one block).
fn cmac(session: &Session) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let key = known(session, &scrap, Usage { mac: true, ..Usage::NONE }, &vectors::SP800_KEY, false)?;
    let mac = session.sign(&Mechanism::AesCMac, key, &vectors::CMAC_MESSAGE).map_err(|e| said(&e))?;
    expect(mac == vectors::CMAC_TAG, "the MAC is not the test vector's")
}

/// A new key pair, and a known key that goes through OAEP and computes the same on
/// the other side.
fn rsa(session: &Session, profile: &Profile) -> (Result<(), String>, Result<(), String>) {
    let scrap = Scrap::new(session);
    let pair = match Receiver::generate(session, TEST_MODULUS_BITS, &scrap) {
        Ok(pair) => pair,
        Err(error) => {
            return (Err(error.to_string()), Err("there is no key pair to test it with".to_owned()));
        }
    };
    let bits = pair.modulus.len() * 8;
    let right = bits == 2048 && pair.modulus.first().is_some_and(|top| top & 0x80 != 0);
    (expect(right, "the modulus is not of 2048 bits"), rsa_oaep(session, &scrap, &pair, profile))
}

fn rsa_oaep(session: &Session, scrap: &Scrap<'_>, pair: &Receiver, profile: &Profile) -> Result<(), String> {
    let key = known(session, scrap, Usage::ENCRYPT, &vectors::KW_KEY, true)?;
    let oaep = handover::oaep(profile.handover.oaep_hash);
    let blob = session.wrap_key(&oaep, pair.public, key).map_err(|e| said(&e))?;
    let attributes = template::session_key(Usage::ENCRYPT);
    let back = keep(scrap, session.unwrap_key(&oaep, pair.private, &blob, &attributes))?;
    computes_like(session, back, &vectors::KW_KEY)
}

/// Whether a key that can't be read is `value`: both seal the same text.
fn computes_like(session: &Session, key: ObjectHandle, value: &[u8; 32]) -> Result<(), String> {
    let text = b"claviger/v1/self-test";
    let theirs = calls::gcm_seal(session, key, [7; 12], b"", text).map_err(|e| e.to_string())?;
    let broken = |_| "AWS-LC's AES-GCM failed".to_owned();
    let ours = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, value).map_err(broken)?);
    let mut sealed = text.to_vec();
    ours.seal_in_place_append_tag(
        aead::Nonce::assume_unique_for_key([7; 12]),
        aead::Aad::empty(),
        &mut sealed,
    )
    .map_err(broken)?;
    expect(theirs == sealed, "the key computes something else than it should")
}
