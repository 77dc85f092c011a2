//! A copy of the whole store, a part at a time, while changes go on: what the
//! copy has passed and what changed behind it. Where the records are is its caller's
//! business; it runs apart from all writing.
//!
//! First every record is read in the order of the keys; of the changes meanwhile, those
//! of keys that were passed already are noted. Then the noted keys are read again, as
//! long as there are any. The part that leaves none ends the copy: applied in their
//! order, the parts make the store as it was at that moment, with every batch whole.

use std::collections::BTreeSet;

use super::{Listed, StoreError};

/// Records looked at in one step.
const STEP: usize = 64;
/// Keys that may wait to be read again: some 10 MiB.
const MAX_CHANGED: usize = 100_000;

/// A part of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Keys with their values; `None` where there is no record any more.
    pub entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Whether the copy is complete with these.
    pub done: bool,
}

/// Where records are read from.
pub(super) trait Records {
    fn after(&self, key: Option<&[u8]>, limit: usize) -> Result<Listed, StoreError>;
    fn at(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
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

    /// The next part of a copy, of about `bytes` bytes.
    pub(super) fn step(
        &mut self,
        number: u64,
        bytes: usize,
        records: &impl Records,
    ) -> Result<Exported, StoreError> {
        let export = self.current.as_mut().filter(|_| number == self.begun).ok_or(StoreError::ExportLost)?;
        let exported = export.step(bytes, records)?;
        if exported.done {
            self.current = None;
        }
        Ok(exported)
    }
}

impl Export {
    fn step(&mut self, bytes: usize, records: &impl Records) -> Result<Exported, StoreError> {
        let mut budget = Budget(bytes);
        let mut entries = Vec::new();
        if !matches!(self.passed, Passed::Everything) {
            let after = if let Passed::Up(last) = &self.passed { Some(last.as_slice()) } else { None };
            let found = records.after(after, STEP)?;
            let mut all = found.len() < STEP;
            for (key, record) in found {
                if !budget.takes(&key, Some(&record.value)) {
                    all = false;
                    break;
                }
                self.passed = Passed::Up(key.clone());
                entries.push((key, Some(record.value)));
            }
            if all {
                self.passed = Passed::Everything;
            }
            if !entries.is_empty() {
                return Ok(Exported { entries, done: false });
            }
        }
        while let Some(key) = self.changed.first() {
            let value = records.at(key)?;
            if !budget.takes(key, value.as_deref()) {
                break;
            }
            entries.extend(self.changed.pop_first().map(|key| (key, value)));
        }
        Ok(Exported { entries, done: self.changed.is_empty() })
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

    use super::super::Versioned;
    use super::*;

    #[derive(Clone, Default)]
    struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Records for Map {
        fn after(&self, key: Option<&[u8]>, limit: usize) -> Result<Listed, StoreError> {
            let later = self.0.iter().filter(|(k, _)| key.is_none_or(|key| k.as_slice() > key)).take(limit);
            Ok(later.map(|(k, value)| (k.clone(), Versioned { revision: 1, value: value.clone() })).collect())
        }

        fn at(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.0.get(key).cloned())
        }
    }

    fn apply(copy: &mut Map, part: Exported) {
        for (key, value) in part.entries {
            match value {
                Some(value) => copy.0.insert(key, value),
                None => copy.0.remove(&key),
            };
        }
    }

    proptest::proptest! {
        /// Batches of changes between the steps, anywhere: the copy is the store at its end.
        #[test]
        fn a_copy_is_the_store_at_the_moment_it_ends(
            start in proptest::collection::btree_map(proptest::num::u8::ANY, 0_u8..200, 0..150),
            batches in proptest::collection::vec(
                proptest::collection::vec((proptest::num::u8::ANY, proptest::option::of(0_u8..200)), 0..6), 0..40),
            bytes in 1_usize..3000,
        ) {
            let record = |len: u8| vec![len; usize::from(len)];
            let mut store = Map(start.into_iter().map(|(key, len)| (vec![key], record(len))).collect());
            let mut exports = Exports::default();
            let (mut copy, mut batches) = (Map::default(), batches.into_iter());
            let number = exports.begin();
            loop {
                let part = exports.step(number, bytes, &store).unwrap();
                let done = part.done;
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
            proptest::prop_assert_eq!(copy.0, store.0);
            proptest::prop_assert_eq!(exports.step(number, bytes, &Map::default()), Err(StoreError::ExportLost));
        }
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
