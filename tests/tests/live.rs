//! Others than our own raw connection against a live daemon: the independent reader
//! of the specification, an independent opener of blobs, and the Rust client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;

use claviger_client::blocking::Client;
use claviger_client::{Batch, Error, Options, client_token};
use claviger_protocol::body::ListKeyVersionsRequest;
use claviger_protocol::names::Tags;
use claviger_protocol::{
    Alias, Code, Description, EncryptionContext, KeyRef, KeyState, ProjectName, Protection, ServiceName, Tag,
    TagKey,
};
use claviger_tests::keys::{LEVELS, encryption, new_key};
use claviger_tests::programs::{text, tool};
use claviger_tests::{Site, each_token, on_both_tokens};
use serde_json::Value;

/// `tests/decoder/decoder.py ARGS`.
fn decoder(args: &[&str]) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("decoder/decoder.py");
    tool(Command::new("python3").arg("-B").arg(script).args(args))
}

#[test]
fn the_independent_decoder_speaks_with_the_daemon() {
    on_both_tokens(|daemon| {
        for (socket, endpoint) in
            [(daemon.site().admin_socket(), "admin"), (daemon.site().app_socket(), "app")]
        {
            let said: Value = serde_json::from_slice(&decoder(&["ping", text(&socket)])).unwrap();
            assert_eq!(said["hello"]["endpoint"], endpoint);
            assert_eq!(said["hello"]["max_plaintext"], 6144);
            assert_eq!(said["ping"]["version"], env!("CARGO_PKG_VERSION"));
        }
    });
}

#[test]
fn the_independent_decoder_encrypts_backs_up_and_is_refused() {
    on_both_tokens(|daemon| {
        let (admin, app) = (daemon.site().admin_socket(), daemon.site().app_socket());
        for level in LEVELS {
            let key = daemon.admin().create(level).to_string();
            let said: Value = serde_json::from_slice(&decoder(&["encrypt", text(&app), &key])).unwrap();
            assert_eq!(said["key_id"], key);
            assert!(said["changed"].as_u64().unwrap() > 100);
        }
        let said: Value = serde_json::from_slice(&decoder(&["backup", text(&admin)])).unwrap();
        assert!(said["chunks"].as_u64().unwrap() >= 1 && said["records"].as_u64().unwrap() >= 4, "{said}");
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/vectors");
        let said = decoder(&["refused", text(&admin), text(&vectors)]);
        let count = String::from_utf8(said).unwrap();
        let count: u32 = count.split(' ').next().unwrap().parse().unwrap();
        assert!(count >= 100, "only {count} refusals were tried");
    });
}

