//! Backups: the store at one moment, in one file that only this domain can read.
//!
//! Lives here: the sealing of chunks and the entries in them (`chunks`), the backup
//! that a running daemon hands out (`live`), and the way back onto an empty host
//! (`restore`), where what was deleted since stays so (`tombstones`). The layout is `SPEC.md` section 12; its clear part and its framing
//! are [`claviger_protocol::backup`]. Must not live here: what a record means, and
//! the file itself: the client writes it, since the daemon's sandbox can't.

mod chunks;
mod live;
pub mod restore;
mod tombstones;

pub use chunks::{Chunks, Entry, Opened, Totals};
pub(crate) use live::verify;
pub use live::{Backups, Made};
