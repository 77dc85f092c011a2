//! What somebody who holds the daemon's session can't get out of the token.

use claviger_protocol::KeySpec;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::RootId;
use crate::backend::hsm::calls;
use crate::backend::hsm::command::{Answer, Command, Template};
use crate::backend::hsm::login::{self, Opened};
use crate::backend::hsm::member::OpenError;
use crate::backend::hsm::roots::{self, Role};
use crate::backend::hsm::template::{self, Usage};

on_each_token!(
    roots_do_their_one_thing_and_cannot_be_read,
    roots_cannot_be_made_to_do_more,
    unwrapped_keys_do_their_one_thing_and_cannot_be_read,
    nothing_extractable_is_left_behind,
    a_planted_root_is_refused,
);

fn root_key(session: &Session, root: RootId, role: Role) -> ObjectHandle {
    let found = roots::objects(session, root.domain).unwrap();
    let (_, _, handle) = found.iter().find(|(g, r, _)| (*g, *r) == (root.generation, role)).unwrap();
    *handle
}

fn opened(token: Token) -> (Bench, RootId, Opened) {
    let bench = Bench::new(token);
    let root = bench.init(&[]);
    let opened = login::open(&bench.config).unwrap();
    (bench, root, opened)
}

fn value_is_hidden(session: &Session, key: ObjectHandle) {
    let read = session.get_attributes(key, &[AttributeType::Value]);
    assert!(read.as_ref().map_or(true, Vec::is_empty), "a key's value was read");
}

fn roots_do_their_one_thing_and_cannot_be_read(token: Token) {
    let (_bench, root, opened) = opened(token);
    for token in opened.tokens() {
        let session = &token.owner;
        let wrap = root_key(session, root, Role::Wrap);
        let seal = root_key(session, root, Role::Seal);
        let passing = template::passing_key(Usage::ENCRYPT);
        let key = session.generate_key(&Mechanism::AesKeyGen, &passing).unwrap();
        let blob = session.wrap_key(&Mechanism::AesKeyWrap, wrap, key).unwrap();
        // What the wrap root has wrapped, no cipher under it may open.
        for mechanism in [Mechanism::AesEcb, Mechanism::AesCbc([0; 16])] {
            assert!(session.decrypt(&mechanism, wrap, &blob[8..]).is_err());
            assert!(session.encrypt(&mechanism, wrap, &[0; 32]).is_err());
        }
        assert!(calls::gcm_seal(session, wrap, [0; 12], b"", b"x").is_err());
        assert!(session.sign(&Mechanism::AesCMac, wrap, b"x").is_err());
        assert!(calls::derive(session, wrap, &[0; 16]).is_err());
        // The seal root wraps and unwraps nothing.
        assert!(session.wrap_key(&Mechanism::AesKeyWrap, seal, key).is_err());
        let unwrapped = template::session_key(Usage::ENCRYPT);
        assert!(session.unwrap_key(&Mechanism::AesKeyWrap, seal, &blob, &unwrapped).is_err());
        assert!(calls::derive(session, seal, &[0; 16]).is_err());
        for root in [wrap, seal] {
            value_is_hidden(session, root);
            assert!(session.wrap_key(&Mechanism::AesKeyWrap, wrap, root).is_err());
            let bits = [AttributeType::Sensitive, AttributeType::Extractable, AttributeType::Token];
            let bits = session.get_attributes(root, &bits).unwrap();
            for wanted in [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Token(true)]
            {
                assert!(bits.contains(&wanted), "{bits:?}");
            }
        }
    }
}

fn roots_cannot_be_made_to_do_more(token: Token) {
    let (_bench, root, opened) = opened(token);
    let session = &opened.serve().owner;
    for role in Role::ALL {
        let key = root_key(session, root, role);
        for change in [Attribute::Sensitive(false), Attribute::Extractable(true)] {
            let _ = session.update_attributes(key, std::slice::from_ref(&change));
            if let Ok(copy) = session.copy_object(key, &[change, Attribute::Token(false)]) {
                value_is_hidden(session, copy);
            }
            value_is_hidden(session, key);
        }
        // SoftHSM2 has no unmodifiable unwrapped keys (its profile's quirk): whoever has
        // its PIN can give the root more usages, as the threat model says.
        if token == Token::Embedded {
            for change in [Attribute::Decrypt(true), Attribute::Unwrap(true), Attribute::Derive(true)] {
                assert!(session.update_attributes(key, &[change]).is_err());
            }
        }
    }
}

