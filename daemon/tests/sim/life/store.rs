//! What the store holds after every step: the world as the records say it, and the rules
//! that records, indexes and marks keep among each other. The entries of the indexes are
//! derived here from their description in `keyring/index.rs`, not by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest;
use claviger_protocol::{KeyOrigin, KeyState};
use clavigerd::keyring::record::{
    AliasRecord, ClientTokenRecord, KeyRecord, NumberRecord, ProjectRecord, VersionRecord, path,
};
use clavigerd::store::{Record, Sealed, Store};
use uuid::Uuid;

use super::model::{DAY, Key, World};
use super::ops::default_alias;
use crate::sim::Sim;

/// Kinds of what falls due.
const ROTATE: u8 = 1;
const DESTROY: u8 = 2;
const EXPIRE: u8 = 3;
const PURGE: u8 = 4;
const ERASE: u8 = 5;
const END_IMPORT: u8 = 6;

type Paths = BTreeSet<Vec<u8>>;

/// All records.
pub(in crate::sim) struct Records {
    keys: BTreeMap<Uuid, KeyRecord>,
    versions: BTreeMap<Uuid, Vec<VersionRecord>>,
    numbers: BTreeMap<(Uuid, u32), Uuid>,
    aliases: BTreeMap<String, Uuid>,
    projects: Vec<ProjectRecord>,
    /// Keys that client tokens made.
    tokens: Vec<Uuid>,
    /// Paths of indexes, of what falls due, of associations, of intents.
    indexes: Paths,
    due: BTreeSet<(u8, Uuid, i64)>,
    erasures: BTreeSet<(u8, Uuid, i64)>,
    associations: Paths,
    intents: usize,
}

/// All records of a kind.
fn list<T: Record>(sim: &mut Sim, sealed: &Sealed, prefix: &[u8]) -> Vec<(Vec<u8>, T)> {
    let listed = sim.finish(sealed.list::<T>(prefix, None, usize::MAX)).unwrap();
    listed.into_iter().map(|(path, _, record)| (path, record)).collect()
}

impl Records {
    pub(in crate::sim) fn read(sim: &mut Sim) -> Self {
        let store: Arc<dyn Store> = Arc::clone(&sim.store) as Arc<dyn Store>;
        let sealed = Sealed::new(store, crate::sim_domain().keys.record_mac());
        let paths = |sim: &mut Sim, prefix: &[u8]| -> Paths {
            let store = Arc::clone(&sim.store);
            let listed = sim.finish(async move { store.list(prefix, None, usize::MAX).await }).unwrap();
            listed.into_iter().map(|(path, _)| path).collect()
        };
        let mut versions: BTreeMap<Uuid, Vec<VersionRecord>> = BTreeMap::new();
        for (place, version) in list::<VersionRecord>(sim, &sealed, path::VERSIONS) {
            assert_eq!(place, path::version(version.key_id, version.version_id));
            versions.entry(version.key_id).or_default().push(version);
        }
        for versions in versions.values_mut() {
            versions.sort_by_key(|version| version.number);
        }
        let keys = list::<KeyRecord>(sim, &sealed, path::KEYS).into_iter().map(|(place, key)| {
            assert_eq!(place, path::key(key.key_id));
            (key.key_id, key)
        });
        let alias = |place: &[u8]| String::from_utf8(place[path::ALIASES.len()..].to_vec()).unwrap();
        let number = |place: &[u8]| {
            let key = Uuid::from_slice(&place[path::NUMBERS.len()..][..16]).unwrap();
            (key, path::number_in(place).unwrap())
        };
        let due = |place: &Vec<u8>| {
            let (at, kind, id) = path::due_parts(place).unwrap();
            (kind, id, at)
        };
        Self {
            keys: keys.collect(),
            versions,
            numbers: list::<NumberRecord>(sim, &sealed, path::NUMBERS)
                .into_iter()
                .map(|(place, record)| (number(&place), record.version_id))
                .collect(),
            aliases: list::<AliasRecord>(sim, &sealed, path::ALIASES)
                .into_iter()
                .map(|(place, record)| (alias(&place), record.key_id))
                .collect(),
            projects: list::<ProjectRecord>(sim, &sealed, path::PROJECTS)
                .into_iter()
                .map(|(_, record)| record)
                .collect(),
            tokens: list::<ClientTokenRecord>(sim, &sealed, path::CLIENT_TOKENS)
                .into_iter()
                .map(|(_, record)| record.key_id)
                .collect(),
            indexes: paths(sim, b"x/"),
            due: [path::DUE, path::ROTATIONS]
                .iter()
                .flat_map(|among| paths(sim, among))
                .map(|place| due(&place))
                .collect(),
            erasures: paths(sim, path::ERASURES).iter().map(due).collect(),
            associations: paths(sim, path::ASSOCIATIONS),
            intents: sim.intents(),
        }
    }

