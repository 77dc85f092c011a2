//! Material that is brought from outside, into both tokens: inside where they can, through
//! memory elsewhere, always the material that was sent, and nothing is left behind.

use std::process::Command as Process;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use claviger_protocol::{
    ExportAlgorithm, ImportAlgorithm, KeyPairSpec, KeySpec, SecretBytes, WrappingKeySpec,
};

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::command::{
    Answer, CheckValue, Command, HsmError, ObjectId, Template, WrapFormat, Wrapped, WrappingKey,
};
use crate::backend::hsm::lane::Lane;
use crate::backend::hsm::member::Member;
use crate::backend::import::{Envelope, Material, Wrong, secret_lengths};
use crate::backend::software::{self, GcmKey, MacKey, PrivateKey, PublicKey, import_value};
use crate::edge::Entropy;

on_each_token!(
    secrets_come_in_as_they_were_sent,
    pairs_come_in_as_they_were_sent,
    whatever_is_wrong_with_what_was_sent_is_one_error,
    a_wrapping_key_that_is_not_the_one_is_a_fault_of_ours,
    the_clear_material_never_leaves_where_the_token_can,
);

const RSA: [ImportAlgorithm; 4] = [
    ImportAlgorithm::RsaesPkcs1V15,
    ImportAlgorithm::RsaesOaepSha1,
    ImportAlgorithm::RsaesOaepSha256,
    ImportAlgorithm::RsaAesKeyWrapSha256,
];

/// What each token can do by itself.
fn inside(token: Token, algorithm: ImportAlgorithm) -> bool {
    match token {
        Token::Embedded => algorithm != ImportAlgorithm::RsaesPkcs1V15,
        Token::SoftHsm => {
            matches!(algorithm, ImportAlgorithm::RsaesPkcs1V15 | ImportAlgorithm::RsaesOaepSha1)
        }
    }
}

fn wrapping_key(member: &Member) -> WrappingKey {
    let (spec, template) = (KeySpec::Rsa2048, Template::RsaDecrypt);
    match member.make.run_now(&Command::Generate { spec, template }) {
        Ok(Answer::GeneratedPair { wrapped, public_key }) => WrappingKey { wrapped, spec, public_key },
        other => panic!("{other:?}"),
    }
}

fn export(algorithm: ImportAlgorithm) -> ExportAlgorithm {
    match algorithm {
        ImportAlgorithm::RsaesPkcs1V15 => ExportAlgorithm::RsaesPkcs1V15,
        ImportAlgorithm::RsaesOaepSha1 => ExportAlgorithm::RsaesOaepSha1,
        _ => ExportAlgorithm::RsaesOaepSha256,
    }
}

fn block(key: &WrappingKey, algorithm: ImportAlgorithm, text: &[u8]) -> Vec<u8> {
    let public = PublicKey::from_spki(&key.public_key).unwrap();
    public.encrypt(export(algorithm), text, &Entropy::system()).unwrap()
}

fn kwp(key: &[u8; 32], text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; text.len() + 16];
    let length = AesKek::new(&AES_256, key).unwrap().wrap_with_padding(text, &mut out).unwrap().len();
    out.truncate(length);
    out
}

/// What an owner sends: one part or two.
fn send(
    key: &WrappingKey,
    algorithm: ImportAlgorithm,
    spec: KeySpec,
    material: &[u8],
) -> (Vec<u8>, Option<Vec<u8>>) {
    let joined = algorithm == ImportAlgorithm::RsaAesKeyWrapSha256;
    if !joined && spec.pair().is_none() {
        return (block(key, algorithm, material), None);
    }
    let (ephemeral, inner) = (block(key, algorithm, &[0x77; 32]), kwp(&[0x77; 32], material));
    if joined { ([ephemeral, inner].concat(), None) } else { (inner, Some(ephemeral)) }
}

fn template(spec: KeySpec, member: &Member) -> Template {
    match spec {
        KeySpec::Aes256 => member.aes_template,
        KeySpec::EcP256 | KeySpec::EcP384 => Template::EcSign,
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => Template::RsaSign,
        _ => Template::HmacSecret,
    }
}

fn import(key: &WrappingKey, envelope: &Envelope, template: Template) -> Command {
    let inner = envelope.key_wrapped().unwrap();
    Command::Import {
        key: key.clone(),
        algorithm: envelope.algorithm(),
        block: envelope.block().unwrap().to_vec(),
        inner: inner.map(<[u8]>::to_vec),
        spec: envelope.spec(),
        template,
    }
}

