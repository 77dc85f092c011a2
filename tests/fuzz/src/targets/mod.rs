//! The targets, by what they read.

pub(crate) mod texts;
pub(crate) mod wire;
