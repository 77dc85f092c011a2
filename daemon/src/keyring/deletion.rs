//! The end of a key: planned, taken back, and carried out when it is due. What is destroyed
//! is first out of use, then out of the store's records; `erasure.rs` sees to its last bytes
//! in the store's files.

use claviger_protocol::names::{Description, Tags};
use claviger_protocol::{Code, KeyState};
use uuid::Uuid;

use super::associations::Use;
use super::change::{Changed, Decision, not_default, permitted};
use super::index::{self, Due};
use super::record::{AssociationRecord, KeyRecord, NumberRecord, VersionRecord, path};
use super::state::Action;
use super::{Keyring, index::mark};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op};

/// Records of each kind that one commit of a purge removes.
const PURGE_STEP: usize = 32;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How a deletion is planned.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Days from now, within the configured bounds.
    pub days: u16,
    /// Although access points used the key lately.
    pub force: bool,
    /// Days back in which a use counts as lately.
    pub association_days: u16,
}

/// What came of planning a deletion.
pub enum Planned {
    /// It is planned for then.
    For(Timestamp),
    /// These used the key lately.
    InUse(Vec<Use>),
}

impl Keyring {
    /// Plans a key's deletion.
    pub async fn schedule_deletion(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        plan: Plan,
        trail: &mut Trail,
    ) -> Result<Planned, Failure> {
        let now = self.edge.clock.now();
        let at = now.saturating_add(i64::from(plan.days) * DAY_MS);
        let decide = |key: &KeyRecord| {
            not_default(key, "deleted")?;
            let (state, _) = permitted(key, Action::Schedule)?;
            if key.deletion_protection {
                return Err(Code::DeletionProtected.into());
            }
            Ok(Decision::write(KeyRecord { state, deletion_date: Some(at), ..key.clone() }, Vec::new(), at))
        };
        if !plan.force {
            // What the key itself refuses is said first: the uses are then no matter.
            let key = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
            decide(&key.record)?;
            let since = now.saturating_sub(i64::from(plan.association_days) * DAY_MS);
            let mut uses = self.associations(key_id).await?;
            uses.retain(|used| used.at > since);
            if !uses.is_empty() {
                return Ok(Planned::InUse(uses));
            }
        }
        self.alter(key_id, trail, decide).await.map(Planned::For)
    }

    /// Takes a planned deletion back.
    pub async fn cancel_deletion(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        enable: bool,
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        let decide = |key: &KeyRecord| {
            let (state, _) = permitted(key, Action::Cancel { enable })?;
            let next_rotation = self.rotation_date(key);
            let kept = KeyRecord { state, deletion_date: None, next_rotation, ..key.clone() };
            Ok(Decision::write(kept, Vec::new(), (state, true)))
        };
        self.alter(key_id, trail, decide).await
    }

    /// Destroys a key whose deletion is due: from the commit on it can't be used, and only
    /// its tombstone is shown. Whether it was due.
    pub(super) async fn destroy_due(&self, key_id: Uuid, trail: &mut Trail) -> Result<bool, Failure> {
        let now = self.edge.clock.now();
        let decide = |key: &KeyRecord| {
            if key.deletion_date.is_none_or(|at| at > now) || key.state != KeyState::PendingDeletion {
                return Ok(Decision::Leave(false));
            }
            let (state, _) = permitted(key, Action::Destroy)?;
            let unnamed = key.aliases.iter().map(|alias| index::remove(path::alias(alias.as_str())));
            Ok(Decision::write(tombstone(key, state, now), unnamed.collect(), true))
        };
        let destroyed = self.alter(key_id, trail, decide).await?;
        // The purge, which is tried until it ends, does this too: here it is only sooner.
        if destroyed && let Err(failure) = self.forget_key(key_id).await {
            tracing::warn!(%failure, key = %key_id, "a deleted key's material is let go of by its purge");
        }
        Ok(destroyed)
    }

    /// Removes what is left of a deleted key but its tombstone; whether there was anything.
    pub(super) async fn purge(&self, key_id: Uuid, erase_at: Timestamp) -> Result<bool, Failure> {
        loop {
            let Some(key) = self.find_id(key_id).await? else { return Ok(false) };
            if key.record.state != KeyState::Deleted || key.record.version_count == 0 {
                return Ok(false);
            }
            let mut ops = self.remains(key_id).await?;
            let done = ops.is_empty();
            if done {
                self.remove_imports(key_id).await?;
                ops.extend(self.key_ops(&key, &KeyRecord { version_count: 0, ..key.record.clone() })?);
                ops.push(mark(&self.store, Due::Erase.at(erase_at, key_id))?);
            } else {
                let expect = Expect::Revision(key.revision);
                ops.push(Op { key: path::key(key_id), expect, change: Change::Check });
            }
            self.commit(ops).await?;
            if done {
                return Ok(true);
            }
        }
    }

