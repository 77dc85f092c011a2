//! Listening sockets: made with their mode from the first instant, never taken
//! from a daemon that still listens.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::activation::{Passed, PassedError};
use super::buffer::Budget;
use super::connection::{Connection, Context};
use crate::config::EndpointConfig;
use crate::edge::Tasks;
use crate::identity::{Endpoint, EndpointKind};
use crate::metrics::collect::EndpointTraffic;
use crate::metrics::groups::Traffic;
use crate::service::Service;

/// Pause after the kernel had no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often at most a failing accept is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("{0} is in use: another daemon listens on it")]
    InUse(PathBuf),
    /// An address of the metrics endpoint.
    #[error("metrics.listen: {address}: {error}; is another program listening there?")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A socket that the service manager passed.
    #[error(transparent)]
    Passed(#[from] PassedError),
    /// Something that isn't a socket is there.
    #[error("{0} exists and is not a socket; remove it or configure another path")]
    NotASocket(PathBuf),
    /// The owner or group doesn't exist.
    #[error("{path}: no such {kind}: {name}")]
    NoSuchOwner {
        /// The socket.
        path: PathBuf,
        /// User or group.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The operating system refused.
    #[error("{path}: {error}; does its directory exist, and may the daemon write there?")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A bound socket. Its file goes when this does, unless it was passed.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    endpoint: Arc<Endpoint>,
    /// The service manager's, which keeps it.
    passed: bool,
}

impl Listener {
    /// Takes an endpoint's socket from those that were passed, or binds it.
    pub fn open(config: &EndpointConfig, kind: EndpointKind, passed: &mut Passed) -> Result<Self, BindError> {
        let path = config.socket.clone();
        let endpoint =
            Arc::new(Endpoint { name: config.name.as_str().into(), kind, service: config.service.clone() });
        match passed.take(config)? {
            Some(socket) => {
                let socket = UnixListener::from_std(socket)
                    .map_err(|error| BindError::Io { path: path.clone(), error })?;
                Ok(Self { socket, path, endpoint, passed: true })
            }
            None => Ok(Self { socket: bind(config)?, path, endpoint, passed: false }),
        }
    }

    /// Its endpoint's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.passed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket with its mode and owner.
pub(super) fn bind(config: &EndpointConfig) -> Result<UnixListener, BindError> {
    let path = config.socket.clone();
    let failed = |error| BindError::Io { path: path.clone(), error };
    clear_stale(&path)?;
    // Bound under another name and renamed once its mode is right: nobody can
    // connect in between.
    let mut hidden = path.clone().into_os_string();
    hidden.push(".new");
    let hidden = PathBuf::from(hidden);
    match std::fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let socket = UnixListener::bind(&hidden).map_err(failed)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(config.mode)).map_err(failed)?;
    chown(config, &hidden)?;
    std::fs::rename(&hidden, &path).map_err(failed)?;
    Ok(socket)
}

/// Removes a socket that nobody listens on any more.
fn clear_stale(path: &Path) -> Result<(), BindError> {
    let failed = |error| BindError::Io { path: path.to_owned(), error };
    let meta = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(meta) => meta,
    };
    if !meta.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match BlockingStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Ok(_) | Err(_) => Err(BindError::InUse(path.to_owned())),
    }
}

fn chown(config: &EndpointConfig, path: &Path) -> Result<(), BindError> {
    use nix::unistd::{Gid, Group, Uid, User};
    let missing = |kind, name: &str| BindError::NoSuchOwner {
        path: config.socket.clone(),
        kind,
        name: name.to_owned(),
    };
    let owner = config.owner.as_deref().map(|name| {
        name.parse()
            .map(Uid::from_raw)
            .ok()
            .or_else(|| Some(User::from_name(name).ok()??.uid))
            .ok_or_else(|| missing("user", name))
    });
    let group = config.group.as_deref().map(|name| {
        name.parse()
            .map(Gid::from_raw)
            .ok()
            .or_else(|| Some(Group::from_name(name).ok()??.gid))
            .ok_or_else(|| missing("group", name))
    });
    let (owner, group) = (owner.transpose()?, group.transpose()?);
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    nix::unistd::chown(path, owner, group)
        .map_err(|error| BindError::Io { path: config.socket.clone(), error: error.into() })
}

