//! The store from outside: one set of rules for both forms, kill -9, torn and
//! damaged files, and how fast commits are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod conformance;
mod crash;
mod damage;
mod power;
mod rate;
mod rewrite;
mod simulation;
