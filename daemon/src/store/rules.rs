//! What both forms of the store hold batches to: limits, expectations, and the
//! calls of those who watch. No I/O, no threads.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::oneshot;

use super::{Change, Expect, Hook, MAX_BATCH_OPS, MAX_KEY_LEN, MAX_VALUE_LEN, Op, StoreError};

/// Bytes that commits in the queue may hold together, whatever their number.
pub(super) const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// A batch on its way, and who waits for its revision.
pub(super) struct Commit {
    pub(super) batch: Vec<Op>,
    pub(super) answer: oneshot::Sender<Result<u64, StoreError>>,
}

/// Refuses a batch that is over a limit; else gives the bytes it holds.
pub(super) fn measure(batch: &[Op]) -> Result<usize, StoreError> {
    if batch.len() > MAX_BATCH_OPS {
        return Err(StoreError::TooLarge);
    }
    let mut bytes = 0;
    for op in batch {
        let value = if let Change::Put(value) = &op.change { value.len() } else { 0 };
        if op.key.len() > MAX_KEY_LEN || value > MAX_VALUE_LEN {
            return Err(StoreError::TooLarge);
        }
        bytes += op.key.len() + value;
    }
    Ok(bytes)
}

/// Checks every expectation of a batch against the state before it.
pub(super) fn judge(
    batch: &[Op],
    revision_of: impl Fn(&[u8]) -> Result<Option<u64>, StoreError>,
) -> Result<(), StoreError> {
    for op in batch {
        let met = match op.expect {
            Expect::Any => true,
            Expect::Absent => revision_of(&op.key)?.is_none(),
            Expect::Revision(revision) => revision_of(&op.key)? == Some(revision),
        };
        if !met {
            return Err(StoreError::Conflict { key: op.key.clone() });
        }
    }
    Ok(())
}

/// The keys that a batch writes or removes.
pub(super) fn changed_keys(batch: &[Op]) -> Vec<Vec<u8>> {
    batch.iter().filter(|op| op.change != Change::Check).map(|op| op.key.clone()).collect()
}

/// Waits for a worker's answer; a worker that died without one has failed.
pub(super) async fn answer<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or_else(|_| Err(StoreError::Failed("the store stopped before it answered".into())))
}

/// Those who want to hear of commits.
#[derive(Default)]
pub(super) struct Watchers(RwLock<Vec<Arc<Hook>>>);

impl Watchers {
    pub(super) fn add(&self, hook: Hook) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(hook));
    }

    /// Calls every hook, without holding the lock: a hook may add another.
    pub(super) fn call(&self, keys: &[Vec<u8>]) {
        let hooks = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in hooks {
            hook(keys);
        }
    }

    /// Forgets every hook.
    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(key_len: usize, change: Change) -> Op {
        Op { key: vec![0; key_len], expect: Expect::Any, change }
    }

    #[test]
    fn limits_hold_exactly() {
        let full = op(MAX_KEY_LEN, Change::Put(vec![0; MAX_VALUE_LEN]));
        assert_eq!(
            measure(&vec![full.clone(); MAX_BATCH_OPS]),
            Ok(MAX_BATCH_OPS * (MAX_KEY_LEN + MAX_VALUE_LEN))
        );
        assert_eq!(measure(&vec![full; MAX_BATCH_OPS + 1]), Err(StoreError::TooLarge));
        assert_eq!(measure(&[op(MAX_KEY_LEN + 1, Change::Check)]), Err(StoreError::TooLarge));
        assert_eq!(measure(&[op(1, Change::Put(vec![0; MAX_VALUE_LEN + 1]))]), Err(StoreError::TooLarge));
    }
}
