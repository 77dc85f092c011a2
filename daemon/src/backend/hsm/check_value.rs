//! Key check values: 8 bytes that only this material gives, and that give nothing
//! of it away. Stored with every version and compared after every unwrap, because
//! a handle or a blob can turn out to be another key's.
//!
//! - [`Template::AesDeriveOnly`]: a sub-key derived with [`RESERVED_SALT`], then
//!   AES-256-GCM with a nonce of zeros, no plaintext, and [`LABEL`] as associated
//!   data: the first 8 bytes of the tag. The sub-key is destroyed. No message ever
//!   uses that salt, so the nonce is used once.
//! - [`Template::AesDirect`]: the first 8 bytes of AES-CMAC (NIST SP 800-38B) of
//!   [`LABEL`]; never E_K(0…0), which is GCM's hash key.
//! - [`Template::HmacSecret`]: the first 8 bytes of the spec's HMAC of [`LABEL`].
//! - [`Template::Sm4Direct`]: the first 8 bytes of E_K([`BLOCK`]). Vendors have no CMAC of
//!   SM4. GCM encrypts zeros (its hash key) and nonce ‖ counter, counters from 1 up; the
//!   block would be met at counter 0x63686B34, 26 GB into a message, and no message is so
//!   long. So nothing is encrypted twice, and half of a block is all that is shown.

use claviger_hsm_profiles::MechanismUse;
use cryptoki::mechanism::Mechanism;
use cryptoki::session::Session;

use super::calls;
use super::command::{CheckValue, HsmError, RESERVED_SALT, Template};
use super::failure::failed;
use super::means::{Held, Means};
use super::private::unfit;

/// What the check value is computed over.
pub(super) const LABEL: &[u8] = b"claviger/v1/check-value";
/// One block of SM4 that no message of GCM meets.
pub(super) const BLOCK: &[u8; 16] = b"claviger/v1/chk4";

/// The check value of a secret key; pairs are tried against their public key instead.
pub(super) fn compute(session: &Session, means: &Means, key: &Held) -> Result<CheckValue, HsmError> {
    let long = match key.template {
        Template::AesDeriveOnly => {
            let subkey = calls::derive(session, key.handle, &RESERVED_SALT).map_err(|e| failed(&e))?;
            let tag = calls::gcm_seal(session, subkey, [0; 12], LABEL, &[]);
            session.destroy_object(subkey).map_err(|e| failed(&e))?;
            tag?
        }
        Template::AesDirect => {
            session.sign(&Mechanism::AesCMac, key.handle, LABEL).map_err(|e| failed(&e))?
        }
        Template::HmacSecret => {
            let mechanism = means.mac(key.spec.mac_algorithm().ok_or_else(unfit)?)?;
            session.sign(&mechanism, key.handle, LABEL).map_err(|e| failed(&e))?
        }
        Template::Sm4Direct => {
            let mechanism = means.plain(MechanismUse::Sm4Ecb)?;
            session.encrypt(&mechanism, key.handle, BLOCK).map_err(|e| failed(&e))?
        }
        Template::RsaSign
        | Template::RsaDecrypt
        | Template::EcSign
        | Template::Sm2Sign
        | Template::Sm2Decrypt => return Err(unfit()),
    };
    let first = long.first_chunk::<8>().copied();
    first.ok_or_else(|| HsmError::Fault("the token's tag is shorter than 8 bytes".to_owned()))
}
