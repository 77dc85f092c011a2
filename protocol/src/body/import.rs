//! Bodies of the import of key material.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{bodies, rules};
use crate::algorithms::{ImportAlgorithm, WrappingKeySpec};
use crate::names::KeyRef;
use crate::secret::Bytes;
use crate::values::KeyState;

bodies! {
    /// A public key to encrypt material to, and the token that goes with it.
    GetParametersForImportRequest {
        /// The key that the material is for.
        key: KeyRef,
        /// What kind of public key.
        wrapping_spec: WrappingKeySpec,
        /// How the material will be encrypted to it.
        algorithm: ImportAlgorithm,
    }

    /// They belong together, and to that key alone.
    GetParametersForImportReply {
        /// The key's id.
        key_id: Uuid,
        /// SubjectPublicKeyInfo (DER).
        public_key: Bytes,
        /// To be given back with the material.
        token: Bytes,
        /// Until when both can be used.
        expires_at: i64,
    }

    /// Brings material into a key.
    ImportKeyMaterialRequest {
        /// The same token within 24 h returns the first result.
        client_token: [u8; 16],
        /// The key.
        key: KeyRef,
        /// The material, encrypted; layouts are in `SPEC.md` section 14.
        #[serde(deserialize_with = "rules::encrypted_material")]
        encrypted_material: Bytes,
        /// The ephemeral key's part of a layout that has two; else empty.
        #[serde(deserialize_with = "rules::encrypted_ephemeral_key")]
        encrypted_ephemeral_key: Bytes,
        /// GetParametersForImport's token.
        #[serde(deserialize_with = "rules::import_token")]
        token: Bytes,
        /// When the material expires; never if not given.
        expires_at: Option<i64>,
    }

    /// The key with its material.
    ImportKeyMaterialReply {
        /// The key's id.
        key_id: Uuid,
        /// The version that holds the material.
        key_version_id: Uuid,
        /// Its state now.
        state: KeyState,
        /// When the material expires.
        material_expires_at: Option<i64>,
        /// HSM level: whether the material passed through the daemon's locked memory,
        /// because the token can't unwrap it. SOFTWARE level: true.
        through_memory: bool,
    }

    /// Destroys imported material; the key awaits it anew.
    DeleteKeyMaterialRequest {
        /// The key.
        key: KeyRef,
    }

    /// The key without its material.
    DeleteKeyMaterialReply {
        /// The key's id.
        key_id: Uuid,
        /// Its state now.
        state: KeyState,
    }
}
