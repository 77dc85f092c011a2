//! Private-key calls: what is signed and decrypted in a token, brought to and from the
//! one form that callers see. Hashes are made outside, always: tokens differ in which they
//! combine with a signature. What must not live here: whose objects these are.

use claviger_hsm_profiles::Form;
use claviger_protocol::{EncryptionAlgorithm, KeySpec, SecretBytes, SigningAlgorithm};
use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::command::{HsmError, Template};
use super::failure::failed;
use super::means::{Held, Means};
use crate::backend::encoding;
use crate::backend::software::{self, PublicKey};
use crate::edge::Entropy;

/// What a pair is tried with.
const TRIAL: &[u8] = b"claviger/v1/pair-test";

/// A call that failed: at the token, whose word is still to be judged, or known.
#[derive(Debug)]
pub(super) enum Trouble {
    Token(Error),
    Known(HsmError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Token(error)
    }
}

impl From<HsmError> for Trouble {
    fn from(error: HsmError) -> Self {
        Self::Known(error)
    }
}

fn fault(text: &str) -> Trouble {
    HsmError::Fault(text.to_owned()).into()
}

/// What else keeps a challenge from being made for a public key that was read.
fn no_randomness() -> Trouble {
    HsmError::Unavailable("a challenge could not be made: the random number generator failed".to_owned())
        .into()
}

/// The key isn't for that.
pub(super) fn unfit() -> HsmError {
    HsmError::Unsupported("the key object is not for this".to_owned())
}

/// Bytes of an RSA modulus.
pub(super) const fn modulus_len(spec: KeySpec) -> Option<usize> {
    match spec {
        KeySpec::Rsa2048 => Some(256),
        KeySpec::Rsa3072 => Some(384),
        KeySpec::Rsa4096 => Some(512),
        _ => None,
    }
}

/// Bytes of a curve's coordinate.
const fn coordinate_len(spec: KeySpec) -> Option<usize> {
    match spec {
        KeySpec::EcP256 | KeySpec::Sm2 => Some(32),
        KeySpec::EcP384 => Some(48),
        _ => None,
    }
}

/// A signature of a digest, as long as the modulus or in DER.
pub(super) fn sign(
    session: &Session,
    means: &Means,
    key: &Held,
    algorithm: SigningAlgorithm,
    digest: &[u8],
) -> Result<Vec<u8>, Trouble> {
    let signs = matches!(key.template, Template::RsaSign | Template::EcSign | Template::Sm2Sign);
    if !signs || !key.spec.signing_algorithms().contains(&algorithm) {
        return Err(unfit().into());
    }
    if digest.len() != algorithm.digest().len() {
        return Err(fault("a digest of a wrong length was to be signed"));
    }
    let mechanism = means.signing(algorithm)?;
    if let Some(modulus) = modulus_len(key.spec) {
        let info = match algorithm {
            SigningAlgorithm::RsaPkcs1Sha256
            | SigningAlgorithm::RsaPkcs1Sha384
            | SigningAlgorithm::RsaPkcs1Sha512 => encoding::digest_info(algorithm.digest(), digest),
            _ => None,
        };
        let signature = session.sign(&mechanism, key.handle, info.as_deref().unwrap_or(digest))?;
        let whole = signature.len() == modulus;
        return if whole { Ok(signature) } else { Err(fault("the token's signature has a wrong length")) };
    }
    let signature = session.sign(&mechanism, key.handle, digest)?;
    let length = 2 * coordinate_len(key.spec).unwrap_or_default();
    let der = algorithm == SigningAlgorithm::Sm2Dsa && means.forms().sm2_signature == Form::Der;
    // Written anew either way: some tokens' DER has zeros too many or too few.
    let raw = if der { encoding::ecdsa_from_token(&signature, length / 2) } else { Some(signature) };
    raw.filter(|raw| raw.len() == length)
        .and_then(|raw| encoding::ecdsa_to_der(&raw))
        .ok_or_else(|| fault("the token's signature is malformed"))
}

