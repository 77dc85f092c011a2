//! The daemon's side of a lane against helpers that lie, and every frame there and back.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::{
    EncryptionAlgorithm, ImportAlgorithm, KeySpec, MacAlgorithm, SecretBytes, SigningAlgorithm,
};
use proptest::prelude::*;
use tokio::sync::Notify;

use super::hello::{self, MAX_HELLO, Said};
use super::link::{Frame, Link, MAX_FRAME, Received};
use super::token::{Helper, HelperToken};
use super::wire;
use crate::backend::hsm::command::{
    Answer, Command, HsmError, ObjectId, Template, Token, WrapFormat, Wrapped, WrappingKey,
};
use crate::backend::hsm::member::{Kind, OpenError};
use crate::config::{Isolation, PinSource};

const EPOCH: u64 = 7;
const OBJECT: ObjectId = ObjectId { epoch: EPOCH, handle: 3 };

fn links() -> (Link, Link) {
    let (here, there) = UnixStream::pair().unwrap();
    (Link::new(here), Link::new(there))
}

/// The frame as the other side reads it.
fn there(frame: &Frame) -> Received {
    let (mut here, mut there) = links();
    std::thread::scope(|scope| {
        scope.spawn(|| here.write(frame).unwrap());
        there.read(MAX_FRAME).unwrap().unwrap()
    })
}

fn wrapped() -> Wrapped {
    Wrapped { format: WrapFormat::AesKw, generation: 2, blob: vec![5; 40] }
}

fn wrapping_key() -> WrappingKey {
    WrappingKey { wrapped: wrapped(), spec: KeySpec::Rsa2048, public_key: vec![4; 294] }
}

fn commands() -> Vec<Command> {
    let (aad, plaintext) = (vec![1; 30], SecretBytes::new(vec![2; 50]));
    let (object, nonce, sealed) = (OBJECT, [4; 12], vec![3; 66]);
    vec![
        Command::Random { len: 4096 },
        Command::Generate { spec: KeySpec::Aes256, template: Template::AesDirect },
        Command::Unwrap {
            wrapped: wrapped(),
            spec: KeySpec::Aes256,
            template: Template::AesDeriveOnly,
            check_value: [9; 8],
        },
        Command::Generate { spec: KeySpec::Sm2, template: Template::Sm2Decrypt },
        Command::UnwrapPair {
            wrapped: Wrapped { format: WrapFormat::AesKwp, generation: 3, blob: vec![6; 88] },
            spec: KeySpec::EcP384,
            template: Template::EcSign,
            public_key: vec![7; 91],
        },
        Command::Sign { object, algorithm: SigningAlgorithm::RsaPssSha384, digest: vec![5; 48] },
        Command::PrivateDecrypt {
            object,
            algorithm: EncryptionAlgorithm::RsaesOaepSha256,
            ciphertext: vec![5; 256],
        },
        Command::Mac { object, algorithm: MacAlgorithm::HmacSha512, message: plaintext.clone() },
        Command::Derive { object, salt: [6; 16] },
        Command::GcmSeal { object, nonce, aad: aad.clone(), plaintext: plaintext.clone() },
        Command::GcmOpen { object, nonce, aad: aad.clone(), sealed: sealed.clone() },
        Command::Import {
            key: wrapping_key(),
            algorithm: ImportAlgorithm::RsaAesKeyWrapSha256,
            block: vec![1; 256],
            inner: Some(vec![2; 1224]),
            spec: KeySpec::Rsa2048,
            template: Template::RsaSign,
        },
        Command::Import {
            key: wrapping_key(),
            algorithm: ImportAlgorithm::RsaesPkcs1V15,
            block: vec![1; 256],
            inner: None,
            spec: KeySpec::Sm4,
            template: Template::Sm4Direct,
        },
        Command::OpenBlock { key: wrapping_key(), algorithm: ImportAlgorithm::Sm2Pke, block: vec![3; 120] },
        Command::Adopt {
            material: plaintext.clone(),
            spec: KeySpec::Hmac512,
            template: Template::HmacSecret,
            public_key: Vec::new(),
        },
        Command::RootSeal { aad: aad.clone(), plaintext },
        Command::RootOpen { aad, sealed },
        Command::Destroy { object },
        Command::Canary,
    ]
}

