//! How public keys, signatures and ciphertexts are written: what tokens, libraries and
//! callers each have in a form of their own, brought to the one form of `SPEC.md`. No
//! cryptography but the removal of RSA's paddings, for tokens that only have raw RSA.
//!
//! Sources: SubjectPublicKeyInfo, RFC 5280 section 4.1, RFC 3279 section 2.3.1 and RFC
//! 5480; SM2's curve and OID, GM/T 0006; ECDSA-Sig-Value, RFC 3279 section 2.2.3; SM2
//! ciphertext, GM/T 0009 section 7.2; DigestInfo, EME-OAEP and EME-PKCS1-v1_5, RFC 8017
//! sections 9.2, 7.1.2 and 7.2.2.

use claviger_protocol::{DigestAlgorithm, KeyPairSpec, SecretBytes};
use der::asn1::{OctetStringRef, UintRef};
use der::{Decode, Encode, Header, Reader, SliceReader, Tag, TagNumber};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeLess};
use zeroize::Zeroizing;

use super::software::digest;

/// Bytes of an SM2 coordinate, scalar or hash.
pub const SM2_LEN: usize = 32;

/// SubjectPublicKeyInfo up to the point's coordinates, of each curve.
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86,
    0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P384_SPKI: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x05, 0x2B, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
];
const SM2_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x81,
    0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D, 0x03, 0x42, 0x00, 0x04,
];
/// AlgorithmIdentifier of rsaEncryption with its NULL.
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The curves of key pairs, by the bytes of one coordinate.
const fn curve(spec: KeyPairSpec) -> Option<(&'static [u8], usize)> {
    match spec {
        KeyPairSpec::EcP256 => Some((P256_SPKI, 32)),
        KeyPairSpec::EcP384 => Some((P384_SPKI, 48)),
        KeyPairSpec::Sm2 => Some((SM2_SPKI, SM2_LEN)),
        KeyPairSpec::Rsa2048 | KeyPairSpec::Rsa3072 | KeyPairSpec::Rsa4096 => None,
    }
}

/// SubjectPublicKeyInfo of a point (04 ‖ x ‖ y); `None` where it isn't as long as the
/// curve's points are, or the spec has no curve.
#[must_use]
pub fn ec_spki(spec: KeyPairSpec, point: &[u8]) -> Option<Vec<u8>> {
    let (prefix, coordinate) = curve(spec)?;
    let (&form, coordinates) = point.split_first()?;
    (form == 4 && coordinates.len() == 2 * coordinate).then(|| [prefix, coordinates].concat())
}

/// The curve and the point (04 ‖ x ‖ y) of a SubjectPublicKeyInfo. Whether the point is on
/// the curve isn't looked at.
#[must_use]
pub fn ec_point(spki: &[u8]) -> Option<(KeyPairSpec, &[u8])> {
    [KeyPairSpec::EcP256, KeyPairSpec::EcP384, KeyPairSpec::Sm2].into_iter().find_map(|spec| {
        let (prefix, coordinate) = curve(spec)?;
        let coordinates = spki.strip_prefix(prefix)?;
        let point = spki.get(prefix.len() - 1..)?;
        (coordinates.len() == 2 * coordinate).then_some((spec, point))
    })
}

/// SubjectPublicKeyInfo of an RSA modulus and exponent (big-endian; leading zeros don't matter).
#[must_use]
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    rsa_spki_of(&sequence(&[UintRef::new(modulus).ok()?, UintRef::new(exponent).ok()?]).ok()?)
}

/// SubjectPublicKeyInfo of an RSAPublicKey (RFC 8017 appendix A.1.1).
#[must_use]
pub fn rsa_spki_of(rsa_public_key: &[u8]) -> Option<Vec<u8>> {
    let bits = [&[0], rsa_public_key].concat();
    let bit_string = tagged(Tag::BitString, &bits).ok()?;
    tagged(Tag::Sequence, &[RSA_ALGORITHM, &bit_string].concat()).ok()
}

/// An RSA public key, taken out of its SubjectPublicKeyInfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RsaPublic<'a> {
    /// RSAPublicKey DER.
    pub der: &'a [u8],
    /// Modulus, big-endian, no leading zeros.
    pub modulus: &'a [u8],
    /// Exponent, the same.
    pub exponent: &'a [u8],
}

