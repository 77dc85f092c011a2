//! What every operation does, on both tokens and at both protection levels.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    CreateKeyRequest, DescribeBlobRequest, DescribeKeyRequest, DisableKeyRequest, EnableKeyRequest,
    EncryptRequest, GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, GetRandomRequest,
    ListKeysRequest, PingRequest, ReEncryptRequest,
};
use claviger_protocol::names::{Tag, Tags};
use claviger_protocol::values::{MemberState, ServiceState};
use claviger_protocol::{
    Alias, Code, DataKeySize, DataKeySpec, Description, EncryptionContext, KeyOrigin, KeyRef, KeySpec,
    KeyState, KeyUsage, ProjectName, Protection, Suite,
};
use claviger_tests::keys::{LEVELS, context, decryption, encryption, list_request, new_key};
use claviger_tests::pairs::software_only;
use claviger_tests::{Daemon, Wire, on_both_tokens};
use uuid::Uuid;

fn tags(pairs: &[(&str, &str)]) -> Tags {
    let tags: Vec<Tag> = pairs.iter().map(|(key, value)| Tag::new(*key, *value).unwrap()).collect();
    Tags::try_from(tags).unwrap()
}

fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[test]
fn create_and_describe_show_every_field() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for level in LEVELS {
            let before = now_ms();
            let alias = format!("alias/{}", level.name().to_lowercase());
            let made = wire
                .call(CreateKeyRequest {
                    usage: Some(KeyUsage::EncryptDecrypt),
                    alias: Some(Alias::new(&alias).unwrap()),
                    description: Description::new("für Zahlungen 支付").unwrap(),
                    tags: tags(&[("z", "last"), ("env", "prod")]),
                    ..new_key(level)
                })
                .unwrap();
            let shown = wire.describe(made.key_id);
            assert_eq!(wire.describe(KeyRef::Alias(alias.clone())), shown);
            assert_eq!(shown.key_id, made.key_id);
            assert_eq!((shown.spec, shown.usage), (KeySpec::Aes256, KeyUsage::EncryptDecrypt));
            assert_eq!((shown.state, shown.protection), (KeyState::Enabled, level));
            assert_eq!((shown.origin, shown.project.as_str()), (KeyOrigin::Kms, "default"));
            assert_eq!(shown.description.as_str(), "für Zahlungen 支付");
            assert_eq!(shown.aliases, [alias]);
            assert_eq!(shown.tags, tags(&[("env", "prod"), ("z", "last")]));
            assert!((before..=now_ms()).contains(&shown.created_at), "{}", shown.created_at);
            let uid = nix::unistd::getuid();
            assert_eq!(shown.created_by, format!("admin:uid={uid}"));
            assert!(made.key_version_id.is_some());
            assert_eq!((shown.primary_version_id, shown.version_count), (made.key_version_id, 1));
            assert_eq!((shown.rotation, shown.deletion_date), (None, None));
            assert_eq!((shown.deletion_protection, shown.material_expires_at), (false, None));
            assert_eq!(shown.sm2_user_id, None);
            assert!(!shown.assurance.hardware, "neither token is hardware, and neither says so");
            assert_eq!(shown.assurance.members, [wire.status().pool[0].name.clone()]);
        }
        let unknown = wire.call(DescribeKeyRequest { key: Uuid::from_u128(7).into() });
        assert_eq!(unknown.unwrap_err().code, Code::NotFound);
    });
}

#[test]
fn what_cannot_be_made_is_refused_by_name() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let plain = || new_key(Protection::Hsm);
        let alias = Some(Alias::new("alias/taken").unwrap());
        wire.call(CreateKeyRequest { alias: alias.clone(), ..plain() }).unwrap();
        let cases = [
            (CreateKeyRequest { alias, ..plain() }, Code::AlreadyExists),
            (
                CreateKeyRequest { origin: KeyOrigin::External, rotation_days: Some(30), ..plain() },
                Code::InvalidArgument,
            ),
            (
                CreateKeyRequest { spec: KeySpec::EcP256, rotation_days: Some(30), ..plain() },
                Code::InvalidArgument,
            ),
            (CreateKeyRequest { spec: KeySpec::Sm4, ..plain() }, Code::UnsupportedByHsm),
            (CreateKeyRequest { usage: Some(KeyUsage::SignVerify), ..plain() }, Code::InvalidArgument),
            (CreateKeyRequest { sm2_user_id: Some(vec![1].into()), ..plain() }, Code::InvalidArgument),
            (CreateKeyRequest { project: ProjectName::new("other").unwrap(), ..plain() }, Code::NotFound),
        ];
        for (request, want) in cases {
            let refusal = wire.call(request.clone()).unwrap_err();
            assert_eq!(refusal.code, want, "{request:?}: {}", refusal.message);
        }
        assert_eq!(wire.list_all().len(), 1);
    });
}

