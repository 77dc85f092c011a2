//! Everything that can go wrong with a call, as types a program can act on.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use claviger_protocol::{Code, FrameError, Opcode, codec::DecodeError};

/// Why a call has no reply. No message holds anything secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The daemon (or, for sizes it announced, the client on its behalf) said no.
    #[error("{}: {message}", code.name())]
    Refused {
        /// Why, as a number that stays. [`Code::retryable`] says whether to come back.
        code: Code,
        /// What happened and what to do, for people.
        message: String,
        /// When to come back, if the daemon said so.
        retry_after: Option<Duration>,
    },
    /// No answer came in the call's time. The daemon may still do the work.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The daemon can't be reached; the call was not sent.
    #[error(transparent)]
    Connect(ConnectError),
    /// The connection broke before the answer came.
    #[error("the connection to the daemon was lost{}", if *maybe_done { "; the call may have been carried out" } else { "" })]
    ConnectionLost {
        /// Whether the daemon has the whole request and may have acted on it.
        maybe_done: bool,
    },
    /// The daemon broke the protocol, or speaks one that this client doesn't.
    #[error("the daemon broke the protocol: {0}")]
    Protocol(ProtocolError),
}

/// A socket that can't be connected to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no daemon answers at {}: {source}", socket.display())]
pub struct ConnectError {
    /// The socket.
    pub socket: PathBuf,
    /// The operating system's reason.
    pub source: Arc<io::Error>,
}

/// How a daemon broke the protocol (`SPEC.md`, what a client must reject).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A reply over the announced cap.
    #[error(transparent)]
    TooLarge(#[from] FrameError),
    /// A reply of another protocol version.
    #[error("a reply of version {0}")]
    Version(u8),
    /// A reply with flags that were not agreed on, or fields that must be zero and aren't.
    #[error("a reply with unknown flags, or with a deadline or reserved bits")]
    Reserved,
    /// A reply to a request that isn't in flight.
    #[error("a reply to request {0}, which is not in flight")]
    UnknownRequest(u64),
    /// A reply that names another operation than its request.
    #[error("a reply for operation {got:#06x} to a request for {expected:#06x}")]
    WrongOperation {
        /// The request's operation.
        expected: u16,
        /// The reply's.
        got: u16,
    },
    /// A status number that this client doesn't know: a refusal of a later daemon.
    #[error("unknown status {status}: {message}")]
    UnknownStatus {
        /// The number.
        status: u16,
        /// What the daemon said.
        message: String,
    },
    /// A reply's body that can't be read.
    #[error("the body of the reply to {}: {reason}", opcode.row().name)]
    Body {
        /// The operation.
        opcode: Opcode,
        /// What is wrong.
        reason: DecodeError,
    },
    /// A hello that can't be used.
    #[error("hello: {0}")]
    Hello(&'static str),
    /// A batch answered with another number of results than it had items.
    #[error("a batch of {expected} items was answered with {got} results")]
    BatchResults {
        /// Items sent.
        expected: usize,
        /// Results received.
        got: usize,
    },
    /// An [`crate::Item`] was taken from results before, or isn't of their batch.
    #[error("this item is not in these results")]
    NoSuchItem,
}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl Error {
    /// Whether the same call, unchanged, may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.retryable(),
            Self::Timeout(_) | Self::Connect(_) | Self::ConnectionLost { .. } => true,
            Self::Protocol(_) => false,
        }
    }

    /// A refusal that the client makes itself, as the daemon would.
    pub(crate) fn refused(code: Code, message: String) -> Self {
        Self::Refused { code, message, retry_after: None }
    }
}
