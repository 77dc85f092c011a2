//! Metrics: what is counted, and how it is shown to Prometheus (text exposition
//! format 0.0.4). Every series is in `METRICS.md`.
//!
//! Rooms count into groups of their own ([`groups`]); nothing is registered
//! globally, and nothing is looked up while a request runs. A scrape reads them all
//! ([`collect`]). The socket that scrapes come through is the server's.

pub mod collect;
mod count;
pub mod families;
pub mod groups;
mod process;
mod requests;
mod text;
mod wait;

pub use collect::Exposition;
pub use count::{BOUNDS, Counter, Histogram, Snapshot};
pub use requests::{Requests, Times};
pub use wait::{note, waited};
