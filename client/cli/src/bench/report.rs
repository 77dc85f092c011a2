//! What a run found, as JSON and as text.

use std::fmt::Write;

use serde::Serialize;

use super::figures::{Errors, Figures, median};
use super::in_process::Speed;
use crate::output::table;

/// One run. Field names are a contract: they stay, and new ones may join.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) operation: &'static str,
    pub(crate) key: Option<String>,
    pub(crate) spec: Option<&'static str>,
    pub(crate) algorithm: Option<&'static str>,
    pub(crate) level: Option<&'static str>,
    pub(crate) clients: u32,
    pub(crate) depth: u32,
    pub(crate) batch: u32,
    pub(crate) size: u32,
    pub(crate) rounds: usize,
    /// Calls that went well while it was measured.
    pub(crate) calls: u64,
    /// The daemon's figures: medians of the rounds.
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Calls that failed, warm-up included.
    pub(crate) errors: u64,
    pub(crate) errors_by_code: Errors,
    /// Replies that were compared with what they must be; one that differs ends the run.
    pub(crate) replies_checked: u32,
    pub(crate) echo: Option<Figures>,
    pub(crate) in_process: Option<Speed>,
    pub(crate) ratios: Ratios,
    /// What a reader must know beside the figures, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// The daemon against its baselines; none where there is no baseline.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ratios {
    /// p50 here over p50 of the bare echo: 1 is the best there can be.
    pub(crate) echo_p50: Option<f64>,
    /// Frames a second here over frames a second of the bare echo.
    pub(crate) echo_ops: Option<f64>,
    /// Calls a second here over calls a second in-process in one thread.
    pub(crate) in_process_ops: Option<f64>,
}

impl Ratios {
    /// The medians of each round's own ratio: what disturbed a round disturbed both.
    pub(crate) fn beside_echo(&mut self, daemon: &[Figures], echo: &[Figures]) {
        let of = |figure: fn(&Figures) -> f64| {
            let pairs = daemon.iter().zip(echo).filter(|(_, echo)| figure(echo) > 0.0);
            let ratios: Vec<f64> = pairs.map(|(daemon, echo)| figure(daemon) / figure(echo)).collect();
            (!ratios.is_empty()).then(|| median(ratios))
        };
        self.echo_p50 = of(|figures| figures.p50_us);
        self.echo_ops = of(|figures| figures.ops_per_second);
    }

