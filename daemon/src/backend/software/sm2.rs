//! SM2: signatures and encryption, over RustCrypto's arithmetic of the curve. Both are
//! written out here, because the library's leave secrets behind: its signing key isn't
//! wiped, and its decryption writes the plaintext out before it has compared C3, in
//! variable time. Checking a signature has no secrets and is the library's.
//!
//! Sources: GB/T 32918.2-2016 (signatures; Z_A, section 5.5), GB/T 32918.4-2016 (encryption),
//! GM/T 0009-2012 (forms).

use ::sm2::dsa::signature::hazmat::PrehashVerifier;
use ::sm2::dsa::{Signature, VerifyingKey};
use ::sm2::elliptic_curve::ops::Reduce;
use ::sm2::elliptic_curve::point::AffineCoordinates;
use ::sm2::elliptic_curve::rand_core::{TryCryptoRng, TryRng};
use ::sm2::elliptic_curve::sec1::ToSec1Point;
use ::sm2::elliptic_curve::{Generate, Group};
use ::sm2::{FieldBytes, NonZeroScalar, ProjectivePoint, PublicKey, Scalar};
use claviger_protocol::{KeyPairSpec, SecretBytes};
use sm3::{Digest, Sm3};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use super::internal;
use crate::backend::encoding::{self, SM2_LEN};
use crate::edge::{Entropy, NoEntropy};
use crate::failure::Failure;

/// The user id of who has none of their own (GM/T 0009 section 10).
pub const DEFAULT_USER_ID: &[u8] = b"1234567812345678";
/// Longest plaintext, in bytes: what a ciphertext blob takes, too.
pub(super) const MAX_PLAINTEXT: usize = 6144;

/// a ‖ b ‖ x_G ‖ y_G of the recommended curve (GB/T 32918.5-2017).
const CURVE: [&[u8; SM2_LEN]; 4] = [
    &hex_32("fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc"),
    &hex_32("28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93"),
    &hex_32("32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7"),
    &hex_32("bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0"),
];

const fn hex_32(text: &str) -> [u8; SM2_LEN] {
    const fn digit(c: u8) -> u8 {
        if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 }
    }
    let (text, mut out, mut at) = (text.as_bytes(), [0; SM2_LEN], 0);
    while at < SM2_LEN {
        out[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    out
}

/// PKCS#8 v0 (RFC 5208) of an SM2 private key, with RFC 5915's ECPrivateKey: what stands
/// before the scalar, and between it and the point's coordinates.
const PKCS8_HEAD: &[u8] = &[
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01,
    0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D, 0x04, 0x6D, 0x30, 0x6B, 0x02, 0x01, 0x01,
    0x04, 0x20,
];
const PKCS8_MIDDLE: &[u8] = &[0xA1, 0x44, 0x03, 0x42, 0x00, 0x04];

/// The daemon's randomness as the library wants it.
struct Draw<'a>(&'a Entropy);

impl TryRng for Draw<'_> {
    type Error = NoEntropy;

    fn try_next_u32(&mut self) -> Result<u32, NoEntropy> {
        self.0.array().map(u32::from_le_bytes)
    }

    fn try_next_u64(&mut self) -> Result<u64, NoEntropy> {
        self.0.array().map(u64::from_le_bytes)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.fill(out)
    }
}

impl TryCryptoRng for Draw<'_> {}

/// A number of [1, n-1], for one signature, one ciphertext or a new key.
fn draw(entropy: &Entropy) -> Result<Zeroizing<NonZeroScalar>, Failure> {
    NonZeroScalar::try_generate_from_rng(&mut Draw(entropy)).map(Zeroizing::new).map_err(Failure::from)
}

/// A private key.
pub(super) struct Sm2Private {
    /// d.
    scalar: NonZeroScalar,
    /// (1 + d)^-1, which every signature needs.
    inverse: Scalar,
}

impl Drop for Sm2Private {
    fn drop(&mut self) {
        self.scalar.zeroize();
        self.inverse.zeroize();
    }
}

impl Sm2Private {
    /// A new key: PKCS#8 and SPKI DER.
    pub(super) fn generate(entropy: &Entropy) -> Result<(SecretBytes, Vec<u8>), Failure> {
        Self::encoded(&*draw(entropy)?)
    }