/// Takes an RSA SubjectPublicKeyInfo apart; `None` unless it is one, in DER, and no more.
#[must_use]
pub fn rsa_public(spki: &[u8]) -> Option<RsaPublic<'_>> {
    let body = untagged(Tag::Sequence, spki)?;
    let bits = untagged(Tag::BitString, body.strip_prefix(RSA_ALGORITHM)?)?;
    let (&unused, der) = bits.split_first()?;
    let numbers = untagged(Tag::Sequence, der)?;
    let mut reader = SliceReader::new(numbers).ok()?;
    let modulus = UintRef::decode(&mut reader).ok()?.as_bytes();
    let exponent = UintRef::decode(&mut reader).ok()?.as_bytes();
    (unused == 0 && reader.is_finished()).then_some(RsaPublic { der, modulus, exponent })
}

/// A private key, taken out of its PKCS#8 (RFC 5208, RFC 5958); attributes are passed over.
#[derive(Clone, Copy)]
pub struct Pkcs8<'a> {
    /// AlgorithmIdentifier, whole.
    algorithm: &'a [u8],
    /// The key in its algorithm's own form.
    private: &'a [u8],
    /// The public key that stands beside it.
    pub public: Option<&'a [u8]>,
}

impl<'a> Pkcs8<'a> {
    /// Takes it apart; `None` unless it is one, in DER, and no more.
    #[must_use]
    pub fn from_der(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(untagged(Tag::Sequence, der)?).ok()?;
        let version = u8::decode(&mut reader).ok()?;
        let algorithm = reader.tlv_bytes().ok()?;
        untagged(Tag::Sequence, algorithm)?;
        let private = untagged(Tag::OctetString, reader.tlv_bytes().ok()?)?;
        let mut public = None;
        if next_is(&reader, true, 0) {
            reader.tlv_bytes().ok()?;
        }
        if version == 1 && next_is(&reader, false, 1) {
            let bits = untagged(context(false, 1), reader.tlv_bytes().ok()?)?;
            public = Some(bits.strip_prefix(&[0])?);
        }
        (version <= 1 && reader.is_finished()).then_some(Self { algorithm, private, public })
    }

    /// The same without what is optional, version 0.
    #[must_use]
    pub fn plain(&self) -> Option<Zeroizing<Vec<u8>>> {
        let private = Zeroizing::new(tagged(Tag::OctetString, self.private).ok()?);
        let content = Zeroizing::new([&[2, 1, 0], self.algorithm, &private].concat());
        tagged(Tag::Sequence, &content).ok().map(Zeroizing::new)
    }
}

/// Whether an element with this tag comes next.
fn next_is(reader: &SliceReader<'_>, constructed: bool, number: u32) -> bool {
    Header::peek(&reader.clone()).is_ok_and(|header| header.tag() == context(constructed, number))
}

fn context(constructed: bool, number: u32) -> Tag {
    Tag::ContextSpecific { constructed, number: TagNumber(number) }
}

/// The key itself in a SubjectPublicKeyInfo: the content of its bit string.
#[must_use]
pub fn public_bits(spki: &[u8]) -> Option<&[u8]> {
    ec_point(spki).map(|(_, point)| point).or_else(|| rsa_public(spki).map(|public| public.der))
}

/// A signature r ‖ s as SEQUENCE { r, s }; `None` for an odd or empty number of bytes.
#[must_use]
pub fn ecdsa_to_der(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return None;
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    sequence(&[UintRef::new(r).ok()?, UintRef::new(s).ok()?]).ok()
}

/// SEQUENCE { r, s } as r ‖ s of `len` bytes each; `None` for anything but DER that fits:
/// negative or over-long integers, leading zeros, bytes left over.
#[must_use]
pub fn ecdsa_from_der(der: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut reader = SliceReader::new(untagged(Tag::Sequence, der)?).ok()?;
    let mut raw = vec![0; 2 * len];
    let (r, s) = raw.split_at_mut(len);
    for out in [r, s] {
        right_align(UintRef::decode(&mut reader).ok()?.as_bytes(), out)?;
    }
    reader.is_finished().then_some(raw)
}

