//! Aliases, tags, projects, lists and default keys over the wire, on both tokens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    CreateAliasRequest, CreateDefaultKeyRequest, CreateKeyRequest, CreateProjectRequest, DeleteAliasRequest,
    DeleteProjectRequest, DetectAssociationRequest, DisableKeyRequest, KeyStateResult, ListAliasKeysRequest,
    ListAliasRequest, ListKeysRequest, ListProjectsRequest, ListSymmetricKeysRequest, ListTagsRequest,
    MoveResourceRequest, ScheduleKeyDeletionRequest, TagResourceRequest, UntagResourceRequest,
    UpdateAliasRequest, UpdateKeyDescriptionRequest,
};
use claviger_protocol::names::{ServiceName, Tag, TagKey, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    Alias, Code, Description, KeyRef, KeySpec, KeyState, KeyUsage, ProjectName, Protection,
};
use claviger_tests::keys::{encryption, list_request, new_key};
use claviger_tests::{Site, Wire, each_token, on_both_tokens};
use uuid::Uuid;

fn alias(name: &str) -> Alias {
    Alias::new(name).unwrap()
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    let tags: Vec<Tag> = pairs.iter().map(|(key, value)| Tag::new(*key, *value).unwrap()).collect();
    Tags::try_from(tags).unwrap()
}

fn schedule(key: Uuid, days: Option<u16>, force: bool) -> ScheduleKeyDeletionRequest {
    ScheduleKeyDeletionRequest { keys: vec![key.into()], days, force }
}

/// The one result of a call about one key.
fn only(results: &[KeyStateResult]) -> (Code, Option<KeyState>, bool) {
    let [one] = results else { panic!("{results:?}") };
    (Code::from_number(one.status).unwrap(), one.state, one.changed)
}

#[test]
fn aliases_move_and_are_unique() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let (one, two) = (wire.create(Protection::Software), wire.create(Protection::Software));
        let create = |name: &str, key: Uuid| CreateAliasRequest { alias: alias(name), key: key.into() };
        for name in ["alias/b", "alias/a"] {
            assert_eq!(wire.call(create(name, one)).unwrap().key_id, one);
        }
        assert_eq!(wire.describe(one).aliases, ["alias/a", "alias/b"]);
        assert_eq!(wire.call(create("alias/a", two)).unwrap_err().code, Code::AlreadyExists);
        let update = |name: &str, key: Uuid| UpdateAliasRequest { alias: alias(name), key: key.into() };
        assert!(wire.call(update("alias/a", two)).unwrap().changed);
        assert!(!wire.call(update("alias/a", two)).unwrap().changed);
        assert_eq!(wire.call(update("alias/none", two)).unwrap_err().code, Code::NotFound);
        assert_eq!(
            (wire.describe(one).aliases, wire.describe(two).aliases),
            (vec!["alias/b".into()], vec!["alias/a".into()])
        );
        let blob = wire.call(encryption(KeyRef::Alias("alias/a".into()), b"x")).unwrap();
        assert_eq!(blob.key_id, two);
        let list = |limit, page: Bytes| ListAliasRequest { limit, page };
        let first = wire.call(list(1, Bytes::default())).unwrap();
        let rest = wire.call(list(5, first.next_page.clone())).unwrap();
        let named: Vec<_> = first
            .aliases
            .iter()
            .chain(&rest.aliases)
            .map(|entry| (entry.alias.as_str(), entry.key_id))
            .collect();
        assert_eq!(named, [("alias/a", two), ("alias/b", one)]);
        let by_alias = ListAliasKeysRequest { project: None, limit: 0, page: Bytes::default() };
        let listed = wire.call(by_alias).unwrap();
        assert_eq!(listed.keys.iter().map(|item| item.key.key_id).collect::<Vec<_>>(), [two, one]);
        let delete = |name: &str| DeleteAliasRequest { alias: alias(name) };
        assert_eq!(wire.call(delete("alias/a")).unwrap().key_id, two);
        assert_eq!(wire.call(delete("alias/a")).unwrap_err().code, Code::NotFound);
        wire.call(schedule(two, Some(30), true)).unwrap();
        assert_eq!(wire.call(create("alias/late", two)).unwrap_err().code, Code::InvalidKeyState);
        for n in 1..50 {
            wire.call(create(&format!("alias/n{n}"), one)).unwrap();
        }
        assert_eq!(wire.call(create("alias/too-many", one)).unwrap_err().code, Code::LimitExceeded);
    });
}

