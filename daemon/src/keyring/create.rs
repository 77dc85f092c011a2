//! Making keys. The order is what makes a crash harmless: intent, material (a
//! session object that dies with the process), then one commit of everything.

use claviger_protocol::names::{Alias, Description, ProjectName, ServiceName, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeyOrigin, KeySpec, KeyState, KeyUsage, Protection};
use uuid::Uuid;

use super::change::{ATTEMPTS, busy};
use super::making::NewMaterial;
use super::record::{AliasRecord, IntentRecord, KeyRecord, NumberRecord, OutboxRecord, VersionRecord, path};
use super::tokens::{ClientToken, Former};
use super::versions::next_rotation;
use super::{Keyring, index};
use crate::admission::Admitted;
use crate::audit::{ResourceKind, Trail};
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

/// What a new key is to be, checked as far as the request alone allows.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What kind.
    pub spec: KeySpec,
    /// What for.
    pub usage: KeyUsage,
    /// Where its material lives.
    pub protection: Protection,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// Its project.
    pub project: ProjectName,
    /// A first alias.
    pub alias: Option<Alias>,
    /// Its description.
    pub description: Description,
    /// Its tags.
    pub tags: Tags,
    /// Rotation period in days.
    pub rotation_days: Option<u16>,
    /// Who makes it.
    pub created_by: String,
    /// The client's token; none for what the daemon makes itself.
    pub token: Option<ClientToken>,
    /// SM2 user id, of an SM2 key that signs.
    pub sm2_user_id: Option<Bytes>,
    /// The service whose default key it is.
    pub default_for: Option<ServiceName>,
}

impl NewKey {
    /// The alias that it starts with, reserved ones included.
    fn first_alias(&self) -> Option<String> {
        let default = self.default_for.as_ref().map(ServiceName::default_alias);
        default.or_else(|| self.alias.as_ref().map(ToString::to_string))
    }
}

/// A key's ids: its own, and its first version's.
pub type Made = (Uuid, Option<Uuid>);

impl Keyring {
    /// Makes a key, or finds what the same client token made before.
    pub async fn create(
        &self,
        _admitted: &Admitted,
        new: &NewKey,
        trail: &mut Trail,
    ) -> Result<Made, Failure> {
        self.make_key(new, trail).await
    }

    /// The same, for what the daemon makes itself too.
    pub(super) async fn make_key(&self, new: &NewKey, trail: &mut Trail) -> Result<Made, Failure> {
        self.check_possible(new).await?;
        // Before anything is begun: a record that is too large is refused here.
        let ids = (self.edge.entropy.uuid()?, self.edge.entropy.uuid()?);
        let key = self.key_record(new, ids);
        self.with_room(&key)?;
        let mut begun = None;
        let made = self.make_with(new, &key, ids.1, &mut begun, trail).await;
        if let (Some((intent, _)), false) = (begun, matches!(made, Ok((key_id, _)) if key_id == ids.0)) {
            self.drop_intent(intent).await;
        }
        made
    }

