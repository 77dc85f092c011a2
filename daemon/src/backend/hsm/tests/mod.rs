//! Tests that look into the token itself. Each runs on the embedded token and on
//! SoftHSM2, in a process of its own.

mod agreement;
mod attacks;
mod commands;
mod crash;
mod imports;
mod keywrap;
mod macs;
mod opening;
mod pairs;
mod recovery;
mod support;
mod vectors;
