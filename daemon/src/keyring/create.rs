//! Making keys. The order is what makes a crash harmless: intent, material (a
//! session object that dies with the process), then one commit of everything.

use claviger_protocol::names::{Alias, Description, ProjectName, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, KeyOrigin, KeySpec, KeyState, KeyUsage, Protection};
use uuid::Uuid;

use super::Keyring;
use super::making::NewMaterial;
use super::record::{
    AliasRecord, ClientTokenRecord, IntentRecord, KeyRecord, OutboxRecord, VersionRecord, path,
};
use crate::admission::Admitted;
use crate::audit::{Event, ResourceKind, Trail};
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

/// How long a client token stands for its first result.
const CLIENT_TOKEN_LIFE_MS: i64 = 24 * 60 * 60 * 1000;

/// What a new key is to be, checked as far as the request alone allows.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What kind.
    pub spec: KeySpec,
    /// What for.
    pub usage: KeyUsage,
    /// Where its material lives.
    pub protection: Protection,
    /// Its project.
    pub project: ProjectName,
    /// A first alias.
    pub alias: Option<Alias>,
    /// Its description.
    pub description: Description,
    /// Its tags.
    pub tags: Tags,
    /// Who makes it.
    pub created_by: String,
    /// The endpoint whose client tokens these are.
    pub endpoint: String,
    /// The client's token.
    pub client_token: [u8; 16],
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// SM2 user id, of an SM2 key that signs.
    pub sm2_user_id: Option<Bytes>,
}

impl Keyring {
    /// Makes a key, or finds what the same client token made before.
    pub async fn create(
        &self,
        _admitted: &Admitted,
        new: &NewKey,
        trail: &mut Trail,
    ) -> Result<(Uuid, Option<Uuid>), Failure> {
        self.check_possible(new)?;
        let token_path = path::client_token(&new.endpoint, &new.client_token);
        let token_expected = match self.former_result(&token_path, new).await? {
            Former::Result(key_id, version_id) => {
                trail.about_key(key_id);
                return Ok((key_id, version_id));
            }
            Former::Expired(revision) => Expect::Revision(revision),
            Former::None => Expect::Absent,
        };
        if let Some(alias) = &new.alias
            && self.alias(alias.as_str()).await?.is_some()
        {
            return self.alias_or_former(&token_path, new, trail).await;
        }
        let ids = (self.edge.entropy.uuid()?, self.edge.entropy.uuid()?);
        // Before anything is begun: a record that is too large is refused here.
        let key = key_record(new, ids.0, ids.1, self.edge.clock.now());
        let key_value = self.store.put(&path::key(ids.0), &key)?;
        let intent = self.write_intent(trail).await?;
        let made = self.make(new, ids, key_value, (&token_path, token_expected), &intent, trail).await;
        match made {
            Ok(()) => {
                self.counts.add(KeyState::Enabled, new.spec);
                Ok((ids.0, Some(ids.1)))
            }
            Err(error) => {
                self.drop_intent(intent).await;
                match error {
                    MakeError::LostRace => self.alias_or_former(&token_path, new, trail).await,
                    MakeError::Failed(failure) => Err(failure),
                }
            }
        }
    }

    /// Material, then the one commit that makes the key exist.
    async fn make(
        &self,
        new: &NewKey,
        ids: (Uuid, Uuid),
        key_value: Vec<u8>,
        (token_path, token_expected): (&[u8], Expect),
        intent: &[u8],
        trail: &mut Trail,
    ) -> Result<(), MakeError> {
        let material = self.new_material(new.spec, new.usage, new.protection, ids).await?;
        // The event that is committed is the key's; a failure's names no key.
        let mut event = trail.snapshot(Code::Ok).ok_or(Code::Internal).map_err(Failure::from)?;
        event.resource_kind = ResourceKind::Key;
        event.resources = vec![ids.0];
        let mut ops = self.creation(new, ids, key_value, material, event)?;
        let token = token_record(new, ids, self.edge.clock.now());
        ops.push(Op {
            change: Change::Put(self.store.put(token_path, &token)?),
            key: token_path.to_vec(),
            expect: token_expected,
        });
        ops.push(Op { key: intent.to_vec(), expect: Expect::Any, change: Change::Delete });
        match self.commit(ops).await {
            Ok(_) => {
                trail.about_key(ids.0);
                trail.in_outbox();
                Ok(())
            }
            Err(StoreError::Conflict { .. }) => Err(MakeError::LostRace),
            Err(error) => Err(error.into()),
        }
    }

