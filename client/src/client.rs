//! The async client: calls within their time, over connections that come back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::body::HelloReply;
use claviger_protocol::{Code, Opcode, Operation, SecretBytes, codec};
use tokio::time::{Instant, timeout_at};

use crate::connection;
use crate::error::{Error, ProtocolError};
use crate::link::Link;
use crate::options::Options;

/// How often a call is sent again after it may have been carried out. More would
/// only help a request that kills the daemon to do so again.
const MAX_REPEATS: u32 = 2;

/// A client of one socket. Clones share its connection, on which any number of
/// calls can be in flight; replies come in the order in which they are ready.
///
/// A connection that is lost comes back with the next call. Calls that do no harm
/// when sent twice (all of the table's idempotent ones) are then repeated within
/// their time; any other that the daemon may have carried out ends with
/// [`Error::ConnectionLost`]. A call's future may be dropped at any time.
///
/// The connection lives on the tokio runtime that the client connected on.
#[derive(Clone)]
pub struct Client {
    link: Arc<Link>,
    timeout: Duration,
}

impl Client {
    /// Connects and says hello, in one attempt.
    ///
    /// # Errors
    /// [`Error::Connect`] where nobody answers on the socket, [`Error::Refused`] or
    /// [`Error::Protocol`] where hello fails.
    pub async fn connect(socket: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let timeout = options.timeout;
        Ok(Self { link: Arc::new(Link::open(socket.into(), options).await?), timeout })
    }

    /// The same client and connection, with another time for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { link: Arc::clone(&self.link), timeout }
    }

    /// What the daemon announced: its version, the endpoint's name, the limits.
    /// Reconnects where necessary, within the call's time.
    pub async fn session(&self) -> Result<HelloReply, Error> {
        let deadline = Instant::now() + self.timeout;
        let connection = timeout_at(deadline, self.link.live()).await.map_err(|_| self.too_late())??;
        Ok(connection.hello().clone())
    }

    /// Makes one call.
    ///
    /// # Errors
    /// All of [`Error`].
    pub async fn call<O: Operation>(&self, request: O) -> Result<O::Reply, Error> {
        let opcode = O::OPCODE;
        let request = request.into();
        let body = SecretBytes::new(request.encode().map_err(|_| too_large())?);
        let reply = self.exchange(opcode, &body, opcode.row().idempotent).await?;
        codec::decode(reply.expose()).map_err(|reason| ProtocolError::Body { opcode, reason }.into())
    }

    /// Sends a body and returns the reply's; again on a new connection where the
    /// old one was lost and the request is `repeatable` or was never sent whole.
    pub(crate) async fn exchange(
        &self,
        opcode: Opcode,
        body: &SecretBytes,
        repeatable: bool,
    ) -> Result<SecretBytes, Error> {
        let deadline = Instant::now() + self.timeout;
        let attempts = async {
            let mut lost = 0;
            loop {
                let connection = self.link.live().await?;
                match connection.call(opcode, body, deadline).await {
                    Err(Error::ConnectionLost { maybe_done: false }) => {}
                    Err(Error::ConnectionLost { maybe_done: true }) if repeatable && lost < MAX_REPEATS => {
                        lost += 1;
                    }
                    Err(error) => return Err(error),
                    Ok((status, body)) => return connection::refusal(status, body),
                }
            }
        };
        timeout_at(deadline, attempts).await.map_err(|_| self.too_late())?
    }

    fn too_late(&self) -> Error {
        self.link.failure().unwrap_or(Error::Timeout(self.timeout))
    }
}

pub(crate) fn too_large() -> Error {
    Error::refused(Code::FrameTooLarge, "the request is larger than any frame".to_owned())
}
