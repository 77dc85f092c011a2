//! SM keys keep what PKCS#11 promises of keys: they are as secret, as usable and as
//! lasting as their attributes and their session say.

use crate::common::{CURVE, Token, key_type, on, plain, refusal, secret, with};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::UserType;

const MESSAGE: [u8; 32] = [0x5A; 32];
const SM4: u64 = 0x7504;
const SM2: u64 = 0x7502;

fn private_template() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(key_type(SM2)),
        Attribute::Token(false),
        Attribute::Sign(true),
        Attribute::Extractable(false),
    ]
}

fn generate(token: &Token, more: &[Attribute]) -> ObjectHandle {
    let mut template = vec![Attribute::Token(false)];
    template.extend_from_slice(more);
    token.session.generate_key(&plain(0x7540), &template).unwrap()
}

#[test]
fn a_sensitive_key_is_not_read() {
    on(&["complete"], "keys::a_sensitive_key_is_not_read", |token| {
        let (_, private) = token.sm2_pair(0x7520, false);
        let hidden = generate(token, &[Attribute::Extractable(true)]);
        let kept = generate(token, &[Attribute::Sensitive(false)]);
        let open = generate(token, &[Attribute::Sensitive(false), Attribute::Extractable(true)]);
        for key in [private, hidden, kept] {
            let info = token.session.get_attribute_info(key, &[AttributeType::Value]).unwrap();
            assert!(matches!(info.as_slice(), [AttributeInfo::Sensitive]));
        }
        let value = token.session.get_attributes(open, &[AttributeType::Value]).unwrap();
        assert!(matches!(value.as_slice(), [Attribute::Value(bytes)] if bytes.len() == 16));
        let wanted = [AttributeType::Local, AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
        let of = |key| token.session.get_attributes(key, &wanted).unwrap();
        let said =
            |a, b, c| [Attribute::Local(a), Attribute::AlwaysSensitive(b), Attribute::NeverExtractable(c)];
        assert_eq!(of(private), said(true, true, true));
        assert_eq!(of(hidden), said(true, true, false));
        assert_eq!(of(token.known_sm4(key_type(SM4), &[1; 16])), said(false, false, false));
    });
}

/// In this process and out of it: what is wrapped under a key of the token is unwrapped
/// by the next process, sensitive again, and is the same key.
#[test]
fn a_wrapped_key_comes_back_in_another_process() {
    let name = "keys::a_wrapped_key_comes_back_in_another_process";
    on(&["complete", "complete"], name, |token| {
        let session = &token.session;
        if !std::path::Path::new("pair").exists() {
            let root = token.root(true);
            let (public, private) = token.sm2_pair(0x7520, true);
            let known = token.known_sm4(key_type(SM4), &[9; 16]);
            std::fs::write("pair", session.wrap_key(&Mechanism::AesKeyWrapPad, root, private).unwrap())
                .unwrap();
            std::fs::write("sm4", session.wrap_key(&Mechanism::AesKeyWrap, root, known).unwrap()).unwrap();
            let point = session.get_attributes(public, &[AttributeType::EcPoint]).unwrap();
            let [Attribute::EcPoint(point)] = point.as_slice() else { panic!("{point:?}") };
            return std::fs::write("point", point).unwrap();
        }
        let root = session.find_objects(&[Attribute::Id(b"root".to_vec())]).unwrap()[0];
        let wrapped = std::fs::read("pair").unwrap();
        let private =
            session.unwrap_key(&Mechanism::AesKeyWrapPad, root, &wrapped, &private_template()).unwrap();
        let public = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(key_type(SM2)),
            Attribute::EcParams(CURVE.to_vec()),
            Attribute::EcPoint(std::fs::read("point").unwrap()),
            Attribute::Verify(true),
        ];
        let public = session.create_object(&public).unwrap();
        let signature = session.sign(&plain(0x7521), private, &MESSAGE).unwrap();
        session.verify(&plain(0x7521), public, &MESSAGE, &signature).unwrap();

        let wrapped = std::fs::read("sm4").unwrap();
        assert_eq!(wrapped.len(), 24);
        let key = session.unwrap_key(&Mechanism::AesKeyWrap, root, &wrapped, &secret(key_type(SM4))).unwrap();
        let known = token.known_sm4(key_type(SM4), &[9; 16]);
        let block = |key| session.encrypt(&plain(0x7541), key, &[3; 16]).unwrap();
        assert_eq!(block(key), block(known));
        let flags = session.get_attributes(key, &[AttributeType::Sensitive, AttributeType::Local]).unwrap();
        assert_eq!(flags, [Attribute::Sensitive(true), Attribute::Local(false)]);
    });
}

