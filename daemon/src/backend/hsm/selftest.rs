//! Known-answer tests of every mechanism that the profile names, on every slot, each
//! time a member is opened: a number means what the token makes of it, so nothing is
//! used before it has given an answer that was computed elsewhere. What a test makes
//! in the token it destroys again. Secrets other than AES are in `secrets.rs`, pairs in
//! `pairs.rs`, SM3 and SM4 in `sm.rs`, wrapping keys of imports in `imports.rs`.

use aws_lc_rs::aead;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use claviger_hsm_profiles::{MechanismUse, Profile, Quirk};
use cryptoki::error::Error;
use cryptoki::mechanism::ekdf::AesCbcDeriveParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{KeyType, ObjectHandle};
use cryptoki::session::Session;

use super::calls;
use super::failure::describe;
use super::handover::{self, Receiver};
use super::login::{LoggedIn, Opened};
use super::means::{Cipher, Means};
use super::probe::{MechanismReport, ProbeReport, RANDOM};
use super::scrap::Scrap;
use super::template::{self, Usage};

mod imports;
mod pairs;
mod secrets;
mod sm;
mod vectors;

/// Enough for OAEP with SHA-256, and made in a fraction of a second.
const TEST_MODULUS_BITS: u64 = 2048;

/// Tests everything.
pub(super) fn run(opened: &Opened, profile: &Profile) -> ProbeReport {
    let mut mechanisms = vec![MechanismReport::new(RANDOM, None, each(opened, |token| random(&token.owner)))];
    // An RSA pair takes long to make: one, where keys are made, tests both of its uses.
    let (pair, oaep) = rsa(&opened.make().owner, profile);
    let means = Means::of(profile);
    for &used in MechanismUse::ALL {
        let Some(number) = profile.mechanisms.get(&used).copied() else { continue };
        let outcome = each(opened, |token| {
            listed(opened, token, used, number)?;
            match used {
                MechanismUse::RsaKeyPairGen => pair.clone(),
                MechanismUse::RsaOaep => oaep.clone(),
                _ => one(&token.owner, &means, used),
            }
        });
        mechanisms.push(MechanismReport::new(used.name(), Some(number), outcome));
    }
    ProbeReport::conclude(mechanisms, profile)
}

/// The test of one mechanism on one slot.
fn one(session: &Session, means: &Means, used: MechanismUse) -> Result<(), String> {
    use claviger_protocol::{EncryptionAlgorithm as E, KeySpec as K, MacAlgorithm as H};
    match used {
        MechanismUse::AesKeyGen => aes_key_gen(session),
        MechanismUse::AesKeyWrap => aes_key_wrap(session),
        MechanismUse::AesKeyWrapPad => aes_key_wrap_pad(session, means),
        MechanismUse::AesCbcEncryptData => cbc_encrypt_data(session),
        MechanismUse::AesGcm => gcm(session),
        MechanismUse::AesCmac => cmac(session),
        MechanismUse::RsaKeyPairGen | MechanismUse::RsaOaep => Ok(()),
        MechanismUse::RsaPkcs => pairs::signs(session, means, &[K::Rsa2048], &pairs::PKCS1),
        MechanismUse::RsaPss => pairs::signs(session, means, &[K::Rsa2048], &pairs::PSS),
        MechanismUse::RsaOaepSha1 => pairs::decrypts(session, means, K::Rsa2048, E::RsaesOaepSha1),
        // Raw RSA is there for this alone.
        MechanismUse::RsaOaepSha256 | MechanismUse::RsaX509 => {
            pairs::decrypts(session, means, K::Rsa2048, E::RsaesOaepSha256)
        }
        MechanismUse::RsaPkcsUnwrap => imports::pkcs1_unwrap(session, means),
        MechanismUse::RsaX509Sign => imports::raw_sign(session, means),
        MechanismUse::EcKeyPairGen => pairs::generates(session, means, &[K::EcP256, K::EcP384]),
        MechanismUse::Ecdsa => pairs::signs(session, means, &[K::EcP256, K::EcP384], &pairs::ECDSA),
        MechanismUse::GenericSecretKeyGen => secrets::generic_secret_key_gen(session),
        MechanismUse::HmacSha256 => secrets::hmac(session, means, H::HmacSha256),
        MechanismUse::HmacSha384 => secrets::hmac(session, means, H::HmacSha384),
        MechanismUse::HmacSha512 => secrets::hmac(session, means, H::HmacSha512),
        MechanismUse::HmacSm3 => secrets::hmac(session, means, H::HmacSm3),
        MechanismUse::Sm3 => sm::sm3(session, means),
        MechanismUse::Sm4KeyGen => sm::sm4_key_gen(session, means),
        MechanismUse::Sm4Ecb => sm::sm4_ecb(session, means),
        MechanismUse::Sm4Gcm => sm::sm4_gcm(session, means),
        MechanismUse::Sm2KeyPairGen => pairs::generates(session, means, &[K::Sm2]),
        MechanismUse::Sm2Sign => pairs::signs(session, means, &[K::Sm2], &pairs::SM2),
        MechanismUse::Sm2Encrypt => pairs::decrypts(session, means, K::Sm2, E::Sm2Pke),
    }
}

