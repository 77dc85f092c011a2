//! Changes of a key's record, each committed in one batch with its index entries and its
//! audit event.

use claviger_protocol::names::{Description, ProjectName, Tag, TagKey, Tags};
use claviger_protocol::{Code, KeyState};
use uuid::Uuid;

use super::record::{KeyRecord, OutboxRecord, path};
use super::state::{Action, Standing, Verdict, allows};
use super::versions::furthest_rotation;
use super::{KeyEntry, Keyring, index};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, MAX_VALUE_LEN, Op, StoreError};

/// Bytes of a key's record that are left to its life.
const ROOM: usize = 256;

/// How often a change is tried anew when another change of the same key came first.
pub(super) const ATTEMPTS: usize = 8;

/// What is to become of a key.
pub(super) enum Decision<T> {
    /// Nothing: it is so already.
    Leave(T),
    /// This record, and with it these changes of other records.
    Write(Box<KeyRecord>, Vec<Op>, T),
}

impl<T> Decision<T> {
    pub(super) fn write(key: KeyRecord, also: Vec<Op>, result: T) -> Self {
        Self::Write(Box::new(key), also, result)
    }
}

/// A key's state after a call, and whether the call changed the key.
pub type Changed = (KeyState, bool);

/// The other records and the key itself are being changed by others all the time.
pub(super) fn busy() -> Failure {
    Failure::new(Code::Busy, "the key is being changed by others; try again")
}

/// What the state says to an action, as a refusal where it says no; the state afterwards,
/// and whether there is anything to do.
pub(super) fn permitted(key: &KeyRecord, action: Action) -> Result<Changed, Failure> {
    match allows(Standing::from(key), action) {
        Verdict::Yes(state) => Ok((state, true)),
        Verdict::Already => Ok((key.state, false)),
        Verdict::No(why) => Err(refusal(key, why)),
    }
}

/// A refusal for the key's state; of a deleted key with the date.
pub(super) fn refusal(key: &KeyRecord, why: &'static str) -> Failure {
    let deleted = key.deletion_date.filter(|_| key.state == KeyState::Deleted);
    let dated = deleted.and_then(|at| u64::try_from(at).ok()).map(|at| {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
        format!("{why} on {}", humantime::format_rfc3339_seconds(at))
    });
    dated.map_or_else(
        || Failure::new(Code::InvalidKeyState, why),
        |text| Failure::new(Code::InvalidKeyState, text),
    )
}

/// Refuses what default keys never allow.
pub(super) fn not_default(key: &KeyRecord, what: &str) -> Result<(), Failure> {
    match &key.default_for {
        None => Ok(()),
        Some(service) => Err(Failure::new(
            Code::UnsupportedByKey,
            format!(
                "it is the default key of the service {service}: it can be used, listed and tagged, not {what}"
            ),
        )),
    }
}

impl Keyring {
    /// Switches a key on or off.
    pub async fn switch(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        action: Action,
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        let decide = |key: &KeyRecord| {
            not_default(key, "switched on or off")?;
            let (state, changes) = permitted(key, action)?;
            if !changes {
                return Ok(Decision::Leave((state, false)));
            }
            let switched = KeyRecord { state, next_rotation: self.rotation_date(key), ..key.clone() };
            Ok(Decision::write(switched, Vec::new(), (state, true)))
        };
        self.alter(key_id, trail, decide).await
    }

    /// When a key that goes into another state is to be rotated: one that isn't Enabled
    /// isn't seen to when the clock is set back, so it is now.
    pub(super) fn rotation_date(&self, key: &KeyRecord) -> Option<Timestamp> {
        key.next_rotation.min(furthest_rotation(key, self.edge.clock.now()))
    }

    /// Gives a key another description.
    pub async fn describe_as(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        description: &Description,
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        let edit = |key: &mut KeyRecord| {
            not_default(key, "described anew")?;
            key.description = description.clone();
            Ok(())
        };
        self.edit(key_id, trail, edit).await
    }

    /// Refuses a key's deletion from now on, or allows it.
    pub async fn protect(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        protected: bool,
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        let edit = |key: &mut KeyRecord| {
            not_default(key, "protected: it can't be deleted")?;
            key.deletion_protection = protected;
            Ok(())
        };
        self.edit(key_id, trail, edit).await
    }

    /// Sets tags; one whose key is there already gets the new value.
    pub async fn tag(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        tags: &Tags,
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        let edit = |key: &mut KeyRecord| {
            let set = tags.as_slice();
            let kept = |tag: &&Tag| set.iter().all(|new| new.key() != tag.key());
            let all = key.tags.as_slice().iter().filter(kept).chain(set).cloned().collect::<Vec<_>>();
            let too_many =
                |_| Failure::new(Code::LimitExceeded, "a key has at most 20 tags; remove some first");
            key.tags = Tags::try_from(all).map_err(too_many)?;
            Ok(())
        };
        self.edit(key_id, trail, edit).await
    }

