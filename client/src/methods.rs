//! A typed method for each operation, async and blocking from one list.

use claviger_protocol::body::{
    BeginBackupReply, BeginBackupRequest, CreateKeyReply, CreateKeyRequest, DecryptReply, DecryptRequest,
    DescribeBlobReply, DescribeBlobRequest, DescribeKeyReply, DescribeKeyRequest, DisableKeyRequest,
    EnableKeyRequest, EncryptReply, EncryptRequest, EndBackupReply, EndBackupRequest, GenerateDataKeyReply,
    GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, GetRandomReply, GetRandomRequest,
    KeyStatesReply, ListKeysReply, ListKeysRequest, PingReply, PingRequest, ReEncryptReply, ReEncryptRequest,
    ReadBackupReply, ReadBackupRequest, StatusReply, StatusRequest, VerifyBackupReply, VerifyBackupRequest,
};
use claviger_protocol::{
    DataKeySize, Description, EncryptionContext, KeyOrigin, KeyRef, KeySpec, ProjectName, Protection,
    SecretBytes,
};

use uuid::Uuid;

use crate::{Client, Error, blocking, edge};

/// A request for a key with a fresh client token and everything else at its
/// default: KMS origin, the spec's first usage, project `default`, no alias.
/// Sending the same request again, also after a restart, makes no second key.
#[must_use]
pub fn new_key(spec: KeySpec, protection: Protection) -> CreateKeyRequest {
    CreateKeyRequest {
        client_token: edge::client_token(),
        spec,
        usage: None,
        protection,
        origin: KeyOrigin::Kms,
        project: ProjectName::default(),
        alias: None,
        description: Description::default(),
        tags: claviger_protocol::names::Tags::default(),
        rotation_days: None,
        sm2_user_id: None,
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $reply:ty { $request:expr })+) => {
        impl Client {
            $($(#[$doc])*
            pub async fn $name(&self, $($arg: $type),*) -> Result<$reply, Error> {
                self.call($request).await
            })+
        }

        impl blocking::Client {
            $($(#[$doc])*
            pub fn $name(&self, $($arg: $type),*) -> Result<$reply, Error> {
                self.call($request)
            })+
        }
    };
}

methods! {
    /// Is the daemon there? Up to 4,096 bytes come back as they are.
    ping(payload: Vec<u8>) -> PingReply { PingRequest { payload: payload.into() } }

    /// The overview: state, pool, keys, warnings. Admin endpoint only.
    status() -> StatusReply { StatusRequest {} }

    /// Makes a key; see [`new_key`].
    create_key(request: CreateKeyRequest) -> CreateKeyReply { request }

    /// Everything about a key but its material.
    describe_key(key: KeyRef) -> DescribeKeyReply { DescribeKeyRequest { key } }

    /// One page of keys; a reply's `next_page` goes into the next request's `page`.
    list_keys(request: ListKeysRequest) -> ListKeysReply { request }

    /// Switches 1 to 100 keys on; each has its own result.
    enable_keys(keys: Vec<KeyRef>) -> KeyStatesReply { EnableKeyRequest { keys } }

    /// Switches 1 to 100 keys off; each has its own result.
    disable_keys(keys: Vec<KeyRef>) -> KeyStatesReply { DisableKeyRequest { keys } }

    /// Encrypts up to the limit that the session announces (6,144 bytes by default).
    encrypt(key: KeyRef, plaintext: SecretBytes, context: EncryptionContext) -> EncryptReply {
        EncryptRequest { key, plaintext, context }
    }

    /// Opens a blob; `key` is checked if given.
    decrypt(key: Option<KeyRef>, ciphertext_blob: Vec<u8>, context: EncryptionContext) -> DecryptReply {
        DecryptRequest { key, ciphertext_blob: ciphertext_blob.into(), context }
    }

    /// Decrypts and encrypts anew; the plaintext stays in the daemon.
    re_encrypt(request: ReEncryptRequest) -> ReEncryptReply { request }

    /// Says what a blob claims to be; nothing is decrypted or authenticated.
    describe_blob(ciphertext_blob: Vec<u8>) -> DescribeBlobReply {
        DescribeBlobRequest { ciphertext_blob: ciphertext_blob.into() }
    }

    /// Makes a data key, in the clear and wrapped.
    generate_data_key(key: KeyRef, size: DataKeySize, context: EncryptionContext) -> GenerateDataKeyReply {
        GenerateDataKeyRequest { key, size, context }
    }

    /// Makes a data key, wrapped only.
    generate_data_key_without_plaintext(key: KeyRef, size: DataKeySize, context: EncryptionContext)
        -> EncryptReply
    {
        GenerateDataKeyWithoutPlaintextRequest { key, size, context }
    }

    /// 1 to 4,096 random bytes from the HSM.
    random(length: u16) -> GetRandomReply { GetRandomRequest { length } }

    /// Begins a backup; its header is the file's first bytes. Admin endpoint only.
    begin_backup() -> BeginBackupReply { BeginBackupRequest {} }

    /// The next chunk of a backup, from index 0.
    read_backup(backup_id: Uuid, index: u32) -> ReadBackupReply { ReadBackupRequest { backup_id, index } }

    /// Says what became of a backup's file.
    end_backup(backup_id: Uuid, complete: bool) -> EndBackupReply { EndBackupRequest { backup_id, complete } }

    /// Checks one chunk of a backup of this domain.
    verify_backup(request: VerifyBackupRequest) -> VerifyBackupReply { request }
}
