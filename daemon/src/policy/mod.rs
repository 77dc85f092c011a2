//! Who may do what. Until policies exist (issue of access points): the admin
//! endpoint may do everything, an access point may use keys (data plane) and
//! nothing else.

use claviger_protocol::Code;
use claviger_protocol::ops::{Endpoint, Plane};

use crate::failure::Failure;
use crate::identity::EndpointKind;
use crate::service::Resolved;

/// Proof that a resolved call is allowed. Only [`authorise`] makes one.
pub struct Permit {
    resolved: Resolved,
}

impl Permit {
    /// The call.
    #[must_use]
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }
}

/// Checks whether the caller may do it.
///
/// # Errors
/// `AccessDenied`, the same for what is forbidden and for what isn't there.
pub fn authorise(resolved: Resolved) -> Result<Permit, Failure> {
    let row = resolved.request().opcode().row();
    let allowed = match resolved.caller().endpoint.kind {
        EndpointKind::Admin => true,
        EndpointKind::App => match row.plane {
            Plane::Data => !resolved.misses_a_key(),
            Plane::Control => row.endpoint == Endpoint::Any,
            Plane::Management => false,
        },
    };
    if allowed { Ok(Permit { resolved }) } else { Err(Code::AccessDenied.into()) }
}