fn each(opened: &Opened, test: impl Fn(&LoggedIn) -> Result<(), String>) -> Result<(), String> {
    opened.tokens().iter().try_for_each(test)
}

fn listed(opened: &Opened, token: &LoggedIn, used: MechanismUse, number: u64) -> Result<(), String> {
    let missing = || "the token doesn't list it".to_owned();
    let Some(callable) = callable(used) else {
        let number = MechanismType::new_vendor_defined(number).map_err(|e| said(&e))?;
        return if token.has(&opened.library, number) { Ok(()) } else { Err(missing()) };
    };
    if number != *callable {
        return Err(format!("this version can't call mechanism 0x{number:04X} for it"));
    }
    let listed = token.mechanisms(&opened.library).map_err(|e| e.to_string())?;
    if listed.contains(&number) { Ok(()) } else { Err(missing()) }
}

/// The one mechanism that this version knows for a use; any number where it is a vendor's.
const fn callable(used: MechanismUse) -> Option<MechanismType> {
    Some(match used {
        MechanismUse::AesKeyGen => MechanismType::AES_KEY_GEN,
        MechanismUse::AesKeyWrap => MechanismType::AES_KEY_WRAP,
        MechanismUse::AesKeyWrapPad => MechanismType::AES_KEY_WRAP_PAD,
        MechanismUse::AesCbcEncryptData => MechanismType::AES_CBC_ENCRYPT_DATA,
        MechanismUse::AesGcm => MechanismType::AES_GCM,
        MechanismUse::AesCmac => MechanismType::AES_CMAC,
        MechanismUse::RsaKeyPairGen => MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        MechanismUse::RsaOaep | MechanismUse::RsaOaepSha1 | MechanismUse::RsaOaepSha256 => {
            MechanismType::RSA_PKCS_OAEP
        }
        MechanismUse::RsaPkcs | MechanismUse::RsaPkcsUnwrap => MechanismType::RSA_PKCS,
        MechanismUse::RsaPss => MechanismType::RSA_PKCS_PSS,
        MechanismUse::RsaX509 | MechanismUse::RsaX509Sign => MechanismType::RSA_X_509,
        MechanismUse::EcKeyPairGen => MechanismType::ECC_KEY_PAIR_GEN,
        MechanismUse::Ecdsa => MechanismType::ECDSA,
        MechanismUse::GenericSecretKeyGen => MechanismType::GENERIC_SECRET_KEY_GEN,
        MechanismUse::HmacSha256 => MechanismType::SHA256_HMAC,
        MechanismUse::HmacSha384 => MechanismType::SHA384_HMAC,
        MechanismUse::HmacSha512 => MechanismType::SHA512_HMAC,
        MechanismUse::HmacSm3
        | MechanismUse::Sm3
        | MechanismUse::Sm4KeyGen
        | MechanismUse::Sm4Ecb
        | MechanismUse::Sm4Gcm
        | MechanismUse::Sm2KeyPairGen
        | MechanismUse::Sm2Sign
        | MechanismUse::Sm2Encrypt => return None,
    })
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

/// RFC 5649, section 6, 20 bytes; then the way back of a key that AWS-LC has wrapped, and
/// one flipped bit refused.
fn aes_key_wrap_pad(session: &Session, means: &Means) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let root = known(session, &scrap, Usage::WRAP, &vectors::KWP_KEK, false)?;
    let usage = Usage { mac: true, ..Usage::NONE };
    let secret = template::known_secret(KeyType::GENERIC_SECRET, usage, &vectors::KWP_KEY, true);
    let key = keep(&scrap, session.create_object(&secret))?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, root, key).map_err(|e| said(&e))?;
    let expected = if means.has(Quirk::WrapsZeroPadded) { vectors::KWP_ZEROS } else { vectors::KWP_WRAPPED };
    expect(wrapped == expected, "the wrapped key is not RFC 5649's")?;
    let root = known(session, &scrap, Usage::WRAP, &vectors::KW_KEK, false)?;
    let mut blob = [0; 48];
    let length = AesKek::new(&AES_256, &vectors::KW_KEK)
        .and_then(|kek| kek.wrap_with_padding(&vectors::KW_KEY, &mut blob).map(|blob| blob.len()))
        .map_err(|_| "AWS-LC's AES-KWP failed".to_owned())?;
    let unwrapped = template::session_key(Usage::ENCRYPT);
    let unwrap = |blob: &[u8]| session.unwrap_key(&Mechanism::AesKeyWrapPad, root, blob, &unwrapped);
    let back = keep(&scrap, unwrap(&blob[..length]))?;
    computes_like(session, back, &vectors::KW_KEY)?;
    blob[20] ^= 1;
    expect(keep(&scrap, unwrap(&blob[..length])).is_err(), "an altered blob was unwrapped")
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
    let opened = calls::gcm_open(session, Cipher::Aes, key, nonce, aad, &sealed).map_err(|e| said(&e))?;
    expect(opened == vectors::GCM_PLAINTEXT, "the plaintext is not the test vector's")?;
    let mut flipped = sealed;
    flipped[0] ^= 1;
    let refused = calls::gcm_open(session, Cipher::Aes, key, nonce, aad, &flipped).is_err();
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
