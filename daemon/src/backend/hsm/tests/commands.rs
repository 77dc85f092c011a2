//! Every command: there and back, compared with an implementation that isn't the
//! token's, and refused where it must be.

use claviger_protocol::{KeySpec, KeyUsage, SecretBytes};
use cryptoki::object::{Attribute, ObjectClass};

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::command::{
    Answer, CheckValue, Command, HsmError, ObjectId, RESERVED_SALT, Template, WrapFormat, Wrapped,
};
use crate::backend::hsm::lane::Lane;
use crate::backend::hsm::login;

on_each_token!(
    every_mechanism_passes_its_self_test,
    material_goes_out_and_comes_back,
    altered_material_is_refused,
    messages_go_out_and_come_back,
    altered_messages_are_refused,
    altered_messages_leave_the_member_up,
    the_root_seals_and_opens,
    objects_of_a_former_epoch_are_gone,
    twenty_thousand_objects_live_and_die,
    random_bytes_are_bounded,
    an_object_that_the_token_lost_is_gone,
    a_root_that_the_token_lost_takes_the_member_down,
);

fn every_mechanism_passes_its_self_test(token: Token) {
    let member = Bench::new(token).open(None, 1).unwrap();
    assert!(member.report.all_ok(), "{:#?}", member.report);
    assert_eq!(member.report.mechanisms.len(), 20);
    assert_eq!(member.report.unavailable(KeySpec::Aes256, KeyUsage::EncryptDecrypt), None);
    assert_eq!(
        member.report.unavailable(KeySpec::Sm4, KeyUsage::EncryptDecrypt),
        Some("the profile has no number for sm4-key-gen")
    );
    for spec in KeySpec::ALL {
        for usage in spec.usages() {
            let held = !spec.name().contains("SM");
            assert_eq!(member.report.unavailable(*spec, *usage).is_none(), held, "{spec} {usage}");
        }
    }
}

fn generate(lane: &Lane, template: Template) -> (Wrapped, CheckValue) {
    match lane.run_now(&Command::Generate { spec: KeySpec::Aes256, template }) {
        Ok(Answer::Generated { wrapped, check_value }) => (wrapped, check_value),
        other => panic!("{other:?}"),
    }
}

fn unwrap(lane: &Lane, wrapped: &Wrapped, template: Template, check_value: CheckValue) -> ObjectId {
    object(lane.run_now(&Command::Unwrap {
        wrapped: wrapped.clone(),
        spec: KeySpec::Aes256,
        template,
        check_value,
    }))
}

fn object(answer: Result<Answer, HsmError>) -> ObjectId {
    match answer {
        Ok(Answer::Object(object)) => object,
        other => panic!("{other:?}"),
    }
}