fn outcomes() -> Vec<Result<Answer, HsmError>> {
    vec![
        Ok(Answer::Done),
        Ok(Answer::Bytes(SecretBytes::new(vec![8; 66]))),
        Ok(Answer::Object(OBJECT)),
        Ok(Answer::Bytes(SecretBytes::new(vec![8; 64]))),
        Ok(Answer::Generated { wrapped: wrapped(), check_value: [1; 8] }),
        Ok(Answer::GeneratedPair { wrapped: wrapped(), public_key: vec![2; 550] }),
        Ok(Answer::Imported {
            wrapped: wrapped(),
            check_value: [1; 8],
            value: SecretBytes::new(vec![2; 16]),
        }),
        Ok(Answer::NotInside),
        Err(HsmError::AuthenticationFailed),
        Err(HsmError::CheckValueMismatch),
        Err(HsmError::ObjectGone),
        Err(HsmError::NoSuchRoot(4)),
        Err(HsmError::Busy),
        Err(HsmError::Unsupported("u".to_owned())),
        Err(HsmError::Unavailable("v".to_owned())),
        Err(HsmError::PinRefused),
        Err(HsmError::Fault("f".to_owned())),
    ]
}

#[test]
fn every_command_and_every_outcome_comes_back_as_it_was_sent() {
    for command in commands() {
        let frame = wire::command(&command).unwrap();
        assert_eq!(wire::to_command(&there(&frame)).unwrap(), command);
    }
    for outcome in outcomes() {
        let frame = wire::outcome(&outcome).unwrap();
        assert_eq!(wire::to_outcome(&there(&frame)).unwrap(), outcome);
    }
}

#[test]
fn every_refusal_comes_back_as_it_was_sent() {
    let text = || "why".to_owned();
    let refusals = [
        OpenError::Library(text()),
        OpenError::NoToken(text()),
        OpenError::NotInitialised(text()),
        OpenError::Profile(text()),
        OpenError::NoPin(text()),
        OpenError::PinRefused,
        OpenError::PinFinalTry,
        OpenError::Login(text()),
        OpenError::Root(text()),
        OpenError::Unavailable(text()),
    ];
    for refusal in refusals {
        let frame = Said::NotOpened(refusal.clone()).frame().unwrap();
        let Ok(Said::NotOpened(read)) = Said::read(&there(&frame)) else { panic!("{refusal}") };
        assert_eq!((read.latches(), &read), (refusal.latches(), &refusal));
    }
}

#[test]
fn texts_of_the_other_side_are_short_and_on_one_line() {
    let outcome = Err(HsmError::Unavailable(format!("a\nb\u{1b}[31m{}", "c".repeat(10_000))));
    let read = wire::to_outcome(&there(&wire::outcome(&outcome).unwrap())).unwrap();
    let Err(HsmError::Unavailable(text)) = read else { panic!("{read:?}") };
    assert!(text.len() == 500 && !text.contains(char::is_control), "{text}");
}

proptest! {
    #[test]
    fn whatever_bytes_come_they_are_read_or_refused(tag: u8, body: Vec<u8>) {
        let frame = Frame::new(tag, &Body(&body)).unwrap();
        let read = there(&frame);
        prop_assert_eq!(read.body(), &body[..]);
        let _ = (wire::to_command(&read), wire::to_outcome(&read), Said::read(&read));
        let _ = hello::Open::read(&read);
    }
}

/// A body that is these bytes and nothing else.
struct Body<'a>(&'a [u8]);

impl serde::Serialize for Body<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// A lane whose helper answers `command` with `frame`, and what comes of it.
fn answered(command: &Command, frame: &Frame) -> (Result<Answer, HsmError>, Result<Answer, HsmError>) {
    let (here, mut there) = links();
    let helper = Helper::new("a", None, vec![here.handle().unwrap()], Arc::default());
    let mut token = HelperToken::new(here, helper, EPOCH, Duration::from_secs(30)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while there.read(MAX_FRAME).is_ok_and(|read| read.is_some()) && there.write(frame).is_ok() {}
        });
        let first = token.execute(command);
        let second = token.execute(&Command::Canary);
        drop(token);
        (first, second)
    })
}

