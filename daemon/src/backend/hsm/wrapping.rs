//! Wrapping keys for imports: how a token opens what was encrypted to one, inside it or into
//! the daemon's memory. What must not live here: what comes of the material.

use claviger_hsm_profiles::{MechanismUse, OaepHash, Quirk};
use claviger_protocol::{ImportAlgorithm, SecretBytes};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::command::HsmError;
use super::handover::oaep;
use super::means::Means;
use super::private::Trouble;
use super::probe::ProbeReport;
use crate::backend::encoding;

/// The one thing that a wrapping key may do, as long as one command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Unwrap,
    Decrypt,
    /// Raw RSA, which is the same number either way.
    Sign,
}

/// A padding that is still to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    None,
    Oaep,
    Pkcs1,
}

/// How a block comes into the daemon's memory.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) does: Does,
    pub(super) mechanism: Mechanism<'static>,
    padding: Padding,
}

impl Way {
    /// RSAES-PKCS1-v1_5 by raw RSA.
    pub(super) const RAW_SIGN: Self =
        Self { does: Does::Sign, mechanism: Mechanism::RsaX509, padding: Padding::Pkcs1 };

    fn decrypting(mechanism: Mechanism<'static>) -> Self {
        Self { does: Does::Decrypt, mechanism, padding: Padding::None }
    }
}

/// What unwraps a block inside the token; none where it can't, or makes a key up where the
/// padding is wrong.
pub(super) fn inside(
    means: &Means,
    report: &ProbeReport,
    algorithm: ImportAlgorithm,
) -> Option<Mechanism<'static>> {
    use MechanismUse as M;
    let (mechanism, needed) = match algorithm {
        ImportAlgorithm::RsaesPkcs1V15 => (Mechanism::RsaPkcs, M::RsaPkcsUnwrap),
        ImportAlgorithm::RsaesOaepSha1 => (oaep(OaepHash::Sha1), M::RsaOaepSha1),
        ImportAlgorithm::RsaesOaepSha256 | ImportAlgorithm::RsaAesKeyWrapSha256 => {
            (oaep(OaepHash::Sha256), M::RsaOaepSha256)
        }
        ImportAlgorithm::Sm2Pke => return None,
    };
    let outside = needed == M::RsaOaepSha256 && means.has(Quirk::OaepSha256Outside);
    (!outside && report.passed(needed)).then_some(mechanism)
}

/// What opens a block of RSA for the daemon.
pub(super) fn outside(
    means: &Means,
    report: &ProbeReport,
    algorithm: ImportAlgorithm,
) -> Result<Way, HsmError> {
    use MechanismUse as M;
    let (way, needed) = match algorithm {
        ImportAlgorithm::RsaesPkcs1V15 if report.passed(M::RsaPkcsUnwrap) => {
            (Way::decrypting(Mechanism::RsaPkcs), M::RsaPkcsUnwrap)
        }
        ImportAlgorithm::RsaesPkcs1V15 => (Way::RAW_SIGN, M::RsaX509Sign),
        ImportAlgorithm::RsaesOaepSha1 => (Way::decrypting(oaep(OaepHash::Sha1)), M::RsaOaepSha1),
        ImportAlgorithm::RsaesOaepSha256 | ImportAlgorithm::RsaAesKeyWrapSha256 => {
            if means.has(Quirk::OaepSha256Outside) {
                (Way { padding: Padding::Oaep, ..Way::decrypting(Mechanism::RsaX509) }, M::RsaX509)
            } else {
                (Way::decrypting(oaep(OaepHash::Sha256)), M::RsaOaepSha256)
            }
        }
        ImportAlgorithm::Sm2Pke => return Err(HsmError::Unsupported("SM2PKE isn't for RSA keys".to_owned())),
    };
    if report.passed(needed) {
        return Ok(way);
    }
    Err(HsmError::Unsupported(format!("{algorithm} needs {}", needed.name())))
}

/// A block that was opened: as long as the modulus, or the error of all that doesn't open.
pub(super) fn open(
    session: &Session,
    way: &Way,
    key: ObjectHandle,
    block: &[u8],
) -> Result<SecretBytes, Trouble> {
    let opened = Zeroizing::new(match way.does {
        Does::Sign => session.sign(&way.mechanism, key, block)?,
        Does::Unwrap | Does::Decrypt => session.decrypt(&way.mechanism, key, block)?,
    });
    if way.padding == Padding::None {
        return Ok(SecretBytes::new(opened.to_vec()));
    }
    let encoded = encoding::left_padded(&opened, block.len());
    let encoded = encoded.ok_or_else(|| HsmError::Fault("the token decrypted to too much".to_owned()))?;
    let decoded = match way.padding {
        Padding::Pkcs1 => encoding::pkcs1_decode(&encoded),
        Padding::None | Padding::Oaep => encoding::oaep_decode(&encoded),
    };
    decoded.ok_or(Trouble::Known(HsmError::AuthenticationFailed))
}
