//! What each room counts of itself. A room owns its group and adds to it; only
//! [`collect`](super::collect) reads them.

use super::{Counter, Histogram};

/// A lane of a member.
#[derive(Debug, Default)]
pub struct LaneCounts {
    /// Commands carried out on the caller's own thread.
    pub in_place: Counter,
    /// Commands carried out on the lane's worker.
    pub queued: Counter,
    /// Commands refused because the queue was full.
    pub refused: Counter,
    /// Commands that failed for the token's sake, not the caller's.
    pub failures: Counter,
    /// From queueing to the start, of queued commands.
    pub wait: Histogram,
    /// From start to end, of queued commands: those in place take no clock.
    pub hold: Histogram,
}

/// A cache.
#[derive(Debug, Default)]
pub struct CacheCounts {
    /// Values that were there.
    pub hits: Counter,
    /// Values that had to be loaded.
    pub misses: Counter,
}

/// The keyring.
#[derive(Debug, Default)]
pub struct KeyringCounts {
    /// Versions' material unwrapped into a session object.
    pub unwraps: Counter,
    /// Those that failed.
    pub failed_unwraps: Counter,
}

/// The store.
#[derive(Debug, Default)]
pub struct StoreCounts {
    /// Batches committed.
    pub commits: Counter,
    /// Batches refused: an expectation wasn't met, or the store had failed.
    pub refused: Counter,
    /// Groups of batches written and synced together.
    pub groups: Counter,
    /// Judging and applying a group.
    pub write: Histogram,
    /// Making it durable.
    pub sync: Histogram,
}

/// The audit log.
#[derive(Debug, Default)]
pub struct AuditCounts {
    /// Events written.
    pub events: Counter,
    /// Bytes they took.
    pub bytes: Counter,
    /// Handing a turn's events to the kernel.
    pub write: Histogram,
    /// Putting what was written on the disk.
    pub sync: Histogram,
}

/// Connections of one endpoint.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed at once: too many, no memory, or no peer.
    pub refused: Counter,
    /// Bytes read.
    pub received: Counter,
    /// Bytes written.
    pub sent: Counter,
}