fn lost(outcome: &Result<Answer, HsmError>) -> bool {
    matches!(outcome, Err(HsmError::Unavailable(_)))
}

#[test]
fn an_answer_that_cannot_be_one_to_the_command_ends_the_helper() {
    for command in commands() {
        for outcome in outcomes() {
            let (first, second) = answered(&command, &wire::outcome(&outcome).unwrap());
            let fits = match (&command, &outcome) {
                (_, Err(_)) | (Command::Destroy { .. } | Command::Canary, Ok(Answer::Done)) => true,
                (
                    Command::Unwrap { .. } | Command::UnwrapPair { .. } | Command::Derive { .. },
                    Ok(Answer::Object(_)),
                ) => true,
                (Command::Generate { spec, .. }, Ok(Answer::Generated { .. })) => *spec == KeySpec::Aes256,
                (Command::Generate { spec, .. }, Ok(Answer::GeneratedPair { .. })) => *spec == KeySpec::Sm2,
                (Command::Import { spec, .. }, Ok(Answer::GeneratedPair { .. })) => *spec == KeySpec::Rsa2048,
                (Command::Import { spec, .. }, Ok(Answer::Imported { .. })) => *spec == KeySpec::Sm4,
                (Command::Import { .. }, Ok(Answer::NotInside)) => true,
                (Command::Adopt { .. }, Ok(Answer::Imported { .. })) => true,
                (Command::OpenBlock { .. }, Ok(Answer::Bytes(_))) => true,
                (Command::GcmSeal { .. }, Ok(Answer::Bytes(bytes))) => bytes.len() == 66,
                (Command::Mac { .. }, Ok(Answer::Bytes(bytes))) => bytes.len() == 64,
                (Command::Sign { .. } | Command::PrivateDecrypt { .. }, Ok(Answer::Bytes(_))) => true,
                _ => false,
            };
            if fits {
                assert_eq!(first, outcome, "{command:?}");
            } else {
                assert!(lost(&first) && lost(&second), "{command:?} {outcome:?}: {first:?} {second:?}");
            }
        }
    }
}

#[test]
fn an_object_of_another_epoch_or_an_answer_too_long_ends_the_helper() {
    let stale = Ok(Answer::Object(ObjectId { epoch: EPOCH - 1, handle: 1 }));
    let derive = Command::Derive { object: OBJECT, salt: [1; 16] };
    let (first, second) = answered(&derive, &wire::outcome(&stale).unwrap());
    assert!(lost(&first) && lost(&second));
    let long = Ok(Answer::Bytes(SecretBytes::new(vec![0; 20_000])));
    let (first, second) = answered(&Command::Random { len: 1 }, &wire::outcome(&long).unwrap());
    assert!(lost(&first) && lost(&second));
    let sign =
        Command::Sign { object: OBJECT, algorithm: SigningAlgorithm::EcdsaSha256, digest: vec![1; 32] };
    for length in [0, 513] {
        let signature = Ok(Answer::Bytes(SecretBytes::new(vec![0; length])));
        let (first, second) = answered(&sign, &wire::outcome(&signature).unwrap());
        assert!(lost(&first) && lost(&second), "{length}");
    }
    // The answer, and one more behind it.
    let (here, mut there) = links();
    let helper = Helper::new("a", None, vec![here.handle().unwrap()], Arc::default());
    let done = wire::outcome(&Ok(Answer::Done)).unwrap();
    for _ in 0..2 {
        there.write(&done).unwrap();
    }
    let mut token = HelperToken::new(here, helper, EPOCH, Duration::from_secs(30)).unwrap();
    assert!(lost(&token.execute(&Command::Canary)));
    let (first, _) = answered(&Command::Canary, &Frame::new(77, &()).unwrap());
    assert!(lost(&first));
}

#[test]
fn what_died_with_a_former_helper_is_told_apart_without_asking() {
    let (here, there) = links();
    let helper = Helper::new("a", None, vec![here.handle().unwrap()], Arc::default());
    let mut token = HelperToken::new(here, Arc::clone(&helper), EPOCH, Duration::from_secs(30)).unwrap();
    let former = ObjectId { epoch: EPOCH - 1, handle: 3 };
    let derive = |object| Command::Derive { object, salt: [1; 16] };
    assert_eq!(token.execute(&derive(former)), Err(HsmError::ObjectGone));
    assert_eq!(token.execute(&Command::Destroy { object: former }), Ok(Answer::Done));
    // Nobody answers at the other end: nothing of this has gone there.
    helper.lose("a test");
    assert!(lost(&token.execute(&derive(OBJECT))));
    assert_eq!(token.execute(&Command::Destroy { object: OBJECT }), Ok(Answer::Done));
    assert_eq!(token.execute(&derive(former)), Err(HsmError::ObjectGone));
    drop(there);
}

