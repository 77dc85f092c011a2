//! What can be asked of a member of the pool: plain data, so that the same
//! command runs in the daemon, crosses to a helper process, or to a unit's socket.

pub use claviger_protocol::blob::RESERVED_SALT;
use claviger_protocol::{
    EncryptionAlgorithm, ImportAlgorithm, KeySpec, KeyUsage, MacAlgorithm, SecretBytes, SigningAlgorithm,
};

/// A PKCS#11 object of a session, valid in one epoch of one member only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Which initialisation of the member it belongs to; an older one is dead.
    pub epoch: u64,
    /// The lane's own number for it, never used twice in an epoch: a late or foreign
    /// one misses, and never hits another key.
    pub handle: u64,
}

/// First 8 bytes of a value that only this material gives; see `check_value.rs`
/// for how each template computes it. Stored with every version and compared
/// after every unwrap.
pub type CheckValue = [u8; 8];

/// How wrapped material was wrapped (stored; numbers never reused).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum WrapFormat {
    /// AES Key Wrap, RFC 3394 (NIST SP 800-38F KW): secret keys.
    AesKw = 1,
    /// AES Key Wrap with Padding, RFC 5649 (NIST SP 800-38F KWP): private keys, as PKCS#8 DER.
    AesKwp = 2,
}

impl WrapFormat {
    /// The format of a stored number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::AesKw),
            2 => Some(Self::AesKwp),
            _ => None,
        }
    }
}

/// What a session object may do: everything else is forbidden to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Template {
    /// AES-256, CKA_DERIVE and nothing else (suite HSM_AES_256_GCM_DERIVED).
    AesDeriveOnly = 1,
    /// AES-256, CKA_ENCRYPT and CKA_DECRYPT (suite HSM_AES_256_GCM_DIRECT);
    /// CKA_SIGN too, for the CMAC check value.
    AesDirect = 2,
    /// A generic secret, CKA_SIGN and CKA_VERIFY: one HMAC, which its spec names.
    HmacSecret = 3,
    /// An RSA private key, CKA_SIGN.
    RsaSign = 4,
    /// An RSA private key, CKA_DECRYPT.
    RsaDecrypt = 5,
    /// A private key on P-256 or P-384, CKA_SIGN.
    EcSign = 6,
    /// SM4, CKA_ENCRYPT and CKA_DECRYPT (suite HSM_SM4_GCM_DIRECT).
    Sm4Direct = 7,
    /// An SM2 private key, CKA_SIGN.
    Sm2Sign = 8,
    /// An SM2 private key, CKA_DECRYPT.
    Sm2Decrypt = 9,
}

impl Template {
    /// The template of a number, as it travels to helpers.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::AesDeriveOnly),
            2 => Some(Self::AesDirect),
            3 => Some(Self::HmacSecret),
            4 => Some(Self::RsaSign),
            5 => Some(Self::RsaDecrypt),
            6 => Some(Self::EcSign),
            7 => Some(Self::Sm4Direct),
            8 => Some(Self::Sm2Sign),
            9 => Some(Self::Sm2Decrypt),
            _ => None,
        }
    }

    /// What keys of such objects are for.
    #[must_use]
    pub const fn usage(self) -> KeyUsage {
        match self {
            Self::AesDeriveOnly | Self::AesDirect | Self::Sm4Direct | Self::RsaDecrypt | Self::Sm2Decrypt => {
                KeyUsage::EncryptDecrypt
            }
            Self::RsaSign | Self::EcSign | Self::Sm2Sign => KeyUsage::SignVerify,
            Self::HmacSecret => KeyUsage::GenerateVerifyMac,
        }
    }

    /// Whether keys of the spec can be such objects.
    #[must_use]
    pub const fn fits(self, spec: KeySpec) -> bool {
        match self {
            Self::AesDeriveOnly | Self::AesDirect => matches!(spec, KeySpec::Aes256),
            Self::HmacSecret => spec.mac_algorithm().is_some(),
            Self::RsaSign | Self::RsaDecrypt => {
                matches!(spec, KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096)
            }
            Self::EcSign => matches!(spec, KeySpec::EcP256 | KeySpec::EcP384),
            Self::Sm4Direct => matches!(spec, KeySpec::Sm4),
            Self::Sm2Sign | Self::Sm2Decrypt => matches!(spec, KeySpec::Sm2),
        }
    }
}

/// Material as it is stored: useless without the root generation that wrapped it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// How.
    pub format: WrapFormat,
    /// Under which root generation.
    pub generation: u32,
    /// The wrapped bytes.
    pub blob: Vec<u8>,
}