fn unwrapped_keys_do_their_one_thing_and_cannot_be_read(token: Token) {
    let (_bench, root, opened) = opened(token);
    let session = &opened.serve().owner;
    let wrap = root_key(session, root, Role::Wrap);
    let passing = template::passing_key(Usage::NONE);
    let key = session.generate_key(&Mechanism::AesKeyGen, &passing).unwrap();
    let blob = session.wrap_key(&Mechanism::AesKeyWrap, wrap, key).unwrap();
    let unwrap = |template| {
        let attributes = template::session_key(Usage::of(template));
        session.unwrap_key(&Mechanism::AesKeyWrap, wrap, &blob, &attributes).unwrap()
    };
    let deriving = unwrap(Template::AesDeriveOnly);
    assert!(calls::gcm_seal(session, deriving, [0; 12], b"", b"x").is_err());
    assert!(session.encrypt(&Mechanism::AesEcb, deriving, &[0; 16]).is_err());
    assert!(session.sign(&Mechanism::AesCMac, deriving, b"x").is_err());
    let subkey = calls::derive(session, deriving, &[1; 16]).unwrap();
    assert!(calls::derive(session, subkey, &[1; 16]).is_err());
    let direct = unwrap(Template::AesDirect);
    assert!(calls::derive(session, direct, &[1; 16]).is_err());
    for key in [deriving, subkey, direct] {
        value_is_hidden(session, key);
        assert!(session.wrap_key(&Mechanism::AesKeyWrap, wrap, key).is_err());
        assert!(session.wrap_key(&Mechanism::AesKeyWrap, key, key).is_err());
        let _ = session.update_attributes(key, &[Attribute::Extractable(true)]);
        let _ = session.update_attributes(key, &[Attribute::Sensitive(false)]);
        value_is_hidden(session, key);
    }
}

fn nothing_extractable_is_left_behind(token: Token) {
    let bench = Bench::new(token);
    let (root, member) = bench.ready();
    let opened = login::open(&bench.config).unwrap();
    let found = |wanted: &[Attribute]| {
        let each = opened.tokens().iter().map(|token| token.owner.find_objects(wanted).unwrap().len());
        each.sum::<usize>()
    };
    let generate = |spec, template| member.make.run_now(&Command::Generate { spec, template });
    for template in [Template::AesDeriveOnly, Template::AesDirect] {
        assert!(generate(KeySpec::Aes256, template).is_ok());
        assert!(generate(KeySpec::Rsa2048, template).is_err());
    }
    let Ok(Answer::Generated { wrapped, check_value }) = generate(KeySpec::Aes256, Template::AesDeriveOnly)
    else {
        panic!("no key")
    };
    let mut other = check_value;
    other[0] ^= 1;
    let template = Template::AesDeriveOnly;
    let unwrap = Command::Unwrap { wrapped, spec: KeySpec::Aes256, template, check_value: other };
    assert!(member.serve.run_now(&unwrap).is_err());
    // Session objects of one session are seen by all: there is none, of any kind, and
    // no token object but the roots.
    assert_eq!(found(&[Attribute::Extractable(true)]), 0);
    assert_eq!(found(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]), 0);
    assert_eq!(found(&[Attribute::Class(ObjectClass::PUBLIC_KEY)]), 0);
    assert_eq!(found(&[Attribute::Class(ObjectClass::SECRET_KEY)]), 2 * opened.tokens().len());
    assert_eq!(root.generation, 1);
}

fn a_planted_root_is_refused(token: Token) {
    let (bench, root, opened) = opened(token);
    let session = &opened.serve().owner;
    let next = RootId { generation: 2, ..root };
    let usages = [
        Usage { wrap: true, encrypt: true, ..Usage::NONE },
        Usage { wrap: true, derive: true, ..Usage::NONE },
    ];
    for usage in usages {
        let attributes = template::root_key(usage, &next.object_id(Role::Wrap), "planted", true);
        let mut attributes = attributes;
        attributes.push(template::aes_length());
        let planted = session.generate_key(&Mechanism::AesKeyGen, &attributes).unwrap();
        let refused = bench.open(Some(&root), 1).err();
        assert!(matches!(refused, Some(OpenError::Root(_))), "{refused:?}");
        session.destroy_object(planted).unwrap();
    }
    // The right attributes, but a second time.
    let mut twin = template::root_key(Usage::WRAP, &root.object_id(Role::Wrap), "twin", true);
    twin.push(template::aes_length());
    let twin = session.generate_key(&Mechanism::AesKeyGen, &twin).unwrap();
    let refused = bench.open(Some(&root), 1).err();
    assert!(matches!(&refused, Some(OpenError::Root(text)) if text.contains("twice")), "{refused:?}");
    session.destroy_object(twin).unwrap();
    assert!(bench.open(Some(&root), 1).is_ok());
}