    /// The world that they tell of.
    pub(super) fn world(&self) -> World {
        World {
            keys: self.keys.iter().map(|(id, key)| (*id, self.key(key))).collect(),
            aliases: self.aliases.clone(),
            projects: self.projects.iter().map(|project| project.name.to_string()).collect(),
        }
    }

    fn key(&self, key: &KeyRecord) -> Key {
        let default = key.default_for.is_some();
        let tag = |tag: &claviger_protocol::names::Tag| (tag.key().to_owned(), tag.value().to_owned());
        let versions = self.versions.get(&key.key_id).filter(|_| key.state != KeyState::Deleted);
        Key {
            spec: key.spec,
            origin: key.origin,
            state: key.state,
            project: key.project.to_string(),
            description: key.description.to_string(),
            aliases: if default {
                [default_alias()].into()
            } else {
                key.aliases.iter().map(ToString::to_string).collect()
            },
            tags: key.tags.as_slice().iter().map(tag).collect(),
            protected: key.deletion_protection,
            deletion_date: key.deletion_date,
            rotation_days: key.rotation_days,
            last_rotation: key.last_rotation,
            next_rotation: key.next_rotation,
            versions: versions.into_iter().flatten().map(|version| version.version_id).collect(),
            default,
        }
    }

    /// The rules that hold whenever nothing is under way.
    pub(in crate::sim) fn check(&self) {
        assert_eq!(self.intents, 0, "an intent is left");
        assert!(self.projects.iter().all(|project| !project.closing), "a project is left closed");
        self.indexes_are_what_the_keys_imply();
        for key in self.keys.values() {
            self.versions_are_whole(key);
        }
        let known = |id: &Uuid| self.keys.contains_key(id);
        assert!(self.versions.keys().all(known), "a version without a key");
        assert!(self.numbers.keys().all(|(id, _)| known(id)), "a number without a key");
        assert!(self.tokens.iter().all(known), "a client token's key isn't there");
        let named = self.keys.values().flat_map(|key| {
            self.key(key).aliases.into_iter().map(|alias| (alias, key.key_id)).collect::<Vec<_>>()
        });
        assert_eq!(self.aliases, named.collect(), "aliases and the keys' own lists of them");
        let projects: BTreeSet<_> = self.projects.iter().map(|project| project.name.to_string()).collect();
        for key in self.keys.values().filter(|key| key.state != KeyState::Deleted) {
            let project = key.project.as_str();
            assert!(project == "default" || projects.contains(project), "a key in no project");
        }
        for place in &self.associations {
            let id = Uuid::from_slice(&place[path::ASSOCIATIONS.len()..][..16]).unwrap();
            assert!(self.keys[&id].version_count > 0, "an association of a key that is gone");
        }
    }

    fn indexes_are_what_the_keys_imply(&self) {
        let mut indexes = Paths::new();
        let mut due = BTreeSet::new();
        for key in self.keys.values() {
            indexes.extend(lists(key));
            due.extend(dues(key));
        }
        assert_eq!(self.indexes, indexes, "the indexes");
        let mut of_keys = self.due.clone();
        of_keys.retain(|(kind, ..)| *kind != END_IMPORT);
        assert_eq!(of_keys, due, "what falls due");
        for (kind, id, _) in &self.erasures {
            let key = &self.keys[id];
            let purged = key.state == KeyState::Deleted && key.version_count == 0;
            assert!(*kind == ERASE && (purged || key.origin == KeyOrigin::External), "an erasure of nothing");
        }
    }

