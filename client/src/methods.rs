//! A typed method for each operation, async and blocking from one list.

use claviger_protocol::body::{
    AliasReply, AsymmetricDecryptReply, AsymmetricDecryptRequest, AsymmetricEncryptReply,
    AsymmetricEncryptRequest, AsymmetricSignReply, AsymmetricSignRequest, AsymmetricVerifyReply,
    AsymmetricVerifyRequest, BeginBackupReply, BeginBackupRequest, CancelKeyDeletionRequest,
    CreateAliasRequest, CreateDefaultKeyRequest, CreateKeyReply, CreateKeyRequest, CreateKeyVersionRequest,
    CreateProjectRequest, DecryptReply, DecryptRequest, DeleteAliasRequest, DeleteKeyMaterialReply,
    DeleteKeyMaterialRequest, DeleteProjectRequest, DescribeBlobReply, DescribeBlobRequest, DescribeKeyReply,
    DescribeKeyRequest, DescribeKeyVersionReply, DescribeKeyVersionRequest, DetectAssociationReply,
    DetectAssociationRequest, DisableKeyRequest, EnableKeyRequest, EncryptReply, EncryptRequest,
    EndBackupReply, EndBackupRequest, ExportDataKeyReply, ExportDataKeyRequest,
    GenerateAndExportDataKeyReply, GenerateAndExportDataKeyRequest, GenerateDataKeyPairReply,
    GenerateDataKeyPairRequest, GenerateDataKeyPairWithoutPlaintextReply,
    GenerateDataKeyPairWithoutPlaintextRequest, GenerateDataKeyReply, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, GenerateMacReply, GenerateMacRequest,
    GetParametersForImportReply, GetParametersForImportRequest, GetPublicKeyReply, GetPublicKeyRequest,
    GetRandomReply, GetRandomRequest, ImportKeyMaterialReply, ImportKeyMaterialRequest, KeyChangeReply,
    KeyDeletionsReply, KeyStatesReply, ListAliasByUuidRequest, ListAliasKeysReply, ListAliasKeysRequest,
    ListAliasReply, ListAliasRequest, ListBackupsReply, ListBackupsRequest, ListKeyVersionsReply,
    ListKeyVersionsRequest, ListKeysReply, ListKeysRequest, ListProjectsReply, ListProjectsRequest,
    ListSymmetricKeysRequest, ListTagsReply, ListTagsRequest, ListTombstonesReply, ListTombstonesRequest,
    MessageDigestReply, MessageDigestRequest, MoveResourceRequest, NewKeyVersionReply, PingReply,
    PingRequest, ProjectReply, ProtectKeyRequest, ReEncryptReply, ReEncryptRequest, ReadBackupReply,
    ReadBackupRequest, RotateKeyRequest, ScheduleKeyDeletionRequest, StatusReply, StatusRequest,
    TagResourceRequest, UnprotectKeyRequest, UntagResourceRequest, UpdateAliasRequest,
    UpdateKeyDescriptionRequest, UpdateRotationPolicyReply, UpdateRotationPolicyRequest, VerifyBackupReply,
    VerifyBackupRequest, VerifyMacReply, VerifyMacRequest,
};
use claviger_protocol::names::Tags;
use claviger_protocol::{
    Alias, DataKeySize, Description, DigestAlgorithm, EncryptionAlgorithm, EncryptionContext,
    ImportAlgorithm, KeyOrigin, KeyPairSpec, KeyRef, KeySpec, MessageType, ProjectName, Protection,
    SecretBytes, ServiceName, SigningAlgorithm, TagKey, WrappingKeySpec,
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
        tags: Tags::default(),
        rotation_days: None,
        sm2_user_id: None,
    }
}

/// A request to sign a message with a key that has one version, and its own SM2 user id
/// where it is an SM2 key.
///
/// ```
/// use claviger_client::signing;
/// use claviger_protocol::{MessageType, SigningAlgorithm, body::AsymmetricSignRequest};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key: claviger_protocol::KeyRef = "alias/release".parse()?;
/// let whole = signing(key.clone(), SigningAlgorithm::EcdsaSha256, b"the message".to_vec());
/// // Or what is signed is a digest that was made elsewhere:
/// let digest = AsymmetricSignRequest {
///     message_type: MessageType::Digest,
///     ..signing(key, SigningAlgorithm::EcdsaSha256, vec![0x2a; 32])
/// };
/// // client.sign(whole).await?.signature
/// # let _ = (whole, digest);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn signing(
    key: KeyRef,
    algorithm: SigningAlgorithm,
    message: impl Into<SecretBytes>,
) -> AsymmetricSignRequest {
    AsymmetricSignRequest {
        key,
        key_version_id: None,
        algorithm,
        message_type: MessageType::Message,
        message: message.into(),
        user_id: None,
    }
}

