//! Attribute lists. A key that may both unwrap and decrypt gives every wrapped key
//! away, and so does an unwrapped one that may be read: each list names every usage,
//! those that are wanted and those that are forbidden, and leaves nothing to a
//! token's defaults.

use claviger_protocol::KeySpec;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::types::Ulong;

use super::command::{HsmError, Template};
use super::means::Means;
use super::private::{modulus_len, unfit};
use super::wrapping::Does;

/// 32 bytes, where the call decides a key's length.
pub(super) fn aes_length() -> Attribute {
    Attribute::ValueLen(Ulong::new(32))
}

/// Usages of a secret key; all the others are forbidden to it.
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of its own in PKCS#11")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) encrypt: bool,
    pub(super) derive: bool,
    pub(super) mac: bool,
    pub(super) verify: bool,
    pub(super) wrap: bool,
}

impl Usage {
    pub(super) const NONE: Self =
        Self { encrypt: false, derive: false, mac: false, verify: false, wrap: false };
    /// Keys of messages, and the root's `seal`.
    pub(super) const ENCRYPT: Self = Self { encrypt: true, ..Self::NONE };
    /// The root's `wrap`.
    pub(super) const WRAP: Self = Self { wrap: true, ..Self::NONE };

    /// Those of a secret key; none of a private key's.
    pub(super) const fn of(template: Template) -> Self {
        match template {
            Template::AesDeriveOnly => Self { derive: true, ..Self::NONE },
            Template::AesDirect => Self { encrypt: true, mac: true, ..Self::NONE },
            Template::HmacSecret => Self { mac: true, verify: true, ..Self::NONE },
            Template::Sm4Direct => Self::ENCRYPT,
            Template::RsaSign
            | Template::RsaDecrypt
            | Template::EcSign
            | Template::Sm2Sign
            | Template::Sm2Decrypt => Self::NONE,
        }
    }

    fn attributes(self) -> [Attribute; 7] {
        [
            Attribute::Encrypt(self.encrypt),
            Attribute::Decrypt(self.encrypt),
            Attribute::Derive(self.derive),
            Attribute::Sign(self.mac),
            Attribute::Verify(self.verify),
            Attribute::Wrap(self.wrap),
            Attribute::Unwrap(self.wrap),
        ]
    }
}

fn aes(usage: Usage) -> Vec<Attribute> {
    secret(KeyType::AES, usage)
}

fn secret(key_type: KeyType, usage: Usage) -> Vec<Attribute> {
    let mut out = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::Private(true),
        Attribute::Sensitive(true),
    ];
    out.extend(usage.attributes());
    out
}

/// A session object that is there to be used: never readable, never wrapped.
pub(super) fn session_key(usage: Usage) -> Vec<Attribute> {
    unwrapped(KeyType::AES, usage)
}

/// As [`session_key`], where the call decides the length.
pub(super) fn derived_key(usage: Usage) -> Vec<Attribute> {
    let mut out = session_key(usage);
    out.push(aes_length());
    out
}

/// A secret key of any type, unwrapped to be used.
pub(super) fn unwrapped(key_type: KeyType, usage: Usage) -> Vec<Attribute> {
    let mut out = secret(key_type, usage);
    out.extend([Attribute::Token(false), Attribute::Extractable(false)]);
    out
}

/// The same of a spec's keys.
pub(super) fn unwrapped_secret(
    means: &Means,
    spec: KeySpec,
    template: Template,
) -> Result<Vec<Attribute>, HsmError> {
    Ok(unwrapped(means.key_type(spec)?, Usage::of(template)))
}

/// A new secret key of any type, but for its length, that is there to be wrapped once.
pub(super) fn passing(key_type: KeyType, usage: Usage) -> Vec<Attribute> {
    let mut out = secret(key_type, usage);
    out.extend([Attribute::Token(false), Attribute::Extractable(true)]);
    out
}

/// A new secret key of any spec that is there to be wrapped once and destroyed.
pub(super) fn passing_secret(
    means: &Means,
    spec: KeySpec,
    template: Template,
) -> Result<Vec<Attribute>, HsmError> {
    let mut out = passing(means.key_type(spec)?, Usage::of(template));
    // SM4 keys have one length, and their mechanisms no attribute for it.
    if let Some(length) = spec.secret_len().filter(|_| spec != KeySpec::Sm4) {
        let length = u64::try_from(length).map_err(|_| unfit())?;
        out.push(Attribute::ValueLen(Ulong::new(length)));
    }
    Ok(out)
}

/// The same of AES alone.
pub(super) fn passing_key(usage: Usage) -> Vec<Attribute> {
    let mut out = passing(KeyType::AES, usage);
    out.push(aes_length());
    out
}

