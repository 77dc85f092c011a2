//! Claviger's wire format: everything both ends of a socket agree on, and no I/O.
//!
//! The normative text is `SPEC.md` beside this crate; the golden vectors in
//! `vectors/` pin its bytes. Lives here: frames, bodies, the one operation
//! table, error codes, the validated types that bodies are made of, the
//! ciphertext blob and the canonical encryption context. Must not live here:
//! sockets, clocks, cryptography, anything that only one end needs.

pub mod algorithms;
pub mod backup;
pub mod batch;
pub mod blob;
pub mod body;
pub mod code;
pub mod codec;
pub mod context;
pub mod frame;
pub mod limits;
mod list;
pub mod names;
pub mod ops;
pub mod secret;
pub mod values;

pub use algorithms::{
    DigestAlgorithm, EncryptionAlgorithm, ExportAlgorithm, ImportAlgorithm, KeyPairSpec, MacAlgorithm,
    MessageType, SigningAlgorithm, WrappingKeySpec,
};
pub use blob::{BlobError, BlobHeader, BlobRef, Suite};
pub use code::Code;
pub use context::EncryptionContext;
pub use frame::{FrameError, Header};
pub use names::{Alias, Description, KeyRef, ProjectName, ServiceName, Tag, TagKey};
pub use ops::{Opcode, Operation, Reply, Request, Resource, Row};
pub use secret::SecretBytes;
pub use values::{DataKeySize, DataKeySpec, KeyOrigin, KeySpec, KeyState, KeyUsage, Protection};
