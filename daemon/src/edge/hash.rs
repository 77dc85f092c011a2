//! Hashing for maps, keyed from the edge's randomness: unpredictable to whoever
//! chooses names, and the same for the same simulation seed.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

use super::{Entropy, entropy::NoEntropy};

/// Makes hashers that all start from one secret.
#[derive(Debug, Clone)]
pub struct HashKey(DefaultHasher);

impl HashKey {
    /// Draws the secret.
    pub fn new(entropy: &Entropy) -> Result<Self, NoEntropy> {
        let mut hasher = DefaultHasher::new();
        hasher.write(&entropy.array::<16>()?);
        Ok(Self(hasher))
    }
}

impl BuildHasher for HashKey {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.clone()
    }
}