#[test]
fn encrypt_and_decrypt_round_trip_on_both_endpoints() {
    on_both_tokens(|daemon| {
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        for (level, suite) in LEVELS.into_iter().zip([Suite::HsmAes256Derived, Suite::SoftwareAes256]) {
            let alias = Alias::new(format!("alias/{}", suite.name())).unwrap();
            let by_alias = KeyRef::Alias(alias.as_str().into());
            let made = admin.call(CreateKeyRequest { alias: Some(alias), ..new_key(level) }).unwrap();
            let context = context(&[("a", "1"), ("ü", "")]);
            let request = EncryptRequest { context: context.clone(), ..encryption(by_alias, b"hello") };
            let sealed = app.call(request.clone()).unwrap();
            assert_eq!((sealed.key_id, Some(sealed.key_version_id)), (made.key_id, made.key_version_id));
            let open =
                claviger_protocol::body::DecryptRequest { context, ..decryption(&sealed.ciphertext_blob.0) };
            for wire in [&mut admin, &mut app] {
                let opened = wire.call(open.clone()).unwrap();
                assert_eq!(opened.plaintext.expose(), b"hello");
                assert_eq!((opened.key_id, Some(opened.key_version_id)), (made.key_id, made.key_version_id));
            }
            // Never the same twice, and the plaintext isn't in it.
            let again = app.call(request).unwrap().ciphertext_blob;
            assert_ne!(again, sealed.ciphertext_blob);
            assert!(!again.0.windows(5).any(|window| window == b"hello"));

            let described = app.call(DescribeBlobRequest { ciphertext_blob: again }).unwrap();
            assert_eq!(
                (described.key_id, Some(described.key_version_id)),
                (made.key_id, made.key_version_id)
            );
            assert_eq!((described.suite, described.spec), (suite, KeySpec::Aes256));
            assert_eq!(described.plaintext_len, 5);
        }
        let rubbish = app.call(DescribeBlobRequest { ciphertext_blob: b"CLVB".to_vec().into() });
        assert_eq!(rubbish.unwrap_err().code, Code::InvalidCiphertext);
    });
}

#[test]
fn re_encrypt_moves_between_keys_levels_and_contexts() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let keys = LEVELS.map(|level| wire.create(level));
        for (from, to) in [(0, 1), (1, 0), (0, 0), (1, 1)].map(|(a, b)| (keys[a], keys[b])) {
            let (old, new) = (context(&[("v", "old")]), context(&[("v", "new")]));
            let request = EncryptRequest { context: old.clone(), ..encryption(from, b"moved") };
            let blob = wire.call(request).unwrap().ciphertext_blob;
            let request = ReEncryptRequest {
                source_key: Some(from.into()),
                ciphertext_blob: blob.clone(),
                source_context: old.clone(),
                destination_key: to.into(),
                destination_context: new.clone(),
            };
            let moved = wire.call(request.clone()).unwrap();
            assert_eq!((moved.source_key_id, moved.key_id), (from, to));
            assert_ne!(moved.ciphertext_blob, blob);
            let open = |context: &EncryptionContext| claviger_protocol::body::DecryptRequest {
                context: context.clone(),
                ..decryption(&moved.ciphertext_blob.0)
            };
            let opened = wire.call(open(&new)).unwrap();
            assert_eq!((opened.plaintext.expose(), opened.key_id), (&b"moved"[..], to));
            assert_eq!(opened.key_version_id, moved.key_version_id);
            assert_eq!(wire.call(open(&old)).unwrap_err().code, Code::InvalidCiphertext);
            let wrong = ReEncryptRequest { source_context: new, ..request.clone() };
            assert_eq!(wire.call(wrong).unwrap_err().code, Code::InvalidCiphertext);
            let other = if from == keys[0] { keys[1] } else { keys[0] };
            let wrong = ReEncryptRequest { source_key: Some(other.into()), ..request };
            assert_eq!(wire.call(wrong).unwrap_err().code, Code::InvalidCiphertext);
        }
    });
}

