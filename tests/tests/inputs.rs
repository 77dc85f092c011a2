//! Requests that are frames and say what may not be said: names out of rule, sizes
//! over their limits, contexts that aren't canonical, blobs that were cut, flipped,
//! spliced or made elsewhere, keys that are switched off.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    DecryptRequest, DescribeBlobRequest, EncryptRequest, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, ReEncryptRequest,
};
use claviger_protocol::{
    Code, DataKeySize, EncryptionContext, KeyRef, KeyState, Opcode, Protection, SecretBytes,
};
use claviger_tests::keys::{LEVELS, client_token, context, decryption, encryption};
use claviger_tests::{Refusal, Site, Wire, on_both_tokens};
use uuid::Uuid;

/// A body written by hand from SPEC.md section 7.1: the types of the protocol crate
/// can't hold what these tests send.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn count(self, count: usize) -> Self {
        self.raw(&(count as u64).to_le_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.count(bytes.len()).raw(bytes)
    }

    fn option(self, text: Option<&str>) -> Self {
        match text {
            None => self.raw(&[0]),
            Some(text) => self.raw(&[1]).bytes(text.as_bytes()),
        }
    }
}

/// CreateKey of a SOFTWARE AES_256 key with these texts.
fn create_body(alias: Option<&str>, project: &str, description: &str, tags: &[(&str, &str)]) -> Vec<u8> {
    // usage: none; protection 2 SOFTWARE; origin 1 KMS
    let body = Body::default().raw(&client_token()).raw(&[1, 0, 2, 1]);
    let body = body.bytes(project.as_bytes()).option(alias).bytes(description.as_bytes()).count(tags.len());
    let tagged = |body: Body, (key, value): &(&str, &str)| body.bytes(key.as_bytes()).bytes(value.as_bytes());
    tags.iter().fold(body, tagged).raw(&[0, 0]).0
}

fn encrypt_body(key: Uuid, plaintext: &[u8], context: &[u8]) -> Vec<u8> {
    Body::default().bytes(key.to_string().as_bytes()).bytes(plaintext).bytes(context).0
}

fn send(wire: &mut Wire, opcode: Opcode, body: &[u8]) -> Code {
    let id = wire.send_body(opcode.number(), body);
    wire.wait(id).code()
}

/// Sends every blob at once, and collects how each was refused.
fn refusals(wire: &mut Wire, blobs: impl IntoIterator<Item = Vec<u8>>) -> Vec<Refusal> {
    let ids: Vec<u64> = blobs.into_iter().map(|blob| wire.send(decryption(&blob))).collect();
    ids.into_iter().map(|id| wire.wait(id).refusal()).collect()
}

/// Every one of them is the same answer, word for word.
fn all_are_the_one_refusal(refusals: &[Refusal]) {
    assert!(!refusals.is_empty());
    for (index, refusal) in refusals.iter().enumerate() {
        assert_eq!(refusal.code, Code::InvalidCiphertext, "blob {index}: {}", refusal.message);
        assert_eq!(refusal.message, refusals[0].message, "blob {index}");
    }
}

