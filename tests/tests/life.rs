//! The life of a key over the wire, on both tokens: versions, rotation, deletion. What of it
//! time does is in the simulation; names and lists are in `naming`, what people see in `cli`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    AsymmetricSignRequest, CancelKeyDeletionRequest, CreateDefaultKeyRequest, CreateKeyRequest,
    CreateKeyVersionRequest, DescribeKeyVersionRequest, GenerateMacRequest, KeyStateResult,
    ListKeyVersionsRequest, ListKeysRequest, ProtectKeyRequest, RotateKeyRequest, ScheduleKeyDeletionRequest,
    UnprotectKeyRequest, UpdateRotationPolicyRequest, VerifyMacRequest,
};
use claviger_protocol::names::ServiceName;
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    Alias, Code, KeyOrigin, KeySpec, KeyState, Protection, SecretBytes, SigningAlgorithm,
};
use claviger_tests::keys::{LEVELS, client_token, encryption, list_request, new_key};
use claviger_tests::pairs::signing;
use claviger_tests::{Site, Token, Wire, each_token, eventually, on_both_tokens};
use uuid::Uuid;

fn alias(name: &str) -> Alias {
    Alias::new(name).unwrap()
}

fn rotate(wire: &mut Wire, key: Uuid) -> Uuid {
    wire.call(RotateKeyRequest { client_token: client_token(), key: key.into() }).unwrap().key_version_id
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
fn every_version_decrypts_and_the_newest_encrypts() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let mut kept = Vec::new();
        for level in LEVELS {
            let mut wire = daemon.admin();
            let made = wire.create_reply(level);
            let mut versions = vec![made.key_version_id.unwrap()];
            let mut blobs = vec![wire.encrypt(made.key_id, b"version 0")];
            for n in 1..4 {
                versions.push(rotate(&mut wire, made.key_id));
                let sealed = wire.call(encryption(made.key_id, format!("version {n}").as_bytes())).unwrap();
                assert_eq!(sealed.key_version_id, versions[n]);
                blobs.push(sealed.ciphertext_blob.0);
            }
            let shown = wire.describe(made.key_id);
            assert_eq!((shown.primary_version_id, shown.version_count), (Some(versions[3]), 4));
            let request = |limit, page| ListKeyVersionsRequest { key: made.key_id.into(), limit, page };
            let first = wire.call(request(3, Bytes::default())).unwrap();
            let rest = wire.call(request(3, first.next_page.clone())).unwrap();
            assert!(rest.next_page.0.is_empty());
            let all: Vec<_> = first.versions.iter().chain(&rest.versions).collect();
            let ids: Vec<_> = all.iter().map(|version| version.key_version_id).collect();
            assert_eq!(ids, versions.iter().rev().copied().collect::<Vec<_>>(), "newest first");
            assert_eq!(all.iter().map(|version| version.number).collect::<Vec<_>>(), [4, 3, 2, 1]);
            assert_eq!(all.iter().filter(|version| version.primary).count(), 1);
            assert!(all[0].primary);
            kept.push((made.key_id, versions, blobs));
        }
        daemon.kill9();
        let daemon = site.start();
        let mut wire = daemon.app();
        for (_, _, blobs) in &kept {
            for (n, blob) in blobs.iter().enumerate() {
                assert_eq!(wire.decrypt(blob), Ok(format!("version {n}").into_bytes()));
            }
        }
        daemon.terminate();
    }
}

#[test]
fn the_same_client_token_rotates_once() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let key = wire.create(Protection::Hsm);
        let request = RotateKeyRequest { client_token: client_token(), key: key.into() };
        let first = wire.call(request.clone()).unwrap();
        assert_eq!(wire.call(request.clone()).unwrap(), first);
        assert_eq!(wire.describe(key).version_count, 2);
        let other = wire.create(Protection::Hsm);
        let reused = RotateKeyRequest { key: other.into(), ..request };
        assert_eq!(wire.call(reused).unwrap_err().code, Code::ClientTokenReused);
    });
}

