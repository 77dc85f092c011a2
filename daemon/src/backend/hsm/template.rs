//! Attribute lists. A key that may both unwrap and decrypt gives every wrapped key
//! away, and so does an unwrapped one that may be read: each list names every usage,
//! those that are wanted and those that are forbidden, and leaves nothing to a
//! token's defaults.

use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::types::Ulong;

use super::command::Template;

/// Length of every AES key here, where the call decides it.
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
    pub(super) wrap: bool,
}

impl Usage {
    pub(super) const NONE: Self = Self { encrypt: false, derive: false, mac: false, wrap: false };
    /// Keys of messages, and the root's `seal`.
    pub(super) const ENCRYPT: Self = Self { encrypt: true, ..Self::NONE };
    /// The root's `wrap`.
    pub(super) const WRAP: Self = Self { wrap: true, ..Self::NONE };

    pub(super) const fn of(template: Template) -> Self {
        match template {
            Template::AesDeriveOnly => Self { derive: true, ..Self::NONE },
            Template::AesDirect => Self { encrypt: true, mac: true, ..Self::NONE },
        }
    }

    fn attributes(self) -> [Attribute; 7] {
        [
            Attribute::Encrypt(self.encrypt),
            Attribute::Decrypt(self.encrypt),
            Attribute::Derive(self.derive),
            Attribute::Sign(self.mac),
            Attribute::Verify(false),
            Attribute::Wrap(self.wrap),
            Attribute::Unwrap(self.wrap),
        ]
    }
}

fn aes(usage: Usage) -> Vec<Attribute> {
    let mut out = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Private(true),
        Attribute::Sensitive(true),
    ];
    out.extend(usage.attributes());
    out
}

/// A session object that is there to be used: never readable, never wrapped.
pub(super) fn session_key(usage: Usage) -> Vec<Attribute> {
    let mut out = aes(usage);
    out.extend([Attribute::Token(false), Attribute::Extractable(false)]);
    out
}

/// As [`session_key`], where the call decides the length.
pub(super) fn derived_key(usage: Usage) -> Vec<Attribute> {
    let mut out = session_key(usage);
    out.push(aes_length());
    out
}

/// A new key that is there to be wrapped once and destroyed.
pub(super) fn passing_key(usage: Usage) -> Vec<Attribute> {
    let mut out = aes(usage);
    out.extend([Attribute::Token(false), Attribute::Extractable(true), aes_length()]);
    out
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
    let mut out = aes(usage);
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