/// Accepts connections on every endpoint until it is told to stop.
pub struct Server {
    service: Arc<Service>,
    /// Memory of application endpoints' buffers.
    budget: Arc<Budget>,
    /// A share of its own: applications can't keep administrators out.
    admin_budget: Arc<Budget>,
    stop: CancellationToken,
    tasks: Tasks,
    next_connection: Arc<AtomicU64>,
    /// What is told of connections that are refused.
    crowd: Arc<Mutex<Trouble>>,
    open: Arc<AtomicUsize>,
    endpoints: Mutex<Vec<EndpointTraffic>>,
}

impl Server {
    /// A server for `service` that runs until `stop`.
    #[must_use]
    pub fn new(service: Arc<Service>, stop: CancellationToken) -> Self {
        let budget = Budget::new(service.limits().buffer_bytes);
        let admin_bytes = (service.limits().buffer_bytes / 8).max(2 * service.limits().max_body as usize);
        Self {
            service,
            budget,
            admin_budget: Budget::new(admin_bytes),
            stop,
            tasks: Tasks::default(),
            next_connection: Arc::default(),
            crowd: Arc::default(),
            open: Arc::default(),
            endpoints: Mutex::default(),
        }
    }

    /// Starts to accept on a listener.
    pub fn serve(&self, listener: Listener) {
        let (open, traffic) = (Arc::default(), Arc::<Traffic>::default());
        let name = listener.endpoint.name.clone();
        let counted = EndpointTraffic {
            name: name.to_string(),
            open: Arc::clone(&open),
            traffic: Arc::clone(&traffic),
        };
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).push(counted);
        let context = Arc::new(Context {
            service: Arc::clone(&self.service),
            endpoint: Arc::clone(&listener.endpoint),
            budget: Arc::clone(match listener.endpoint.kind {
                EndpointKind::Admin => &self.admin_budget,
                EndpointKind::App => &self.budget,
            }),
            traffic,
            own_uid: nix::unistd::getuid().as_raw(),
            stop: self.stop.clone(),
        });
        let acceptor = Acceptor {
            context,
            tasks: self.tasks.clone(),
            next_connection: Arc::clone(&self.next_connection),
            crowd: Arc::clone(&self.crowd),
            open,
            everywhere: Arc::clone(&self.open),
        };
        self.tasks.spawn(acceptor.run(listener));
    }

    /// What happened so far on each endpoint that is served, and the memory that its
    /// connections' buffers share.
    pub fn counts(&self) -> (Vec<EndpointTraffic>, Vec<(&'static str, Arc<Budget>)>) {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (endpoints, vec![("admin", Arc::clone(&self.admin_budget)), ("app", Arc::clone(&self.budget))])
    }

    /// Connections that are open, of all endpoints.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until every connection has ended.
    pub async fn finished(&self) {
        self.tasks.finished().await;
        self.service.edge.background.finished().await;
    }
}

struct Acceptor {
    context: Arc<Context>,
    tasks: Tasks,
    next_connection: Arc<AtomicU64>,
    /// What is told of connections that are refused.
    crowd: Arc<Mutex<Trouble>>,
    /// Of this endpoint.
    open: Arc<AtomicUsize>,
    /// Of all endpoints.
    everywhere: Arc<AtomicUsize>,
}

