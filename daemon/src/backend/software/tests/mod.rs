//! The software backend beside others' numbers and others' programs. What a module can
//! show alone stands beside its code.

mod golden;
mod keys;
mod oracles;
mod properties;
mod standards;
mod wycheproof;
