//! Buffers of connections: wiped when they go, and paid for out of one budget of
//! bytes for the whole daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_protocol::limits::HEADER_LEN;
use zeroize::Zeroize;

/// Bytes that a connection's input buffer has while nothing larger is on its way.
const BASE: usize = 16 * 1024;

/// Bytes that all buffers may hold together.
pub struct Budget {
    used: AtomicUsize,
    total: usize,
}

impl Budget {
    /// A budget of `total` bytes.
    #[must_use]
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), total })
    }

    fn take(&self, bytes: usize) -> bool {
        let grown = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.total);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, grown).is_ok()
    }

    /// Counts bytes that are there already, room or not: what was reserved for them
    /// is given back in the same breath.
    fn count(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Bytes that there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// Bytes kept free for the replies of calls that run.
pub(super) struct Reserved {
    bytes: usize,
    budget: Arc<Budget>,
}

impl Reserved {
    pub(super) fn none(budget: &Arc<Budget>) -> Self {
        Self { bytes: 0, budget: Arc::clone(budget) }
    }

    /// Keeps so many bytes more; `false` where the budget has none.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let kept = self.budget.take(bytes);
        self.bytes += if kept { bytes } else { 0 };
        kept
    }

    pub(super) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.give_back(bytes);
    }

    pub(super) fn is_none(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// What a connection has read and not yet taken apart: a window on a buffer.
pub struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    budget: Arc<Budget>,
}

impl Input {
    /// The smallest buffer; none where the budget has no room for it.
    pub fn new(budget: &Arc<Budget>) -> Option<Self> {
        let empty = Self { bytes: Vec::new(), start: 0, end: 0, budget: Arc::clone(budget) };
        let mut input = budget.take(BASE).then_some(empty)?;
        input.bytes = vec![0; BASE];
        Some(input)
    }

    /// What was read and not consumed.
    pub fn window(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Where to read to; empty only if the buffer is full.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.resize(BASE);
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were read into the space.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// So many bytes of the window are done with: they are wiped.
    pub fn consume(&mut self, count: usize) {
        let upto = (self.start + count).min(self.end);
        self.bytes[self.start..upto].zeroize();
        self.start = upto;
    }

    /// Makes room for a frame with so many bytes after its header; `false` where
    /// the budget has none.
    pub fn fit(&mut self, length: usize) -> bool {
        let whole = HEADER_LEN + length;
        whole <= self.bytes.len() || self.resize(whole)
    }

    fn resize(&mut self, len: usize) -> bool {
        if len == self.bytes.len() {
            return true;
        }
        if len > self.bytes.len() {
            if !self.budget.take(len - self.bytes.len()) {
                return false;
            }
        } else {
            self.budget.give_back(self.bytes.len() - len);
        }
        let mut bytes = vec![0; len];
        let kept = self.end - self.start;
        bytes[..kept].copy_from_slice(self.window());
        let mut old = std::mem::replace(&mut self.bytes, bytes);
        old.zeroize();
        (self.start, self.end) = (0, kept);
        true
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.len());
        self.bytes.zeroize();
    }
}

/// Replies that wait for the socket.
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    counted: usize,
    budget: Arc<Budget>,
}

impl Output {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), sent: 0, counted: 0, budget: Arc::clone(budget) }
    }

    /// Counts what was written to the tail.
    pub(super) fn count(&mut self) {
        self.budget.count(self.bytes.len() - self.counted);
        self.counted = self.bytes.len();
    }

    /// Where replies are written to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What the socket hasn't taken yet.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The socket took so many bytes.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.bytes.as_mut_slice().zeroize();
            self.bytes.clear();
            self.sent = 0;
            self.bytes.shrink_to(BASE);
            self.budget.give_back(std::mem::take(&mut self.counted));
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.budget.give_back(self.counted);
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_one_for_all_and_comes_back() {
        let budget = Budget::new(BASE * 2 + 100);
        let mut first = Input::new(&budget).unwrap();
        let second = Input::new(&budget).unwrap();
        assert!(Input::new(&budget).is_none());
        assert!(!first.fit(BASE * 2));
        assert!(first.fit(BASE + 50 - HEADER_LEN));
        drop(second);
        assert!(first.fit(BASE * 2 - HEADER_LEN));
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_window_survives_growth_and_compaction() {
        let budget = Budget::new(1 << 20);
        let mut input = Input::new(&budget).unwrap();
        let fill = |input: &mut Input, byte: u8, count: usize| {
            input.space()[..count].fill(byte);
            input.filled(count);
        };
        fill(&mut input, 1, BASE);
        input.consume(BASE - 3);
        assert!(input.fit(BASE * 2));
        assert_eq!(input.window(), [1, 1, 1]);
        fill(&mut input, 2, 5);
        assert_eq!(input.window(), [1, 1, 1, 2, 2, 2, 2, 2]);
        input.consume(8);
        assert_eq!(input.space().len(), BASE);
    }

    #[test]
    fn output_is_wiped_and_forgotten_once_sent() {
        let budget = Budget::new(100);
        let mut output = Output::new(&budget);
        output.tail().extend_from_slice(b"abcdef");
        output.count();
        assert_eq!(budget.used(), 6);
        output.sent(2);
        assert_eq!(output.unsent(), b"cdef");
        output.sent(4);
        assert!(output.unsent().is_empty());
        assert!(output.tail().is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn replies_are_reserved_before_they_are_made() {
        let budget = Budget::new(10);
        let mut reserved = Reserved::none(&budget);
        assert!(reserved.grow(7));
        assert!(!reserved.grow(4));
        reserved.shrink(5);
        assert!(reserved.grow(4) && !reserved.is_none());
        drop(reserved);
        assert_eq!(budget.used(), 0);
    }
}
