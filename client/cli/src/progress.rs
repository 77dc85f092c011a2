//! How far long work has come, on standard error where that is a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(100);

/// A line that is overwritten while work goes on, and gone when it is dropped.
pub(crate) struct Progress {
    what: &'static str,
    shown: Option<Instant>,
    on: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, shown: None, on: io::stderr().is_terminal() }
    }

    /// Shows how much is done.
    pub(crate) fn at(&mut self, done: u64, unit: &str) {
        if self.on && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            let _ = write!(io::stderr(), "\r{}: {done} {unit}", self.what);
            self.shown = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            // Back to the line's start, and erase it (ECMA-48 EL).
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