#[test]
fn a_mac_of_an_older_version_is_found() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for level in LEVELS {
            let made = wire.call(CreateKeyRequest { spec: KeySpec::Hmac256, ..new_key(level) }).unwrap();
            let message = || SecretBytes::new(b"a message".to_vec());
            let mac = |wire: &mut Wire| {
                let request =
                    GenerateMacRequest { key: made.key_id.into(), algorithm: None, message: message() };
                wire.call(request).unwrap()
            };
            let oldest = mac(&mut wire);
            rotate(&mut wire, made.key_id);
            rotate(&mut wire, made.key_id);
            let newest = mac(&mut wire);
            assert_ne!(oldest.mac, newest.mac);
            let verify = |wire: &mut Wire, key_version_id, mac: Bytes| {
                let request = VerifyMacRequest {
                    key: made.key_id.into(),
                    key_version_id,
                    algorithm: None,
                    message: message(),
                    mac,
                };
                let reply = wire.call(request).unwrap();
                (reply.valid, reply.key_version_id)
            };
            for made in [&oldest, &newest] {
                assert_eq!(verify(&mut wire, None, made.mac.clone()), (true, made.key_version_id));
            }
            let newest_id = newest.key_version_id;
            assert_eq!(verify(&mut wire, Some(newest_id), oldest.mac.clone()), (false, newest_id));
            assert_eq!(verify(&mut wire, None, vec![0; 32].into()), (false, newest_id));
        }
    });
}

#[test]
fn a_pair_with_several_versions_wants_one_named() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for level in LEVELS {
            let made = wire.call(CreateKeyRequest { spec: KeySpec::EcP256, ..new_key(level) }).unwrap();
            let first = made.key_version_id.unwrap();
            let request = signing(made.key_id, SigningAlgorithm::EcdsaSha256, b"text");
            assert_eq!(wire.call(request.clone()).unwrap().key_version_id, first);
            let create = CreateKeyVersionRequest { client_token: client_token(), key: made.key_id.into() };
            let second = wire.call(create).unwrap().key_version_id;
            assert_eq!(wire.call(request.clone()).unwrap_err().code, Code::KeyVersionRequired);
            let mut keys = Vec::new();
            for version in [first, second] {
                let named = AsymmetricSignRequest { key_version_id: Some(version), ..request.clone() };
                assert_eq!(wire.call(named).unwrap().key_version_id, version);
                let describe = DescribeKeyVersionRequest { key: made.key_id.into(), key_version_id: version };
                let shown = wire.call(describe).unwrap();
                assert!(!shown.version.primary, "pairs have no primary version");
                keys.push(shown.public_key.unwrap());
            }
            assert_ne!(keys[0], keys[1]);
            assert_eq!(wire.describe(made.key_id).primary_version_id, None);
            let foreign =
                DescribeKeyVersionRequest { key: wire.create(level).into(), key_version_id: second };
            assert_eq!(wire.call(foreign).unwrap_err().code, Code::NotFound);
        }
    });
}

#[test]
fn who_cannot_have_another_version_says_why() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let software = || new_key(Protection::Software);
        let external = wire.call(CreateKeyRequest { origin: KeyOrigin::External, ..software() }).unwrap();
        assert_eq!(external.key_version_id, None);
        assert_eq!(wire.describe(external.key_id).state, KeyState::PendingImport);
        let pair = wire.call(CreateKeyRequest { spec: KeySpec::EcP256, ..software() }).unwrap();
        let service = ServiceName::new("vault").unwrap();
        let default = wire.call(CreateDefaultKeyRequest { service }).unwrap();
        let symmetric = wire.create(Protection::Software);
        for key in [external.key_id, pair.key_id, default.key_id] {
            let request = RotateKeyRequest { client_token: client_token(), key: key.into() };
            assert_eq!(wire.call(request).unwrap_err().code, Code::UnsupportedByKey, "rotate");
            let request = UpdateRotationPolicyRequest { key: key.into(), rotation_days: Some(30) };
            assert_eq!(wire.call(request).unwrap_err().code, Code::UnsupportedByKey, "policy");
        }
        for key in [external.key_id, symmetric, default.key_id] {
            let request = CreateKeyVersionRequest { client_token: client_token(), key: key.into() };
            assert_eq!(wire.call(request).unwrap_err().code, Code::UnsupportedByKey, "create-version");
        }
        let on = UpdateRotationPolicyRequest { key: symmetric.into(), rotation_days: Some(30) };
        let policy = wire.call(on.clone()).unwrap();
        let rotation = policy.rotation.unwrap();
        assert_eq!((rotation.days, rotation.last, policy.changed), (30, None, true));
        assert!(!wire.call(on).unwrap().changed);
        rotate(&mut wire, symmetric);
        let shown = wire.describe(symmetric).rotation.unwrap();
        assert_eq!(shown.next.unwrap() - shown.last.unwrap(), 30 * 86_400_000);
        wire.switch(symmetric, false);
        let request = RotateKeyRequest { client_token: client_token(), key: symmetric.into() };
        assert_eq!(wire.call(request).unwrap_err().code, Code::InvalidKeyState);
        let off = UpdateRotationPolicyRequest { key: symmetric.into(), rotation_days: None };
        assert_eq!(wire.call(off).unwrap().rotation, None, "a policy may change while Disabled");
    });
}

