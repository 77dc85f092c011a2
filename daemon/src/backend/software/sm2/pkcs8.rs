//! SM2 private keys as others write them: PKCS#8 with RFC 5915's ECPrivateKey in each of
//! its forms, and bare scalars. What comes out is the one form that is kept.

use der::asn1::BitStringRef;
use der::asn1::OctetStringRef;
use der::{Decode, Header, Reader, SliceReader, Tag};

use super::{NonZeroScalar, SM2_LEN, Sm2Private};
use claviger_protocol::SecretBytes;
use zeroize::Zeroizing;

/// AlgorithmIdentifier's content: id-ecPublicKey, SM2's curve.
const ALGORITHM: &[u8] = &[
    0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01,
    0x82, 0x2D,
];
/// The curve alone, at the end of it.
const CURVE_AT: usize = 9;

/// PKCS#8 and SPKI DER of the key d, big-endian; `None` for what is no private key.
pub(in crate::backend) fn sm2_pair(scalar: &[u8]) -> Option<(SecretBytes, Vec<u8>)> {
    if scalar.len() != SM2_LEN {
        return None;
    }
    let scalar = Zeroizing::new(NonZeroScalar::try_from(scalar).ok()?);
    let (pkcs8, spki) = Sm2Private::encoded(&scalar).ok()?;
    // Looks at what that leaves: n - 1 is none.
    Sm2Private::from_pkcs8(pkcs8.expose())?;
    Some((pkcs8, spki))
}

/// The same of a PKCS#8 (version 0, without what is optional) whose curve is named at least once and
/// whose point, where it has one, is the scalar's.
pub(in crate::backend::software) fn read(der: &[u8]) -> Option<(SecretBytes, Vec<u8>)> {
    let mut outer = SliceReader::new(der).ok()?;
    let mut info = inside(&mut outer, Tag::Sequence)?;
    let version = u8::decode(&mut info).ok()?;
    let algorithm = content(&mut info, Tag::Sequence)?;
    let mut octets = inside(&mut info, Tag::OctetString)?;
    if version != 0 || algorithm != ALGORITHM || !outer.is_finished() || !info.is_finished() {
        return None;
    }
    let mut key = inside(&mut octets, Tag::Sequence)?;
    let one = u8::decode(&mut key).ok()?;
    let scalar = <&OctetStringRef>::decode(&mut key).ok()?.as_bytes();
    if one != 1 || !octets.is_finished() {
        return None;
    }
    let (pkcs8, spki) = sm2_pair(scalar)?;
    if let Some(curve) = optional(&mut key, 0)
        && curve != ALGORITHM.get(CURVE_AT..)?
    {
        return None;
    }
    if let Some(point) = optional(&mut key, 1) {
        let point = BitStringRef::from_der(point).ok()?.as_bytes()?;
        if !spki.ends_with(point) || point.len() != 1 + 2 * SM2_LEN {
            return None;
        }
    }
    key.is_finished().then_some((pkcs8, spki))
}

/// The content of the next element, which must have this tag.
fn content<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Option<&'a [u8]> {
    let header = Header::decode(reader).ok()?;
    let content = reader.read_slice(header.length()).ok()?;
    (header.tag() == tag).then_some(content)
}

/// The same, to be read on.
fn inside<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Option<SliceReader<'a>> {
    SliceReader::new(content(reader, tag)?).ok()
}

/// What is inside an explicit tag, if the next element has it.
fn optional<'a>(reader: &mut SliceReader<'a>, number: u32) -> Option<&'a [u8]> {
    let tag = Tag::ContextSpecific { constructed: true, number: der::TagNumber(number) };
    let next = Header::peek(reader).ok().filter(|header| header.tag() == tag);
    next.and_then(|_| content(reader, tag))
}
