//! Each vendor's numbers do what they say, in the form that they say, and nothing has
//! numbers that the vendor doesn't give it.

use std::process::Command;

use crate::common::{key_type, module, number, on, plain, refusal, secret, with};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};

const MESSAGE: [u8; 32] = [0xA5; 32];

/// What is the same for all of them: a pair signs, an SM4 key encrypts, SM3 is SM3.
struct Vendor {
    name: &'static str,
    sm2: u64,
    sm4: u64,
    pair: u64,
    sign: u64,
    signature_len: Option<usize>,
    encrypt: Option<u64>,
    sm3: u64,
    sm4_key: u64,
    sm4_cbc: u64,
}

const VENDORS: [Vendor; 6] = [
    Vendor {
        name: "sansec",
        sm2: 4,
        sm4: 0x106,
        pair: 0x8001,
        sign: 0x8105,
        signature_len: Some(64),
        encrypt: Some(0x8200),
        sm3: 0x9001,
        sm4_key: 0x107,
        sm4_cbc: 0x109,
    },
    Vendor {
        name: "tass",
        sm2: 4,
        sm4: 2,
        pair: 0x8001,
        sign: 0x8000,
        signature_len: Some(64),
        encrypt: Some(0x8200),
        sm3: 5,
        sm4_key: 0x107,
        sm4_cbc: 0x109,
    },
    Vendor {
        name: "luna",
        sm2: 0x16,
        sm4: 0x15,
        pair: 0xB20,
        sign: 0xB21,
        signature_len: Some(64),
        encrypt: None,
        sm3: 0xB01,
        sm4_key: 0xB10,
        sm4_cbc: 0xB12,
    },
    Vendor {
        name: "ep11",
        sm2: 0x50002,
        sm4: 0x50001,
        pair: 0x5000A,
        sign: 0x5000B,
        signature_len: Some(64),
        encrypt: Some(0x5000D),
        sm3: 0x5000E,
        sm4_key: 0x50001,
        sm4_cbc: 0x50002,
    },
    Vendor {
        name: "westone",
        sm2: 1,
        sm4: 5,
        pair: 1,
        sign: 2,
        signature_len: Some(64),
        encrypt: Some(2),
        sm3: 0x1F,
        sm4_key: 0x28,
        sm4_cbc: 0x2A,
    },
    Vendor {
        name: "complete",
        sm2: 0x7502,
        sm4: 0x7504,
        pair: 0x7520,
        sign: 0x7521,
        signature_len: None,
        encrypt: Some(0x7523),
        sm3: 0x7530,
        sm4_key: 0x7540,
        sm4_cbc: 0x7542,
    },
];

fn works(name: &str) {
    let vendor = VENDORS.iter().find(|vendor| vendor.name == name).unwrap();
    on(&[name], &format!("numberings::{name}_works"), |token| {
        let session = &token.session;
        let info = token.pkcs11.get_token_info(token.slot).unwrap();
        assert_eq!(
            (info.manufacturer_id(), info.model()),
            ("Claviger SM test token", format!("SM {name}").as_str())
        );
        let (public, private) = token.sm2_pair(vendor.pair, false);
        let kind = session.get_attributes(private, &[AttributeType::KeyType]).unwrap();
        assert_eq!(kind, [Attribute::KeyType(key_type(vendor.sm2))]);
        let signature = session.sign(&plain(vendor.sign), private, &MESSAGE).unwrap();
        match vendor.signature_len {
            Some(len) => assert_eq!(signature.len(), len),
            None => assert_eq!(signature[0], 0x30),
        }
        session.verify(&plain(vendor.sign), public, &MESSAGE, &signature).unwrap();
        let wrong = session.verify(&plain(vendor.sign), public, &[0; 32], &signature);
        assert_eq!(refusal(wrong), RvError::SignatureInvalid);
        if let Some(encrypt) = vendor.encrypt {
            let sealed = session.encrypt(&plain(encrypt), public, b"abc").unwrap();
            assert_eq!((sealed.len(), sealed[0]), (65 + 32 + 3, 4));
            assert_eq!(session.decrypt(&plain(encrypt), private, &sealed).unwrap(), b"abc");
        }
        let digest = session.digest(&plain(vendor.sm3), b"abc").unwrap();
        assert!(hex::encode(digest).starts_with("66c7f0f462eeedd9"));
        let mut template = secret(key_type(vendor.sm4));
        template.remove(0);
        let key = session.generate_key(&plain(vendor.sm4_key), &template).unwrap();
        let sealed = session.encrypt(&with(vendor.sm4_cbc, &[7u8; 16]), key, &[1; 32]).unwrap();
        assert_eq!(session.decrypt(&with(vendor.sm4_cbc, &[7u8; 16]), key, &sealed).unwrap(), [1; 32]);
    });
}

#[test]
fn sansec_works() {
    works("sansec");
}

#[test]
fn tass_works() {
    works("tass");
}

#[test]
fn luna_works() {
    works("luna");
}

#[test]
fn ep11_works() {
    works("ep11");
}

#[test]
fn westone_works() {
    works("westone");
}

#[test]
fn complete_works() {
    works("complete");
}

