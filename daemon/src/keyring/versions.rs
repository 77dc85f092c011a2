//! Versions of a key: new ones on demand, by policy and where a nonce budget ends, and
//! what there is to know of each.

use claviger_protocol::limits::MAX_VERSIONS;
use claviger_protocol::{Code, KeyOrigin};
use uuid::Uuid;

use super::change::{ATTEMPTS, Decision, busy, not_default, permitted};
use super::making::NewMaterial;
use super::record::{KeyRecord, NumberRecord, VersionRecord, path};
use super::state::Action;
use super::tokens::{ClientToken, Former};
use super::{KeyEntry, Keyring};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// When a rotation of that period falls due.
pub(super) fn next_rotation(now: Timestamp, days: u16) -> Timestamp {
    now.saturating_add(i64::from(days) * DAY_MS)
}

/// The furthest ahead that a key's next rotation can lie. One beyond was dated by a clock
/// that ran ahead.
pub(super) fn furthest_rotation(key: &KeyRecord, now: Timestamp) -> Option<Timestamp> {
    key.rotation_days.map(|days| next_rotation(now, days))
}

/// Why a version is made; decides what the key must be like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Somebody wants another primary version now.
    Rotate,
    /// Somebody wants another version of a pair.
    Create,
    /// The policy wants it.
    Due,
    /// This version's nonce budget ends.
    Exhausted(Uuid),
}

impl Reason {
    /// Whether it still holds of the key as it is now.
    fn stands(self, key: &KeyRecord, now: Timestamp) -> bool {
        match self {
            Self::Rotate | Self::Create => true,
            Self::Due => key.next_rotation.is_some_and(|at| at <= now),
            Self::Exhausted(version) => key.primary_version == Some(version),
        }
    }

    fn check(self, key: &KeyRecord) -> Result<(), Failure> {
        let no = |text: &'static str| Err(Failure::new(Code::UnsupportedByKey, text));
        if self == Self::Rotate || self == Self::Create {
            not_default(key, "given another version")?;
        }
        if key.origin == KeyOrigin::External {
            return no("an EXTERNAL key has exactly one version, whose material its owner brings");
        }
        match (self, key.spec.pair()) {
            (Self::Rotate | Self::Due | Self::Exhausted(_), Some(_)) => {
                return no("a key pair has no primary version to rotate; make another with create-version");
            }
            (Self::Create, None) => {
                return no("the key has a primary version; rotate it instead of making another beside it");
            }
            _ => {}
        }
        permitted(key, Action::Rotate)?;
        if key.version_count >= MAX_VERSIONS {
            let text = format!("a key has at most {MAX_VERSIONS} versions");
            return Err(Failure::new(Code::LimitExceeded, text));
        }
        Ok(())
    }
}

impl Keyring {
    /// Makes a new primary version, or finds the one that the same client token made.
    pub async fn rotate(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        token: &ClientToken,
        trail: &mut Trail,
    ) -> Result<(Uuid, Uuid), Failure> {
        let made = self.add_version(key_id, Reason::Rotate, Some(token), trail).await?;
        made.ok_or_else(|| Code::Internal.into())
    }

    /// Makes another version of a pair, or finds the one that the same client token made.
    pub async fn create_version(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        token: &ClientToken,
        trail: &mut Trail,
    ) -> Result<(Uuid, Uuid), Failure> {
        let made = self.add_version(key_id, Reason::Create, Some(token), trail).await?;
        made.ok_or_else(|| Code::Internal.into())
    }

    /// Rotates a key whose policy says so; whether it still does.
    pub(super) async fn rotate_due(&self, key_id: Uuid, trail: &mut Trail) -> Result<bool, Failure> {
        Ok(self.add_version(key_id, Reason::Due, None, trail).await?.is_some())
    }

    /// Rotates a key whose primary version is used up; whether it still is.
    pub(super) async fn rotate_exhausted(
        &self,
        key_id: Uuid,
        version_id: Uuid,
        trail: &mut Trail,
    ) -> Result<bool, Failure> {
        Ok(self.add_version(key_id, Reason::Exhausted(version_id), None, trail).await?.is_some())
    }

    async fn add_version(
        &self,
        key_id: Uuid,
        reason: Reason,
        token: Option<&ClientToken>,
        trail: &mut Trail,
    ) -> Result<Option<(Uuid, Uuid)>, Failure> {
        let mut begun = None;
        let made = self.add_with(key_id, reason, token, &mut begun, trail).await;
        match (&made, begun) {
            // Its intent went with the commit.
            (Ok(Some((_, made))), Some((version_id, _, _))) if *made == version_id => {}
            (_, Some((_, intent, _))) => self.drop_intent(intent).await,
            (_, None) => {}
        }
        made
    }

