//! A service's default key is made when the service first uses it.

use std::sync::Arc;

use claviger_protocol::names::{KeyRef, ServiceName};
use claviger_protocol::ops::Plane;
use claviger_protocol::{Code, Opcode, Request, Resource};
use tokio::sync::oneshot;

use super::Service;
use crate::failure::Failure;
use crate::identity::Caller;

impl Service {
    /// Makes the default key of the caller's service, if the call names it and it isn't
    /// there. As every change it goes to its end, whatever becomes of the caller.
    pub(super) async fn first_use(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        service: &ServiceName,
        request: &Request,
        request_id: u64,
    ) -> Result<(), Failure> {
        let default = KeyRef::Alias(service.default_alias());
        let named = |resource: &Resource<'_>| matches!(resource, Resource::Key(key) if **key == default);
        let uses = request.opcode().row().plane == Plane::Data && request.resources().iter().any(named);
        if !uses || self.keyring()?.find(&default).await?.is_some() {
            return Ok(());
        }
        if !self.can_record() {
            return Err(Code::AuditUnavailable.into());
        }
        let mut trail =
            self.open_trail(caller, request_id, Opcode::CreateDefaultKey, self.edge.clock.elapsed())?;
        let (done, made) = oneshot::channel();
        let (this, caller, name) = (Arc::clone(self), Arc::clone(caller), service.clone());
        self.edge.background.start(async move {
            let making =
                async { this.keyring()?.default_key(&name, caller.display_name(), &mut trail).await };
            let result = making.await.map(drop);
            let code = result.as_ref().err().map_or(Code::Ok, |failure| failure.code);
            this.record(trail.close(code));
            let _ = done.send(result);
        });
        made.await.unwrap_or_else(|_| Err(Code::Internal.into()))
    }
}