#[test]
fn what_is_not_the_wrapped_key_is_not_unwrapped() {
    on(&["complete"], "keys::what_is_not_the_wrapped_key_is_not_unwrapped", |token| {
        let (session, root) = (&token.session, token.root(false));
        let (_, private) = token.sm2_pair(0x7520, true);
        let sm4 = token.known_sm4(key_type(SM4), &[9; 16]);
        let pair = session.wrap_key(&Mechanism::AesKeyWrapPad, root, private).unwrap();
        let key = session.wrap_key(&Mechanism::AesKeyWrap, root, sm4).unwrap();
        for at in 0..key.len() {
            let mut flipped = key.clone();
            flipped[at] ^= 1;
            assert!(
                session.unwrap_key(&Mechanism::AesKeyWrap, root, &flipped, &secret(key_type(SM4))).is_err()
            );
        }
        let mut flipped = pair.clone();
        flipped[60] ^= 1;
        let unwrap = |blob: &[u8], template: &[Attribute]| {
            session.unwrap_key(&Mechanism::AesKeyWrapPad, root, blob, template)
        };
        assert!(unwrap(&flipped, &private_template()).is_err());
        // One kind of key as the other.
        assert_eq!(refusal(unwrap(&pair, &secret(key_type(SM4)))), RvError::WrappedKeyInvalid);
        let key = session.wrap_key(&Mechanism::AesKeyWrapPad, root, sm4).unwrap();
        assert_eq!(refusal(unwrap(&key, &private_template())), RvError::WrappedKeyInvalid);
        // A private key on another curve.
        let p256 =
            [Attribute::Token(false), Attribute::EcParams(hex::decode("06082a8648ce3d030107").unwrap())];
        let open = [Attribute::Token(false), Attribute::Extractable(true)];
        let (_, other) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &p256, &open).unwrap();
        let other = session.wrap_key(&Mechanism::AesKeyWrapPad, root, other).unwrap();
        assert_eq!(refusal(unwrap(&other, &private_template())), RvError::WrappedKeyInvalid);
        // Nothing of any attempt is left in the module beneath.
        let left = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::GENERIC_SECRET)];
        assert!(session.find_objects(&left).unwrap().is_empty());
    });
}

#[test]
fn a_key_is_wrapped_only_where_it_may_be() {
    on(&["complete"], "keys::a_key_is_wrapped_only_where_it_may_be", |token| {
        let (session, root) = (&token.session, token.root(false));
        let (public, private) = token.sm2_pair(0x7520, false);
        let kept = generate(token, &[]);
        for key in [private, kept] {
            let refused = session.wrap_key(&Mechanism::AesKeyWrapPad, root, key);
            assert_eq!(refusal(refused), RvError::KeyUnextractable);
        }
        let open = token.known_sm4(key_type(SM4), &[1; 16]);
        let refused = session.wrap_key(&Mechanism::AesKeyWrapPad, open, open);
        assert_eq!(refusal(refused), RvError::WrappingKeyTypeInconsistent);
        assert!(session.wrap_key(&Mechanism::AesKeyWrapPad, root, public).is_err());
    });
}