#[test]
fn names_out_of_rule_are_refused() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let long = "a".repeat(256);
        let simple = Uuid::from_u128(1).simple().to_string();
        for name in
            ["", "nonsense", "alias/", "alias/a b", "alias/é", "alias/a\0", "alias/a.b", &long, &simple]
        {
            let body = Body::default().bytes(name.as_bytes()).0;
            assert_eq!(send(&mut wire, Opcode::DescribeKey, &body), Code::InvalidArgument, "key {name:?}");
        }
        let not_utf8 = Body::default().bytes(b"alias/\xff").0;
        assert_eq!(send(&mut wire, Opcode::DescribeKey, &not_utf8), Code::Malformed);

        let long_alias = format!("alias/{}", "a".repeat(250));
        for alias in ["", "pay", "alias/", "alias/s3/default", "alias/a b", "alias/钥", &long_alias] {
            let body = create_body(Some(alias), "default", "", &[]);
            assert_eq!(send(&mut wire, Opcode::CreateKey, &body), Code::InvalidArgument, "alias {alias:?}");
        }
        for project in ["", "a b", "p\n", &long] {
            let body = create_body(None, project, "", &[]);
            assert_eq!(
                send(&mut wire, Opcode::CreateKey, &body),
                Code::InvalidArgument,
                "project {project:?}"
            );
        }
        for description in [&"司".repeat(256), "two\nlines", "\u{7f}"] {
            let body = create_body(None, "default", description, &[]);
            assert_eq!(send(&mut wire, Opcode::CreateKey, &body), Code::InvalidArgument, "{description:?}");
        }
        let (long_key, long_value) = ("k".repeat(129), "v".repeat(256));
        let many: Vec<String> = (0..21).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        for tags in
            [&[("", "v")][..], &[(&long_key, "")], &[("k", &long_value)], &[("k", "1"), ("k", "2")], &many]
        {
            let body = create_body(None, "default", "", tags);
            assert_eq!(send(&mut wire, Opcode::CreateKey, &body), Code::InvalidArgument, "{tags:?}");
        }
        assert_eq!(wire.list_all().len(), 0, "nothing refused was made");

        // The same bodies with what is allowed, at its limits.
        let alias = format!("alias/{}", "a".repeat(249));
        let tags: Vec<(&str, &str)> = many.iter().take(19).copied().chain([("钥", "v")]).collect();
        let body = create_body(Some(&alias), "default", &"司".repeat(255), &tags);
        assert_eq!(send(&mut wire, Opcode::CreateKey, &body), Code::Ok);
        assert_eq!(wire.describe(KeyRef::Alias(alias.clone())).aliases, [alias]);
    });
}

#[test]
fn plaintext_over_the_limit_is_refused() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for level in LEVELS {
            let key = wire.create(level);
            for len in [0, 1, 6143, 6144] {
                let plaintext = vec![0x5a; len];
                let blob = wire.encrypt(key, &plaintext);
                assert_eq!(wire.decrypt(&blob), Ok(plaintext), "{level}, {len} bytes");
            }
            for len in [6145, 65_536, 1_000_000] {
                let refusal = wire.call(encryption(key, &vec![0; len])).unwrap_err();
                assert_eq!(refusal.code, Code::PlaintextTooLarge, "{level}, {len} bytes");
                assert!(refusal.message.contains("data key"), "{}", refusal.message);
            }
        }
    });
}

#[test]
fn a_context_too_long_unsorted_duplicate_or_broken_is_refused() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let key = wire.create(Protection::Hsm);
        let padded = |len: usize| {
            let value = vec![b'v'; len - 2 - 2 - 1 - 2];
            let len = u16::try_from(value.len()).unwrap().to_le_bytes();
            [&b"\x01\x00\x01\x00k"[..], &len, &value].concat()
        };
        let (most, over) = (padded(8192), padded(8193));
        let bad: [(&str, &[u8]); 10] = [
            ("no bytes at all", b""),
            ("over 8 KiB", &over),
            ("unsorted", b"\x02\x00\x01\x00b\x00\x00\x01\x00a\x00\x00"),
            ("prefix after its extension", b"\x02\x00\x02\x00ab\x00\x00\x01\x00a\x00\x00"),
            ("duplicate", b"\x02\x00\x01\x00a\x01\x001\x01\x00a\x01\x002"),
            ("empty key", b"\x01\x00\x00\x00\x00\x00"),
            ("cut", b"\x01\x00\x05\x00a"),
            ("left over", b"\x00\x00x"),
            ("claims more pairs", b"\xff\xff\x01\x00a\x00\x00"),
            ("not UTF-8", b"\x01\x00\x01\x00\xff\x00\x00"),
        ];
        for (what, context) in bad {
            let refusal = wire.refused(Opcode::Encrypt.number(), &encrypt_body(key, b"x", context));
            assert_eq!(refusal.code, Code::InvalidArgument, "{what}");
        }
        assert_eq!(send(&mut wire, Opcode::Encrypt, &encrypt_body(key, b"x", &most)), Code::Ok);
        let sorted = b"\x02\x00\x01\x00a\x01\x001\x01\x00b\x01\x002";
        assert_eq!(send(&mut wire, Opcode::Encrypt, &encrypt_body(key, b"x", sorted)), Code::Ok);
    });
}

