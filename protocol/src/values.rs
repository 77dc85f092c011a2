//! Enumerations that travel as one numbered byte and are spelled as the KMS spells them.
//!
//! Numbers are never reused. An unknown number is a refused value, never a
//! broken connection.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Declares an enum with wire numbers and spellings; further spellings after the
/// first are accepted when reading text.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident, $what:literal {
        $($(#[$vmeta:meta])* $variant:ident = $number:literal $text:literal $(| $also:literal)*,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $number,)+ }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number on the wire and on disk.
            #[must_use]
            pub const fn number(self) -> u8 { self as u8 }

            /// The spelling in command lines, JSON and messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value of a wire number, if it has one.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownSpelling;

            fn from_str(text: &str) -> Result<Self, UnknownSpelling> {
                match text {
                    $($text $(| $also)* => Ok(Self::$variant),)+
                    _ => Err(UnknownSpelling { what: $what, expected: &[$($text,)+] }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(self.number())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = u8::deserialize(deserializer)?;
                Self::from_number(number).ok_or_else(|| {
                    de::Error::custom(format_args!(concat!("unknown ", $what, " number {}"), number))
                })
            }
        }
    };
}
pub(crate) use wire_enum;

/// A text is not one of an enumeration's spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}; expected one of {}", expected.join(", "))]
pub struct UnknownSpelling {
    pub(crate) what: &'static str,
    pub(crate) expected: &'static [&'static str],
}

wire_enum! {
    /// What kind of key: algorithm family and size. The seeds' spellings are read too.
    KeySpec, "key spec" {
        /// 256-bit AES key.
        Aes256 = 1 "AES_256" | "Aliyun_AES_256",
        /// 128-bit SM4 key (GB/T 32907).
        Sm4 = 2 "SM4" | "Ctyun_SM4" | "Aliyun_SM4",
        /// RSA, 2048-bit modulus.
        Rsa2048 = 3 "RSA_2048",
        /// RSA, 3072-bit modulus.
        Rsa3072 = 4 "RSA_3072",
        /// RSA, 4096-bit modulus.
        Rsa4096 = 5 "RSA_4096",
        /// NIST P-256.
        EcP256 = 6 "EC_P256",
        /// NIST P-384.
        EcP384 = 7 "EC_P384",
        /// SM2 (GB/T 32918) on its recommended curve.
        Sm2 = 8 "SM2" | "Ctyun_SM2" | "EC_SM2",
        /// HMAC-SHA-256 key.
        Hmac256 = 9 "HMAC_256",
        /// HMAC-SHA-384 key.
        Hmac384 = 10 "HMAC_384",
        /// HMAC-SHA-512 key.
        Hmac512 = 11 "HMAC_512",
        /// HMAC-SM3 key.
        HmacSm3 = 12 "HMAC_SM3",
    }
}

wire_enum! {
    /// What a key is for; fixed at creation.
    KeyUsage, "key usage" {
        /// Encryption and decryption.
        EncryptDecrypt = 1 "ENCRYPT_DECRYPT",
        /// Signing and verification.
        SignVerify = 2 "SIGN_VERIFY",
        /// Making and checking MACs.
        GenerateVerifyMac = 3 "GENERATE_VERIFY_MAC",
    }
}

wire_enum! {
    /// Where the material lives in the clear; fixed at creation.
    Protection, "protection level" {
        /// Only inside an HSM.
        Hsm = 1 "HSM" | "hsm",
        /// In the daemon's memory while in use.
        Software = 2 "SOFTWARE" | "software",
    }
}

wire_enum! {
    /// Where the material comes from; fixed at creation.
    KeyOrigin, "key origin" {
        /// Made here.
        Kms = 1 "KMS" | "kms",
        /// Imported by its owner.
        External = 2 "EXTERNAL" | "external",
    }
}

wire_enum! {
    /// Where a key stands in its life.
    KeyState, "key state" {
        /// Usable.
        Enabled = 1 "Enabled",
        /// Switched off by an administrator.
        Disabled = 2 "Disabled",
        /// Waiting for imported material.
        PendingImport = 3 "PendingImport",
        /// To be destroyed at a known date.
        PendingDeletion = 4 "PendingDeletion",
        /// Destroyed; only its tombstone is left.
        Deleted = 5 "Deleted",
    }
}

