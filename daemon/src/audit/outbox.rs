//! What the daemon still has to do about events that were committed with their
//! change: remove those that are in the log, write those that the log could not take.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// Ids of outbox entries, by what is to become of them.
#[derive(Default)]
pub struct Outbox {
    recorded: Mutex<Vec<Uuid>>,
    owed: Mutex<BTreeSet<Uuid>>,
}

impl Outbox {
    /// These are in the log: their entries may go.
    pub fn recorded(&self, mut ids: Vec<Uuid>) {
        // As a rule there are none, and nobody need wait for the lock.
        if ids.is_empty() {
            return;
        }
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).append(&mut ids);
    }

    /// The log could not take these: they are written from their entries later.
    pub fn owe(&self, ids: Vec<Uuid>) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }

    /// Takes what may go.
    pub fn take_recorded(&self) -> Vec<Uuid> {
        std::mem::take(&mut self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the log is still owed.
    pub fn owed(&self) -> BTreeSet<Uuid> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These have been written after all.
    pub fn paid(&self, ids: &BTreeSet<Uuid>) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| !ids.contains(id));
    }
}
