//! The wire format against its text (`SPEC.md`), its golden vectors, and anything
//! that a hostile peer might send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod algorithms;
mod blobs;
mod common;
mod properties;
mod spec;
mod vectors;