/// A pair of the token's that somebody's material was encrypted to, made as any pair that
/// decrypts and kept wrapped like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappingKey {
    /// The private key.
    pub wrapped: Wrapped,
    /// RSA of some size, or SM2.
    pub spec: KeySpec,
    /// SubjectPublicKeyInfo (DER).
    pub public_key: Vec<u8>,
}

/// A command to a member. Secrets in it are wiped when it is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Random bytes from the token. → [`Answer::Bytes`]
    Random {
        /// How many, 1 to 4,096.
        len: u16,
    },
    /// Makes a key or a key pair as session objects, wraps it under the root, destroys
    /// the objects. Only on the `make` lane. → [`Answer::Generated`] for secret keys,
    /// [`Answer::GeneratedPair`] for pairs
    Generate {
        /// What kind.
        spec: KeySpec,
        /// What it will be used as; decides its check value.
        template: Template,
    },
    /// Unwraps a secret key into a session object (sensitive, not extractable) and compares
    /// its check value; on a mismatch the object is destroyed and the answer is
    /// [`HsmError::CheckValueMismatch`], as it is for a blob that was altered. Objects
    /// belong to the lane that made them. → [`Answer::Object`]
    Unwrap {
        /// The stored material.
        wrapped: Wrapped,
        /// What kind it is; of HMAC secrets it decides the algorithm.
        spec: KeySpec,
        /// What the object may do.
        template: Template,
        /// What its check value must be.
        check_value: CheckValue,
    },
    /// Unwraps a private key into a session object (sensitive, not extractable) and tries
    /// it against the public key: what it signs must verify, what is encrypted to it must
    /// open. If it is another's, or the blob was altered, the object is destroyed and the
    /// answer is [`HsmError::CheckValueMismatch`]. → [`Answer::Object`]
    UnwrapPair {
        /// The stored material.
        wrapped: Wrapped,
        /// What kind it is.
        spec: KeySpec,
        /// What the object may do.
        template: Template,
        /// SubjectPublicKeyInfo (DER) of the pair.
        public_key: Vec<u8>,
    },
    /// CKM_AES_CBC_ENCRYPT_DATA: IV of zeros, data = salt ‖ "claviger/v1/subk";
    /// the 32 bytes are an AES-256 session key with CKA_ENCRYPT and CKA_DECRYPT
    /// only, sensitive, not extractable. → [`Answer::Object`]
    Derive {
        /// An [`Template::AesDeriveOnly`] object.
        object: ObjectId,
        /// 16 bytes; never [`RESERVED_SALT`], which is the check value's.
        salt: [u8; 16],
    },
    /// AES-GCM or SM4-GCM, by the key, with a 96-bit nonce and 128-bit tag. → [`Answer::Bytes`]: ciphertext ‖ tag
    GcmSeal {
        /// The key.
        object: ObjectId,
        /// The nonce.
        nonce: [u8; 12],
        /// Authenticated data.
        aad: Vec<u8>,
        /// Plaintext.
        plaintext: SecretBytes,
    },
    /// The reverse of [`Command::GcmSeal`]; any failure to authenticate is
    /// [`HsmError::AuthenticationFailed`]. → [`Answer::Bytes`]: plaintext
    GcmOpen {
        /// The key.
        object: ObjectId,
        /// The nonce.
        nonce: [u8; 12],
        /// Authenticated data.
        aad: Vec<u8>,
        /// Ciphertext ‖ tag.
        sealed: Vec<u8>,
    },
    /// Signs a digest. → [`Answer::Bytes`]: RSA signatures as long as the modulus, those of
    /// ECDSA and SM2 as DER SEQUENCE { r, s }
    Sign {
        /// A private key that signs.
        object: ObjectId,
        /// How; must fit the key.
        algorithm: SigningAlgorithm,
        /// Of the algorithm's hash, and of its length.
        digest: Vec<u8>,
    },
    /// Decrypts what was encrypted to a pair; whatever is wrong with the ciphertext is
    /// [`HsmError::AuthenticationFailed`]. → [`Answer::Bytes`]: plaintext
    PrivateDecrypt {
        /// A private key that decrypts.
        object: ObjectId,
        /// How; must fit the key.
        algorithm: EncryptionAlgorithm,
        /// RSA: as long as the modulus; SM2: the DER of GM/T 0009.
        ciphertext: Vec<u8>,
    },
    /// A MAC of a message. → [`Answer::Bytes`], as long as the algorithm's hash
    Mac {
        /// An [`Template::HmacSecret`] object.
        object: ObjectId,
        /// How; must fit the key.
        algorithm: MacAlgorithm,
        /// The message.
        message: SecretBytes,
    },
    /// Brings somebody's material into the token without its ever being outside: a block to
    /// the wrapping key and, under what that opens to, AES-KWP. The material is wrapped under
    /// the root, and nothing stays in the token. Whatever is wrong with what was sent is
    /// [`HsmError::AuthenticationFailed`]. → [`Answer::Imported`] for secret keys,
    /// [`Answer::GeneratedPair`] for pairs, [`Answer::NotInside`] where this token can't
    Import {
        /// The wrapping key.
        key: WrappingKey,
        /// How the block was encrypted.
        algorithm: ImportAlgorithm,
        /// What the wrapping key opens.
        block: Vec<u8>,
        /// What opens under AES-KWP with that for a key; none where that is the material.
        inner: Option<Vec<u8>>,
        /// What the material is to be.
        spec: KeySpec,
        /// What it will be used as.
        template: Template,
    },
    /// Opens a block with a wrapping key; the errors are those of [`Command::Import`], and
    /// [`HsmError::Unsupported`] where the token can't. → [`Answer::Bytes`], in the clear
    OpenBlock {
        /// The wrapping key.
        key: WrappingKey,
        /// How the block was encrypted.
        algorithm: ImportAlgorithm,
        /// What it opens.
        block: Vec<u8>,
    },
    /// Puts material that was in the daemon's memory into the token, and wraps it under the
    /// root; nothing stays in the token. → as [`Command::Import`]
    Adopt {
        /// A secret key, or the PKCS#8 of a private one.
        material: SecretBytes,
        /// What it is to be.
        spec: KeySpec,
        /// What it will be used as.
        template: Template,
        /// SubjectPublicKeyInfo (DER) of a pair; empty for secret keys.
        public_key: Vec<u8>,
    },
    /// As [`Command::GcmSeal`] under the root's `seal` key, nonce from the
    /// token's generator and put before the ciphertext. Only for the domain key.
    /// → [`Answer::Bytes`]: nonce ‖ ciphertext ‖ tag
    RootSeal {
        /// Authenticated data.
        aad: Vec<u8>,
        /// Plaintext.
        plaintext: SecretBytes,
    },
    /// Opens what [`Command::RootSeal`] sealed. → [`Answer::Bytes`]
    RootOpen {
        /// Authenticated data.
        aad: Vec<u8>,
        /// nonce ‖ ciphertext ‖ tag.
        sealed: Vec<u8>,
    },
    /// Destroys a session object; one of a former epoch is already gone. → [`Answer::Done`]
    Destroy {
        /// Which.
        object: ObjectId,
    },
    /// Opens a known ciphertext under the root's `seal` key: does the token
    /// still compute, not only answer? → [`Answer::Done`]
    Canary,
}

