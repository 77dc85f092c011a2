//! The operations that can be measured: a row each says how to ask, and how to tell
//! that an answer is right. What must not live here: how calls are made and timed.

use claviger_client::{new_key, signing, verification};
use claviger_protocol::body::{
    AsymmetricDecryptRequest, AsymmetricEncryptRequest, AsymmetricSignRequest, DecryptRequest,
    EncryptRequest, GenerateDataKeyRequest, GenerateMacRequest, GetRandomRequest, MessageDigestRequest,
    PingRequest,
};
use claviger_protocol::limits::{DEFAULT_MAX_PLAINTEXT, MAX_DATA_KEY_LEN, MAX_PING_LEN, MAX_RANDOM_LEN};
use claviger_protocol::values::UnknownSpelling;
use claviger_protocol::{
    DataKeySize, DigestAlgorithm, EncryptionAlgorithm, EncryptionContext, KeyRef, KeySpec, KeyUsage,
    Protection, Reply, Request, SecretBytes, SigningAlgorithm,
};
use uuid::Uuid;

use crate::defaults;
use crate::failure::Failure;

/// Largest message of signing, MACs and digests: what a default frame takes, and room.
const MAX_MESSAGE: usize = 1 << 19;

/// One row.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is done with.
    pub(crate) kind: Kind,
    /// What has to be made once before.
    pub(crate) needs: Needs,
    /// Whether each call leaves something for good: then each is a request of its own,
    /// and the user must say how many.
    pub(crate) lasting: bool,
    /// The largest `--size`, in bytes.
    pub(crate) max_size: usize,
    /// Whether `clavigerd hsm bench` has the cryptography behind it.
    pub(crate) in_process: bool,
    /// The request that is sent all the time, or the next one of a lasting operation.
    pub(crate) request: fn(&Subject) -> Request,
    /// What is still to be shown about a reply; nothing where it can't be right.
    pub(crate) check: fn(&Subject, Reply) -> Option<Proof>,
}

/// What an operation is done with, and so which keys and algorithms it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No key, no algorithm.
    Plain,
    /// No key, an algorithm.
    Digest,
    /// AES and SM4 keys.
    Symmetric,
    /// Key pairs that sign.
    Signing,
    /// Key pairs that decrypt.
    Encryption,
    /// MAC keys.
    Mac,
}

/// What has to be made of the payload before the calls, with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// A ciphertext blob.
    Blob,
    /// A signature.
    Signature,
    /// A ciphertext to a key pair.
    Ciphertext,
}

/// What the calls of a run are about.
pub(crate) struct Subject {
    /// The key, for operations that use one.
    pub(crate) key: Option<KeyRef>,
    /// The key's spec.
    pub(crate) spec: KeySpec,
    /// How, where there is a choice.
    pub(crate) algorithm: Algorithm,
    /// As many bytes as `--size` says.
    pub(crate) payload: SecretBytes,
    /// The level of keys that are made.
    pub(crate) level: Protection,
    /// What the operation needs, made of the payload.
    pub(crate) made: Vec<u8>,
}

/// How the operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// There is no choice.
    Only,
    /// Signing and verifying.
    Signing(SigningAlgorithm),
    /// Encrypting to a key pair, and decrypting.
    Encryption(EncryptionAlgorithm),
    /// Hashing.
    Digest(DigestAlgorithm),
}

/// What shows that a reply is right.
#[derive(Debug)]
pub(crate) enum Proof {
    /// It was compared already.
    Compared,
    /// The blob opens to this plaintext.
    Opens { blob: Vec<u8>, plaintext: SecretBytes },
    /// The signature is right.
    Verifies(Vec<u8>),
    /// The ciphertext decrypts to the payload.
    Decrypts(Vec<u8>),
    /// The MAC is right.
    Authenticates(Vec<u8>),
    /// There is a key of this id.
    Exists(Uuid),
}

impl Kind {
    /// What its keys are for; none for operations without a key.
    pub(crate) fn usage(self) -> Option<KeyUsage> {
        match self {
            Self::Plain | Self::Digest => None,
            Self::Symmetric | Self::Encryption => Some(KeyUsage::EncryptDecrypt),
            Self::Signing => Some(KeyUsage::SignVerify),
            Self::Mac => Some(KeyUsage::GenerateVerifyMac),
        }
    }

    /// Whether it uses a key.
    pub(crate) fn keyed(self) -> bool {
        self.usage().is_some()
    }

    /// The specs of keys that it takes.
    pub(crate) fn specs(self) -> impl Iterator<Item = KeySpec> {
        let usable = move |spec: &KeySpec| self.usage().is_some_and(|usage| spec.usages().contains(&usage));
        // AES and SM4 keys have the usage of pairs that decrypt.
        let other =
            move |spec: &KeySpec| (self == Self::Symmetric) != spec.pair().is_some() || self == Self::Mac;
        KeySpec::ALL.iter().copied().filter(move |spec| usable(spec) && other(spec))
    }

