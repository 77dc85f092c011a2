//! What goes to the disk, computed a second time without the token: derivation, check
//! values and the wrap are the same on every token, or blobs couldn't move.

use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{aead, cmac};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::command::{RESERVED_SALT, Template};
use crate::backend::hsm::login;
use crate::backend::hsm::template::{self, Usage};
use crate::backend::hsm::{calls, check_value};

on_each_token!(derivation_and_check_values_are_as_documented, a_wrap_is_rfc_3394);

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
    let known = |template| -> ObjectHandle {
        session.create_object(&template::known_key(Usage::of(template), &KEY, false)).unwrap()
    };
    let deriving = known(Template::AesDeriveOnly);
    let salt = [0xa5; 16];
    let derived = calls::derive(session, deriving, &salt).unwrap();
    let sealed = calls::gcm_seal(session, derived, [5; 12], b"aad", b"text").unwrap();
    assert_eq!(sealed, gcm(&subkey(&salt), [5; 12], b"aad", b"text"));

    let label = b"claviger/v1/check-value";
    let found = check_value::compute(session, deriving, Template::AesDeriveOnly).unwrap();
    assert_eq!(found, gcm(&subkey(&RESERVED_SALT), [0; 12], label, b"")[..8]);
    let direct = known(Template::AesDirect);
    let found = check_value::compute(session, direct, Template::AesDirect).unwrap();
    let mac = cmac::sign(&cmac::Key::new(cmac::AES_256, &KEY).unwrap(), label).unwrap();
    assert_eq!(found, mac.as_ref()[..8]);
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
