//! The HSM side: members, their lanes, and the commands they understand.

pub mod command;
pub mod domain;
pub mod lane;
pub mod member;
pub mod pool;
pub mod tools;