    pub(crate) fn beside_in_process(&mut self, daemon: &Figures, in_process: &Speed) {
        self.in_process_ops =
            (in_process.ops_per_second > 0.0).then(|| daemon.ops_per_second / in_process.ops_per_second);
    }
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let kind: Vec<_> = [self.spec, self.level].into_iter().flatten().collect();
        let under =
            self.key.as_ref().map_or(String::new(), |key| format!(" under {key} ({})", kind.join(", ")));
        let how = self.algorithm.map_or(String::new(), |algorithm| format!(" by {algorithm}"));
        let (plural, batch) = (if self.clients == 1 { "" } else { "s" }, self.batch);
        let _ = writeln!(
            out,
            "{}{how}, {} bytes{under}: {} client{plural}, depth {}{}, medians of {} rounds",
            self.operation,
            self.size,
            self.clients,
            self.depth,
            if batch == 1 { String::new() } else { format!(", batches of {batch}") },
            self.rounds,
        );
        out.push_str(&self.rows());
        for line in self.ratio_lines() {
            let _ = writeln!(out, "{line}");
        }
        let _ = writeln!(
            out,
            "{} calls, {}; {} replies compared, all right",
            self.calls,
            self.failed(),
            self.replies_checked
        );
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }

    /// How many calls failed, with their codes.
    pub(crate) fn failed(&self) -> String {
        if self.errors == 0 {
            return "no errors".to_owned();
        }
        let codes: Vec<_> =
            self.errors_by_code.iter().map(|(code, number)| format!("{number} {code}")).collect();
        format!("{} ERRORS ({})", self.errors, codes.join(", "))
    }

    fn rows(&self) -> String {
        let row = |name: &str, rate: f64, times: [Option<f64>; 4]| {
            let times = times.map(|time| time.map_or("-".to_owned(), |time| format!("{time:.1}")));
            [name.to_owned(), format!("{rate:.0}")].into_iter().chain(times).collect::<Vec<_>>()
        };
        let full = |name, f: &Figures| {
            row(name, f.ops_per_second, [f.p50_us, f.p99_us, f.p99_9_us, f.max_us].map(Some))
        };
        let mut rows = vec![full("claviger", &self.figures)];
        rows.extend(self.echo.as_ref().map(|echo| full("bare echo", echo)));
        rows.extend(self.in_process.as_ref().map(|speed| {
            row("in-process", speed.ops_per_second, [Some(speed.p50_us), Some(speed.p99_us), None, None])
        }));
        table(&["", "OPS/S", "P50 µs", "P99 µs", "P99.9 µs", "MAX µs"], &rows)
    }

    fn ratio_lines(&self) -> Vec<String> {
        let ratios = &self.ratios;
        let echo = ratios.echo_p50.zip(ratios.echo_ops).map(|(p50, rate)| {
            format!("p50 is {p50:.2} times the bare echo's, the rate {:.1}% of it", rate * 100.0)
        });
        let in_process = ratios
            .in_process_ops
            .zip(self.in_process.as_ref())
            .map(|(rate, speed)| format!("the rate is {:.1}% of {} in one thread", rate * 100.0, speed.name));
        echo.into_iter().chain(in_process).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rate: f64, time: f64) -> Figures {
        Figures { ops_per_second: rate, p50_us: time, p99_us: time, p99_9_us: time, max_us: time }
    }

    #[test]
    fn ratios_are_medians_of_the_rounds_own() {
        let mut ratios = Ratios::default();
        // The second round was disturbed, and both sides with it.
        let daemon = [figures(50.0, 20.0), figures(10.0, 200.0), figures(40.0, 30.0)];
        let echo = [figures(100.0, 10.0), figures(20.0, 100.0), figures(100.0, 10.0)];
        ratios.beside_echo(&daemon, &echo);
        assert_eq!((ratios.echo_p50, ratios.echo_ops), (Some(2.0), Some(0.5)));
        ratios.beside_echo(&daemon, &[]);
        assert_eq!((ratios.echo_p50, ratios.echo_ops), (None, None));
    }

    #[test]
    fn the_text_says_what_was_measured_and_what_failed() {
        let speed =
            Speed { name: "token_encrypt".to_owned(), ops_per_second: 400.0, p50_us: 2.5, p99_us: 4.0 };
        let mut report = Report {
            operation: "encrypt",
            key: Some("alias/a".to_owned()),
            spec: Some("AES_256"),
            algorithm: None,
            level: Some("HSM"),
            clients: 2,
            depth: 8,
            batch: 4,
            size: 32,
            rounds: 3,
            calls: 7,
            figures: figures(200.0, 20.0),
            errors: 0,
            errors_by_code: Errors::new(),
            replies_checked: 4,
            echo: Some(figures(1000.0, 10.0)),
            in_process: Some(speed),
            ratios: Ratios { echo_p50: Some(2.0), echo_ops: Some(0.2), in_process_ops: Some(0.5) },
            notes: vec!["made alias/a".to_owned()],
        };
        let text = "\
encrypt, 32 bytes under alias/a (AES_256, HSM): 2 clients, depth 8, batches of 4, medians of 3 rounds
            OPS/S  P50 µs  P99 µs  P99.9 µs  MAX µs
claviger    200    20.0    20.0    20.0      20.0
bare echo   1000   10.0    10.0    10.0      10.0
in-process  400    2.5     4.0     -         -
p50 is 2.00 times the bare echo's, the rate 20.0% of it
the rate is 50.0% of token_encrypt in one thread
7 calls, no errors; 4 replies compared, all right
note: made alias/a
";
        assert_eq!(report.text(), text);
        report.errors = 3;
        report.errors_by_code = Errors::from([("Busy", 1), ("Throttled", 2)]);
        assert!(report.text().contains("7 calls, 3 ERRORS (1 Busy, 2 Throttled);"), "{}", report.text());
    }
}