    /// How it is done with keys of `spec`: as `text` says, or in the default way.
    ///
    /// # Errors
    /// Bad usage, where the text is no algorithm of the spec's.
    pub(crate) fn algorithm(self, spec: KeySpec, text: Option<&str>) -> Result<Algorithm, Failure> {
        let wrong = |error: UnknownSpelling| Failure::usage(format!("--algorithm: {error}"));
        let foreign = |name: &str| Failure::usage(format!("{spec} keys have no {name}; mend --algorithm"));
        match (self, text) {
            (Self::Digest, None) => Ok(Algorithm::Digest(DigestAlgorithm::Sha256)),
            (Self::Digest, Some(text)) => text.parse().map(Algorithm::Digest).map_err(wrong),
            (Self::Signing, None) => defaults::signing(spec).map(Algorithm::Signing),
            (Self::Signing, Some(text)) => {
                let algorithm: SigningAlgorithm = text.parse().map_err(wrong)?;
                let own = spec.signing_algorithms().contains(&algorithm);
                if own { Ok(Algorithm::Signing(algorithm)) } else { Err(foreign(algorithm.name())) }
            }
            (Self::Encryption, None) => defaults::encryption(spec).map(Algorithm::Encryption),
            (Self::Encryption, Some(text)) => {
                let algorithm: EncryptionAlgorithm = text.parse().map_err(wrong)?;
                let own = spec.encryption_algorithms().contains(&algorithm);
                if own { Ok(Algorithm::Encryption(algorithm)) } else { Err(foreign(algorithm.name())) }
            }
            (Self::Plain | Self::Symmetric | Self::Mac, None) => Ok(Algorithm::Only),
            (Self::Plain | Self::Symmetric | Self::Mac, Some(_)) => {
                Err(Failure::usage("there is no choice of algorithms here; leave out --algorithm"))
            }
        }
    }
}

