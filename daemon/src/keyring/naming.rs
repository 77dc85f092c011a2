//! Aliases: unique in the domain, each points at one key. The alias's record and the
//! key's list of its aliases change in one batch.

use claviger_protocol::limits::MAX_ALIASES;
use claviger_protocol::names::Alias;
use claviger_protocol::{Code, KeyRef};
use uuid::Uuid;

use super::change::{ATTEMPTS, busy, not_default, permitted};
use super::record::{AliasRecord, KeyRecord, path};
use super::state::Action;
use super::{Entry, KeyEntry, Keyring};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

impl Keyring {
    /// Gives a key another alias.
    pub async fn create_alias(
        &self,
        _admitted: &Admitted,
        alias: &Alias,
        key_id: Uuid,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        self.not_reserved(alias).await?;
        for _ in 0..ATTEMPTS {
            if self.alias_entry(alias).await?.is_some() {
                return Err(Failure::new(Code::AlreadyExists, "the alias is taken; update it to move it"));
            }
            let (key, named) = self.with_alias(key_id, alias).await?;
            let mut ops = self.key_ops(&key, &named)?;
            ops.push(self.point(alias, key_id, Expect::Absent)?);
            if self.committed(ops, trail).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Points an alias at another key; whether it pointed elsewhere before.
    pub async fn update_alias(
        &self,
        _admitted: &Admitted,
        alias: &Alias,
        key_id: Uuid,
        trail: &mut Trail,
    ) -> Result<bool, Failure> {
        for _ in 0..ATTEMPTS {
            let former = self.alias_entry(alias).await?.ok_or_else(no_such_alias)?;
            if former.record.key_id == key_id {
                let key = self.find_id(key_id).await?.ok_or_else(no_such_key)?;
                permitted(&key.record, Action::Change)?;
                return Ok(false);
            }
            let (from, unnamed) = self.without_alias(former.record.key_id, alias).await?;
            let (to, named) = self.with_alias(key_id, alias).await?;
            let mut ops = self.key_ops(&from, &unnamed)?;
            ops.extend(self.key_ops(&to, &named)?);
            ops.push(self.point(alias, key_id, Expect::Revision(former.revision))?);
            if self.committed(ops, trail).await? {
                return Ok(true);
            }
        }
        Err(busy())
    }

    /// Removes an alias; the key that it pointed at.
    pub async fn delete_alias(
        &self,
        _admitted: &Admitted,
        alias: &Alias,
        trail: &mut Trail,
    ) -> Result<Uuid, Failure> {
        for _ in 0..ATTEMPTS {
            let former = self.alias_entry(alias).await?.ok_or_else(no_such_alias)?;
            let (key, unnamed) = self.without_alias(former.record.key_id, alias).await?;
            let mut ops = self.key_ops(&key, &unnamed)?;
            let expect = Expect::Revision(former.revision);
            ops.push(Op { key: path::alias(alias.as_str()), expect, change: Change::Delete });
            if self.committed(ops, trail).await? {
                return Ok(former.record.key_id);
            }
        }
        Err(busy())
    }

    /// At most `limit` aliases after the alias `after`, each with its key.
    pub async fn aliases(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, Uuid)>, Failure> {
        let after = after.map(path::alias);
        let page = self.store.list::<AliasRecord>(path::ALIASES, after.as_deref(), limit).await?;
        let named = page.into_iter().filter_map(|(path, _, record)| {
            let alias = String::from_utf8(path.strip_prefix(path::ALIASES)?.to_vec()).ok()?;
            Some((alias, record.key_id))
        });
        Ok(named.collect())
    }

    /// Names that start with a service's are the service's: one that the configuration
    /// names, or that has a default key.
    pub(super) async fn not_reserved(&self, alias: &Alias) -> Result<(), Failure> {
        let mut parts = alias.as_str().splitn(3, '/').skip(1);
        let (Some(first), Some(_)) = (parts.next(), parts.next()) else { return Ok(()) };
        let configured = self.services.iter().any(|service| service.as_str() == first);
        if configured || self.alias(&format!("alias/{first}/default")).await?.is_some() {
            let text = format!("names under alias/{first}/ are reserved for the service {first}");
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        Ok(())
    }

    /// The alias's record itself, not from a cache: its revision counts.
    async fn alias_entry(&self, alias: &Alias) -> Result<Option<Entry<AliasRecord>>, StoreError> {
        let found = self.store.get::<AliasRecord>(&path::alias(alias.as_str())).await?;
        Ok(found.map(|(revision, record)| Entry { revision, record }))
    }

    async fn with_alias(&self, key_id: Uuid, alias: &Alias) -> Result<(KeyEntry, KeyRecord), Failure> {
        let key = self.find(&KeyRef::Id(key_id)).await?.ok_or_else(no_such_key)?;
        not_default(&key.record, "given another alias")?;
        permitted(&key.record, Action::Change)?;
        let mut named = key.record.clone();
        if let Err(place) = named.aliases.binary_search(alias) {
            if named.aliases.len() >= MAX_ALIASES {
                let text = format!("a key has at most {MAX_ALIASES} aliases; remove some first");
                return Err(Failure::new(Code::LimitExceeded, text));
            }
            named.aliases.insert(place, alias.clone());
            self.with_room(&named)?;
        }
        Ok((key, named))
    }

    async fn without_alias(&self, key_id: Uuid, alias: &Alias) -> Result<(KeyEntry, KeyRecord), Failure> {
        let key = self.find(&KeyRef::Id(key_id)).await?.ok_or_else(no_such_key)?;
        permitted(&key.record, Action::Change)?;
        let mut unnamed = key.record.clone();
        unnamed.aliases.retain(|other| other != alias);
        Ok((key, unnamed))
    }

    fn point(&self, alias: &Alias, key_id: Uuid, expect: Expect) -> Result<Op, StoreError> {
        let key = path::alias(alias.as_str());
        Ok(Op { change: Change::Put(self.store.put(&key, &AliasRecord { key_id })?), key, expect })
    }

    /// Commits with the event; `false` where another change came first.
    pub(super) async fn committed(&self, ops: Vec<Op>, trail: &mut Trail) -> Result<bool, Failure> {
        match self.commit_with_event(ops, trail).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn no_such_alias() -> Failure {
    Failure::new(Code::NotFound, "no such alias")
}

fn no_such_key() -> Failure {
    Failure::new(Code::NotFound, "no such key")
}
