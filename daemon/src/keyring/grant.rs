//! A grant: the state check that stands before every use of a key.

use std::sync::Arc;

use claviger_protocol::{Code, KeyUsage};

use super::change::permitted;
use super::state::Action;
use super::{KeyEntry, Keyring};
use crate::admission::Admitted;
use crate::failure::Failure;

/// Proof that a key's state and usage allow cryptography with it. Only
/// [`Keyring::grant`] makes one, and only from an admitted call.
pub struct Grant {
    key: KeyEntry,
    /// The count of changes before the key was looked up.
    as_of: u64,
}

impl Grant {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &KeyEntry {
        &self.key
    }
}

impl Keyring {
    /// Checks that `key`, which the admitted call resolved to, may be used for `usage`.
    pub async fn grant(
        &self,
        admitted: &Admitted,
        key: &KeyEntry,
        usage: KeyUsage,
    ) -> Result<Grant, Failure> {
        let as_of = self.changes();
        // The record as it is now: it may have changed while the call waited.
        let current = if as_of == admitted.permit().resolved().as_of() {
            Arc::clone(key)
        } else {
            self.find_id(key.record.key_id).await?.ok_or(Code::AccessDenied)?
        };
        self.check(&current, usage)?;
        self.note_use(&current, &admitted.permit().resolved().caller().endpoint.name);
        Ok(Grant { key: current, as_of })
    }

    /// At the end of every use: nothing leaves the daemon under a key that was
    /// switched off while the call waited.
    pub async fn recheck(&self, grant: &Grant) -> Result<(), Failure> {
        if self.changes() == grant.as_of {
            return Ok(());
        }
        let current = self.find_id(grant.key.record.key_id).await?.ok_or(Code::AccessDenied)?;
        if current.revision == grant.key.revision {
            Ok(())
        } else {
            self.check(&current, current.record.usage)
        }
    }

    fn check(&self, key: &KeyEntry, usage: KeyUsage) -> Result<(), Failure> {
        permitted(&key.record, Action::Use)?;
        // Whether or not the scheduler has come to it: it may be late, or the disk full.
        if key.record.material_expires_at.is_some_and(|at| at <= self.edge.clock.now()) {
            let text = "the key's material has expired; import it again";
            return Err(Failure::new(Code::InvalidKeyState, text));
        }
        if key.record.usage == usage {
            return Ok(());
        }
        let text = format!("the key is for {}, not for {usage}", key.record.usage);
        Err(Failure::new(Code::InvalidKeyUsage, text))
    }
}