impl Acceptor {
    async fn run(self, listener: Listener) {
        let mut trouble = Trouble::default();
        let (clock, endpoint) = (&self.context.service.edge.clock, &listener.endpoint.name);
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return,
                accepted = listener.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    if trouble.over() {
                        tracing::info!(%endpoint, "connections can be accepted again");
                    }
                    self.start(stream);
                }
                Err(error) => {
                    if trouble.tell(clock.elapsed()) {
                        tracing::warn!(%error, %endpoint, "connections can't be accepted; trying again");
                    }
                    clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Starts a connection, or drops it where there are too many: the client sees
    /// its connection closed and comes back later.
    fn start(&self, stream: tokio::net::UnixStream) {
        let open = Open::count(&self.open, &self.everywhere);
        self.context.traffic.accepted.one();
        if open.number > self.context.service.limits().max_connections as usize {
            self.context.traffic.refused.one();
            let now = self.context.service.edge.clock.elapsed();
            if self.crowd.lock().unwrap_or_else(PoisonError::into_inner).tell(now) {
                tracing::warn!(endpoint = %self.context.endpoint.name, "connections are refused: there are too many");
            }
            return;
        }
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed) + 1;
        match Connection::new(Arc::clone(&self.context), stream, number) {
            Some(connection) => {
                self.tasks.spawn(async move {
                    connection.serve().await;
                    drop(open);
                });
            }
            None => {
                self.context.traffic.refused.one();
                tracing::warn!("a connection was refused: no memory in the buffers' budget, or no peer");
            }
        }
    }
}

/// Accepts that fail: what of it is told.
#[derive(Default)]
pub(super) struct Trouble {
    told: Option<Duration>,
    lasts: bool,
}

impl Trouble {
    /// Whether to tell a failure of this moment (time since the start).
    pub(super) fn tell(&mut self, now: Duration) -> bool {
        let due = self.told.is_none_or(|told| now.saturating_sub(told) >= TELL_EVERY);
        if due {
            *self = Self { told: Some(now), lasts: true };
        }
        due
    }

    /// Whether to tell that it is over: once for each failure that was told.
    pub(super) fn over(&mut self) -> bool {
        std::mem::take(&mut self.lasts)
    }
}

/// One of the open connections, counted until dropped.
struct Open {
    /// Which of its endpoint's it is, from 1.
    number: usize,
    counts: [Arc<AtomicUsize>; 2],
}

impl Open {
    fn count(endpoint: &Arc<AtomicUsize>, everywhere: &Arc<AtomicUsize>) -> Self {
        everywhere.fetch_add(1, Ordering::AcqRel);
        let number = endpoint.fetch_add(1, Ordering::AcqRel) + 1;
        Self { number, counts: [Arc::clone(endpoint), Arc::clone(everywhere)] }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for count in &self.counts {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path, mode: u32) -> EndpointConfig {
        EndpointConfig {
            name: "app".into(),
            socket: path.to_owned(),
            mode,
            owner: None,
            group: None,
            service: None,
        }
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let listener =
            Listener::open(&config(&path, 0o600), EndpointKind::App, &mut Passed::default()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_live_socket_is_left_alone_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let first = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let again = Listener::open(&config(&path, 0o600), EndpointKind::App, &mut Passed::default());
        assert!(matches!(again, Err(BindError::InUse(_))));
        drop(first);
        assert!(Listener::open(&config(&path, 0o600), EndpointKind::App, &mut Passed::default()).is_ok());
    }

    #[test]
    fn a_failing_accept_is_told_once_a_second_and_its_end_once() {
        let mut trouble = Trouble::default();
        assert!(!trouble.over());
        let told = (0..100).filter(|i| trouble.tell(Duration::from_millis(i * 50))).count();
        assert_eq!(told, 5);
        assert!(trouble.over() && !trouble.over());
        // One that comes and goes in between is not told, nor is its end.
        assert!(!trouble.tell(Duration::from_millis(4_990)) && !trouble.over());
        assert!(trouble.tell(Duration::from_secs(5)) && trouble.over());
    }

    #[tokio::test]
    async fn nothing_else_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        let refused = Listener::open(&config(&path, 0o600), EndpointKind::App, &mut Passed::default());
        assert!(matches!(refused, Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        let nowhere = config(&dir.path().join("no/such/dir.sock"), 0o600);
        assert!(matches!(
            Listener::open(&nowhere, EndpointKind::App, &mut Passed::default()),
            Err(BindError::Io { .. })
        ));
        let owned =
            EndpointConfig { owner: Some("no-such-user".into()), ..config(&dir.path().join("o"), 0o600) };
        assert!(matches!(
            Listener::open(&owned, EndpointKind::App, &mut Passed::default()),
            Err(BindError::NoSuchOwner { .. })
        ));
    }
}
