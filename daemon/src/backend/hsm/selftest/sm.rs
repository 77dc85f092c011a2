//! SM3 and SM4 under vendors' numbers. A number that does another algorithm, or the right
//! one with parameters of its own, gives another answer than the standards' examples.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use claviger_hsm_profiles::MechanismUse;
use claviger_protocol::KeySpec;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::super::calls;
use super::super::command::Template;
use super::super::means::Means;
use super::super::scrap::Scrap;
use super::super::template::{self, Usage};
use super::{expect, keep, known, said, vectors};

/// GB/T 32905, A.1.
pub(super) fn sm3(session: &Session, means: &Means) -> Result<(), String> {
    let mechanism = means.plain(MechanismUse::Sm3).map_err(|e| e.to_string())?;
    let digest = session.digest(&mechanism, b"abc").map_err(|e| said(&e))?;
    expect(digest == vectors::SM3_ABC, "the digest is not SM3's")
}

fn known_sm4(
    session: &Session,
    means: &Means,
    scrap: &Scrap<'_>,
    value: &[u8],
) -> Result<ObjectHandle, String> {
    let key_type = means.key_type(KeySpec::Sm4).map_err(|e| e.to_string())?;
    keep(scrap, session.create_object(&template::known_secret(key_type, Usage::ENCRYPT, value, false)))
}

fn block(session: &Session, means: &Means, key: ObjectHandle) -> Result<Vec<u8>, String> {
    let mechanism = means.plain(MechanismUse::Sm4Ecb).map_err(|e| e.to_string())?;
    session.encrypt(&mechanism, key, &vectors::SM4_KEY).map_err(|e| said(&e))
}

/// GB/T 32907, A.1.
pub(super) fn sm4_ecb(session: &Session, means: &Means) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let key = known_sm4(session, means, &scrap, &vectors::SM4_KEY)?;
    expect(block(session, means, key)? == vectors::SM4_BLOCK, "the block is not the standard's")
}

/// RFC 8998, A.1, both ways, and one flipped bit refused.
pub(super) fn sm4_gcm(session: &Session, means: &Means) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let key = known_sm4(session, means, &scrap, &vectors::SM4_KEY)?;
    let cipher = means.cipher(KeySpec::Sm4).map_err(|e| e.to_string())?;
    let (nonce, aad) = (vectors::SM4_NONCE, &vectors::GCM_AAD);
    let sealed = calls::gcm_seal_raw(session, cipher, key, nonce, aad, &vectors::SM4_PLAINTEXT)
        .map_err(|e| said(&e))?
        .map_err(|e| e.to_string())?;
    expect(sealed == vectors::SM4_SEALED, "the ciphertext is not RFC 8998's")?;
    let opened = calls::gcm_open(session, cipher, key, nonce, aad, &sealed).map_err(|e| said(&e))?;
    expect(opened == vectors::SM4_PLAINTEXT, "the plaintext is not RFC 8998's")?;
    let mut flipped = sealed;
    flipped[0] ^= 1;
    let refused = calls::gcm_open(session, cipher, key, nonce, aad, &flipped).is_err();
    expect(refused, "an altered ciphertext was opened")
}

/// New keys differ, and each computes what its 16 bytes compute as a known key: under a
/// known root they come out wrapped, and are opened here.
pub(super) fn sm4_key_gen(session: &Session, means: &Means) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let root = known(session, &scrap, Usage::WRAP, &vectors::KW_KEK, false)?;
    let mut blocks = Vec::new();
    for _ in 0..2 {
        let passing = template::passing_secret(means, KeySpec::Sm4, Template::Sm4Direct);
        let mechanism = means.generation(KeySpec::Sm4).map_err(|e| e.to_string())?;
        let key = session.generate_key(&mechanism, &passing.map_err(|e| e.to_string())?);
        let key = keep(&scrap, key)?;
        let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, root, key).map_err(|e| said(&e))?;
        let mut value = Zeroizing::new([0; 32]);
        let kek = AesKek::new(&AES_256, &vectors::KW_KEK).and_then(|kek| kek.unwrap(&wrapped, &mut *value));
        let length =
            kek.map(|value| value.len()).map_err(|_| "the new key is not under RFC 3394".to_owned())?;
        expect(length == 16, "a new key has not 16 bytes")?;
        let same = known_sm4(session, means, &scrap, &value[..16])?;
        let made = block(session, means, key)?;
        expect(made == block(session, means, same)?, "a new key computes something else than it should")?;
        blocks.push(made);
    }
    expect(blocks[0] != blocks[1], "two new keys are the same key")
}
