//! How far long work has come, on standard error where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Screen;

/// With a known whole. No colours, so that there are none to switch off.
const BAR: &str = "{msg} [{bar:30}] {pos}/{len} {prefix}";
/// How often a bar is drawn anew without news, for the time that it shows.
const TICK: Duration = Duration::from_millis(250);

/// A bar that is gone when it is dropped. It never reaches a pipe, nor stands beside
/// `--json`.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// `what` is being done, to `whole` of `unit`; the whole may turn out larger.
    pub(crate) fn new(screen: Screen, what: &'static str, whole: u64, unit: &'static str) -> Self {
        let target =
            if screen.is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(whole), target).with_message(what).with_prefix(unit);
        // A constant template is a good one, and the default is no harm.
        bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// So much is done.
    pub(crate) fn at(&self, done: u64) {
        if self.0.length().is_some_and(|whole| whole < done) {
            self.0.set_length(done);
        }
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
