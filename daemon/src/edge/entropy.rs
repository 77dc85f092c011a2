//! Randomness that the daemon draws itself: ids, salts, nonces. Key material at
//! HSM level never comes from here.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use uuid::Uuid;
use zeroize::Zeroize;

/// Bytes that a thread draws at once. AWS-LC asks the processor for more entropy at
/// every draw, which costs more than the cryptography of a small call.
const BLOCK: usize = 2048;
/// Larger draws go to the generator directly.
const LARGE_DRAW: usize = BLOCK / 8;

thread_local! {
    static AHEAD: RefCell<Ahead> = const { RefCell::new(Ahead { bytes: [0; BLOCK], used: BLOCK }) };
}

/// Randomness that a thread has drawn ahead. Each byte is handed out once and wiped
/// as it is; the daemon never forks, so no second process has a copy.
struct Ahead {
    bytes: [u8; BLOCK],
    used: usize,
}

impl Ahead {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        if BLOCK - self.used < out.len() {
            self.used = BLOCK;
            aws_lc_rs::rand::fill(&mut self.bytes).map_err(|_| NoEntropy)?;
            self.used = 0;
        }
        let drawn = &mut self.bytes[self.used..self.used + out.len()];
        out.copy_from_slice(drawn);
        drawn.zeroize();
        self.used += out.len();
        Ok(())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

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
            Kind::System if out.len() > LARGE_DRAW => aws_lc_rs::rand::fill(out).map_err(|_| NoEntropy),
            Kind::System => AHEAD.with_borrow_mut(|ahead| ahead.fill(out)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_byte_is_handed_out_twice_and_none_is_left_behind() {
        let entropy = Entropy::system();
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            assert!(seen.insert(entropy.array::<16>().unwrap()), "a draw came twice");
        }
        AHEAD.with_borrow(|ahead| {
            assert!(ahead.bytes[..ahead.used].iter().all(|byte| *byte == 0), "what was drawn is wiped");
        });
    }

    #[test]
    fn draws_of_every_size_are_filled_whole() {
        let entropy = Entropy::system();
        for len in [0, 1, 12, 44, LARGE_DRAW - 1, LARGE_DRAW, LARGE_DRAW + 1, BLOCK, BLOCK * 3] {
            let mut out = vec![0; len];
            entropy.fill(&mut out).unwrap();
            // 32 zeros in a row from a good generator: never in the life of the world.
            assert!(!out.windows(32).any(|part| part.iter().all(|byte| *byte == 0)), "{len}");
        }
    }
}