    /// The alias is there already, or somebody was faster: the same request with the
    /// same token finds its key, any other is refused.
    async fn alias_or_former(
        &self,
        token_path: &[u8],
        new: &NewKey,
        trail: &mut Trail,
    ) -> Result<(Uuid, Option<Uuid>), Failure> {
        match self.former_result(token_path, new).await? {
            Former::Result(key_id, version_id) => {
                trail.about_key(key_id);
                Ok((key_id, version_id))
            }
            Former::Expired(_) | Former::None => Err(Failure::new(
                Code::AlreadyExists,
                "the alias is taken; choose another or describe the key it points at",
            )),
        }
    }

    /// Whether this version and this pool can make such a key.
    fn check_possible(&self, new: &NewKey) -> Result<(), Failure> {
        if !new.spec.usages().contains(&new.usage) {
            let possible: Vec<_> = new.spec.usages().iter().map(|usage| usage.name()).collect();
            let text = format!("an {} key is for {}, not for {}", new.spec, possible.join(" or "), new.usage);
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        if new.sm2_user_id.is_some() && (new.spec, new.usage) != (KeySpec::Sm2, KeyUsage::SignVerify) {
            return Err(Failure::new(Code::InvalidArgument, "only SM2 keys that sign have an SM2 user id"));
        }
        if new.project != ProjectName::default() {
            return Err(Failure::new(
                Code::NotFound,
                "no such project; only `default` exists in this version",
            ));
        }
        if new.protection == Protection::Software {
            return Ok(());
        }
        let (member, spec) = (&self.member, new.spec);
        if !self.hsm_level_allowed {
            let text = format!(
                "the domain's HSM ({}) is a software token; allow it with allow_software_tokens = true, or use --protection software",
                member.name
            );
            return Err(Failure::new(Code::UnsupportedByHsm, text));
        }
        match member.report.unavailable(spec, new.usage) {
            None => Ok(()),
            Some(why) => {
                let text = format!("{} cannot hold {spec} ({why}); use --protection software", member.name);
                Err(Failure::new(Code::UnsupportedByHsm, text))
            }
        }
    }

    async fn former_result(&self, token_path: &[u8], new: &NewKey) -> Result<Former, Failure> {
        let Some((revision, former)) = self.store.get::<ClientTokenRecord>(token_path).await? else {
            return Ok(Former::None);
        };
        if self.edge.clock.now().saturating_sub(former.created_at) > CLIENT_TOKEN_LIFE_MS {
            return Ok(Former::Expired(revision));
        }
        if former.request == new.request {
            Ok(Former::Result(former.key_id, former.version_id))
        } else {
            Err(Code::ClientTokenReused.into())
        }
    }

    /// The intent, on the disk before the HSM is asked for anything.
    async fn write_intent(&self, trail: &Trail) -> Result<Vec<u8>, Failure> {
        let intent = path::intent(trail.event_id());
        let event = trail.snapshot(Code::Ok).ok_or(Code::Internal)?;
        let change = Change::Put(self.store.put(&intent, &IntentRecord { event })?);
        self.commit(vec![Op { key: intent.clone(), expect: Expect::Absent, change }]).await?;
        Ok(intent)
    }

    /// The call itself reports the failure; a crash before this leaves the intent to recovery.
    async fn drop_intent(&self, intent: Vec<u8>) {
        let op = Op { key: intent, expect: Expect::Any, change: Change::Delete };
        if let Err(error) = self.commit(vec![op]).await {
            tracing::warn!(%error, "an intent could not be removed; the next start closes it");
        }
    }

    /// Everything that makes the key exist, but for the client token.
    fn creation(
        &self,
        new: &NewKey,
        (key_id, version_id): (Uuid, Uuid),
        key_value: Vec<u8>,
        material: NewMaterial,
        event: Event,
    ) -> Result<Vec<Op>, Failure> {
        let version = VersionRecord {
            key_id,
            version_id,
            number: 1,
            created_at: self.edge.clock.now(),
            suite: material.suite,
            check_value: material.check_value,
            locations: vec![material.location],
            reserved_uses: 0,
            hardware: new.protection == Protection::Hsm && self.member.hardware,
            made_by: self.member.name.clone(),
            public_key: material.public_key.map(Bytes),
            destroyed_at: None,
        };
        let key_path = path::key(key_id);
        let version_path = path::version(key_id, version_id);
        let outbox_path = path::outbox(event.event_id);
        let mut puts = vec![
            (key_value, key_path),
            (self.store.put(&version_path, &version)?, version_path),
            (self.store.put(&outbox_path, &OutboxRecord { event })?, outbox_path),
        ];
        if let Some(alias) = &new.alias {
            let alias_path = path::alias(alias.as_str());
            puts.push((self.store.put(&alias_path, &AliasRecord { key_id })?, alias_path));
        }
        let absent = |(value, key)| Op { key, expect: Expect::Absent, change: Change::Put(value) };
        Ok(puts.into_iter().map(absent).collect())
    }

    /// Removes client tokens that no longer stand for anything; at most `limit` are looked
    /// at. One from the future was made before the clock was set back: it is dated anew, so
    /// that it is neither forgotten before its day is over nor kept until that future comes.
    pub async fn purge_client_tokens(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let page = self.store.list::<ClientTokenRecord>(path::CLIENT_TOKENS, after, limit).await?;
        let last = (page.len() == limit).then(|| page.last().map(|(key, _, _)| key.clone())).flatten();
        let now = self.edge.clock.now();
        let mut ops = Vec::new();
        for (key, revision, record) in page {
            let change = if now.saturating_sub(record.created_at) > CLIENT_TOKEN_LIFE_MS {
                Change::Delete
            } else if record.created_at > now {
                Change::Put(self.store.put(&key, &ClientTokenRecord { created_at: now, ..record })?)
            } else {
                continue;
            };
            ops.push(Op { key, expect: Expect::Revision(revision), change });
        }
        if !ops.is_empty() {
            self.commit(ops).await?;
        }
        Ok(last)
    }
}

enum Former {
    Result(Uuid, Option<Uuid>),
    Expired(u64),
    None,
}

/// Why the commit of a new key didn't come about.
enum MakeError {
    /// The alias or the client token was written meanwhile.
    LostRace,
    /// Anything else.
    Failed(Failure),
}

impl<T: Into<Failure>> From<T> for MakeError {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

fn token_record(new: &NewKey, (key_id, version_id): (Uuid, Uuid), now: Timestamp) -> ClientTokenRecord {
    ClientTokenRecord { request: new.request, created_at: now, key_id, version_id: Some(version_id) }
}

fn key_record(new: &NewKey, key_id: Uuid, version_id: Uuid, now: Timestamp) -> KeyRecord {
    KeyRecord {
        key_id,
        spec: new.spec,
        usage: new.usage,
        protection: new.protection,
        origin: KeyOrigin::Kms,
        project: new.project.clone(),
        description: new.description.clone(),
        aliases: new.alias.iter().cloned().collect(),
        tags: new.tags.clone(),
        created_at: now,
        created_by: new.created_by.clone(),
        state: KeyState::Enabled,
        resume_state: None,
        deletion_date: None,
        erased_at: None,
        deletion_protection: false,
        material_expires_at: None,
        import_fingerprint: None,
        rotation_days: None,
        last_rotation: None,
        next_rotation: None,
        primary_version: Some(version_id),
        version_count: 1,
        default_for: None,
        sm2_user_id: new.sm2_user_id.clone(),
    }
}
