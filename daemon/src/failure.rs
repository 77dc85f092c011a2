//! Why a call was refused: rich inside, a stable number and one sentence outside.

use std::borrow::Cow;

use claviger_protocol::Code;
use claviger_protocol::codec::DecodeError;

use crate::backend::hsm::command::HsmError;
use crate::edge::NoEntropy;
use crate::store::StoreError;

/// A refusal, as the caller will see it. Its message never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Failure {
    /// The number.
    pub code: Code,
    /// What happened and what to do.
    pub message: Cow<'static, str>,
}

impl Failure {
    /// A refusal with a message of its own.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// The one answer to every ciphertext that doesn't decrypt.
    #[must_use]
    pub fn ciphertext() -> Self {
        Code::InvalidCiphertext.into()
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::new(code, code.meaning())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::new(Code::Busy, "the store's queue is full; try again"),
            StoreError::ReadOnly => Self::new(
                Code::ReadOnly,
                "the disk of the daemon's state directory is full: nothing was changed, keys can still be used; free space there, and changes are taken again by themselves",
            ),
            StoreError::Conflict { .. } => Self::new(Code::Busy, "another change came first; try again"),
            StoreError::TooLarge => Self::new(
                Code::InvalidArgument,
                "the change is too large for one record; use fewer or shorter values",
            ),
            StoreError::Failed(_) => {
                Self::new(Code::StoreUnavailable, "the store failed; see the daemon's log")
            }
            StoreError::ExportLost => {
                Self::new(Code::Busy, "too much changed while the backup was read; begin it again")
            }
            StoreError::Rewrite(_) => {
                Self::new(Code::StoreUnavailable, "the store couldn't be rewritten; see the daemon's log")
            }
            StoreError::Damaged(_) => {
                Self::new(Code::StoreUnavailable, "a record is damaged; see the daemon's log")
            }
        }
    }
}

impl From<HsmError> for Failure {
    fn from(error: HsmError) -> Self {
        match error {
            HsmError::AuthenticationFailed => Self::ciphertext(),
            HsmError::Busy => Self::new(Code::Busy, "the HSM's queue is full; try again"),
            HsmError::Unsupported(why) => Self::new(Code::UnsupportedByHsm, why),
            HsmError::ObjectGone => {
                Self::new(Code::HsmUnavailable, "the HSM lost the key's session object; try again")
            }
            HsmError::NoSuchRoot(generation) => Self::new(
                Code::HsmUnavailable,
                format!("no HSM holds root generation {generation}, which wraps this key"),
            ),
            HsmError::Unavailable(_) | HsmError::PinRefused => {
                Self::new(Code::HsmUnavailable, "no HSM can do it now; see `claviger status`")
            }
            HsmError::CheckValueMismatch => {
                Self::new(Code::Internal, "the key's material failed its check; see the daemon's log")
            }
            HsmError::Fault(_) => Self::new(Code::Internal, "the HSM failed; see the daemon's log"),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<NoEntropy> for Failure {
    fn from(_: NoEntropy) -> Self {
        Self::new(Code::Internal, "the system's random number generator failed")
    }
}
