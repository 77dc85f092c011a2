//! SM2: key pairs, signatures, encryption, in the forms that PKCS#11 modules give them.

use cryptoki_sys::{
    CK_RV, CKR_ATTRIBUTE_VALUE_INVALID, CKR_DATA_INVALID, CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID,
    CKR_FUNCTION_FAILED, CKR_SIGNATURE_INVALID, CKR_VENDOR_DEFINED, CKR_WRAPPED_KEY_INVALID,
};
use sm2::dsa::signature::hazmat::{PrehashVerifier, RandomizedPrehashSigner};
use sm2::dsa::signature::{RandomizedSigner, Verifier};
use sm2::dsa::{Signature, SigningKey, VerifyingKey};
use sm2::elliptic_curve::Generate;
use sm2::elliptic_curve::sec1::ToSec1Point;
use sm2::pkcs8::der::{Encode, Header, SliceReader};
use sm2::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use sm2::pke::{DecryptingKey, EncryptingKey, Mode};
use sm2::{PublicKey, SecretKey};
use sm3::{Digest, Sm3};
use zeroize::Zeroizing;

use crate::ffi::Answer;
use crate::numbering::{Form, Hashed, Lie, lies};
use crate::rng::TokenRng;

/// CKA_EC_PARAMS: OID 1.2.156.10197.1.301, the curve of GM/T 0003.5.
pub(crate) const OID: [u8; 10] = [0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D];
/// The default user id of GM/T 0009, section 10.
const DEFAULT_ID: &str = "1234567812345678";
/// Longest signature: SEQUENCE of two INTEGERs of 33 bytes.
pub(crate) const MAX_SIGNATURE: usize = 72;
/// DER OCTET STRING of 65 bytes.
const POINT_HEADER: [u8; 2] = [0x04, 65];

pub(crate) fn generate(mut rng: TokenRng) -> Answer<SecretKey> {
    SecretKey::try_generate_from_rng(&mut rng).map_err(|error| error.0)
}

/// CKA_EC_POINT of a public key (PKCS#11 v2.40, section 2.3.3).
pub(crate) fn point(key: &PublicKey) -> Vec<u8> {
    [POINT_HEADER.as_slice(), key.to_sec1_point(false).as_bytes()].concat()
}

/// The public key of a CKA_EC_POINT.
pub(crate) fn public(point: &[u8]) -> Answer<PublicKey> {
    let bytes = point.strip_prefix(&POINT_HEADER).filter(|bytes| bytes.len() == 65);
    let key = bytes.and_then(|bytes| PublicKey::from_sec1_bytes(bytes).ok());
    key.ok_or(CKR_ATTRIBUTE_VALUE_INVALID)
}

/// The private key of a CKA_VALUE: a big integer of at most 32 bytes.
pub(crate) fn private(value: &[u8]) -> Answer<SecretKey> {
    let mut scalar = Zeroizing::new([0; 32]);
    let start = scalar.len().checked_sub(value.len()).ok_or(CKR_ATTRIBUTE_VALUE_INVALID)?;
    scalar[start..].copy_from_slice(value);
    SecretKey::from_slice(scalar.as_slice()).map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)
}

/// PKCS#8, in which private keys are wrapped (PKCS#11 v2.40, section 2.7).
pub(crate) fn to_pkcs8(key: &SecretKey) -> Answer<Zeroizing<Vec<u8>>> {
    let document = key.to_pkcs8_der().map_err(|_| CKR_FUNCTION_FAILED)?;
    Ok(Zeroizing::new(document.as_bytes().to_vec()))
}

/// The key of a PKCS#8 that was unwrapped. SoftHSM 2.6 leaves RFC 5649's padding on what
/// it unwraps as a generic secret: at most seven zeros behind the DER.
pub(crate) fn from_pkcs8(padded: &[u8]) -> Answer<SecretKey> {
    let invalid = |_| CKR_WRAPPED_KEY_INVALID;
    let header = SliceReader::new(padded).and_then(|reader| Header::peek(&reader)).map_err(invalid)?;
    let len = header.encoded_len().and_then(|len| len + header.length()).and_then(usize::try_from);
    let (der, padding) = padded.split_at_checked(len.map_err(invalid)?).ok_or(CKR_WRAPPED_KEY_INVALID)?;
    if padding.len() > 7 || padding.iter().any(|byte| *byte != 0) {
        return Err(CKR_WRAPPED_KEY_INVALID);
    }
    SecretKey::from_pkcs8_der(der).map_err(|_| CKR_WRAPPED_KEY_INVALID)
}

