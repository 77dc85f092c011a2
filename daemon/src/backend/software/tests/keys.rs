//! Keys that others bring: what isn't exactly one of ours is refused, and says why.

use claviger_protocol::{
    Code, EncryptionAlgorithm, ExportAlgorithm, KeyPairSpec, SecretBytes, SigningAlgorithm,
};

use crate::backend::encoding;
use crate::backend::software::{PrivateKey, PublicKey};
use crate::edge::Entropy;
use crate::failure::Failure;

/// Every kind of key, RSA in its smallest size only: the others take seconds to make.
const SPECS: [KeyPairSpec; 4] =
    [KeyPairSpec::Rsa2048, KeyPairSpec::EcP256, KeyPairSpec::EcP384, KeyPairSpec::Sm2];

fn pair(spec: KeyPairSpec) -> (SecretBytes, Vec<u8>) {
    PrivateKey::generate(spec, &Entropy::seeded(1)).unwrap()
}

fn refusal(spki: &[u8]) -> String {
    let failure = PublicKey::from_spki(spki).err().unwrap();
    assert_eq!(failure.code, Code::InvalidArgument);
    failure.message.into_owned()
}

/// An odd number of so many bits, which no factor is known of.
fn modulus(bits: usize) -> Vec<u8> {
    let mut number = vec![0x5B; bits.div_ceil(8)];
    number[0] = 0xFF >> (number.len() * 8 - bits);
    number
}

const F4: &[u8] = &[1, 0, 1];

#[test]
fn rsa_sizes_and_exponents_have_bounds() {
    for (bits, spec) in [
        (2048, Some(KeyPairSpec::Rsa2048)),
        (2560, None),
        (3072, Some(KeyPairSpec::Rsa3072)),
        (4096, Some(KeyPairSpec::Rsa4096)),
    ] {
        let key = PublicKey::from_spki(&encoding::rsa_spki(&modulus(bits), F4).unwrap()).unwrap();
        assert_eq!(key.spec(), spec, "{bits} bits");
        assert_eq!(key.max_plaintext(ExportAlgorithm::RsaesOaepSha256), Some(bits / 8 - 66));
    }
    for bits in [8, 1024, 2040, 2047, 4097, 8192] {
        assert!(refusal(&encoding::rsa_spki(&modulus(bits), F4).unwrap()).contains("modulus"), "{bits} bits");
    }
    for good in [&[1, 0, 3][..], &[0xFF; 4]] {
        assert!(PublicKey::from_spki(&encoding::rsa_spki(&modulus(2048), good).unwrap()).is_ok());
    }
    for bad in [&[0][..], &[1], &[3], &[0xFF, 0xFF], &[1, 0, 0], &[1, 0, 2], &[1, 0, 0, 0, 1]] {
        let refused = refusal(&encoding::rsa_spki(&modulus(2048), bad).unwrap());
        assert!(refused.contains("exponent"), "{bad:?}: {refused}");
    }
    let mut even = modulus(2048);
    even[255] = 0x5A;
    assert!(refusal(&encoding::rsa_spki(&even, F4).unwrap()).contains("make no key"));
}

