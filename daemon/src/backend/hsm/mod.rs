//! The HSM side: members, their lanes, and the commands they understand. Commands
//! are plain data; only the files of this folder know PKCS#11.
//!
//! From the outside in: [`member`] opens a token and gives its lanes; [`lane`] queues
//! [`command`]s; `pkcs11` carries them out. [`init`] makes the root and the domain that
//! everything else hangs from, [`mod@domain`] opens it, [`restore`] brings it back.
//! [`helper`] is the same commands in a process of its own.

pub mod bench;
pub mod command;
pub mod domain;
pub mod helper;
pub mod lane;
pub mod member;
pub mod pool;
pub mod probe;

mod calls;
mod check_value;
mod embedded;
mod failure;
pub(crate) mod files;
mod handover;
mod import_value;
mod init;
mod intent;
mod library;
mod login;
mod making;
mod means;
mod objects;
mod pin;
mod pkcs11;
mod private;
mod recovery;
mod restore;
mod roots;
mod scrap;
mod selftest;
mod template;
mod wrapping;

pub use embedded::make as make_embedded;
pub use init::{InitReport, init};
pub use making::{Progress, RootError, Step};
pub use recovery::RecoveryFile;
pub use restore::restore;
pub use roots::RootId;

#[cfg(test)]
mod tests;