/// What was encrypted to a key. A ciphertext that can't be one fails as those do that are
/// wrong inside.
pub(super) fn decrypt(
    session: &Session,
    means: &Means,
    key: &Held,
    algorithm: EncryptionAlgorithm,
    ciphertext: &[u8],
) -> Result<SecretBytes, Trouble> {
    let decrypts = matches!(key.template, Template::RsaDecrypt | Template::Sm2Decrypt);
    if !decrypts || !key.spec.encryption_algorithms().contains(&algorithm) {
        return Err(unfit().into());
    }
    let wrong = || Trouble::Known(HsmError::AuthenticationFailed);
    let (mechanism, padded) = means.decryption(algorithm)?;
    let Some(modulus) = modulus_len(key.spec) else {
        // No token is trusted to look at the point: one off the curve gives the key away.
        let raw = encoding::sm2_cipher_from_der(ciphertext)
            .filter(|raw| software::sm2_may_open(raw))
            .ok_or_else(wrong)?;
        let sent = if means.forms().sm2_ciphertext == Form::Raw { raw.as_slice() } else { ciphertext };
        return Ok(SecretBytes::new(session.decrypt(&mechanism, key.handle, sent)?));
    };
    if ciphertext.len() != modulus {
        return Err(wrong());
    }
    let opened = Zeroizing::new(session.decrypt(&mechanism, key.handle, ciphertext)?);
    if !padded {
        return Ok(SecretBytes::new(opened.to_vec()));
    }
    let block = encoding::left_padded(&opened, modulus);
    let block = block.ok_or_else(|| fault("the token decrypted to too much"))?;
    encoding::oaep_decode(&block).ok_or_else(wrong)
}

/// Whether a private key is the one of `public`: what it signs verifies, or what is
/// encrypted to it opens.
pub(super) fn belongs(
    session: &Session,
    means: &Means,
    key: &Held,
    public: &PublicKey,
) -> Result<bool, Trouble> {
    if let (Template::RsaSign | Template::EcSign | Template::Sm2Sign, Some(algorithm)) =
        (key.template, trial_signature(key.spec))
    {
        let digest = software::digest(algorithm.digest(), TRIAL);
        let signature = sign(session, means, key, algorithm, &digest)?;
        return Ok(public.verify(algorithm, &digest, &signature));
    }
    let algorithm = *key.spec.encryption_algorithms().first().ok_or_else(unfit)?;
    let entropy = Entropy::system();
    let challenge = Zeroizing::new(entropy.array::<32>().map_err(|_| no_randomness())?);
    let sealed =
        public.encrypt(algorithm.into(), challenge.as_slice(), &entropy).map_err(|_| no_randomness())?;
    let opened = decrypt(session, means, key, algorithm, &sealed)?;
    Ok(opened.expose().ct_eq(challenge.as_slice()).into())
}

/// What pairs are tried with: RSASSA-PKCS1-v1_5 takes no randomness.
const fn trial_signature(spec: KeySpec) -> Option<SigningAlgorithm> {
    match spec {
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => Some(SigningAlgorithm::RsaPkcs1Sha256),
        KeySpec::EcP256 => Some(SigningAlgorithm::EcdsaSha256),
        KeySpec::EcP384 => Some(SigningAlgorithm::EcdsaSha384),
        KeySpec::Sm2 => Some(SigningAlgorithm::Sm2Dsa),
        _ => None,
    }
}

/// SubjectPublicKeyInfo (DER) of a public key object.
pub(super) fn public_key(session: &Session, key: ObjectHandle, spec: KeySpec) -> Result<Vec<u8>, HsmError> {
    let wanted = if modulus_len(spec).is_some() {
        vec![AttributeType::Modulus, AttributeType::PublicExponent]
    } else {
        vec![AttributeType::EcPoint]
    };
    let found = session.get_attributes(key, &wanted).map_err(|e| failed(&e))?;
    let spki = match found.as_slice() {
        [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)]
        | [Attribute::PublicExponent(exponent), Attribute::Modulus(modulus)] => {
            encoding::rsa_spki(modulus, exponent)
        }
        [Attribute::EcPoint(point)] => {
            spec.pair().and_then(|pair| encoding::ec_spki(pair, bare(point, spec)))
        }
        _ => None,
    };
    spki.ok_or_else(|| HsmError::Fault("the token doesn't show its public key".to_owned()))
}

/// CKA_EC_POINT is an OCTET STRING around the point; some tokens leave that out.
fn bare(point: &[u8], spec: KeySpec) -> &[u8] {
    let length = 1 + 2 * coordinate_len(spec).unwrap_or_default();
    match point {
        [0x04, inner, rest @ ..] if usize::from(*inner) == length && rest.len() == length => rest,
        _ => point,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_taken_with_and_without_its_octet_string() {
        for (spec, length) in [(KeySpec::EcP256, 65_u8), (KeySpec::EcP384, 97), (KeySpec::Sm2, 65)] {
            let point = vec![4; usize::from(length)];
            let wrapped = [&[4, length], point.as_slice()].concat();
            assert_eq!(bare(&wrapped, spec), point);
            assert_eq!(bare(&point, spec), point);
        }
    }
}