    /// Removes tags; those that aren't there are no matter.
    pub async fn untag(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        tag_keys: &[TagKey],
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        let edit = |key: &mut KeyRecord| {
            let named = |tag: &Tag| tag_keys.iter().any(|key| key.as_str() == tag.key());
            let kept: Vec<_> = key.tags.as_slice().iter().filter(|tag| !named(tag)).cloned().collect();
            key.tags = Tags::try_from(kept).map_err(|_| Code::Internal)?;
            Ok(())
        };
        self.edit(key_id, trail, edit).await
    }

    /// Moves a key into a project.
    pub async fn move_to(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        project: &ProjectName,
        trail: &mut Trail,
    ) -> Result<Changed, Failure> {
        for _ in 0..ATTEMPTS {
            let check = self.project_check(project).await?;
            let decide = |key: &KeyRecord| {
                not_default(key, "moved")?;
                let (state, _) = permitted(key, Action::Change)?;
                if key.project == *project {
                    return Ok(Decision::Leave((state, false)));
                }
                let moved = KeyRecord { project: project.clone(), ..key.clone() };
                Ok(Decision::write(moved, check.clone(), (state, true)))
            };
            if let Some(done) = self.alter_once(key_id, trail, decide).await? {
                return Ok(done);
            }
        }
        Err(busy())
    }

    /// A change of metadata, where the state allows those.
    async fn edit(
        &self,
        key_id: Uuid,
        trail: &mut Trail,
        edit: impl Fn(&mut KeyRecord) -> Result<(), Failure>,
    ) -> Result<Changed, Failure> {
        let decide = |key: &KeyRecord| {
            let (state, _) = permitted(key, Action::Change)?;
            let mut edited = key.clone();
            edit(&mut edited)?;
            if edited == *key {
                return Ok(Decision::Leave((state, false)));
            }
            self.with_room(&edited)?;
            Ok(Decision::write(edited, Vec::new(), (state, true)))
        };
        self.alter(key_id, trail, decide).await
    }

    /// Whether what users put into a key's record leaves room for what its life will: dates,
    /// states, and versions must never find it full.
    pub(super) fn with_room(&self, key: &KeyRecord) -> Result<(), Failure> {
        let length = self.store.put(&path::key(key.key_id), key)?.len();
        if length + ROOM > MAX_VALUE_LEN { Err(StoreError::TooLarge.into()) } else { Ok(()) }
    }

    /// Decides on the key's record as it is now and writes what was decided, anew as long
    /// as others come first.
    pub(super) async fn alter<T>(
        &self,
        key_id: Uuid,
        trail: &mut Trail,
        decide: impl Fn(&KeyRecord) -> Result<Decision<T>, Failure>,
    ) -> Result<T, Failure> {
        for _ in 0..ATTEMPTS {
            if let Some(done) = self.alter_once(key_id, trail, &decide).await? {
                return Ok(done);
            }
        }
        Err(busy())
    }

    /// The same once; `None` where another change came first.
    pub(super) async fn alter_once<T>(
        &self,
        key_id: Uuid,
        trail: &mut Trail,
        decide: impl Fn(&KeyRecord) -> Result<Decision<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let current = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
        let (record, also, result) = match decide(&current.record)? {
            Decision::Leave(result) => return Ok(Some(result)),
            Decision::Write(record, also, result) => (record, also, result),
        };
        let mut ops = self.key_ops(&current, &record)?;
        ops.extend(also);
        match self.commit_with_event(ops, trail).await {
            Ok(()) => {
                self.moved(&current.record, &record);
                Ok(Some(result))
            }
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A key's record in the place of the one that was read, and its index entries.
    pub(super) fn key_ops(&self, current: &KeyEntry, to: &KeyRecord) -> Result<Vec<Op>, StoreError> {
        let key = path::key(to.key_id);
        let mut ops = index::changes(&self.store, Some(&current.record), to)?;
        let change = Change::Put(self.store.put(&key, to)?);
        ops.push(Op { key, expect: Expect::Revision(current.revision), change });
        Ok(ops)
    }

    /// Counts a key that is in another state now.
    pub(super) fn moved(&self, from: &KeyRecord, to: &KeyRecord) {
        if from.state != to.state {
            self.counts.moved(to.spec, from.state, to.state);
        }
    }

    /// Commits a change and the call's event in one batch.
    pub(super) async fn commit_with_event(
        &self,
        mut ops: Vec<Op>,
        trail: &mut Trail,
    ) -> Result<(), StoreError> {
        if let Some(event) = trail.snapshot(Code::Ok) {
            let key = path::outbox(event.event_id);
            let change = Change::Put(self.store.put(&key, &OutboxRecord { event })?);
            ops.push(Op { key, expect: Expect::Any, change });
        }
        self.commit(ops).await?;
        trail.in_outbox();
        Ok(())
    }
}
