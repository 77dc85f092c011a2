//! SOFTWARE level: every algorithm in the daemon's own memory, and public keys at either
//! level. What must not live here: which key may be used for what, and where keys are kept.
//!
//! Private operations with RSA and the NIST curves are AWS-LC's, those with SM2 are written
//! in `sm2` over RustCrypto's curve; the `rsa` crate does none (RUSTSEC-2023-0071).

mod blob;
mod gcm;
mod mac;
mod material;
mod private;
mod public;
mod sm2;
#[cfg(test)]
mod tests;
mod unwrapping;

pub use blob::SoftwareKey;
// For tests that compare it with a token's under the same material.
#[cfg(test)]
pub(in crate::backend) use gcm::GcmKey;
pub use mac::{MacKey, digest};
pub use material::{check_value, open_material, seal_material};
pub use private::PrivateKey;
pub use public::PublicKey;
pub(in crate::backend) use sm2::sm2_pair;
pub use sm2::{DEFAULT_USER_ID as SM2_DEFAULT_USER_ID, may_open as sm2_may_open};
pub use unwrapping::{UnwrappingKey, import_value};
pub(in crate::backend) use unwrapping::{read_pair, sm4_ecb_decrypt};

use claviger_protocol::Code;

use crate::failure::Failure;

fn internal() -> Failure {
    Failure::new(Code::Internal, "the cryptographic library failed")
}