    /// Tries until nobody else comes first. What was made for it stands in `begun`: the
    /// intent, and the material.
    async fn make_with(
        &self,
        new: &NewKey,
        key: &KeyRecord,
        version_id: Uuid,
        begun: &mut Option<(Vec<u8>, NewMaterial)>,
        trail: &mut Trail,
    ) -> Result<Made, Failure> {
        for _ in 0..ATTEMPTS {
            let token = match &new.token {
                None => None,
                Some(token) => match self.former(token).await? {
                    Former::Result(key_id, version_id) => return Ok(found(trail, (key_id, version_id))),
                    Former::Nothing(expect) => Some((token, expect)),
                },
            };
            if let Some(alias) = new.first_alias()
                && self.alias(&alias).await?.is_some()
            {
                // By the same request, it may be, which came first since the token was looked up.
                return match &new.token {
                    Some(token) => match self.former(token).await? {
                        Former::Result(key_id, version_id) => Ok(found(trail, (key_id, version_id))),
                        Former::Nothing(_) => Err(alias_taken()),
                    },
                    None => Err(alias_taken()),
                };
            }
            let mut ops = self.project_check(&new.project).await?;
            if new.origin == KeyOrigin::Kms && begun.is_none() {
                let intent = self.write_intent(trail).await?;
                // Set before the material is made: whatever happens, the intent goes again.
                let material =
                    self.new_material(new.spec, new.usage, new.protection, (key.key_id, version_id)).await;
                match material {
                    Ok(material) => *begun = Some((intent, material)),
                    Err(failure) => {
                        self.drop_intent(intent).await;
                        return Err(failure);
                    }
                }
            }
            let made = (key.key_id, key.primary_version);
            if let Some((token, expect)) = token {
                ops.push(self.token_op(token, expect, made)?);
            }
            if let Some((intent, material)) = &*begun {
                ops.extend(self.version_ops(key, version_id, 1, material)?);
                ops.push(Op { key: intent.clone(), expect: Expect::Any, change: Change::Delete });
            }
            match self.commit_creation(new, key, ops, trail).await {
                Ok(()) => {
                    self.counts.add(key.state, key.spec);
                    return Ok(made);
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// The one commit that makes the key exist.
    async fn commit_creation(
        &self,
        new: &NewKey,
        key: &KeyRecord,
        mut ops: Vec<Op>,
        trail: &mut Trail,
    ) -> Result<(), StoreError> {
        let key_path = path::key(key.key_id);
        ops.extend(index::changes(&self.store, None, key)?);
        ops.push(put_new(self.store.put(&key_path, key)?, key_path));
        if let Some(alias) = new.first_alias() {
            let alias_path = path::alias(&alias);
            ops.push(put_new(self.store.put(&alias_path, &AliasRecord { key_id: key.key_id })?, alias_path));
        }
        // The event that is committed is the key's; a failure's names no key.
        if let Some(mut event) = trail.snapshot(Code::Ok) {
            event.resource_kind = ResourceKind::Key;
            event.resources = vec![key.key_id];
            let outbox_path = path::outbox(event.event_id);
            ops.push(put_new(self.store.put(&outbox_path, &OutboxRecord { event })?, outbox_path));
        }
        self.commit(ops).await?;
        trail.about_key(key.key_id);
        trail.in_outbox();
        Ok(())
    }

    /// A new version of a key, and its number.
    pub(super) fn version_ops(
        &self,
        key: &KeyRecord,
        version_id: Uuid,
        number: u32,
        material: &NewMaterial,
    ) -> Result<Vec<Op>, StoreError> {
        let version = VersionRecord {
            key_id: key.key_id,
            version_id,
            number,
            created_at: self.edge.clock.now(),
            suite: material.suite,
            check_value: material.check_value,
            locations: vec![material.location.clone()],
            reserved_uses: 0,
            hardware: key.protection == Protection::Hsm && self.member.hardware,
            made_by: self.member.name.clone(),
            public_key: material.public_key.clone().map(Bytes),
            destroyed_at: None,
        };
        let version_path = path::version(key.key_id, version_id);
        let number_path = path::number(key.key_id, number);
        Ok(vec![
            put_new(self.store.put(&version_path, &version)?, version_path),
            put_new(self.store.put(&number_path, &NumberRecord { version_id })?, number_path),
        ])
    }

    /// Whether this domain and this pool can make such a key.
    async fn check_possible(&self, new: &NewKey) -> Result<(), Failure> {
        if !new.spec.usages().contains(&new.usage) {
            let possible: Vec<_> = new.spec.usages().iter().map(|usage| usage.name()).collect();
            let text = format!("an {} key is for {}, not for {}", new.spec, possible.join(" or "), new.usage);
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        if new.sm2_user_id.is_some() && (new.spec, new.usage) != (KeySpec::Sm2, KeyUsage::SignVerify) {
            return Err(Failure::new(Code::InvalidArgument, "only SM2 keys that sign have an SM2 user id"));
        }
        if new.rotation_days.is_some() && new.origin == KeyOrigin::External {
            let text =
                "an EXTERNAL key has one material for ever: it can't be created with a rotation policy";
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        if new.rotation_days.is_some() && new.spec.pair().is_some() {
            let text =
                "key pairs have no regular rotation: leave it out, and make new versions with create-version";
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        if let Some(alias) = &new.alias {
            self.not_reserved(alias).await?;
        }
        self.can_hold(new.spec, new.usage, new.protection)
    }

    /// Whether the pool can hold keys of the spec at the level.
    fn can_hold(&self, spec: KeySpec, usage: KeyUsage, protection: Protection) -> Result<(), Failure> {
        if protection == Protection::Software {
            return Ok(());
        }
        let member = &self.member;
        if !self.hsm_level_allowed {
            let text = format!(
                "the domain's HSM ({}) is a software token; allow it with allow_software_tokens = true, or use --protection software",
                member.name
            );
            return Err(Failure::new(Code::UnsupportedByHsm, text));
        }
        match member.report.unavailable(spec, usage) {
            None => Ok(()),
            Some(why) => {
                let text = format!("{} cannot hold {spec} ({why}); use --protection software", member.name);
                Err(Failure::new(Code::UnsupportedByHsm, text))
            }
        }
    }

    /// Where default keys live: in the HSM if it can.
    pub(super) fn default_protection(&self) -> Protection {
        let hsm = self.can_hold(KeySpec::Aes256, KeyUsage::EncryptDecrypt, Protection::Hsm);
        if hsm.is_ok() { Protection::Hsm } else { Protection::Software }
    }

    /// The intent, on the disk before the HSM is asked for anything.
    pub(super) async fn write_intent(&self, trail: &Trail) -> Result<Vec<u8>, Failure> {
        let intent = path::intent(trail.event_id());
        let event = trail.snapshot(Code::Ok).ok_or(Code::Internal)?;
        let change = Change::Put(self.store.put(&intent, &IntentRecord { event })?);
        self.commit(vec![Op { key: intent.clone(), expect: Expect::Absent, change }]).await?;
        Ok(intent)
    }

    /// The call itself reports the failure; a crash before this leaves the intent to recovery.
    pub(super) async fn drop_intent(&self, intent: Vec<u8>) {
        let op = Op { key: intent, expect: Expect::Any, change: Change::Delete };
        if let Err(error) = self.commit(vec![op]).await {
            tracing::warn!(%error, "an intent could not be removed; the next start closes it");
        }
    }

    fn key_record(&self, new: &NewKey, (key_id, version_id): (Uuid, Uuid)) -> KeyRecord {
        let (now, made_here) = (self.edge.clock.now(), new.origin == KeyOrigin::Kms);
        KeyRecord {
            key_id,
            spec: new.spec,
            usage: new.usage,
            protection: new.protection,
            origin: new.origin,
            project: new.project.clone(),
            description: new.description.clone(),
            aliases: new.alias.iter().cloned().collect(),
            tags: new.tags.clone(),
            created_at: now,
            created_by: new.created_by.clone(),
            state: if made_here { KeyState::Enabled } else { KeyState::PendingImport },
            resume_state: None,
            deletion_date: None,
            erased_at: None,
            deletion_protection: false,
            material_expires_at: None,
            import_fingerprint: None,
            rotation_days: new.rotation_days,
            last_rotation: None,
            next_rotation: new.rotation_days.map(|days| next_rotation(now, days)),
            primary_version: made_here.then_some(version_id),
            version_count: u32::from(made_here),
            default_for: new.default_for.as_ref().map(ToString::to_string),
            sm2_user_id: new.sm2_user_id.clone(),
            indexed: true,
        }
    }
}

/// What a token made before: the event is about that key.
fn found(trail: &mut Trail, made: Made) -> Made {
    trail.about_key(made.0);
    made
}

fn alias_taken() -> Failure {
    Failure::new(Code::AlreadyExists, "the alias is taken; choose another or describe the key it points at")
}

/// Puts what must not be there yet.
pub(super) fn put_new(value: Vec<u8>, key: Vec<u8>) -> Op {
    Op { key, expect: Expect::Absent, change: Change::Put(value) }
}

#[cfg(test)]
#[path = "scale_tests.rs"]
mod scale;
