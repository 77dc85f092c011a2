//! Each lie is told by the number it is about, both ways alike (so that a round trip
//! doesn't show it), and everything else is true.

use crate::common::{Token, key_type, on, plain, refusal, with};
use cryptoki::error::RvError;
use cryptoki::mechanism::aead::GcmParams;

/// SM3("abc"), GB/T 32905, A.1.
const SM3_ABC: &str = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0";
/// SHA-256("abc"), FIPS 180-4.
const SHA256_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// What each of the four numbers does: SM3, SM4-GCM, SM2 signature, SM2 encryption.
fn honest(token: &Token) -> [bool; 4] {
    [sm3(token), gcm(token), signature(token), encryption(token)]
}

fn sm3(token: &Token) -> bool {
    let digest = hex::encode(token.session.digest(&plain(0x7530), b"abc").unwrap());
    assert!(digest == SM3_ABC || digest == SHA256_ABC);
    digest == SM3_ABC
}

/// The GCM specification's test case 1: AES-128 with a key and nonce of zeros over nothing.
fn gcm(token: &Token) -> bool {
    let key = token.known_sm4(key_type(0x7504), &[0; 16]);
    let mut iv = [0; 12];
    let parameters = GcmParams::new(&mut iv, b"", 128.into()).unwrap();
    let sealed = token.session.encrypt(&with(0x7544, &parameters), key, b"").unwrap();
    assert_eq!(token.session.decrypt(&with(0x7544, &parameters), key, &sealed).unwrap(), b"");
    hex::encode(sealed) != "58e2fccefa7e3061367f1d57a4e7455a"
}

/// Whether the prehashed number and the hashing one agree on e. GB/T 32918.2's sample:
/// the e of this key, the default id and "message digest".
fn signature(token: &Token) -> bool {
    let (scalar, point) = (hex::decode(SCALAR).unwrap(), hex::decode(POINT).unwrap());
    let (public, private) = token.known_pair(key_type(0x7502), &scalar, &point);
    let e = hex::decode("f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640").unwrap();
    let signature = token.session.sign(&plain(0x7521), private, &e).unwrap();
    token.session.verify(&plain(0x7521), public, &e, &signature).unwrap();
    token.session.verify(&plain(0x7522), public, b"message digest", &signature).is_ok()
}

const SCALAR: &str = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
const POINT: &str = "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
                     ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";

/// Whether what it decrypts is in the order C1 ‖ C3 ‖ C2.
fn encryption(token: &Token) -> bool {
    let (public, private) = token.sm2_pair(0x7520, false);
    let sealed = token.session.encrypt(&plain(0x7523), public, b"text").unwrap();
    assert_eq!(token.session.decrypt(&plain(0x7523), private, &sealed).unwrap(), b"text");
    let (scalar, point) = (hex::decode(SCALAR).unwrap(), hex::decode(POINT).unwrap());
    let (_, known) = token.known_pair(key_type(0x7502), &scalar, &point);
    // GM/T 0003.5, Annex A: C1 ‖ C3 ‖ C2 of "encryption standard".
    let sample = hex::decode(SAMPLE).unwrap();
    token.session.decrypt(&plain(0x7523), known, &sample).is_ok_and(|text| text == b"encryption standard")
}

const SAMPLE: &str = "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73\
                      e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0\
                      59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766\
                      21886ca989ca9c7d58087307ca93092d651efa";

#[test]
fn who_is_honest_is_honest_in_all() {
    on(&["complete"], "liars::who_is_honest_is_honest_in_all", |token| assert_eq!(honest(token), [true; 4]));
}

#[test]
fn a_liar_in_sm3_is_honest_in_the_rest() {
    let name = "liars::a_liar_in_sm3_is_honest_in_the_rest";
    on(&["liar=sm3"], name, |token| assert_eq!(honest(token), [false, true, true, true]));
}

#[test]
fn a_liar_in_sm4_is_honest_in_the_rest() {
    let name = "liars::a_liar_in_sm4_is_honest_in_the_rest";
    on(&["liar=sm4"], name, |token| assert_eq!(honest(token), [true, false, true, true]));
}

#[test]
fn a_liar_in_signing_is_honest_in_the_rest() {
    let name = "liars::a_liar_in_signing_is_honest_in_the_rest";
    on(&["liar=sm2-sign"], name, |token| assert_eq!(honest(token), [true, true, false, true]));
}

#[test]
fn a_liar_in_encrypting_is_honest_in_the_rest() {
    let name = "liars::a_liar_in_encrypting_is_honest_in_the_rest";
    on(&["liar=sm2-encrypt"], name, |token| assert_eq!(honest(token), [true, true, true, false]));
}

/// It means what the others mean, takes a point off the curve, and has a code of its own for
/// what doesn't open; some of its signatures are no DER.
#[test]
fn a_careless_token_is_honest_and_careless() {
    on(&["liar=careless"], "liars::a_careless_token_is_honest_and_careless", |token| {
        assert!(sm3(token) && gcm(token) && encryption(token));
        let (public, private) = token.sm2_pair(0x7520, false);
        let sealed = token.session.encrypt(&plain(0x7523), public, b"text").unwrap();
        let mut flipped = sealed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let refused = refusal(token.session.decrypt(&plain(0x7523), private, &flipped));
        assert_eq!(refused, RvError::VendorDefined(0x8000_0011));
        let mut off = sealed;
        off[64] ^= 1;
        assert_eq!(token.session.decrypt(&plain(0x7523), private, &off).unwrap(), b"a point off the curve");
        for _ in 0..8 {
            let signature = token.session.sign(&plain(0x7521), private, &[7; 32]).unwrap();
            assert_eq!((signature.len(), &signature[..4]), (70, &[0x30, 68, 2, 32][..]));
        }
    });
}
