//! What time makes due: which keys are to be rotated, deleted, or lose their material, and
//! the doing of it. When to look is the scheduler's business.

use std::sync::PoisonError;

use claviger_protocol::limits::MIN_ROTATION_DAYS;
use futures_util::future::try_join_all;
use uuid::Uuid;

use super::Keyring;
use super::index::{self, Due};
use super::record::{KeyRecord, Mark, path};
use super::state::Action;
use super::versions::{furthest_rotation, next_rotation};
use crate::audit::Trail;
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    what: What,
    id: Uuid,
    place: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Due(Due),
    /// A version's nonce budget ends.
    Exhausted(Uuid),
    /// A rotation was dated by a clock that ran ahead.
    Redate,
    /// The store was rewritten as it was at this revision, or later.
    Erased(u64),
}

/// What tasks need: those of one part hold no other part up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Records,
    /// New material from the HSM.
    Material,
}

impl Task {
    pub(super) fn new(what: What, id: Uuid, place: Vec<u8>) -> Self {
        Self { what, id, place }
    }

    /// The store was rewritten at that revision: what is left is to note it.
    pub(super) fn was_erased_at(&mut self, revision: u64) {
        self.what = What::Erased(revision);
    }

    /// What the audit calls it; none for what belongs to another event.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        match self.what {
            What::Due(Due::Rotate) | What::Exhausted(_) => Some("rotateKey"),
            What::Due(Due::Destroy) => Some("deleteKey"),
            What::Due(Due::Expire) => Some("expireKeyMaterial"),
            What::Redate => Some("updateRotationPolicy"),
            What::Erased(_) => Some("eraseKeyMaterial"),
            What::Due(Due::Purge | Due::EndImport | Due::Erase) => None,
        }
    }

    /// What the log calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.what {
            What::Due(Due::Rotate) => "rotation",
            What::Exhausted(_) => "rotation of an exhausted key",
            What::Due(Due::Destroy) => "deletion",
            What::Due(Due::Expire) => "expiry of material",
            What::Due(Due::Purge) => "purge of a deleted key",
            What::Erased(_) | What::Due(Due::Erase) => "erasure",
            What::Due(Due::EndImport) => "end of import parameters",
            What::Redate => "re-dating of a rotation",
        }
    }

    /// The key that it is about.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Where it stands among what is due: where to go on behind it.
    #[must_use]
    pub fn place(&self) -> &[u8] {
        &self.place
    }
}

impl Keyring {
    /// What is due among at most `limit` entries that stand behind `after`, earliest first; and
    /// where to go on, while there is more.
    pub async fn due(
        &self,
        part: Part,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Task>, Option<Vec<u8>>), Failure> {
        let now = self.edge.clock.now();
        let among = match part {
            Part::Records => path::DUE,
            Part::Material => path::ROTATIONS,
        };
        let page = self.store.list::<Mark>(among, after, limit).await?;
        let mut more = page.last().filter(|_| page.len() == limit).map(|(place, _, _)| place.clone());
        let mut tasks = Vec::new();
        for (place, _, _) in page {
            let Some((at, number, id)) = path::due_parts(&place) else { continue };
            if at > now {
                more = None;
                break;
            }
            let Some(due) = Due::from_number(number) else { continue };
            tasks.push(Task { what: What::Due(due), id, place });
        }
        Ok((tasks, more))
    }

    /// Keys whose primary version is nearly used up. They are kept until that is so no more.
    pub fn exhausted(&self) -> Vec<Task> {
        let taken = self.exhausted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let task = |(id, version): (Uuid, Uuid)| {
            let place = path::version(id, version);
            Task { what: What::Exhausted(version), id, place }
        };
        taken.into_iter().map(task).collect()
    }

    /// Rotations that are dated further ahead than their policy reaches, among at most `limit`
    /// that stand behind `after`; and where to go on, while there are more.
    pub async fn misdated(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Task>, Option<Vec<u8>>), Failure> {
        let now = self.edge.clock.now();
        let first = path::due(path::ROTATIONS, next_rotation(now, MIN_ROTATION_DAYS), 0, Uuid::nil());
        let page = self.store.list::<Mark>(path::ROTATIONS, Some(after.unwrap_or(&first)), limit).await?;
        let more = page.last().filter(|_| page.len() == limit).map(|(place, _, _)| place.clone());
        let rotations = page.into_iter().filter_map(|(place, _, _)| {
            let (at, number, id) = path::due_parts(&place)?;
            (number == Due::Rotate as u8).then_some((at, id, place))
        });
        // Past the cache, which this would empty of what is in use.
        let checks = rotations.map(|(at, id, place)| async move {
            let key = self.store.get::<KeyRecord>(&path::key(id)).await?;
            let ahead = key.is_some_and(|(_, key)| Some(at) > furthest_rotation(&key, now));
            Ok::<_, Failure>(ahead.then_some(Task { what: What::Redate, id, place }))
        });
        Ok((try_join_all(checks).await?.into_iter().flatten().collect(), more))
    }

    /// Does a task; whether there was anything to do. `erase_after` is how long destroyed
    /// material's last bytes may stay in the store's files, in milliseconds.
    ///
    /// # Errors
    /// Where it has to be tried again later.
    pub async fn carry_out(
        &self,
        task: &Task,
        erase_after: Timestamp,
        trail: &mut Trail,
    ) -> Result<bool, Failure> {
        let (id, now) = (task.id, self.edge.clock.now());
        let erase_at = now.saturating_add(erase_after);
        let done = match task.what {
            What::Due(Due::Rotate) => self.rotate_due(id, trail).await?,
            What::Exhausted(version) => {
                let rotated = self.rotate_exhausted(id, version, trail).await;
                // One that can't be rotated now comes back with its next use.
                if !rotated.as_ref().is_err_and(|failure| failure.code.retryable()) {
                    self.exhausted.lock().unwrap_or_else(PoisonError::into_inner).remove(&(id, version));
                }
                rotated?
            }
            What::Due(Due::Destroy) => self.destroy_due(id, trail).await?,
            What::Due(Due::Expire) => {
                let expired = |key: &KeyRecord| Ok(key.material_expires_at.is_some_and(|at| at <= now));
                self.lose_material(id, Action::Expire, erase_at, expired, trail).await?.is_some()
            }
            What::Due(Due::Purge) => self.purge(id, erase_at).await?,
            What::Redate => self.redate(id, trail).await?,
            What::Erased(revision) => self.erased(id, &task.place, revision, trail).await?,
            // Not among what is due: the store is rewritten for all of them at once.
            What::Due(Due::Erase) => false,
            What::Due(Due::EndImport) => {
                self.end_imports(id, &task.place).await?;
                true
            }
        };
        if !done {
            self.unless_meant(task).await?;
        }
        Ok(done)
    }

    /// A mark that its key doesn't have (any more) is removed: nothing would ever do it.
    async fn unless_meant(&self, task: &Task) -> Result<(), Failure> {
        let What::Due(_) = task.what else { return Ok(()) };
        let key = self.find_id(task.id).await?;
        let mut ops = vec![index::remove(task.place.clone())];
        if let Some(key) = key {
            if index::entries(&key.record).contains(&task.place) {
                return Ok(());
            }
            // Only while the key is so: a change meanwhile may mean the mark.
            let expect = Expect::Revision(key.revision);
            ops.push(Op { key: path::key(task.id), expect, change: Change::Check });
        }
        match self.commit(ops).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
