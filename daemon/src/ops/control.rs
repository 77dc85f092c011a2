//! The connection and the daemon themselves.

use claviger_protocol::body::{KeyCount, PingReply, PingRequest, StatusReply};
use claviger_protocol::values::ServiceState;
use uuid::Uuid;

use crate::service::Service;

/// The daemon's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn ping(body: &PingRequest) -> PingReply {
    PingReply { version: VERSION.into(), payload: body.payload.clone() }
}

pub(super) fn status(service: &Service) -> StatusReply {
    let uptime_ms = u64::try_from(service.edge.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    let pool = service.pool.status();
    let Ok(keyring) = service.keyring() else {
        return StatusReply {
            version: VERSION.into(),
            state: ServiceState::Locked,
            reason: service.pool.locked_because(),
            domain_id: Uuid::nil(),
            root_generation: 0,
            uptime_ms,
            pool,
            keys: Vec::new(),
            recovery_recipients: 0,
            warnings: Vec::new(),
        };
    };
    let domain = keyring.domain();
    let count = |(state, spec, count)| KeyCount { state, spec, count };
    let mut warnings = Vec::new();
    if domain.recovery_recipients == 0 {
        warnings.push(
            "the root generation has no recovery recipient: if every HSM is lost, every key is lost"
                .to_owned(),
        );
    }
    if !keyring.member().hardware {
        warnings.push(format!("the HSM `{}` is a software token, not hardware", keyring.member().name));
    }
    if service.disk_is_full() {
        warnings.push(
            "the disk of the state directory is full: changes are refused until there is room, keys stay in use".to_owned(),
        );
    }
    StatusReply {
        version: VERSION.into(),
        state: if service.stopping() { ServiceState::Stopping } else { ServiceState::Serving },
        reason: String::new(),
        domain_id: domain.id,
        root_generation: domain.root_generation,
        uptime_ms,
        pool,
        keys: keyring.counts().into_iter().map(count).collect(),
        recovery_recipients: domain.recovery_recipients,
        warnings,
    }
}
