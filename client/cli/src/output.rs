//! How results are printed: one JSON object, or aligned text for people.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::color::{Paint, for_stdout};
use crate::failure::Failure;
use crate::files;

/// The last millisecond of the year 9999, which RFC 3339 can still write.
const LAST_TIME_MS: i64 = 253_402_300_799_999;

/// How the user wants to see results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    json: bool,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `object` under `--json`, else what `text` makes of it.
    pub(crate) async fn show<T: Serialize>(
        self,
        object: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let bytes = if self.json { to_json(object)? } else { Zeroizing::new(for_stdout(&text(object))) };
        files::to_stdout(bytes).await
    }
}

/// The cell, in the colour of what it says where it is a state.
fn painted(name: &str, text: &str, padded: String) -> String {
    let paint = if name.eq_ignore_ascii_case("state") { Paint::of_state(text) } else { None };
    match paint {
        Some(paint) => paint.on(&padded),
        None => padded,
    }
}

/// The object's line, in one allocation: it may hold a plaintext.
fn to_json<T: Serialize>(object: &T) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let internal = |error: serde_json::Error| Failure::local("Internal", error.to_string());
    let mut count = Count(0);
    serde_json::to_writer(&mut count, object).map_err(internal)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(count.0 + 1));
    serde_json::to_writer(&mut *bytes, object).map_err(internal)?;
    bytes.push(b'\n');
    Ok(bytes)
}

struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text that may be secret: wiped when dropped.
pub(crate) struct Text(Zeroizing<String>);

impl Text {
    /// Bytes as standard base64 with padding (RFC 4648 section 4).
    pub(crate) fn base64(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(STANDARD.encode(bytes)))
    }

    /// What is text already.
    pub(crate) fn plain(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Milliseconds since the Unix epoch as RFC 3339 in UTC; a time outside of the
/// years 1970 to 9999 is shown as the nearest within.
pub(crate) fn time(ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(ms.min(LAST_TIME_MS)).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// The text without control characters, which could move the cursor or start a new line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `name  value` lines, aligned; entries without a value are left out.
pub(crate) fn fields(entries: &[(&str, Option<String>)]) -> String {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in entries {
        if let Some(value) = value {
            let value = one_line(value);
            let _ = writeln!(out, "{name:width$}  {}", painted(name, &value, value.clone()));
        }
    }
    out
}

/// A table with a heading, columns as wide as their widest cell.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let lines = || std::iter::once(&heading).chain(rows);
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| lines().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in lines() {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .zip(&heading)
            .map(|((cell, &width), name)| {
                let cell = one_line(cell);
                painted(name, &cell, format!("{cell:width$}"))
            })
            .collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_never_panic() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_790_000_000_123), "2026-09-21T14:13:20.123Z");
        assert_eq!(time(i64::MIN), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn text_is_aligned_by_characters_and_keeps_to_its_line() {
        let rows = vec![vec!["司钥".into(), "1".into()], vec!["abc\x1b[2J".into(), "two\nlines".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME     N\n司钥       1\nabc [2J  two lines\n");
        assert_eq!(
            fields(&[("a", Some("x".into())), ("none", None), ("bcd", Some("y".into()))]),
            "a     x\nbcd   y\n"
        );
    }

    #[test]
    fn states_have_colours_where_they_are_states() {
        let rows = vec![vec!["up".into(), "up".into()], vec!["down".into(), "x".into()]];
        let shown = table(&["NAME", "STATE"], &rows);
        assert_eq!(shown.matches('\x1b').count(), 2, "{shown:?}");
        assert!(shown.contains(&Paint::Good.on("up   ")), "{shown:?}");
        assert!(fields(&[("state", Some("locked".into()))]).contains(&Paint::Bad.on("locked")));
        assert_eq!(for_stdout(&shown), anstream::adapter::strip_str(&shown).to_string().into_bytes());
    }

    #[test]
    fn json_is_one_line_of_the_exact_size() {
        let bytes = to_json(&Text::base64(b"\xfb\xff")).unwrap();
        assert_eq!(bytes.as_slice(), b"\"+/8=\"\n");
        assert_eq!(bytes.capacity(), bytes.len());
    }
}
