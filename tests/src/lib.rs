//! The harness of the end-to-end tests: real binaries, real tokens, raw sockets.
//!
//! Lives here: finding and running `clavigerd` and `claviger`, making places for
//! them on disk (with a SoftHSM2 token or the embedded one), a raw connection for
//! byte-level attacks, and readers of what they leave behind. Must not live here:
//! what is tested (`tests/*.rs`), anything that shares code with the daemon.
//!
//! Nothing waits for a fixed time: a daemon is ready when it says so, and what
//! can't say so is asked until a generous deadline.

// Test code: a broken harness should stop the test with a message, at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_panics_doc
)]

pub mod audit;
pub mod cli;
pub mod daemon;
pub mod golden;
pub mod helper;
pub mod keys;
pub mod manager;
pub mod pairs;
pub mod process;
pub mod programs;
pub mod scrape;
pub mod session;
pub mod site;
pub mod token;
pub mod wire;

use std::time::{Duration, Instant};

pub use daemon::Daemon;
pub use site::Site;
pub use token::Token;
pub use wire::{Refusal, Wire};

/// How long anything may take that is expected to happen: far above what it takes
/// on a loaded machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Every kind of token, announced on stderr, so that a failure says where it was.
pub fn each_token() -> impl Iterator<Item = Token> {
    Token::ALL.into_iter().inspect(|token| eprintln!("--- on {token:?}"))
}

/// Runs a test on a fresh daemon on the embedded token, then on SoftHSM2.
pub fn on_both_tokens(test: impl Fn(&Daemon)) {
    for token in each_token() {
        let daemon = Site::new(token).start();
        test(&daemon);
        daemon.terminate();
    }
}

/// Asks until there is an answer. For what has no event to wait for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