#[test]
fn silence_ends_at_the_limit_and_somebody_is_told() {
    let (here, _there) = links();
    let trouble = Arc::new(Notify::new());
    let helper = Helper::new("a", None, vec![here.handle().unwrap()], Arc::clone(&trouble));
    let mut token = HelperToken::new(here, helper, EPOCH, Duration::from_millis(20)).unwrap();
    let refused = token.execute(&Command::Canary).unwrap_err();
    assert!(refused.to_string().contains("call_timeout"), "{refused}");
    let told = futures_util::FutureExt::now_or_never(trouble.notified());
    assert_eq!(told, Some(()));
}

/// What opening the serving lane comes to where the helper says these words and ends.
fn opened_with(isolation: &Isolation, words: &[Said]) -> (OpenError, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pin");
    std::fs::write(&path, "4711").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut config = crate::config::Config::dev(dir.path()).unwrap().hsm.remove(0);
    (config.pin, config.isolation) = (PinSource::File(path), isolation.clone());
    let (mut here, mut there) = links();
    std::thread::scope(|scope| {
        let helper = scope.spawn(move || {
            let mut heard = vec![there.read(MAX_HELLO).unwrap().unwrap().tag()];
            for word in words {
                there.write(&word.frame().unwrap()).unwrap();
                if matches!(word, Said::NeedPin) {
                    heard.extend(there.read(MAX_HELLO).ok().flatten().map(|read| read.tag()));
                }
            }
            heard
        });
        let limit = Duration::from_secs(30);
        let refused = super::open_lane(&mut here, &config, (Kind::Serve, 1), EPOCH, None, limit).unwrap_err();
        drop(here);
        (refused, helper.join().unwrap())
    })
}

#[test]
fn a_helper_that_ends_while_it_may_try_a_pin_latches_and_one_that_has_logged_in_does_not() {
    let (process, unit) = (Isolation::Process { helper: None }, Isolation::Unit { socket: "/s".into() });
    let (open, pin) = (64, 65);
    let cases: [(&Isolation, &[Said], bool, &[u8]); 8] = [
        (&process, &[], false, &[open]),
        (&process, &[Said::NeedPin], true, &[open, pin]),
        (&process, &[Said::NeedPin, Said::LoggedIn], false, &[open, pin]),
        (&unit, &[Said::Trying], true, &[open]),
        (&unit, &[Said::Trying, Said::LoggedIn], false, &[open]),
        // A unit has its own PIN, and a second one is nobody's.
        (&unit, &[Said::NeedPin], false, &[open]),
        (&process, &[Said::NeedPin, Said::NeedPin], true, &[open, pin]),
        (&process, &[Said::LoggedIn, Said::LoggedIn, Said::LoggedIn], false, &[open]),
    ];
    for (number, (isolation, words, latches, heard)) in cases.into_iter().enumerate() {
        let (refused, said) = opened_with(isolation, words);
        assert_eq!((refused.latches(), said.as_slice()), (latches, heard), "case {number}: {refused}");
    }
}

#[test]
fn another_version_is_refused_with_what_to_do() {
    let own = env!("CARGO_PKG_VERSION");
    let mut body = String::new();
    // Another version; this one's protocol before there were lanes for private keys.
    for (protocol, version) in [(2, "0.0.0-other"), (1, own)] {
        body = serde_json::json!({ "protocol": protocol, "version": version }).to_string();
        let refused = hello::Open::read(&there(&Frame::new(64, &body).unwrap())).unwrap().unwrap_err();
        assert!(refused.to_string().contains("restart both"), "{refused}");
    }
    assert!(hello::Open::read(&there(&Frame::new(1, &body).unwrap())).is_err());
    assert!(Frame::new(64, &body).unwrap().len() < MAX_HELLO);
}
