//! The one live connection of a client, and how it comes back when it is lost:
//! the first attempt at once, further ones after a capped, doubling, jittered wait.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::connection::Connection;
use crate::edge;
use crate::error::{ConnectError, Error};
use crate::options::Options;

/// Where to connect, and what is connected.
pub(crate) struct Link {
    socket: PathBuf,
    options: Options,
    current: Mutex<Option<Arc<Connection>>>,
    /// Held by the one caller that connects, for itself and for those who wait.
    comeback: tokio::sync::Mutex<Comeback>,
    /// Why the last attempt failed; nothing while connected.
    failure: Mutex<Option<Error>>,
}

/// The attempts since the last connection that answered a call.
#[derive(Default)]
struct Comeback {
    failures: u32,
    not_before: Option<Instant>,
}

impl Link {
    /// Connects, in one attempt.
    pub(crate) async fn open(socket: PathBuf, options: Options) -> Result<Self, Error> {
        let link = Self {
            socket,
            options,
            current: Mutex::new(None),
            comeback: tokio::sync::Mutex::default(),
            failure: Mutex::new(None),
        };
        let connection = link.connect_once().await?;
        *lock(&link.current) = Some(Arc::new(connection));
        Ok(link)
    }

    /// Why there is no connection, if there is none.
    pub(crate) fn failure(&self) -> Option<Error> {
        lock(&self.failure).clone()
    }

    /// A connection that was open a moment ago; waits for one as long as it takes.
    ///
    /// # Errors
    /// Only what no further attempt would change: access to the socket denied, or
    /// hello refused for good.
    pub(crate) async fn live(&self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.open_now() {
            return Ok(connection);
        }
        let mut comeback = self.comeback.lock().await;
        loop {
            if let Some(connection) = self.open_now() {
                return Ok(connection);
            }
            if let Some(lost) = lock(&self.current).take() {
                let failures = if lost.answered() { 0 } else { comeback.failures.saturating_add(1) };
                comeback.failed(failures, &self.options);
            }
            if let Some(at) = comeback.not_before {
                tokio::time::sleep_until(at).await;
            }
            self.attempt(&mut comeback).await?;
        }
    }

    async fn attempt(&self, comeback: &mut Comeback) -> Result<(), Error> {
        let error = match self.connect_once().await {
            Ok(connection) => {
                *lock(&self.current) = Some(Arc::new(connection));
                *lock(&self.failure) = None;
                return Ok(());
            }
            Err(error) => error,
        };
        let denied = |error: &ConnectError| error.source.kind() == io::ErrorKind::PermissionDenied;
        if !error.retryable() || matches!(&error, Error::Connect(error) if denied(error)) {
            return Err(error);
        }
        *lock(&self.failure) = Some(error);
        comeback.failed(comeback.failures.saturating_add(1), &self.options);
        Ok(())
    }

    async fn connect_once(&self) -> Result<Connection, Error> {
        let opened = Connection::open(&self.socket, &self.options.agent, self.options.connect_timeout).await;
        opened.map_err(|failure| failure.at(&self.socket))
    }

    fn open_now(&self) -> Option<Arc<Connection>> {
        lock(&self.current).as_ref().filter(|connection| connection.is_open()).map(Arc::clone)
    }
}

impl Comeback {
    fn failed(&mut self, failures: u32, options: &Options) {
        self.failures = failures;
        let wait = options.backoff(failures);
        self.not_before = (!wait.is_zero()).then(|| Instant::now() + edge::jittered(wait));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
