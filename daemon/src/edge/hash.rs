//! Hashing for maps, keyed from the edge's randomness: unpredictable to whoever
//! chooses names, and the same for the same simulation seed.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

use super::{Entropy, entropy::NoEntropy};

/// Makes hashers that all start from one secret.
#[derive(Debug, Clone, Copy)]
pub struct HashKey(u64, u64);

impl HashKey {
    /// Draws the secret.
    pub fn new(entropy: &Entropy) -> Result<Self, NoEntropy> {
        Ok(Self(u64::from_le_bytes(entropy.array()?), u64::from_le_bytes(entropy.array()?)))
    }
}

impl BuildHasher for HashKey {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher.write_u64(self.1);
        hasher
    }
}
