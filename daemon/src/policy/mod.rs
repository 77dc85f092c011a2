//! Who may do what. Until policies exist (issue of access points): the admin
//! endpoint may do everything, an access point may use keys (data plane) and
//! nothing else.

use claviger_protocol::Code;
use claviger_protocol::ops::{Endpoint, Plane, Row};

use crate::failure::Failure;
use crate::identity::EndpointKind;
use crate::resolve::Resolved;

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

/// Whether an endpoint of this kind serves an operation at all, whoever calls.
#[must_use]
pub fn serves(kind: EndpointKind, row: &Row) -> bool {
    match kind {
        EndpointKind::Admin => true,
        EndpointKind::App => match row.plane {
            Plane::Data => true,
            Plane::Control => row.endpoint == Endpoint::Any,
            Plane::Management => false,
        },
    }
}

/// Checks whether the caller may do it.
///
/// # Errors
/// `AccessDenied`; on an access point the same for what is forbidden and for
/// what isn't there.
pub fn authorise(resolved: Resolved) -> Result<Permit, Failure> {
    let kind = resolved.caller().endpoint.kind;
    let hidden = kind == EndpointKind::App && resolved.misses_a_key();
    if hidden || !serves(kind, resolved.request().opcode().row()) {
        return Err(Code::AccessDenied.into());
    }
    Ok(Permit { resolved })
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_protocol::Opcode;

    #[test]
    fn an_access_point_serves_the_data_plane_and_no_more() {
        for opcode in Opcode::ALL {
            let row = opcode.row();
            assert!(serves(EndpointKind::Admin, row));
            let want =
                matches!(opcode, Opcode::Hello | Opcode::Ping | Opcode::Batch) || row.plane == Plane::Data;
            assert_eq!(serves(EndpointKind::App, row), want, "{}", row.name);
        }
    }
}