wire_enum! {
    /// Kinds of data key that can be asked for by name.
    DataKeySpec, "data key spec" {
        /// 32 bytes.
        Aes256 = 1 "AES_256",
        /// 16 bytes.
        Aes128 = 2 "AES_128",
        /// 16 bytes.
        Sm4 = 3 "SM4",
    }
}

wire_enum! {
    /// How a connection proves an access key in hello.
    AuthMethod, "authentication method" {
        /// No access key: the endpoint and the kernel's peer are the identity.
        None = 0 "none",
        /// HMAC-SHA-256 over both nonces and the endpoint's name.
        HmacSha256 = 1 "HMAC_SHA_256",
        /// HMAC-SM3 over the same.
        HmacSm3 = 2 "HMAC_SM3",
    }
}

wire_enum! {
    /// Whether the daemon can do its work.
    ServiceState, "service state" {
        /// Everything is served.
        Serving = 1 "serving",
        /// No HSM can open the domain key: only ping and status are answered.
        Locked = 2 "locked",
        /// Stopping: no new calls.
        Stopping = 3 "stopping",
    }
}

wire_enum! {
    /// Whether a member of the HSM pool can be used.
    MemberState, "member state" {
        /// In use.
        Up = 1 "up",
        /// Not reachable or failing; retried.
        Down = 2 "down",
        /// The PIN was refused once; never retried until an operator restarts the daemon.
        PinRefused = 3 "pin-refused",
        /// The token answers and does not hold this domain's root.
        NoRoot = 4 "no-root",
    }
}

/// How many bytes of data key: by spec, or 1 to 1,024 by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKeySize {
    /// The size of a named kind.
    Spec(DataKeySpec),
    /// A number of bytes, 1 to [`crate::limits::MAX_DATA_KEY_LEN`].
    Bytes(u16),
}

impl DataKeySize {
    /// Length of the data key in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Spec(DataKeySpec::Aes256) => 32,
            Self::Spec(DataKeySpec::Aes128 | DataKeySpec::Sm4) => 16,
            Self::Bytes(n) => n as usize,
        }
    }
}

/// Wire form: the spec's number or 0, then the number of bytes or 0.
#[derive(Serialize, Deserialize)]
struct RawDataKeySize {
    spec: u8,
    bytes: u16,
}

impl Serialize for DataKeySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Spec(spec) => RawDataKeySize { spec: spec.number(), bytes: 0 },
            Self::Bytes(bytes) => RawDataKeySize { spec: 0, bytes },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DataKeySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawDataKeySize::deserialize(deserializer)?;
        match (raw.spec, raw.bytes) {
            (0, 1..=crate::limits::MAX_DATA_KEY_LEN) => Ok(Self::Bytes(raw.bytes)),
            (0, n) => Err(de::Error::custom(format_args!("data key of {n} bytes: 1 to 1024 are possible"))),
            (spec, 0) => DataKeySpec::from_number(spec)
                .map(Self::Spec)
                .ok_or_else(|| de::Error::custom(format_args!("unknown data key spec number {spec}"))),
            _ => Err(de::Error::custom("a data key is asked for by spec or by length, not both")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, DecodeError};

    #[test]
    fn numbers_and_spellings_round_trip() {
        for &spec in KeySpec::ALL {
            assert_eq!(KeySpec::from_number(spec.number()), Some(spec));
            assert_eq!(spec.name().parse(), Ok(spec));
        }
        assert_eq!("Ctyun_SM4".parse(), Ok(KeySpec::Sm4));
        assert_eq!("EC_SM2".parse(), Ok(KeySpec::Sm2));
        assert_eq!("Aliyun_AES_256".parse(), Ok(KeySpec::Aes256));
    }

    #[test]
    fn an_unknown_number_is_a_refused_value() {
        assert_eq!(
            codec::decode::<KeySpec>(&[99]),
            Err(DecodeError::Invalid("unknown key spec number 99".into()))
        );
    }

    #[test]
    fn a_data_key_has_a_spec_or_a_length() {
        for (bytes, want) in [
            ([1, 0, 0], Some(32)),
            ([0, 1, 0], Some(1)),
            ([0, 0, 4], Some(1024)),
            ([0, 1, 4], None),
            ([0, 0, 0], None),
            ([1, 1, 0], None),
            ([9, 0, 0], None),
        ] {
            assert_eq!(codec::decode::<DataKeySize>(&bytes).ok().map(DataKeySize::len), want);
        }
    }
}
