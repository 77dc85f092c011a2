//! Key pairs of every spec: there and back, compared with an implementation that isn't
//! the token's, and refused where they must be.

use std::sync::Arc;

use claviger_protocol::{
    EncryptionAlgorithm, ExportAlgorithm, KeySpec, MacAlgorithm, SecretBytes, SigningAlgorithm,
};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::command::{Answer, Command, HsmError, ObjectId, Template, WrapFormat, Wrapped};
use crate::backend::hsm::lane::Lane;
use crate::backend::hsm::means::{Held, Means};
use crate::backend::hsm::{calls, handover, login, private, template};
use crate::backend::software::{self, PublicKey};
use crate::edge::Entropy;

on_each_token!(
    every_pair_signs_or_decrypts_and_software_agrees,
    what_is_not_the_pair_is_refused,
    ciphertexts_that_are_wrong_fail_alike,
    a_key_object_does_one_thing,
    private_keys_are_sensitive_and_stay,
    every_lane_has_keys_of_its_own,
);

/// A pair as it is stored.
pub(super) struct Stored {
    pub(super) wrapped: Wrapped,
    pub(super) spec: KeySpec,
    pub(super) template: Template,
    pub(super) public_key: Vec<u8>,
}

impl Stored {
    pub(super) fn generate(lane: &Lane, spec: KeySpec, template: Template) -> Self {
        match lane.run_now(&Command::Generate { spec, template }) {
            Ok(Answer::GeneratedPair { wrapped, public_key }) => Self { wrapped, spec, template, public_key },
            other => panic!("{spec}: {other:?}"),
        }
    }

    fn unwrap_command(&self) -> Command {
        let (wrapped, public_key) = (self.wrapped.clone(), self.public_key.clone());
        Command::UnwrapPair { wrapped, spec: self.spec, template: self.template, public_key }
    }

    pub(super) fn unwrap(&self, lane: &Lane) -> ObjectId {
        match lane.run_now(&self.unwrap_command()) {
            Ok(Answer::Object(object)) => object,
            other => panic!("{other:?}"),
        }
    }

    fn public(&self) -> PublicKey {
        let public = PublicKey::from_spki(&self.public_key).unwrap();
        assert_eq!(public.spec(), self.spec.pair());
        public
    }
}

