//! What is asked of key pairs and MAC keys and can't be: foreign algorithms and versions, lengths
//! out of bounds, and signatures, ciphertexts and points whose encoding isn't the one there is.
//! At both levels, on every token. Frames, names and blobs are `inputs.rs`'s, public keys of
//! others `exports.rs`'s.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    AsymmetricDecryptRequest, AsymmetricEncryptRequest, AsymmetricSignRequest, AsymmetricVerifyRequest,
    CreateKeyRequest, GenerateMacRequest, GetPublicKeyRequest, VerifyMacRequest,
};
use claviger_protocol::{
    Code, EncryptionAlgorithm, KeySpec, KeyUsage, MacAlgorithm, MessageType, Operation, Protection,
    SecretBytes, SigningAlgorithm,
};
use claviger_tests::keys::{LEVELS, new_key};
use claviger_tests::pairs::{ciphertext, opening, signing, verifying};
use claviger_tests::{Site, Token, Wire};
use uuid::Uuid;

/// One of each kind: the longer RSA keys only take longer.
const KINDS: [(KeySpec, KeyUsage); 7] = [
    (KeySpec::Rsa2048, KeyUsage::SignVerify),
    (KeySpec::Rsa2048, KeyUsage::EncryptDecrypt),
    (KeySpec::EcP256, KeyUsage::SignVerify),
    (KeySpec::EcP384, KeyUsage::SignVerify),
    (KeySpec::Sm2, KeyUsage::SignVerify),
    (KeySpec::Sm2, KeyUsage::EncryptDecrypt),
    (KeySpec::HmacSm3, KeyUsage::GenerateVerifyMac),
];

/// A key of [`KINDS`].
#[derive(Clone, Copy)]
struct Key {
    id: Uuid,
    spec: KeySpec,
    usage: KeyUsage,
}

/// Keys of every kind at both levels, as far as the token has them.
fn keys(admin: &mut Wire) -> Vec<Key> {
    let mut keys = Vec::new();
    for ((spec, usage), level) in KINDS.iter().flat_map(|kind| LEVELS.map(|level| (*kind, level))) {
        match admin.call(CreateKeyRequest { spec, usage: Some(usage), ..new_key(level) }) {
            Ok(reply) => keys.push(Key { id: reply.key_id, spec, usage }),
            Err(refusal) => {
                assert_eq!((refusal.code, level), (Code::UnsupportedByHsm, Protection::Hsm), "{spec}");
            }
        }
    }
    assert!(keys.len() >= 11, "{}", keys.len());
    keys
}

/// All of it on one token: what takes time is making the keys.
fn check(token: Token) {
    let daemon = Site::new(token).start();
    let keys = keys(&mut daemon.admin());
    let mut wire = daemon.app();
    an_algorithm_of_another_spec_is_refused_everywhere(&mut wire, &keys);
    a_version_that_is_missing_or_another_keys_is_not_found(&mut wire, &keys);
    digests_have_the_length_of_their_algorithm(&mut wire, &keys);
    inputs_may_be_empty_or_long_as_far_as_the_algorithm_goes(&mut wire, &keys);
    a_signature_in_any_other_encoding_is_false(&mut wire, &keys);
    an_sm2_ciphertext_in_any_other_encoding_or_off_the_curve_opens_nothing(&mut wire, &keys);
    daemon.terminate();
}

#[test]
fn the_embedded_token_and_software_refuse_it() {
    check(Token::Embedded);
}

#[test]
fn softhsm2_and_software_refuse_it() {
    check(Token::SoftHsm);
}

#[test]
fn a_token_with_sm_refuses_it() {
    check(Token::Sm("complete"));
}

fn of_usage(keys: &[Key], usage: KeyUsage) -> impl Iterator<Item = Key> {
    keys.iter().copied().filter(move |key| key.usage == usage)
}

fn code<O: Operation>(wire: &mut Wire, request: O) -> Code {
    wire.call(request).map_or_else(|refusal| refusal.code, |_| Code::Ok)
}

fn encrypting(key: Uuid, algorithm: EncryptionAlgorithm, length: usize) -> AsymmetricEncryptRequest {
    let plaintext = SecretBytes::new(vec![0x5A; length]);
    AsymmetricEncryptRequest { key: key.into(), key_version_id: None, algorithm, plaintext }
}

