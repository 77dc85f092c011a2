//! The SM test token as any application sees it: its numbers, its results beside those
//! of others, its keys, its lies.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
mod keys;
mod liars;
mod numberings;
mod oracles;