/// Koal publishes numbers of mechanisms and none of key types: SM2 keys are CKK_EC on
/// SM2's curve, beside those of other curves, and SM4 keys can only be made.
#[test]
fn koal_works() {
    on(&["koal"], "numberings::koal_works", |token| {
        let session = &token.session;
        let (public, private) = token.sm2_pair(0x8001, true);
        let kind = session.get_attributes(public, &[AttributeType::KeyType]).unwrap();
        assert_eq!(kind, [Attribute::KeyType(KeyType::EC)]);
        let signature = session.sign(&plain(0x8104), private, &MESSAGE).unwrap();
        session.verify(&plain(0x8104), public, &MESSAGE, &signature).unwrap();

        let root = token.root(false);
        let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, root, private).unwrap();
        let template = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(false),
            Attribute::Sign(true),
        ];
        let back = session.unwrap_key(&Mechanism::AesKeyWrapPad, root, &wrapped, &template).unwrap();
        let signature = session.sign(&plain(0x8104), back, &MESSAGE).unwrap();
        session.verify(&plain(0x8104), public, &MESSAGE, &signature).unwrap();

        // A key on another curve goes the same way, to the module beneath.
        let p256 =
            [Attribute::Token(false), Attribute::EcParams(hex::decode("06082a8648ce3d030107").unwrap())];
        let private = [Attribute::Token(false), Attribute::Extractable(true), Attribute::Sign(true)];
        let (_, private) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &p256, &private).unwrap();
        let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, root, private).unwrap();
        let back = session.unwrap_key(&Mechanism::AesKeyWrapPad, root, &wrapped, &template).unwrap();
        assert_eq!(session.sign(&Mechanism::Ecdsa, back, &MESSAGE).unwrap().len(), 64);
        assert!(session.sign(&plain(0x8104), back, &MESSAGE).is_err());

        let template = [Attribute::Token(false), Attribute::Encrypt(true), Attribute::Decrypt(true)];
        let key = session.generate_key(&plain(0x107), &template).unwrap();
        let mut iv = [1; 12];
        let parameters = GcmParams::new(&mut iv, b"aad", 128.into()).unwrap();
        let sealed = session.encrypt(&with(0x10F, &parameters), key, b"text").unwrap();
        assert_eq!(session.decrypt(&with(0x10F, &parameters), key, &sealed).unwrap(), b"text");
    });
}

/// The listing has what the numbering has, beside all of the module beneath.
#[test]
fn the_listing_says_what_there_is() {
    on(&["westone"], "numberings::the_listing_says_what_there_is", |token| {
        // cryptoki leaves vendors' numbers out of its list.
        let listed = Command::new("pkcs11-tool").arg("--module").arg(module()).arg("-M").output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let ours = listed.lines().filter_map(|line| line.trim().strip_prefix("mechtype-0x8"));
        let ours: Vec<_> = ours.map(|line| line.split(',').next().unwrap()).collect();
        let expected = [1, 2, 0x1F, 0x28, 0x29, 0x2A, 0x2B].map(|number| format!("{number:07X}"));
        assert_eq!(ours, expected);
        assert!(listed.contains("AES-KEY-WRAP"));
        let both = token.pkcs11.get_mechanism_info(token.slot, number(2)).unwrap();
        assert!(both.sign() && both.verify() && both.encrypt() && both.decrypt() && !both.digest());
        assert_eq!((both.min_key_size(), both.max_key_size()), (256, 256));
        assert!(token.pkcs11.get_mechanism_info(token.slot, number(0x8001)).is_err());
    });
}

/// Another vendor's number is no mechanism here, and a number is one in its function only.
#[test]
fn foreign_numbers_are_refused() {
    on(&["sansec"], "numberings::foreign_numbers_are_refused", |token| {
        let session = &token.session;
        let (public, private) = token.sm2_pair(0x8001, false);
        for foreign in [0x8000, 0xB21, 0x5000B, 2, 0x8200, 0x9001] {
            let answer = refusal(session.sign(&plain(foreign), private, &MESSAGE));
            assert_eq!(answer, RvError::MechanismInvalid, "{foreign:X}");
        }
        for foreign in [5, 6, 0xB01, 0x5000E, 0x1F, 0x8104] {
            assert_eq!(
                refusal(session.digest(&plain(foreign), b"abc")),
                RvError::MechanismInvalid,
                "{foreign:X}"
            );
        }
        let mut iv = [1; 12];
        let parameters = GcmParams::new(&mut iv, b"", 128.into()).unwrap();
        let key = token.known_sm4(key_type(0x106), &[1; 16]);
        let gcm = session.encrypt(&with(0x10F, &parameters), key, b"text");
        assert_eq!(refusal(gcm), RvError::MechanismInvalid);
        // Standard mechanisms don't take SM keys either.
        assert_eq!(refusal(session.sign(&Mechanism::Ecdsa, private, &MESSAGE)), RvError::MechanismInvalid);
        assert_eq!(refusal(session.encrypt(&Mechanism::AesEcb, key, &[0; 16])), RvError::MechanismInvalid);
        assert_eq!(refusal(session.encrypt(&plain(0x108), public, &[0; 16])), RvError::KeyTypeInconsistent);
    });
}

/// Nothing is loaded under a numbering that doesn't exist.
#[test]
fn a_numbering_must_be_named() {
    for numbering in [None, Some(""), Some("acme"), Some("liar=aes")] {
        let mut probe = Command::new("pkcs11-tool");
        probe.arg("--module").arg(module()).arg("--show-info").env_remove("CLAVIGER_SM_TOKEN");
        probe.envs(numbering.map(|value| ("CLAVIGER_SM_TOKEN", value)));
        assert!(!probe.output().unwrap().status.success(), "{numbering:?}");
    }
}

/// One entry point: a second exported name could stand in the place of another module's.
#[test]
fn one_name_is_exported() {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(module()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, ["C_GetFunctionList"]);
}