#[test]
fn data_keys_have_the_size_asked_for_and_unwrap_to_themselves() {
    on_both_tokens(|daemon| {
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        for level in LEVELS {
            let key = KeyRef::Id(admin.create(level));
            for (size, len) in [
                (DataKeySize::Spec(DataKeySpec::Aes256), 32),
                (DataKeySize::Spec(DataKeySpec::Aes128), 16),
                (DataKeySize::Spec(DataKeySpec::Sm4), 16),
                (DataKeySize::Bytes(1), 1),
                (DataKeySize::Bytes(1024), 1024),
            ] {
                let context = context(&[("for", "data")]);
                let request = GenerateDataKeyRequest { key: key.clone(), size, context: context.clone() };
                let made = app.call(request.clone()).unwrap();
                assert_eq!(made.plaintext.len(), len);
                assert!(len < 16 || app.call(request).unwrap().plaintext != made.plaintext);
                let open = |blob: &[u8]| claviger_protocol::body::DecryptRequest {
                    context: context.clone(),
                    ..decryption(blob)
                };
                let opened = app.call(open(&made.ciphertext_blob.0)).unwrap();
                assert_eq!(opened.plaintext, made.plaintext);
                let request = GenerateDataKeyWithoutPlaintextRequest {
                    key: key.clone(),
                    size,
                    context: context.clone(),
                };
                let hidden = app.call(request).unwrap();
                assert_eq!(app.call(open(&hidden.ciphertext_blob.0)).unwrap().plaintext.len(), len);
            }
        }
    });
}

#[test]
fn random_and_ping_answer_at_their_limits_and_no_further() {
    on_both_tokens(|daemon| {
        let mut app = daemon.app();
        for length in [1, 31, 4096] {
            let first = app.call(GetRandomRequest { length }).unwrap().random;
            assert_eq!(first.len(), usize::from(length));
            assert!(length == 1 || app.call(GetRandomRequest { length }).unwrap().random != first);
        }
        for length in [0, 4097, u16::MAX] {
            let refusal = app.call(GetRandomRequest { length }).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidArgument, "{length}");
        }
        for len in [0, 4096] {
            let payload = vec![0xa5; len];
            let reply = app.call(PingRequest { payload: payload.clone().into() }).unwrap();
            assert_eq!((reply.payload.0, reply.version.as_str()), (payload, env!("CARGO_PKG_VERSION")));
        }
        let over = PingRequest { payload: vec![0; 4097].into() };
        assert_eq!(app.call(over).unwrap_err().code, Code::InvalidArgument);
    });
}

/// Five keys: three HSM, two SOFTWARE; the second disabled; the odd ones tagged.
fn five_keys(wire: &mut Wire) -> Vec<Uuid> {
    let mut keys = Vec::new();
    for n in 0..5 {
        let level = if n < 3 { Protection::Hsm } else { Protection::Software };
        let tags = tags(if n % 2 == 1 { &[("odd", "yes")] } else { &[] });
        keys.push(wire.call(CreateKeyRequest { tags, ..new_key(level) }).unwrap().key_id);
    }
    wire.switch(keys[1], false);
    keys
}

#[test]
fn lists_are_paged_in_order_and_filtered() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        assert_eq!(wire.list_all(), []);
        let made = five_keys(&mut wire);
        let mut sorted = made.clone();
        sorted.sort_unstable();
        for limit in [1, 2, 5, 1000] {
            let mut seen = Vec::new();
            let mut page = Vec::new();
            loop {
                let reply = wire.call(list_request(limit, page)).unwrap();
                assert!(reply.keys.len() <= usize::from(limit));
                seen.extend(reply.keys.iter().map(|key| key.key_id));
                page = reply.next_page.0;
                if page.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, sorted, "limit {limit}");
        }
        let of = |wire: &mut Wire, request: ListKeysRequest| {
            let keys = wire.call(request).unwrap().keys;
            keys.iter()
                .map(|key| made.iter().position(|id| *id == key.key_id).unwrap())
                .fold(0, |set, n| set | 1 << n)
        };
        let all = || list_request(0, Vec::new());
        let odd = Tag::new("odd", "yes").unwrap();
        for (request, want) in [
            (all(), 0b11111),
            (ListKeysRequest { state: Some(KeyState::Disabled), ..all() }, 0b00010),
            (ListKeysRequest { state: Some(KeyState::Enabled), ..all() }, 0b11101),
            (ListKeysRequest { state: Some(KeyState::PendingDeletion), ..all() }, 0),
            (ListKeysRequest { spec: Some(KeySpec::Aes256), ..all() }, 0b11111),
            (ListKeysRequest { spec: Some(KeySpec::Sm4), ..all() }, 0),
            (ListKeysRequest { tag: Some(odd.clone()), ..all() }, 0b01010),
            (ListKeysRequest { tag: Some(Tag::new("odd", "no").unwrap()), ..all() }, 0),
            (ListKeysRequest { tag: Some(odd), state: Some(KeyState::Enabled), ..all() }, 0b01000),
            (ListKeysRequest { project: Some(ProjectName::default()), ..all() }, 0b11111),
        ] {
            assert_eq!(of(&mut wire, request.clone()), want, "{request:?}");
        }
        for bad in [list_request(1001, Vec::new()), list_request(1, vec![1]), list_request(1, vec![1; 65])] {
            assert_eq!(wire.call(bad.clone()).unwrap_err().code, Code::InvalidArgument, "{bad:?}");
        }
    });
}

