//! What goes to the disk, computed a second time without the token: derivation, check
//! values and the wrap are the same on every token, or blobs couldn't move.

use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{aead, cmac, hmac};
use claviger_hsm_profiles::Quirk;
use claviger_protocol::{KeySpec, SecretBytes};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{KeyType, ObjectHandle};
use cryptoki::session::Session;

use super::support::{Bench, Token, isolated, on_each_token};
use crate::backend::hsm::command::{RESERVED_SALT, Template};
use crate::backend::hsm::login;
use crate::backend::hsm::means::{Held, Means};
use crate::backend::hsm::template::{self, Usage};
use crate::backend::hsm::{calls, check_value, private};
use crate::backend::software::{PrivateKey, PublicKey};
use crate::config::PinSource;

on_each_token!(
    derivation_and_check_values_are_as_documented,
    a_wrap_is_rfc_3394,
    a_pairs_wrap_is_rfc_5649_of_pkcs_8,
);

const KEY: [u8; 32] = *b"a key that everybody knows about";

/// AES-256-CBC, IV of zeros, two blocks.
fn cbc(key: &[u8; 32], data: &[u8; 32]) -> [u8; 32] {
    let key = UnboundCipherKey::new(&cipher::AES_256, key).unwrap();
    let mut out = *data;
    let iv = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    EncryptingKey::cbc(key).unwrap().less_safe_encrypt(&mut out, iv).unwrap();
    out
}

fn gcm(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], text: &[u8]) -> Vec<u8> {
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, key).unwrap());
    let mut out = text.to_vec();
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, aead::Aad::from(aad), &mut out).unwrap();
    out
}

fn subkey(salt: &[u8; 16]) -> [u8; 32] {
    let mut data = [0; 32];
    data[..16].copy_from_slice(salt);
    data[16..].copy_from_slice(b"claviger/v1/subk");
    cbc(&KEY, &data)
}

fn derivation_and_check_values_are_as_documented(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let means = Means::of(&bench.config.profile);
    let held = |handle, template| Held { handle, spec: KeySpec::Aes256, template };
    let known = |template| -> ObjectHandle {
        session.create_object(&template::known_key(Usage::of(template), &KEY, false)).unwrap()
    };
    let deriving = known(Template::AesDeriveOnly);
    let salt = [0xa5; 16];
    let derived = calls::derive(session, deriving, &salt).unwrap();
    let sealed = calls::gcm_seal(session, derived, [5; 12], b"aad", b"text").unwrap();
    assert_eq!(sealed, gcm(&subkey(&salt), [5; 12], b"aad", b"text"));

    let label = b"claviger/v1/check-value";
    let found = check_value::compute(session, &means, &held(deriving, Template::AesDeriveOnly)).unwrap();
    assert_eq!(found, gcm(&subkey(&RESERVED_SALT), [0; 12], label, b"")[..8]);
    let direct = known(Template::AesDirect);
    let found = check_value::compute(session, &means, &held(direct, Template::AesDirect)).unwrap();
    let mac = cmac::sign(&cmac::Key::new(cmac::AES_256, &KEY).unwrap(), label).unwrap();
    assert_eq!(found, mac.as_ref()[..8]);

    for (spec, algorithm) in [
        (KeySpec::Hmac256, hmac::HMAC_SHA256),
        (KeySpec::Hmac384, hmac::HMAC_SHA384),
        (KeySpec::Hmac512, hmac::HMAC_SHA512),
    ] {
        let template = Template::HmacSecret;
        let secret = vec![0x0b; spec.secret_len().unwrap()];
        let attributes = template::known_secret(KeyType::GENERIC_SECRET, Usage::of(template), &secret, false);
        let handle = session.create_object(&attributes).unwrap();
        let found = check_value::compute(session, &means, &Held { handle, spec, template }).unwrap();
        assert_eq!(found, hmac::sign(&hmac::Key::new(algorithm, &secret), label).as_ref()[..8]);
    }
}

/// A key that is wrapped in one token opens in any other under the same root.
fn a_wrap_is_rfc_3394(token: Token) {
    use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.make().owner;
    let root = session.create_object(&template::known_key(Usage::WRAP, &[9; 32], false)).unwrap();
    let key = session.create_object(&template::known_key(Usage::ENCRYPT, &KEY, true)).unwrap();
    let blob = session.wrap_key(&Mechanism::AesKeyWrap, root, key).unwrap();
    let kek = AesKek::new(&AES_256, &[9; 32]).unwrap();
    let mut out = [0; 40];
    assert_eq!(kek.wrap(&KEY, &mut out).unwrap(), blob);
}

