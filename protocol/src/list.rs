//! Sequences with a bounded number of items, refused by their count before the
//! first item is read. Must not live here: what the items mean.

use std::{fmt, marker::PhantomData, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// Reads a sequence whose count is in `bounds`; `what` names the items in the refusal.
pub(crate) fn bounded<'de, T, D>(
    deserializer: D,
    what: &'static str,
    bounds: RangeInclusive<usize>,
) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Bounded { what, bounds, of: PhantomData })
}

struct Bounded<T> {
    what: &'static str,
    bounds: RangeInclusive<usize>,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} {}", self.bounds.start(), self.bounds.end(), self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let count = items.size_hint().unwrap_or_default();
        if !self.bounds.contains(&count) {
            return Err(de::Error::invalid_length(count, &self));
        }
        let mut list = Vec::with_capacity(count);
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }
}