/// The same of a token's own signature, whose integers may lack the zero that makes them
/// positive or have zeros too many: vendors write SM2's both ways. What is made of it with
/// [`ecdsa_to_der`] is DER. Never for what a caller brings.
#[must_use]
pub fn ecdsa_from_token(der: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut reader = SliceReader::new(untagged(Tag::Sequence, der)?).ok()?;
    let mut raw = vec![0; 2 * len];
    let (r, s) = raw.split_at_mut(len);
    for out in [r, s] {
        let header = Header::decode(&mut reader).ok().filter(|header| header.tag() == Tag::Integer)?;
        let number = reader.read_slice(header.length()).ok().filter(|number| !number.is_empty())?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        right_align(&number[zeros..], out)?;
    }
    reader.is_finished().then_some(raw)
}

/// An SM2 ciphertext 04 ‖ x ‖ y ‖ C3 ‖ C2 as SEQUENCE { x, y, C3, C2 }.
#[must_use]
pub fn sm2_cipher_to_der(raw: &[u8]) -> Option<Vec<u8>> {
    let (&form, rest) = raw.split_first()?;
    let (x, rest) = rest.split_at_checked(SM2_LEN)?;
    let (y, rest) = rest.split_at_checked(SM2_LEN)?;
    let (c3, c2) = rest.split_at_checked(SM2_LEN)?;
    if form != 4 || c2.is_empty() {
        return None;
    }
    let numbers = [UintRef::new(x).ok()?.to_der().ok()?, UintRef::new(y).ok()?.to_der().ok()?];
    let strings = [tagged(Tag::OctetString, c3).ok()?, tagged(Tag::OctetString, c2).ok()?];
    tagged(Tag::Sequence, &[numbers.concat(), strings.concat()].concat()).ok()
}

/// SEQUENCE { x, y, C3, C2 } as 04 ‖ x ‖ y ‖ C3 ‖ C2; `None` for anything but DER of that
/// shape, or without a C2.
#[must_use]
pub fn sm2_cipher_from_der(der: &[u8]) -> Option<Vec<u8>> {
    let mut reader = SliceReader::new(untagged(Tag::Sequence, der)?).ok()?;
    let mut raw = vec![4; 1 + 2 * SM2_LEN];
    let (x, y) = raw[1..].split_at_mut(SM2_LEN);
    for out in [x, y] {
        right_align(UintRef::decode(&mut reader).ok()?.as_bytes(), out)?;
    }
    let c3 = <&OctetStringRef>::decode(&mut reader).ok()?.as_bytes();
    let c2 = <&OctetStringRef>::decode(&mut reader).ok()?.as_bytes();
    if c3.len() != SM2_LEN || c2.is_empty() || !reader.is_finished() {
        return None;
    }
    raw.extend_from_slice(c3);
    raw.extend_from_slice(c2);
    Some(raw)
}

