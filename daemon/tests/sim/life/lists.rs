//! The lists, with filters and page by page, against the model.

use std::collections::BTreeMap;

use claviger_protocol::body::{
    ListAliasKeysRequest, ListAliasRequest, ListKeyVersionsRequest, ListKeysRequest, ListProjectsRequest,
    ListSymmetricKeysRequest,
};
use claviger_protocol::names::{KeyRef, ProjectName, Tag};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{KeySpec, KeyState};
use uuid::Uuid;

use super::Life;
use super::model::Key;

/// Items of a page.
const PAGE: u16 = 3;

impl Life {
    pub(super) fn every_list_is_right(&mut self) {
        let keys = self.model.world.keys.clone();
        for _ in 0..8 {
            let states = [None, Some(KeyState::Enabled), Some(KeyState::Disabled), Some(KeyState::Deleted)];
            let state = self.pick(&states);
            let spec = self.pick(&[None, None, Some(KeySpec::Aes256), Some(KeySpec::EcP256)]);
            let project = self.pick(&[None, None, Some("default"), Some("p1")]);
            let tag = self.pick(&[None, None, Some(("t1", "v0"))]);
            let admits = |key: &Key| {
                state.map_or(key.state != KeyState::Deleted, |state| key.state == state)
                    && spec.is_none_or(|spec| key.spec == spec)
                    && project.is_none_or(|project| key.project == project)
                    && tag.is_none_or(|(name, value)| key.tags.get(name).is_some_and(|is| is == value))
            };
            let wanted: Vec<_> = keys.iter().filter(|(_, key)| admits(key)).map(|(id, _)| *id).collect();
            let request = ListKeysRequest {
                state,
                spec,
                project: project.map(|name| ProjectName::new(name).unwrap()),
                tag: tag.map(|(name, value)| Tag::new(name, value).unwrap()),
                limit: PAGE,
                page: Bytes::default(),
            };
            assert_eq!(self.listed(&request), wanted, "{request:?}");
        }
        self.symmetric_keys();
        self.names();
        for (id, key) in &keys {
            self.versions_of(*id, key);
        }
    }

    fn listed(&mut self, request: &ListKeysRequest) -> Vec<Uuid> {
        let (mut all, mut page) = (Vec::new(), Bytes::default());
        loop {
            let reply = self.sim.call(ListKeysRequest { page, ..request.clone() }).unwrap();
            assert!(reply.keys.len() <= usize::from(PAGE));
            all.extend(reply.keys.into_iter().map(|key| key.key_id));
            page = reply.next_page;
            if page.0.is_empty() {
                return all;
            }
        }
    }

    fn symmetric_keys(&mut self) {
        let (mut all, mut page) = (Vec::new(), Bytes::default());
        loop {
            let request = ListSymmetricKeysRequest { state: None, project: None, limit: PAGE, page };
            let reply = self.sim.call(request).unwrap();
            assert!(reply.keys.len() <= usize::from(PAGE));
            all.extend(reply.keys.into_iter().map(|key| (key.spec, key.key_id)));
            page = reply.next_page;
            if page.0.is_empty() {
                break;
            }
        }
        let keys = self.model.world.keys.iter().filter(|(_, key)| key.state != KeyState::Deleted);
        let keys = keys.filter(|(_, key)| [KeySpec::Aes256, KeySpec::Sm4].contains(&key.spec));
        let mut wanted: Vec<_> = keys.map(|(id, key)| (key.spec, *id)).collect();
        wanted.sort();
        assert_eq!(all, wanted);
    }

    /// Aliases, keys by alias, projects.
    fn names(&mut self) {
        let (mut all, mut page) = (BTreeMap::new(), Bytes::default());
        loop {
            let reply = self.sim.call(ListAliasRequest { limit: PAGE, page }).unwrap();
            all.extend(reply.aliases.into_iter().map(|entry| (entry.alias, entry.key_id)));
            page = reply.next_page;
            if page.0.is_empty() {
                break;
            }
        }
        assert_eq!(all, self.model.world.aliases);
        let (mut all, mut page) = (BTreeMap::new(), Bytes::default());
        loop {
            let request = ListAliasKeysRequest { project: None, limit: PAGE, page };
            let reply = self.sim.call(request).unwrap();
            all.extend(reply.keys.into_iter().map(|entry| (entry.alias, entry.key.key_id)));
            page = reply.next_page;
            if page.0.is_empty() {
                break;
            }
        }
        assert_eq!(all, self.model.world.aliases);
        let (mut all, mut page) = (Vec::new(), Bytes::default());
        loop {
            let reply = self.sim.call(ListProjectsRequest { limit: 1, page }).unwrap();
            all.extend(reply.projects.into_iter().map(|project| project.project.to_string()));
            page = reply.next_page;
            if page.0.is_empty() {
                break;
            }
        }
        let default = std::iter::once("default".to_owned());
        let wanted: Vec<_> = default.chain(self.model.world.projects.iter().cloned()).collect();
        assert_eq!(all, wanted);
    }

    fn versions_of(&mut self, id: Uuid, key: &Key) {
        let (mut all, mut page) = (Vec::new(), Bytes::default());
        loop {
            let request = ListKeyVersionsRequest { key: KeyRef::Id(id), limit: PAGE, page };
            let reply = self.sim.call(request).unwrap();
            all.extend(reply.versions);
            page = reply.next_page;
            if page.0.is_empty() {
                break;
            }
        }
        if key.state == KeyState::Deleted {
            return;
        }
        let ids: Vec<_> = all.iter().rev().map(|version| version.key_version_id).collect();
        assert_eq!(ids, key.versions, "newest first");
        let primaries: Vec<_> =
            all.iter().filter(|version| version.primary).map(|version| version.number).collect();
        let pair = key.spec.pair().is_some();
        let wanted: Vec<_> =
            all.first().filter(|_| !pair).map(|version| version.number).into_iter().collect();
        assert_eq!(primaries, wanted, "one primary version");
    }
}
