//! Session objects that must be gone when a piece of work ends, however it ends.

use std::cell::RefCell;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::command::HsmError;
use super::failure::{describe, failed};

/// Objects to be destroyed when this is dropped.
pub(super) struct Scrap<'a> {
    session: &'a Session,
    objects: RefCell<Vec<ObjectHandle>>,
}

impl<'a> Scrap<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        Self { session, objects: RefCell::default() }
    }

    /// Takes charge of what a call has made.
    pub(super) fn keep(&self, made: cryptoki::error::Result<ObjectHandle>) -> Result<ObjectHandle, HsmError> {
        let handle = made.map_err(|e| failed(&e))?;
        self.objects.borrow_mut().push(handle);
        Ok(handle)
    }

    /// Destroys them now, where leaving one behind would be a failure.
    pub(super) fn clear(&self) -> Result<(), HsmError> {
        let objects = self.objects.take();
        let destroyed = objects.into_iter().map(|o| self.session.destroy_object(o));
        // All of them, before the first failure is told.
        let outcomes: Vec<_> = destroyed.collect();
        outcomes.into_iter().collect::<Result<(), _>>().map_err(|e| failed(&e))
    }
}

impl Drop for Scrap<'_> {
    fn drop(&mut self) {
        for object in self.objects.take() {
            if let Err(error) = self.session.destroy_object(object) {
                tracing::warn!(error = describe(&error), "a temporary object could not be destroyed");
            }
        }
    }
}
