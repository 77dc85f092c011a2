//! The session objects of one lane: what a number in an [`ObjectId`] stands for.
//!
//! Numbers are the daemon's own. A PKCS#11 handle is reused by the token once its
//! object is gone; a number here isn't, so that a release that comes late, or
//! twice, or to the wrong lane can only miss, and never hits another key.
//!
//! [`ObjectId`]: super::command::ObjectId

use super::means::Held;

/// Number of an object: lane (8 bits) ‖ use of the place (24 bits) ‖ place (32 bits).
#[derive(Debug)]
pub(super) struct Objects {
    lane: u8,
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    uses: u32,
    held: Option<Held>,
}

const USES_BITS: u32 = 24;
const PLACE_BITS: u32 = 32;

impl Objects {
    pub(super) fn new(lane: u8) -> Self {
        Self { lane, places: Vec::new(), free: Vec::new() }
    }

    /// The number of a new object; `None` where 2^32 are alive.
    pub(super) fn insert(&mut self, held: Held) -> Option<u64> {
        let index = if let Some(index) = self.free.pop() {
            index
        } else {
            self.places.push(Place { uses: 0, held: None });
            u32::try_from(self.places.len() - 1).ok()?
        };
        let place = self.places.get_mut(index as usize)?;
        place.held = Some(held);
        Some(number(self.lane, place.uses, index))
    }

    /// The object of a number, unless it was removed.
    pub(super) fn get(&self, number: u64) -> Option<Held> {
        self.places.get(self.index(number)?)?.held
    }

    /// Forgets a number and gives its object, once.
    pub(super) fn remove(&mut self, number: u64) -> Option<Held> {
        let index = self.index(number)?;
        let place = self.places.get_mut(index)?;
        let held = place.held.take()?;
        place.uses += 1;
        // A place whose numbers are used up stays empty: 24 bytes for 16 million objects.
        if place.uses < 1 << USES_BITS {
            self.free.push(u32::try_from(index).ok()?);
        }
        Some(held)
    }

    fn index(&self, wanted: u64) -> Option<usize> {
        let index = u32::try_from(wanted & u64::from(u32::MAX)).ok()?;
        let place = self.places.get(index as usize)?;
        (number(self.lane, place.uses, index) == wanted).then_some(index as usize)
    }
}

fn number(lane: u8, uses: u32, index: u32) -> u64 {
    u64::from(lane) << (PLACE_BITS + USES_BITS) | u64::from(uses) << PLACE_BITS | u64::from(index)
}
