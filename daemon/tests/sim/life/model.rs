//! The reference: what SEMANTICS says of keys, states, versions, aliases, tags, projects and
//! deletion, as plainly as can be. Sequential, without a store, and of no line in common
//! with the keyring. Import is to join it where keys get and lose material.

use std::collections::{BTreeMap, BTreeSet};

use claviger_protocol::names::KeyRef;
use claviger_protocol::{Code, KeyOrigin, KeySpec, KeyState};
use uuid::Uuid;

use super::ops::{Answer, Op, Plan, SERVICE, Said, Shown, What, default_alias};

pub(super) const DAY: i64 = 24 * 60 * 60 * 1000;
/// The configured bounds of a deletion's wait, the default, and how long a use counts.
const DELETION: (std::ops::RangeInclusive<u16>, u16) = (7..=1096, 30);
const USED_LATELY: i64 = 30 * DAY;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) spec: KeySpec,
    pub(super) origin: KeyOrigin,
    pub(super) state: KeyState,
    pub(super) project: String,
    pub(super) description: String,
    pub(super) aliases: BTreeSet<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) protected: bool,
    pub(super) deletion_date: Option<i64>,
    pub(super) rotation_days: Option<u16>,
    pub(super) last_rotation: Option<i64>,
    pub(super) next_rotation: Option<i64>,
    /// Oldest first; none of a deleted key.
    pub(super) versions: Vec<Uuid>,
    pub(super) default: bool,
}

/// Everything that outlives a crash.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct World {
    pub(super) keys: BTreeMap<Uuid, Key>,
    pub(super) aliases: BTreeMap<String, Uuid>,
    pub(super) projects: BTreeSet<String>,
}

impl World {
    /// What is other in another world, for people.
    pub(super) fn unlike(&self, other: &Self) -> String {
        let ids: BTreeSet<_> = self.keys.keys().chain(other.keys.keys()).collect();
        let keys = ids.into_iter().map(|id| (id, self.keys.get(id), other.keys.get(id)));
        let keys = keys.filter(|(_, here, there)| here != there);
        let keys: String =
            keys.map(|(id, here, there)| format!("{id}: {here:?}\n     not {there:?}\n")).collect();
        format!(
            "{keys}{:?} not {:?}\n{:?} not {:?}",
            self.aliases, other.aliases, self.projects, other.projects
        )
    }
}

#[derive(Debug, Clone)]
struct Token {
    op: Op,
    at: i64,
    said: Said,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) world: World,
    tokens: BTreeMap<[u8; 16], Token>,
    /// Who used which key last, and when.
    pub(super) uses: BTreeMap<Uuid, BTreeMap<String, i64>>,
}

/// What an operation is foretold with: the time, and where the names of new things are found.
pub(super) struct Given<'a> {
    pub(super) now: i64,
    pub(super) answer: Option<&'a Answer>,
    /// The world as it was found afterwards.
    pub(super) after: &'a World,
}

fn state(key: &Key, allowed: &[KeyState]) -> Result<(), Code> {
    if allowed.contains(&key.state) { Ok(()) } else { Err(Code::InvalidKeyState) }
}

fn unless(wrong: bool, code: Code) -> Result<(), Code> {
    if wrong { Err(code) } else { Ok(()) }
}

const LIVE: [KeyState; 3] = [KeyState::Enabled, KeyState::Disabled, KeyState::PendingImport];
const SWITCHED: [KeyState; 2] = [KeyState::Enabled, KeyState::Disabled];

impl Key {
    fn pair(&self) -> bool {
        self.spec.pair().is_some()
    }

    fn policy(&self) -> Option<(u16, Option<i64>, Option<i64>)> {
        self.rotation_days.map(|days| (days, self.last_rotation, self.next_rotation))
    }

    fn add_version(&mut self, version: Uuid, now: i64) {
        self.versions.push(version);
        if !self.pair() {
            self.last_rotation = Some(now);
            self.next_rotation = self.rotation_days.map(|days| now + i64::from(days) * DAY);
        }
    }