#[test]
fn a_deletion_is_planned_taken_back_and_carried_out() {
    for token in each_token() {
        // Only --dev deletes at once.
        let site = if token == Token::Embedded { Site::new(token) } else { continue };
        let daemon = site.start();
        let mut wire = daemon.admin();
        for level in LEVELS {
            let alias_name = format!("alias/gone-{}", level.name().to_lowercase());
            let request = CreateKeyRequest { alias: Some(alias(&alias_name)), ..new_key(level) };
            let key = wire.call(request).unwrap().key_id;
            let blob = wire.encrypt(key, b"text");
            let planned =
                |wire: &mut Wire, request| wire.call::<ScheduleKeyDeletionRequest>(request).unwrap();
            let in_use = planned(&mut wire, schedule(key, Some(7), false));
            assert_eq!(in_use.results[0].status, Code::KeyInUse.number());
            assert_eq!(in_use.results[0].associations[0].access_point, "admin");
            wire.call(ProtectKeyRequest { keys: vec![key.into()] }).unwrap();
            let protected = planned(&mut wire, schedule(key, Some(7), true));
            assert_eq!(protected.results[0].status, Code::DeletionProtected.number());
            wire.call(UnprotectKeyRequest { keys: vec![key.into()] }).unwrap();
            let done = planned(&mut wire, schedule(key, Some(7), true));
            assert!(done.results[0].deletion_date.is_some());
            let shown = wire.describe(key);
            assert_eq!(
                (shown.state, shown.deletion_date),
                (KeyState::PendingDeletion, done.results[0].deletion_date)
            );
            assert_eq!(wire.decrypt(&blob), Err(Code::InvalidKeyState));
            let again = planned(&mut wire, schedule(key, Some(7), true));
            assert_eq!(again.results[0].status, Code::InvalidKeyState.number());
            let cancel = CancelKeyDeletionRequest { keys: vec![key.into()], enable: true };
            let kept = wire.call(cancel.clone()).unwrap();
            assert_eq!(only(&kept.results), (Code::Ok, Some(KeyState::Enabled), true));
            assert_eq!(wire.decrypt(&blob).unwrap(), b"text");

            planned(&mut wire, schedule(key, Some(0), true));
            eventually("the key is destroyed", || {
                (wire.describe(key).state == KeyState::Deleted).then_some(())
            });
            let tomb = wire.describe(key);
            assert!(
                tomb.aliases.is_empty() && tomb.primary_version_id.is_none() && tomb.deletion_date.is_some()
            );
            assert_eq!(wire.decrypt(&blob), Err(Code::InvalidKeyState));
            let refusal = wire.call(encryption(key, b"x")).unwrap_err();
            assert!(refusal.message.contains("deleted on 20"), "{}", refusal.message);
            assert_eq!(only(&wire.call(cancel).unwrap().results).0, Code::InvalidKeyState);
            // Its alias is free again, and it is in no list but that of tombstones.
            assert!(wire.list_all().iter().all(|listed| listed.key_id != key));
            let deleted = ListKeysRequest { state: Some(KeyState::Deleted), ..list_request(0, Vec::new()) };
            assert!(wire.call(deleted).unwrap().keys.iter().any(|listed| listed.key_id == key));
            wire.call(CreateKeyRequest { alias: Some(alias(&alias_name)), ..new_key(level) }).unwrap();
        }
        daemon.terminate();
    }
}

#[test]
fn the_bounds_of_a_deletion_are_the_configurations() {
    let limits = "deletion_days_min = 10\ndeletion_days_max = 20\ndeletion_days_default = 15";
    for token in each_token() {
        let daemon = Site::with_limits(token, limits).start();
        let mut wire = daemon.admin();
        let key = wire.create(Protection::Software);
        for days in [0, 9, 21, 1096] {
            assert_eq!(wire.call(schedule(key, Some(days), true)).unwrap_err().code, Code::InvalidArgument);
        }
        let before = wire.describe(key).created_at;
        let done = wire.call(schedule(key, None, true)).unwrap();
        let days = (done.results[0].deletion_date.unwrap() - before) / 86_400_000;
        assert_eq!(days, 15);
        daemon.terminate();
    }
}