#[test]
fn a_wrong_context_opens_nothing() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for level in LEVELS {
            let key = wire.create(level);
            let right = context(&[("app", "pay"), ("tenant", "7")]);
            let request = EncryptRequest { context: right.clone(), ..encryption(key, b"secret") };
            let blob = wire.call(request).unwrap().ciphertext_blob;
            let open = |context: EncryptionContext| DecryptRequest { context, ..decryption(&blob.0) };
            assert_eq!(wire.call(open(right)).unwrap().plaintext.expose(), b"secret");
            let wrong = [
                context(&[]),
                context(&[("app", "pay")]),
                context(&[("app", "pay"), ("tenant", "8")]),
                context(&[("app", "pay"), ("tenant", "7"), ("x", "")]),
                context(&[("apptenant", "pay7")]),
            ];
            let refused: Vec<Refusal> =
                wrong.into_iter().map(|context| wire.call(open(context)).unwrap_err()).collect();
            all_are_the_one_refusal(&refused);
            // And one made without any context opens with none.
            let plain = wire.encrypt(key, b"secret");
            let refused = wire.call(DecryptRequest { context: context(&[("a", "")]), ..decryption(&plain) });
            assert_eq!(refused.unwrap_err().code, Code::InvalidCiphertext);
        }
    });
}

#[test]
fn a_blob_cut_at_any_length_or_flipped_at_any_byte_opens_nothing() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for level in LEVELS {
            let key = wire.create(level);
            let blob = wire.encrypt(key, b"sixteen bytes...");
            let cuts = (0..blob.len()).map(|len| blob[..len].to_vec());
            let flips = (0..blob.len()).flat_map(|at| {
                let blob = &blob;
                [0x01, 0x80].map(|bit| {
                    let mut flipped = blob.clone();
                    flipped[at] ^= bit;
                    flipped
                })
            });
            let longer = [[&blob[..], &[0]].concat()];
            let refused = refusals(&mut wire, cuts.chain(flips).chain(longer));
            assert_eq!(refused.len(), blob.len() * 3 + 1);
            all_are_the_one_refusal(&refused);
            assert_eq!(wire.decrypt(&blob), Ok(b"sixteen bytes...".to_vec()), "{level}: the whole one opens");
        }
    });
}

#[test]
fn a_blob_of_another_domain_opens_nothing() {
    on_both_tokens(|daemon| {
        let elsewhere = Site::new(daemon.site().token()).start();
        let (mut here, mut there) = (daemon.admin(), elsewhere.admin());
        assert_ne!(here.status().domain_id, there.status().domain_id);
        let mut foreign = Vec::new();
        for level in LEVELS {
            let (own, other) = (here.create(level), there.create(level));
            let blob = there.encrypt(other, b"secret");
            // As it is; and claiming to be of a key that this domain has.
            foreign.push(blob.clone());
            let mine = here.encrypt(own, b"secret");
            foreign.push([&mine[..40], &blob[40..]].concat());
            assert_eq!(there.decrypt(&blob), Ok(b"secret".to_vec()));
        }
        all_are_the_one_refusal(&refusals(&mut here, foreign));
        elsewhere.terminate();
    });
}

