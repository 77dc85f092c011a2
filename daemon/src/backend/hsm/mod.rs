//! The HSM side: members, their lanes, and the commands they understand.

pub mod command;
