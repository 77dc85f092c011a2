//! SM2EnvelopedKey (GB/T 35276-2017 section 7.4): an SM2 key pair under an SM4 key, which is
//! encrypted to another pair.

use der::asn1::BitStringRef;
use der::{Decode, Header, Reader, SliceReader, Tag};

/// SM4, and SM4 in ECB mode (1.2.156.10197.1.104 and .1, GM/T 0006): both are written where
/// ECB is meant, without parameters or with NULL.
const SM4: [&[u8]; 4] = [
    &[0x06, 0x07, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x68],
    &[0x06, 0x07, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x68, 0x05, 0x00],
    &[0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x68, 0x01],
    &[0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x68, 0x01, 0x05, 0x00],
];
/// Bytes of a point: 04 ‖ x ‖ y.
const POINT_LEN: usize = 65;
/// Bytes of the encrypted scalar.
const SCALAR_LEN: usize = 32;

/// Its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Enveloped<'a> {
    /// The SM4 key, as a GM/T 0009 ciphertext.
    pub(super) key: &'a [u8],
    /// The public key of the pair inside: 04 ‖ x ‖ y.
    pub(super) point: &'a [u8],
    /// The private scalar under SM4-ECB.
    pub(super) scalar: &'a [u8],
}

impl<'a> Enveloped<'a> {
    /// Takes it apart; `None` for anything but DER of that shape and SM4.
    pub(super) fn from_der(der: &'a [u8]) -> Option<Self> {
        let mut outer = SliceReader::new(der).ok()?;
        let (_, content) = element(&mut outer, Tag::Sequence)?;
        let mut reader = SliceReader::new(content).ok()?;
        let (_, algorithm) = element(&mut reader, Tag::Sequence)?;
        let (key, _) = element(&mut reader, Tag::Sequence)?;
        let point = BitStringRef::decode(&mut reader).ok()?.as_bytes()?;
        let scalar = BitStringRef::decode(&mut reader).ok()?.as_bytes()?;
        let whole = outer.is_finished() && reader.is_finished();
        let long = point.len() == POINT_LEN && point.first() == Some(&4) && scalar.len() == SCALAR_LEN;
        (whole && long && SM4.contains(&algorithm)).then_some(Self { key, point, scalar })
    }
}

/// The next element, whole and its content.
fn element<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Option<(&'a [u8], &'a [u8])> {
    let whole = reader.tlv_bytes().ok()?;
    let mut inner = SliceReader::new(whole).ok()?;
    let header = Header::decode(&mut inner).ok()?;
    let content = inner.read_slice(header.length()).ok()?;
    (header.tag() == tag && inner.is_finished()).then_some((whole, content))
}
