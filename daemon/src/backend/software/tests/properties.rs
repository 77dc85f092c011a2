//! What holds for any input: what is sealed opens, anything else is one refusal, and the
//! encodings read back only what they write.

use claviger_protocol::blob::BlobRef;
use claviger_protocol::{EncryptionContext, ExportAlgorithm, KeyPairSpec, MacAlgorithm, SecretBytes, Suite};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use uuid::Uuid;

use crate::backend::encoding;
use crate::backend::software::{MacKey, PrivateKey, PublicKey, SoftwareKey};
use crate::edge::Entropy;
use crate::failure::Failure;

fn suites() -> impl Strategy<Value = (Suite, SecretBytes)> {
    prop_oneof![
        vec(any::<u8>(), 32).prop_map(|key| (Suite::SoftwareAes256, SecretBytes::new(key))),
        vec(any::<u8>(), 16).prop_map(|key| (Suite::SoftwareSm4, SecretBytes::new(key))),
    ]
}

fn contexts() -> impl Strategy<Value = EncryptionContext> {
    btree_map("[a-z]{1,8}", ".{0,16}", 0..5)
        .prop_map(|pairs| EncryptionContext::from_pairs(pairs).unwrap_or_default())
}

/// One pair of each kind that signs or encrypts, made once.
fn pairs() -> &'static [(KeyPairSpec, PrivateKey)] {
    static PAIRS: std::sync::OnceLock<Vec<(KeyPairSpec, PrivateKey)>> = std::sync::OnceLock::new();
    PAIRS.get_or_init(|| {
        [KeyPairSpec::Rsa2048, KeyPairSpec::EcP256, KeyPairSpec::EcP384, KeyPairSpec::Sm2]
            .map(|spec| {
                let (pkcs8, spki) = PrivateKey::generate(spec, &Entropy::system()).unwrap();
                assert!(PublicKey::from_spki(&spki).is_ok());
                (spec, PrivateKey::from_pkcs8(spec, &pkcs8).unwrap())
            })
            .into()
    })
}

