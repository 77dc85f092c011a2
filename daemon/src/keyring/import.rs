//! Material that a key's owner brings: the parameters for it, the bringing, and how it ends
//! again. A token's failed imports are counted on the disk before each is tried, so that
//! neither a crash nor many at once give more tries than there are. What is done with the
//! material itself stands in `import/bring.rs`.

mod bring;
mod token;

use claviger_protocol::secret::Bytes;
use claviger_protocol::{Code, ImportAlgorithm, KeyOrigin, KeyState, Protection, WrappingKeySpec};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::change::{ATTEMPTS, busy, permitted};
use super::create::put_new;
use super::index::{Due, mark, remove};
use super::material::{sealed_location, wrapped_location};
use super::record::{ImportRecord, KeyRecord, Location, NumberRecord, VersionRecord, path};
use super::state::Action;
use super::tokens::{ClientToken, Former};
use super::{KeyEntry, Keyring};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::backend::import;
use crate::backend::import::ahead::{Home, Private, WrappingPair};
use crate::backend::software;
use crate::edge::Timestamp;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

use bring::Brought;

/// How long parameters serve.
const LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// Imports with one token that may fail.
const MAX_FAILURES: u8 = 8;
/// Parameters of one key that serve at once.
const MAX_PARAMETERS: usize = 64;
/// What the audit says of how material came in.
const THROUGH_MEMORY: &str = "through memory";
const INSIDE: &str = "inside the HSM";

/// What somebody needs to encrypt material.
pub struct ImportParameters {
    /// SPKI DER of the wrapping key.
    pub public_key: Vec<u8>,
    /// The token that goes with it.
    pub token: Vec<u8>,
    /// Until when both serve.
    pub expires_at: Timestamp,
}

/// What somebody sends.
pub struct Sent<'a> {
    /// The encrypted material.
    pub material: &'a [u8],
    /// The encrypted ephemeral key, of layouts in two parts.
    pub ephemeral: Option<&'a [u8]>,
    /// The import token.
    pub token: &'a [u8],
    /// When the material is to expire.
    pub expires_at: Option<Timestamp>,
}

/// A key with its material.
pub struct Imported {
    /// The version that has it.
    pub version_id: Uuid,
    /// The key's state.
    pub state: KeyState,
    /// When the material expires.
    pub expires_at: Option<Timestamp>,
    /// Whether it passed through the daemon's memory.
    pub through_memory: bool,
}

impl Keyring {
    /// A wrapping key for a key's material, and the token that goes with it.
    pub async fn import_parameters(
        &self,
        _admitted: &Admitted,
        key: &KeyEntry,
        wrapping_spec: WrappingKeySpec,
        algorithm: ImportAlgorithm,
        trail: &mut Trail,
    ) -> Result<ImportParameters, Failure> {
        let key = &key.record;
        brought_by_its_owner(key)?;
        permitted(key, Action::Import)?;
        import::check(key.spec, wrapping_spec, algorithm)?;
        let all = path::imports_of(key.key_id);
        if self.store.list::<ImportRecord>(&all, None, MAX_PARAMETERS).await?.len() >= MAX_PARAMETERS {
            let text = format!(
                "the key has {MAX_PARAMETERS} import tokens; use one of them, or wait until they expire"
            );
            return Err(Failure::new(Code::LimitExceeded, text));
        }
        let inside =
            key.protection == Protection::Hsm && self.member.report.imports(wrapping_spec, algorithm);
        let home = if inside { Home::Hsm } else { Home::Memory };
        let pair = self.ahead.take(wrapping_spec, home).await?;
        let (import_id, now) = (self.edge.entropy.uuid()?, self.edge.clock.now());
        let record = ImportRecord {
            import_id,
            key_id: key.key_id,
            algorithm,
            wrapping_spec,
            public_key: Bytes(pair.public_key.clone()),
            private: Some(self.wrapping_location((key.key_id, import_id), wrapping_spec, pair)?),
            created_at: now,
            expires_at: now.saturating_add(LIFE_MS),
            failures: 0,
            through_memory: None,
        };
        let place = path::import(key.key_id, import_id);
        let ops = vec![
            put_new(self.store.put(&place, &record)?, place),
            mark(&self.store, Due::EndImport.at(record.expires_at, key.key_id))?,
        ];
        self.commit_with_event(ops, trail).await?;
        let token = token::of(self.domain.keys.import_token(), &record);
        Ok(ImportParameters { public_key: record.public_key.0, token, expires_at: record.expires_at })
    }

