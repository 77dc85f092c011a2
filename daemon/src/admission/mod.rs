//! Admission: every call takes a place before it runs, in place too. Trivial as
//! yet (one bound for the daemon); rate limits and fairness between access
//! points come to stand here.

pub mod behind;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_protocol::Code;

use crate::failure::Failure;
use crate::policy::Permit;

/// Hands out places.
pub struct Admission {
    running: Arc<AtomicUsize>,
    capacity: usize,
}

/// Proof that a permitted call has its place, which it gives back when dropped.
/// Only [`Admission::enter`] makes one.
pub struct Admitted {
    permit: Permit,
    _place: Place,
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Admitted {
    /// What was permitted.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl Admission {
    /// `capacity` calls may run at once, over all connections.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { running: Arc::default(), capacity }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `Busy` at once, where there is none.
    pub fn enter(&self, permit: Permit) -> Result<Admitted, Failure> {
        let place = self.place()?;
        Ok(Admitted { permit, _place: place })
    }

    /// Calls that have a place now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    fn place(&self) -> Result<Place, Failure> {
        let before = self.running.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(&self.running));
        if before < self.capacity { Ok(place) } else { Err(Code::Busy.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let admission = Admission::new(2);
        let first = admission.place().unwrap();
        let _second = admission.place().unwrap();
        assert_eq!(admission.place().map(|_| ()), Err(Code::Busy.into()));
        assert_eq!(admission.place().map(|_| ()), Err(Code::Busy.into()));
        drop(first);
        assert!(admission.place().is_ok());
    }
}