    /// Tries until nobody else comes first. What was made for it stands in `begun`: the
    /// version's id, the intent, the material.
    async fn add_with(
        &self,
        key_id: Uuid,
        reason: Reason,
        token: Option<&ClientToken>,
        begun: &mut Option<(Uuid, Vec<u8>, NewMaterial)>,
        trail: &mut Trail,
    ) -> Result<Option<(Uuid, Uuid)>, Failure> {
        for _ in 0..ATTEMPTS {
            let token = match token {
                None => None,
                Some(token) => match self.former(token).await? {
                    // Of the key that it was then, which the name may point away from since.
                    Former::Result(key_id, version_id) => {
                        return Ok(version_id.map(|version_id| (key_id, version_id)));
                    }
                    Former::Nothing(expect) => Some((token, expect)),
                },
            };
            let key = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
            if !reason.stands(&key.record, self.edge.clock.now()) {
                return Ok(None);
            }
            reason.check(&key.record)?;
            if begun.is_none() {
                *begun = Some(self.begin_version(&key, trail).await?);
            }
            let Some((version_id, intent, material)) = &*begun else { return Err(Code::Internal.into()) };
            let next = self.with_version(&key.record, *version_id);
            let mut ops = self.key_ops(&key, &next)?;
            ops.extend(self.version_ops(&next, *version_id, next.version_count, material)?);
            ops.push(Op { key: intent.clone(), expect: Expect::Any, change: Change::Delete });
            if let Some((token, expect)) = token {
                ops.push(self.token_op(token, expect, (key_id, Some(*version_id)))?);
            }
            if self.committed(ops, trail).await? {
                return Ok(Some((key_id, *version_id)));
            }
        }
        Err(busy())
    }

    /// Intent, then material.
    async fn begin_version(
        &self,
        key: &KeyEntry,
        trail: &Trail,
    ) -> Result<(Uuid, Vec<u8>, NewMaterial), Failure> {
        let key = &key.record;
        let version_id = self.edge.entropy.uuid()?;
        let intent = self.write_intent(trail).await?;
        match self.new_material(key.spec, key.usage, key.protection, (key.key_id, version_id)).await {
            Ok(material) => Ok((version_id, intent, material)),
            Err(failure) => {
                self.drop_intent(intent).await;
                Err(failure)
            }
        }
    }

    /// The key with one version more.
    fn with_version(&self, key: &KeyRecord, version_id: Uuid) -> KeyRecord {
        let mut next = KeyRecord { version_count: key.version_count.saturating_add(1), ..key.clone() };
        if key.spec.pair().is_none() {
            let now = self.edge.clock.now();
            next.primary_version = Some(version_id);
            next.last_rotation = Some(now);
            next.next_rotation = key.rotation_days.map(|days| next_rotation(now, days));
        }
        next
    }

    /// Sets or ends regular rotation; the key as it is then, and whether that is new.
    pub async fn set_rotation(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        days: Option<u16>,
        trail: &mut Trail,
    ) -> Result<(KeyRecord, bool), Failure> {
        let now = self.edge.clock.now();
        let decide = |key: &KeyRecord| {
            not_default(key, "given a rotation policy")?;
            let no = |text: &'static str| Err(Failure::new(Code::UnsupportedByKey, text));
            if key.origin == KeyOrigin::External {
                return no("an EXTERNAL key has one material for ever: there is nothing to rotate to");
            }
            if key.spec.pair().is_some() {
                return no("key pairs have no regular rotation; make new versions with create-version");
            }
            permitted(key, Action::SetRotation)?;
            if key.rotation_days == days {
                return Ok(Decision::Leave((key.clone(), false)));
            }
            let next_rotation = days.map(|days| next_rotation(now, days));
            let next = KeyRecord { rotation_days: days, next_rotation, ..key.clone() };
            Ok(Decision::write(next.clone(), Vec::new(), (next, true)))
        };
        self.alter(key_id, trail, decide).await
    }

    /// Dates a rotation anew that lies further ahead than its policy reaches: a clock that ran
    /// ahead dated it. Whether it did.
    pub(super) async fn redate(&self, key_id: Uuid, trail: &mut Trail) -> Result<bool, Failure> {
        let now = self.edge.clock.now();
        let decide = |key: &KeyRecord| {
            let furthest = furthest_rotation(key, now);
            if key.next_rotation <= furthest {
                return Ok(Decision::Leave(false));
            }
            Ok(Decision::write(KeyRecord { next_rotation: furthest, ..key.clone() }, Vec::new(), true))
        };
        self.alter(key_id, trail, decide).await
    }

    /// At most `limit` versions older than the number `before`, newest first.
    pub async fn versions(
        &self,
        key_id: Uuid,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<VersionRecord>, Failure> {
        let mut found = Vec::new();
        for version_id in self.version_ids(key_id, before, limit).await? {
            found.extend(self.version(key_id, version_id).await?.map(|version| version.record.clone()));
        }
        Ok(found)
    }

    /// The same, ids only.
    pub(super) async fn version_ids(
        &self,
        key_id: Uuid,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Vec<Uuid>, Failure> {
        let after = before.map(|number| path::number(key_id, number));
        let page =
            self.store.list::<NumberRecord>(&path::numbers_of(key_id), after.as_deref(), limit).await?;
        Ok(page.into_iter().map(|(_, _, number)| number.version_id).collect())
    }

    /// One version of a key.
    pub async fn describe_version(&self, key_id: Uuid, version_id: Uuid) -> Result<VersionRecord, Failure> {
        let version = self.version(key_id, version_id).await?;
        version.map(|version| version.record.clone()).ok_or_else(super::asymmetric::no_such_version)
    }
}