/// DigestInfo of RSASSA-PKCS1-v1_5, without its padding; `None` for SM3, which has none there.
#[must_use]
pub fn digest_info(algorithm: DigestAlgorithm, digest: &[u8]) -> Option<Vec<u8>> {
    let last = match algorithm {
        DigestAlgorithm::Sha256 => 1,
        DigestAlgorithm::Sha384 => 2,
        DigestAlgorithm::Sha512 => 3,
        DigestAlgorithm::Sm3 => return None,
    };
    let length = u8::try_from(digest.len()).ok().filter(|_| digest.len() == algorithm.len())?;
    let head = [0x30, length + 17, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    Some([&head[..], &[last, 0x05, 0x00, 0x04, length], digest].concat())
}

/// Removes EME-OAEP with SHA-256, MGF1 with SHA-256 and no label from `encoded`, the result
/// of raw RSA, as long as the modulus (RFC 8017 section 7.1.2, step 3). Which check fails
/// shows neither in the answer nor in the time; only the length of a message that is right does.
#[must_use]
pub fn oaep_decode(encoded: &[u8]) -> Option<SecretBytes> {
    const HASH: usize = 32;
    if encoded.len() < 2 * HASH + 2 {
        return None;
    }
    let (first, rest) = encoded.split_first()?;
    let (masked_seed, masked_db) = rest.split_at(HASH);
    let seed = Zeroizing::new(xor(masked_seed, &mgf1(masked_db, HASH)));
    let db = Zeroizing::new(xor(masked_db, &mgf1(&seed, masked_db.len())));
    let mut good = first.ct_eq(&0) & db[..HASH].ct_eq(&digest(DigestAlgorithm::Sha256, &[]));
    // The first byte after the hash that isn't zero must be one, and the message is behind it.
    let (mut searching, mut start) = (Choice::from(1), 0_u32);
    for (index, byte) in (0_u32..).zip(db.iter()).skip(HASH) {
        let zero = byte.ct_eq(&0);
        let here = searching & !zero;
        start.conditional_assign(&(index + 1), here);
        good &= !here | byte.ct_eq(&1);
        searching &= zero;
    }
    good &= !searching;
    if bool::from(good) { Some(SecretBytes::new(db.get(start as usize..)?.to_vec())) } else { None }
}

/// Removes EME-PKCS1-v1_5 from `encoded`, the result of raw RSA, as long as the modulus (RFC
/// 8017 section 7.2.2, step 3). Which check fails shows neither in the answer nor in the
/// time; only the length of a message that is right does.
#[must_use]
pub fn pkcs1_decode(encoded: &[u8]) -> Option<SecretBytes> {
    /// Where the zero may stand that ends the padding: behind 8 bytes of it.
    const EARLIEST: u32 = 2 + 8;
    let (head, padded) = encoded.split_first_chunk::<2>()?;
    let mut good = head[0].ct_eq(&0) & head[1].ct_eq(&2);
    let (mut searching, mut end) = (Choice::from(1), 0_u32);
    for (index, byte) in (2_u32..).zip(padded) {
        let here = searching & byte.ct_eq(&0);
        end.conditional_assign(&index, here);
        searching &= !here;
    }
    good &= !searching & !end.ct_lt(&EARLIEST);
    if bool::from(good) { Some(SecretBytes::new(encoded.get(end as usize + 1..)?.to_vec())) } else { None }
}

/// A number as long as a modulus: some tokens write what raw RSA gives without its leading
/// zeros. `None` where it is longer.
#[must_use]
pub fn left_padded(number: &[u8], len: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut block = Zeroizing::new(vec![0; len]);
    right_align(number, &mut block)?;
    Some(block)
}

/// MGF1 with SHA-256 (RFC 8017 appendix B.2.1).
fn mgf1(seed: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    let mut mask = Zeroizing::new(Vec::with_capacity(len + 32));
    for counter in 0_u32.. {
        if mask.len() >= len {
            break;
        }
        let block = Zeroizing::new([seed, &counter.to_be_bytes()].concat());
        mask.extend_from_slice(&Zeroizing::new(digest(DigestAlgorithm::Sha256, &block)));
    }
    mask.truncate(len);
    mask
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(left, right)| left ^ right).collect()
}

/// Writes a number into the end of `out`, zeros before it; `None` where it is longer.
fn right_align(number: &[u8], out: &mut [u8]) -> Option<()> {
    let zeros = out.len().checked_sub(number.len())?;
    out[..zeros].fill(0);
    out[zeros..].copy_from_slice(number);
    Some(())
}

