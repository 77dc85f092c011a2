//! The client for programs without an async runtime.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::Operation;
use claviger_protocol::body::HelloReply;
use tokio::runtime::{Builder, Runtime};

use crate::batch::{Batch, BatchResults};
use crate::error::{ConnectError, Error};
use crate::options::Options;

/// [`crate::Client`] with calls that block. Clones share one connection; threads
/// may call at the same time, and their requests are pipelined.
///
/// There is no background thread: whoever waits drives the connection, so a call
/// costs no thread switch. Not for use inside an async runtime: there every method,
/// and dropping the last clone, panics as tokio's own blocking calls do. Use
/// [`crate::Client`] there.
#[derive(Clone)]
pub struct Client {
    // Before the runtime: the connection's task ends while its runtime still stands.
    inner: crate::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// Connects and says hello, in one attempt; see [`crate::Client::connect`].
    pub fn connect(socket: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let socket = socket.into();
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| {
            Error::Connect(ConnectError { socket: socket.clone(), source: Arc::new(error) })
        })?;
        let inner = runtime.block_on(crate::Client::connect(socket, options))?;
        Ok(Self { inner, runtime: Arc::new(runtime) })
    }

    /// The same client and connection, with another time for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: self.inner.with_timeout(timeout), runtime: Arc::clone(&self.runtime) }
    }

    /// What the daemon announced; see [`crate::Client::session`].
    pub fn session(&self) -> Result<HelloReply, Error> {
        self.runtime.block_on(self.inner.session())
    }

    /// Makes one call; see [`crate::Client::call`].
    pub fn call<O: Operation>(&self, request: O) -> Result<O::Reply, Error> {
        self.runtime.block_on(self.inner.call(request))
    }

    /// Makes the calls of a batch; see [`crate::Client::batch`].
    #[must_use]
    pub fn batch(&self, batch: Batch) -> BatchResults {
        self.runtime.block_on(self.inner.batch(batch))
    }
}
