//! Nonce budget of keys that encrypt directly under random 96-bit nonces: uses
//! are reserved in blocks that are on the disk before the first of them is
//! taken, so no crash can count too few (NIST SP 800-38D section 8.3).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use claviger_protocol::{Code, KeyOrigin};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Keyring;
use super::material::DirectKey;
use super::record::path;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

/// Uses reserved at once: two seconds' worth at a fast token's pace.
const BLOCK: u64 = 1 << 16;
/// Random nonces under one key at most: 2^32.
const BUDGET: u64 = 1 << 32;
/// Where a key is rotated, or its use stops where it can't be: nine tenths of the budget.
const STOP: u64 = BUDGET / 10 * 9;
/// Where use stops though a rotation is under way: two hundred million messages further.
const LAST: u64 = BUDGET / 100 * 95;
/// Where the log warns: half of it.
const WARN: u64 = BUDGET / 2;
/// Versions whose remaining uses are remembered while they aren't in use; the rest of
/// one more is lost with its lease.
const MAX_REMEMBERED: usize = 100_000;

/// What is left of the reservations of versions that aren't held now: a key that is
/// evicted and unwrapped again goes on with what it had.
#[derive(Default)]
pub(super) struct Remaining(Mutex<BTreeMap<Uuid, u64>>);

impl Remaining {
    /// Forgets a version that was destroyed.
    pub(super) fn forget(&self, version_id: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&version_id);
    }
}

/// What is left of a version's reservation while it is held.
pub(super) struct Uses {
    /// Whoever reserves more holds it: one at a time, so that nothing is reserved in vain.
    reserving: Arc<tokio::sync::Mutex<()>>,
    left: Mutex<u64>,
    version_id: Uuid,
    remaining: Arc<Remaining>,
}

impl Uses {
    /// Takes over what is left from an earlier time.
    pub(super) fn of(version_id: Uuid, remaining: &Arc<Remaining>) -> Self {
        let left = remaining.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&version_id);
        Self {
            reserving: Arc::default(),
            left: Mutex::new(left.unwrap_or_default()),
            version_id,
            remaining: Arc::clone(remaining),
        }
    }

    fn take(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let had = *left > 0;
        *left = left.saturating_sub(1);
        had
    }

    fn any(&self) -> bool {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }

    fn add(&self, block: u64) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) += block;
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        let left = *self.left.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut remaining = self.remaining.0.lock().unwrap_or_else(PoisonError::into_inner);
        if left > 0 && remaining.len() < MAX_REMEMBERED {
            // Another lease of the same version may have come and gone meanwhile.
            *remaining.entry(self.version_id).or_default() += left;
        }
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
        let reserving = Arc::clone(&key.uses.reserving).lock_owned().await;
        if key.uses.any() {
            return Ok(());
        }
        let current = self.version(key_id, version_id).await?.ok_or(Code::AccessDenied)?;
        let mut record = current.record.clone();
        record.reserved_uses = match next_reservation(record.reserved_uses, STOP) {
            Ok(next) => next,
            Err(_) if self.rotates_itself(key_id).await? => {
                self.exhausted.lock().unwrap_or_else(PoisonError::into_inner).insert((key_id, version_id));
                next_reservation(record.reserved_uses, LAST)?
            }
            Err(failure) => return Err(failure),
        };
        if (record.reserved_uses - BLOCK..record.reserved_uses).contains(&WARN) {
            let reserved = record.reserved_uses;
            tracing::warn!(key = %key_id, version = %version_id, reserved, "half of the key's nonce budget is spent; rotate it");
        }
        let path = path::version(key_id, version_id);
        let change = Change::Put(self.store.put(&path, &record)?);
        let op = Op { key: path, expect: Expect::Revision(current.revision), change };
        let (store, uses) = (Arc::clone(self.store.store()), Arc::clone(&key.uses));
        let (done, reserved) = oneshot::channel();
        // To its end, whatever becomes of the caller: what is reserved is there to be used.
        self.edge.background.start(async move {
            let committed = store.commit(vec![op]).await;
            if committed.is_ok() {
                uses.add(BLOCK);
            }
            drop(reserving);
            let _ = done.send(committed);
        });
        match reserved.await.unwrap_or(Err(StoreError::Busy)) {
            // Where another lease reserved first the caller looks again.
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(StoreError::ReadOnly) => Err(Failure::new(Code::ReadOnly, UNCOUNTED)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Keyring {
    /// Whether the scheduler may give the key another primary version.
    async fn rotates_itself(&self, key_id: Uuid) -> Result<bool, Failure> {
        let key = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
        Ok(key.record.origin == KeyOrigin::Kms)
    }
}

const UNCOUNTED: &str = "the disk of the daemon's state directory is full, and this key's HSM wants each of its uses counted there before it encrypts; free space there (decryption still works)";

fn next_reservation(reserved: u64, stop: u64) -> Result<u64, Failure> {
    let next = reserved.saturating_add(BLOCK);
    if next > stop { Err(Code::KeyExhausted.into()) } else { Ok(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_taken_from_what_is_reserved_and_outlast_their_lease() {
        let (remaining, version) = (Arc::default(), Uuid::from_u128(1));
        let uses = Uses::of(version, &remaining);
        assert!(!uses.take());
        uses.add(3);
        assert_eq!([uses.take(), uses.take()], [true, true]);
        drop(uses);
        let other = Uses::of(Uuid::from_u128(2), &remaining);
        assert!(!other.take(), "another version's");
        let again = Uses::of(version, &remaining);
        assert_eq!([again.take(), again.take()], [true, false]);
        drop(again);
        assert!(!Uses::of(version, &remaining).take(), "each of them once");
    }

    #[test]
    fn the_budget_ends_before_nine_tenths() {
        let mut reserved = 0;
        while let Ok(next) = next_reservation(reserved, STOP) {
            reserved = next;
        }
        assert!(reserved <= STOP && reserved + BLOCK > STOP);
        assert_eq!(next_reservation(reserved, STOP).map_err(|f| f.code), Err(Code::KeyExhausted));
        assert_eq!(next_reservation(u64::MAX, LAST).map_err(|f| f.code), Err(Code::KeyExhausted));
        assert!(next_reservation(reserved, LAST).is_ok_and(|next| next < BUDGET), "while it is rotated");
    }
}