#[test]
fn a_key_does_what_its_usage_says() {
    on(&["complete"], "keys::a_key_does_what_its_usage_says", |token| {
        let session = &token.session;
        let idle = generate(token, &[]);
        assert_eq!(
            refusal(session.encrypt(&plain(0x7541), idle, &[0; 16])),
            RvError::KeyFunctionNotPermitted
        );
        let sealing = generate(token, &[Attribute::Encrypt(true)]);
        assert_eq!(session.encrypt(&plain(0x7541), sealing, &[0; 16]).unwrap().len(), 16);
        assert_eq!(
            refusal(session.decrypt(&plain(0x7541), sealing, &[0; 16])),
            RvError::KeyFunctionNotPermitted
        );
        let public = [Attribute::Token(false), Attribute::EcParams(CURVE.to_vec())];
        let (public, private) =
            session.generate_key_pair(&plain(0x7520), &public, &[Attribute::Token(false)]).unwrap();
        assert_eq!(
            refusal(session.sign(&plain(0x7521), private, &MESSAGE)),
            RvError::KeyFunctionNotPermitted
        );
        assert_eq!(refusal(session.encrypt(&plain(0x7523), public, b"a")), RvError::KeyFunctionNotPermitted);
        // A public key doesn't sign, a private one doesn't verify, whatever they may.
        let (public, private) = token.sm2_pair(0x7520, false);
        assert_eq!(refusal(session.sign(&plain(0x7521), public, &MESSAGE)), RvError::KeyTypeInconsistent);
        assert_eq!(
            refusal(session.verify(&plain(0x7521), private, &MESSAGE, &[0; 70])),
            RvError::KeyTypeInconsistent
        );
        assert_eq!(
            refusal(session.sign(&with(0x7521, &[0u8; 4]), private, &MESSAGE)),
            RvError::MechanismParamInvalid
        );
    });
}

#[test]
fn templates_that_cannot_be_kept_are_refused() {
    on(&["complete"], "keys::templates_that_cannot_be_kept_are_refused", |token| {
        let session = &token.session;
        let sm4 = |more: Vec<Attribute>| {
            let mut template =
                vec![Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(key_type(SM4))];
            template.extend(more);
            refusal(session.create_object(&template))
        };
        let value = || Attribute::Value(vec![1; 16]);
        assert_eq!(sm4(vec![]), RvError::TemplateIncomplete);
        assert_eq!(sm4(vec![Attribute::Value(vec![1; 15])]), RvError::AttributeValueInvalid);
        assert_eq!(sm4(vec![value(), Attribute::Token(true)]), RvError::AttributeValueInvalid);
        assert_eq!(sm4(vec![value(), Attribute::Modifiable(true)]), RvError::AttributeValueInvalid);
        assert_eq!(sm4(vec![value(), Attribute::Modulus(vec![1])]), RvError::AttributeTypeInvalid);
        assert_eq!(sm4(vec![value(), Attribute::Local(true)]), RvError::AttributeTypeInvalid);
        assert_eq!(sm4(vec![value(), value()]), RvError::TemplateInconsistent);
        let pair = |public: &[Attribute]| refusal(session.generate_key_pair(&plain(0x7520), public, &[]));
        let p256 = hex::decode("06082a8648ce3d030107").unwrap();
        assert_eq!(pair(&[Attribute::EcParams(p256)]), RvError::AttributeValueInvalid);
        assert_eq!(pair(&[Attribute::KeyType(KeyType::EC)]), RvError::TemplateInconsistent);
        assert_eq!(pair(&[Attribute::Sign(true)]), RvError::AttributeTypeInvalid);
        let public = |point: Vec<u8>| {
            let template = [
                Attribute::Class(ObjectClass::PUBLIC_KEY),
                Attribute::KeyType(key_type(SM2)),
                Attribute::EcParams(CURVE.to_vec()),
                Attribute::EcPoint(point),
            ];
            refusal(session.create_object(&template))
        };
        // Not on the curve; no octet string; the point at infinity.
        assert_eq!(public([&[4, 65, 4][..], &[1; 64]].concat()), RvError::AttributeValueInvalid);
        assert_eq!(public([&[4][..], &[1; 64]].concat()), RvError::AttributeValueInvalid);
        assert_eq!(public(vec![4, 1, 0]), RvError::AttributeValueInvalid);
        let private = |value: Vec<u8>| {
            let mut template = private_template();
            template.extend([Attribute::EcParams(CURVE.to_vec()), Attribute::Value(value)]);
            session.create_object(&template)
        };
        assert_eq!(refusal(private(vec![0; 32])), RvError::AttributeValueInvalid);
        assert_eq!(refusal(private(vec![0xFF; 32])), RvError::AttributeValueInvalid);
        assert_eq!(refusal(private(vec![1; 33])), RvError::AttributeValueInvalid);
        assert!(private(vec![1]).is_ok());
    });
}