fn bytes(answer: Result<Answer, HsmError>) -> Vec<u8> {
    match answer {
        Ok(Answer::Bytes(bytes)) => bytes.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn sign(object: ObjectId, algorithm: SigningAlgorithm, digest: &[u8]) -> Command {
    Command::Sign { object, algorithm, digest: digest.to_vec() }
}

fn decrypt(object: ObjectId, algorithm: EncryptionAlgorithm, ciphertext: &[u8]) -> Command {
    Command::PrivateDecrypt { object, algorithm, ciphertext: ciphertext.to_vec() }
}

/// Every spec and usage but those that only take longer than another.
const PAIRS: [(KeySpec, Template); 6] = [
    (KeySpec::Rsa2048, Template::RsaSign),
    (KeySpec::Rsa2048, Template::RsaDecrypt),
    (KeySpec::Rsa3072, Template::RsaDecrypt),
    (KeySpec::Rsa4096, Template::RsaSign),
    (KeySpec::EcP256, Template::EcSign),
    (KeySpec::EcP384, Template::EcSign),
];

fn every_pair_signs_or_decrypts_and_software_agrees(token: Token) {
    let (root, member) = Bench::new(token).ready();
    let entropy = Entropy::system();
    for (spec, template) in PAIRS {
        let pair = Stored::generate(&member.make, spec, template);
        assert_eq!((pair.wrapped.format, pair.wrapped.generation), (WrapFormat::AesKwp, root.generation));
        let public = pair.public();
        let lane = member.pair_lane();
        let object = pair.unwrap(lane);
        if template == Template::RsaDecrypt {
            for &algorithm in spec.encryption_algorithms() {
                let most = public.max_plaintext(algorithm.into()).unwrap();
                for length in [0, 1, 32, most] {
                    let text = vec![0x5a; length];
                    let sealed = public.encrypt(algorithm.into(), &text, &entropy).unwrap();
                    assert_eq!(
                        bytes(lane.run_now(&decrypt(object, algorithm, &sealed))),
                        text,
                        "{algorithm}"
                    );
                }
            }
        } else {
            for &algorithm in spec.signing_algorithms() {
                let digest = software::digest(algorithm.digest(), b"message");
                // More than once: numbers with leading zeros are one in 128.
                for _ in 0..if spec == KeySpec::EcP256 { 600 } else { 2 } {
                    let signature = bytes(lane.run_now(&sign(object, algorithm, &digest)));
                    assert!(public.verify(algorithm, &digest, &signature), "{spec} {algorithm}");
                }
            }
        }
        assert_eq!(lane.run_now(&Command::Destroy { object }), Ok(Answer::Done));
        let gone = lane.run_now(&sign(object, SigningAlgorithm::EcdsaSha256, &[0; 32]));
        assert_eq!(gone, Err(HsmError::ObjectGone));
    }
}

fn what_is_not_the_pair_is_refused(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let lane = member.pair_lane();
    let refused = |pair: &Stored, change: &dyn Fn(&mut Stored)| {
        let (wrapped, public_key) = (pair.wrapped.clone(), pair.public_key.clone());
        let mut changed = Stored { wrapped, public_key, ..*pair };
        change(&mut changed);
        lane.run_now(&changed.unwrap_command()).unwrap_err()
    };
    let mismatch = HsmError::CheckValueMismatch;
    let p384 = Stored::generate(&member.make, KeySpec::EcP384, Template::EcSign);
    for (spec, template) in [
        (KeySpec::EcP256, Template::EcSign),
        (KeySpec::Rsa2048, Template::RsaSign),
        (KeySpec::Rsa2048, Template::RsaDecrypt),
    ] {
        let pair = Stored::generate(&member.make, spec, template);
        let other = Stored::generate(&member.make, spec, template);
        let length = pair.wrapped.blob.len();
        for at in (0..length).step_by(if length > 400 { 41 } else { 3 }) {
            let found = refused(&pair, &|pair| pair.wrapped.blob[at] ^= 0x10);
            assert_eq!(found, mismatch, "{spec} {template:?}, byte {at}");
        }
        for cut in [0, 8, 16, length - 8, length - 1, length + 8, 8000] {
            assert_eq!(refused(&pair, &|pair| pair.wrapped.blob.resize(cut, 0)), mismatch, "{cut} bytes");
        }
        assert_eq!(refused(&pair, &|pair| pair.public_key = other.public_key.clone()), mismatch);
        assert_eq!(refused(&pair, &|pair| pair.wrapped.blob = other.wrapped.blob.clone()), mismatch);
        assert_eq!(refused(&pair, &|pair| pair.wrapped.blob = p384.wrapped.blob.clone()), mismatch);
        assert_eq!(refused(&pair, &|pair| pair.public_key = p384.public_key.clone()), mismatch);
        assert_eq!(refused(&pair, &|pair| pair.public_key.clear()), mismatch);
        assert_eq!(refused(&pair, &|pair| pair.public_key.push(0)), mismatch);
        assert_eq!(refused(&pair, &|pair| pair.wrapped.format = WrapFormat::AesKw), mismatch);
        assert_eq!(refused(&pair, &|pair| pair.wrapped.generation = 9), HsmError::NoSuchRoot(9));
        let unfit = refused(&pair, &|pair| pair.template = Template::HmacSecret);
        assert!(matches!(unfit, HsmError::Unsupported(_)), "{unfit}");
        // None of it took the member down, or left the pair unusable.
        assert_eq!(lane.run_now(&Command::Canary), Ok(Answer::Done));
        pair.unwrap(lane);
    }
}

fn ciphertexts_that_are_wrong_fail_alike(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let entropy = Entropy::system();
    let pair = Stored::generate(&member.make, KeySpec::Rsa2048, Template::RsaDecrypt);
    let (lane, public) = (member.pair_lane(), pair.public());
    let object = pair.unwrap(lane);
    let made = |algorithm| public.encrypt(algorithm, b"secret", &entropy).unwrap();
    let (sha1, sha256) = (made(ExportAlgorithm::RsaesOaepSha1), made(ExportAlgorithm::RsaesOaepSha256));
    for (algorithm, right, other) in [
        (EncryptionAlgorithm::RsaesOaepSha1, &sha1, &sha256),
        (EncryptionAlgorithm::RsaesOaepSha256, &sha256, &sha1),
    ] {
        let mut wrong = vec![other.clone(), made(ExportAlgorithm::RsaesPkcs1V15)];
        // Not below the modulus, the smallest numbers, and other lengths.
        wrong.extend([vec![0xff; 256], vec![0; 256], [vec![0; 255], vec![1]].concat()]);
        wrong.extend([0, 1, 255, 257, 512].map(|length| vec![1; length]));
        wrong.extend([0, 100, 255].map(|at| {
            let mut flipped = right.clone();
            flipped[at] ^= 1;
            flipped
        }));
        for (number, ciphertext) in wrong.iter().enumerate() {
            let failed = lane.run_now(&decrypt(object, algorithm, ciphertext));
            assert_eq!(failed, Err(HsmError::AuthenticationFailed), "{algorithm}, case {number}");
        }
        assert_eq!(bytes(lane.run_now(&decrypt(object, algorithm, right))), b"secret");
    }
    let sm2 = lane.run_now(&decrypt(object, EncryptionAlgorithm::Sm2Pke, &sha1));
    assert!(matches!(sm2, Err(HsmError::Unsupported(_))), "{sm2:?}");
    assert_eq!(lane.run_now(&Command::Canary), Ok(Answer::Done));
}

/// By our own check, before the token is asked at all.
fn a_key_object_does_one_thing(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let lane = &member.serve;
    let object = |spec, template| Stored::generate(&member.make, spec, template).unwrap(lane);
    let signing = object(KeySpec::Rsa2048, Template::RsaSign);
    let decrypting = object(KeySpec::Rsa2048, Template::RsaDecrypt);
    let curve = object(KeySpec::EcP256, Template::EcSign);
    let digest = [1; 32];
    let unfit = [
        sign(decrypting, SigningAlgorithm::RsaPkcs1Sha256, &digest),
        sign(decrypting, SigningAlgorithm::RsaPssSha256, &digest),
        sign(signing, SigningAlgorithm::EcdsaSha256, &digest),
        sign(signing, SigningAlgorithm::Sm2Dsa, &digest),
        sign(curve, SigningAlgorithm::RsaPssSha256, &digest),
        sign(curve, SigningAlgorithm::EcdsaSha384, &[1; 48]),
        decrypt(signing, EncryptionAlgorithm::RsaesOaepSha256, &[1; 256]),
        decrypt(curve, EncryptionAlgorithm::RsaesOaepSha256, &[1; 256]),
        Command::Mac { object: signing, algorithm: MacAlgorithm::HmacSha256, message: vec![1].into() },
        Command::GcmOpen { object: decrypting, nonce: [0; 12], aad: Vec::new(), sealed: vec![0; 32] },
        Command::GcmSeal {
            object: curve,
            nonce: [0; 12],
            aad: Vec::new(),
            plaintext: SecretBytes::new(vec![0; 32]),
        },
        Command::Derive { object: signing, salt: [1; 16] },
    ];
    for command in unfit {
        let refused = lane.run_now(&command);
        assert!(matches!(refused, Err(HsmError::Unsupported(_))), "{command:?}: {refused:?}");
    }
    for length in [0, 31, 33, 64] {
        let refused = lane.run_now(&sign(signing, SigningAlgorithm::RsaPssSha256, &vec![1; length]));
        assert!(matches!(refused, Err(HsmError::Fault(_))), "{length}: {refused:?}");
    }
}

/// By the token's, for who has its session.
fn private_keys_are_sensitive_and_stay(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let means = Means::of(&bench.config.profile);
    let root = session.create_object(&template::known_key(template::Usage::WRAP, &[9; 32], false)).unwrap();
    let pairs = [
        (KeySpec::Rsa2048, Template::RsaSign),
        (KeySpec::Rsa2048, Template::RsaDecrypt),
        (KeySpec::EcP256, Template::EcSign),
    ];
    for (spec, template) in pairs {
        let (public, private) = template::passing_pair(&means, spec, template).unwrap();
        let generation = means.generation(spec).unwrap();
        let (_, passing) = session.generate_key_pair(&generation, &public, &private).unwrap();
        let blob = session.wrap_key(&Mechanism::AesKeyWrapPad, root, passing).unwrap();
        let attributes = template::unwrapped_private(&means, spec, template).unwrap();
        let key = session.unwrap_key(&Mechanism::AesKeyWrapPad, root, &blob, &attributes).unwrap();
        // Every other use, with mechanisms that its kind has.
        let signs = [Mechanism::RsaPkcs, Mechanism::RsaX509, Mechanism::Ecdsa];
        let decrypts =
            [Mechanism::RsaPkcs, Mechanism::RsaX509, handover::oaep(claviger_hsm_profiles::OaepHash::Sha1)];
        // Its own use by a mechanism that isn't ours: raw RSA signs what decrypts.
        let raw = if template == Template::RsaDecrypt {
            session.decrypt(&Mechanism::RsaPkcs, key, &[1; 256]).map(drop)
        } else {
            session
                .sign(
                    if spec == KeySpec::EcP256 { &Mechanism::EcdsaSha256 } else { &Mechanism::RsaX509 },
                    key,
                    &[1; 256],
                )
                .map(drop)
        };
        assert!(
            matches!(raw, Err(Error::Pkcs11(RvError::MechanismInvalid, _))),
            "{spec} {template:?}: {raw:?}"
        );
        if template == Template::RsaDecrypt {
            assert!(signs.iter().all(|mechanism| session.sign(mechanism, key, &[1; 32]).is_err()));
        } else {
            assert!(decrypts.iter().all(|mechanism| session.decrypt(mechanism, key, &[1; 256]).is_err()));
            let unwrapped = template::session_key(template::Usage::ENCRYPT);
            assert!(session.unwrap_key(&decrypts[2], key, &[1; 256], &unwrapped).is_err());
        }
        let held = Held { handle: key, spec, template };
        assert!(calls::derive(session, held.handle, &[0; 16]).is_err());
        assert!(session.wrap_key(&Mechanism::AesKeyWrapPad, root, key).is_err());
        for change in [Attribute::Extractable(true), Attribute::Sensitive(false)] {
            let _ = session.update_attributes(key, std::slice::from_ref(&change));
            if let Ok(copy) = session.copy_object(key, &[change]) {
                assert!(session.wrap_key(&Mechanism::AesKeyWrapPad, root, copy).is_err());
            }
        }
        let wanted = [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Token(false)];
        let types: Vec<_> = wanted.iter().map(Attribute::attribute_type).collect();
        assert_eq!(session.get_attributes(key, &types).unwrap(), wanted);
        for secret in [AttributeType::PrivateExponent, AttributeType::Prime1, AttributeType::Value] {
            let read = session.get_attributes(key, &[secret]);
            assert!(read.as_ref().map_or(true, Vec::is_empty), "a private key was read");
        }
        assert!(private::sign(session, &means, &held, SigningAlgorithm::Sm2Dsa, &[1; 32]).is_err());
    }
}

fn every_lane_has_keys_of_its_own(token: Token) {
    let (_, member) = Bench::new(token).ready();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(member.asymmetric.len(), cores.min(4));
    let pair = Stored::generate(&member.make, KeySpec::Rsa2048, Template::RsaSign);
    let (public, algorithm) = (pair.public(), SigningAlgorithm::RsaPkcs1Sha256);
    let digest = software::digest(algorithm.digest(), b"message");
    let lanes: Vec<&Arc<Lane>> =
        [&member.serve, &member.make].into_iter().chain(&member.asymmetric).collect();
    let objects: Vec<ObjectId> = lanes.iter().map(|lane| pair.unwrap(lane)).collect();
    for (at, lane) in lanes.iter().enumerate() {
        for (of, object) in objects.iter().enumerate() {
            let signed = lane.run_now(&sign(*object, algorithm, &digest));
            if at == of {
                assert!(public.verify(algorithm, &digest, &bytes(signed)));
            } else {
                assert_eq!(signed, Err(HsmError::ObjectGone), "an object of lane {of} in lane {at}");
            }
        }
    }
    // The serving lane may be used in place, those for private keys never.
    assert!(lanes[0].try_run(&sign(objects[0], algorithm, &digest)).is_some());
    assert!(member.asymmetric.iter().all(|lane| lane.try_run(&Command::Canary).is_none()));
}
