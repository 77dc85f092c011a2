//! Events: opened with a call, or made for what never became one.

use std::sync::Arc;
use std::time::Duration;

use claviger_protocol::ops::AuditSync;
use claviger_protocol::{Code, Opcode};

use super::Service;
use crate::audit::{Closed, Event, Trail};
use crate::failure::Failure;
use crate::identity::Caller;

impl Service {
    pub(super) fn open_trail(
        &self,
        caller: &Caller,
        request_id: u64,
        opcode: Opcode,
        began: Duration,
    ) -> Result<Trail, Failure> {
        let row = opcode.row();
        if row.audit == AuditSync::None {
            return Ok(Trail::none(self.edge.clock.clone(), Arc::clone(&self.log)));
        }
        let event_id = self.edge.entropy.uuid()?;
        let event = Event::of_request(event_id, self.edge.clock.now(), caller, request_id, Some(row));
        Ok(Trail::new(event, began, self.edge.clock.clone(), Arc::clone(&self.log)))
    }

    /// Whether the audit log takes events; asked before any change is begun.
    pub(crate) fn can_record(&self) -> bool {
        self.log.ready(|| self.resumed())
    }

    /// The event that finds out whether the audit log can be written again.
    fn resumed(&self) -> Option<Event> {
        let event_id = self.edge.entropy.uuid().ok()?;
        Some(Event::internal(event_id, self.edge.clock.now(), "auditResumed"))
    }

    /// The event of a request that could not be read.
    pub(super) fn refused(&self, caller: &Caller, request_id: u64, opcode: u16, code: Code) -> Closed {
        let Ok(event_id) = self.edge.entropy.uuid() else {
            return Closed::default();
        };
        let row = Opcode::from_number(opcode).map(Opcode::row);
        let event = Event::of_request(event_id, self.edge.clock.now(), caller, request_id, row);
        let began = self.edge.clock.elapsed();
        Trail::new(event, began, self.edge.clock.clone(), Arc::clone(&self.log)).close(code)
    }

    /// Records events that no reply waits for.
    pub(crate) fn record(&self, closed: Closed) {
        match self.log.record(closed.events()) {
            Ok(_) => self.outbox.recorded(closed.settle()),
            Err(_) => self.outbox.owe(closed.settle()),
        }
    }
}
