//! Who may do what: the admin endpoint everything, an application endpoint the use
//! of keys, without learning which keys there are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt;

use claviger_protocol::body::{
    CreateKeyRequest, DecryptRequest, DescribeKeyRequest, DisableKeyRequest, EnableKeyRequest,
    GenerateDataKeyRequest, ReEncryptRequest, StatusRequest,
};
use claviger_protocol::{Alias, Code, DataKeySize, EncryptionContext, KeyRef, KeyState, Protection};
use claviger_tests::keys::{decryption, encryption, list_request, new_key};
use claviger_tests::{Refusal, on_both_tokens};
use uuid::Uuid;

#[test]
fn management_on_an_application_endpoint_is_denied_and_changes_nothing() {
    on_both_tokens(|daemon| {
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        let key = admin.create(Protection::Hsm);
        let keys = || vec![KeyRef::Id(key)];
        let unknown = DescribeKeyRequest { key: Uuid::from_u128(1).into() };
        let refused: Vec<Refusal> = vec![
            app.call(new_key(Protection::Software)).unwrap_err(),
            app.call(DescribeKeyRequest { key: key.into() }).unwrap_err(),
            app.call(unknown.clone()).unwrap_err(),
            app.call(list_request(0, Vec::new())).unwrap_err(),
            app.call(DisableKeyRequest { keys: keys() }).unwrap_err(),
            app.call(EnableKeyRequest { keys: keys() }).unwrap_err(),
            app.call(StatusRequest {}).unwrap_err(),
        ];
        for refusal in &refused {
            assert_eq!((refusal.code, &refusal.message), (Code::AccessDenied, &refused[0].message));
        }
        assert_eq!(admin.call(unknown).unwrap_err().code, Code::NotFound);
        assert_eq!(admin.describe(key).state, KeyState::Enabled);
        assert_eq!(admin.list_all().len(), 1);
    });
}

#[test]
fn an_unknown_key_looks_like_a_forbidden_one_to_an_application() {
    on_both_tokens(|daemon| {
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        let known = admin.call(CreateKeyRequest {
            alias: Some(Alias::new("alias/known").unwrap()),
            ..new_key(Protection::Hsm)
        });
        let known = known.unwrap().key_id;
        let blob = app.encrypt(known, b"x");
        let denied = app.call(new_key(Protection::Hsm)).unwrap_err();
        for name in [KeyRef::Id(Uuid::from_u128(3)), KeyRef::Alias("alias/unknown".into())] {
            let data_key = GenerateDataKeyRequest {
                key: name.clone(),
                size: DataKeySize::Bytes(16),
                context: EncryptionContext::default(),
            };
            let open = DecryptRequest { key: Some(name.clone()), ..decryption(&blob) };
            let moved = ReEncryptRequest {
                source_key: None,
                ciphertext_blob: blob.clone().into(),
                source_context: EncryptionContext::default(),
                destination_key: name.clone(),
                destination_context: EncryptionContext::default(),
            };
            let refused = [
                app.call(encryption(name.clone(), b"x")).unwrap_err(),
                app.call(data_key.clone()).unwrap_err(),
                app.call(open.clone()).unwrap_err(),
                app.call(moved.clone()).unwrap_err(),
            ];
            assert_eq!(refused, [denied.clone(), denied.clone(), denied.clone(), denied.clone()], "{name}");
            assert_eq!(admin.call(encryption(name.clone(), b"x")).unwrap_err().code, Code::NotFound);
            assert_eq!(admin.call(data_key).unwrap_err().code, Code::NotFound);
            assert_eq!(admin.call(open).unwrap_err().code, Code::NotFound);
            assert_eq!(admin.call(moved).unwrap_err().code, Code::NotFound);
        }
        // A blob that names a key that isn't there is a ciphertext that doesn't open.
        let mut elsewhere = blob;
        elsewhere[8] ^= 1;
        assert_eq!(app.decrypt(&elsewhere), Err(Code::InvalidCiphertext));
        assert_eq!(admin.decrypt(&elsewhere), Err(Code::InvalidCiphertext));
        assert!(app.call(encryption(KeyRef::Alias("alias/known".into()), b"x")).is_ok());
    });
}

#[test]
fn sockets_and_state_are_for_their_owner_alone() {
    on_both_tokens(|daemon| {
        let site = daemon.site();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&site.admin_socket()), 0o600);
        assert_eq!(mode(&site.app_socket()), 0o600);
        assert_eq!(mode(&site.state_dir()), 0o700);
        assert_eq!(mode(&claviger_tests::audit::path(site)), 0o600);
    });
}
