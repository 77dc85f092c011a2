//! The bodies of every operation, request and reply, in the order of the table.
//!
//! A published body never changes: a change is a new opcode. Fields that later
//! operations of the same family need stand here from the start. Shapes are in
//! `SPEC.md` section 7; times are milliseconds since the Unix epoch.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::blob::Suite;
use crate::context::EncryptionContext;
use crate::names::{Alias, Description, KeyRef, ProjectName, Tag, Tags};
use crate::secret::{Bytes, SecretBytes};
use crate::values::{
    AuthMethod, DataKeySize, KeyOrigin, KeySpec, KeyState, KeyUsage, MemberState, Protection, ServiceState,
};

/// Declares bodies: plain structs that encode field by field in this order.
macro_rules! bodies {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty,)* })+) => {
        $($(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* })+
    };
}

bodies! {
    /// Body of every reply whose status isn't 0.
    ErrorBody {
        /// What happened and what to do; for people, in English, never secret.
        message: String,
        /// For `Throttled` and `Busy`: when to come back, in milliseconds; else 0.
        retry_after_ms: u32,
    }

    /// First frame of a connection.
    HelloRequest {
        /// Lowest protocol version the client speaks.
        min_version: u8,
        /// Highest protocol version the client speaks.
        max_version: u8,
        /// The client program, for logs; at most 64 bytes.
        agent: String,
        /// How an access key is proved; `none` for endpoints that don't ask.
        auth_method: AuthMethod,
        /// The access key's id, or empty.
        access_key: String,
        /// The client's 32-byte nonce; zero without an access key.
        client_nonce: [u8; 32],
        /// Empty in the first hello, the proof in the second; at most 64 bytes.
        proof: Bytes,
        /// Whether every later frame is to carry an authenticator.
        frame_authenticator: bool,
    }

    /// What the connection may do.
    HelloReply {
        /// The version spoken from here on.
        version: u8,
        /// The daemon and its version, for logs.
        agent: String,
        /// The endpoint's (access point's) name.
        endpoint: String,
        /// The daemon's 32-byte nonce; zero without an access key.
        server_nonce: [u8; 32],
        /// The daemon's proof; empty without an access key.
        proof: Bytes,
        /// Whether the hello is complete (else a second one with the proof follows).
        complete: bool,
        /// Largest body from here on, in bytes.
        max_body: u32,
        /// Requests that may be unanswered at once.
        max_in_flight: u32,
        /// Items of a batch.
        max_batch: u16,
        /// Largest plaintext of Encrypt, in bytes.
        max_plaintext: u32,
    }

    /// Is anybody there?
    PingRequest {
        /// Up to 4,096 bytes that come back as they are.
        payload: Bytes,
    }

    /// Somebody is.
    PingReply {
        /// The daemon's version.
        version: String,
        /// What was sent.
        payload: Bytes,
    }

    /// How is the domain?
    StatusRequest {}

    /// The overview.
    StatusReply {
        /// The daemon's version.
        version: String,
        /// Whether it serves.
        state: ServiceState,
        /// Why it doesn't, or empty.
        reason: String,
        /// The domain's id; nil while locked.
        domain_id: Uuid,
        /// The root generation in use; 0 while locked.
        root_generation: u32,
        /// Milliseconds since the daemon started.
        uptime_ms: u64,
        /// Every configured member.
        pool: Vec<MemberStatus>,
        /// Keys by state and spec.
        keys: Vec<KeyCount>,
        /// Recovery recipients of the root generation in use.
        recovery_recipients: u16,
        /// What an operator should look at, a sentence each.
        warnings: Vec<String>,
    }

    /// One member of the HSM pool.
    MemberStatus {
        /// Its configured name.
        name: String,
        /// Its profile's name.
        profile: String,
        /// Whether it is in use.
        state: MemberState,
        /// Why it isn't, or empty.
        reason: String,
        /// How often it was initialised since the daemon started.
        epoch: u64,
        /// Whether it is hardware.
        hardware: bool,
        /// Since when it is in this state.
        since: i64,
        /// What it can hold.
        specs: Vec<SpecStatus>,
    }

    /// Whether a member can hold keys of a spec.
    SpecStatus {
        /// The spec.
        spec: KeySpec,
        /// Whether it can.
        available: bool,
        /// Why it can't, or empty.
        reason: String,
    }

    /// How many keys are in a state.
    KeyCount {
        /// The state.
        state: KeyState,
        /// The spec.
        spec: KeySpec,
        /// The number of keys.
        count: u64,
    }

    /// Several data-plane calls in one frame.
    BatchRequest {
        /// At most 1,024, none of them a batch.
        items: Vec<BatchItem>,
    }

    /// One call of a batch.
    BatchItem {
        /// Its operation.
        opcode: u16,
        /// Its body.
        body: SecretBytes,
    }

    /// The items' results, in their order.
    BatchReply {
        /// One for each item.
        results: Vec<BatchResult>,
    }

    /// One item's result.
    BatchResult {
        /// A code number.
        status: u16,
        /// The reply's body, or an [`ErrorBody`].
        body: SecretBytes,
    }

    /// Makes a key.
    CreateKeyRequest {
        /// The same token within 24 h returns the first result.
        client_token: [u8; 16],
        /// What kind of key.
        spec: KeySpec,
        /// What for; the spec's first usage if not given.
        usage: Option<KeyUsage>,
        /// Where its material lives.
        protection: Protection,
        /// Where its material comes from.
        origin: KeyOrigin,
        /// Its project.
        project: ProjectName,
        /// A first alias.
        alias: Option<Alias>,
        /// A description, maybe empty.
        description: Description,
        /// Its tags.
        tags: Tags,
        /// Rotate every so many days (7 to 730).
        rotation_days: Option<u16>,
        /// SM2 user id, for SM2 keys; the standard's default if not given.
        sm2_user_id: Option<Bytes>,
    }

    /// The new key.
    CreateKeyReply {
        /// Its id.
        key_id: Uuid,
        /// Its first version; none while material is awaited.
        key_version_id: Option<Uuid>,
    }

    /// Everything about a key but its material.
    DescribeKeyRequest {
        /// Which.
        key: KeyRef,
    }

    /// Everything about a key but its material.
    DescribeKeyReply {
        /// Its id.
        key_id: Uuid,
        /// What kind.
        spec: KeySpec,
        /// What for.
        usage: KeyUsage,
        /// Where in its life.
        state: KeyState,
        /// Where its material lives.
        protection: Protection,
        /// Where its material came from.
        origin: KeyOrigin,
        /// Its project.
        project: ProjectName,
        /// Its description.
        description: Description,
        /// Its aliases, sorted.
        aliases: Vec<String>,
        /// Its tags, sorted by key.
        tags: Tags,
        /// When it was made.
        created_at: i64,
        /// Who made it.
        created_by: String,
        /// The version that encrypts; none while material is awaited and for pairs.
        primary_version_id: Option<Uuid>,
        /// How many versions it has.
        version_count: u32,
        /// Its rotation policy.
        rotation: Option<Rotation>,
        /// When it will be, or was, destroyed.
        deletion_date: Option<i64>,
        /// Whether deletion is refused.
        deletion_protection: bool,
        /// When imported material expires.
        material_expires_at: Option<i64>,
        /// SM2 user id, for SM2 keys.
        sm2_user_id: Option<Bytes>,
        /// What protects the material.
        assurance: Assurance,
    }

    /// A rotation policy and its dates.
    Rotation {
        /// The period.
        days: u16,
        /// When it last happened.
        last: Option<i64>,
        /// When it is due.
        next: Option<i64>,
    }

    /// Whether hardware protects a key, and which members hold it.
    Assurance {
        /// True only if every member that holds it is hardware.
        hardware: bool,
        /// Names of the members that can open it (HSM level), or that seal it (SOFTWARE level).
        members: Vec<String>,
    }

    /// One page of keys, in the order of their ids.
    ListKeysRequest {
        /// Only keys in this state.
        state: Option<KeyState>,
        /// Only keys of this spec.
        spec: Option<KeySpec>,
        /// Only keys of this project.
        project: Option<ProjectName>,
        /// Only keys with this tag.
        tag: Option<Tag>,
        /// At most so many, 1 to 1,000; 0 means 100.
        limit: u16,
        /// A former reply's `next_page`, or empty.
        page: Bytes,
    }

    /// One page of keys.
    ListKeysReply {
        /// The keys.
        keys: Vec<KeySummary>,
        /// Where the next page starts; empty after the last.
        next_page: Bytes,
    }

    /// A key in a list.
    KeySummary {
        /// Its id.
        key_id: Uuid,
        /// What kind.
        spec: KeySpec,
        /// What for.
        usage: KeyUsage,
        /// Where in its life.
        state: KeyState,
        /// Where its material lives.
        protection: Protection,
        /// Where its material came from.
        origin: KeyOrigin,
        /// Its project.
        project: ProjectName,
        /// Its description.
        description: Description,
        /// Its aliases, sorted.
        aliases: Vec<String>,
        /// When it was made.
        created_at: i64,
    }

    /// Switches keys on.
    EnableKeyRequest {
        /// 1 to 100 of them.
        keys: Vec<KeyRef>,
    }

    /// Switches keys off.
    DisableKeyRequest {
        /// 1 to 100 of them.
        keys: Vec<KeyRef>,
    }

    /// A result for each key named, in their order.
    KeyStatesReply {
        /// The results.
        results: Vec<KeyStateResult>,
    }

    /// What became of one key of a multi-resource call.
    KeyStateResult {
        /// The key as the caller named it.
        key: KeyRef,
        /// A code number.
        status: u16,
        /// The key's id, if status is 0.
        key_id: Option<Uuid>,
        /// Its state now, if status is 0.
        state: Option<KeyState>,
        /// Whether this call changed it.
        changed: bool,
        /// Why not, if status isn't 0.
        message: String,
    }

    /// Encrypts up to 6,144 bytes.
    EncryptRequest {
        /// Under which key.
        key: KeyRef,
        /// What.
        plaintext: SecretBytes,
        /// Authenticated with it.
        context: EncryptionContext,
    }

    /// The ciphertext.
    EncryptReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that encrypted.
        key_version_id: Uuid,
        /// The ciphertext blob.
        ciphertext_blob: Bytes,
    }

    /// Opens a blob.
    DecryptRequest {
        /// Checked if given: the key the caller expects.
        key: Option<KeyRef>,
        /// The blob.
        ciphertext_blob: Bytes,
        /// The context it was made with.
        context: EncryptionContext,
    }

    /// The plaintext.
    DecryptReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that decrypted.
        key_version_id: Uuid,
        /// The plaintext.
        plaintext: SecretBytes,
    }

    /// Decrypts and encrypts anew; the plaintext stays in the daemon.
    ReEncryptRequest {
        /// Checked if given: the key the caller expects behind the blob.
        source_key: Option<KeyRef>,
        /// The blob.
        ciphertext_blob: Bytes,
        /// The context it was made with.
        source_context: EncryptionContext,
        /// The key to encrypt under.
        destination_key: KeyRef,
        /// The new context.
        destination_context: EncryptionContext,
    }

    /// The new ciphertext.
    ReEncryptReply {
        /// The key that decrypted.
        source_key_id: Uuid,
        /// Its version.
        source_key_version_id: Uuid,
        /// The key that encrypted.
        key_id: Uuid,
        /// Its version.
        key_version_id: Uuid,
        /// The new blob.
        ciphertext_blob: Bytes,
    }

    /// Says what a blob is; decrypts nothing.
    DescribeBlobRequest {
        /// The blob.
        ciphertext_blob: Bytes,
    }

    /// What a blob claims to be; nothing of it is authenticated here.
    DescribeBlobReply {
        /// The key it names.
        key_id: Uuid,
        /// The version it names.
        key_version_id: Uuid,
        /// The key's spec.
        spec: KeySpec,
        /// How it was made.
        suite: Suite,
        /// Length of the plaintext in bytes.
        plaintext_len: u32,
    }

    /// Makes a data key, in the clear and wrapped.
    GenerateDataKeyRequest {
        /// Under which key it is wrapped.
        key: KeyRef,
        /// How long it is.
        size: DataKeySize,
        /// Authenticated with the wrapped form.
        context: EncryptionContext,
    }

    /// A data key.
    GenerateDataKeyReply {
        /// The key that wraps it.
        key_id: Uuid,
        /// Its version.
        key_version_id: Uuid,
        /// The data key.
        plaintext: SecretBytes,
        /// The data key, wrapped.
        ciphertext_blob: Bytes,
    }

    /// Makes a data key, wrapped only.
    GenerateDataKeyWithoutPlaintextRequest {
        /// Under which key it is wrapped.
        key: KeyRef,
        /// How long it is.
        size: DataKeySize,
        /// Authenticated with the wrapped form.
        context: EncryptionContext,
    }

    /// Random bytes from the HSM.
    GetRandomRequest {
        /// How many, 1 to 4,096.
        length: u16,
    }

    /// Random bytes.
    GetRandomReply {
        /// The bytes.
        random: SecretBytes,
    }
}
