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

use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::calls;
use super::command::{CheckValue, HsmError, RESERVED_SALT, Template};
use super::failure::failed;

/// What the check value is computed over.
pub(super) const LABEL: &[u8] = b"claviger/v1/check-value";

/// The check value of a key object.
pub(super) fn compute(
    session: &Session,
    key: ObjectHandle,
    template: Template,
) -> Result<CheckValue, HsmError> {
    let long = match template {
        Template::AesDeriveOnly => {
            let subkey = calls::derive(session, key, &RESERVED_SALT).map_err(|e| failed(&e))?;
            let tag = calls::gcm_seal(session, subkey, [0; 12], LABEL, &[]);
            session.destroy_object(subkey).map_err(|e| failed(&e))?;
            tag?
        }
        Template::AesDirect => session.sign(&Mechanism::AesCMac, key, LABEL).map_err(|e| failed(&e))?,
    };
    let first = long.first_chunk::<8>().copied();
    first.ok_or_else(|| HsmError::Fault("the token's tag is shorter than 8 bytes".to_owned()))
}