#[test]
fn the_rust_client_pipelines_batches_and_comes_back_after_kill_9() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let client = Client::connect(site.admin_socket(), Options::default()).unwrap();
        let keys: Vec<KeyRef> = LEVELS
            .iter()
            .map(|level| KeyRef::Id(client.create_key(new_key(*level)).unwrap().key_id))
            .collect();
        // Many threads on one connection, each with its own answers.
        let threads: Vec<_> = (0..8_usize)
            .map(|n| {
                let (client, key) = (client.clone(), keys[n % keys.len()].clone());
                std::thread::spawn(move || {
                    for round in 0..20_usize {
                        let text = format!("{n}/{round}").into_bytes();
                        let none = EncryptionContext::default;
                        let sealed = client.encrypt(key.clone(), text.clone().into(), none()).unwrap();
                        let opened = client.decrypt(None, sealed.ciphertext_blob.0, none()).unwrap();
                        assert_eq!(opened.plaintext.expose(), text);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let mut batch = Batch::new();
        let items: Vec<_> =
            (0..2000).map(|n: usize| batch.push(encryption(keys[n % 2].clone(), b"batched"))).collect();
        let mut results = client.batch(batch);
        let blobs: Vec<Vec<u8>> =
            items.into_iter().map(|item| results.take(item).unwrap().ciphertext_blob.0).collect();

        let request = new_key(Protection::Hsm);
        let made = client.create_key(request.clone()).unwrap();
        daemon.kill9();
        let gone = client.ping(vec![]).unwrap_err();
        assert!(gone.retryable(), "{gone}");
        let daemon = site.start();
        for blob in [&blobs[0], &blobs[1999]] {
            let opened = client.decrypt(None, blob.clone(), EncryptionContext::default()).unwrap();
            assert_eq!(opened.plaintext.expose(), b"batched");
        }
        assert_eq!(client.create_key(request).unwrap(), made, "the same client token, the same key");
        assert_ne!(client_token(), client_token());
        let missing = client.describe_key(KeyRef::Alias("alias/none".into())).unwrap_err();
        assert!(matches!(missing, Error::Refused { code: Code::NotFound, .. }), "{missing}");
        daemon.terminate();
    }
}

#[test]
fn the_rust_client_sees_a_key_through_its_life() {
    on_both_tokens(|daemon| {
        let client = Client::connect(daemon.site().admin_socket(), Options::default()).unwrap();
        let key = KeyRef::Id(client.create_key(new_key(Protection::Hsm)).unwrap().key_id);
        let (keys, alias) = (vec![key.clone()], Alias::new("alias/a").unwrap());
        let project = ProjectName::new("team").unwrap();
        client.create_project(project.clone(), Description::default()).unwrap();
        assert!(client.move_keys(keys.clone(), project.clone()).unwrap().results[0].changed);
        assert_eq!(client.list_projects(0, vec![]).unwrap().projects.len(), 2);
        client.create_alias(alias.clone(), key.clone()).unwrap();
        assert!(!client.update_alias(alias.clone(), key.clone()).unwrap().changed);
        assert_eq!(client.list_aliases(0, vec![]).unwrap(), client.list_aliases_of(key.clone()).unwrap());
        assert!(client.set_key_description(key.clone(), Description::new("x").unwrap()).unwrap().changed);
        let tags = Tags::try_from(vec![Tag::new("k", "v").unwrap()]).unwrap();
        client.tag_keys(keys.clone(), tags.clone()).unwrap();
        assert_eq!(client.list_tags(key.clone()).unwrap().tags, tags);
        assert!(client.untag_keys(keys.clone(), vec![TagKey::new("k").unwrap()]).unwrap().results[0].changed);

        let token = client_token();
        let rotated = client.rotate_key(token, key.clone()).unwrap();
        assert_eq!(client.rotate_key(token, key.clone()).unwrap(), rotated);
        assert_eq!(client.set_rotation_policy(key.clone(), Some(7)).unwrap().rotation.unwrap().days, 7);
        let listed = ListKeyVersionsRequest { key: key.clone(), limit: 0, page: vec![].into() };
        assert_eq!(client.list_key_versions(listed).unwrap().versions.len(), 2);
        let version = client.describe_key_version(key.clone(), rotated.key_version_id).unwrap();
        assert!(version.version.primary);
        assert!(client.create_key_version(client_token(), key.clone()).is_err(), "no pair");

        assert!(client.associations(key.clone()).unwrap().associations.is_empty());
        client.protect_keys(keys.clone()).unwrap();
        assert_ne!(client.schedule_key_deletion(keys.clone(), None, false).unwrap().results[0].status, 0);
        client.unprotect_keys(keys.clone()).unwrap();
        let planned = client.schedule_key_deletion(keys.clone(), Some(30), false).unwrap();
        assert!(planned.results[0].deletion_date.is_some());
        let back = client.cancel_key_deletion(keys, true).unwrap();
        assert_eq!(back.results[0].state, Some(KeyState::Enabled));
        client.delete_alias(alias).unwrap();
        assert!(client.delete_project(project).is_err(), "it holds a key");
        let service = ServiceName::new("s3").unwrap();
        assert_eq!(
            client.create_default_key(service.clone()).unwrap(),
            client.create_default_key(service).unwrap()
        );
    });
}
