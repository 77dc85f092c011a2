//! Transcripts of what programs print, compared with files that people read and review.
//!
//! What differs from run to run (ids, times, versions, paths, long base64) is masked.
//! To record a wanted change: `CLAVIGER_RECORD=1 cargo nextest run …`, and read the diff.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::programs::run_with_input;

/// Base64 from this length on is masked.
const LONG: usize = 40;
/// `d` is a digit, `x` a hex digit, anything else is itself.
const UUID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
const TIME: &str = "dddd-dd-ddTdd:dd:dd.dddZ";

/// A transcript in the making, and the file it has to equal.
#[derive(Debug)]
pub struct Golden {
    name: &'static str,
    text: String,
    masks: Vec<(String, String)>,
    ids: Vec<String>,
}

impl Golden {
    /// For `tests/snapshots/NAME.txt`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, text: String::new(), masks: Vec::new(), ids: Vec::new() }
    }

    /// From now on `text` is written as `shown`.
    pub fn mask(&mut self, text: &str, shown: &str) {
        self.masks.push((text.to_owned(), shown.to_owned()));
    }

    /// A heading between commands.
    pub fn say(&mut self, heading: &str) {
        let _ = writeln!(self.text, "== {heading}\n");
    }

    /// Runs a command, writes down what it printed and its exit code, and gives it back.
    pub fn run(&mut self, shown: &str, command: &mut Command, input: &[u8]) -> Output {
        let output = run_with_input(command, input);
        let shown = self.masked(shown);
        let _ = writeln!(self.text, "$ {shown}");
        let stdout = printed(&output.stdout);
        self.stream("", &stdout);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        self.stream("! ", &stderr);
        if !output.status.success() {
            let _ = writeln!(self.text, "[{}]", output.status);
        }
        self.text.push('\n');
        output
    }

    fn stream(&mut self, mark: &str, text: &str) {
        for line in self.masked(text).lines() {
            let _ = writeln!(self.text, "{mark}{}", measured(line));
        }
    }

    /// The text without what differs from run to run.
    fn masked(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.masks {
            text = text.replace(from, to);
        }
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
            let taken = if fits(UUID, rest) {
                out.push_str(&self.id(&rest[..UUID.len()]));
                UUID.len()
            } else if fits(TIME, rest) {
                out.push_str("<time>");
                TIME.len()
            } else if word >= LONG {
                let _ = write!(out, "<{word} characters>");
                word
            } else {
                let part = if word > 0 && !fits("xxxxxxxx-", rest) { word } else { first.len_utf8() };
                out.push_str(&rest[..part]);
                part
            };
            rest = &rest[taken..];
        }
        out
    }

    /// Ids are numbered as they appear, so that a transcript says which are the same.
    fn id(&mut self, id: &str) -> String {
        if id.chars().all(|c| c == '0' || c == '-') {
            return "<no id>".to_owned();
        }
        let known = self.ids.iter().position(|known| known == id);
        let index = known.unwrap_or_else(|| {
            self.ids.push(id.to_owned());
            self.ids.len() - 1
        });
        format!("<id {}>", index + 1)
    }

    /// Compares with the recorded file, or records.
    pub fn finish(self) {
        compare(self.name, &self.text);
    }
}

/// Compares a text with `tests/snapshots/NAME.txt`, or records it.
pub fn compare(name: &str, now: &str) {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots")).join(format!("{name}.txt"));
    if std::env::var_os("CLAVIGER_RECORD").is_some() {
        std::fs::write(&file, now).expect("the snapshot can be written");
        return;
    }
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    for (number, (was, is)) in recorded.lines().zip(now.lines()).enumerate() {
        assert_eq!(was, is, "{}:{}: CLAVIGER_RECORD=1 records a wanted change", file.display(), number + 1);
    }
    assert_eq!(recorded.lines().count(), now.lines().count(), "{}: lines", file.display());
}

/// Standard output for people: JSON over several lines, bytes as their number.
fn printed(bytes: &[u8]) -> String {
    if let Ok(object) = serde_json::from_slice::<Value>(bytes)
        && object.is_object()
    {
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1, "--json prints one line");
        return serde_json::to_string_pretty(&object).expect("JSON stays JSON");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("<{} bytes>", bytes.len()),
    }
}

/// A line without what was measured: the value of a field that names a measure.
fn measured(line: &str) -> String {
    let fields = [
        "\"uptime_ms\"",
        "\"round_trip_us\"",
        "\"bytes\"",
        "\"records\"",
        "bytes  ",
        "records  ",
        "uptime  ",
        "\"next_page\": \"",
        "there are more: --page ",
    ];
    let start = line.trim_start();
    if let Some(field) = fields.iter().find(|field| start.starts_with(**field)) {
        let comma = if line.ends_with(',') { "," } else { "" };
        let field = field.trim_end_matches([' ', '"', ':']);
        return format!("{}{field} <varies>{comma}", &line[..line.len() - start.len()]);
    }
    match line.split_once(" answered in ") {
        Some((before, _)) => format!("{before} answered in <varies>"),
        None => line.trim_end().to_owned(),
    }
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_".contains(c)
}

/// Whether `text` begins with what `pattern` describes.
fn fits(pattern: &str, text: &str) -> bool {
    let mut chars = text.chars();
    pattern.chars().all(|expected| {
        chars.next().is_some_and(|c| match expected {
            'd' => c.is_ascii_digit(),
            'x' => c.is_ascii_hexdigit(),
            other => c == other,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_masked_and_nothing_else() {
        let mut golden = Golden::new("none");
        golden.mask("/tmp/x1", "DIR");
        let (one, two) = ("01234567-89ab-cdef-0123-456789abcdef", "11234567-89ab-cdef-0123-456789abcdef");
        let text = format!("{one} {two}, {one} at 2026-11-22T10:20:30.123Z in /tmp/x1/admin.sock");
        assert_eq!(golden.masked(&text), "<id 1> <id 2>, <id 1> at <time> in DIR/admin.sock");
        assert_eq!(golden.masked(&format!("\"{}=\"", "a".repeat(43))), "\"<44 characters>\"");
        let plain = "claviger: Usage: 2026 keys, deadbeef-1, 司钥 100-200\n";
        assert_eq!(golden.masked(plain), plain);
        assert_eq!(measured("  \"uptime_ms\": 12,"), "  \"uptime_ms <varies>,");
        assert_eq!(measured("uptime               3s"), "uptime <varies>");
        assert_eq!(printed(&[0xff, 0, 1]), "<3 bytes>");
    }
}
