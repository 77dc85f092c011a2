//! Bodies of the operations that use keys.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
use crate::blob::Suite;
use crate::context::EncryptionContext;
use crate::names::KeyRef;
use crate::secret::{Bytes, SecretBytes};
use crate::values::{DataKeySize, KeySpec};

bodies! {
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
        #[serde(deserialize_with = "rules::random_len")]
        length: u16,
    }

    /// Random bytes.
    GetRandomReply {
        /// The bytes.
        random: SecretBytes,
    }
}