/// A new pair of the session, and the private key wrapped under `root`.
fn wrapped_pair(
    session: &Session,
    means: &Means,
    root: ObjectHandle,
    (spec, template): (KeySpec, Template),
) -> (Vec<u8>, Vec<u8>) {
    let (public, private) = template::passing_pair(means, spec, template).unwrap();
    let generation = means.generation(spec).unwrap();
    let (public, private) = session.generate_key_pair(&generation, &public, &private).unwrap();
    let spki = private::public_key(session, public, spec).unwrap();
    (session.wrap_key(&Mechanism::AesKeyWrapPad, root, private).unwrap(), spki)
}

const PAIRS: [(KeySpec, Template); 4] = [
    (KeySpec::Rsa2048, Template::RsaSign),
    (KeySpec::Rsa2048, Template::RsaDecrypt),
    (KeySpec::EcP256, Template::EcSign),
    (KeySpec::EcP384, Template::EcSign),
];

fn a_pairs_wrap_is_rfc_5649_of_pkcs_8(token: Token) {
    use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.make().owner;
    let means = Means::of(&bench.config.profile);
    let root = session.create_object(&template::known_key(Usage::WRAP, &[9; 32], false)).unwrap();
    for (spec, template) in PAIRS {
        let (blob, spki) = wrapped_pair(session, &means, root, (spec, template));
        let kek = AesKek::new(&AES_256, &[9; 32]).unwrap();
        let mut out = vec![0; blob.len()];
        let pkcs8 = kek.unwrap_with_padding(&blob, &mut out).unwrap();
        let length = match *pkcs8 {
            [0x30, 0x81, length, ..] => 3 + usize::from(length),
            [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
            [0x30, length @ ..=0x7F, ..] => 2 + usize::from(length),
            _ => panic!("no DER"),
        };
        let (pkcs8, zeros) = pkcs8.split_at(length);
        // SoftHSM2 fills up with zeros what it wraps: the quirk wraps-zero-padded.
        let most = if means.has(Quirk::WrapsZeroPadded) { 7 } else { 0 };
        assert!(zeros.len() <= most && zeros.iter().all(|byte| *byte == 0), "{zeros:?}");
        let ours = PrivateKey::from_pkcs8(spec.pair().unwrap(), &SecretBytes::new(pkcs8.to_vec())).unwrap();
        let entropy = crate::edge::Entropy::system();
        let Some(&algorithm) = spec.signing_algorithms().first() else { continue };
        let digest = vec![7; algorithm.digest().len()];
        let signature = ours.sign(algorithm, &digest, &entropy).unwrap();
        let public = PublicKey::from_spki(&spki).unwrap();
        assert!(public.verify(algorithm, &digest, &signature), "{spec}");
    }
}

/// What one token has wrapped, the other opens under the same root, and it works there.
#[test]
fn pairs_move_between_tokens_under_one_root() {
    isolated(concat!(module_path!(), "::pairs_move_between_tokens_under_one_root"), || {
        let mut embedded = Bench::new(Token::Embedded);
        let pin = embedded.path().join("embedded.pin");
        std::fs::rename(embedded.path().join("pin"), &pin).unwrap();
        embedded.config.pin = PinSource::File(pin);
        let benches = [embedded, Bench::new(Token::SoftHsm)];
        let sides = benches.each_ref().map(|bench| {
            let opened = login::open(&bench.config).unwrap();
            let root = template::known_key(Usage::WRAP, &[9; 32], false);
            let root = opened.serve().owner.create_object(&root).unwrap();
            (opened, root, Means::of(&bench.config.profile))
        });
        for (from, to) in [(0, 1), (1, 0)] {
            for (spec, template) in PAIRS {
                let (opened, root, means) = &sides[from];
                let (blob, spki) = wrapped_pair(&opened.serve().owner, means, *root, (spec, template));
                let (opened, root, means) = &sides[to];
                let session = &opened.serve().owner;
                let attributes = template::unwrapped_private(means, spec, template).unwrap();
                let key = session.unwrap_key(&Mechanism::AesKeyWrapPad, *root, &blob, &attributes).unwrap();
                let key = Held { handle: key, spec, template };
                let public = PublicKey::from_spki(&spki).unwrap();
                assert!(private::belongs(session, means, &key, &public).unwrap(), "{spec} {template:?}");
            }
        }
    });
}