fn sequence(numbers: &[UintRef<'_>; 2]) -> der::Result<Vec<u8>> {
    tagged(Tag::Sequence, &[numbers[0].to_der()?, numbers[1].to_der()?].concat())
}

fn tagged(tag: Tag, content: &[u8]) -> der::Result<Vec<u8>> {
    let mut out = Header::new(tag, content.len().try_into()?).to_der()?;
    out.extend_from_slice(content);
    Ok(out)
}

/// The content of the one element that `der` is; `None` for another, or for bytes behind it.
fn untagged(tag: Tag, der: &[u8]) -> Option<&[u8]> {
    let mut reader = SliceReader::new(der).ok()?;
    let header = Header::decode(&mut reader).ok()?;
    let content = reader.read_slice(header.length()).ok()?;
    (header.tag() == tag && reader.is_finished()).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_keep_their_leading_zeros_and_nothing_else_is_read() {
        for (r, s) in
            [([0x80; 32], [1; 32]), ([0; 32], [0xFF; 32]), ([0, 1].repeat(16).try_into().unwrap(), [7; 32])]
        {
            let raw = [r, s].concat();
            let der = ecdsa_to_der(&raw).unwrap();
            assert_eq!(ecdsa_from_der(&der, 32).unwrap(), raw);
            assert_eq!(ecdsa_from_der(&[der.as_slice(), &[0]].concat(), 32), None, "bytes behind it");
            assert_eq!(ecdsa_from_der(&der[..der.len() - 1], 32), None, "cut");
        }
        for bad in [
            &[0x30, 6, 2, 1, 0x80, 2, 1, 1][..],   // negative
            &[0x30, 7, 2, 2, 0, 1, 2, 1, 1],       // a zero too many
            &[0x30, 0x81, 6, 2, 1, 1, 2, 1, 1],    // a length longer than it must be
            &[0x30, 8, 2, 1, 1, 2, 1, 1, 5, 0],    // a third element
            &[0x30, 6, 2, 1, 1, 4, 1, 1],          // not a number
            &[0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0], // BER
            &[],
        ] {
            assert_eq!(ecdsa_from_der(bad, 32), None, "{bad:02x?}");
        }
        let long = ecdsa_to_der(&[[1; 33], [1; 33]].concat()).unwrap();
        assert_eq!(ecdsa_from_der(&long, 32), None, "longer than the curve's numbers");
    }

    #[test]
    fn a_tokens_signature_may_have_its_zeros_wrong() {
        for (r, s) in [([0x80; 32], [1; 32]), ([0; 32], [0xFF; 32])] {
            let raw = [r, s].concat();
            assert_eq!(ecdsa_from_token(&ecdsa_to_der(&raw).unwrap(), 32).unwrap(), raw);
            let bare = [&[0x30, 68, 2, 32][..], &r, &[2, 32], &s].concat();
            assert_eq!(ecdsa_from_token(&bare, 32).unwrap(), raw, "no zero before a number");
            let more = [&[0x30, 72, 2, 34, 0, 0][..], &r, &[2, 34, 0, 0], &s].concat();
            assert_eq!(ecdsa_from_token(&more, 32).unwrap(), raw, "two before each");
            assert_eq!(ecdsa_from_der(&bare, 32).or(ecdsa_from_der(&more, 32)), None, "a caller's may not");
            for bad in [&more[..73], &[&bare[..], &[0]].concat(), &bare[2..], &[0x30, 4, 2, 0, 2, 0]] {
                assert_eq!(ecdsa_from_token(bad, 32), None, "{bad:02x?}");
            }
            assert_eq!(ecdsa_from_token(&bare, 31), None, "longer than the curve's numbers");
        }
    }

    #[test]
    fn sm2_ciphertexts_have_both_forms() {
        let mut raw = vec![4];
        raw.extend([[0; 31].as_slice(), &[5], &[0x80; 32], &[9; 32], b"cipher"].concat());
        let der = sm2_cipher_to_der(&raw).unwrap();
        assert_eq!(sm2_cipher_from_der(&der).unwrap(), raw);
        assert_eq!(sm2_cipher_from_der(&[der.as_slice(), &[0]].concat()), None);
        assert_eq!(sm2_cipher_to_der(&raw[..97]), None, "no C2");
        assert_eq!(sm2_cipher_to_der(&raw[1..]), None, "no form byte");
    }

    #[test]
    fn public_keys_come_apart_as_they_were_put_together() {
        let point = [&[4][..], &[7; 64]].concat();
        for spec in [KeyPairSpec::EcP256, KeyPairSpec::Sm2] {
            let spki = ec_spki(spec, &point).unwrap();
            assert_eq!(ec_point(&spki), Some((spec, point.as_slice())));
            assert_eq!(ec_point(&spki[..90]), None);
        }
        assert_eq!(ec_spki(KeyPairSpec::EcP384, &point), None);
        let spki = rsa_spki(&[0, 0xC1, 2, 3], &[1, 0, 1]).unwrap();
        let public = rsa_public(&spki).unwrap();
        assert_eq!((public.modulus, public.exponent), (&[0xC1, 2, 3][..], &[1, 0, 1][..]));
        for at in 0..spki.len() {
            assert_eq!(rsa_public(&spki[..at]), None);
        }
        assert_eq!(rsa_public(&[spki.as_slice(), &[0]].concat()), None);
    }
}
