//! The numbers that the standards print, where no module's own tests have them.

use aes_gcm::aead::array::Array;
use claviger_protocol::{DigestAlgorithm, MacAlgorithm, SecretBytes};
use sm4::Sm4;
use sm4::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use crate::backend::encoding;
use crate::backend::software::gcm::{GcmKey, hkdf_sha256, hkdf_sm3};
use crate::backend::software::{MacKey, digest};

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace(' ', "")).unwrap()
}

/// GB/T 32907-2016 annex A.1.
#[test]
fn the_block_cipher_beneath_sm4_gcm() {
    let key: [u8; 16] = bytes("0123456789abcdeffedcba9876543210").try_into().unwrap();
    let cipher = Sm4::new(&key.into());
    let mut block = Array::from(key);
    cipher.encrypt_block(&mut block);
    assert_eq!(hex::encode(block), "681edf34d206965e86b3e94f536e4246");
    cipher.decrypt_block(&mut block);
    assert_eq!(<[u8; 16]>::from(block), key);
}

/// RFC 8998 appendix A.1.
#[test]
fn sm4_gcm() {
    let key = GcmKey::sm4(&bytes("0123456789abcdeffedcba9876543210")).unwrap();
    let nonce: [u8; 12] = bytes("00001234567800000000abcd").try_into().unwrap();
    let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plaintext = bytes(
        "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\
         eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa",
    );
    let mut text = plaintext.clone();
    let tag = key.seal(nonce, &aad, &mut text).unwrap();
    let expected = "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
                    d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d";
    assert_eq!(
        (hex::encode(&text).as_str(), hex::encode(tag).as_str()),
        (expected, "83de3541e4c2b58177e065a9bf7b62ec")
    );
    let sealed = [text.as_slice(), &tag].concat();
    assert_eq!(key.open(nonce, &aad, &sealed).unwrap().expose(), plaintext);
    for bad in [&sealed[1..], &sealed[..15], &[]] {
        assert!(key.open(nonce, &aad, bad).is_none());
    }
    assert!(key.open(nonce, &aad[1..], &sealed).is_none());
    assert!(GcmKey::sm4(&[0; 15]).is_err() && GcmKey::sm4(&[0; 32]).is_err());
}

/// RFC 5869 appendices A.1 and A.2; and over HMAC-SM3, as section 2 says it, with nothing
/// but the MAC that other tests have shown.
#[test]
fn hkdf() {
    let mut out = [0; 42];
    let info = bytes("f0f1f2f3f4f5f6f7f8f9");
    hkdf_sha256(&[0x0B; 22], &bytes("000102030405060708090a0b0c"), &[&info], &mut out).unwrap();
    assert_eq!(
        hex::encode(out),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    );
    let (key, salt) = (vec![5; 16], vec![6; 32]);
    let mut out = [0; 48];
    hkdf_sm3(&key, &salt, &[b"claviger/v1/sm4-gcm", b"prefix"], &mut out).unwrap();
    let mac = |key: Vec<u8>, message: &[&[u8]]| {
        MacKey::new(MacAlgorithm::HmacSm3, &SecretBytes::new(key)).unwrap().mac(&message.concat())
    };
    let prk = mac(salt, &[&key]);
    let first = mac(prk.clone(), &[b"claviger/v1/sm4-gcmprefix", &[1]]);
    let second = mac(prk, &[&first, b"claviger/v1/sm4-gcmprefix", &[2]]);
    assert_eq!(out.as_slice(), &[first, second].concat()[..48]);
}

/// RFC 8017 section 9.2, note 1.
#[test]
fn digest_infos() {
    for (algorithm, head) in [
        (DigestAlgorithm::Sha256, "30 31 30 0d 06 09 60 86 48 01 65 03 04 02 01 05 00 04 20"),
        (DigestAlgorithm::Sha384, "30 41 30 0d 06 09 60 86 48 01 65 03 04 02 02 05 00 04 30"),
        (DigestAlgorithm::Sha512, "30 51 30 0d 06 09 60 86 48 01 65 03 04 02 03 05 00 04 40"),
    ] {
        let hash = digest(algorithm, b"m");
        assert_eq!(encoding::digest_info(algorithm, &hash).unwrap(), [bytes(head), hash.clone()].concat());
        assert_eq!(encoding::digest_info(algorithm, &hash[1..]), None);
    }
    assert_eq!(encoding::digest_info(DigestAlgorithm::Sm3, &[0; 32]), None);
}