/// e of SM2DSA (GM/T 0003.2, section 6.1), where it isn't the signer's to compute.
fn digest(hashed: Hashed, data: &[u8]) -> Answer<Option<[u8; 32]>> {
    match hashed {
        Hashed::Before if lies(Lie::Sm2Sign) => Ok(Some(Sm3::digest(data).into())),
        Hashed::Before => data.try_into().map(Some).map_err(|_| CKR_DATA_LEN_RANGE),
        Hashed::Plain => Ok(Some(Sm3::digest(data).into())),
        Hashed::WithZ => Ok(None),
    }
}

pub(crate) fn sign(
    key: &SecretKey,
    form: Form,
    hashed: Hashed,
    data: &[u8],
    mut rng: TokenRng,
) -> Answer<Zeroizing<Vec<u8>>> {
    let failed = |_| CKR_FUNCTION_FAILED;
    let signer = SigningKey::new(DEFAULT_ID, key).map_err(failed)?;
    let signature: Signature = match digest(hashed, data)? {
        Some(e) => signer.sign_prehash_with_rng(&mut rng, &e).map_err(failed)?,
        None => signer.try_sign_with_rng(&mut rng, data).map_err(failed)?,
    };
    Ok(Zeroizing::new(match form {
        // Right only where neither number has a high bit, or a zero before it.
        Form::Der if lies(Lie::Careless) => {
            let bytes = signature.to_bytes();
            let (r, s) = bytes.split_at(32);
            [&[0x30, 68, 2, 32][..], r, &[2, 32], s].concat()
        }
        Form::Der => signature.to_der().as_bytes().to_vec(),
        Form::Raw => signature.to_bytes().to_vec(),
    }))
}

pub(crate) fn verify(
    key: &PublicKey,
    form: Form,
    hashed: Hashed,
    data: &[u8],
    signature: &[u8],
) -> Answer<()> {
    let wrong = |_| CKR_SIGNATURE_INVALID;
    let signature = match form {
        Form::Der => Signature::from_der(signature),
        Form::Raw => Signature::from_slice(signature),
    };
    let signature = signature.map_err(wrong)?;
    let verifier = VerifyingKey::new(DEFAULT_ID, *key).map_err(wrong)?;
    match digest(hashed, data)? {
        Some(e) => verifier.verify_prehash(&e, &signature).map_err(wrong),
        None => verifier.verify(data, &signature).map_err(wrong),
    }
}

/// The order of the raw form's parts.
fn order() -> Mode {
    if lies(Lie::Sm2Encrypt) { Mode::C1C2C3 } else { Mode::C1C3C2 }
}

/// Longest ciphertext of so many bytes: in DER, a few bytes of headers and signs more.
pub(crate) fn max_ciphertext(plaintext: usize) -> usize {
    plaintext + 128
}

pub(crate) fn encrypt(
    key: &PublicKey,
    form: Form,
    plaintext: &[u8],
    mut rng: TokenRng,
) -> Answer<Zeroizing<Vec<u8>>> {
    if plaintext.is_empty() {
        return Err(CKR_DATA_LEN_RANGE);
    }
    let key = EncryptingKey::new_with_mode(*key, order());
    let sealed = match form {
        Form::Der => key.encrypt_der(&mut rng, plaintext),
        Form::Raw => key.encrypt(&mut rng, plaintext),
    };
    sealed.map(Zeroizing::new).map_err(|_| CKR_DATA_INVALID)
}

/// What a careless token makes of a point that is on no curve, and answers to what doesn't open.
const UNSEEN: &[u8] = b"a point off the curve";
const CARELESS_CODE: CK_RV = CKR_VENDOR_DEFINED | 0x11;

pub(crate) fn decrypt(key: &SecretKey, form: Form, sealed: &[u8]) -> Answer<Zeroizing<Vec<u8>>> {
    let careless = lies(Lie::Careless);
    let off = |point: &[u8]| PublicKey::from_sec1_bytes(point).is_err();
    if careless && form == Form::Raw && sealed.get(..65).is_some_and(off) {
        return Ok(Zeroizing::new(UNSEEN.to_vec()));
    }
    let key = DecryptingKey::new_with_mode(key.to_nonzero_scalar(), order());
    let opened = match form {
        Form::Der => key.decrypt_der(sealed),
        Form::Raw => key.decrypt(sealed),
    };
    let refusal = if careless { CARELESS_CODE } else { CKR_ENCRYPTED_DATA_INVALID };
    opened.map(Zeroizing::new).map_err(|_| refusal)
}
