//! Handing keys from token to token: wrapped by RSAES-OAEP (RFC 8017, section 7.1) to a
//! key pair that was made in the receiving token, or to somebody's public key. Nothing
//! in the clear passes through the daemon.

use claviger_hsm_profiles::OaepHash;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;

use super::command::HsmError;
use super::failure::failed;
use super::scrap::Scrap;
use super::template;

/// A key pair in the receiving token: session objects in somebody's scrap.
pub(super) struct Receiver {
    pub(super) public: ObjectHandle,
    pub(super) private: ObjectHandle,
    /// Big-endian, without leading zeros.
    pub(super) modulus: Vec<u8>,
    pub(super) exponent: Vec<u8>,
}

impl Receiver {
    pub(super) fn generate(
        session: &Session,
        modulus_bits: u64,
        scrap: &Scrap<'_>,
    ) -> Result<Self, HsmError> {
        let (public, private) = template::receiving_pair(modulus_bits);
        let (public, private) = session
            .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)
            .map_err(|e| failed(&e))?;
        scrap.keep(Ok(public))?;
        scrap.keep(Ok(private))?;
        let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
        let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
        for attribute in session.get_attributes(public, &wanted).map_err(|e| failed(&e))? {
            match attribute {
                Attribute::Modulus(bytes) => modulus = unpadded(&bytes),
                Attribute::PublicExponent(bytes) => exponent = unpadded(&bytes),
                _ => {}
            }
        }
        if modulus.is_empty() || exponent.is_empty() {
            return Err(HsmError::Fault("the token doesn't show its public key".to_owned()));
        }
        Ok(Self { public, private, modulus, exponent })
    }
}

fn unpadded(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// OAEP without a label, MGF1 with the same hash.
pub(super) fn oaep(hash: OaepHash) -> Mechanism<'static> {
    let (hash, mgf) = match hash {
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()))
}