/// DER of a tag and its content.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let len = u16::try_from(content.len()).unwrap();
    let [high, low] = len.to_be_bytes();
    let head = match len {
        0..=0x7F => vec![tag, low],
        0x80..=0xFF => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

const RSA: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
const NULL: &[u8] = &[5, 0];

/// SPKI of parts: the algorithm, bits unused, the numbers, and what stands behind each level.
fn spki(algorithm: &[&[u8]], unused: u8, numbers: &[&[u8]], behind: [&[u8]; 3]) -> Vec<u8> {
    let key = [der(0x30, numbers), behind[0].to_vec()].concat();
    let bits = [der(0x03, &[&[unused], &key]), behind[1].to_vec()].concat();
    [der(0x30, &[&der(0x30, algorithm), &bits]), behind[2].to_vec()].concat()
}

#[test]
fn rsa_public_keys_are_der_and_no_more() {
    let number = der(2, &[&[0], &modulus(2048)]);
    let e = der(2, &[F4]);
    let whole: [&[u8]; 2] = [&number, &e];
    let none: [&[u8]; 3] = [&[]; 3];
    assert!(PublicKey::from_spki(&spki(&[RSA, NULL], 0, &whole, none)).is_ok());
    let negative = der(2, &[&modulus(2048)]);
    let long = der(2, &[&[0, 0], &modulus(2048)]);
    let long_e = der(2, &[&[0], F4]);
    for (why, bad) in [
        ("no parameters", spki(&[RSA], 0, &whole, none)),
        ("id-RSASSA-PSS", spki(&[RSA_PSS, NULL], 0, &whole, none)),
        ("unused bits", spki(&[RSA, NULL], 1, &whole, none)),
        ("a negative modulus", spki(&[RSA, NULL], 0, &[&negative, &e], none)),
        ("a needless zero", spki(&[RSA, NULL], 0, &[&long, &e], none)),
        ("a needless zero in the exponent", spki(&[RSA, NULL], 0, &[&number, &long_e], none)),
        ("a third number", spki(&[RSA, NULL], 0, &[&number, &e, &e], none)),
        ("one number", spki(&[RSA, NULL], 0, &[&number], none)),
        ("bytes behind the numbers", spki(&[RSA, NULL], 0, &whole, [&[0], &[], &[]])),
        ("bytes behind the key", spki(&[RSA, NULL], 0, &whole, [&[], NULL, &[]])),
        ("bytes behind it all", spki(&[RSA, NULL], 0, &whole, [&[], &[], &[0]])),
        ("PKCS #1's form", der(0x30, &whole)),
        ("nothing", Vec::new()),
    ] {
        assert!(refusal(&bad).contains("isn't the DER"), "{why}");
    }
}

#[test]
fn points_are_whole_and_on_their_curve() {
    for spec in [KeyPairSpec::EcP256, KeyPairSpec::EcP384, KeyPairSpec::Sm2] {
        let (_, good) = pair(spec);
        let (found, point) = encoding::ec_point(&good).unwrap();
        assert_eq!(found, spec);
        let x = &point[1..=point.len() / 2];
        let head = good.len() - point.len();
        // A compressed point, and one of both forms: fitted lengths, so that DER isn't at fault.
        let oids = &good[2..head - 3];
        let with = |point: &[u8]| der(0x30, &[oids, &der(3, &[&[0], point])]);
        assert_eq!(with(point), good);
        for (why, bad) in [
            ("compressed", with(&[&[2 + point[point.len() - 1] % 2], x].concat())),
            ("of both forms", with(&[&[6 + point[point.len() - 1] % 2], &point[1..]].concat())),
            ("at infinity", with(&[0])),
            ("no point", with(&[])),
            ("bytes behind it", [good.as_slice(), &[0]].concat()),
            ("a longer point", with(&[point, &[0]].concat())),
        ] {
            assert!(refusal(&bad).contains("isn't the DER"), "{spec}: {why}");
        }
        for (why, coordinates) in [
            ("zeros", vec![0; point.len() - 1]),
            ("beyond the field", vec![0xFF; point.len() - 1]),
            ("x twice", [x, x].concat()),
        ] {
            assert!(
                refusal(&with(&[&[4], coordinates.as_slice()].concat())).contains("curve"),
                "{spec}: {why}"
            );
        }
        // Another curve's point with this curve's name: as long, and not on it.
        for other in [KeyPairSpec::EcP256, KeyPairSpec::Sm2] {
            if other != spec && spec != KeyPairSpec::EcP384 {
                let foreign = encoding::ec_point(&pair(other).1).map(|(_, point)| point.to_vec()).unwrap();
                assert!(refusal(&with(&foreign)).contains("curve"));
            }
        }
    }
}

#[test]
fn a_public_key_cut_or_with_a_bit_flipped_is_refused_or_another() {
    for spec in SPECS {
        let (_, good) = pair(spec);
        for end in 0..good.len() {
            assert!(PublicKey::from_spki(&good[..end]).is_err(), "{spec}: {end} bytes");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            match PublicKey::from_spki(&bad) {
                Err(failure) => assert_eq!(failure.code, Code::InvalidArgument),
                // Only an RSA modulus or exponent can be another one of the same form.
                Ok(_) => assert!(spec == KeyPairSpec::Rsa2048 && bit / 8 >= 32, "{spec}: bit {bit}"),
            }
        }
    }
}

#[test]
fn a_private_key_is_of_its_spec_and_whole() {
    for spec in SPECS {
        let (pkcs8, spki) = pair(spec);
        let key = PrivateKey::from_pkcs8(spec, &pkcs8).unwrap();
        assert_eq!(key.public_key().spec(), Some(spec));
        assert!(PublicKey::from_spki(&spki).is_ok());
        for &other in KeyPairSpec::ALL {
            if other != spec {
                let failure = PrivateKey::from_pkcs8(other, &pkcs8).err().unwrap();
                assert!(failure.message.contains(other.name()), "{spec} as {other}");
            }
        }
        let whole = pkcs8.expose();
        for bad in [&[whole, &[0]].concat()[..], &whole[..whole.len() - 1], &whole[1..], &[]] {
            assert!(PrivateKey::from_pkcs8(spec, &SecretBytes::new(bad.to_vec())).is_err(), "{spec}");
        }
    }
}

/// A private number that isn't its public one's: every byte of the secret parts, one after another.
#[test]
fn a_private_key_with_a_bit_flipped_is_refused() {
    for spec in [KeyPairSpec::EcP256, KeyPairSpec::EcP384, KeyPairSpec::Sm2, KeyPairSpec::Rsa2048] {
        let (pkcs8, spki) = pair(spec);
        let public = PublicKey::from_spki(&spki).unwrap();
        let step = if spec == KeyPairSpec::Rsa2048 { 61 } else { 1 };
        for at in (0..pkcs8.len()).step_by(step) {
            let mut bad = pkcs8.expose().to_vec();
            bad[at] ^= 1;
            let Ok(key) = PrivateKey::from_pkcs8(spec, &SecretBytes::new(bad)) else { continue };
            // What is still read must be the same key: a flip in a place that means nothing.
            let algorithm = spec.key_spec().signing_algorithms()[0];
            let digest = public.digest_of(algorithm, b"m", None).unwrap();
            let signature = key.sign(algorithm, &digest, &Entropy::seeded(2)).unwrap();
            assert!(public.verify(algorithm, &digest, &signature), "{spec}: byte {at}");
        }
    }
}

#[test]
fn algorithms_are_of_their_keys_and_digests_of_their_length() {
    let entropy = Entropy::seeded(3);
    for spec in SPECS {
        let (pkcs8, _) = pair(spec);
        let key = PrivateKey::from_pkcs8(spec, &pkcs8).unwrap();
        for &algorithm in SigningAlgorithm::ALL {
            let digest = vec![7; algorithm.digest().len()];
            let signed = key.sign(algorithm, &digest, &entropy);
            if !spec.key_spec().signing_algorithms().contains(&algorithm) {
                let failure = signed.unwrap_err();
                assert_eq!(failure.code, Code::InvalidArgument);
                assert!(failure.message.contains(spec.name()) && failure.message.contains(algorithm.name()));
                assert!(!key.public_key().verify(algorithm, &digest, &[1; 64]));
                continue;
            }
            let signature = signed.unwrap();
            assert!(key.public_key().verify(algorithm, &digest, &signature));
            for len in [0, digest.len() - 1, digest.len() + 1, 2 * digest.len()] {
                let failure = key.sign(algorithm, &vec![7; len], &entropy).unwrap_err();
                assert_eq!(failure.code, Code::InvalidArgument);
                assert!(!key.public_key().verify(algorithm, &vec![7; len], &signature));
            }
            for &other in SigningAlgorithm::ALL {
                let taken = key.public_key().verify(other, &digest, &signature);
                assert!(other == algorithm || !taken, "{algorithm} as {other}");
            }
        }
        for &algorithm in EncryptionAlgorithm::ALL {
            if !spec.key_spec().encryption_algorithms().contains(&algorithm) {
                assert_eq!(key.decrypt(algorithm, &[1; 256]), Err(Failure::ciphertext()));
                let failure = key.public_key().encrypt(algorithm.into(), b"x", &entropy).unwrap_err();
                assert_eq!(failure.code, Code::InvalidArgument);
                assert!(failure.message.contains(spec.name()) && failure.message.contains(algorithm.name()));
            }
        }
    }
}

#[test]
fn plaintexts_have_bounds() {
    let entropy = Entropy::seeded(4);
    for (spec, algorithm, most) in [
        (KeyPairSpec::Rsa2048, ExportAlgorithm::RsaesOaepSha1, 214),
        (KeyPairSpec::Rsa2048, ExportAlgorithm::RsaesOaepSha256, 190),
        (KeyPairSpec::Rsa2048, ExportAlgorithm::RsaesPkcs1V15, 245),
        (KeyPairSpec::Sm2, ExportAlgorithm::Sm2Pke, 6144),
    ] {
        let (pkcs8, _) = pair(spec);
        let key = PrivateKey::from_pkcs8(spec, &pkcs8).unwrap();
        let public = key.public_key();
        assert_eq!(public.max_plaintext(algorithm), Some(most), "{algorithm}");
        let failure = public.encrypt(algorithm, &vec![1; most + 1], &entropy).unwrap_err();
        assert_eq!(failure.code, Code::PlaintextTooLarge);
        let empty = public.encrypt(algorithm, &[], &entropy);
        if spec == KeyPairSpec::Sm2 {
            assert_eq!(empty.as_ref().unwrap_err().code, Code::InvalidArgument);
        }
        let opens = EncryptionAlgorithm::ALL.iter().find(|own| ExportAlgorithm::from(**own) == algorithm);
        for (plaintext, sealed) in
            [(vec![1; most], public.encrypt(algorithm, &vec![1; most], &entropy)), (Vec::new(), empty)]
        {
            let (Some(&opens), Ok(sealed)) = (opens, sealed) else { continue };
            assert_eq!(key.decrypt(opens, &sealed).unwrap().expose(), plaintext, "{algorithm}");
        }
    }
    let (_, spki) = pair(KeyPairSpec::EcP256);
    let curve = PublicKey::from_spki(&spki).unwrap();
    assert!(ExportAlgorithm::ALL.iter().all(|algorithm| curve.max_plaintext(*algorithm).is_none()));
}
