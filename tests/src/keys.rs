//! The calls that most tests make, each a line.

use std::io::Read;

use claviger_protocol::body::{
    CreateKeyReply, CreateKeyRequest, DecryptRequest, DescribeKeyReply, DescribeKeyRequest,
    DisableKeyRequest, EnableKeyRequest, EncryptRequest, KeySummary, ListKeysRequest, StatusReply,
    StatusRequest,
};
use claviger_protocol::names::Tags;
use claviger_protocol::{
    Code, Description, EncryptionContext, KeyOrigin, KeyRef, KeySpec, ProjectName, Protection, SecretBytes,
};
use uuid::Uuid;

use crate::wire::Wire;

/// Both protection levels.
pub const LEVELS: [Protection; 2] = [Protection::Hsm, Protection::Software];

/// The plainest new AES_256 key.
#[must_use]
pub fn new_key(protection: Protection) -> CreateKeyRequest {
    CreateKeyRequest {
        client_token: client_token(),
        spec: KeySpec::Aes256,
        usage: None,
        protection,
        origin: KeyOrigin::Kms,
        project: ProjectName::default(),
        alias: None,
        description: Description::default(),
        tags: Tags::default(),
        rotation_days: None,
        sm2_user_id: None,
    }
}

/// 16 random bytes.
#[must_use]
pub fn client_token() -> [u8; 16] {
    let mut token = [0; 16];
    let random = std::fs::File::open("/dev/urandom");
    random.and_then(|mut random| random.read_exact(&mut token)).expect("the system has random bytes");
    token
}

/// An Encrypt of `plaintext` without context.
#[must_use]
pub fn encryption(key: impl Into<KeyRef>, plaintext: &[u8]) -> EncryptRequest {
    EncryptRequest {
        key: key.into(),
        plaintext: SecretBytes::new(plaintext.to_vec()),
        context: EncryptionContext::default(),
    }
}

/// A Decrypt of `blob` without context or expected key.
#[must_use]
pub fn decryption(blob: &[u8]) -> DecryptRequest {
    DecryptRequest { key: None, ciphertext_blob: blob.to_vec().into(), context: EncryptionContext::default() }
}

/// An encryption context.
#[must_use]
pub fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_pairs(pairs.iter().copied()).expect("a context that fits")
}

impl Wire {
    /// Makes a plain key.
    pub fn create(&mut self, protection: Protection) -> Uuid {
        self.create_reply(protection).key_id
    }

    /// Makes a plain key.
    pub fn create_reply(&mut self, protection: Protection) -> CreateKeyReply {
        self.call(new_key(protection)).expect("a key is made")
    }

    /// Encrypts without context; gives the blob.
    pub fn encrypt(&mut self, key: Uuid, plaintext: &[u8]) -> Vec<u8> {
        self.call(encryption(key, plaintext)).expect("the key encrypts").ciphertext_blob.0
    }

    /// Decrypts without context.
    pub fn decrypt(&mut self, blob: &[u8]) -> Result<Vec<u8>, Code> {
        let opened = self.call(decryption(blob)).map_err(|refusal| refusal.code)?;
        Ok(opened.plaintext.expose().to_vec())
    }

    /// Describes a key that is there.
    pub fn describe(&mut self, key: impl Into<KeyRef>) -> DescribeKeyReply {
        self.call(DescribeKeyRequest { key: key.into() }).expect("the key is there")
    }

    /// Switches a key on or off, and it must change.
    pub fn switch(&mut self, key: Uuid, on: bool) {
        let keys = vec![KeyRef::Id(key)];
        let reply =
            if on { self.call(EnableKeyRequest { keys }) } else { self.call(DisableKeyRequest { keys }) };
        let results = reply.expect("the call as a whole succeeds").results;
        assert_eq!((results[0].status, results[0].changed), (0, true), "{}", results[0].message);
    }

    /// Every key there is, page by page.
    pub fn list_all(&mut self) -> Vec<KeySummary> {
        let mut all = Vec::new();
        let mut page = Vec::new();
        loop {
            let reply = self.call(list_request(0, page)).expect("keys can be listed");
            all.extend(reply.keys);
            page = reply.next_page.0;
            if page.is_empty() {
                return all;
            }
        }
    }

    /// The daemon's status.
    pub fn status(&mut self) -> StatusReply {
        self.call(StatusRequest {}).expect("status is always answered")
    }
}

/// A list without filters.
#[must_use]
pub fn list_request(limit: u16, page: Vec<u8>) -> ListKeysRequest {
    ListKeysRequest { state: None, spec: None, project: None, tag: None, limit, page: page.into() }
}