/// Whether it came in without passing through memory, and what became of it.
fn bring(
    lane: &Lane,
    key: &WrappingKey,
    envelope: &Envelope,
    template: Template,
) -> (bool, Result<Answer, HsmError>) {
    match lane.run_now(&import(key, envelope, template)) {
        Ok(Answer::NotInside) => {}
        other => return (true, other),
    }
    let block = envelope.block().unwrap().to_vec();
    let open = Command::OpenBlock { key: key.clone(), algorithm: envelope.algorithm(), block };
    let opened = match lane.run_now(&open) {
        Ok(Answer::Bytes(opened)) => Ok(opened),
        Err(HsmError::AuthenticationFailed) => Err(Wrong),
        other => panic!("{other:?}"),
    };
    let (material, public_key) = match envelope.finish(opened) {
        Ok(Material::Secret(secret)) => (secret, Vec::new()),
        Ok(Material::Pair { pkcs8, public_key }) => (pkcs8, public_key),
        Err(Wrong) => return (false, Err(HsmError::AuthenticationFailed)),
    };
    (false, lane.run_now(&Command::Adopt { material, spec: envelope.spec(), template, public_key }))
}

fn envelope(key: &WrappingKey, algorithm: ImportAlgorithm, spec: KeySpec, material: &[u8]) -> Envelope {
    let (material, ephemeral) = send(key, algorithm, spec, material);
    Envelope::new(spec, WrappingKeySpec::Rsa2048, algorithm, material, ephemeral).unwrap()
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

/// The message key that OpenSSL derives: AES-256-CBC over salt ‖ label, without padding.
fn subkey(bench: &Bench, key: &[u8], salt: &[u8; 16]) -> Vec<u8> {
    std::fs::write(bench.path().join("data"), [salt.as_slice(), b"claviger/v1/subk"].concat()).unwrap();
    let mut openssl = Process::new("openssl");
    openssl.args(["enc", "-aes-256-cbc", "-nopad", "-iv", &"0".repeat(32), "-K", &hex::encode(key)]);
    let done = openssl.args(["-in", "data"]).current_dir(bench.path()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    done.stdout
}

/// The key does what this material does.
fn is_really(bench: &Bench, member: &Member, spec: KeySpec, material: &[u8], stored: (Wrapped, CheckValue)) {
    let (lane, template) = (&member.serve, template(spec, member));
    let (wrapped, check_value) = stored;
    let key = object(lane.run_now(&Command::Unwrap { wrapped, spec, template, check_value }));
    if let Some(algorithm) = spec.mac_algorithm() {
        let message = SecretBytes::new(b"message".to_vec());
        let mac = bytes(lane.run_now(&Command::Mac { object: key, algorithm, message }));
        let software = MacKey::new(algorithm, &SecretBytes::new(material.to_vec())).unwrap();
        assert_eq!(mac, software.mac(b"message"), "{spec}, {} bytes", material.len());
        return;
    }
    let salt = [3; 16];
    let sub = object(lane.run_now(&Command::Derive { object: key, salt }));
    let plaintext = SecretBytes::new(b"text".to_vec());
    let seal = Command::GcmSeal { object: sub, nonce: [1; 12], aad: vec![2], plaintext };
    let sealed = bytes(lane.run_now(&seal));
    let ours = GcmKey::aes(&subkey(bench, material, &salt)).unwrap();
    assert_eq!(ours.open([1; 12], &[2], &sealed).unwrap().expose(), b"text");
}

fn secrets_come_in_as_they_were_sent(token: Token) {
    let bench = Bench::new(token);
    let (root, member) = bench.ready();
    let (key, lane) = (wrapping_key(&member), member.pair_lane());
    for algorithm in RSA {
        for (spec, lengths) in [
            (KeySpec::Aes256, &[32][..]),
            (KeySpec::Hmac256, &[32, 33, 40, 63, 64]),
            (KeySpec::Hmac384, &[48]),
            (KeySpec::Hmac512, &[32, 61]),
        ] {
            for length in lengths {
                let material: Vec<u8> = (7..).take(*length).collect();
                let sent = envelope(&key, algorithm, spec, &material);
                let (came_inside, answer) = bring(lane, &key, &sent, template(spec, &member));
                let Ok(Answer::Imported { wrapped, check_value, value }) = answer else {
                    panic!("{algorithm} {spec} {length}: {answer:?}")
                };
                // Secrets shorter than the hash are filled up, which only we can; of a secret's
                // length SoftHSM2 tells no more than the multiple of 8 that it wraps.
                let told = if token == Token::SoftHsm { (length - 1) / 8 * 8 + 1 } else { *length };
                let sure = spec == KeySpec::Aes256 || told >= spec.secret_len().unwrap();
                let can = inside(token, algorithm) && sure;
                assert_eq!(came_inside, can, "{algorithm} {spec} {length}");
                assert_eq!(wrapped.generation, root.generation);
                let expected = import_value(spec, &SecretBytes::new(material.clone())).unwrap();
                assert_eq!(value, expected, "{algorithm} {spec} {length}");
                is_really(&bench, &member, spec, &material, (wrapped, check_value));
            }
        }
    }
}

fn pairs_come_in_as_they_were_sent(token: Token) {
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let (key, lane) = (wrapping_key(&member), member.pair_lane());
    for (pair, algorithms) in
        [(KeyPairSpec::Rsa2048, &RSA[..]), (KeyPairSpec::EcP256, &RSA[1..]), (KeyPairSpec::EcP384, &RSA[..1])]
    {
        let spec = pair.key_spec();
        let (pkcs8, spki) = PrivateKey::generate(pair, &Entropy::system()).unwrap();
        for &algorithm in algorithms {
            let sent = envelope(&key, algorithm, spec, pkcs8.expose());
            let (came_inside, answer) = bring(lane, &key, &sent, template(spec, &member));
            let Ok(Answer::GeneratedPair { wrapped, public_key }) = answer else {
                panic!("{algorithm} {spec}: {answer:?}")
            };
            assert_eq!(public_key, spki);
            assert_eq!(came_inside, pair == KeyPairSpec::Rsa2048 && inside(token, algorithm), "{algorithm}");
            let template = template(spec, &member);
            let object = object(lane.run_now(&Command::UnwrapPair { wrapped, spec, template, public_key }));
            let signing = spec.signing_algorithms()[0];
            let digest = software::digest(signing.digest(), b"message");
            let signature =
                bytes(lane.run_now(&Command::Sign { object, algorithm: signing, digest: digest.clone() }));
            assert!(PublicKey::from_spki(&spki).unwrap().verify(signing, &digest, &signature));
        }
    }
}

/// Everything that can be wrong with what was sent: what the token unwraps, or we.
fn whatever_is_wrong_with_what_was_sent_is_one_error(token: Token) {
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let (key, lane) = (wrapping_key(&member), member.pair_lane());
    let other = wrapping_key(&member);
    let refused = |spec: KeySpec, algorithm, sent: (Vec<u8>, Option<Vec<u8>>), what: &str| {
        let envelope = Envelope::new(spec, WrappingKeySpec::Rsa2048, algorithm, sent.0, sent.1).unwrap();
        let (_, answer) = bring(lane, &key, &envelope, template(spec, &member));
        assert_eq!(answer, Err(HsmError::AuthenticationFailed), "{algorithm} {spec}: {what}");
    };
    for algorithm in RSA {
        for spec in [KeySpec::Aes256, KeySpec::Hmac256] {
            let length = *secret_lengths(spec).end();
            // AWS-LC wraps no empty text.
            let empty = usize::from(algorithm == ImportAlgorithm::RsaAesKeyWrapSha256);
            for wrong in [empty, 1, 16, 24, 25, 31, 65, 72] {
                refused(spec, algorithm, send(&key, algorithm, spec, &vec![1; wrong]), "another length");
            }
            if spec == KeySpec::Aes256 {
                refused(spec, algorithm, send(&key, algorithm, spec, &[1; 33]), "another length");
            }
            refused(spec, algorithm, send(&other, algorithm, spec, &vec![1; length]), "another key");
            for _ in 0..8 {
                // Any number below the modulus, mostly: its padding is wrong.
                let mut garbage = send(&key, algorithm, spec, &vec![1; length]);
                garbage.0[..256].copy_from_slice(&Entropy::system().array::<256>().unwrap());
                garbage.0[0] &= 0x7F;
                refused(spec, algorithm, garbage, "garbage");
            }
            if algorithm == ImportAlgorithm::RsaesPkcs1V15 {
                // One OAEP block in 400 is right in PKCS1's eyes.
                continue;
            }
            let another = ImportAlgorithm::RsaesPkcs1V15;
            let mut padded = send(&key, algorithm, spec, &vec![1; length]);
            padded.0[..256].copy_from_slice(&block(&key, another, &[1; 32]));
            refused(spec, algorithm, padded, "another padding");
        }
        let spec = KeySpec::Rsa2048;
        let (p256, _) = PrivateKey::generate(KeyPairSpec::EcP256, &Entropy::system()).unwrap();
        let (rsa, _) = PrivateKey::generate(KeyPairSpec::Rsa2048, &Entropy::system()).unwrap();
        let (longer, _) = PrivateKey::generate(KeyPairSpec::Rsa3072, &Entropy::system()).unwrap();
        refused(spec, algorithm, send(&key, algorithm, spec, p256.expose()), "another kind");
        refused(spec, algorithm, send(&key, algorithm, spec, longer.expose()), "another size");
        refused(spec, algorithm, send(&key, algorithm, spec, &[0; 64]), "no DER");
        refused(spec, algorithm, send(&key, algorithm, spec, &rsa.expose()[..800]), "cut");
        refused(KeySpec::EcP384, algorithm, send(&key, algorithm, spec, p256.expose()), "another curve");
        let mut flipped = send(&key, algorithm, spec, rsa.expose());
        let last = flipped.0.len() - 1;
        flipped.0[last] ^= 1;
        refused(spec, algorithm, flipped, "a flipped bit");
        if algorithm != ImportAlgorithm::RsaAesKeyWrapSha256 {
            for short in [16, 24, 31] {
                let (inner, ephemeral) =
                    (kwp(&[0x77; 32], rsa.expose()), block(&key, algorithm, &vec![0x77; short]));
                refused(spec, algorithm, (inner, Some(ephemeral)), "a short ephemeral key");
            }
        }
    }
    // None of it took the member down.
    assert_eq!(lane.run_now(&Command::Canary), Ok(Answer::Done));
}

fn a_wrapping_key_that_is_not_the_one_is_a_fault_of_ours(token: Token) {
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let (key, lane) = (wrapping_key(&member), member.pair_lane());
    let other = wrapping_key(&member);
    let algorithm = ImportAlgorithm::RsaesOaepSha1;
    let sent = envelope(&key, algorithm, KeySpec::Aes256, &[1; 32]);
    let with = |change: &dyn Fn(&mut WrappingKey)| {
        let mut changed = key.clone();
        change(&mut changed);
        let outcome = lane.run_now(&import(&changed, &sent, template(KeySpec::Aes256, &member)));
        let block = sent.block().unwrap().to_vec();
        let opened = lane.run_now(&Command::OpenBlock { key: changed, algorithm, block });
        assert_eq!(outcome.clone().unwrap_err(), opened.unwrap_err());
        outcome.unwrap_err()
    };
    let mismatch = HsmError::CheckValueMismatch;
    assert_eq!(with(&|key| key.wrapped.blob[20] ^= 1), mismatch);
    assert_eq!(with(&|key| key.public_key = other.public_key.clone()), mismatch);
    assert_eq!(with(&|key| key.wrapped.blob = other.wrapped.blob.clone()), mismatch);
    assert_eq!(with(&|key| key.wrapped.format = WrapFormat::AesKw), mismatch);
    assert_eq!(with(&|key| key.wrapped.generation = 9), HsmError::NoSuchRoot(9));
}

/// Neither the material nor a wrapping key stays, whatever became of it; and no session object
/// can be told from one that was never there.
fn the_clear_material_never_leaves_where_the_token_can(token: Token) {
    use crate::backend::hsm::login;
    use cryptoki::object::Attribute;
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let opened = login::open(&bench.config);
    let (key, lane) = (wrapping_key(&member), member.pair_lane());
    for algorithm in RSA {
        for (spec, material) in [(KeySpec::Aes256, vec![5; 32]), (KeySpec::Hmac256, vec![5; 37])] {
            let good = envelope(&key, algorithm, spec, &material);
            let bad = envelope(&key, algorithm, spec, &material[1..20]);
            for sent in [good, bad] {
                let _ = bring(lane, &key, &sent, template(spec, &member));
            }
        }
    }
    // Session objects are the application's: another session of it sees them all.
    if let Ok(opened) = opened {
        for token in opened.tokens() {
            let left = token.owner.find_objects(&[Attribute::Token(false)]).unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
