//! Keys: their records, states, versions and material. The only room that reads
//! and writes key records, and the only one that turns a permit's resolved
//! ids into a [`Grant`] to use a key.
//!
//! Must not live here: who may call (policy), wire bodies (ops), PKCS#11
//! (backend).

mod associations;
mod asymmetric;
pub mod cache;
mod change;
mod create;
mod crypto;
mod default_key;
mod deletion;
mod due;
mod erasure;
mod grant;
mod import;
mod index;
mod list;
mod mac;
mod making;
mod material;
mod naming;
mod projects;
pub mod record;
mod recovery;
mod state;
mod tokens;
pub mod tombstones;
mod uses;
mod versions;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use claviger_protocol::{Code, EncryptionContext, KeyRef, ServiceName};
use uuid::Uuid;

use crate::backend::crew::Crew;
use crate::backend::hsm::domain::Domain;
use crate::backend::hsm::lane::Lane;
use crate::backend::hsm::member::Member;
use crate::backend::import::ahead::Ahead;
use crate::config::Limits;
use crate::edge::{Edge, HashKey};
use crate::failure::Failure;
use crate::metrics::groups::{CacheCounts, KeyringCounts};
use crate::store::{Op, Record, Sealed, Store, StoreError};

use associations::Uses;
use asymmetric::Public;
use cache::LoadingCache;
use list::Counts;
use material::{Lease, Ready};
use record::{AliasRecord, KeyRecord, VersionRecord, path};
use uses::Remaining;

pub use associations::Use;
pub use asymmetric::Signable;
pub use change::Changed;
pub use create::{Made, NewKey};
pub use crypto::Encrypted;
pub use deletion::{Plan, Planned};
pub use due::{Part, Task};
pub use grant::Grant;
pub use import::{ImportParameters, Imported, Sent};
pub use list::{AliasPage, Filter, Page};
pub use state::Action;
pub use tokens::ClientToken;

/// A record and the store revision that wrote it: its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// Revision of the commit that wrote it.
    pub revision: u64,
    /// The record.
    pub record: T,
}

/// What the configuration says of keys.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// HSM level is allowed on software tokens.
    pub allow_software_tokens: bool,
    /// Local services that have default keys.
    pub services: Vec<ServiceName>,
}

/// A key's record, shared.
pub type KeyEntry = Arc<Entry<KeyRecord>>;
type VersionEntry = Arc<Entry<VersionRecord>>;

/// All keys of an unlocked domain.
pub struct Keyring {
    edge: Edge,
    store: Sealed,
    domain: Domain,
    member: Member,
    /// Whether HSM level may be had on this pool: hardware, or software tokens allowed.
    hsm_level_allowed: bool,
    caches: Arc<Caches>,
    materials: LoadingCache<(Uuid, u8), Ready>,
    sub_keys: LoadingCache<(Uuid, [u8; 16]), Lease>,
    public_keys: LoadingCache<Uuid, Public>,
    crew: Crew,
    /// Wrapping keys for imports.
    ahead: Arc<Ahead>,
    remaining: Arc<Remaining>,
    /// Keys and versions whose nonce budget ends.
    exhausted: Mutex<BTreeSet<(Uuid, Uuid)>>,
    uses: Uses,
    /// Local services that have default keys; what starts with their names is theirs.
    services: Vec<ServiceName>,
    counts: Counts,
    done: KeyringCounts,
    context_key: hmac::Key,
    /// The hash of the empty context.
    no_context: [u8; 16],
}

/// Caches of records, which the store's watch invalidates.
struct Caches {
    keys: LoadingCache<Uuid, Entry<KeyRecord>>,
    versions: LoadingCache<Uuid, Entry<VersionRecord>>,
    aliases: LoadingCache<String, Uuid>,
    /// How often records have changed. It moves on after what changed was forgotten: as
    /// long as it stands, whatever was found since it was read is still so.
    changes: AtomicU64,
}

