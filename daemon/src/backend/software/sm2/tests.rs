//! SM2 beside the standard's own numbers and RustCrypto's whole implementation.

use ::sm2::dsa::SigningKey;
use ::sm2::dsa::signature::{RandomizedSigner, Verifier};
use ::sm2::pke::{DecryptingKey, EncryptingKey};

use super::*;

/// d, x and y of GM/T 0003.5-2012 annex A (GB/T 32918.5-2017 has the same): both examples' key.
const D: &str = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
const X: &str = "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020";
const Y: &str = "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";
/// Both examples' k.
const K: &str = "59276e27d506861a16680f3ad9c02dccef3cc1fa3cdbe4ce6d54b80deac1bc21";
/// Order of the group, less one.
const LAST: &str = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54122";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn scalar(hex: &str) -> NonZeroScalar {
    NonZeroScalar::try_from(bytes(hex).as_slice()).unwrap()
}

fn pkcs8(d: &str, x: &str, y: &str) -> Vec<u8> {
    [PKCS8_HEAD, &bytes(d), PKCS8_MIDDLE, &bytes(x), &bytes(y)].concat()
}

fn standard() -> (Sm2Private, Sm2Public) {
    let (private, spki) = Sm2Private::from_pkcs8(&pkcs8(D, X, Y)).unwrap();
    (private, public(&spki))
}

fn public(spki: &[u8]) -> Sm2Public {
    Sm2Public::new(encoding::ec_point(spki).unwrap().1).unwrap()
}

fn fresh(entropy: &Entropy) -> (Sm2Private, Sm2Public) {
    let (pkcs8, spki) = Sm2Private::generate(entropy).unwrap();
    let (private, same) = Sm2Private::from_pkcs8(pkcs8.expose()).unwrap();
    assert_eq!(spki, same);
    (private, public(&spki))
}

/// GM/T 0003.5-2012 annex A.2: e, r and s.
#[test]
fn the_standards_signature() {
    let (private, public) = standard();
    let e = public.digest(DEFAULT_USER_ID, b"message digest").unwrap();
    assert_eq!(hex::encode(&e), "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640");
    let raw = private.sign_with(Scalar::reduce(&FieldBytes::try_from(e.as_slice()).unwrap()), &scalar(K));
    assert_eq!(
        hex::encode(raw.unwrap()),
        "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
         b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
    );
    assert!(public.verify(&e, &encoding::ecdsa_to_der(&raw.unwrap()).unwrap()));
}

/// GM/T 0003.5-2012 annex A.4: C1, C3 and C2.
#[test]
fn the_standards_ciphertext() {
    let (private, public) = standard();
    let raw = public.encrypt_with(b"encryption standard", &scalar(K)).unwrap();
    assert_eq!(
        hex::encode(&raw),
        "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73\
         e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0\
         59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766\
         21886ca989ca9c7d58087307ca93092d651efa"
    );
    let opened = private.decrypt(&encoding::sm2_cipher_to_der(&raw).unwrap()).unwrap();
    assert_eq!(opened.expose(), b"encryption standard");
}

#[test]
fn the_library_reads_ours_and_we_read_the_librarys() {
    let entropy = Entropy::seeded(10);
    for len in [1, 31, 32, 33, 64, 500, MAX_PLAINTEXT] {
        let (private, public) = fresh(&entropy);
        let text = vec![7; len];
        let theirs = DecryptingKey::from_nonzero_scalar(private.scalar).unwrap();
        let raw = encoding::sm2_cipher_from_der(&public.encrypt(&text, &entropy).unwrap()).unwrap();
        assert_eq!(theirs.decrypt(&raw).unwrap(), text);
        let raw = EncryptingKey::new(public.key).encrypt(&mut Draw(&entropy), &text).unwrap();
        let opened = private.decrypt(&encoding::sm2_cipher_to_der(&raw).unwrap()).unwrap();
        assert_eq!(opened.expose(), text);
        let theirs = SigningKey::from_nonzero_scalar("ALICE123@YAHOO.COM", private.scalar).unwrap();
        let signed: Signature = theirs.try_sign_with_rng(&mut Draw(&entropy), &text).unwrap();
        let e = public.digest(b"ALICE123@YAHOO.COM", &text).unwrap();
        assert!(public.verify(&e, &encoding::ecdsa_to_der(&signed.to_bytes()).unwrap()));
        let raw = encoding::ecdsa_from_der(&private.sign(&e, &entropy).unwrap(), SM2_LEN).unwrap();
        let signed = Signature::from_slice(&raw).unwrap();
        assert!(theirs.verifying_key().verify(&text, &signed).is_ok());
    }
}

