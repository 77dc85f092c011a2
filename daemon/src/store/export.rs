//! A copy of the whole store, a part at a time, while changes go on: what the
//! copy has passed and what changed behind it. Where the records are is its caller's
//! business; it runs apart from all writing.
//!
//! First every record is read in the order of the keys; of the changes meanwhile, those
//! of keys that were passed already are noted. Then the noted keys are read again, as
//! long as there are any (and before, where many wait). The part that leaves none ends the
//! copy: applied in their order, the parts make the store as it was at that moment, with
//! every batch whole.

use std::collections::BTreeSet;

use super::{Listed, StoreError, Versioned};

/// Records looked at in one step.
pub(super) const STEP: usize = 64;
/// Keys that may wait to be read again: some 10 MiB.
const MAX_CHANGED: usize = 100_000;
/// With so many waiting, they are read before the first reading goes on.
const MANY_CHANGED: usize = MAX_CHANGED / 2;

/// A part of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Keys with their values; `None` where there is no record any more.
    pub entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Whether the copy is complete with these.
    pub done: bool,
}

/// A part of a copy, with the revisions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) entries: Vec<(Vec<u8>, Option<Versioned>)>,
    pub(super) done: bool,
}

impl From<Part> for Exported {
    fn from(part: Part) -> Self {
        let value = |(key, record): (_, Option<Versioned>)| (key, record.map(|record| record.value));
        Self { entries: part.entries.into_iter().map(value).collect(), done: part.done }
    }
}

/// Where records are read from.
pub(super) trait Records {
    fn after(&self, key: Option<&[u8]>, limit: usize) -> Result<Listed, StoreError>;
    fn at(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError>;
}

/// The copy that is being made, if there is one.
#[derive(Debug, Default)]
pub(super) struct Exports {
    begun: u64,
    current: Option<Export>,
}

#[derive(Debug, Default)]
struct Export {
    passed: Passed,
    changed: BTreeSet<Vec<u8>>,
}

/// How far the first reading has come.
#[derive(Debug, Default)]
enum Passed {
    #[default]
    Nothing,
    /// Everything up to this key.
    Up(Vec<u8>),
    Everything,
}

impl Exports {
    /// Begins a copy, in the place of any other; its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.current = Some(Export::default());
        self.begun
    }

    /// Hears of a key that changes.
    pub(super) fn note(&mut self, key: &[u8]) {
        let Some(export) = &mut self.current else { return };
        let passed = match &export.passed {
            Passed::Nothing => false,
            Passed::Up(last) => key <= last.as_slice(),
            Passed::Everything => true,
        };
        if passed && !export.changed.contains(key) {
            export.changed.insert(key.to_vec());
            if export.changed.len() > MAX_CHANGED {
                // Bounded: its reader hears of it with the next step.
                self.current = None;
            }
        }
    }

    /// Ends a copy that isn't wanted any more.
    pub(super) fn end(&mut self, number: u64) {
        if number == self.begun {
            self.current = None;
        }
    }

    fn current(&mut self, number: u64) -> Result<&mut Export, StoreError> {
        self.current.as_mut().filter(|_| number == self.begun).ok_or(StoreError::ExportLost)
    }

    /// The next part of a copy, of about `bytes` bytes.
    pub(super) fn step(
        &mut self,
        number: u64,
        bytes: usize,
        records: &impl Records,
    ) -> Result<Part, StoreError> {
        let part = self.current(number)?.step(bytes, records)?;
        if part.done {
            self.current = None;
        }
        Ok(part)
    }

    /// As [`Exports::step`], but never the last part: `None` where only that, or little
    /// more, is left.
    pub(super) fn approach(
        &mut self,
        number: u64,
        bytes: usize,
        records: &impl Records,
    ) -> Result<Option<Part>, StoreError> {
        let export = self.current(number)?;
        if matches!(export.passed, Passed::Everything) && export.changed.len() <= STEP {
            return Ok(None);
        }
        export.step(bytes, records).map(Some)
    }
}

impl Export {
    fn step(&mut self, bytes: usize, records: &impl Records) -> Result<Part, StoreError> {
        let mut budget = Budget(bytes);
        let mut entries = Vec::new();
        if !matches!(self.passed, Passed::Everything) && self.changed.len() < MANY_CHANGED {
            let after = if let Passed::Up(last) = &self.passed { Some(last.as_slice()) } else { None };
            let found = records.after(after, STEP)?;
            let mut all = found.len() < STEP;
            for (key, record) in found {
                if !budget.takes(&key, Some(&record.value)) {
                    all = false;
                    break;
                }
                self.passed = Passed::Up(key.clone());
                entries.push((key, Some(record)));
            }
            if all {
                self.passed = Passed::Everything;
            }
            if !entries.is_empty() {
                return Ok(Part { entries, done: false });
            }
        }
        while let Some(key) = self.changed.first() {
            let record = records.at(key)?;
            if !budget.takes(key, record.as_ref().map(|record| record.value.as_slice())) {
                break;
            }
            entries.extend(self.changed.pop_first().map(|key| (key, record)));
        }
        let done = matches!(self.passed, Passed::Everything) && self.changed.is_empty();
        Ok(Part { entries, done })
    }
}

