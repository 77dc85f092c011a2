//! Bodies of the connection and the daemon themselves, and of batches.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
use crate::secret::{Bytes, SecretBytes};
use crate::values::{AuthMethod, KeySpec, KeyState, MemberState, ServiceState};

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
        /// The client program, for logs; at most 64 bytes of printable ASCII.
        #[serde(deserialize_with = "rules::agent")]
        agent: String,
        /// How an access key is proved; `none` for endpoints that don't ask.
        auth_method: AuthMethod,
        /// The access key's id, or empty.
        #[serde(deserialize_with = "rules::access_key")]
        access_key: String,
        /// The client's 32-byte nonce; zero without an access key.
        client_nonce: [u8; 32],
        /// Empty in the first hello, the proof in the second; at most 64 bytes.
        #[serde(deserialize_with = "rules::proof")]
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
        #[serde(deserialize_with = "rules::ping_payload")]
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
        #[serde(deserialize_with = "rules::batch_items")]
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
}
