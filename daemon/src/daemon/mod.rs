//! The daemon from start to stop: what is opened in which order, and what ends it.
//!
//! ```text
//! state lock → audit log → store → sockets → (HSM → domain key → keyring → recovery) → serving
//! ```
//! What stands in brackets is retried while the HSM isn't there; until then only
//! ping and status are answered. While it serves, `watch` opens a helper that was lost again.

pub mod inspect;
pub mod process;
mod reload;
mod supervisor;
pub mod trust;
mod unlock;
mod upkeep;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

pub use supervisor::Supervisor;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditLog;
use crate::backend::hsm;
use crate::backend::hsm::pool::Pool;
use crate::backup::restore;
use crate::config::{Config, Limits};
use crate::edge::{Edge, Tasks};
use crate::identity::EndpointKind;
use crate::logs::Logs;
use crate::metrics::Exposition;
use crate::server::{BindError, Listener, MetricsListener, Passed, Server};
use crate::service::Service;
use crate::space::{BALLAST, Space};
use crate::store::{self, OpenError, SledStore, StateLock, Store, StoreError};

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
    /// The ballast on the disk.
    #[error("the ballast {path} can't be opened: {error}")]
    Ballast {
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

/// What the daemon's surroundings give it.
pub struct Host {
    /// Sockets that the service manager made.
    pub passed: Passed,
    /// Where it is told how the daemon is.
    pub supervisor: Supervisor,
    /// The configuration file, the log, and the signal to read the one again and
    /// change the other's level.
    pub reload: Option<Reload>,
}

/// Reading the configuration again.
pub struct Reload {
    /// The file.
    pub file: PathBuf,
    /// Its signal.
    pub wanted: mpsc::Receiver<()>,
    /// The log of this process.
    pub logs: &'static Logs,
}

/// Runs a daemon until `stop`. `serving` is called once, when calls are served.
pub async fn run(
    config: Config,
    edge: Edge,
    stop: CancellationToken,
    host: Host,
    serving: impl FnOnce() + Send + 'static,
) -> Result<(), DaemonError> {
    let (config, started) = (Arc::new(config), edge.clock.now());
    let Host { passed, supervisor, reload } = host;
    let supervisor = Arc::new(supervisor);
    let state = StateLock::acquire(&config.state_dir)?;
    restore::settle(&config.state_dir).map_err(|error| DaemonError::Domain(error.to_string()))?;
    let limits = &config.limits;
    // Before anything is written there.
    let space = open_space(&config)?;
    let log = open_log(&config, &edge)?;
    let store = open_store(&config, &state, &edge)?;
    let members = config.hsm.iter().map(|m| (m.name.clone(), m.profile.name.clone(), m.profile.hardware));
    let pool = Pool::new(members, edge.clock.now());
    let service = Arc::new(Service::new(edge.clone(), limits.clone(), Arc::clone(&log), pool));
    log.on_disk(Arc::clone(&space));
    store.on_disk(Arc::clone(&space));
    service.on_disk(Arc::clone(&space));
    let (background, halt) = (Tasks::default(), CancellationToken::new());

    let listeners = open_sockets(&config, passed)?;
    let metrics = MetricsListener::bind(config.metrics.as_ref()).await?;
    let server = Server::new(Arc::clone(&service), stop.clone());
    listen(&server, listeners);
    if let Some(listener) = metrics {
        let exposition = Exposition::new(&service, &store, &server, started);
        background.spawn(listener.serve(exposition, edge.clock.clone(), stop.clone()));
    }
    let opener = edge.workers.start("hsm-open", 1).map_err(DaemonError::Thread)?;
    let unlocking = unlock::Unlock {
        config: Arc::clone(&config),
        edge: edge.clone(),
        store: Arc::clone(&store),
        service: Arc::clone(&service),
        supervisor: Arc::clone(&supervisor),
        opener,
    };
    let mut failure = store.failed();
    let sweeping = upkeep::start(&background, &service, &store, &halt);
    if let Some(reload) = reload {
        let (service, supervisor, running) = (Arc::clone(&service), Arc::clone(&supervisor), config.clone());
        background.spawn(reload::whenever_wanted(reload, running, service, supervisor, halt.clone()));
    }

    let ended = tokio::select! {
        ended = async {
            let watch = unlocking.run().await?;
            space.started();
            serving();
            stop.run_until_cancelled(watch.run()).await;
            Ok(())
        } => ended,
        () = stop.cancelled() => Ok(()),
        reason = upkeep::store_failure(&mut failure) => Err(DaemonError::StoreFailed(reason)),
    };
    service.stop();
    stop.cancel();
    finish_calls(&server, &service, &supervisor).await;
    halt.cancel();
    let _ = sweeping.await;
    let _ = log.sync().await;
    background.finished().await;
    let closed = store.close().await.map_err(|error| DaemonError::StoreFailed(error.to_string()));
    ended.and(closed)
}

/// Waits for what is in flight, as long as the configuration wants.
async fn finish_calls(server: &Server, service: &Service, supervisor: &Supervisor) {
    let at_most = service.limits().stop_timeout;
    // And as long again for what is left to be written and closed.
    supervisor.stopping(2 * at_most);
    tokio::select! {
        () = server.finished() => {}
        () = service.edge.clock.sleep(at_most) => {
            // As the configuration wants it: no failure.
            let connections = server.open();
            tracing::warn!(connections, "the stop took longer than limits.stop_timeout: connections were cut off");
        }
    }
}

/// A domain without its store has lost its keys: that isn't answered with an empty one.
fn open_store(config: &Config, state: &Arc<StateLock>, edge: &Edge) -> Result<Arc<SledStore>, OpenError> {
    let limits = &config.limits;
    let open = if hsm::domain::is_there(&config.state_dir) { SledStore::reopen } else { SledStore::open };
    open(state, limits.store_cache_bytes, limits.store_queue, edge)
}

/// Makes the empty store of a domain that is about to be made. Blocks on the disk.
///
/// # Errors
/// Where the disk refuses.
pub async fn make_store(state: &Arc<StateLock>, limits: &Limits, edge: &Edge) -> Result<(), DaemonError> {
    let store = SledStore::open(state, limits.store_cache_bytes, limits.store_queue, edge)?;
    store.close().await.map_err(|error| DaemonError::StoreFailed(error.to_string()))
}

fn open_space(config: &Config) -> Result<Arc<Space>, DaemonError> {
    let dir = &config.state_dir;
    let failed = |error| DaemonError::Ballast { path: dir.join(BALLAST), error };
    Space::open(dir, config.limits.ballast_bytes).map(Arc::new).map_err(failed)
}

fn listen(server: &Server, listeners: Vec<Listener>) {
    for listener in listeners {
        tracing::info!(endpoint = %listener.name(), socket = %listener.path().display(), "listening");
        server.serve(listener);
    }
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
    if !store::exists(state.dir()) {
        return Ok(false);
    }
    let store = SledStore::open(state, limits.store_cache_bytes, limits.store_queue, edge)?;
    let failed = |error: StoreError| DaemonError::StoreFailed(error.to_string());
    let found = store.list(b"", None, 1).await.map_err(failed);
    store.close().await.map_err(failed)?;
    Ok(!found?.is_empty())
}

fn open_sockets(config: &Config, mut passed: Passed) -> Result<Vec<Listener>, DaemonError> {
    let endpoints = std::iter::once(&config.admin).chain(&config.endpoints);
    let names: Vec<&str> = endpoints.map(|endpoint| endpoint.name.as_str()).collect();
    passed.only_of(&names).map_err(BindError::Passed)?;
    let mut open = vec![Listener::open(&config.admin, EndpointKind::Admin, &mut passed)?];
    for endpoint in &config.endpoints {
        open.push(Listener::open(endpoint, EndpointKind::App, &mut passed)?);
    }
    Ok(open)
}
