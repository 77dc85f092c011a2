//! TOML as it was written: tables and values that know their line and key path,
//! and readers that report what was found against what was expected. No meaning
//! of any key lives here; that is `check`'s and `limits`'s.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::Problem;

/// Longest value shown in a problem, in characters.
const SHOWN_CHARS: usize = 80;
/// Units of a size.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Something is wrong and the [`Report`] says what: only reporting makes one, so
/// nothing is refused without a reason.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported(());

/// A value, or the word that it was reported.
pub(super) type Checked<T> = Result<T, Reported>;

/// Every problem of one file, as found.
pub(super) struct Report<'t> {
    file: &'t str,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, problems: RefCell::default() }
    }

    /// The line, from 1, that byte `offset` is in.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.split(|byte| *byte == b'\n').count().saturating_sub(1)
    }

    /// Notes a problem.
    pub(super) fn add(
        &self,
        line: Option<usize>,
        key: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Reported {
        let (found, expected) = (found.into(), expected.into());
        let (file, key) = (self.file.to_owned(), key.to_owned());
        self.problems.borrow_mut().push(Problem { file, line, key, found, expected });
        Reported(())
    }

    /// Parses the text and hands its root table to `read`: what that makes, or
    /// every problem in the order of the file.
    pub(super) fn read<T>(self, read: impl FnOnce(Table<'_, 't>) -> Checked<T>) -> Result<T, Vec<Problem>> {
        let result = match DeTable::parse(self.text) {
            Ok(root) => read(Table::new(&self, String::new(), None, false, root.get_ref())),
            Err(error) => Err(self.add_syntax(&error)),
        };
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        match result {
            Ok(value) if problems.is_empty() => Ok(value),
            _ => Err(problems),
        }
    }

    /// The parser's message, without the excerpt of the file that its Display has:
    /// a PIN may be on that line.
    fn add_syntax(&self, error: &toml::de::Error) -> Reported {
        let span = error.span();
        let line = span.as_ref().map(|span| self.line(span.start));
        if error.message() == "duplicate key" {
            let key = span.and_then(|span| self.text.get(span)).unwrap_or_default();
            return self.add(line, key, "the key a second time", "each key once");
        }
        match error.message().split_once(", expected ") {
            Some((found, expected)) if expected != "nothing" => self.add(line, "", found, expected),
            Some((found, _)) => self.add(line, "", found, "TOML without it"),
            None => self.add(line, "", error.message(), "TOML"),
        }
    }
}

/// A table being read. Keys are asked for by name; what is left over is unknown.
pub(super) struct Table<'r, 't> {
    report: &'r Report<'t>,
    path: String,
    line: Option<usize>,
    hidden: bool,
    left: BTreeMap<&'r str, (usize, &'r DeValue<'r>)>,
    known: Vec<&'static str>,
}

impl<'r, 't> Table<'r, 't> {
    fn new(
        report: &'r Report<'t>,
        path: String,
        line: Option<usize>,
        hidden: bool,
        table: &'r DeTable<'r>,
    ) -> Self {
        let left = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), (report.line(key.span().start), value.get_ref())))
            .collect();
        Self { report, path, line, hidden, left, known: Vec::new() }
    }

    /// The path of `key` in this table.
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry<'r, 't>> {
        self.known.push(key);
        let (line, value) = self.left.remove(key)?;
        let (path, hidden) = (self.path_of(key), self.hidden);
        Some(Entry { report: self.report, path, line, hidden, value })
    }

    /// The value of `key` through `read`, or `default` without the key.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Entry<'r, 't>) -> Checked<T>,
    ) -> Checked<T> {
        self.take(key).map_or(Ok(default), |entry| read(&entry))
    }

    /// The value of `key`; without the key, `expected` is missed.
    pub(super) fn entry(&mut self, key: &'static str, expected: &str) -> Checked<Entry<'r, 't>> {
        self.take(key).ok_or_else(|| self.missing(key, expected))
    }

    /// The value of `key` through `read`; without the key, `expected` is missed.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Entry<'r, 't>) -> Checked<T>,
    ) -> Checked<T> {
        self.entry(key, expected).and_then(|entry| read(&entry))
    }

    /// Reports that `key` is missing.
    pub(super) fn missing(&self, key: &str, expected: &str) -> Reported {
        self.report.add(self.line, &self.path_of(key), "nothing", expected)
    }

    /// Reports a problem with the table as a whole.
    pub(super) fn refuse(&self, found: impl Into<String>, expected: impl Into<String>) -> Reported {
        self.report.add(self.line, &self.path, found, expected)
    }

    /// Ends the reading: every key that was not asked for is unknown.
    pub(super) fn finish(self) -> Checked<()> {
        let expected = match self.known.as_slice() {
            [] => "no keys here in this version".to_owned(),
            [only] => format!("only {only}"),
            known => format!("one of {}", known.join(", ")),
        };
        let mut result = Ok(());
        for (key, (line, _)) in &self.left {
            result =
                Err(self.report.add(Some(*line), &self.path_of(key), "an unknown key", expected.as_str()));
        }
        result
    }
}

