//! Sockets and connections: bytes in, frames to the service, bytes out.

mod activation;
mod buffer;
mod connection;
mod handshake;
mod http;
mod listener;

pub use activation::{Passed, PassedError};
pub use buffer::{Budget, Input};
pub use handshake::greet;
pub use http::{Asked, MetricsListener};
pub use listener::{BindError, Listener, Server};
