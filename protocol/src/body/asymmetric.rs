//! Bodies of the operations with key pairs and MAC keys, and of digests.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
use crate::algorithms::{
    DigestAlgorithm, EncryptionAlgorithm, ExportAlgorithm, KeyPairSpec, MacAlgorithm, MessageType,
    SigningAlgorithm,
};
use crate::context::EncryptionContext;
use crate::names::KeyRef;
use crate::secret::{Bytes, SecretBytes};
use crate::values::{DataKeySize, KeySpec, KeyUsage};

bodies! {
    /// Signs a message, or its digest.
    AsymmetricSignRequest {
        /// With which key.
        key: KeyRef,
        /// With which of its versions; may be left out while it has one.
        key_version_id: Option<Uuid>,
        /// How.
        algorithm: SigningAlgorithm,
        /// What `message` is.
        message_type: MessageType,
        /// The message, or its digest.
        message: SecretBytes,
        /// SM2DSA: the user id; the key's own if not given.
        #[serde(deserialize_with = "rules::sm2_user_id")]
        user_id: Option<Bytes>,
    }

    /// A signature.
    AsymmetricSignReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that signed.
        key_version_id: Uuid,
        /// The signature.
        signature: Bytes,
    }

    /// Checks a signature.
    AsymmetricVerifyRequest {
        /// With which key.
        key: KeyRef,
        /// With which of its versions; may be left out while it has one.
        key_version_id: Option<Uuid>,
        /// How it was made.
        algorithm: SigningAlgorithm,
        /// What `message` is.
        message_type: MessageType,
        /// The message, or its digest.
        message: SecretBytes,
        /// The signature.
        signature: Bytes,
        /// SM2DSA: the user id; the key's own if not given.
        #[serde(deserialize_with = "rules::sm2_user_id")]
        user_id: Option<Bytes>,
    }

    /// Whether a signature is right.
    AsymmetricVerifyReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that was checked with.
        key_version_id: Uuid,
        /// Whether it is.
        valid: bool,
    }

    /// Encrypts a short message to a key pair.
    AsymmetricEncryptRequest {
        /// To which key.
        key: KeyRef,
        /// To which of its versions; may be left out while it has one.
        key_version_id: Option<Uuid>,
        /// How.
        algorithm: EncryptionAlgorithm,
        /// What.
        plaintext: SecretBytes,
    }

    /// The ciphertext.
    AsymmetricEncryptReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that can decrypt it.
        key_version_id: Uuid,
        /// The ciphertext; no blob: it names no key.
        ciphertext: Bytes,
    }

    /// Decrypts what was encrypted to a key pair.
    AsymmetricDecryptRequest {
        /// With which key.
        key: KeyRef,
        /// With which of its versions; may be left out while it has one.
        key_version_id: Option<Uuid>,
        /// How it was encrypted.
        algorithm: EncryptionAlgorithm,
        /// The ciphertext.
        ciphertext: Bytes,
    }

    /// The plaintext.
    AsymmetricDecryptReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that decrypted.
        key_version_id: Uuid,
        /// The plaintext.
        plaintext: SecretBytes,
    }

    /// Asks for a pair's public key.
    GetPublicKeyRequest {
        /// Which key.
        key: KeyRef,
        /// Which of its versions; may be left out while it has one.
        key_version_id: Option<Uuid>,
    }

    /// A public key.
    GetPublicKeyReply {
        /// The key's id.
        key_id: Uuid,
        /// The version whose it is.
        key_version_id: Uuid,
        /// What kind of key.
        spec: KeySpec,
        /// What for.
        usage: KeyUsage,
        /// SubjectPublicKeyInfo, DER (RFC 5280 section 4.1; SM2: GM/T 0006's curve under id-ecPublicKey).
        public_key: Bytes,
    }

    /// Makes a MAC with the key's primary version.
    GenerateMacRequest {
        /// With which key.
        key: KeyRef,
        /// How; the spec's one algorithm if not given.
        algorithm: Option<MacAlgorithm>,
        /// Of what.
        message: SecretBytes,
    }

    /// A MAC.
    GenerateMacReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that made it.
        key_version_id: Uuid,
        /// The MAC, whole.
        mac: Bytes,
    }

    /// Checks a MAC.
    VerifyMacRequest {
        /// With which key.
        key: KeyRef,
        /// With this version alone; if not given, with the primary and then the older ones.
        key_version_id: Option<Uuid>,
        /// How it was made; the spec's one algorithm if not given.
        algorithm: Option<MacAlgorithm>,
        /// Of what.
        message: SecretBytes,
        /// The MAC, whole.
        mac: Bytes,
    }

    /// Whether a MAC is right.
    VerifyMacReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that made it; where none did, the one tried first.
        key_version_id: Uuid,
        /// Whether it is.
        valid: bool,
    }

    /// Hashes a message.
    MessageDigestRequest {
        /// How.
        algorithm: DigestAlgorithm,
        /// What.
        message: SecretBytes,
    }

    /// A digest.
    MessageDigestReply {
        /// The digest.
        digest: Bytes,
    }

    /// Makes a key pair for the caller, its private key in the clear and wrapped.
    GenerateDataKeyPairRequest {
        /// Under which key the private key is wrapped.
        key: KeyRef,
        /// What kind of pair.
        pair_spec: KeyPairSpec,
        /// Authenticated with the wrapped form.
        context: EncryptionContext,
    }

    /// A key pair.
    GenerateDataKeyPairReply {
        /// The key that wraps the private key.
        key_id: Uuid,
        /// Its version.
        key_version_id: Uuid,
        /// SubjectPublicKeyInfo, DER.
        public_key: Bytes,
        /// PKCS#8 PrivateKeyInfo, DER (RFC 5958), version 0.
        private_key: SecretBytes,
        /// The private key, wrapped: Decrypt gives its DER back.
        ciphertext_blob: Bytes,
    }

    /// Makes a key pair for the caller, its private key wrapped only.
    GenerateDataKeyPairWithoutPlaintextRequest {
        /// Under which key the private key is wrapped.
        key: KeyRef,
        /// What kind of pair.
        pair_spec: KeyPairSpec,
        /// Authenticated with the wrapped form.
        context: EncryptionContext,
    }

    /// A key pair whose private key is wrapped.
    GenerateDataKeyPairWithoutPlaintextReply {
        /// The key that wraps the private key.
        key_id: Uuid,
        /// Its version.
        key_version_id: Uuid,
        /// SubjectPublicKeyInfo, DER.
        public_key: Bytes,
        /// The private key, wrapped: Decrypt gives its DER back.
        ciphertext_blob: Bytes,
    }

    /// Gives a data key to the owner of a public key.
    ExportDataKeyRequest {
        /// Checked if given: the key the caller expects behind the blob.
        key: Option<KeyRef>,
        /// The data key, wrapped.
        ciphertext_blob: Bytes,
        /// The context it was wrapped with.
        context: EncryptionContext,
        /// To whom: SubjectPublicKeyInfo, DER; RSA of 2048 to 4096 bits, or SM2.
        #[serde(deserialize_with = "rules::public_key")]
        public_key: Bytes,
        /// How.
        algorithm: ExportAlgorithm,
    }

    /// A data key, encrypted to a public key.
    ExportDataKeyReply {
        /// The key that unwrapped it.
        key_id: Uuid,
        /// Its version.
        key_version_id: Uuid,
        /// The data key under the public key.
        exported_data_key: Bytes,
    }

    /// Makes a data key and gives it to the owner of a public key.
    GenerateAndExportDataKeyRequest {
        /// Under which key it is wrapped.
        key: KeyRef,
        /// How long it is.
        size: DataKeySize,
        /// Authenticated with the wrapped form.
        context: EncryptionContext,
        /// To whom: SubjectPublicKeyInfo, DER; RSA of 2048 to 4096 bits, or SM2.
        #[serde(deserialize_with = "rules::public_key")]
        public_key: Bytes,
        /// How.
        algorithm: ExportAlgorithm,
    }

    /// A data key, wrapped and encrypted to a public key.
    GenerateAndExportDataKeyReply {
        /// The key that wraps it.
        key_id: Uuid,
        /// Its version.
        key_version_id: Uuid,
        /// The data key, wrapped.
        ciphertext_blob: Bytes,
        /// The data key under the public key.
        exported_data_key: Bytes,
    }
}