#[test]
fn enable_and_disable_answer_for_each_key_and_say_whether_they_changed_it() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let (on, off) = (wire.create(Protection::Hsm), wire.create(Protection::Software));
        wire.switch(off, false);
        let nobody = KeyRef::Id(Uuid::from_u128(1));
        let keys = vec![on.into(), off.into(), nobody.clone(), on.into()];
        let disabled = wire.call(DisableKeyRequest { keys: keys.clone() }).unwrap().results;
        let short: Vec<_> = disabled.iter().map(|r| (r.key.clone(), r.status, r.state, r.changed)).collect();
        let (ok, missing) = (Code::Ok.number(), Code::NotFound.number());
        assert_eq!(
            short,
            [
                (on.into(), ok, Some(KeyState::Disabled), true),
                (off.into(), ok, Some(KeyState::Disabled), false),
                (nobody, missing, None, false),
                (on.into(), ok, Some(KeyState::Disabled), false),
            ]
        );
        assert!(disabled.iter().all(|result| result.message.is_empty() == (result.status == ok)));
        let enabled = wire.call(EnableKeyRequest { keys }).unwrap().results;
        let changed: Vec<_> = enabled.iter().map(|result| (result.status, result.changed)).collect();
        assert_eq!(changed, [(ok, true), (ok, true), (missing, false), (ok, false)]);
        for keys in [vec![], vec![KeyRef::Id(on); 101]] {
            assert_eq!(wire.call(EnableKeyRequest { keys }).unwrap_err().code, Code::InvalidArgument);
        }
    });
}

#[test]
fn status_tells_what_an_operator_asks() {
    on_both_tokens(|daemon: &Daemon| {
        let mut wire = daemon.admin();
        let keys = five_keys(&mut wire);
        let status = wire.status();
        assert_eq!((status.state, status.reason.as_str()), (ServiceState::Serving, ""));
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
        assert!(!status.domain_id.is_nil() && status.root_generation == 1);
        let counts: Vec<_> = status.keys.iter().map(|count| (count.state, count.spec, count.count)).collect();
        assert_eq!(
            counts,
            [(KeyState::Enabled, KeySpec::Aes256, 4), (KeyState::Disabled, KeySpec::Aes256, 1)]
        );
        assert_eq!(status.pool.len(), 1);
        let member = &status.pool[0];
        assert_eq!((member.state, member.reason.as_str()), (MemberState::Up, ""));
        assert_eq!((member.profile.as_str(), member.hardware), (daemon.site().token().profile(), false));
        assert_eq!(member.specs.len(), KeySpec::ALL.len());
        for spec in &member.specs {
            assert_eq!(spec.available, !software_only(spec.spec), "{}: {}", spec.spec, spec.reason);
            assert_eq!(spec.available, spec.reason.is_empty(), "{}: {}", spec.spec, spec.reason);
        }
        assert_eq!(status.recovery_recipients, 0);
        let warned = |word: &str| status.warnings.iter().any(|warning| warning.contains(word));
        assert!(warned("recovery") && warned("software"), "{:?}", status.warnings);
        wire.switch(keys[1], true);
        assert_eq!(wire.status().keys.iter().map(|count| count.count).collect::<Vec<_>>(), [5]);
        assert!(wire.status().uptime_ms >= status.uptime_ms);
    });
}