    /// A wrapping key's private half as it is kept.
    fn wrapping_location(
        &self,
        (key_id, import_id): (Uuid, Uuid),
        spec: WrappingKeySpec,
        pair: WrappingPair,
    ) -> Result<Location, Failure> {
        match pair.private {
            Private::Wrapped(wrapped) => Ok(wrapped_location(wrapped)),
            Private::Memory(pkcs8) => {
                let place = (key_id, import_id, bring::pair_spec(spec)?.key_spec());
                let key = self.domain.keys.software_seal();
                Ok(sealed_location(software::seal_material(key, place, &self.edge.entropy, &pkcs8)?))
            }
        }
    }

    /// Brings material into a key, or finds what the same client token brought.
    pub async fn import(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        sent: &Sent<'_>,
        client_token: &ClientToken,
        trail: &mut Trail,
    ) -> Result<Imported, Failure> {
        if let Former::Result(key_id, version_id) = self.former(client_token).await? {
            return self.imported_before(key_id, version_id, sent).await;
        }
        let key = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
        brought_by_its_owner(&key.record)?;
        permitted(&key.record, Action::Import)?;
        self.check_expiry(&key.record, sent.expires_at)?;
        let given = self.begin_try(key_id, sent.token).await?;
        let outcome = self.try_import(&key, &given, sent, client_token, trail).await;
        // What brought nothing usable stays counted; what failed otherwise doesn't, and what
        // came in was taken off with its commit.
        match &outcome {
            Ok(_) => {}
            Err(failure) if failure.code == Code::InvalidMaterial => self.wear_out(&given).await,
            Err(_) => self.end_try(&given).await,
        }
        outcome
    }

    /// What the same client token brought.
    async fn imported_before(
        &self,
        key_id: Uuid,
        version_id: Option<Uuid>,
        sent: &Sent<'_>,
    ) -> Result<Imported, Failure> {
        let key = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
        let import = match token::import_id(sent.token) {
            Some(id) => self.store.get::<ImportRecord>(&path::import(key_id, id)).await?,
            None => None,
        };
        Ok(Imported {
            version_id: version_id.ok_or(Code::Internal)?,
            state: key.record.state,
            expires_at: key.record.material_expires_at,
            // Once nobody knows any more, what is worse is said.
            through_memory: import.and_then(|(_, record)| record.through_memory).unwrap_or(true),
        })
    }

    fn check_expiry(&self, key: &KeyRecord, expires_at: Option<Timestamp>) -> Result<(), Failure> {
        let no = |text: &'static str| Err(Failure::new(Code::InvalidArgument, text));
        match expires_at {
            None => Ok(()),
            Some(_) if key.spec.pair().is_some() => {
                no("the material of a key pair is there for good; leave the expiry out")
            }
            Some(at) if at <= self.edge.clock.now() => no("the material's expiry must lie ahead"),
            Some(_) => Ok(()),
        }
    }

    /// Finds what a token stands for, and counts a try on the disk before it is one.
    async fn begin_try(&self, key_id: Uuid, token: &[u8]) -> Result<ImportRecord, Failure> {
        let invalid = || Failure::from(Code::InvalidImportToken);
        let import_id = token::import_id(token).ok_or_else(invalid)?;
        let place = path::import(key_id, import_id);
        for _ in 0..ATTEMPTS {
            let found = self.store.get::<ImportRecord>(&place).await?;
            let (revision, record) = found.ok_or_else(invalid)?;
            if !token::is_of(token, self.domain.keys.import_token(), &record) {
                return Err(invalid());
            }
            if record.expires_at <= self.edge.clock.now() {
                return Err(Code::ImportTokenExpired.into());
            }
            if record.failures >= MAX_FAILURES || record.private.is_none() {
                return Err(invalid());
            }
            let counted = ImportRecord { failures: record.failures + 1, ..record };
            if self.write_import(&counted, revision).await? {
                return Ok(counted);
            }
        }
        Err(busy())
    }

    /// Takes a try off again that failed for no fault of what was sent.
    async fn end_try(&self, given: &ImportRecord) {
        let undo =
            |record: ImportRecord| ImportRecord { failures: record.failures.saturating_sub(1), ..record };
        self.change_import(given, undo).await;
    }

