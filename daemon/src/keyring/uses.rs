//! Nonce budget of keys that encrypt directly under random 96-bit nonces: uses
//! are reserved in blocks that are on the disk before the first of them is
//! taken, so no crash can count too few (NIST SP 800-38D section 8.3).

use std::sync::{Mutex, PoisonError};

use claviger_protocol::Code;
use uuid::Uuid;

use super::Keyring;
use super::material::DirectKey;
use super::record::path;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

/// Uses reserved at once.
const BLOCK: u64 = 1 << 20;
/// Random nonces under one key at most: 2^32.
const BUDGET: u64 = 1 << 32;
/// Where use stops: nine tenths of the budget.
const STOP: u64 = BUDGET / 10 * 9;
/// Where the log starts to warn: half of it.
const WARN: u64 = BUDGET / 2;

/// What is left of the reservation.
pub(super) struct Uses(Mutex<u64>);

impl Uses {
    pub(super) fn none_reserved() -> Self {
        Self(Mutex::new(0))
    }

    fn take(&self) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let had = *left > 0;
        *left = left.saturating_sub(1);
        had
    }

    fn add(&self, block: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += block;
    }
}

impl Keyring {
    /// Takes one use of a direct key, reserving more where none is left.
    pub(super) async fn take_use(&self, ids: (Uuid, Uuid), key: &DirectKey) -> Result<(), Failure> {
        while !key.uses.take() {
            Box::pin(self.reserve_uses(ids, key)).await?;
        }
        Ok(())
    }

    async fn reserve_uses(&self, (key_id, version_id): (Uuid, Uuid), key: &DirectKey) -> Result<(), Failure> {
        let current = self.version(key_id, version_id).await?.ok_or(Code::AccessDenied)?;
        let mut record = current.record.clone();
        record.reserved_uses = next_reservation(record.reserved_uses)?;
        if record.reserved_uses >= WARN {
            let reserved = record.reserved_uses;
            tracing::warn!(key = %key_id, version = %version_id, reserved, "half of the key's nonce budget is spent; rotate it");
        }
        let path = path::version(key_id, version_id);
        let change = Change::Put(self.store.put(&path, &record)?);
        let op = Op { key: path, expect: Expect::Revision(current.revision), change };
        match self.commit(vec![op]).await {
            Ok(_) => {
                key.uses.add(BLOCK);
                Ok(())
            }
            // Another call reserved first; look again.
            Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn next_reservation(reserved: u64) -> Result<u64, Failure> {
    let next = reserved.saturating_add(BLOCK);
    if next > STOP { Err(Code::KeyExhausted.into()) } else { Ok(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_taken_from_what_is_reserved() {
        let uses = Uses::none_reserved();
        assert!(!uses.take());
        uses.add(2);
        assert_eq!([uses.take(), uses.take(), uses.take()], [true, true, false]);
    }

    #[test]
    fn the_budget_ends_before_nine_tenths() {
        let mut reserved = 0;
        while let Ok(next) = next_reservation(reserved) {
            reserved = next;
        }
        assert!(reserved <= STOP && reserved + BLOCK > STOP);
        assert_eq!(next_reservation(reserved).map_err(|f| f.code), Err(Code::KeyExhausted));
        assert_eq!(next_reservation(u64::MAX).map_err(|f| f.code), Err(Code::KeyExhausted));
    }
}