    /// The removal of some of a deleted key's versions, their numbers, and associations. What
    /// is removed from the store is let go of in memory and in the HSM first.
    async fn remains(&self, key_id: Uuid) -> Result<Vec<Op>, Failure> {
        let versions = self.store.list::<VersionRecord>(&path::versions_of(key_id), None, PURGE_STEP).await?;
        let numbers = self.store.list::<NumberRecord>(&path::numbers_of(key_id), None, PURGE_STEP).await?;
        let uses =
            self.store.list::<AssociationRecord>(&path::associations_of(key_id), None, PURGE_STEP).await?;
        for (_, _, version) in &versions {
            self.forget_version(version.version_id);
        }
        let paths = versions.into_iter().map(|(path, _, _)| path);
        let paths = paths.chain(numbers.into_iter().map(|(path, _, _)| path));
        Ok(paths.chain(uses.into_iter().map(|(path, _, _)| path)).map(index::remove).collect())
    }

    /// Destroys the material of an EXTERNAL key: by request, or because it has expired. Its
    /// version stays, so that the same material makes it whole again.
    pub(super) async fn lose_material(
        &self,
        key_id: Uuid,
        action: Action,
        erase_at: Timestamp,
        check: impl Fn(&KeyRecord) -> Result<bool, Failure>,
        trail: &mut Trail,
    ) -> Result<Option<KeyState>, Failure> {
        let now = self.edge.clock.now();
        for _ in 0..super::change::ATTEMPTS {
            let key = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
            if !check(&key.record)? {
                return Ok(None);
            }
            let (state, changes) = permitted(&key.record, action)?;
            let (Some(primary), true) = (key.record.primary_version, changes) else { return Ok(None) };
            let version = self.version(key_id, primary).await?.ok_or(Code::Internal)?;
            let mut ops = self.key_ops(&key, &without_material(&key.record, state))?;
            let emptied =
                VersionRecord { locations: Vec::new(), destroyed_at: Some(now), ..version.record.clone() };
            let version_path = path::version(key_id, primary);
            let change = Change::Put(self.store.put(&version_path, &emptied)?);
            ops.push(Op { key: version_path, expect: Expect::Revision(version.revision), change });
            ops.push(mark(&self.store, Due::Erase.at(erase_at, key_id))?);
            if self.committed(ops, trail).await? {
                self.moved(&key.record, &without_material(&key.record, state));
                self.forget_version(primary);
                return Ok(Some(state));
            }
        }
        Err(super::change::busy())
    }

    /// Lets go of everything of a key that is in memory or in the HSM.
    async fn forget_key(&self, key_id: Uuid) -> Result<(), Failure> {
        let mut before = None;
        loop {
            let versions = self.version_ids(key_id, before, PURGE_STEP).await?;
            for version_id in &versions {
                self.forget_version(*version_id);
            }
            if versions.len() < PURGE_STEP {
                return Ok(());
            }
            let last = match versions.last() {
                Some(last) => self.version(key_id, *last).await?,
                None => None,
            };
            let Some(last) = last else { return Ok(()) };
            before = Some(last.record.number);
        }
    }
}

/// What remains to be shown of a deleted key.
pub(super) fn tombstone(key: &KeyRecord, state: KeyState, now: Timestamp) -> KeyRecord {
    KeyRecord {
        state,
        description: Description::default(),
        aliases: Vec::new(),
        tags: Tags::default(),
        resume_state: None,
        deletion_date: Some(now),
        // One that never had material has nothing to be erased.
        erased_at: (key.version_count == 0).then_some(now),
        material_expires_at: None,
        import_fingerprint: None,
        rotation_days: None,
        next_rotation: None,
        primary_version: None,
        sm2_user_id: None,
        ..key.clone()
    }
}

/// An EXTERNAL key that awaits its material anew; it remembers where it returns to.
fn without_material(key: &KeyRecord, state: KeyState) -> KeyRecord {
    let resume = match key.state {
        KeyState::Enabled | KeyState::Disabled => key.state,
        // A deletion that is cancelled ends in Disabled.
        KeyState::PendingDeletion | KeyState::PendingImport | KeyState::Deleted => KeyState::Disabled,
    };
    KeyRecord {
        state,
        resume_state: Some(resume),
        primary_version: None,
        material_expires_at: None,
        ..key.clone()
    }
}
