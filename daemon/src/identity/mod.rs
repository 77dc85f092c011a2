//! Who is calling: the endpoint the call came through, the kernel's word for its
//! peer, and (from the credentials' issue on) a proved access key. Never a name
//! that the client claims.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use claviger_protocol::ServiceName;
use nix::sys::socket::{getsockopt, sockopt};

/// What an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    /// For administrators: root and the daemon's own user.
    Admin,
    /// An access point: data-plane calls.
    App,
}

/// An endpoint as callers meet it; every endpoint is an access point by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The access point's name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: EndpointKind,
    /// The local service that it is for; decides whose default key its callers have.
    pub service: Option<ServiceName>,
}

/// The kernel's word for the process at the other end.
#[derive(Debug)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id; 0 from another PID namespace.
    pub pid: i32,
    /// A handle on the process itself (Linux ≥ 6.5), for checks that must not
    /// fall for a reused process id.
    pub pidfd: Option<OwnedFd>,
}

impl Peer {
    /// Reads the peer of a connected Unix socket.
    pub fn of(socket: &impl AsFd) -> nix::Result<Self> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid(),
            pidfd: getsockopt(socket, sockopt::PeerPidfd).ok(),
        })
    }
}

/// Who is calling. Made once for a connection, after its hello.
#[derive(Debug)]
pub struct Caller {
    /// Where the call came in.
    pub endpoint: Arc<Endpoint>,
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    /// The proved access key.
    pub access_key: Option<String>,
    /// The daemon's number for the connection.
    pub connection: u64,
}

impl Caller {
    /// How records name their maker.
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}:uid={}", self.endpoint.name, self.peer.uid)
    }
}

/// Whether a peer may use an endpoint at all.
///
/// The admin endpoint is for root and the daemon's own user; an access point
/// leaves it to its socket's mode until peer lists exist.
#[must_use]
pub fn welcome(endpoint: &Endpoint, peer: &Peer, own_uid: u32) -> bool {
    match endpoint.kind {
        EndpointKind::Admin => peer.uid == 0 || peer.uid == own_uid,
        EndpointKind::App => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_pair_names_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!(peer.uid, nix::unistd::getuid().as_raw());
        assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
    }

    #[test]
    fn only_root_and_the_daemons_user_are_administrators() {
        let endpoint = |kind| Endpoint { name: "x".into(), kind, service: None };
        let peer = |uid| Peer { uid, gid: 0, pid: 1, pidfd: None };
        for (kind, uid, want) in [
            (EndpointKind::Admin, 0, true),
            (EndpointKind::Admin, 990, true),
            (EndpointKind::Admin, 1000, false),
            (EndpointKind::Admin, 65534, false),
            (EndpointKind::App, 1000, true),
        ] {
            assert_eq!(welcome(&endpoint(kind), &peer(uid), 990), want, "{kind:?} {uid}");
        }
    }
}
