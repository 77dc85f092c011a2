//! Wrapping keys of imports: what software encrypts to a known key comes in, and a block whose
//! padding is wrong is refused. A token that makes a plaintext up instead (as OpenSSL does)
//! would take it for somebody's material.

use claviger_protocol::{ExportAlgorithm, KeyPairSpec, KeySpec, SecretBytes};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{KeyType, ObjectHandle};
use cryptoki::session::Session;

use super::super::command::Template;
use super::super::means::Means;
use super::super::scrap::Scrap;
use super::super::template::{self, Usage};
use super::super::wrapping::{self, Does, Way};
use super::pairs::{known_private, told};
use super::{computes_like, expect, keep, vectors};
use crate::backend::software::PrivateKey;
use crate::edge::Entropy;

/// Bytes of blocks whose padding is wrong under the known key.
const WRONG: [u8; 3] = [0x55, 0x33, 0x2A];
/// Bytes of its modulus.
const MODULUS: usize = 256;

fn known_key(
    session: &Session,
    means: &Means,
    scrap: &Scrap<'_>,
    does: Does,
    mechanism: &Mechanism<'_>,
) -> Result<ObjectHandle, String> {
    let attributes = template::wrapping_private(means, KeySpec::Rsa2048, does, mechanism);
    known_private(session, scrap, vectors::RSA_2048, &attributes.map_err(|e| e.to_string())?)
}

fn encrypt(text: &[u8]) -> Result<Vec<u8>, String> {
    let pkcs8 = SecretBytes::new(vectors::RSA_2048.to_vec());
    let known = PrivateKey::from_pkcs8(KeyPairSpec::Rsa2048, &pkcs8).map_err(|e| e.to_string())?;
    known
        .public_key()
        .encrypt(ExportAlgorithm::RsaesPkcs1V15, text, &Entropy::system())
        .map_err(|e| e.to_string())
}

pub(super) fn pkcs1_unwrap(session: &Session, means: &Means) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let key = known_key(session, means, &scrap, Does::Unwrap, &Mechanism::RsaPkcs)?;
    let block = encrypt(&vectors::KW_KEY)?;
    let attributes = template::session_key(Usage::ENCRYPT);
    let back = keep(&scrap, session.unwrap_key(&Mechanism::RsaPkcs, key, &block, &attributes))?;
    computes_like(session, back, &vectors::KW_KEY)?;
    // Of any length, so that nothing but the padding can be refused.
    let any = template::unwrapped(KeyType::GENERIC_SECRET, Usage::of(Template::HmacSecret));
    for byte in WRONG {
        let unwrapped = session.unwrap_key(&Mechanism::RsaPkcs, key, &[byte; MODULUS], &any);
        let taken = keep(&scrap, unwrapped).is_ok();
        expect(!taken, "a key was made of a block whose padding is wrong")?;
    }
    Ok(())
}

pub(super) fn raw_sign(session: &Session, means: &Means) -> Result<(), String> {
    let scrap = Scrap::new(session);
    let way = Way::RAW_SIGN;
    let key = known_key(session, means, &scrap, way.does, &way.mechanism)?;
    let block = encrypt(&vectors::KW_KEY)?;
    let opened = wrapping::open(session, &way, key, &block).map_err(told)?;
    expect(opened.expose() == vectors::KW_KEY, "the plaintext is another")?;
    for byte in WRONG {
        let refused = wrapping::open(session, &way, key, &[byte; MODULUS]).is_err();
        expect(refused, "a block whose padding is wrong was opened")?;
    }
    Ok(())
}