impl Operation {
    /// What `clavigerd hsm bench` calls the cryptography behind it, if it has any: the level,
    /// the operation, and the spec unless it is AES_256 or there is none.
    pub(crate) fn in_process(&self, level: Option<Protection>, spec: Option<KeySpec>) -> Option<String> {
        let level = if level == Some(Protection::Software) { "software" } else { "token" };
        let spec_asked = spec;
        let spec = spec.filter(|&spec| spec != KeySpec::Aes256).map(|spec| spec.name().to_lowercase());
        let parts = [Some(level.to_owned()), Some(self.name.replace('-', "_")), spec];
        // SM4 and SM2 are in hardly any token.
        let sm = matches!(spec_asked, Some(KeySpec::Sm2 | KeySpec::Sm4 | KeySpec::HmacSm3));
        let measured = match self.kind {
            Kind::Symmetric => !sm || (level == "software" && self.name == "encrypt"),
            Kind::Signing | Kind::Mac => !sm || level == "software",
            Kind::Plain | Kind::Digest | Kind::Encryption => true,
        };
        (self.in_process && measured).then(|| parts.into_iter().flatten().collect::<Vec<_>>().join("_"))
    }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "ping",
        kind: Kind::Plain,
        needs: Needs::Nothing,
        lasting: false,
        max_size: MAX_PING_LEN,
        in_process: false,
        request: |subject| PingRequest { payload: subject.payload.expose().to_vec().into() }.into(),
        check: |subject, reply| match reply {
            Reply::Ping(reply) => (reply.payload.0 == subject.payload.expose()).then_some(Proof::Compared),
            _ => None,
        },
    },
    Operation {
        name: "random",
        kind: Kind::Plain,
        needs: Needs::Nothing,
        lasting: false,
        max_size: MAX_RANDOM_LEN as usize,
        in_process: true,
        request: |subject| GetRandomRequest { length: short(subject.payload.len()) }.into(),
        check: |subject, reply| match reply {
            Reply::GetRandom(reply) => {
                (reply.random.len() == subject.payload.len()).then_some(Proof::Compared)
            }
            _ => None,
        },
    },
    Operation {
        name: "encrypt",
        kind: Kind::Symmetric,
        needs: Needs::Nothing,
        lasting: false,
        max_size: DEFAULT_MAX_PLAINTEXT,
        in_process: true,
        request: |subject| {
            let (key, plaintext) = (key(subject), subject.payload.clone());
            EncryptRequest { key, plaintext, context: EncryptionContext::default() }.into()
        },
        check: |subject, reply| match reply {
            Reply::Encrypt(reply) => {
                Some(Proof::Opens { blob: reply.ciphertext_blob.0, plaintext: subject.payload.clone() })
            }
            _ => None,
        },
    },
    Operation {
        name: "decrypt",
        kind: Kind::Symmetric,
        needs: Needs::Blob,
        lasting: false,
        max_size: DEFAULT_MAX_PLAINTEXT,
        in_process: true,
        request: |subject| {
            let ciphertext_blob = subject.made.clone().into();
            DecryptRequest { key: None, ciphertext_blob, context: EncryptionContext::default() }.into()
        },
        check: |subject, reply| match reply {
            Reply::Decrypt(reply) => (reply.plaintext == subject.payload).then_some(Proof::Compared),
            _ => None,
        },
    },
    Operation {
        name: "data-key",
        kind: Kind::Symmetric,
        needs: Needs::Nothing,
        lasting: false,
        max_size: MAX_DATA_KEY_LEN as usize,
        in_process: true,
        request: |subject| {
            let (key, size) = (key(subject), DataKeySize::Bytes(short(subject.payload.len())));
            GenerateDataKeyRequest { key, size, context: EncryptionContext::default() }.into()
        },
        check: |subject, reply| match reply {
            Reply::GenerateDataKey(reply) if reply.plaintext.len() == subject.payload.len() => {
                Some(Proof::Opens { blob: reply.ciphertext_blob.0, plaintext: reply.plaintext })
            }
            _ => None,
        },
    },
    Operation {
        name: "sign",
        kind: Kind::Signing,
        needs: Needs::Nothing,
        lasting: false,
        max_size: MAX_MESSAGE,
        in_process: true,
        request: |subject| signed(subject).into(),
        check: |_, reply| match reply {
            Reply::AsymmetricSign(reply) => Some(Proof::Verifies(reply.signature.0)),
            _ => None,
        },
    },
    Operation {
        name: "verify",
        kind: Kind::Signing,
        needs: Needs::Signature,
        lasting: false,
        max_size: MAX_MESSAGE,
        in_process: false,
        request: |subject| verification(signed(subject), subject.made.clone()).into(),
        check: |_, reply| match reply {
            Reply::AsymmetricVerify(reply) => reply.valid.then_some(Proof::Compared),
            _ => None,
        },
    },
    Operation {
        name: "asymmetric-encrypt",
        kind: Kind::Encryption,
        needs: Needs::Nothing,
        lasting: false,
        max_size: DEFAULT_MAX_PLAINTEXT,
        in_process: false,
        request: |subject| {
            let (key, plaintext) = (key(subject), subject.payload.clone());
            let algorithm = encryption(subject);
            AsymmetricEncryptRequest { key, key_version_id: None, algorithm, plaintext }.into()
        },
        check: |_, reply| match reply {
            Reply::AsymmetricEncrypt(reply) => Some(Proof::Decrypts(reply.ciphertext.0)),
            _ => None,
        },
    },
    Operation {
        name: "asymmetric-decrypt",
        kind: Kind::Encryption,
        needs: Needs::Ciphertext,
        lasting: false,
        max_size: DEFAULT_MAX_PLAINTEXT,
        in_process: false,
        request: |subject| {
            let (key, ciphertext) = (key(subject), subject.made.clone().into());
            let algorithm = encryption(subject);
            AsymmetricDecryptRequest { key, key_version_id: None, algorithm, ciphertext }.into()
        },
        check: |subject, reply| match reply {
            Reply::AsymmetricDecrypt(reply) => {
                (reply.plaintext == subject.payload).then_some(Proof::Compared)
            }
            _ => None,
        },
    },
    Operation {
        name: "mac",
        kind: Kind::Mac,
        needs: Needs::Nothing,
        lasting: false,
        max_size: MAX_MESSAGE,
        in_process: true,
        request: |subject| {
            GenerateMacRequest { key: key(subject), algorithm: None, message: subject.payload.clone() }.into()
        },
        check: |_, reply| match reply {
            Reply::GenerateMac(reply) => Some(Proof::Authenticates(reply.mac.0)),
            _ => None,
        },
    },
    Operation {
        name: "digest",
        kind: Kind::Digest,
        needs: Needs::Nothing,
        lasting: false,
        max_size: MAX_MESSAGE,
        in_process: false,
        request: |subject| {
            MessageDigestRequest { algorithm: digest(subject), message: subject.payload.clone() }.into()
        },
        check: |subject, reply| match reply {
            Reply::MessageDigest(reply) => {
                (reply.digest.0.len() == digest(subject).len()).then_some(Proof::Compared)
            }
            _ => None,
        },
    },
    Operation {
        name: "create-key",
        kind: Kind::Plain,
        needs: Needs::Nothing,
        lasting: true,
        max_size: usize::MAX,
        in_process: false,
        request: |subject| new_key(KeySpec::Aes256, subject.level).into(),
        check: |_, reply| match reply {
            Reply::CreateKey(reply) => reply.key_version_id.map(|_| Proof::Exists(reply.key_id)),
            _ => None,
        },
    },
];

