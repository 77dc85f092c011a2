//! Erasure: destroyed material's last bytes leave the store's files. The records are gone
//! with the deletion; the files still hold what was overwritten, until the store is rewritten.
//! A mark stands for each key whose material was destroyed; one rewrite serves all marks that
//! stood before it.

use claviger_protocol::KeyState;
use uuid::Uuid;

use super::Keyring;
use super::due::{Task, What};
use super::index::{self, Due};
use super::record::{KeyRecord, Mark, path};
use crate::audit::Trail;
use crate::edge::Timestamp;
use crate::failure::Failure;

/// Marks found in one read.
const PAGE: usize = 256;

impl Keyring {
    /// Rewrites the store if an erasure is due; what is to be noted of each key then, with
    /// [`Keyring::carry_out`]. Those that aren't due yet go with the others. One that lies
    /// further ahead than `erase_after` milliseconds was dated by a clock that ran ahead.
    pub async fn erase(&self, erase_after: Timestamp) -> Result<Vec<Task>, Failure> {
        let now = self.edge.clock.now();
        // They stand in the order of time: the first tells of what is overdue, the first that
        // lies too far ahead of a clock that was wrong.
        let far = Due::Erase.at(now.saturating_add(erase_after).saturating_add(1), Uuid::nil());
        let due = |place: &[u8]| path::due_parts(place).is_some_and(|(at, _, _)| at <= now);
        let first = self.store.list::<Mark>(path::ERASURES, None, 1).await?;
        let misdated = self.store.list::<Mark>(path::ERASURES, Some(&far), 1).await?;
        if !first.iter().any(|(place, _, _)| due(place)) && misdated.is_empty() {
            return Ok(Vec::new());
        }
        let mut tasks = self.erasures().await?;
        // Every mark was committed with the destruction, or after it: what is read here is
        // gone from the records that the rewrite keeps.
        let revision = self.store.store().rewrite().await?;
        tracing::info!(
            revision,
            keys = tasks.len(),
            "the store was rewritten: destroyed material is gone from its files"
        );
        for task in &mut tasks {
            task.was_erased_at(revision);
        }
        Ok(tasks)
    }

    /// All marks, due or not. There are as many as keys were destroyed within a day.
    async fn erasures(&self) -> Result<Vec<Task>, Failure> {
        let (mut tasks, mut after) = (Vec::new(), None::<Vec<u8>>);
        loop {
            let page = self.store.list::<Mark>(path::ERASURES, after.as_deref(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(place, _, _)| place.clone());
            tasks.extend(page.into_iter().filter_map(|(place, _, _)| {
                let (_, _, id) = path::due_parts(&place)?;
                Some(Task::new(What::Due(Due::Erase), id, place))
            }));
            if !full {
                return Ok(tasks);
            }
        }
    }

    /// After the rewrite: a tombstone says since when nothing is left, and the mark goes.
    pub(super) async fn erased(
        &self,
        key_id: Uuid,
        place: &[u8],
        revision: u64,
        trail: &mut Trail,
    ) -> Result<bool, Failure> {
        for _ in 0..super::change::ATTEMPTS {
            let mut ops = vec![index::remove(place.to_vec())];
            if let Some(key) = self.find_id(key_id).await?
                && key.record.state == KeyState::Deleted
                && key.record.erased_at.is_none()
                // One that was destroyed since has a mark of its own.
                && key.record.version_count == 0
                && key.revision <= revision
            {
                let erased_at = Some(self.edge.clock.now());
                ops.extend(self.key_ops(&key, &KeyRecord { erased_at, ..key.record.clone() })?);
            }
            if self.committed(ops, trail).await? {
                return Ok(true);
            }
        }
        Err(super::change::busy())
    }
}
