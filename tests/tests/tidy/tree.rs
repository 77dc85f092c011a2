//! The project's text files, and what rules say of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file.
pub(crate) struct Source {
    /// From the project's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether the file is in one of these folders (ending in `/`) or is one of these files.
    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| match place.split_once('*') {
            Some((start, end)) => self.path.starts_with(start) && self.path.ends_with(end),
            None if place.ends_with('/') => self.path.starts_with(place),
            None => self.path == *place,
        })
    }

    pub(crate) fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

/// A rule broken at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Every text file of the project: what git tracks, or, outside a checkout,
/// everything but build output.
pub(crate) fn project() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut paths = tracked(root).unwrap_or_else(|| walk(root));
    paths.sort();
    let text = |path: PathBuf| {
        // Binary files, and files that git tracks but a working tree has removed, have no text.
        let text = std::fs::read_to_string(root.join(&path)).ok()?;
        let path = path.to_str().unwrap().replace('\\', "/");
        (!text.contains('\0')).then_some(Source { path, text })
    };
    paths.into_iter().filter_map(text).collect()
}

fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    let output = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output().ok()?;
    let list = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<_> = list.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            let skipped = matches!(entry.file_name().to_str(), Some(".git" | "target") | None);
            if kind.is_dir() && !skipped {
                folders.push(entry.path());
            } else if kind.is_file() && !skipped {
                files.push(entry.path().strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn a_folder_a_pattern_and_a_file_are_told_apart() {
    let source = |path: &str| Source { path: path.to_owned(), text: String::new() };
    assert!(source("daemon/src/edge/clock.rs").is_in(&["daemon/src/edge/"]));
    assert!(!source("daemon/src/edgeless.rs").is_in(&["daemon/src/edge/"]));
    assert!(source("daemon/src/store/sled_trees.rs").is_in(&["daemon/src/store/sled*.rs"]));
    assert!(!source("daemon/src/store/cache.rs").is_in(&["daemon/src/store/sled*.rs"]));
    assert!(source("daemon/src/main.rs").is_in(&["daemon/src/main.rs"]));
    assert!(!source("daemon/src/main.rs.rs").is_in(&["daemon/src/main.rs"]));
}

#[test]
fn both_ways_of_listing_find_this_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let this = PathBuf::from("tests/tests/tidy/tree.rs");
    assert!(walk(root).contains(&this));
    assert!(tracked(root).is_none_or(|paths| paths.contains(&this)));
}
