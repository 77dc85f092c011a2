//! The only room that touches the clock, the operating system's randomness, and
//! threads, and waits for other programs. Everything else takes an [`Edge`], so that a whole service can run
//! single-threaded from a seed.

mod background;
mod clock;
mod entropy;
mod hash;
mod program;
mod tasks;
mod workers;

pub use background::{Background, ManualBackground};
pub use clock::{Clock, ManualTime, Timestamp};
pub use entropy::{Entropy, NoEntropy};
pub use hash::HashKey;
pub use program::output as program_output;
pub use tasks::Tasks;
pub use workers::{Full, ManualWorkers, Worker, Workers};

/// Time, randomness and threads, as one room hands them to the others.
#[derive(Clone)]
pub struct Edge {
    /// Time.
    pub clock: Clock,
    /// Randomness that the daemon draws itself (ids, salts, nonces).
    pub entropy: Entropy,
    /// Threads with queues.
    pub workers: Workers,
    /// Work that goes on when its caller is gone.
    pub background: Background,
}

impl Edge {
    /// The real machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Clock::system(),
            entropy: Entropy::system(),
            workers: Workers::threads(),
            background: Background::runtime(),
        }
    }
}
