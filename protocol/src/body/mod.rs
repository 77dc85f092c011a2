//! The bodies of every operation, request and reply, in the order of the table.
//!
//! A published body never changes: a change is a new opcode. Fields that later
//! operations of the same family need stand here from the start. Shapes are in
//! `SPEC.md` section 7; times are milliseconds since the Unix epoch. Bounds that
//! belong to one field, not to its type, are checked by `rules` while decoding:
//! past the decoder nothing is checked twice.

mod asymmetric;
mod backup;
mod control;
mod data;
mod import;
mod keys;
mod life;
mod naming;
mod rules;

pub use asymmetric::*;
pub use backup::*;
pub use control::*;
pub use data::*;
pub use import::*;
pub use keys::*;
pub use life::*;
pub use naming::*;

/// Declares bodies: plain structs that encode field by field in this order.
macro_rules! bodies {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty,)* })+) => {
        $($(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* })+
    };
}
use bodies;
