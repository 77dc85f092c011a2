//! The audit hook: a batch of typed events in, a proof out. Nothing is answered
//! without the proof ([`crate::service`]).
//!
//! Events are plain JSON lines for now; the signature is final. A change's event
//! is committed with the change (outbox) and written here before its reply; a
//! data-plane event is written before its reply and synced every few
//! milliseconds. Never in an event: plaintext, material, PINs, secret keys.

mod event;
mod line;
mod log;
mod outbox;
mod trail;

pub use event::{Event, EventKind, Level, ResourceKind};
pub use log::{AuditLog, Recorded};
pub use outbox::Outbox;
pub use trail::{Closed, Trail};

/// The audit log can't take the event; the call is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log can't be written")]
pub struct AuditFailed;
