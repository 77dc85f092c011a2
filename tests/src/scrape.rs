//! Scraping a daemon's metrics, over a socket of either kind.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::PATIENCE;

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its head, lower case.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// Sends any bytes to the metrics socket and reads to the end.
pub fn ask(socket: &Path, request: &[u8]) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask_on(stream, request)
}

/// The same on any stream.
pub fn ask_on(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

/// The metrics, as they are now.
#[must_use]
pub fn scrape(socket: &Path) -> Metrics {
    let answer =
        ask(socket, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("metrics are served");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.head.contains(&format!("content-length: {}", answer.body.len())), "{}", answer.head);
    Metrics::parse(&answer.body)
}

/// A scrape, read strictly: every sample belongs to the family announced before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Name and kind of each family.
    pub families: BTreeMap<String, String>,
    /// Each sample, as it was written before its value.
    pub samples: BTreeMap<String, f64>,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let (mut helped, mut family) = (BTreeSet::new(), String::new());
        assert!(text.ends_with('\n'), "the text ends with a line");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a name and a help text");
                assert!(helped.insert(name.to_owned()) && !text.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a type");
                assert!(helped.contains(name), "{line}: after its help");
                name.clone_into(&mut family);
                assert_eq!(families.insert(name.to_owned(), kind.to_owned()), None, "{line}: once");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a sample");
                let name = series.split('{').next().unwrap_or_default();
                let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line}: in {family}"));
                let histogram = families[&family] == "histogram";
                let fits = if histogram {
                    ["_bucket", "_sum", "_count"].contains(&suffix)
                } else {
                    suffix.is_empty()
                };
                assert!(fits, "{line}: in {family}");
                let value = value.parse().unwrap_or_else(|_| panic!("{line}: a number"));
                assert_eq!(samples.insert(series.to_owned(), value), None, "{line}: once");
            }
        }
        Self { families, samples }
    }

    /// A sample's value; 0 where it isn't there.
    #[must_use]
    pub fn get(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }

    /// All samples that start so, added up.
    #[must_use]
    pub fn sum(&self, start: &str) -> f64 {
        self.samples.iter().filter(|(series, _)| series.starts_with(start)).map(|(_, value)| value).sum()
    }
}