    /// A rotation that lies further ahead than its period was dated by a clock that ran ahead.
    fn redate(&mut self, now: i64) {
        let furthest = self.rotation_days.map(|days| now + i64::from(days) * DAY);
        self.next_rotation = self.next_rotation.min(furthest);
    }

    /// Whether the scheduler has something to do with it now.
    pub(super) fn due(&self, now: i64) -> bool {
        let mut redated = self.clone();
        redated.redate(now);
        let rotates = self.next_rotation.is_some_and(|at| at <= now) || redated != *self;
        (self.state == KeyState::PendingDeletion && self.deletion_date.is_some_and(|at| at <= now))
            || (self.state == KeyState::Enabled && rotates)
    }
}

impl Model {
    fn find(&self, name: &KeyRef) -> Result<Uuid, Code> {
        let id = match name {
            KeyRef::Id(id) => Some(*id).filter(|id| self.world.keys.contains_key(id)),
            KeyRef::Alias(alias) => self.world.aliases.get(alias).copied(),
        };
        id.ok_or(Code::NotFound)
    }

    fn key(&mut self, id: Uuid) -> &mut Key {
        self.world.keys.get_mut(&id).unwrap()
    }

    fn has_project(&self, name: &str) -> Result<(), Code> {
        unless(name != "default" && !self.world.projects.contains(name), Code::NotFound)
    }

    fn reserved(&self, alias: &str) -> bool {
        alias.starts_with(&format!("alias/{SERVICE}/"))
    }

    /// What the same token stood for before.
    fn former(&self, token: [u8; 16], op: &Op, now: i64) -> Result<Option<Said>, Code> {
        match self.tokens.get(&token).filter(|former| now - former.at <= DAY) {
            None => Ok(None),
            Some(former) if former.op == *op => Ok(Some(former.said.clone())),
            Some(_) => Err(Code::ClientTokenReused),
        }
    }

    /// What the operation answers, and does.
    pub(super) fn apply(&mut self, op: &Op, given: &Given<'_>) -> Answer {
        let now = given.now;
        match op {
            Op::Create(plan) => self.create(plan, op, given),
            Op::CreateDefault => {
                self.default_key(given).map(|id| Said::Made(id, Some(self.key(id).versions[0])))
            }
            Op::FirstUse(_) => {
                let id = self.default_key(given)?;
                self.uses.entry(id).or_default().insert(SERVICE.into(), now);
                Ok(Said::Sealed(id, *self.key(id).versions.last().unwrap()))
            }
            Op::Each(what, names) => {
                Ok(Said::Each(names.iter().map(|name| self.each(what, name, now)).collect()))
            }
            Op::Schedule { key, days, force } => self.schedule(key, *days, *force, now),
            Op::Describe(name) => self.describe(name),
            Op::DescribeAs(name, text) => {
                let id = self.find(name)?;
                let key = self.key(id);
                state(key, &LIVE)?;
                unless(key.default, Code::UnsupportedByKey)?;
                let changed = key.description != *text;
                key.description.clone_from(text);
                Ok(Said::Changed(id, changed))
            }
            Op::Rotate { token, key } | Op::CreateVersion { token, key } => {
                self.new_version(*token, key, op, given)
            }
            Op::SetRotation(name, days) => self.set_rotation(name, *days, now),
            Op::CreateAlias(alias, name) => {
                let id = self.find(name)?;
                unless(self.reserved(alias), Code::InvalidArgument)?;
                unless(self.world.aliases.contains_key(alias), Code::AlreadyExists)?;
                self.name(alias, id)
            }
            Op::UpdateAlias(alias, name) => self.update_alias(alias, name),
            Op::DeleteAlias(alias) => {
                let id = self.find(&KeyRef::Alias(alias.clone()))?;
                state(self.key(id), &LIVE)?;
                self.unname(alias);
                Ok(Said::Changed(id, true))
            }
            Op::CreateProject(name) => {
                let new = name != "default" && self.world.projects.insert(name.clone());
                unless(!new, Code::AlreadyExists).map(|()| Said::Done)
            }
            Op::DeleteProject(name) => self.delete_project(name),
            Op::Encrypt(name, _) => {
                let id = self.find(name)?;
                unless(self.key(id).pair(), Code::InvalidKeyUsage)?;
                state(self.key(id), &[KeyState::Enabled])?;
                unless(self.key(id).spec == KeySpec::Hmac256, Code::InvalidKeyUsage)?;
                self.used(id, now)?;
                Ok(Said::Sealed(id, *self.key(id).versions.last().unwrap()))
            }
            Op::Decrypt(blob) => {
                self.used(blob.key, now)?;
                Ok(Said::Opened(blob.key, blob.version, blob.plaintext.clone()))
            }
            Op::Due(id) => self.due(*id, given),
        }
    }