/// Usages of a private key of Claviger's: it signs or it decrypts.
fn private(means: &Means, spec: KeySpec, template: Template) -> Result<Vec<Attribute>, HsmError> {
    let signs = matches!(template, Template::RsaSign | Template::EcSign | Template::Sm2Sign);
    let decrypts = matches!(template, Template::RsaDecrypt | Template::Sm2Decrypt);
    if !template.fits(spec) || !(signs || decrypts) {
        return Err(unfit());
    }
    Ok(vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(means.key_type(spec)?),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Sign(signs),
        Attribute::SignRecover(false),
        Attribute::Decrypt(decrypts),
        Attribute::Derive(false),
        Attribute::Unwrap(false),
    ])
}

/// A private key, unwrapped to be used.
pub(super) fn unwrapped_private(
    means: &Means,
    spec: KeySpec,
    template: Template,
) -> Result<Vec<Attribute>, HsmError> {
    let mut out = private(means, spec, template)?;
    out.push(Attribute::Extractable(false));
    if means.restricts() {
        out.push(Attribute::AllowedMechanisms(means.allowed(template)?));
    }
    Ok(out)
}

/// A private key that is there to be wrapped once and destroyed.
pub(super) fn passing_private(
    means: &Means,
    spec: KeySpec,
    template: Template,
) -> Result<Vec<Attribute>, HsmError> {
    let mut out = private(means, spec, template)?;
    out.push(Attribute::Extractable(true));
    Ok(out)
}

/// A wrapping key for imports, unwrapped for one call: it does one thing, by one mechanism.
pub(super) fn wrapping_private(
    means: &Means,
    spec: KeySpec,
    does: Does,
    mechanism: &Mechanism<'_>,
) -> Result<Vec<Attribute>, HsmError> {
    let mut out = vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(means.key_type(spec)?),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(does == Does::Sign),
        Attribute::SignRecover(false),
        Attribute::Decrypt(does == Does::Decrypt),
        Attribute::Derive(false),
        Attribute::Unwrap(does == Does::Unwrap),
    ];
    if means.restricts() {
        out.push(Attribute::AllowedMechanisms(vec![mechanism.mechanism_type()]));
    }
    Ok(out)
}

/// A new pair: the public key to be read, the private key to be wrapped, both once.
pub(super) fn passing_pair(
    means: &Means,
    spec: KeySpec,
    template: Template,
) -> Result<(Vec<Attribute>, Vec<Attribute>), HsmError> {
    let private = passing_private(means, spec, template)?;
    let mut public = vec![
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
    ];
    match (modulus_len(spec), curve(spec)) {
        (Some(bytes), _) => {
            let bits = u64::try_from(8 * bytes).map_err(|_| unfit())?;
            public
                .extend([Attribute::ModulusBits(Ulong::new(bits)), Attribute::PublicExponent(vec![1, 0, 1])]);
        }
        (None, Some(curve)) => public.push(Attribute::EcParams(curve.to_vec())),
        (None, None) => return Err(unfit()),
    }
    Ok((public, private))
}

/// The OBJECT IDENTIFIER (DER) of a spec's curve: RFC 5480; GM/T 0006 for SM2's.
const fn curve(spec: KeySpec) -> Option<&'static [u8]> {
    match spec {
        KeySpec::EcP256 => Some(&[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]),
        KeySpec::EcP384 => Some(&[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22]),
        KeySpec::Sm2 => Some(&[0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D]),
        _ => None,
    }
}

/// A root key: stays in the token for good, and is never readable. `modifiable` only
/// on tokens that can't unwrap into an object that isn't.
pub(super) fn root_key(usage: Usage, id: &[u8], label: &str, modifiable: bool) -> Vec<Attribute> {
    let mut out = aes(usage);
    out.extend([
        Attribute::Token(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(modifiable),
        Attribute::Id(id.to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
    ]);
    out
}

/// A key whose value is known to all: for self-tests only.
pub(super) fn known_key(usage: Usage, value: &[u8], extractable: bool) -> Vec<Attribute> {
    known_secret(KeyType::AES, usage, value, extractable)
}

/// The same of any type.
pub(super) fn known_secret(
    key_type: KeyType,
    usage: Usage,
    value: &[u8],
    extractable: bool,
) -> Vec<Attribute> {
    let mut out = secret(key_type, usage);
    out.extend([
        Attribute::Token(false),
        Attribute::Extractable(extractable),
        Attribute::Value(value.to_vec()),
    ]);
    out
}

/// An RSA key pair to receive keys with: it unwraps, and nothing else.
pub(super) fn receiving_pair(modulus_bits: u64) -> (Vec<Attribute>, Vec<Attribute>) {
    let public = vec![
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::ModulusBits(Ulong::new(modulus_bits)),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Wrap(true),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
    ];
    let mut private = vec![Attribute::Token(false)];
    private.extend(unwrapping_only());
    (public, private)
}

/// Usages of a private key that receives keys.
pub(super) fn unwrapping_only() -> [Attribute; 7] {
    [
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::Derive(false),
    ]
}

/// Somebody's RSA public key, to wrap keys to.
pub(super) fn wrapping_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Modulus(modulus.to_vec()),
        Attribute::PublicExponent(exponent.to_vec()),
        Attribute::Wrap(true),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
    ]
}