fn mac_check(key: Uuid, algorithm: Option<MacAlgorithm>, version: Option<Uuid>) -> VerifyMacRequest {
    VerifyMacRequest {
        key: key.into(),
        key_version_id: version,
        algorithm,
        message: SecretBytes::new(b"m".to_vec()),
        mac: vec![0; 32].into(),
    }
}

fn an_algorithm_of_another_spec_is_refused_everywhere(wire: &mut Wire, keys: &[Key]) {
    for key in of_usage(keys, KeyUsage::SignVerify) {
        let own = key.spec.signing_algorithms();
        for &algorithm in SigningAlgorithm::ALL.iter().filter(|other| !own.contains(other)) {
            let request = signing(key.id, algorithm, b"m");
            assert_eq!(code(wire, request.clone()), Code::InvalidArgument, "{} {algorithm}", key.spec);
            let check = verifying(&request, &[0; 64]);
            assert_eq!(code(wire, check), Code::InvalidArgument, "{} {algorithm}", key.spec);
        }
    }
    for key in of_usage(keys, KeyUsage::EncryptDecrypt) {
        let own = key.spec.encryption_algorithms();
        for &algorithm in EncryptionAlgorithm::ALL.iter().filter(|other| !own.contains(other)) {
            assert_eq!(code(wire, encrypting(key.id, algorithm, 1)), Code::InvalidArgument);
            assert_eq!(code(wire, opening(key.id, algorithm, &[0; 256])), Code::InvalidArgument);
        }
    }
    for key in of_usage(keys, KeyUsage::GenerateVerifyMac) {
        let own = key.spec.mac_algorithm();
        for &algorithm in MacAlgorithm::ALL.iter().filter(|other| Some(**other) != own) {
            let (algorithm, message) = (Some(algorithm), SecretBytes::new(b"m".to_vec()));
            let request = GenerateMacRequest { key: key.id.into(), algorithm, message };
            assert_eq!(code(wire, request), Code::InvalidArgument);
            assert_eq!(code(wire, mac_check(key.id, algorithm, None)), Code::InvalidArgument);
        }
    }
}

fn a_version_that_is_missing_or_another_keys_is_not_found(wire: &mut Wire, keys: &[Key]) {
    let of_another = keys.iter().find(|key| key.spec == KeySpec::EcP384).unwrap().id;
    let of_another = GetPublicKeyRequest { key: of_another.into(), key_version_id: None };
    let of_another = wire.call(of_another).unwrap().key_version_id;
    for version in [Uuid::from_u128(5), of_another] {
        let key_version_id = Some(version);
        for key in keys.iter().filter(|key| key.spec != KeySpec::EcP384) {
            let public = GetPublicKeyRequest { key: key.id.into(), key_version_id };
            let codes = match key.usage {
                KeyUsage::SignVerify => {
                    let request = signing(key.id, key.spec.signing_algorithms()[0], b"m");
                    let check = AsymmetricVerifyRequest { key_version_id, ..verifying(&request, &[0; 64]) };
                    let request = AsymmetricSignRequest { key_version_id, ..request };
                    vec![code(wire, request), code(wire, check), code(wire, public)]
                }
                KeyUsage::EncryptDecrypt => {
                    let algorithm = key.spec.encryption_algorithms()[0];
                    let seal = encrypting(key.id, algorithm, 1);
                    let open = opening(key.id, algorithm, &[0; 256]);
                    let seal = AsymmetricEncryptRequest { key_version_id, ..seal };
                    let open = AsymmetricDecryptRequest { key_version_id, ..open };
                    vec![code(wire, seal), code(wire, open), code(wire, public)]
                }
                KeyUsage::GenerateVerifyMac => {
                    vec![code(wire, mac_check(key.id, None, key_version_id))]
                }
            };
            assert!(codes.iter().all(|code| *code == Code::NotFound), "{}: {codes:?}", key.spec);
        }
    }
}