#[test]
fn tags_and_descriptions_change_on_many_keys_at_once() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let keys: Vec<KeyRef> = (0..3).map(|_| wire.create(Protection::Software).into()).collect();
        let mut named = keys.clone();
        named.insert(1, KeyRef::Id(Uuid::from_u128(9)));
        let set = TagResourceRequest { keys: named, tags: tags(&[("env", "prod"), ("team", "a")]) };
        let results = wire.call(set.clone()).unwrap().results;
        let codes: Vec<_> = results.iter().map(|result| (result.status, result.changed)).collect();
        assert_eq!(codes, [(0, true), (Code::NotFound.number(), false), (0, true), (0, true)]);
        assert!(wire.call(set).unwrap().results.iter().all(|result| !result.changed));
        let untag =
            UntagResourceRequest { keys: vec![keys[0].clone()], tag_keys: vec![TagKey::new("env").unwrap()] };
        wire.call(untag).unwrap();
        assert_eq!(wire.call(ListTagsRequest { key: keys[0].clone() }).unwrap().tags, tags(&[("team", "a")]));
        let by_tag =
            ListKeysRequest { tag: Some(Tag::new("env", "prod").unwrap()), ..list_request(0, Vec::new()) };
        assert_eq!(wire.call(by_tag).unwrap().keys.len(), 2);
        let many: Vec<_> = (0..20).map(|n| (format!("k{n}"), "v")).collect();
        let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let over = TagResourceRequest { keys: vec![keys[0].clone()], tags: tags(&many) };
        assert_eq!(only(&wire.call(over).unwrap().results).0, Code::LimitExceeded, "the 21st");
        let describe = UpdateKeyDescriptionRequest {
            key: keys[0].clone(),
            description: Description::new("支付").unwrap(),
        };
        assert!(wire.call(describe.clone()).unwrap().changed);
        assert!(!wire.call(describe).unwrap().changed);
        assert_eq!(wire.describe(keys[0].clone()).description.as_str(), "支付");
    });
}

#[test]
fn projects_hold_keys_and_go_when_they_are_empty() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let project = |name: &str| ProjectName::new(name).unwrap();
        let make =
            |name: &str| CreateProjectRequest { project: project(name), description: Description::default() };
        wire.call(make("pay")).unwrap();
        wire.call(make("Zoo")).unwrap();
        for taken in ["pay", "default"] {
            assert_eq!(wire.call(make(taken)).unwrap_err().code, Code::AlreadyExists);
        }
        let key = wire
            .call(CreateKeyRequest { project: project("pay"), ..new_key(Protection::Software) })
            .unwrap()
            .key_id;
        let plain = wire.create(Protection::Software);
        let list = |wire: &mut Wire, name: &str| {
            let request = ListKeysRequest { project: Some(project(name)), ..list_request(0, Vec::new()) };
            wire.call(request).unwrap().keys.iter().map(|key| key.key_id).collect::<Vec<_>>()
        };
        assert_eq!((list(&mut wire, "pay"), list(&mut wire, "default")), (vec![key], vec![plain]));
        let delete = |name: &str| DeleteProjectRequest { project: project(name) };
        assert_eq!(wire.call(delete("pay")).unwrap_err().code, Code::NotEmpty);
        assert_eq!(wire.call(delete("none")).unwrap_err().code, Code::NotFound);
        assert_eq!(wire.call(delete("default")).unwrap_err().code, Code::InvalidArgument);
        let transfer =
            |key: Uuid, name: &str| MoveResourceRequest { keys: vec![key.into()], project: project(name) };
        assert_eq!(only(&wire.call(transfer(key, "none")).unwrap().results).0, Code::NotFound);
        assert_eq!(
            only(&wire.call(transfer(key, "default")).unwrap().results),
            (Code::Ok, Some(KeyState::Enabled), true)
        );
        wire.call(delete("pay")).unwrap();
        let page = |limit, page: Bytes| ListProjectsRequest { limit, page };
        let mut names = Vec::new();
        let mut next = Bytes::default();
        loop {
            let reply = wire.call(page(1, next)).unwrap();
            names.extend(reply.projects.iter().map(|project| project.project.to_string()));
            if reply.next_page.0.is_empty() {
                break;
            }
            next = reply.next_page;
        }
        assert_eq!(names, ["Zoo", "default"]);
        let gone = CreateKeyRequest { project: project("pay"), ..new_key(Protection::Software) };
        assert_eq!(wire.call(gone).unwrap_err().code, Code::NotFound);
    });
}