    /// PKCS#8 and SPKI DER of the key d.
    pub(super) fn encoded(scalar: &NonZeroScalar) -> Result<(SecretBytes, Vec<u8>), Failure> {
        let point = PublicKey::from_secret_scalar(scalar).to_sec1_point(false);
        let bytes = Zeroizing::new(<[u8; SM2_LEN]>::from(FieldBytes::from(scalar)));
        let mut pkcs8 = Vec::with_capacity(PKCS8_HEAD.len() + PKCS8_MIDDLE.len() + 3 * SM2_LEN);
        pkcs8.extend_from_slice(PKCS8_HEAD);
        pkcs8.extend_from_slice(bytes.as_ref());
        pkcs8.extend_from_slice(PKCS8_MIDDLE);
        pkcs8.extend_from_slice(&point.as_bytes()[1..]);
        let spki = encoding::ec_spki(KeyPairSpec::Sm2, point.as_bytes()).ok_or_else(internal)?;
        Ok((SecretBytes::new(pkcs8), spki))
    }

    /// Reads the PKCS#8 that [`Sm2Private::generate`] writes, and nothing else; the point must be the
    /// scalar's. n-1 is no private key (GB/T 32918.1 section 6.1): 1 + d has no inverse then.
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<(Self, Vec<u8>)> {
        let (scalar, rest) = der.strip_prefix(PKCS8_HEAD)?.split_at_checked(SM2_LEN)?;
        let coordinates = rest.strip_prefix(PKCS8_MIDDLE)?;
        let scalar = Zeroizing::new(NonZeroScalar::try_from(scalar).ok()?);
        let point = PublicKey::from_secret_scalar(&scalar).to_sec1_point(false);
        if point.as_bytes().get(1..) != Some(coordinates) {
            return None;
        }
        let spki = encoding::ec_spki(KeyPairSpec::Sm2, point.as_bytes())?;
        let inverse = (**scalar + Scalar::ONE).invert().into_option()?;
        Some((Self { scalar: *scalar, inverse }, spki))
    }

    /// Signs e = SM3(Z_A ‖ M); DER (r, s).
    pub(super) fn sign(&self, e: &[u8], entropy: &Entropy) -> Result<Vec<u8>, Failure> {
        let e = Scalar::reduce(&FieldBytes::try_from(e).map_err(|_| internal())?);
        loop {
            if let Some(raw) = self.sign_with(e, &*draw(entropy)?) {
                return encoding::ecdsa_to_der(&raw).ok_or_else(internal);
            }
        }
    }

    /// r ‖ s under the nonce `k`; `None` for the few that give none (section 6.1, A5 and A6).
    fn sign_with(&self, e: Scalar, k: &NonZeroScalar) -> Option<[u8; 2 * SM2_LEN]> {
        let point = ProjectivePoint::mul_by_generator(k).to_affine();
        let r = e + Scalar::reduce(&point.x());
        // (1 + d)^-1 (k - r d), with one secret less in it.
        let s = self.inverse * (**k + r) - r;
        if bool::from(r.is_zero() | (r + **k).is_zero() | s.is_zero()) {
            return None;
        }
        let mut raw = [0; 2 * SM2_LEN];
        raw[..SM2_LEN].copy_from_slice(&FieldBytes::from(r));
        raw[SM2_LEN..].copy_from_slice(&FieldBytes::from(s));
        Some(raw)
    }

    /// Opens a GM/T 0009 ciphertext; `None` for everything that doesn't open.
    pub(super) fn decrypt(&self, der: &[u8]) -> Option<SecretBytes> {
        let raw = encoding::sm2_cipher_from_der(der).filter(|raw| may_open(raw))?;
        let (c1, rest) = raw.split_at_checked(1 + 2 * SM2_LEN)?;
        let (c3, c2) = rest.split_at_checked(SM2_LEN)?;
        let shared = Shared::new(&PublicKey::from_sec1_bytes(c1).ok()?, &self.scalar);
        let mut text = Zeroizing::new(c2.to_vec());
        // A key stream of zeros alone is refused (section 7.1, B4).
        let good = shared.apply(&mut text) & shared.c3(&text).ct_eq(c3);
        if bool::from(good) { Some(SecretBytes::new(std::mem::take(&mut *text))) } else { None }
    }
}

/// Whether 04 ‖ x ‖ y ‖ C3 ‖ C2 may be opened at all, here or in a token: its point is on the
/// curve, as one off it could give the scalar away, and its text isn't over the longest.
#[must_use]
pub fn may_open(raw: &[u8]) -> bool {
    let text = raw.len().saturating_sub(1 + 3 * SM2_LEN);
    let point = raw.get(..1 + 2 * SM2_LEN);
    (1..=MAX_PLAINTEXT).contains(&text)
        && point.is_some_and(|point| PublicKey::from_sec1_bytes(point).is_ok())
}