/// A member's answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done, nothing to say.
    Done,
    /// Bytes, which may be secret.
    Bytes(SecretBytes),
    /// A session object.
    Object(ObjectId),
    /// A new secret key.
    Generated {
        /// Wrapped under the root.
        wrapped: Wrapped,
        /// Its check value.
        check_value: CheckValue,
    },
    /// A new key pair, or one that was imported.
    GeneratedPair {
        /// The private key, wrapped under the root.
        wrapped: Wrapped,
        /// SubjectPublicKeyInfo (DER).
        public_key: Vec<u8>,
    },
    /// A secret key that was imported.
    Imported {
        /// Wrapped under the root.
        wrapped: Wrapped,
        /// Its check value.
        check_value: CheckValue,
        /// What tells this material from every other; `import_value.rs` says how.
        value: SecretBytes,
    },
    /// The token can't open that by itself; through the daemon's memory it may still come
    /// in. Nothing was done.
    NotInside,
}

/// What went wrong at a member, by what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsmError {
    /// The tag doesn't fit: the ciphertext or its context was altered.
    #[error("the ciphertext does not authenticate")]
    AuthenticationFailed,
    /// Unwrapped material isn't the material that was stored.
    #[error("the unwrapped key has another check value")]
    CheckValueMismatch,
    /// The object is of a former epoch or gone: unwrap again, retry once.
    #[error("the key object is gone")]
    ObjectGone,
    /// The member's root isn't the one that wrapped this; 0 where it has no root at all.
    #[error("the member holds no root of generation {0}")]
    NoSuchRoot(u32),
    /// The lane's queue is full.
    #[error("the lane's queue is full")]
    Busy,
    /// The member can't do it (mechanism off or missing); says why.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The member is not there, or failing; says why.
    #[error("the HSM is unavailable: {0}")]
    Unavailable(String),
    /// The PIN was refused; never retried.
    #[error("the PIN was refused; the member is off until the daemon is restarted with the right PIN")]
    PinRefused,
    /// Something that shouldn't happen; says what.
    #[error("HSM fault: {0}")]
    Fault(String),
}

/// Something that carries out commands, one at a time: a session of a PKCS#11
/// token, or the token of a simulation.
pub trait Token: Send {
    /// Carries out one command.
    fn execute(&mut self, command: &Command) -> Result<Answer, HsmError>;
}