    /// After the last try the wrapping key goes.
    async fn wear_out(&self, given: &ImportRecord) {
        let wear = |record: ImportRecord| match record.failures {
            ..MAX_FAILURES => record,
            MAX_FAILURES.. => ImportRecord { private: None, ..record },
        };
        self.change_import(given, wear).await;
    }

    async fn change_import(&self, given: &ImportRecord, change: impl Fn(ImportRecord) -> ImportRecord) {
        let place = path::import(given.key_id, given.import_id);
        for _ in 0..ATTEMPTS {
            let found = self.store.get::<ImportRecord>(&place).await;
            let Ok(Some((revision, record))) = found else { break };
            match self.write_import(&change(record), revision).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, key = %given.key_id, "an import's count could not be written");
                    return;
                }
            }
        }
    }

    /// Whether nobody else changed it first.
    async fn write_import(&self, record: &ImportRecord, revision: u64) -> Result<bool, Failure> {
        let op = self.import_op(record, revision)?;
        match self.commit(vec![op]).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn import_op(&self, record: &ImportRecord, revision: u64) -> Result<Op, Failure> {
        let key = path::import(record.key_id, record.import_id);
        let change = Change::Put(self.store.put(&key, record)?);
        Ok(Op { key, expect: Expect::Revision(revision), change })
    }

    /// Intent, material, and the commit that makes it the key's.
    async fn try_import(
        &self,
        key: &KeyEntry,
        given: &ImportRecord,
        sent: &Sent<'_>,
        client_token: &ClientToken,
        trail: &mut Trail,
    ) -> Result<Imported, Failure> {
        let intent = self.write_intent(trail).await?;
        let brought = self.bring(&key.record, given, sent).await;
        let outcome = match brought {
            Ok(brought) => {
                trail.with_detail(if brought.through_memory { THROUGH_MEMORY } else { INSIDE });
                self.settle_in(key, given, &brought, sent.expires_at, (client_token, &intent), trail).await
            }
            Err(failure) => Err(failure),
        };
        if outcome.is_err() {
            self.drop_intent(intent).await;
        }
        outcome
    }

    /// Makes brought material the key's, if it is the key's.
    async fn settle_in(
        &self,
        key: &KeyEntry,
        given: &ImportRecord,
        brought: &Brought,
        expires_at: Option<Timestamp>,
        (client_token, intent): (&ClientToken, &[u8]),
        trail: &mut Trail,
    ) -> Result<Imported, Failure> {
        let (key_id, fingerprint) = (key.record.key_id, brought.fingerprint);
        for _ in 0..ATTEMPTS {
            let expect = match self.former(client_token).await? {
                // The same request twice at once.
                Former::Result(..) => return Err(busy()),
                Former::Nothing(expect) => expect,
            };
            let key = self.find_id(key_id).await?.ok_or(Code::AccessDenied)?;
            let (state, _) = permitted(&key.record, Action::Import)?;
            if let Some(first) = &key.record.import_fingerprint
                && !bool::from(first.0.as_slice().ct_eq(&fingerprint))
            {
                return Err(Code::MaterialMismatch.into());
            }
            let (version_id, version_ops) = self.holding_ops(&key, brought).await?;
            let next = KeyRecord {
                state,
                resume_state: None,
                primary_version: Some(version_id),
                version_count: 1,
                material_expires_at: expires_at,
                import_fingerprint: Some(Bytes(fingerprint.to_vec())),
                ..key.record.clone()
            };
            let mut ops = self.key_ops(&key, &next)?;
            ops.extend(version_ops);
            ops.push(remove(intent.to_vec()));
            ops.push(self.token_op(client_token, expect, (key_id, Some(version_id)))?);
            let place = path::import(key_id, given.import_id);
            if let Some((revision, record)) = self.store.get::<ImportRecord>(&place).await? {
                let failures = record.failures.saturating_sub(1);
                let through_memory = Some(brought.through_memory);
                ops.push(self.import_op(&ImportRecord { failures, through_memory, ..record }, revision)?);
            }
            if self.committed(ops, trail).await? {
                self.moved(&key.record, &next);
                let through_memory = brought.through_memory;
                return Ok(Imported { version_id, state, expires_at, through_memory });
            }
        }
        Err(busy())
    }

    /// The version that holds the material, and what has to be written for that: it is the
    /// same version for ever, so that what it encrypted opens again.
    async fn holding_ops(&self, key: &KeyEntry, brought: &Brought) -> Result<(Uuid, Vec<Op>), Failure> {
        let key_id = key.record.key_id;
        let version_id = self.version_ids(key_id, None, 1).await?.first().copied();
        let Some(version_id) = version_id else {
            let number = path::number(key_id, 1);
            let version = path::version(key_id, brought.version_id);
            let record = NumberRecord { version_id: brought.version_id };
            let ops = vec![
                put_new(self.store.put(&version, &self.first_version(key_id, brought))?, version),
                put_new(self.store.put(&number, &record)?, number),
            ];
            return Ok((brought.version_id, ops));
        };
        let version = self.version(key_id, version_id).await?.ok_or(Code::Internal)?;
        if !version.record.locations.is_empty() {
            return Ok((version_id, Vec::new()));
        }
        if version_id != brought.version_id {
            // It was brought and lost again while this was under way, and is sealed for another.
            return Err(busy());
        }
        let filled = VersionRecord {
            locations: vec![brought.location.clone()],
            check_value: brought.check_value,
            destroyed_at: None,
            ..version.record.clone()
        };
        let place = path::version(key_id, version_id);
        let change = Change::Put(self.store.put(&place, &filled)?);
        Ok((version_id, vec![Op { key: place, expect: Expect::Revision(version.revision), change }]))
    }

    fn first_version(&self, key_id: Uuid, brought: &Brought) -> VersionRecord {
        VersionRecord {
            key_id,
            version_id: brought.version_id,
            number: 1,
            created_at: self.edge.clock.now(),
            suite: brought.suite,
            check_value: brought.check_value,
            locations: vec![brought.location.clone()],
            reserved_uses: 0,
            // Whatever holds it now: it was made elsewhere.
            hardware: false,
            made_by: String::new(),
            public_key: brought.public_key.clone().map(Bytes),
            destroyed_at: None,
        }
    }

    /// Destroys imported material by request; the key's state then.
    pub async fn delete_material(
        &self,
        _admitted: &Admitted,
        key_id: Uuid,
        erase_after: Timestamp,
        trail: &mut Trail,
    ) -> Result<KeyState, Failure> {
        let erase_at = self.edge.clock.now().saturating_add(erase_after);
        let check = |key: &KeyRecord| {
            brought_by_its_owner(key)?;
            if key.spec.pair().is_some() {
                let text = "the material of a key pair is there for good; disable the key, or delete it";
                return Err(Failure::new(Code::UnsupportedByKey, text));
            }
            Ok(true)
        };
        let lost = self.lose_material(key_id, Action::DeleteMaterial, erase_at, check, trail).await?;
        lost.ok_or_else(|| Code::Internal.into())
    }

    /// Removes a deleted key's import parameters, with their wrapping keys.
    pub(super) async fn remove_imports(&self, key_id: Uuid) -> Result<(), Failure> {
        loop {
            let given =
                self.store.list::<ImportRecord>(&path::imports_of(key_id), None, MAX_PARAMETERS).await?;
            if given.is_empty() {
                return Ok(());
            }
            self.commit(given.into_iter().map(|(path, _, _)| remove(path)).collect()).await?;
        }
    }

    /// Removes a key's import parameters that are over, and `place`, the mark that said so.
    pub(super) async fn end_imports(&self, key_id: Uuid, place: &[u8]) -> Result<(), Failure> {
        let now = self.edge.clock.now();
        let over = |record: &ImportRecord| record.expires_at <= now;
        let given =
            self.store.list::<ImportRecord>(&path::imports_of(key_id), None, 2 * MAX_PARAMETERS).await?;
        let over = given.into_iter().filter(|(_, _, record)| over(record)).map(|(path, _, _)| remove(path));
        let mut ops: Vec<_> = over.take(MAX_PARAMETERS).collect();
        ops.push(remove(place.to_vec()));
        self.commit(ops).await?;
        Ok(())
    }
}

/// Refuses keys whose material was made here.
fn brought_by_its_owner(key: &KeyRecord) -> Result<(), Failure> {
    match key.origin {
        KeyOrigin::External => Ok(()),
        KeyOrigin::Kms => Err(Failure::new(
            Code::UnsupportedByKey,
            "the key's material was made here; only keys of origin EXTERNAL have their material brought",
        )),
    }
}
