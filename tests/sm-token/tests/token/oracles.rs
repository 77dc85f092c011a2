//! The token's SM2, SM3 and SM4 against published samples and OpenSSL's command line.

use std::path::Path;

use crate::common::{Token, key_type, on, openssl, plain, refusal, with};
use cryptoki::error::RvError;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};

/// Private key of the samples of GB/T 32918 on the recommended curve (GM/T 0003.5, Annex A).
const SCALAR: &str = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
/// Its public key, x ‖ y.
const POINT: &str = "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
                     ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn sample_pair(token: &Token) -> (ObjectHandle, ObjectHandle) {
    token.known_pair(key_type(4), &bytes(SCALAR), &bytes(POINT))
}

/// GB/T 32905, A.1 and A.2.
#[test]
fn sm3_is_the_standards() {
    on(&["sansec"], "oracles::sm3_is_the_standards", |token| {
        let digest = |data: &[u8]| hex::encode(token.session.digest(&plain(0x9001), data).unwrap());
        assert_eq!(digest(b"abc"), "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
        assert_eq!(
            digest(&b"abcd".repeat(16)),
            "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"
        );
    });
}

/// GB/T 32907, A.1; then CBC and its padding against OpenSSL.
#[test]
fn sm4_is_the_standards_and_openssls() {
    on(&["sansec"], "oracles::sm4_is_the_standards_and_openssls", |token| {
        let key = bytes("0123456789abcdeffedcba9876543210");
        let handle = token.known_sm4(key_type(0x106), &key);
        let session = &token.session;
        let block = session.encrypt(&plain(0x108), handle, &key).unwrap();
        assert_eq!(hex::encode(&block), "681edf34d206965e86b3e94f536e4246");
        assert_eq!(session.decrypt(&plain(0x108), handle, &block).unwrap(), key);

        let dir = Path::new(".");
        let iv = bytes("00112233445566778899aabbccddeeff");
        let parameter: [u8; 16] = iv.clone().try_into().unwrap();
        for len in [0, 1, 15, 16, 17, 64] {
            let text: Vec<u8> = (0..len).collect();
            std::fs::write("text", &text).unwrap();
            let (key, iv) = (hex::encode(&key), hex::encode(&iv));
            let (done, theirs) = openssl(dir, &["enc", "-sm4-cbc", "-K", &key, "-iv", &iv, "-in", "text"]);
            assert!(done);
            let ours = session.encrypt(&with(0xA201, &parameter), handle, &text).unwrap();
            assert_eq!(ours, theirs, "{len}");
            assert_eq!(session.decrypt(&with(0xA201, &parameter), handle, &theirs).unwrap(), text);
            if len % 16 == 0 {
                let unpadded = session.encrypt(&with(0x109, &parameter), handle, &text).unwrap();
                assert_eq!(unpadded, theirs[..usize::from(len)]);
            }
        }
        let odd = session.encrypt(&with(0x109, &parameter), handle, &[0; 15]);
        assert_eq!(refusal(odd), RvError::DataLenRange);
        let cut = session.decrypt(&with(0xA201, &parameter), handle, &[0; 15]);
        assert_eq!(refusal(cut), RvError::EncryptedDataLenRange);
    });
}

/// RFC 8998, A.1.
#[test]
fn sm4_gcm_is_rfc_8998s() {
    on(&["complete"], "oracles::sm4_gcm_is_rfc_8998s", |token| {
        let key = token.known_sm4(key_type(0x7504), &bytes("0123456789abcdeffedcba9876543210"));
        let mut iv: [u8; 12] = bytes("00001234567800000000abcd").try_into().unwrap();
        let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let text = bytes(
            "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\
             eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa",
        );
        let sealed = bytes(
            "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
             d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d\
             83de3541e4c2b58177e065a9bf7b62ec",
        );
        let parameters = GcmParams::new(&mut iv, &aad, 128.into()).unwrap();
        let session = &token.session;
        assert_eq!(session.encrypt(&with(0x7544, &parameters), key, &text).unwrap(), sealed);
        assert_eq!(session.decrypt(&with(0x7544, &parameters), key, &sealed).unwrap(), text);
        for at in [0, 63, 64, 79] {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            let refused = session.decrypt(&with(0x7544, &parameters), key, &flipped);
            assert_eq!(refusal(refused), RvError::EncryptedDataInvalid, "{at}");
        }
        let mut short = [0; 8];
        let parameters = GcmParams::new(&mut short, b"", 128.into()).unwrap();
        let refused = session.encrypt(&with(0x7544, &parameters), key, &text);
        assert_eq!(refusal(refused), RvError::MechanismParamInvalid);
    });
}

/// HMAC-SM3 of a secret in the token, against OpenSSL; and, beneath, HMAC-SHA-256.
#[test]
fn hmac_sm3_is_openssls() {
    on(&["luna"], "oracles::hmac_sm3_is_openssls", |token| {
        let value: Vec<u8> = (0..32).collect();
        let mut template = crate::common::secret(KeyType::GENERIC_SECRET);
        template.push(Attribute::Value(value.clone()));
        let key = token.session.create_object(&template).unwrap();
        std::fs::write("message", b"message").unwrap();
        let option = format!("hexkey:{}", hex::encode(&value));
        for (digest, mechanism) in
            [("sm3", plain(0xB02)), ("sha256", cryptoki::mechanism::Mechanism::Sha256Hmac)]
        {
            let arguments =
                ["dgst", "-binary", "-mac", "HMAC", "-macopt", &option, &format!("-{digest}"), "message"];
            let (done, theirs) = openssl(Path::new("."), &arguments);
            assert!(done);
            let tag = token.session.sign(&mechanism, key, b"message").unwrap();
            assert_eq!(tag, theirs, "{digest}");
            token.session.verify(&mechanism, key, b"message", &tag).unwrap();
            let wrong = token.session.verify(&mechanism, key, b"massage", &tag);
            assert_eq!(refusal(wrong), RvError::SignatureInvalid);
        }
    });
}

/// GB/T 32918.2's signature: e, the message with Z, and a changed digit.
#[test]
fn the_standards_signature_verifies() {
    on(&["sansec"], "oracles::the_standards_signature_verifies", |token| {
        let (public, _) = sample_pair(token);
        let session = &token.session;
        let e = bytes("f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640");
        let mut signature = bytes(
            "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
             b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa",
        );
        session.verify(&plain(0x8105), public, &e, &signature).unwrap();
        session.verify(&plain(0x8102), public, b"message digest", &signature).unwrap();
        signature[40] ^= 1;
        let wrong = session.verify(&plain(0x8105), public, &e, &signature);
        assert_eq!(refusal(wrong), RvError::SignatureInvalid);
        assert_eq!(
            refusal(session.verify(&plain(0x8105), public, &e[1..], &signature)),
            RvError::DataLenRange
        );
    });
}

/// GB/T 32918.4's ciphertext decrypts, C1 ‖ C3 ‖ C2 and as GM/T 0009's DER.
#[test]
fn the_standards_ciphertext_decrypts() {
    on(&["sansec"], "oracles::the_standards_ciphertext_decrypts", |token| {
        let (_, private) = sample_pair(token);
        let x = "04ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73";
        let y = "e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0";
        let c3 = "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766";
        let c2 = "21886ca989ca9c7d58087307ca93092d651efa";
        let raw = bytes(&format!("04{x}{y}{c3}{c2}"));
        let der = bytes(&format!("307c0220{x}022100{y}0420{c3}0413{c2}"));
        for (mechanism, sealed) in [(0x8200, raw), (0x8201, der)] {
            let opened = token.session.decrypt(&plain(mechanism), private, &sealed).unwrap();
            assert_eq!(opened, b"encryption standard");
            for at in [1, 20, 70, sealed.len() - 1] {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1;
                let refused = token.session.decrypt(&plain(mechanism), private, &flipped);
                assert_eq!(refusal(refused), RvError::EncryptedDataInvalid, "{at}");
            }
        }
    });
}

/// SEC1 of the sample key, and SPKI of a public key, as files for OpenSSL.
fn pem_files(point: &[u8]) {
    let sec1 = format!("30770201010420{SCALAR}a00a06082a811ccf5501822da14403420004{POINT}");
    std::fs::write("private.der", bytes(&sec1)).unwrap();
    let spki = [bytes("3059301306072a8648ce3d020106082a811ccf5501822d034200"), point.to_vec()].concat();
    std::fs::write("public.der", spki).unwrap();
    let dir = Path::new(".");
    let private = ["ec", "-inform", "DER", "-in", "private.der", "-out", "private.pem"];
    let public = ["pkey", "-pubin", "-inform", "DER", "-in", "public.der", "-out", "public.pem"];
    assert!(openssl(dir, &private).0 && openssl(dir, &public).0);
}

fn point(token: &Token, public: ObjectHandle) -> Vec<u8> {
    match token.session.get_attributes(public, &[AttributeType::EcPoint]).unwrap().as_slice() {
        [Attribute::EcPoint(point)] => point[2..].to_vec(),
        other => panic!("{other:?}"),
    }
}

const ID: &str = "distid:1234567812345678";

/// Signatures both ways with OpenSSL: of messages, with Z of the default user id.
#[test]
fn openssl_and_the_token_verify_each_other() {
    on(&["sansec"], "oracles::openssl_and_the_token_verify_each_other", |token| {
        let (public, private) = token.sm2_pair(0x8001, false);
        pem_files(&point(token, public));
        std::fs::write("message", b"a message").unwrap();
        let dir = Path::new(".");
        let common = ["pkeyutl", "-rawin", "-digest", "sm3", "-pkeyopt", ID, "-in", "message"];
        for _ in 0..8 {
            let signature = token.session.sign(&plain(0x8103), private, b"a message").unwrap();
            std::fs::write("signature", &signature).unwrap();
            let verify = ["-verify", "-pubin", "-inkey", "public.pem", "-sigfile", "signature"];
            assert!(openssl(dir, &[&common[..], &verify].concat()).0);
        }
        let (sample, _) = sample_pair(token);
        let sign = ["-sign", "-inkey", "private.pem", "-out", "theirs"];
        assert!(openssl(dir, &[&common[..], &sign].concat()).0);
        let theirs = std::fs::read("theirs").unwrap();
        token.session.verify(&plain(0x8103), sample, b"a message", &theirs).unwrap();
        // Without Z it is another e.
        let other = token.session.verify(&plain(0x8101), sample, b"a message", &theirs);
        assert_eq!(refusal(other), RvError::SignatureInvalid);
    });
}

/// Ciphertexts both ways with OpenSSL, in GM/T 0009's DER.
#[test]
fn openssl_and_the_token_decrypt_each_other() {
    on(&["sansec"], "oracles::openssl_and_the_token_decrypt_each_other", |token| {
        let (public, private) = sample_pair(token);
        pem_files(&point(token, public));
        let dir = Path::new(".");
        for len in [1, 2, 31, 32, 33, 200] {
            let text: Vec<u8> = (0..len).collect();
            let sealed = token.session.encrypt(&plain(0x8201), public, &text).unwrap();
            std::fs::write("sealed", &sealed).unwrap();
            let (done, opened) =
                openssl(dir, &["pkeyutl", "-decrypt", "-inkey", "private.pem", "-in", "sealed"]);
            assert!(done && opened == text, "{len}");
            std::fs::write("text", &text).unwrap();
            let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-inkey", "public.pem", "-in", "text"];
            let (done, theirs) = openssl(dir, &encrypt);
            assert!(done);
            assert_eq!(token.session.decrypt(&plain(0x8201), private, &theirs).unwrap(), text);
        }
        let empty = token.session.encrypt(&plain(0x8201), public, b"");
        assert_eq!(refusal(empty), RvError::DataLenRange);
    });
}
