//! Tests that look into the token itself. Each runs on the embedded token and on
//! SoftHSM2, in a process of its own (as `cargo nextest` runs them): a process has
//! one embedded token, and SoftHSM2 reads its configuration once.

mod commands;
mod support;
