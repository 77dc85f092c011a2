//! Rules that hold for every text file.

use crate::tree::{Finding, Source};

/// Folders that only one person's machine has. Written without the slash, so that
/// this file keeps its own rule.
const FOLDERS: [&str; 4] = ["work", "root", "home", "Users"];

/// No absolute path into a developer's own folders.
pub(crate) fn machine_paths(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().enumerate();
    let found = lines.filter_map(|(index, line)| {
        let folder = FOLDERS.iter().find(|folder| has_path_into(line, folder))?;
        Some(source.finding(index + 1, format!("a path into /{folder} of somebody's machine")))
    });
    found.collect()
}

/// Whether `line` has `/folder/x`, not as the end of a longer path.
fn has_path_into(line: &str, folder: &str) -> bool {
    let start = format!("/{folder}/");
    line.match_indices(&start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + start.len()..].chars().next();
        let longer = before.is_some_and(|c| c.is_alphanumeric() || "_-./}~".contains(c));
        !longer && after.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    })
}

/// No blanks at the end of a line, no carriage returns, and a newline at the end of the file.
pub(crate) fn whitespace(source: &Source) -> Vec<Finding> {
    let lines = source.text.split('\n').enumerate();
    let trailing = lines.filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
    let mut found: Vec<_> =
        trailing.map(|(index, _)| source.finding(index + 1, "whitespace at the end of the line")).collect();
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        found.push(source.finding(source.text.lines().count(), "no newline at the end of the file"));
    }
    found
}
