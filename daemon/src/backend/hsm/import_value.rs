//! What tells imported material from every other, computed where the material is: AES-CMAC,
//! the spec's HMAC, or two blocks under SM4, of a fixed label. `software::import_value` gives
//! the same. Never E_K(0…0), which is GCM's hash key. The daemon keeps a keyed hash of it alone.

use claviger_hsm_profiles::MechanismUse;
use claviger_protocol::{KeySpec, SecretBytes};
use cryptoki::mechanism::Mechanism;
use cryptoki::session::Session;

use super::command::HsmError;
use super::failure::failed;
use super::means::{Held, Means};
use super::private::unfit;
use crate::backend::import::{BLOCKS, LABEL};

/// Bytes of an SM4 block.
const BLOCK: usize = 16;

/// The value of a secret key that may make MACs, or encrypt a block.
pub(super) fn compute(session: &Session, means: &Means, key: &Held) -> Result<SecretBytes, HsmError> {
    if key.spec == KeySpec::Sm4 {
        let mechanism = means.plain(MechanismUse::Sm4Ecb)?;
        let blocks = BLOCKS.as_chunks::<BLOCK>().0.iter();
        let value = blocks.map(|block| session.encrypt(&mechanism, key.handle, block));
        let value = value.collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?.concat();
        return sized(value, BLOCKS.len());
    }
    let (mechanism, length) = match key.spec.mac_algorithm() {
        Some(algorithm) => (means.mac(algorithm)?, algorithm.digest().len()),
        None if key.spec == KeySpec::Aes256 => (Mechanism::AesCMac, BLOCK),
        None => return Err(unfit()),
    };
    sized(session.sign(&mechanism, key.handle, LABEL).map_err(|e| failed(&e))?, length)
}

fn sized(value: Vec<u8>, length: usize) -> Result<SecretBytes, HsmError> {
    if value.len() == length {
        return Ok(SecretBytes::new(value));
    }
    Err(HsmError::Fault("what tells the material apart has a wrong length".to_owned()))
}