    fn versions_are_whole(&self, key: &KeyRecord) {
        let none = Vec::new();
        let versions = self.versions.get(&key.key_id).unwrap_or(&none);
        let numbers: Vec<_> = self
            .numbers
            .range((key.key_id, 0)..=(key.key_id, u32::MAX))
            .map(|((_, number), id)| (*number, *id))
            .collect();
        if key.state == KeyState::Deleted && key.version_count > 0 {
            // Its purge is under way.
            return;
        }
        let expected: Vec<_> = versions.iter().map(|version| (version.number, version.version_id)).collect();
        assert_eq!(numbers, expected, "numbers and versions");
        assert!(
            versions.iter().map(|version| version.number).eq(1..=key.version_count),
            "the count of versions"
        );
        if key.state == KeyState::Deleted {
            assert_eq!(key.primary_version, None);
            let erasures = self.erasures.iter().filter(|(_, id, _)| *id == key.key_id).count();
            assert_eq!(erasures, usize::from(key.erased_at.is_none()), "the erasure of what was there");
        } else if key.origin == KeyOrigin::Kms {
            let wanted = if key.spec.pair().is_some() { versions.first() } else { versions.last() };
            assert_eq!(key.primary_version, wanted.map(|version| version.version_id), "the primary version");
            assert!(
                versions.iter().all(|version| version.locations.len() == 1 && version.destroyed_at.is_none())
            );
        }
    }

    /// The rules that hold when the scheduler has looked: nothing is due any more, nothing is
    /// put off for longer than it may be, and of deleted keys their tombstones are left.
    pub(super) fn check_looked(&self, now: i64) {
        for (kind, id, at) in self.due.iter().chain(&self.erasures) {
            let most = match *kind {
                ROTATE => self.keys[id].rotation_days.map_or(0, |days| i64::from(days) * DAY),
                ERASE => DAY / 2,
                _ => i64::MAX - now,
            };
            assert!((now + 1..=now + most).contains(at), "{kind} of {id} at {at}, and it is {now}");
        }
        let deleted = self.keys.values().filter(|key| key.state == KeyState::Deleted);
        assert!(deleted.into_iter().all(|key| key.version_count == 0), "a deleted key isn't purged");
    }

    /// Whether the last byte of every deleted key is gone.
    pub(super) fn all_erased(&self) -> bool {
        let mut deleted = self.keys.values().filter(|key| key.state == KeyState::Deleted);
        deleted.all(|key| key.erased_at.is_some())
    }
}

/// A key's entries in the indexes.
fn lists(key: &KeyRecord) -> Paths {
    let mut lists = vec![vec![b's', key.state.number()], vec![b'c', key.spec.number()]];
    if key.state != KeyState::Deleted {
        lists.push([b"p", key.project.as_str().as_bytes(), b"\0"].concat());
        lists.extend(key.tags.as_slice().iter().map(|tag| {
            let text = format!("{}\0{}", tag.key(), tag.value());
            let hash = digest::digest(&digest::SHA256, text.as_bytes());
            [b"t", &hash.as_ref()[..16]].concat()
        }));
    }
    lists.into_iter().map(|list| [b"x/", list.as_slice(), key.key_id.as_bytes()].concat()).collect()
}

/// What will happen to a key by itself.
fn dues(key: &KeyRecord) -> Vec<(u8, Uuid, i64)> {
    let purged = key.version_count == 0;
    let due = match key.state {
        KeyState::Enabled => key.next_rotation.map(|at| (ROTATE, at)),
        KeyState::PendingDeletion => key.deletion_date.map(|at| (DESTROY, at)),
        // At once, whatever the clock shows.
        KeyState::Deleted => (!purged).then_some((PURGE, i64::MIN)),
        KeyState::Disabled | KeyState::PendingImport => None,
    };
    let material = key.primary_version.is_some() && key.state != KeyState::Deleted;
    let expiry = key.material_expires_at.filter(|_| material).map(|at| (EXPIRE, at));
    due.into_iter().chain(expiry).map(|(kind, at)| (kind, key.key_id, at)).collect()
}
