//! Where cryptography happens: in an HSM, or in the daemon's own memory.

pub mod bench;
pub mod crew;
pub mod encoding;
pub mod hsm;
pub mod import;
pub mod software;
