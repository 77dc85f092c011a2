//! Randomness: the module beneath has all of it.

use std::fmt;

use cryptoki_sys::{CK_RV, CK_SESSION_HANDLE, CKR_FUNCTION_FAILED};
use sm2::elliptic_curve::rand_core::{TryCryptoRng, TryRng};

use crate::ffi::ok;
use crate::inner::inner;

/// The generator of a session.
pub(crate) struct TokenRng(pub(crate) CK_SESSION_HANDLE);

/// That the module beneath gave none.
#[derive(Debug)]
pub(crate) struct NoRandom(pub(crate) CK_RV);

impl fmt::Display for NoRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "C_GenerateRandom: 0x{:X}", self.0)
    }
}

impl std::error::Error for NoRandom {}

impl TryRng for TokenRng {
    type Error = NoRandom;

    fn try_next_u32(&mut self) -> Result<u32, NoRandom> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandom> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), NoRandom> {
        let len = out.len().try_into().map_err(|_| NoRandom(CKR_FUNCTION_FAILED))?;
        ok(inner!(C_GenerateRandom(self.0, out.as_mut_ptr(), len))).map_err(NoRandom)
    }
}

impl TryCryptoRng for TokenRng {}