/// Bytes that are left in a part; the first entry always fits.
struct Budget(usize);

impl Budget {
    fn takes(&mut self, key: &[u8], value: Option<&[u8]>) -> bool {
        let fits = self.0 > 0;
        self.0 = self.0.saturating_sub(key.len() + value.map_or(0, <[u8]>::len) + 5);
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Default)]
    struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Records for Map {
        fn after(&self, key: Option<&[u8]>, limit: usize) -> Result<Listed, StoreError> {
            let later = self.0.iter().filter(|(k, _)| key.is_none_or(|key| k.as_slice() > key)).take(limit);
            Ok(later.map(|(k, value)| (k.clone(), Versioned { revision: 1, value: value.clone() })).collect())
        }

        fn at(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
            Ok(self.0.get(key).map(|value| Versioned { revision: 1, value: value.clone() }))
        }
    }

    fn apply(copy: &mut Map, part: Part) {
        for (key, record) in part.entries {
            match record {
                Some(record) => copy.0.insert(key, record.value),
                None => copy.0.remove(&key),
            };
        }
    }

    /// Batches of changes between the steps, anywhere: the copy is the store at its end.
    fn copied(start: Map, mut batches: std::vec::IntoIter<Vec<(u8, Option<u8>)>>, bytes: usize, held: bool) {
        let record = |len: u8| vec![len; usize::from(len)];
        let (mut store, mut copy, mut exports) = (start, Map::default(), Exports::default());
        let number = exports.begin();
        let mut approaching = held;
        loop {
            let part = if approaching {
                let part = exports.approach(number, bytes, &store).unwrap();
                approaching = part.is_some();
                // What comes now may change everything once more.
                part.unwrap_or(Part { entries: Vec::new(), done: false })
            } else {
                exports.step(number, bytes, &store).unwrap()
            };
            let done = part.done && !approaching;
            apply(&mut copy, part);
            if done {
                break;
            }
            for (key, len) in batches.next().into_iter().flatten() {
                exports.note(&[key]);
                match len {
                    Some(len) => store.0.insert(vec![key], record(len)),
                    None => store.0.remove(&vec![key]),
                };
            }
        }
        assert_eq!(copy.0, store.0);
        assert_eq!(exports.step(number, bytes, &Map::default()), Err(StoreError::ExportLost));
        assert_eq!(exports.approach(number, bytes, &Map::default()), Err(StoreError::ExportLost));
    }

    proptest::proptest! {
        #[test]
        fn a_copy_is_the_store_at_the_moment_it_ends(
            start in proptest::collection::btree_map(proptest::num::u8::ANY, 0_u8..200, 0..150),
            batches in proptest::collection::vec(
                proptest::collection::vec((proptest::num::u8::ANY, proptest::option::of(0_u8..200)), 0..6), 0..40),
            bytes in 1_usize..3000,
            held in proptest::bool::ANY,
        ) {
            let record = |len: u8| vec![len; usize::from(len)];
            let start = Map(start.into_iter().map(|(key, len)| (vec![key], record(len))).collect());
            copied(start, batches.into_iter(), bytes, held);
        }
    }

    #[test]
    fn where_many_changes_wait_they_are_read_before_the_rest() {
        let key = |number: usize| number.to_be_bytes().to_vec();
        let store = Map((0..MAX_CHANGED).map(|number| (key(number), vec![])).collect());
        let mut exports = Exports::default();
        let number = exports.begin();
        let mut read = 0;
        while read < MANY_CHANGED {
            read += exports.step(number, usize::MAX, &store).unwrap().entries.len();
        }
        for changed in 0..MANY_CHANGED {
            exports.note(&key(changed));
        }
        let part = exports.approach(number, usize::MAX, &store).unwrap().unwrap();
        assert_eq!((part.entries.len(), part.done), (MANY_CHANGED, false));
        assert_eq!(part.entries[0].0, key(0));
        let part = exports.approach(number, usize::MAX, &store).unwrap().unwrap();
        assert_eq!(part.entries[0].0, key(read), "and on from where it was");
    }

    #[test]
    fn another_copy_or_too_many_changes_end_a_copy_and_it_says_so() {
        let store = Map(BTreeMap::from([(vec![0], vec![0])]));
        let mut exports = Exports::default();
        let first = exports.begin();
        let second = exports.begin();
        assert_eq!(exports.step(first, 10, &store), Err(StoreError::ExportLost));
        exports.end(first);
        assert!(!exports.step(second, 10, &store).unwrap().done);
        for number in 0..=MAX_CHANGED {
            exports.note(&number.to_be_bytes());
        }
        assert_eq!(exports.step(second, 10, &store), Err(StoreError::ExportLost));
        assert!(exports.step(3, 10, &store).is_err());
    }
}
