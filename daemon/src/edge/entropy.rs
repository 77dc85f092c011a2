//! Randomness that the daemon draws itself: ids, salts, nonces. Key material at
//! HSM level never comes from here.

use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use uuid::Uuid;

/// The operating system's generator (through AWS-LC's), or a seeded one for simulation.
#[derive(Clone)]
pub struct Entropy(Kind);

#[derive(Clone)]
enum Kind {
    System,
    Seeded(Arc<Mutex<ChaCha20Rng>>),
}

/// The generator gave nothing. There is nothing to do but to refuse the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the random number generator failed")]
pub struct NoEntropy;

impl Entropy {
    /// Cryptographic randomness.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// The same bytes for the same seed: for simulation only.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Kind::Seeded(Arc::new(Mutex::new(ChaCha20Rng::seed_from_u64(seed)))))
    }

    /// Fills `out`.
    ///
    /// # Errors
    /// [`NoEntropy`] where the system's generator fails; `out` must not be used then.
    pub fn fill(&self, out: &mut [u8]) -> Result<(), NoEntropy> {
        match &self.0 {
            Kind::System => aws_lc_rs::rand::fill(out).map_err(|_| NoEntropy),
            Kind::Seeded(rng) => {
                rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(out);
                Ok(())
            }
        }
    }

    /// As many random bytes as the array has.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], NoEntropy> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    /// A new version 4 UUID (RFC 9562).
    pub fn uuid(&self) -> Result<Uuid, NoEntropy> {
        Ok(uuid::Builder::from_random_bytes(self.array()?).into_uuid())
    }
}