fn bytes(answer: Result<Answer, HsmError>) -> Vec<u8> {
    match answer {
        Ok(Answer::Bytes(bytes)) => bytes.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn seal(object: ObjectId, text: &[u8]) -> Command {
    let plaintext = SecretBytes::new(text.to_vec());
    Command::GcmSeal { object, nonce: [3; 12], aad: b"aad".to_vec(), plaintext }
}

fn open(object: ObjectId, sealed: &[u8]) -> Command {
    Command::GcmOpen { object, nonce: [3; 12], aad: b"aad".to_vec(), sealed: sealed.to_vec() }
}

fn material_goes_out_and_comes_back(token: Token) {
    let bench = Bench::new(token);
    let (root, member) = bench.ready();
    for template in [Template::AesDeriveOnly, Template::AesDirect] {
        let (wrapped, check_value) = generate(&member.make, template);
        assert_eq!((wrapped.format, wrapped.generation), (WrapFormat::AesKw, root.generation));
        assert_eq!(wrapped.blob.len(), 40);
        assert_ne!(generate(&member.make, template).0.blob, wrapped.blob);
        // Made in one lane, used in the other: both hold the same root.
        let object = unwrap(&member.serve, &wrapped, template, check_value);
        assert_eq!(member.serve.run_now(&Command::Destroy { object }), Ok(Answer::Done));
        assert_eq!(member.serve.run_now(&Command::Destroy { object }), Ok(Answer::Done));
        assert_eq!(member.serve.run_now(&seal(object, b"x")), Err(HsmError::ObjectGone));
    }
}

fn altered_material_is_refused(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let template = Template::AesDeriveOnly;
    let (wrapped, check_value) = generate(&member.make, template);
    let refused = |wrapped: Wrapped, template, check_value| {
        member
            .serve
            .run_now(&Command::Unwrap { wrapped, spec: KeySpec::Aes256, template, check_value })
            .unwrap_err()
    };
    for at in 0..40 {
        let mut flipped = wrapped.clone();
        flipped.blob[at] ^= 0x40;
        assert_eq!(refused(flipped, template, check_value), HsmError::CheckValueMismatch, "byte {at}");
    }
    for len in [0, 8, 24, 39, 41, 48] {
        let mut cut = wrapped.clone();
        cut.blob.resize(len, 0);
        assert_eq!(refused(cut, template, check_value), HsmError::CheckValueMismatch, "{len} bytes");
    }
    let mut other = check_value;
    other[7] ^= 1;
    assert_eq!(refused(wrapped.clone(), template, other), HsmError::CheckValueMismatch);
    // The same material as another template has another check value.
    assert_eq!(refused(wrapped.clone(), Template::AesDirect, check_value), HsmError::CheckValueMismatch);
    let old = Wrapped { generation: 7, ..wrapped.clone() };
    assert_eq!(refused(old, template, check_value), HsmError::NoSuchRoot(7));
    assert_eq!(member.serve.run_now(&Command::Canary), Ok(Answer::Done));
    unwrap(&member.serve, &wrapped, template, check_value);
}

fn subkey(lane: &Lane, make: &Lane) -> ObjectId {
    let (wrapped, check_value) = generate(make, Template::AesDeriveOnly);
    let key = unwrap(lane, &wrapped, Template::AesDeriveOnly, check_value);
    object(lane.run_now(&Command::Derive { object: key, salt: [9; 16] }))
}

fn messages_go_out_and_come_back(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let (wrapped, check_value) = generate(&member.make, Template::AesDirect);
    let direct = unwrap(&member.serve, &wrapped, Template::AesDirect, check_value);
    for key in [subkey(&member.serve, &member.make), direct] {
        for len in [0, 1, 16, 6144, 100_000] {
            let text = vec![0x5a; len];
            let sealed = bytes(member.serve.run_now(&seal(key, &text)));
            assert_eq!(sealed.len(), len + 16);
            assert_eq!(bytes(member.serve.run_now(&open(key, &sealed))), text);
        }
    }
    // Two salts of one key are two keys; the reserved one is refused.
    let (wrapped, check_value) = generate(&member.make, Template::AesDeriveOnly);
    let key = unwrap(&member.serve, &wrapped, Template::AesDeriveOnly, check_value);
    let derive = |salt| member.serve.run_now(&Command::Derive { object: key, salt });
    let sealed = [[1; 16], [1; 16], [2; 16]]
        .map(|salt| bytes(member.serve.run_now(&seal(object(derive(salt)), b"text"))));
    assert_eq!(sealed[0], sealed[1]);
    assert_ne!(sealed[0], sealed[2]);
    assert!(matches!(derive(RESERVED_SALT), Err(HsmError::Fault(_))));
}

fn altered_messages_are_refused(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let key = subkey(&member.serve, &member.make);
    let sealed = bytes(member.serve.run_now(&seal(key, b"some plaintext")));
    let refused = |command: Command| {
        assert_eq!(member.serve.run_now(&command), Err(HsmError::AuthenticationFailed), "{command:?}");
    };
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        refused(open(key, &flipped));
    }
    for len in 0..sealed.len() {
        refused(open(key, &sealed[..len]));
    }
    refused(open(key, &[sealed.as_slice(), &[0]].concat()));
    let (nonce, aad) = ([3; 12], b"aad".to_vec());
    refused(Command::GcmOpen { object: key, nonce: [4; 12], aad: aad.clone(), sealed: sealed.clone() });
    refused(Command::GcmOpen { object: key, nonce, aad: b"aae".to_vec(), sealed: sealed.clone() });
    refused(Command::GcmOpen { object: key, nonce, aad: Vec::new(), sealed: sealed.clone() });
    assert_eq!(bytes(member.serve.run_now(&open(key, &sealed))), b"some plaintext");
}

/// A client who sends nothing but rubbish gets nothing but that answer.
fn altered_messages_leave_the_member_up(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let key = subkey(&member.serve, &member.make);
    for round in 0..1000usize {
        let rubbish = vec![u8::try_from(round % 256).unwrap(); round % 97];
        assert_eq!(member.serve.run_now(&open(key, &rubbish)), Err(HsmError::AuthenticationFailed));
    }
    assert_eq!(member.serve.run_now(&Command::Canary), Ok(Answer::Done));
}

fn the_root_seals_and_opens(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let aad = b"context".to_vec();
    let plaintext = SecretBytes::new(vec![1; 32]);
    let seal = Command::RootSeal { aad: aad.clone(), plaintext };
    let sealed = bytes(member.serve.run_now(&seal));
    assert_eq!(sealed.len(), 12 + 32 + 16);
    assert_ne!(bytes(member.serve.run_now(&seal))[..12], sealed[..12], "a nonce came twice");
    for lane in [&member.serve, &member.make] {
        let open = Command::RootOpen { aad: aad.clone(), sealed: sealed.clone() };
        assert_eq!(bytes(lane.run_now(&open)), [1; 32]);
    }
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 0x80;
        let open = Command::RootOpen { aad: aad.clone(), sealed: flipped };
        assert_eq!(member.serve.run_now(&open), Err(HsmError::AuthenticationFailed));
    }
    for len in [0, 11, 12, 27] {
        let open = Command::RootOpen { aad: aad.clone(), sealed: sealed[..len].to_vec() };
        assert_eq!(member.serve.run_now(&open), Err(HsmError::AuthenticationFailed));
    }
}