    fn create(&mut self, plan: &Plan, op: &Op, given: &Given<'_>) -> Answer {
        let (now, external) = (given.now, plan.origin == KeyOrigin::External);
        let unrotated = external || plan.spec.pair().is_some();
        unless(plan.rotation_days.is_some() && unrotated, Code::InvalidArgument)?;
        unless(plan.alias.as_deref().is_some_and(|alias| self.reserved(alias)), Code::InvalidArgument)?;
        if let Some(said) = self.former(plan.token, op, now)? {
            return Ok(said);
        }
        let taken = plan.alias.as_ref().is_some_and(|alias| self.world.aliases.contains_key(alias));
        unless(taken, Code::AlreadyExists)?;
        self.has_project(&plan.project)?;
        let new = |key: &Key| key.description == plan.mark;
        let Some((id, versions)) = self.made(new, given) else { return Err(Code::Internal) };
        let key = Key {
            spec: plan.spec,
            origin: plan.origin,
            state: if external { KeyState::PendingImport } else { KeyState::Enabled },
            project: plan.project.clone(),
            description: plan.mark.clone(),
            aliases: plan.alias.iter().cloned().collect(),
            tags: BTreeMap::new(),
            protected: false,
            deletion_date: None,
            rotation_days: plan.rotation_days,
            last_rotation: None,
            next_rotation: plan.rotation_days.map(|days| now + i64::from(days) * DAY),
            versions,
            default: false,
        };
        let said = Said::Made(id, key.versions.first().copied());
        self.world.aliases.extend(plan.alias.iter().map(|alias| (alias.clone(), id)));
        self.world.keys.insert(id, key);
        self.tokens.insert(plan.token, Token { op: op.clone(), at: now, said: said.clone() });
        Ok(said)
    }

    /// The id and the first version of a key that was made: as it was answered, or as it was
    /// found.
    fn made(&self, new: impl Fn(&Key) -> bool, given: &Given<'_>) -> Option<(Uuid, Vec<Uuid>)> {
        if let Some(Ok(Said::Made(id, version))) = given.answer {
            return Some((*id, version.iter().copied().collect()));
        }
        let unknown = |(id, key): &(&Uuid, &Key)| !self.world.keys.contains_key(id) && new(key);
        let (id, key) = given.after.keys.iter().find(unknown)?;
        Some((*id, key.versions.iter().take(1).copied().collect()))
    }

    fn default_key(&mut self, given: &Given<'_>) -> Result<Uuid, Code> {
        if let Some(id) = self.world.aliases.get(&default_alias()) {
            return Ok(*id);
        }
        let (id, versions) = self.made(|key| key.default, given).ok_or(Code::Internal)?;
        let key = Key {
            spec: KeySpec::Aes256,
            origin: KeyOrigin::Kms,
            state: KeyState::Enabled,
            project: "default".into(),
            description: String::new(),
            aliases: [default_alias()].into(),
            tags: BTreeMap::new(),
            protected: false,
            deletion_date: None,
            rotation_days: None,
            last_rotation: None,
            next_rotation: None,
            versions,
            default: true,
        };
        self.world.aliases.insert(default_alias(), id);
        self.world.keys.insert(id, key);
        Ok(id)
    }

