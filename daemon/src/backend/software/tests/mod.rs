//! The software backend beside others' numbers and others' programs. What a module can
//! show alone stands beside its code.

mod golden;
mod standards;
mod wycheproof;