/// The request to verify what such a request was answered with.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use claviger_client::{signing, verification};
/// use claviger_protocol::SigningAlgorithm::Sm2Dsa;
///
/// let signed = signing("alias/release".parse()?, Sm2Dsa, b"the message".to_vec());
/// // let signature = client.sign(signed.clone()).await?.signature.0;
/// # let signature = vec![];
/// let request = verification(signed, signature);
/// // A wrong signature is no error: client.verify(request).await?.valid
/// # let _ = request;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn verification(signed: AsymmetricSignRequest, signature: Vec<u8>) -> AsymmetricVerifyRequest {
    AsymmetricVerifyRequest {
        key: signed.key,
        key_version_id: signed.key_version_id,
        algorithm: signed.algorithm,
        message_type: signed.message_type,
        message: signed.message,
        signature: signature.into(),
        user_id: signed.user_id,
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

    /// Plans the destruction of 1 to 100 keys; each has its own result. Without `days` after
    /// as many as the daemon is configured with.
    schedule_key_deletion(keys: Vec<KeyRef>, days: Option<u16>, force: bool) -> KeyDeletionsReply {
        ScheduleKeyDeletionRequest { keys, days, force }
    }

    /// Takes planned destructions back; the keys are Disabled then, or Enabled at once.
    cancel_key_deletion(keys: Vec<KeyRef>, enable: bool) -> KeyStatesReply {
        CancelKeyDeletionRequest { keys, enable }
    }

    /// Refuses the deletion of 1 to 100 keys from now on.
    protect_keys(keys: Vec<KeyRef>) -> KeyStatesReply { ProtectKeyRequest { keys } }

    /// Allows the deletion of 1 to 100 keys from now on.
    unprotect_keys(keys: Vec<KeyRef>) -> KeyStatesReply { UnprotectKeyRequest { keys } }

    /// Gives a key another description.
    set_key_description(key: KeyRef, description: Description) -> KeyChangeReply {
        UpdateKeyDescriptionRequest { key, description }
    }

    /// Sets tags on 1 to 100 keys; one whose key is there already gets the new value.
    tag_keys(keys: Vec<KeyRef>, tags: Tags) -> KeyStatesReply { TagResourceRequest { keys, tags } }

    /// Removes tags from 1 to 100 keys.
    untag_keys(keys: Vec<KeyRef>, tag_keys: Vec<TagKey>) -> KeyStatesReply {
        UntagResourceRequest { keys, tag_keys }
    }

    /// The tags of a key.
    list_tags(key: KeyRef) -> ListTagsReply { ListTagsRequest { key } }

    /// Makes a new primary version; see [`crate::client_token`] for the token.
    rotate_key(client_token: [u8; 16], key: KeyRef) -> NewKeyVersionReply {
        RotateKeyRequest { client_token, key }
    }

    /// Has a key rotated every so many days (7 to 730), or no more.
    set_rotation_policy(key: KeyRef, rotation_days: Option<u16>) -> UpdateRotationPolicyReply {
        UpdateRotationPolicyRequest { key, rotation_days }
    }

    /// Makes another version of a key pair; see [`crate::client_token`] for the token.
    create_key_version(client_token: [u8; 16], key: KeyRef) -> NewKeyVersionReply {
        CreateKeyVersionRequest { client_token, key }
    }

    /// One page of a key's versions, newest first.
    list_key_versions(request: ListKeyVersionsRequest) -> ListKeyVersionsReply { request }

    /// Everything about a version but its material.
    describe_key_version(key: KeyRef, key_version_id: Uuid) -> DescribeKeyVersionReply {
        DescribeKeyVersionRequest { key, key_version_id }
    }

    /// A public key to encrypt an EXTERNAL key's material to, and the token that goes with it.
    import_parameters(key: KeyRef, wrapping_spec: WrappingKeySpec, algorithm: ImportAlgorithm)
        -> GetParametersForImportReply
    {
        GetParametersForImportRequest { key, wrapping_spec, algorithm }
    }

    /// Brings material into an EXTERNAL key.
    import_key_material(request: ImportKeyMaterialRequest) -> ImportKeyMaterialReply { request }

    /// Destroys imported material; the key awaits it anew.
    delete_key_material(key: KeyRef) -> DeleteKeyMaterialReply { DeleteKeyMaterialRequest { key } }

    /// Which access points used a key, and when last.
    associations(key: KeyRef) -> DetectAssociationReply { DetectAssociationRequest { key } }

    /// Makes a service's default key, or finds it. Admin endpoint only.
    create_default_key(service: ServiceName) -> CreateKeyReply { CreateDefaultKeyRequest { service } }

    /// One page of the keys that have an alias, in the order of the aliases.
    list_alias_keys(request: ListAliasKeysRequest) -> ListAliasKeysReply { request }

    /// One page of AES_256 and SM4 keys.
    list_symmetric_keys(request: ListSymmetricKeysRequest) -> ListKeysReply { request }

    /// Gives a key another name.
    create_alias(alias: Alias, key: KeyRef) -> AliasReply { CreateAliasRequest { alias, key } }

    /// Points an alias at another key.
    update_alias(alias: Alias, key: KeyRef) -> AliasReply { UpdateAliasRequest { alias, key } }

    /// Removes an alias.
    delete_alias(alias: Alias) -> AliasReply { DeleteAliasRequest { alias } }

    /// One page of aliases; 0 is the usual number of them.
    list_aliases(limit: u16, page: Vec<u8>) -> ListAliasReply { ListAliasRequest { limit, page: page.into() } }

    /// The aliases of one key.
    list_aliases_of(key: KeyRef) -> ListAliasReply { ListAliasByUuidRequest { key } }

    /// Makes a project. Admin endpoint only.
    create_project(project: ProjectName, description: Description) -> ProjectReply {
        CreateProjectRequest { project, description }
    }

    /// One page of projects; 0 is the usual number of them.
    list_projects(limit: u16, page: Vec<u8>) -> ListProjectsReply {
        ListProjectsRequest { limit, page: page.into() }
    }

    /// Removes a project that holds nothing. Admin endpoint only.
    delete_project(project: ProjectName) -> ProjectReply { DeleteProjectRequest { project } }

    /// Moves 1 to 100 keys into a project.
    move_keys(keys: Vec<KeyRef>, project: ProjectName) -> KeyStatesReply {
        MoveResourceRequest { keys, project }
    }

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

    /// Makes a key pair; its private key comes in the clear and wrapped under `key`.
    generate_data_key_pair(key: KeyRef, pair_spec: KeyPairSpec, context: EncryptionContext)
        -> GenerateDataKeyPairReply
    {
        GenerateDataKeyPairRequest { key, pair_spec, context }
    }

    /// Makes a key pair; its private key comes wrapped only.
    generate_data_key_pair_without_plaintext(key: KeyRef, pair_spec: KeyPairSpec, context: EncryptionContext)
        -> GenerateDataKeyPairWithoutPlaintextReply
    {
        GenerateDataKeyPairWithoutPlaintextRequest { key, pair_spec, context }
    }

    /// Gives a wrapped data key to the owner of a public key.
    export_data_key(request: ExportDataKeyRequest) -> ExportDataKeyReply { request }

    /// Makes a data key, wrapped, and gives it to the owner of a public key.
    generate_and_export_data_key(request: GenerateAndExportDataKeyRequest) -> GenerateAndExportDataKeyReply {
        request
    }

    /// Signs a message or its digest; see [`signing`].
    sign(request: AsymmetricSignRequest) -> AsymmetricSignReply { request }

    /// Checks a signature; a wrong one is `valid: false`, no error. See [`verification`].
    verify(request: AsymmetricVerifyRequest) -> AsymmetricVerifyReply { request }

    /// Encrypts a short message to a key pair; `version` may be left out while the key has one.
    asymmetric_encrypt(
        key: KeyRef, version: Option<Uuid>, algorithm: EncryptionAlgorithm, plaintext: SecretBytes
    ) -> AsymmetricEncryptReply {
        AsymmetricEncryptRequest { key, key_version_id: version, algorithm, plaintext }
    }

    /// Decrypts what was encrypted to a key pair, here or with its public key elsewhere.
    asymmetric_decrypt(
        key: KeyRef, version: Option<Uuid>, algorithm: EncryptionAlgorithm, ciphertext: Vec<u8>
    ) -> AsymmetricDecryptReply {
        AsymmetricDecryptRequest { key, key_version_id: version, algorithm, ciphertext: ciphertext.into() }
    }

    /// A pair's public key, SubjectPublicKeyInfo in DER.
    public_key(key: KeyRef, version: Option<Uuid>) -> GetPublicKeyReply {
        GetPublicKeyRequest { key, key_version_id: version }
    }

    /// Makes a MAC with the key's primary version and its spec's algorithm.
    mac(key: KeyRef, message: SecretBytes) -> GenerateMacReply {
        GenerateMacRequest { key, algorithm: None, message }
    }

    /// Checks a MAC; a wrong one is `valid: false`, no error. Without a version all are tried.
    verify_mac(key: KeyRef, version: Option<Uuid>, message: SecretBytes, mac: Vec<u8>) -> VerifyMacReply {
        VerifyMacRequest { key, key_version_id: version, algorithm: None, message, mac: mac.into() }
    }

    /// Hashes a message: SM3, or SHA-2.
    digest(algorithm: DigestAlgorithm, message: SecretBytes) -> MessageDigestReply {
        MessageDigestRequest { algorithm, message }
    }

    /// Begins a backup; its header is the file's first bytes. Admin endpoint only.
    begin_backup() -> BeginBackupReply { BeginBackupRequest {} }

    /// The next chunk of a backup, from index 0.
    read_backup(backup_id: Uuid, index: u32) -> ReadBackupReply { ReadBackupRequest { backup_id, index } }

    /// Says what became of a backup's file.
    end_backup(backup_id: Uuid, complete: bool) -> EndBackupReply { EndBackupRequest { backup_id, complete } }

    /// Checks one chunk of a backup of this domain.
    verify_backup(request: VerifyBackupRequest) -> VerifyBackupReply { request }

    /// Backups that were made, latest first. Admin endpoint only.
    list_backups(request: ListBackupsRequest) -> ListBackupsReply { request }

    /// Deleted keys, for restores. Admin endpoint only.
    list_tombstones(request: ListTombstonesRequest) -> ListTombstonesReply { request }
}
