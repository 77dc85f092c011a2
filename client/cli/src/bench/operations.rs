//! The operations that can be measured: a row each says how to ask, and how to tell
//! that an answer is right. What must not live here: how calls are made and timed.

use claviger_client::new_key;
use claviger_protocol::body::{
    DecryptRequest, EncryptRequest, GenerateDataKeyRequest, GetRandomRequest, PingRequest,
};
use claviger_protocol::limits::{DEFAULT_MAX_PLAINTEXT, MAX_DATA_KEY_LEN, MAX_PING_LEN, MAX_RANDOM_LEN};
use claviger_protocol::{
    DataKeySize, EncryptionContext, KeyRef, KeySpec, Protection, Reply, Request, SecretBytes,
};
use uuid::Uuid;

/// One row.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Whether it uses a key.
    pub(crate) keyed: bool,
    /// Whether each call leaves something for good: then each is a request of its own,
    /// and the user must say how many.
    pub(crate) lasting: bool,
    /// The largest `--size`, in bytes.
    pub(crate) max_size: usize,
    /// What `clavigerd hsm bench` calls the cryptography behind it, if it has any.
    pub(crate) in_process: Option<InProcess>,
    /// The request that is sent all the time, or the next one of a lasting operation.
    pub(crate) request: fn(&Subject) -> Request,
    /// What is still to be shown about a reply; nothing where it can't be right.
    pub(crate) check: fn(&Subject, Reply) -> Option<Proof>,
}

/// Names in the output of `clavigerd hsm bench`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InProcess {
    /// For keys at HSM level.
    pub(crate) hsm: &'static str,
    /// For keys at SOFTWARE level.
    pub(crate) software: &'static str,
}

/// What the calls of a run are about.
pub(crate) struct Subject {
    /// The key, for operations that use one.
    pub(crate) key: Option<KeyRef>,
    /// As many bytes as `--size` says.
    pub(crate) payload: SecretBytes,
    /// The level of keys that are made.
    pub(crate) level: Protection,
    /// The payload, encrypted under the key.
    pub(crate) blob: Vec<u8>,
}

/// What shows that a reply is right.
#[derive(Debug)]
pub(crate) enum Proof {
    /// It was compared already.
    Compared,
    /// The blob opens to this plaintext.
    Opens { blob: Vec<u8>, plaintext: SecretBytes },
    /// There is a key of this id.
    Exists(Uuid),
}

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "ping",
        keyed: false,
        lasting: false,
        max_size: MAX_PING_LEN,
        in_process: None,
        request: |subject| PingRequest { payload: subject.payload.expose().to_vec().into() }.into(),
        check: |subject, reply| match reply {
            Reply::Ping(reply) => (reply.payload.0 == subject.payload.expose()).then_some(Proof::Compared),
            _ => None,
        },
    },
    Operation {
        name: "random",
        keyed: false,
        lasting: false,
        max_size: MAX_RANDOM_LEN as usize,
        in_process: Some(InProcess { hsm: "token_random", software: "token_random" }),
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
        keyed: true,
        lasting: false,
        max_size: DEFAULT_MAX_PLAINTEXT,
        in_process: Some(InProcess { hsm: "token_encrypt", software: "software_encrypt" }),
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
        keyed: true,
        lasting: false,
        max_size: DEFAULT_MAX_PLAINTEXT,
        in_process: Some(InProcess { hsm: "token_decrypt", software: "software_decrypt" }),
        request: |subject| {
            let ciphertext_blob = subject.blob.clone().into();
            DecryptRequest { key: None, ciphertext_blob, context: EncryptionContext::default() }.into()
        },
        check: |subject, reply| match reply {
            Reply::Decrypt(reply) => (reply.plaintext == subject.payload).then_some(Proof::Compared),
            _ => None,
        },
    },
    Operation {
        name: "data-key",
        keyed: true,
        lasting: false,
        max_size: MAX_DATA_KEY_LEN as usize,
        in_process: Some(InProcess { hsm: "token_data_key", software: "software_data_key" }),
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
        name: "create-key",
        keyed: false,
        lasting: true,
        max_size: usize::MAX,
        in_process: None,
        request: |subject| new_key(KeySpec::Aes256, subject.level).into(),
        check: |_, reply| match reply {
            Reply::CreateKey(reply) => reply.key_version_id.map(|_| Proof::Exists(reply.key_id)),
            _ => None,
        },
    },
];

/// The key of a row that has one.
fn key(subject: &Subject) -> KeyRef {
    subject.key.clone().unwrap_or_else(|| KeyRef::Alias(String::new()))
}

/// A size that `max_size` bounds.
fn short(size: usize) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}