    fn each(&mut self, what: &What, name: &KeyRef, now: i64) -> Result<(Uuid, KeyState, bool), Code> {
        let id = self.find(name)?;
        if let What::Move(project) = what {
            self.has_project(project)?;
        }
        let key = self.key(id);
        let before = key.clone();
        match what {
            What::Enable | What::Disable => {
                unless(key.default, Code::UnsupportedByKey)?;
                state(key, &SWITCHED)?;
                key.state = if *what == What::Enable { KeyState::Enabled } else { KeyState::Disabled };
            }
            What::Cancel { enable } => {
                state(key, &[KeyState::PendingDeletion])?;
                key.state = match (key.versions.is_empty(), enable) {
                    (true, _) => KeyState::PendingImport,
                    (false, true) => KeyState::Enabled,
                    (false, false) => KeyState::Disabled,
                };
                key.deletion_date = None;
            }
            What::Protect(on) => {
                state(key, &LIVE)?;
                unless(key.default, Code::UnsupportedByKey)?;
                key.protected = *on;
            }
            What::Tag(tag, value) => {
                state(key, &LIVE)?;
                key.tags.insert((*tag).into(), value.clone());
            }
            What::Untag(tag) => {
                state(key, &LIVE)?;
                key.tags.remove(*tag);
            }
            What::Move(project) => {
                unless(key.default, Code::UnsupportedByKey)?;
                state(key, &LIVE)?;
                key.project.clone_from(project);
            }
        }
        let changed = *key != before;
        if key.state != before.state {
            key.redate(now);
        }
        Ok((id, key.state, changed))
    }

    fn schedule(&mut self, name: &KeyRef, days: Option<u16>, force: bool, now: i64) -> Answer {
        let days = days.unwrap_or(DELETION.1);
        unless(!DELETION.0.contains(&days), Code::InvalidArgument)?;
        let id = self.find(name)?;
        let lately = self.uses.get(&id).is_some_and(|uses| uses.values().any(|at| *at > now - USED_LATELY));
        let key = self.key(id);
        unless(key.default, Code::UnsupportedByKey)?;
        state(key, &LIVE)?;
        unless(key.protected, Code::DeletionProtected)?;
        unless(lately && !force, Code::KeyInUse)?;
        let at = now + i64::from(days) * DAY;
        (key.state, key.deletion_date) = (KeyState::PendingDeletion, Some(at));
        Ok(Said::Planned(id, at))
    }

    fn describe(&self, name: &KeyRef) -> Answer {
        let id = self.find(name)?;
        let key = &self.world.keys[&id];
        Ok(Said::Shown(Box::new(Shown {
            id,
            state: key.state,
            project: key.project.clone(),
            description: key.description.clone(),
            aliases: key.aliases.iter().cloned().collect(),
            tags: key.tags.clone().into_iter().collect(),
            primary: key.versions.last().copied().filter(|_| !key.pair()),
            versions: (key.state != KeyState::Deleted).then(|| u32::try_from(key.versions.len()).unwrap()),
            rotation: key.policy(),
            deletion_date: key.deletion_date,
            protected: key.protected,
        })))
    }

    fn new_version(&mut self, token: [u8; 16], name: &KeyRef, op: &Op, given: &Given<'_>) -> Answer {
        let id = self.find(name)?;
        if let Some(said) = self.former(token, op, given.now)? {
            return Ok(said);
        }
        let pairs = matches!(op, Op::CreateVersion { .. });
        let count = self.key(id).versions.len();
        let key = self.key(id);
        let never = key.default || key.origin == KeyOrigin::External || key.pair() != pairs;
        unless(never, Code::UnsupportedByKey)?;
        state(key, &[KeyState::Enabled])?;
        let version = match given.answer {
            Some(Ok(Said::Version(_, version))) => *version,
            _ => given.after.keys[&id].versions.get(count).copied().unwrap_or_default(),
        };
        key.add_version(version, given.now);
        let said = Said::Version(id, version);
        self.tokens.insert(token, Token { op: op.clone(), at: given.now, said: said.clone() });
        Ok(said)
    }

