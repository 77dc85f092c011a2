//! What holds for any bytes at all: one function a parser, `fn(&[u8])`, which
//! fails (by an assertion) when a property breaks. They need nothing but their
//! input. Two things call them: the test in `tests/corpus.rs`, with mutations that are
//! the same in every run, and libFuzzer (`make fuzz`), which looks for new ways.
//!
//! A further parser joins with its function in [`targets`] and a row in [`TARGETS`];
//! its seeds join in [`corpus`].

#![allow(
    clippy::unwrap_used,
    reason = "a property that breaks, or a vector that can't be read, fails the run"
)]

pub mod corpus;
mod targets;

use targets::{kept, served, texts, wire};

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("header", wire::header),
    ("frames", wire::frames),
    ("bodies", wire::bodies),
    ("batch", wire::batch),
    ("context", wire::context),
    ("blob", wire::blob),
    ("config", texts::config),
    ("profile", texts::profile),
    ("stream", served::stream),
    ("hello", served::hello),
    ("http", served::http),
    ("helper", served::helper),
    ("record", kept::record),
    ("domain", kept::domain),
    ("recovery", kept::recovery),
    ("audit", kept::audit),
    ("backup", kept::backup),
    ("chunk", kept::chunk),
];

/// The environment variable that tells libFuzzer's program its target.
pub const TARGET_VARIABLE: &str = "CLAVIGER_FUZZ_TARGET";