fn objects_of_a_former_epoch_are_gone(token: Token) {
    let bench = Bench::new(token);
    let (root, member) = bench.ready();
    let key = subkey(&member.serve, &member.make);
    let foreign = ObjectId { epoch: 2, ..key };
    assert_eq!(member.serve.run_now(&seal(foreign, b"x")), Err(HsmError::ObjectGone));
    assert_eq!(member.serve.run_now(&Command::Destroy { object: foreign }), Ok(Answer::Done));
    // The other lane's numbers are not this lane's.
    assert_eq!(member.make.run_now(&seal(key, b"x")), Err(HsmError::ObjectGone));
    assert_eq!(member.make.run_now(&Command::Destroy { object: key }), Ok(Answer::Done));
    bytes(member.serve.run_now(&seal(key, b"still there")));
    drop(member);
    let again = bench.open(Some(&root), 2).unwrap();
    subkey(&again.serve, &again.make);
    assert_eq!(again.serve.run_now(&seal(key, b"x")), Err(HsmError::ObjectGone));
}

fn twenty_thousand_objects_live_and_die(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let (wrapped, check_value) = generate(&member.make, Template::AesDeriveOnly);
    let key = unwrap(&member.serve, &wrapped, Template::AesDeriveOnly, check_value);
    let mut alive = Vec::new();
    for n in 0..20_000u128 {
        let salt = n.to_le_bytes();
        alive.push(object(member.serve.run_now(&Command::Derive { object: key, salt })));
    }
    let sample = bytes(member.serve.run_now(&seal(alive[10_000], b"x")));
    for object in alive.drain(..) {
        assert_eq!(member.serve.run_now(&Command::Destroy { object }), Ok(Answer::Done));
    }
    let salt = 10_000u128.to_le_bytes();
    let again = object(member.serve.run_now(&Command::Derive { object: key, salt }));
    assert_eq!(bytes(member.serve.run_now(&open(again, &sample))), b"x");
}

fn random_bytes_are_bounded(token: Token) {
    let member = Bench::new(token).open(None, 1).unwrap();
    let random = |len| member.serve.run_now(&Command::Random { len });
    assert_eq!(bytes(random(4096)).len(), 4096);
    assert_ne!(bytes(random(32)), bytes(random(32)));
    for len in [0, 4097] {
        assert!(matches!(random(len), Err(HsmError::Fault(_))));
    }
    // No root: nothing that needs one works, and it says so.
    let canary = member.serve.run_now(&Command::Canary);
    assert_eq!(canary, Err(HsmError::NoSuchRoot(0)));
    let made = Command::Generate { spec: KeySpec::Aes256, template: Template::AesDeriveOnly };
    assert_eq!(member.make.run_now(&made), Err(HsmError::NoSuchRoot(0)));
}

/// Destroys every secret key of the serving token behind the member's back.
fn lose(bench: &Bench, in_token: bool) {
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let wanted = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(in_token)];
    let found = session.find_objects(&wanted).unwrap();
    assert!(!found.is_empty());
    for handle in found {
        session.destroy_object(handle).unwrap();
    }
}

fn an_object_that_the_token_lost_is_gone(token: Token) {
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let key = subkey(&member.serve, &member.make);
    let sealed = bytes(member.serve.run_now(&seal(key, b"x")));
    let other = subkey(&member.serve, &member.make);
    lose(&bench, false);
    assert_eq!(member.serve.run_now(&open(key, &sealed)), Err(HsmError::ObjectGone));
    assert_eq!(member.serve.run_now(&seal(other, b"x")), Err(HsmError::ObjectGone));
    assert_eq!(member.serve.run_now(&Command::Destroy { object: other }), Ok(Answer::Done));
    // Nothing but the objects was lost.
    assert_eq!(member.serve.run_now(&Command::Canary), Ok(Answer::Done));
    bytes(member.serve.run_now(&seal(subkey(&member.serve, &member.make), b"x")));
}

fn a_root_that_the_token_lost_takes_the_member_down(token: Token) {
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let (wrapped, check_value) = generate(&member.make, Template::AesDirect);
    lose(&bench, true);
    let down = |command: Command| {
        let outcome = member.serve.run_now(&command);
        assert!(matches!(outcome, Err(HsmError::Unavailable(_))), "{outcome:?}");
    };
    down(Command::Canary);
    down(Command::Unwrap { wrapped, spec: KeySpec::Aes256, template: Template::AesDirect, check_value });
    down(Command::RootOpen { aad: Vec::new(), sealed: vec![0; 60] });
    down(Command::RootSeal { aad: Vec::new(), plaintext: SecretBytes::new(vec![0; 32]) });
}