/// x2 ‖ y2 of the point that sender and receiver alone can compute.
struct Shared(Zeroizing<[u8; 2 * SM2_LEN]>);

impl Shared {
    fn new(public: &PublicKey, scalar: &NonZeroScalar) -> Self {
        let mut point = (ProjectivePoint::from(*public.as_affine()) * **scalar).to_affine();
        let mut encoded = point.to_sec1_point(false);
        let mut coordinates = Zeroizing::new([0; 2 * SM2_LEN]);
        coordinates.copy_from_slice(&encoded.as_bytes()[1..]);
        encoded.zeroize();
        point.zeroize();
        Self(coordinates)
    }

    /// XORs the key stream of GB/T 32918.4 section 5.4.3 to `text`; whether any of its
    /// bits was set.
    fn apply(&self, text: &mut [u8]) -> Choice {
        let mut any = 0;
        for (block, counter) in text.chunks_mut(SM2_LEN).zip(1_u32..) {
            let hash = Sm3::new().chain_update(*self.0).chain_update(counter.to_be_bytes()).finalize();
            let stream = Zeroizing::new(<[u8; SM2_LEN]>::from(hash));
            for (byte, key) in block.iter_mut().zip(stream.iter()) {
                any |= key;
                *byte ^= key;
            }
        }
        !any.ct_eq(&0)
    }

    fn c3(&self, text: &[u8]) -> [u8; SM2_LEN] {
        let (x2, y2) = self.0.split_at(SM2_LEN);
        Sm3::new().chain_update(x2).chain_update(text).chain_update(y2).finalize().into()
    }
}

/// A point on the curve, not at infinity.
pub(super) struct Sm2Public {
    key: PublicKey,
    verifying: VerifyingKey,
    /// x ‖ y.
    coordinates: Vec<u8>,
}

impl Sm2Public {
    /// Reads 04 ‖ x ‖ y.
    pub(super) fn new(point: &[u8]) -> Option<Self> {
        let key = PublicKey::from_sec1_bytes(point).ok()?;
        let verifying = VerifyingKey::new("", key).ok()?;
        Some(Self { key, verifying, coordinates: point.get(1..)?.to_vec() })
    }

    /// e = SM3(Z_A ‖ M); at most 8,191 bytes of user id.
    pub(super) fn digest(&self, user_id: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        let bits = u16::try_from(user_id.len().checked_mul(8)?).ok()?;
        let mut z = Sm3::new().chain_update(bits.to_be_bytes()).chain_update(user_id);
        for part in CURVE {
            z.update(part);
        }
        let z = z.chain_update(&self.coordinates).finalize();
        Some(Sm3::new().chain_update(z).chain_update(message).finalize().to_vec())
    }

    /// Whether (r, s) is a signature of e.
    pub(super) fn verify(&self, e: &[u8], signature: &[u8]) -> bool {
        let Some(raw) = encoding::ecdsa_from_der(signature, SM2_LEN) else { return false };
        Signature::from_slice(&raw)
            .is_ok_and(|signature| self.verifying.verify_prehash(e, &signature).is_ok())
    }

    /// A GM/T 0009 ciphertext of at least one byte.
    pub(super) fn encrypt(&self, plaintext: &[u8], entropy: &Entropy) -> Result<Vec<u8>, Failure> {
        if plaintext.is_empty() {
            return Err(internal());
        }
        loop {
            if let Some(raw) = self.encrypt_with(plaintext, &*draw(entropy)?) {
                return encoding::sm2_cipher_to_der(&raw).ok_or_else(internal);
            }
        }
    }

    /// 04 ‖ C1 ‖ C3 ‖ C2 under the nonce `k`; `None` where its key stream is zeros alone
    /// (section 6.1, A5): one in 256 for a single byte.
    fn encrypt_with(&self, plaintext: &[u8], k: &NonZeroScalar) -> Option<Vec<u8>> {
        let shared = Shared::new(&self.key, k);
        let mut raw =
            ProjectivePoint::mul_by_generator(k).to_affine().to_sec1_point(false).as_bytes().to_vec();
        raw.extend_from_slice(&shared.c3(plaintext));
        // Room for all of it: a reallocation would leave plaintext behind.
        raw.reserve_exact(plaintext.len());
        let head = raw.len();
        raw.extend_from_slice(plaintext);
        if shared.apply(&mut raw[head..]).into() {
            return Some(raw);
        }
        raw.zeroize();
        None
    }
}

mod pkcs8;

pub(super) use pkcs8::read as read_pkcs8;
pub(in crate::backend) use pkcs8::sm2_pair;

#[cfg(test)]
mod tests;
