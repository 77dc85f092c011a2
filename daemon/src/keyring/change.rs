//! Changes of a key's state, each committed with its audit event.

use claviger_protocol::{Code, KeyState};

use super::record::{KeyRecord, OutboxRecord, path};
use super::state::{Action, Verdict, allows};
use super::{KeyEntry, Keyring};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

/// How often a change is tried anew when another change of the same key came first.
const ATTEMPTS: usize = 8;

impl Keyring {
    /// Switches a key on or off. Says the state it is in now and whether this call changed it.
    pub async fn switch(
        &self,
        _admitted: &Admitted,
        key: &KeyEntry,
        action: Action,
        trail: &mut Trail,
    ) -> Result<(KeyState, bool), Failure> {
        let key_id = key.record.key_id;
        for _ in 0..ATTEMPTS {
            let current = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
            let from = current.record.state;
            let to = match allows(from, action) {
                Verdict::Yes(to) => to,
                Verdict::Already => return Ok((from, false)),
                Verdict::No(why) => return Err(Failure::new(Code::InvalidKeyState, why)),
            };
            let changed = KeyRecord { state: to, ..current.record.clone() };
            match self.commit_key(&current, &changed, trail).await {
                Ok(()) => {
                    self.counts.moved(changed.spec, from, to);
                    return Ok((to, true));
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::new(Code::Busy, "the key is being changed by others; try again"))
    }

    /// Writes a key's new record and the call's event in one batch.
    async fn commit_key(
        &self,
        current: &KeyEntry,
        changed: &KeyRecord,
        trail: &mut Trail,
    ) -> Result<(), StoreError> {
        let key_path = path::key(changed.key_id);
        let mut ops = vec![Op {
            change: Change::Put(self.store.put(&key_path, changed)?),
            key: key_path,
            expect: Expect::Revision(current.revision),
        }];
        if let Some(event) = trail.snapshot(Code::Ok) {
            let outbox_path = path::outbox(event.event_id);
            let change = Change::Put(self.store.put(&outbox_path, &OutboxRecord { event })?);
            ops.push(Op { key: outbox_path, expect: Expect::Any, change });
        }
        self.commit(ops).await?;
        trail.in_outbox();
        Ok(())
    }
}