fn digests_have_the_length_of_their_algorithm(wire: &mut Wire, keys: &[Key]) {
    for key in of_usage(keys, KeyUsage::SignVerify) {
        for &algorithm in key.spec.signing_algorithms() {
            let right = algorithm.digest().len();
            for length in [0, 1, 20, 31, 32, 33, 47, 48, 49, 63, 64, 65, 1000] {
                let request = AsymmetricSignRequest {
                    message_type: MessageType::Digest,
                    ..signing(key.id, algorithm, &vec![1; length])
                };
                let want = if length == right { Code::Ok } else { Code::InvalidArgument };
                assert_eq!(code(wire, request.clone()), want, "{algorithm}, {length} bytes");
                assert_eq!(code(wire, verifying(&request, &[0; 64])), want, "{algorithm}, {length} bytes");
            }
        }
    }
}

fn inputs_may_be_empty_or_long_as_far_as_the_algorithm_goes(wire: &mut Wire, keys: &[Key]) {
    for key in of_usage(keys, KeyUsage::SignVerify) {
        for length in [0, 500_000] {
            let request = signing(key.id, key.spec.signing_algorithms()[0], &vec![7; length]);
            let signature = wire.call(request.clone()).unwrap().signature.0;
            assert!(wire.call(verifying(&request, &signature)).unwrap().valid);
        }
        if key.spec == KeySpec::Sm2 {
            for (length, want) in [(0, Code::Ok), (255, Code::Ok), (256, Code::InvalidArgument)] {
                let user_id = Some(vec![b'u'; length].into());
                let request = signing(key.id, SigningAlgorithm::Sm2Dsa, b"m");
                let request = AsymmetricSignRequest { user_id, ..request };
                assert_eq!(code(wire, request), want, "a user id of {length} bytes");
            }
        }
    }
    for key in of_usage(keys, KeyUsage::EncryptDecrypt) {
        for &algorithm in key.spec.encryption_algorithms() {
            let (most, empty) = match algorithm {
                EncryptionAlgorithm::RsaesOaepSha1 => (256 - 2 - 2 * 20, Code::Ok),
                EncryptionAlgorithm::RsaesOaepSha256 => (256 - 2 - 2 * 32, Code::Ok),
                // SM2 has no ciphertext of nothing.
                EncryptionAlgorithm::Sm2Pke => (6144, Code::InvalidArgument),
            };
            assert_eq!(code(wire, encrypting(key.id, algorithm, 0)), empty, "{algorithm}");
            assert_eq!(code(wire, encrypting(key.id, algorithm, most)), Code::Ok, "{algorithm}");
            for length in [most + 1, 100_000] {
                let request = encrypting(key.id, algorithm, length);
                assert_eq!(code(wire, request), Code::PlaintextTooLarge, "{algorithm}, {length} bytes");
            }
            for length in [0, 1, 100_000] {
                let request = opening(key.id, algorithm, &vec![4; length]);
                assert_eq!(code(wire, request), Code::InvalidCiphertext, "{algorithm}, {length} bytes");
            }
        }
    }
}

/// DER of one value.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..=0x7F => vec![u8::try_from(short).unwrap()],
        long @ ..=0xFF => vec![0x81, u8::try_from(long).unwrap()],
        long => [&[0x82][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
    };
    [&[tag][..], &length, content].concat()
}

fn sequence(values: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &values.concat())
}

/// Tag and content of each value within a SEQUENCE, whose lengths are all short or of one byte.
fn values(encoded: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = if encoded[1] == 0x81 { &encoded[3..] } else { &encoded[2..] };
    let mut out = Vec::new();
    while let [tag, length, after @ ..] = rest {
        let (content, after) = after.split_at(usize::from(*length));
        out.push((*tag, content.to_vec()));
        rest = after;
    }
    out
}

const INTEGER: u8 = 0x02;

