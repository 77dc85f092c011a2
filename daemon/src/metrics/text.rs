//! Families and samples as text: the lines are the exporter's; what is in them is
//! decided here. Labels are names out of tables and the checked configuration
//! (letters, digits, `_` and `-`), so there is nothing to escape.

use std::fmt::Display;

use metrics::{Key, Label};
use metrics_exporter_prometheus::{LabelSet, formatting};

use super::families::Family;
use super::{BOUNDS, Snapshot};

/// The text being written.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// Starts a family; its samples follow.
    pub(super) fn family(&mut self, family: &'static Family) -> Samples<'_> {
        formatting::write_help_line(&mut self.0, family.name, None, None, family.help);
        formatting::write_type_line(&mut self.0, family.name, None, None, family.kind.name());
        Samples { text: &mut self.0, family }
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A family whose samples are being written.
pub(super) struct Samples<'t> {
    text: &'t mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// A number; `labels` are the values of the family's labels, in order.
    pub(super) fn sample(&mut self, labels: &[&str], value: impl Display) -> &mut Self {
        let labels = self.labels(labels);
        self.line(None, &labels, None, value);
        self
    }

    /// A histogram: its buckets, its sum, its count.
    pub(super) fn histogram(&mut self, labels: &[&str], snapshot: &Snapshot) -> &mut Self {
        let labels = self.labels(labels);
        for (bound, count) in BOUNDS.iter().zip(snapshot.up_to) {
            self.line(Some("bucket"), &labels, Some(&seconds(*bound)), count);
        }
        self.line(Some("bucket"), &labels, Some("+Inf"), snapshot.count());
        self.line(Some("sum"), &labels, None, snapshot.sum.as_secs_f64());
        self.line(Some("count"), &labels, None, snapshot.count());
        self
    }

    fn labels(&self, values: &[&str]) -> LabelSet {
        let pairs = self.family.labels.iter().zip(values);
        let labels: Vec<Label> = pairs.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        #[allow(clippy::default_trait_access)] // its type is another crate's
        let none = Default::default();
        LabelSet::from_key_and_global(&Key::from_parts(self.family.name, labels), &none)
    }

    fn line(
        &mut self,
        suffix: Option<&'static str>,
        labels: &LabelSet,
        bound: Option<&str>,
        value: impl Display,
    ) {
        let bound = bound.map(|bound| ("le", bound));
        formatting::write_metric_line(self.text, self.family.name, suffix, labels, bound, value, None);
    }
}

/// Nanoseconds as seconds, in as few digits as they need.
fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Histogram, families};
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_family_is_its_help_its_type_and_its_samples() {
        let mut text = Text::default();
        text.family(&families::MEMBER_STATE).sample(&["a-1_b", "up"], 1).sample(&["b", "down"], 0);
        let wanted = "\
# HELP claviger_member_state 1 for the state that the member is in, 0 for others.
# TYPE claviger_member_state gauge
claviger_member_state{member=\"a-1_b\",state=\"up\"} 1
claviger_member_state{member=\"b\",state=\"down\"} 0
";
        assert_eq!(text.finish(), wanted);
    }

    #[test]
    fn a_histogram_has_cumulative_buckets_a_sum_and_a_count() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_nanos(1_500));
        histogram.record(Duration::from_mins(1));
        let mut text = Text::default();
        text.family(&families::STORE_SYNC).histogram(&[], &histogram.snapshot());
        let text = text.finish();
        for line in [
            "claviger_store_sync_seconds_bucket{le=\"0.000001\"} 0",
            "claviger_store_sync_seconds_bucket{le=\"0.000002\"} 1",
            "claviger_store_sync_seconds_bucket{le=\"0.5\"} 1",
            "claviger_store_sync_seconds_bucket{le=\"10\"} 1",
            "claviger_store_sync_seconds_bucket{le=\"+Inf\"} 2",
            "claviger_store_sync_seconds_sum 60.0000015",
            "claviger_store_sync_seconds_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
