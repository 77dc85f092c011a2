//! The daemon from start to stop: what is opened in which order, and what ends it.
//!
//! ```text
//! state lock → audit log → store → sockets → (HSM → domain key → keyring → recovery) → serving
//! ```
//! What stands in brackets is retried while the HSM isn't there; until then only
//! ping and status are answered.

pub mod process;
mod unlock;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::audit::AuditLog;
use crate::backend::hsm::pool::Pool;
use crate::backup::restore;
use crate::config::{Config, Limits};
use crate::edge::{Edge, Tasks};
use crate::identity::EndpointKind;
use crate::server::{BindError, Listener, Server};
use crate::service::Service;
use crate::store::{OpenError, SledStore, StateLock, Store, StoreError};

/// What to do where records wait for a domain that isn't there.
pub const DOMAIN_MISSING: &str =
    "the domain file is missing and the store has records: put the file `domain` back from your copy";

/// Why the daemon didn't start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state directory or the store in it.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The audit log.
    #[error("the audit log {path} can't be opened: {error}")]
    Audit {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A thread.
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
    /// The domain can't be unlocked and retrying won't help.
    #[error("{0}")]
    Domain(String),
    /// A commit could not be made durable.
    #[error("the store failed and the daemon can't go on: {0}")]
    StoreFailed(String),
}

/// Runs a daemon until `stop`. `serving` is called once, when calls are served.
pub async fn run(
    config: Config,
    edge: Edge,
    stop: CancellationToken,
    serving: impl FnOnce() + Send + 'static,
) -> Result<(), DaemonError> {
    let config = Arc::new(config);
    let state = StateLock::acquire(&config.state_dir)?;
    restore::refuse_unfinished(&config.state_dir).map_err(|error| DaemonError::Domain(error.to_string()))?;
    let log = open_log(&config, &edge)?;
    let limits = &config.limits;
    let store = SledStore::open(&state, limits.store_cache_bytes, limits.store_queue, &edge)?;
    let members = config.hsm.iter().map(|m| (m.name.clone(), m.profile.name.clone(), m.profile.hardware));
    let pool = Pool::new(members, edge.clock.now());
    let service = Arc::new(Service::new(edge.clone(), limits.clone(), Arc::clone(&log), pool));
    let background = Tasks::default();
    let halt = CancellationToken::new();

    let listeners = bind(&config)?;
    let server = Server::new(Arc::clone(&service), stop.clone());
    for listener in listeners {
        tracing::info!(socket = %listener.path().display(), "listening");
        server.serve(listener);
    }
    let opener = edge.workers.start("hsm-open", 1).map_err(DaemonError::Thread)?;
    let unlocking = unlock::Unlock {
        config: Arc::clone(&config),
        edge: edge.clone(),
        store: Arc::clone(&store),
        service: Arc::clone(&service),
        opener,
    };
    background.spawn(upkeep::sync_log(Arc::clone(&service), halt.clone()));
    let mut failure = store.failed();
    let sweeping = background.spawn(upkeep::sweep(Arc::clone(&service), halt.clone()));

    let ended = tokio::select! {
        ended = async {
            unlocking.run().await?;
            serving();
            stop.cancelled().await;
            Ok(())
        } => ended,
        () = stop.cancelled() => Ok(()),
        reason = upkeep::store_failure(&mut failure) => Err(DaemonError::StoreFailed(reason)),
    };
    service.stop();
    stop.cancel();
    tokio::select! {
        () = server.finished() => {}
        () = edge.clock.sleep(limits.stop_timeout) => {
            // As the configuration wants it: no failure.
            let connections = server.open();
            tracing::warn!(connections, "the stop took longer than limits.stop_timeout: connections were cut off");
        }
    }
    halt.cancel();
    let _ = sweeping.await;
    let _ = log.sync().await;
    background.finished().await;
    let closed = store.close().await.map_err(|error| DaemonError::StoreFailed(error.to_string()));
    ended.and(closed)
}

fn open_log(config: &Config, edge: &Edge) -> Result<Arc<AuditLog>, DaemonError> {
    let path = config.state_dir.join("audit.jsonl");
    let syncer = edge.workers.start("audit-sync", 64).map_err(DaemonError::Thread)?;
    AuditLog::open(&path, syncer).map(Arc::new).map_err(|error| DaemonError::Audit { path, error })
}

/// Whether the state directory holds a store with records. Blocks on the disk. A
/// domain must not be made beside them: nothing could ever read them again.
///
/// # Errors
/// [`DaemonError::Store`] or [`DaemonError::StoreFailed`] where its store can't be read.
pub async fn has_records(state: &Arc<StateLock>, limits: &Limits, edge: &Edge) -> Result<bool, DaemonError> {
    // Nothing is made here where there is nothing; the other is what an interrupted
    // recovery of the store leaves.
    if !["store", "store.aside"].iter().any(|name| state.dir().join(name).exists()) {
        return Ok(false);
    }
    let store = SledStore::open(state, limits.store_cache_bytes, limits.store_queue, edge)?;
    let failed = |error: StoreError| DaemonError::StoreFailed(error.to_string());
    let found = store.list(b"", None, 1).await.map_err(failed);
    store.close().await.map_err(failed)?;
    Ok(!found?.is_empty())
}

fn bind(config: &Config) -> Result<Vec<Listener>, DaemonError> {
    let admin = Listener::bind(&config.admin, EndpointKind::Admin);
    let apps = config.endpoints.iter().map(|endpoint| Listener::bind(endpoint, EndpointKind::App));
    Ok(std::iter::once(admin).chain(apps).collect::<Result<_, _>>()?)
}