/// A number of 256 bits begins with a zero byte once in 256 times: those that do are
/// shorter in DER, and stay right.
#[test]
fn numbers_with_leading_zeros_stay_right() {
    let (private, public) = standard();
    let entropy = Entropy::seeded(11);
    let (mut signatures, mut ciphertexts, mut seen) = (0, 0, std::collections::BTreeSet::new());
    for number in 0_u32..1024 {
        let e = public.digest(DEFAULT_USER_ID, &number.to_be_bytes()).unwrap();
        let der = private.sign(&e, &entropy).unwrap();
        let raw = encoding::ecdsa_from_der(&der, SM2_LEN).unwrap();
        assert!(seen.insert(raw.clone()), "a nonce twice");
        if raw[0] == 0 || raw[SM2_LEN] == 0 {
            assert!(public.verify(&e, &der));
            signatures += 1;
        }
        let der = public.encrypt(b"x", &entropy).unwrap();
        let raw = encoding::sm2_cipher_from_der(&der).unwrap();
        if raw[1] == 0 || raw[1 + SM2_LEN] == 0 {
            assert_eq!(private.decrypt(&der).unwrap().expose(), b"x");
            ciphertexts += 1;
        }
    }
    assert!(signatures > 0 && ciphertexts > 0, "{signatures} {ciphertexts}");
}

#[test]
fn a_key_stream_of_zeros_is_neither_used_nor_taken() {
    let (private, public) = standard();
    let entropy = Entropy::seeded(12);
    let k = loop {
        let k = draw(&entropy).unwrap();
        if public.encrypt_with(b"x", &k).is_none() {
            break k;
        }
    };
    let c1 = PublicKey::from_secret_scalar(&k).to_sec1_point(false);
    let c3 = Shared::new(&public.key, &k).c3(b"x");
    let der = encoding::sm2_cipher_to_der(&[c1.as_bytes(), &c3, b"x"].concat()).unwrap();
    assert_eq!(private.decrypt(&der), None, "what is encrypted would be the plaintext itself");
}

#[test]
fn a_ciphertext_with_any_bit_flipped_or_a_point_off_the_curve_does_not_open() {
    let (private, public) = standard();
    let raw = public.encrypt_with(b"text", &scalar(K)).unwrap();
    let der = encoding::sm2_cipher_to_der(&raw).unwrap();
    for bit in 0..der.len() * 8 {
        let mut bad = der.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(private.decrypt(&bad), None, "bit {bit}");
    }
    for point in [[0; 64], [1; 64], [0xFF; 64]] {
        let bad = [&[4][..], &point, &raw[65..]].concat();
        assert_eq!(private.decrypt(&encoding::sm2_cipher_to_der(&bad).unwrap()), None);
        assert!(Sm2Public::new(&bad[..65]).is_none());
    }
    assert!(Sm2Public::new(&[0]).is_none(), "the point at infinity");
    assert!(Sm2Public::new(&raw[..64]).is_none());
    let mut long = raw;
    long.resize(97 + MAX_PLAINTEXT + 1, 0);
    assert_eq!(private.decrypt(&encoding::sm2_cipher_to_der(&long).unwrap()), None);
}

#[test]
fn signatures_out_of_range_or_with_a_flipped_bit_are_none() {
    let (private, public) = standard();
    let e = public.digest(DEFAULT_USER_ID, b"m").unwrap();
    let der = private.sign(&e, &Entropy::seeded(13)).unwrap();
    for bit in 0..der.len() * 8 {
        let mut bad = der.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!public.verify(&e, &bad), "bit {bit}");
    }
    let raw = encoding::ecdsa_from_der(&der, SM2_LEN).unwrap();
    let mut order = bytes(LAST);
    order[SM2_LEN - 1] += 1;
    for (r, s) in [
        (&[0; SM2_LEN][..], &raw[SM2_LEN..]),
        (&raw[..SM2_LEN], &[0; SM2_LEN]),
        (&order, &raw[SM2_LEN..]),
        (&raw[..SM2_LEN], &order),
        // r + s = n.
        (&[&[0; SM2_LEN - 1][..], &[1]].concat(), &bytes(LAST)),
    ] {
        assert!(!public.verify(&e, &encoding::ecdsa_to_der(&[r, s].concat()).unwrap()));
    }
    for wrong in [&e[1..], &[], &[e.as_slice(), &[0]].concat()] {
        assert!(!public.verify(wrong, &der), "a digest of {} bytes", wrong.len());
    }
    assert!(private.sign(&e[1..], &Entropy::seeded(14)).is_err());
}

#[test]
fn only_whole_private_keys_are_taken() {
    let order = format!("{}23", &LAST[..62]);
    let good = pkcs8(D, X, Y);
    let point = PublicKey::from_secret_scalar(&scalar(LAST)).to_sec1_point(false);
    let (x, y) = (hex::encode(&point.as_bytes()[1..33]), hex::encode(&point.as_bytes()[33..]));
    for (why, bad) in [
        ("zero", pkcs8(&"0".repeat(64), X, Y)),
        ("n - 1, whose 1 + d has no inverse", pkcs8(LAST, &x, &y)),
        ("n", pkcs8(&order, X, Y)),
        ("another's point", pkcs8(K, X, Y)),
        ("bytes behind it", [good.as_slice(), &[0]].concat()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
    ] {
        assert!(Sm2Private::from_pkcs8(&bad).is_none(), "{why}");
    }
    for at in 0..PKCS8_HEAD.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(Sm2Private::from_pkcs8(&bad).is_none(), "byte {at}");
    }
}

#[test]
fn a_user_id_is_at_most_8191_bytes() {
    let (_, public) = standard();
    assert!(public.digest(&[b'x'; 8191], b"").is_some());
    assert!(public.digest(&[b'x'; 8192], b"").is_none());
    assert_ne!(public.digest(b"", b"m"), public.digest(DEFAULT_USER_ID, b"m"));
}
