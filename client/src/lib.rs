//! The Rust client of Claviger: one connection, any number of calls in flight.
//!
//! [`Client`] is for tokio, [`blocking::Client`] for everything else; both have a
//! typed method for each operation of the protocol's table, and [`Client::call`]
//! for requests built by hand; [`Pipeline`] is for work in bulk. Lives here: connecting, hello, matching replies to
//! requests, timeouts, reconnecting, batches. Must not live here: command lines,
//! files, terminals, and anything about how the daemon does its work.
//!
//! ```no_run
//! # async fn example() -> Result<(), claviger_client::Error> {
//! use claviger_client::{Client, Options, protocol::EncryptionContext};
//!
//! let client = Client::connect("/run/claviger/app.sock", Options::default()).await?;
//! let context = EncryptionContext::default();
//! let sealed = client.encrypt("alias/pay".parse().unwrap(), b"secret".to_vec().into(), context).await?;
//! # drop(sealed);
//! # Ok(())
//! # }
//! ```

mod batch;
pub mod blocking;
mod buffer;
mod client;
mod connection;
mod driver;
mod edge;
mod error;
mod link;
mod methods;
mod options;
mod pipeline;

pub use batch::{Batch, BatchResults, Item};
pub use claviger_protocol as protocol;
pub use client::Client;
pub use edge::client_token;
pub use error::{ConnectError, Error, ProtocolError};
pub use methods::{new_key, signing, verification};
pub use options::Options;
pub use pipeline::{Pipeline, RawReply};