/// One value, with its place in the file.
pub(super) struct Entry<'r, 't> {
    report: &'r Report<'t>,
    path: String,
    line: usize,
    hidden: bool,
    value: &'r DeValue<'r>,
}

impl<'r, 't> Entry<'r, 't> {
    /// The same, but what it holds is never shown: a PIN may have been put there by mistake.
    pub(super) fn hide(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Reports that this value is not what was expected.
    pub(super) fn refuse(&self, expected: impl Into<String>) -> Reported {
        self.report.add(Some(self.line), &self.path, self.shown(), expected)
    }

    /// The value as problems show it.
    fn shown(&self) -> String {
        match self.value {
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            value if self.hidden => format!("a {} (not shown)", value.type_str()),
            DeValue::String(text) => {
                let start: String = text.chars().take(SHOWN_CHARS).collect();
                if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
            }
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(value) => value.to_string(),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Checked<bool> {
        self.value.as_bool().ok_or_else(|| self.refuse("true or false"))
    }

    /// A string that `accept` takes; `expected` says which those are.
    pub(super) fn string(&self, expected: &str, accept: impl Fn(&str) -> bool) -> Checked<&'r str> {
        self.value.as_str().filter(|text| accept(text)).ok_or_else(|| self.refuse(expected))
    }

    /// Strings, one at least, without control characters.
    pub(super) fn strings(&self, expected: &str) -> Checked<Vec<String>> {
        let all: Option<Vec<String>> = self.value.as_array().and_then(|array| {
            let texts = array.iter().map(|value| value.get_ref().as_str());
            texts.map(|text| text.filter(|text| is_plain(text)).map(str::to_owned)).collect()
        });
        all.filter(|texts| !texts.is_empty()).ok_or_else(|| self.refuse(expected))
    }

    /// An absolute path without `..`, so that it names one place wherever the
    /// daemon is started, and comparing paths means something.
    pub(super) fn path(&self) -> Checked<PathBuf> {
        let plain = |text: &str| {
            let path = Path::new(text);
            is_plain(text)
                && path.is_absolute()
                && !path.components().any(|part| part == Component::ParentDir)
        };
        // Collected from its components: `/a//b/./c` is `/a/b/c`.
        self.string("an absolute path without '..'", plain).map(|text| Path::new(text).components().collect())
    }

    /// A whole number of 0 and more.
    fn integer(&self) -> Option<u64> {
        let number = self.value.as_integer()?;
        u64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// A number within `bounds`.
    pub(super) fn count(&self, bounds: &RangeInclusive<u64>) -> Checked<u64> {
        let within = self.integer().filter(|number| bounds.contains(number));
        within
            .ok_or_else(|| self.refuse(format!("a whole number from {} to {}", bounds.start(), bounds.end())))
    }

    /// A number of bytes within `bounds`: an integer, or a string with a unit.
    pub(super) fn size(&self, bounds: &RangeInclusive<u64>) -> Checked<u64> {
        let number = self.value.as_str().map_or_else(|| self.integer(), parse_size);
        number.filter(|number| bounds.contains(number)).ok_or_else(|| {
            let (least, most) = (show_size(*bounds.start()), show_size(*bounds.end()));
            self.refuse(format!("a size such as 65536 or \"64KiB\", from {least} to {most}"))
        })
    }

    /// A duration within `bounds`.
    pub(super) fn duration(&self, bounds: &RangeInclusive<Duration>) -> Checked<Duration> {
        let time = self.value.as_str().and_then(|text| humantime::parse_duration(text).ok());
        time.filter(|time| bounds.contains(time)).ok_or_else(|| {
            let (least, most) = (*bounds.start(), *bounds.end());
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            self.refuse(format!("a duration such as \"5s\" or \"200ms\", from {least} to {most}"))
        })
    }

    /// A table.
    pub(super) fn table(&self, expected: &str) -> Checked<Table<'r, 't>> {
        let table = self.value.as_table().ok_or_else(|| self.refuse(expected))?;
        Ok(Table::new(self.report, self.path.clone(), Some(self.line), self.hidden, table))
    }

    /// Tables, each with its place in the path.
    pub(super) fn tables(&self, expected: &str) -> Checked<Vec<Table<'r, 't>>> {
        let array = self.value.as_array().ok_or_else(|| self.refuse(expected))?;
        let of_one = |(index, value): (usize, &'r toml::Spanned<DeValue<'r>>)| {
            let table = value.get_ref().as_table().ok_or_else(|| self.refuse(expected))?;
            let line = self.report.line(value.span().start);
            let path = format!("{}[{index}]", self.path);
            Ok(Table::new(self.report, path, Some(line), self.hidden, table))
        };
        array.iter().enumerate().map(of_one).collect()
    }
}

/// Not empty, and no control characters: they would garble logs, and NUL ends C strings.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, factor) =
        UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A number of bytes in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    let fits = |factor: &u64| bytes >= *factor && bytes.is_multiple_of(*factor);
    let unit = UNITS.iter().find(|(_, factor)| fits(factor));
    unit.map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}