/// The same two numbers first, in ways that DER hasn't; then what they can't be.
fn malformed(encoded: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let values = values(encoded);
    let whole: Vec<Vec<u8>> = values.iter().map(|(tag, content)| der(*tag, content)).collect();
    assert_eq!(sequence(&whole), encoded, "the test reads what there is");
    let first = &values[0].1;
    let with_first = |value: Vec<u8>| sequence(&[&[value], &whole[1..]].concat());
    let contents = whole.concat();
    let negative = match first.as_slice() {
        [0, rest @ ..] => rest.to_vec(),
        [head, rest @ ..] => [&[head | 0x80], rest].concat(),
        [] => panic!("a number has bytes"),
    };
    let long_length = |length: &[u8]| [&[0x30], length, &contents].concat();
    let length = u8::try_from(contents.len()).unwrap();
    vec![
        ("bytes behind it", [encoded, &[0]].concat()),
        ("bytes within it", sequence(&[&whole[..], &[vec![0]]].concat())),
        ("another number within it", sequence(&[&whole[..], &[der(INTEGER, &[1])]].concat())),
        ("one number fewer", sequence(&whole[..whole.len() - 1])),
        ("a negative number", with_first(der(INTEGER, &negative))),
        ("a zero too many", with_first(der(INTEGER, &[&[0], &first[..]].concat()))),
        ("zero", with_first(der(INTEGER, &[0]))),
        ("no bytes", with_first(der(INTEGER, &[]))),
        ("beyond the order", with_first(der(INTEGER, &[&[0][..], &[0xFF; 48]].concat()))),
        ("far too long", with_first(der(INTEGER, &[1; 200]))),
        ("another tag", with_first(der(0x04, first))),
        ("a SET", der(0x31, &contents)),
        ("a longer length than needed", long_length(&[0x82, 0, length])),
        ("no end", long_length(&[0x80])),
        ("a length beyond the end", long_length(&[length.wrapping_add(1)])),
        ("cut", encoded[..encoded.len() - 1].to_vec()),
        ("nothing", vec![]),
        ("an empty SEQUENCE", sequence(&[])),
    ]
}

fn a_signature_in_any_other_encoding_is_false(wire: &mut Wire, keys: &[Key]) {
    for key in of_usage(keys, KeyUsage::SignVerify).filter(|key| key.spec != KeySpec::Rsa2048) {
        let request = signing(key.id, key.spec.signing_algorithms()[0], b"m");
        let signature = wire.call(request.clone()).unwrap().signature.0;
        for (what, wrong) in malformed(&signature) {
            let reply = wire.call(verifying(&request, &wrong)).unwrap();
            assert!(!reply.valid, "{}, {what}: {wrong:02x?}", key.spec);
        }
        assert!(wire.call(verifying(&request, &signature)).unwrap().valid);
    }
}

fn an_sm2_ciphertext_in_any_other_encoding_or_off_the_curve_opens_nothing(wire: &mut Wire, keys: &[Key]) {
    let sm2 = of_usage(keys, KeyUsage::EncryptDecrypt).filter(|key| key.spec == KeySpec::Sm2);
    for key in sm2 {
        let algorithm = EncryptionAlgorithm::Sm2Pke;
        let sealed = ciphertext(wire, key.id, algorithm, b"secret");
        let parts = values(&sealed);
        let [x, y, hash, text] = [0, 1, 2, 3].map(|at| parts[at].1.clone());
        let built = |x: &[u8], y: &[u8], hash: &[u8], text: &[u8]| {
            sequence(&[der(INTEGER, x), der(INTEGER, y), der(4, hash), der(4, text)])
        };
        let mut off = y.clone();
        *off.last_mut().unwrap() ^= 1;
        let mut wrong = malformed(&sealed);
        wrong.extend([
            ("a point off the curve", built(&x, &off, &hash, &text)),
            ("its numbers exchanged", built(&y, &x, &hash, &text)),
            ("the point 0, 0", built(&[0], &[0], &hash, &text)),
            ("a short hash", built(&x, &y, &hash[1..], &text)),
            ("a long hash", built(&x, &y, &[&hash[..], &[0]].concat(), &text)),
            ("no text", built(&x, &y, &hash, &[])),
            ("parts exchanged", built(&x, &y, &text, &hash)),
        ]);
        for (what, wrong) in wrong {
            let refusal = wire.call(opening(key.id, algorithm, &wrong)).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidCiphertext, "{what}: {}", refusal.message);
        }
        let opened = wire.call(opening(key.id, algorithm, &sealed)).unwrap();
        assert_eq!(opened.plaintext.expose(), b"secret");
    }
}