#[test]
fn a_key_ends_with_its_session_and_its_login() {
    on(&["complete"], "keys::a_key_ends_with_its_session_and_its_login", |token| {
        let session = &token.session;
        let other = token.pkcs11.open_ro_session(token.slot).unwrap();
        let template = [Attribute::Token(false), Attribute::Encrypt(true), Attribute::Label(b"x".to_vec())];
        let theirs = other.generate_key(&plain(0x7540), &template).unwrap();
        let ours = generate(token, &[Attribute::Encrypt(true), Attribute::Label(b"x".to_vec())]);
        let block = |key| session.encrypt(&plain(0x7541), key, &[0; 16]);
        // Seen by every session of the application, while its own lasts.
        let labelled = [Attribute::Label(b"x".to_vec())];
        assert_eq!(session.find_objects(&labelled).unwrap(), [theirs, ours]);
        block(theirs).unwrap();
        drop(other);
        assert_eq!(refusal(block(theirs)), RvError::KeyHandleInvalid);
        block(ours).unwrap();
        session.destroy_object(ours).unwrap();
        assert_eq!(refusal(session.destroy_object(ours)), RvError::ObjectHandleInvalid);
        assert_eq!(refusal(block(ours)), RvError::KeyHandleInvalid);
        let last = generate(token, &[Attribute::Encrypt(true)]);
        assert!(last != ours && last != theirs, "a handle was given twice");
        session.logout().unwrap();
        assert_eq!(refusal(block(last)), RvError::KeyHandleInvalid);
        assert_eq!(refusal(session.generate_key(&plain(0x7540), &template)), RvError::UserNotLoggedIn);
        session.login(UserType::User, Some(&crate::common::pin())).unwrap();
        assert_eq!(refusal(block(last)), RvError::KeyHandleInvalid);
    });
}

#[test]
fn a_key_is_neither_changed_nor_copied() {
    on(&["complete"], "keys::a_key_is_neither_changed_nor_copied", |token| {
        let key = generate(token, &[]);
        let more = [Attribute::Extractable(true)];
        assert_eq!(refusal(token.session.update_attributes(key, &more)), RvError::AttributeReadOnly);
        assert_eq!(refusal(token.session.copy_object(key, &more)), RvError::ActionProhibited);
    });
}

/// One session a thread, as PKCS#11 wants it: nobody gets another's operation or result.
#[test]
fn sessions_work_beside_each_other() {
    on(&["complete"], "keys::sessions_work_beside_each_other", |token| {
        let (public, private) = token.sm2_pair(0x7520, false);
        let sessions: Vec<_> = (0..4).map(|_| token.pkcs11.open_ro_session(token.slot).unwrap()).collect();
        // They end together, after all work: SoftHSM can crash otherwise (SoftHSMv2 #688).
        let ended = std::thread::scope(|scope| {
            let workers: Vec<_> = sessions
                .into_iter()
                .zip(0_u8..)
                .map(|(session, number)| {
                    scope.spawn(move || {
                        let key = session.generate_key(&plain(0x7540), &secret(key_type(SM4))[2..]).unwrap();
                        for round in 0..40 {
                            let digest = [number ^ round; 32];
                            let signature = session.sign(&plain(0x7521), private, &digest).unwrap();
                            session.verify(&plain(0x7521), public, &digest, &signature).unwrap();
                            let text = [number; 48];
                            let sealed = session.encrypt(&with(0x7542, &[round; 16]), key, &text).unwrap();
                            let opened = session.decrypt(&with(0x7542, &[round; 16]), key, &sealed).unwrap();
                            assert_eq!(opened, text);
                        }
                        session
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(ended.len(), 4);
    });
}

/// All that a daemon's root needs beside SM, through the shim.
#[test]
fn the_module_beneath_is_whole() {
    on(&["complete"], "keys::the_module_beneath_is_whole", |token| {
        let session = &token.session;
        let (root, open) = (
            token.root(false),
            [
                Attribute::Token(false),
                Attribute::Extractable(true),
                Attribute::ValueLen(32.into()),
                Attribute::Derive(true),
            ],
        );
        let key = session.generate_key(&Mechanism::AesKeyGen, &open).unwrap();
        for mechanism in [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad] {
            let wrapped = session.wrap_key(&mechanism, root, key).unwrap();
            let template = secret(KeyType::AES);
            session.unwrap_key(&mechanism, root, &wrapped, &template).unwrap();
        }
        let listed = token.pkcs11.get_mechanism_list(token.slot).unwrap();
        for number in [0x1105, 0x1087, 0x108A, 0x0, 0x9] {
            assert!(listed.iter().any(|mechanism| **mechanism == number), "{number:X}");
        }
    });
}