/// `bytes` with one bit flipped; which one, is any number.
fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let (mut out, bit) = (bytes.to_vec(), bit % (bytes.len() * 8));
    out[bit / 8] ^= 1 << (bit % 8);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn blobs_open_whole_and_in_their_context(
        (suite, material) in suites(),
        ids in any::<(u128, u128)>(),
        plaintext in vec(any::<u8>(), 0..600),
        (context, other) in (contexts(), contexts()),
        (seed, bit) in any::<(u64, usize)>(),
    ) {
        let key = SoftwareKey::new(suite, &material).unwrap();
        let ids = (Uuid::from_u128(ids.0), Uuid::from_u128(ids.1));
        let blob = key.seal(ids, &Entropy::seeded(seed), &plaintext, &context).unwrap();
        let parsed = BlobRef::parse(&blob).unwrap();
        prop_assert_eq!((parsed.suite, parsed.key_id, parsed.version_id), (suite, ids.0, ids.1));
        prop_assert_eq!(key.open(&parsed, &context), Ok(SecretBytes::new(plaintext)));
        if other != context {
            prop_assert_eq!(key.open(&parsed, &other), Err(Failure::ciphertext()));
        }
        if let Ok(parsed) = BlobRef::parse(&flipped(&blob, bit)) {
            prop_assert_eq!(key.open(&parsed, &context), Err(Failure::ciphertext()));
        }
    }

    #[test]
    fn what_is_encrypted_to_a_pair_opens_and_nothing_else_does(
        plaintext in vec(any::<u8>(), 1..=190),
        bit in any::<usize>(),
        garbage in vec(any::<u8>(), 0..300),
    ) {
        for (spec, key) in pairs() {
            for &algorithm in spec.key_spec().encryption_algorithms() {
                let sealed = key.public_key().encrypt(algorithm.into(), &plaintext, &Entropy::system()).unwrap();
                prop_assert_eq!(key.decrypt(algorithm, &sealed), Ok(SecretBytes::new(plaintext.clone())));
                for bad in [flipped(&sealed, bit), garbage.clone(), sealed[1..].to_vec()] {
                    prop_assert_eq!(key.decrypt(algorithm, &bad), Err(Failure::ciphertext()));
                }
            }
        }
    }

    #[test]
    fn signatures_are_of_their_message_and_key(
        message in vec(any::<u8>(), 0..300),
        other in vec(any::<u8>(), 0..300),
        bit in any::<usize>(),
    ) {
        for (spec, key) in pairs() {
            for &algorithm in spec.key_spec().signing_algorithms() {
                let public = key.public_key();
                let digest = public.digest_of(algorithm, &message, None).unwrap();
                let signature = key.sign(algorithm, &digest, &Entropy::system()).unwrap();
                prop_assert!(public.verify(algorithm, &digest, &signature));
                prop_assert!(!public.verify(algorithm, &digest, &flipped(&signature, bit)));
                let another = public.digest_of(algorithm, &other, None).unwrap();
                prop_assert_eq!(public.verify(algorithm, &another, &signature), message == other);
                prop_assert!(!public.verify(algorithm, &digest, &other));
            }
        }
    }

    #[test]
    fn macs_are_of_their_message_and_key(key in vec(any::<u8>(), 32..=64), message in vec(any::<u8>(), 0..300), bit: usize) {
        for &algorithm in MacAlgorithm::ALL {
            let mac = |key: &[u8], message: &[u8]| {
                MacKey::new(algorithm, &SecretBytes::new(key.to_vec())).unwrap().mac(message)
            };
            let made = mac(&key, &message);
            prop_assert_ne!(&made, &mac(&flipped(&key, bit), &message));
            prop_assert_ne!(&made, &mac(&key, &[message.as_slice(), &[0]].concat()));
        }
    }

    #[test]
    fn encodings_read_back_what_they_write(
        numbers in vec(any::<u8>(), 96),
        zeros in 0_usize..32,
        c2 in vec(any::<u8>(), 1..300),
    ) {
        let mut numbers = numbers;
        numbers[..zeros].fill(0);
        for len in [32, 48] {
            let der = encoding::ecdsa_to_der(&numbers[..2 * len]).unwrap();
            prop_assert_eq!(encoding::ecdsa_from_der(&der, len).unwrap(), &numbers[..2 * len]);
        }
        let raw = [&[4][..], &numbers, &c2].concat();
        let der = encoding::sm2_cipher_to_der(&raw).unwrap();
        prop_assert_eq!(encoding::sm2_cipher_from_der(&der).unwrap(), raw);
        let point = [&[4][..], &numbers[..64]].concat();
        let spki = encoding::ec_spki(KeyPairSpec::Sm2, &point).unwrap();
        prop_assert_eq!(encoding::ec_point(&spki), Some((KeyPairSpec::Sm2, point.as_slice())));
    }

    /// There is one way to write each thing: whatever is read was written like that.
    #[test]
    fn nothing_else_is_read(at in any::<usize>(), byte: u8, garbage in vec(any::<u8>(), 0..80)) {
        let numbers: Vec<u8> = (0..96).collect();
        let signature = encoding::ecdsa_to_der(&numbers[..64]).unwrap();
        let cipher = encoding::sm2_cipher_to_der(&[&[4][..], &numbers, b"c2"].concat()).unwrap();
        let rsa = encoding::rsa_spki(&[0xC1; 256], &[1, 0, 1]).unwrap();
        for good in [&signature, &cipher, &rsa, &garbage] {
            let mut der = good.clone();
            if let Some(place) = der.len().checked_sub(1).and_then(|last| der.get_mut(at % (last + 1))) {
                *place = byte;
            }
            if let Some(raw) = encoding::ecdsa_from_der(&der, 32) {
                prop_assert_eq!(&encoding::ecdsa_to_der(&raw).unwrap(), &der);
            }
            if let Some(raw) = encoding::sm2_cipher_from_der(&der) {
                prop_assert_eq!(&encoding::sm2_cipher_to_der(&raw).unwrap(), &der);
            }
            if let Some(public) = encoding::rsa_public(&der) {
                prop_assert_eq!(&encoding::rsa_spki(public.modulus, public.exponent).unwrap(), &der);
            }
            prop_assert!(encoding::oaep_decode(&der).is_none());
        }
    }
}

#[test]
fn ciphertexts_never_repeat() {
    for (spec, key) in pairs() {
        for &algorithm in spec.key_spec().encryption_algorithms() {
            let seal = || key.public_key().encrypt(algorithm.into(), b"x", &Entropy::system()).unwrap();
            assert_ne!(seal(), seal(), "{algorithm}");
        }
    }
    let pkcs1 = || {
        pairs()[0].1.public_key().encrypt(ExportAlgorithm::RsaesPkcs1V15, b"x", &Entropy::system()).unwrap()
    };
    assert_ne!(pkcs1(), pkcs1());
}