#[test]
fn lists_follow_every_filter_and_page() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let specs = [KeySpec::Aes256, KeySpec::Sm4, KeySpec::EcP256, KeySpec::Hmac256];
        let mut made = Vec::new();
        for n in 0..12 {
            let spec = specs[n % specs.len()];
            let key = wire.call(CreateKeyRequest { spec, ..new_key(Protection::Software) }).unwrap().key_id;
            made.push((key, spec));
        }
        wire.switch(made[0].0, false);
        let pages = |wire: &mut Wire, request: &ListKeysRequest| {
            let (mut found, mut request) = (Vec::new(), request.clone());
            loop {
                let reply = wire.call(request.clone()).unwrap();
                found.extend(reply.keys.iter().map(|key| key.key_id));
                if reply.next_page.0.is_empty() {
                    return found;
                }
                request.page = reply.next_page;
            }
        };
        for spec in specs {
            let request = ListKeysRequest { spec: Some(spec), ..list_request(2, Vec::new()) };
            let mut want: Vec<_> = made.iter().filter(|(_, of)| *of == spec).map(|(key, _)| *key).collect();
            want.sort();
            assert_eq!(pages(&mut wire, &request), want, "{spec}");
        }
        let disabled = ListKeysRequest { state: Some(KeyState::Disabled), ..list_request(1, Vec::new()) };
        assert_eq!(pages(&mut wire, &disabled), [made[0].0]);
        let mut symmetric = Vec::new();
        let mut request =
            ListSymmetricKeysRequest { state: None, project: None, limit: 2, page: Bytes::default() };
        loop {
            let reply = wire.call(request.clone()).unwrap();
            assert!(reply.keys.len() <= 2);
            symmetric.extend(reply.keys.iter().map(|key| key.spec));
            if reply.next_page.0.is_empty() {
                break;
            }
            request.page = reply.next_page;
        }
        assert_eq!(symmetric, [[KeySpec::Aes256; 3], [KeySpec::Sm4; 3]].concat());
        let foreign = list_request(0, vec![1, 2, 3]);
        assert_eq!(wire.call(foreign).unwrap_err().code, Code::InvalidArgument);
    });
}

#[test]
fn a_service_finds_its_default_key_and_no_other_does() {
    for token in each_token() {
        let site = Site::with_sections(token, |site| {
            let socket = site.dir().join("obs.sock");
            format!("[[endpoint]]\nname = \"obs\"\nservice = \"obs\"\nsocket = \"{}\"\n", socket.display())
        });
        let daemon = site.start();
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        let mut obs = Wire::open(&site.dir().join("obs.sock"));
        let default = || KeyRef::Alias("alias/obs/default".into());
        assert_eq!(app.call(encryption(default(), b"x")).unwrap_err().code, Code::AccessDenied);
        assert_eq!(admin.call(encryption(default(), b"x")).unwrap_err().code, Code::NotFound);
        let first = obs.call(encryption(default(), b"x")).unwrap();
        let again = obs.call(encryption(default(), b"y")).unwrap();
        assert_eq!(first.key_id, again.key_id);
        assert_eq!(
            app.call(encryption(default(), b"x")).unwrap_err().code,
            Code::AccessDenied,
            "not its own"
        );
        let key = admin.describe(first.key_id);
        assert_eq!(
            (key.spec, key.usage, key.aliases),
            (KeySpec::Aes256, KeyUsage::EncryptDecrypt, vec!["alias/obs/default".into()])
        );
        let service = ServiceName::new("obs").unwrap();
        assert_eq!(admin.call(CreateDefaultKeyRequest { service }).unwrap().key_id, first.key_id);
        let off = admin.call(DisableKeyRequest { keys: vec![first.key_id.into()] }).unwrap();
        assert_eq!(only(&off.results).0, Code::UnsupportedByKey);
        let planned = admin.call(schedule(first.key_id, Some(30), true)).unwrap();
        assert_eq!(planned.results[0].status, Code::UnsupportedByKey.number());
        let create = |name: &str| CreateAliasRequest { alias: alias(name), key: first.key_id.into() };
        assert_eq!(admin.call(create("alias/other")).unwrap_err().code, Code::UnsupportedByKey);
        let plain = admin.create(Protection::Software);
        let reserved = CreateAliasRequest { alias: alias("alias/obs/mine"), key: plain.into() };
        assert_eq!(admin.call(reserved).unwrap_err().code, Code::InvalidArgument);
        let set = TagResourceRequest { keys: vec![first.key_id.into()], tags: tags(&[("a", "b")]) };
        assert_eq!(only(&admin.call(set).unwrap().results).0, Code::Ok, "it can be tagged");
        let used = admin.call(DetectAssociationRequest { key: first.key_id.into() }).unwrap();
        assert_eq!(used.associations[0].access_point, "obs");
        daemon.terminate();
        // Uses are written down at the end.
        let daemon = site.start();
        let used = daemon.admin().call(DetectAssociationRequest { key: first.key_id.into() }).unwrap();
        assert_eq!(used.associations.len(), 1);
        assert_eq!(used.associations[0].access_point, "obs");
        daemon.terminate();
    }
}
