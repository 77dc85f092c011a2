//! HMAC secrets: made, wrapped, unwrapped and used, with software beside them.

use aws_lc_rs::hmac;
use claviger_protocol::{KeySpec, MacAlgorithm, SecretBytes};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType};
use cryptoki::session::Session;

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::RootId;
use crate::backend::hsm::command::{
    Answer, CheckValue, Command, HsmError, ObjectId, Template, WrapFormat, Wrapped,
};
use crate::backend::hsm::lane::Lane;
use crate::backend::hsm::login;
use crate::backend::hsm::roots::{self, Role};
use crate::backend::hsm::template::{self, Usage};

on_each_token!(
    a_known_secret_makes_the_macs_of_the_standard,
    new_secrets_come_back_and_altered_ones_do_not,
    a_secret_does_one_thing_and_cannot_be_read,
);

const SPECS: [(KeySpec, MacAlgorithm, hmac::Algorithm); 3] = [
    (KeySpec::Hmac256, MacAlgorithm::HmacSha256, hmac::HMAC_SHA256),
    (KeySpec::Hmac384, MacAlgorithm::HmacSha384, hmac::HMAC_SHA384),
    (KeySpec::Hmac512, MacAlgorithm::HmacSha512, hmac::HMAC_SHA512),
];

fn unwrap(
    lane: &Lane,
    wrapped: &Wrapped,
    spec: KeySpec,
    check_value: CheckValue,
) -> Result<ObjectId, HsmError> {
    let (wrapped, template) = (wrapped.clone(), Template::HmacSecret);
    match lane.run_now(&Command::Unwrap { wrapped, spec, template, check_value })? {
        Answer::Object(object) => Ok(object),
        other => panic!("{other:?}"),
    }
}

fn mac(object: ObjectId, algorithm: MacAlgorithm, message: &[u8]) -> Command {
    Command::Mac { object, algorithm, message: SecretBytes::new(message.to_vec()) }
}

/// A known secret under the token's own root.
fn wrap_known(session: &Session, root: RootId, secret: &[u8]) -> Wrapped {
    let found = roots::objects(session, root.domain).unwrap();
    let (_, _, wrap) = found.iter().find(|(_, role, _)| *role == Role::Wrap).unwrap();
    let usage = Usage::of(Template::HmacSecret);
    let key = template::known_secret(KeyType::GENERIC_SECRET, usage, secret, true);
    let key = session.create_object(&key).unwrap();
    let blob = session.wrap_key(&Mechanism::AesKeyWrap, *wrap, key).unwrap();
    session.destroy_object(key).unwrap();
    Wrapped { format: WrapFormat::AesKw, generation: root.generation, blob }
}

fn a_known_secret_makes_the_macs_of_the_standard(token: Token) {
    let bench = Bench::new(token);
    let (root, member) = bench.ready();
    let opened = login::open(&bench.config).unwrap();
    for (spec, algorithm, theirs) in SPECS {
        let secret = vec![0x0b; spec.secret_len().unwrap()];
        let key = hmac::Key::new(theirs, &secret);
        let wrapped = wrap_known(&opened.serve().owner, root, &secret);
        let tag = hmac::sign(&key, b"claviger/v1/check-value");
        let object = unwrap(&member.serve, &wrapped, spec, tag.as_ref()[..8].try_into().unwrap()).unwrap();
        for length in [0, 1, 63, 64, 65, 6144, 100_000] {
            let message = vec![0x5a; length];
            let Ok(Answer::Bytes(found)) = member.serve.run_now(&mac(object, algorithm, &message)) else {
                panic!("no MAC")
            };
            assert_eq!(found.expose(), hmac::sign(&key, &message).as_ref(), "{algorithm}, {length} bytes");
        }
    }
}

fn new_secrets_come_back_and_altered_ones_do_not(token: Token) {
    let (_, member) = Bench::new(token).ready();
    for (spec, algorithm, _) in SPECS {
        let template = Template::HmacSecret;
        let generated = member.make.run_now(&Command::Generate { spec, template });
        let Ok(Answer::Generated { wrapped, check_value }) = generated else { panic!("{generated:?}") };
        let length = spec.secret_len().unwrap() + 8;
        assert_eq!((wrapped.format, wrapped.blob.len()), (WrapFormat::AesKw, length));
        let object = unwrap(&member.serve, &wrapped, spec, check_value).unwrap();
        let first = member.serve.run_now(&mac(object, algorithm, b"m")).unwrap();
        // In place, as the keyring does it, and again from the wrap.
        let again = unwrap(&member.serve, &wrapped, spec, check_value).unwrap();
        assert_eq!(member.serve.try_run(&mac(again, algorithm, b"m")).unwrap().unwrap(), first);
        let mismatch = Err(HsmError::CheckValueMismatch);
        for at in 0..length {
            let mut flipped = wrapped.clone();
            flipped.blob[at] ^= 0x20;
            assert_eq!(unwrap(&member.serve, &flipped, spec, check_value), mismatch, "{spec}, byte {at}");
        }
        let mut other = check_value;
        other[0] ^= 1;
        assert_eq!(unwrap(&member.serve, &wrapped, spec, other), mismatch);
        let padded = Wrapped { format: WrapFormat::AesKwp, ..wrapped.clone() };
        assert_eq!(unwrap(&member.serve, &padded, spec, check_value), mismatch);
        // As a secret of another spec it has another length, or another check value.
        for (another, ..) in SPECS.iter().filter(|(another, ..)| *another != spec) {
            assert_eq!(unwrap(&member.serve, &wrapped, *another, check_value), mismatch);
        }
    }
    assert_eq!(member.serve.run_now(&Command::Canary), Ok(Answer::Done));
}

fn a_secret_does_one_thing_and_cannot_be_read(token: Token) {
    let bench = Bench::new(token);
    let (root, member) = bench.ready();
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let wrapped = wrap_known(session, root, &[7; 32]);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), b"claviger/v1/check-value");
    let check_value = tag.as_ref()[..8].try_into().unwrap();
    let object = unwrap(&member.serve, &wrapped, KeySpec::Hmac256, check_value).unwrap();
    for algorithm in [MacAlgorithm::HmacSha384, MacAlgorithm::HmacSha512, MacAlgorithm::HmacSm3] {
        let refused = member.serve.run_now(&mac(object, algorithm, b"m"));
        assert!(matches!(refused, Err(HsmError::Unsupported(_))), "{refused:?}");
    }
    // What its lane made is an object that every session sees.
    let wanted = [Attribute::KeyType(KeyType::GENERIC_SECRET), Attribute::Token(false)];
    let found = session.find_objects(&wanted).unwrap();
    assert_eq!(found.len(), 1);
    let wanted = [
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Derive(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
    ];
    let types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
    assert_eq!(session.get_attributes(found[0], &types).unwrap(), wanted);
    let read = session.get_attributes(found[0], &[cryptoki::object::AttributeType::Value]);
    assert!(read.as_ref().map_or(true, Vec::is_empty), "a secret was read");
}