#[test]
fn another_keys_header_on_a_blob_opens_nothing() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let keys: Vec<Uuid> = LEVELS.iter().flat_map(|level| [*level; 2]).map(|l| wire.create(l)).collect();
        let blobs: Vec<Vec<u8>> = keys.iter().map(|key| wire.encrypt(*key, b"the same text")).collect();
        let mut spliced = Vec::new();
        for (a, header) in blobs.iter().enumerate() {
            for (b, rest) in blobs.iter().enumerate().filter(|(b, _)| *b != a) {
                // Suite, key and version of another; key and version; key; version.
                for (from, to) in [(5, 40), (8, 40), (8, 24), (24, 40)] {
                    let mut blob = rest.clone();
                    blob[from..to].copy_from_slice(&header[from..to]);
                    if blob != blobs[b] {
                        spliced.push(blob);
                    }
                }
            }
        }
        all_are_the_one_refusal(&refusals(&mut wire, spliced));
        // A right blob that isn't of the key the caller expects.
        for other in &keys[1..] {
            let wrong = DecryptRequest { key: Some(KeyRef::Id(*other)), ..decryption(&blobs[0]) };
            assert_eq!(wire.call(wrong).unwrap_err().code, Code::InvalidCiphertext);
        }
        let right = DecryptRequest { key: Some(KeyRef::Id(keys[0])), ..decryption(&blobs[0]) };
        assert_eq!(wire.call(right).unwrap().plaintext.expose(), b"the same text");
    });
}

#[test]
fn the_reserved_salt_opens_nothing() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let key = wire.create(Protection::Hsm);
        let mut blob = wire.encrypt(key, b"");
        assert_eq!(blob[5], 2, "both tokens derive");
        // The check value's own sub-key, nonce and text: its tag is never an oracle.
        blob[40..56].copy_from_slice(b"claviger/v1/chkv");
        blob[56..68].fill(0);
        all_are_the_one_refusal(&refusals(&mut wire, [blob.clone()]));
        let described = wire.call(DescribeBlobRequest { ciphertext_blob: blob.into() });
        assert_eq!(described.unwrap_err().code, Code::InvalidCiphertext);
    });
}

#[test]
fn a_disabled_key_does_nothing_until_it_is_enabled() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for level in LEVELS {
            let (key, other) = (wire.create(level), wire.create(level));
            let (blob, foreign) = (wire.encrypt(key, b"secret"), wire.encrypt(other, b"secret"));
            wire.switch(key, false);
            let size = DataKeySize::Bytes(16);
            let none = EncryptionContext::default;
            let re_encrypt = |blob: &[u8], to: Uuid| ReEncryptRequest {
                source_key: None,
                ciphertext_blob: blob.to_vec().into(),
                source_context: none(),
                destination_key: KeyRef::Id(to),
                destination_context: none(),
            };
            let refused = [
                wire.call(encryption(key, b"x")).unwrap_err(),
                wire.call(decryption(&blob)).unwrap_err(),
                wire.call(re_encrypt(&blob, other)).unwrap_err(),
                wire.call(re_encrypt(&foreign, key)).unwrap_err(),
                wire.call(GenerateDataKeyRequest { key: key.into(), size, context: none() }).unwrap_err(),
                wire.call(GenerateDataKeyWithoutPlaintextRequest { key: key.into(), size, context: none() })
                    .unwrap_err(),
            ];
            for refusal in refused {
                assert_eq!(refusal.code, Code::InvalidKeyState);
                assert!(refusal.message.contains("Disabled") && refusal.message.contains("enable"));
            }
            assert_eq!(wire.describe(key).state, KeyState::Disabled);
            // Its owner still sees what a blob is; others' keys work.
            assert_eq!(wire.decrypt(&foreign), Ok(b"secret".to_vec()));
            wire.switch(key, true);
            assert_eq!(wire.decrypt(&blob), Ok(b"secret".to_vec()));
            let plaintext = SecretBytes::new(b"again".to_vec());
            wire.call(EncryptRequest { plaintext, ..encryption(key, b"") }).unwrap();
        }
    });
}

#[test]
fn no_request_that_comes_after_a_disable_was_answered_is_served() {
    on_both_tokens(|daemon| {
        let (mut admin, mut app) = (daemon.admin(), daemon.app());
        for level in LEVELS {
            let key = admin.create(level);
            let blob = app.encrypt(key, b"warm");
            for _ in 0..25 {
                admin.switch(key, false);
                assert_eq!(app.decrypt(&blob), Err(Code::InvalidKeyState));
                admin.switch(key, true);
                assert_eq!(app.decrypt(&blob), Ok(b"warm".to_vec()));
            }
        }
    });
}