impl Caches {
    fn forget(&self, paths: &[Vec<u8>]) {
        for changed in paths {
            if let Some(key_id) = path::key_id(changed) {
                self.keys.forget(&key_id);
            } else if let Some(version_id) = path::version_id(changed) {
                self.versions.forget(&version_id);
            } else if let Some(alias) = changed.strip_prefix(path::ALIASES)
                && let Ok(alias) = std::str::from_utf8(alias)
            {
                self.aliases.forget(&alias.to_owned());
            }
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// Why a key wasn't found: not there, or the store failed.
enum Absent {
    NotThere,
    Store(StoreError),
}

impl Keyring {
    /// A keyring over an unlocked domain. Reads every key record once: it counts
    /// them, and a record that doesn't authenticate stops the start.
    pub async fn open(
        edge: Edge,
        store: Arc<dyn Store>,
        domain: Domain,
        member: Member,
        rules: Rules,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let hash = HashKey::new(&edge.entropy)?;
        let caches = Arc::new(Caches {
            keys: LoadingCache::new(limits.record_cache, &hash),
            versions: LoadingCache::new(limits.record_cache, &hash),
            aliases: LoadingCache::new(limits.record_cache, &hash),
            changes: AtomicU64::new(0),
        });
        let watched = Arc::clone(&caches);
        store.watch(Box::new(move |paths| watched.forget(paths)));
        let context_key = hmac::Key::new(hmac::HMAC_SHA256, domain.keys.audit());
        let no_thread = |e| Failure::new(Code::Internal, format!("no thread for software keys: {e}"));
        let worker = edge.workers.start("wrapping-keys", limits.lane_queue).map_err(no_thread)?;
        let (make, entropy) = (Arc::clone(&member.make), edge.entropy.clone());
        let keyring = Self {
            ahead: Ahead::new(limits.wrapping_keys_ahead, make, worker, entropy),
            store: Sealed::new(store, domain.keys.record_mac()),
            hsm_level_allowed: member.hardware || rules.allow_software_tokens,
            materials: LoadingCache::new(limits.hsm_objects, &hash),
            sub_keys: LoadingCache::new(limits.hsm_objects, &hash),
            public_keys: LoadingCache::new(limits.record_cache, &hash),
            crew: Crew::start(&edge.workers, limits.lane_queue).map_err(no_thread)?,
            remaining: Arc::default(),
            exhausted: Mutex::default(),
            uses: Uses::default(),
            services: rules.services,
            counts: Counts::default(),
            done: KeyringCounts::default(),
            no_context: context_hash(&context_key, &EncryptionContext::default()),
            context_key,
            edge,
            domain,
            member,
            caches,
        };
        keyring.count_all().await?;
        Ok(keyring)
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The pool's member.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// What the audit shows of an encryption context: the same for the same context
    /// of this domain, and nothing to anybody who hasn't the domain's key.
    #[must_use]
    pub fn context_hash(&self, context: &EncryptionContext) -> [u8; 16] {
        // What most calls have needn't be computed for each.
        if context.is_empty() { self.no_context } else { context_hash(&self.context_key, context) }
    }

    /// The caches: name, what happened to it, values dropped to make room, values in it.
    pub fn caches(&self) -> [(&'static str, &CacheCounts, u64, usize); 6] {
        fn of<'c, K: Eq + std::hash::Hash + Clone, V>(
            name: &'static str,
            cache: &'c LoadingCache<K, V>,
        ) -> (&'static str, &'c CacheCounts, u64, usize) {
            (name, cache.counts(), cache.evictions(), cache.len())
        }
        [
            of("keys", &self.caches.keys),
            of("versions", &self.caches.versions),
            of("aliases", &self.caches.aliases),
            of("materials", &self.materials),
            of("sub_keys", &self.sub_keys),
            of("public_keys", &self.public_keys),
        ]
    }

    /// What was done to keys' material.
    #[must_use]
    pub fn done(&self) -> &KeyringCounts {
        &self.done
    }

    /// The authenticated records of the store, for backups.
    #[must_use]
    pub fn records(&self) -> &Sealed {
        &self.store
    }

    /// How often records have changed: as long as it stands, what was found since it was
    /// read is still so.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.caches.changes.load(Ordering::Acquire)
    }

    fn lane(&self) -> &Arc<Lane> {
        &self.member.serve
    }

    async fn commit(&self, batch: Vec<Op>) -> Result<u64, StoreError> {
        self.store.store().commit(batch).await
    }

    /// Whether hardware protects a key: it was made in hardware, and hardware holds it.
    pub async fn in_hardware(&self, key: &KeyEntry) -> Result<bool, StoreError> {
        let Some(primary) = key.record.primary_version else {
            return Ok(false);
        };
        let version = self.version(key.record.key_id, primary).await?;
        Ok(self.member.hardware && version.is_some_and(|version| version.record.hardware))
    }

    /// Finds a key by id or alias; `None` if there is no such key.
    pub async fn find(&self, key: &KeyRef) -> Result<Option<KeyEntry>, StoreError> {
        match key {
            KeyRef::Id(id) => self.find_id(*id).await,
            KeyRef::Alias(alias) => match self.alias(alias).await? {
                Some(id) => self.find_id(id).await,
                None => Ok(None),
            },
        }
    }

    /// Finds a key by id.
    pub async fn find_id(&self, key_id: Uuid) -> Result<Option<KeyEntry>, StoreError> {
        if let Some(entry) = self.caches.keys.get(&key_id) {
            return Ok(Some(entry));
        }
        let load = self.load::<KeyRecord>(path::key(key_id));
        found(self.caches.keys.get_or_load(&key_id, load).await)
    }

    /// A version's id names it alone, but only its own key may use it.
    async fn version(&self, key_id: Uuid, version_id: Uuid) -> Result<Option<VersionEntry>, StoreError> {
        if let Some(entry) = self.caches.versions.get(&version_id) {
            return Ok((entry.record.key_id == key_id).then_some(entry));
        }
        let load = self.load::<VersionRecord>(path::version(key_id, version_id));
        let entry = found(self.caches.versions.get_or_load(&version_id, load).await)?;
        Ok(entry.filter(|entry| entry.record.key_id == key_id))
    }

    async fn alias(&self, alias: &str) -> Result<Option<Uuid>, StoreError> {
        if let Some(id) = self.caches.aliases.get(alias) {
            return Ok(Some(*id));
        }
        let load = async { Ok(self.load::<AliasRecord>(path::alias(alias)).await?.record.key_id) };
        Ok(found(self.caches.aliases.get_or_load(&alias.to_owned(), load).await)?.map(|id| *id))
    }

    async fn load<T: Record>(&self, path: Vec<u8>) -> Result<Entry<T>, Absent> {
        match self.store.get::<T>(&path).await {
            Ok(Some((revision, record))) => Ok(Entry { revision, record }),
            Ok(None) => Err(Absent::NotThere),
            Err(error) => Err(Absent::Store(error)),
        }
    }
}

fn context_hash(key: &hmac::Key, context: &EncryptionContext) -> [u8; 16] {
    let tag = hmac::sign(key, context.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&tag.as_ref()[..16]);
    hash
}

fn found<T>(loaded: Result<T, Absent>) -> Result<Option<T>, StoreError> {
    match loaded {
        Ok(value) => Ok(Some(value)),
        Err(Absent::NotThere) => Ok(None),
        Err(Absent::Store(error)) => Err(error),
    }
}