    fn set_rotation(&mut self, name: &KeyRef, days: Option<u16>, now: i64) -> Answer {
        let id = self.find(name)?;
        let key = self.key(id);
        let never = key.default || key.origin == KeyOrigin::External || key.pair();
        unless(never, Code::UnsupportedByKey)?;
        state(key, &SWITCHED)?;
        let changed = key.rotation_days != days;
        if changed {
            key.rotation_days = days;
            key.next_rotation = days.map(|days| now + i64::from(days) * DAY);
        }
        Ok(Said::Policy(id, key.policy(), changed))
    }

    fn name(&mut self, alias: &str, id: Uuid) -> Answer {
        let key = self.key(id);
        unless(key.default, Code::UnsupportedByKey)?;
        state(key, &LIVE)?;
        key.aliases.insert(alias.into());
        self.world.aliases.insert(alias.into(), id);
        Ok(Said::Changed(id, true))
    }

    fn unname(&mut self, alias: &str) {
        let id = self.world.aliases.remove(alias).unwrap();
        self.key(id).aliases.remove(alias);
    }

    fn update_alias(&mut self, alias: &str, name: &KeyRef) -> Answer {
        let from = self.find(&KeyRef::Alias(alias.into()))?;
        let id = self.find(name)?;
        state(self.key(from), &LIVE)?;
        if from == id {
            return Ok(Said::Changed(id, false));
        }
        let before = self.clone();
        self.unname(alias);
        self.name(alias, id).inspect_err(|_| *self = before)
    }

    fn delete_project(&mut self, name: &str) -> Answer {
        unless(name == "default", Code::InvalidArgument)?;
        self.has_project(name)?;
        let holds = |key: &Key| key.project == name && key.state != KeyState::Deleted;
        unless(self.world.keys.values().any(holds), Code::NotEmpty)?;
        self.world.projects.remove(name);
        Ok(Said::Done)
    }

    /// What the upkeep does to client tokens: those whose day is over go, and those of a
    /// time that hasn't come are dated anew.
    pub(super) fn upkeep(&mut self, now: i64) {
        self.tokens.retain(|_, token| now - token.at <= DAY);
        for token in self.tokens.values_mut() {
            token.at = token.at.min(now);
        }
    }

    /// A use of a key by the administrator.
    fn used(&mut self, id: Uuid, now: i64) -> Result<(), Code> {
        state(self.key(id), &[KeyState::Enabled])?;
        self.uses.entry(id).or_default().insert("admin".into(), now);
        Ok(())
    }

    /// What time does to a key.
    fn due(&mut self, id: Uuid, given: &Given<'_>) -> Answer {
        let now = given.now;
        let key = self.key(id);
        let past = |at: Option<i64>| at.is_some_and(|at| at <= now);
        if key.state == KeyState::PendingDeletion && past(key.deletion_date) {
            key.state = KeyState::Deleted;
            key.deletion_date = Some(now);
            key.description.clear();
            key.tags.clear();
            key.versions.clear();
            (key.rotation_days, key.next_rotation) = (None, None);
            let aliases = std::mem::take(&mut key.aliases);
            self.world.aliases.retain(|alias, _| !aliases.contains(alias));
            self.uses.remove(&id);
        } else if key.state == KeyState::Enabled && past(key.next_rotation) {
            let found = given.after.keys[&id].versions.get(key.versions.len());
            key.add_version(found.copied().unwrap_or_default(), now);
        } else if key.state == KeyState::Enabled {
            key.redate(now);
        }
        Ok(Said::Done)
    }
}