/// The key of a row that has one.
pub(crate) fn key(subject: &Subject) -> KeyRef {
    subject.key.clone().unwrap_or_else(|| KeyRef::Alias(String::new()))
}

/// A size that `max_size` bounds.
fn short(size: usize) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}

/// The request to sign the payload.
pub(crate) fn signed(subject: &Subject) -> AsymmetricSignRequest {
    let algorithm = match subject.algorithm {
        Algorithm::Signing(algorithm) => algorithm,
        _ => SigningAlgorithm::RsaPssSha256,
    };
    signing(key(subject), algorithm, subject.payload.clone())
}

/// How the payload is encrypted to a key pair.
pub(crate) fn encryption(subject: &Subject) -> EncryptionAlgorithm {
    match subject.algorithm {
        Algorithm::Encryption(algorithm) => algorithm,
        _ => EncryptionAlgorithm::RsaesOaepSha256,
    }
}

fn digest(subject: &Subject) -> DigestAlgorithm {
    match subject.algorithm {
        Algorithm::Digest(algorithm) => algorithm,
        _ => DigestAlgorithm::Sha256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(name: &str) -> &'static Operation {
        OPERATIONS.iter().find(|operation| operation.name == name).unwrap()
    }

    #[test]
    fn operations_take_the_keys_that_they_can_use() {
        for (name, first, count) in [
            ("encrypt", Some(KeySpec::Aes256), 2),
            ("sign", Some(KeySpec::Rsa2048), 6),
            ("asymmetric-decrypt", Some(KeySpec::Rsa2048), 4),
            ("mac", Some(KeySpec::Hmac256), 4),
            ("digest", None, 0),
        ] {
            let specs: Vec<_> = operation(name).kind.specs().collect();
            assert_eq!((specs.first().copied(), specs.len()), (first, count), "{name}: {specs:?}");
        }
        for operation in OPERATIONS {
            for spec in operation.kind.specs() {
                assert!(operation.kind.algorithm(spec, None).is_ok(), "{} {spec}", operation.name);
            }
        }
    }

    #[test]
    fn algorithms_are_those_of_the_spec() {
        let sign = operation("sign").kind;
        let pss = Algorithm::Signing(SigningAlgorithm::RsaPssSha256);
        assert_eq!(sign.algorithm(KeySpec::Rsa4096, None).unwrap(), pss);
        assert!(sign.algorithm(KeySpec::Sm2, Some("SM2DSA")).is_ok());
        assert!(sign.algorithm(KeySpec::Sm2, Some("ECDSA_SHA_256")).is_err());
        assert!(sign.algorithm(KeySpec::Sm2, Some("SHA_256")).is_err());
        assert!(
            operation("asymmetric-encrypt").kind.algorithm(KeySpec::Sm2, Some("RSAES_OAEP_SHA_1")).is_err()
        );
        assert!(operation("digest").kind.algorithm(KeySpec::Aes256, Some("SM3")).is_ok());
        assert!(operation("mac").kind.algorithm(KeySpec::Hmac256, Some("HMAC_SHA_256")).is_err());
    }

    #[test]
    fn the_in_process_bench_has_names_for_what_is_measured() {
        let software = Some(Protection::Software);
        for (name, level, spec, want) in [
            ("encrypt", software, Some(KeySpec::Aes256), Some("software_encrypt")),
            ("data-key", Some(Protection::Hsm), Some(KeySpec::Aes256), Some("token_data_key")),
            ("random", None, None, Some("token_random")),
            ("sign", software, Some(KeySpec::Sm2), Some("software_sign_sm2")),
            ("sign", Some(Protection::Hsm), Some(KeySpec::Rsa2048), Some("token_sign_rsa_2048")),
            ("sign", Some(Protection::Hsm), Some(KeySpec::Sm2), None),
            ("encrypt", software, Some(KeySpec::Sm4), Some("software_encrypt_sm4")),
            ("decrypt", software, Some(KeySpec::Sm4), None),
            ("mac", software, Some(KeySpec::HmacSm3), Some("software_mac_hmac_sm3")),
            ("asymmetric-decrypt", Some(Protection::Hsm), Some(KeySpec::Rsa2048), None),
            ("ping", None, None, None),
        ] {
            assert_eq!(operation(name).in_process(level, spec).as_deref(), want, "{name}");
        }
    }
}
