//! Reading the golden vectors and `SPEC.md`: what more than one test needs.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The crate's own directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The golden vectors' files.
pub(crate) fn vector_files() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("vectors")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Every vector of one part (`frames`, `blobs`, …), whichever file it stands in.
pub(crate) fn vectors(part: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for file in vector_files() {
        let family: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        found.extend(family[part].as_array().cloned().unwrap_or_default());
    }
    assert!(!found.is_empty(), "no vectors of {part}");
    found
}

/// A text of a vector.
pub(crate) fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{}: no text {field}", vector["name"]))
}

/// Bytes of a vector, written in hex.
pub(crate) fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(vector, field)).unwrap()
}

/// A number of a vector.
pub(crate) fn number(vector: &Value, field: &str) -> u64 {
    vector[field].as_u64().unwrap_or_else(|| panic!("{}: no number {field}", vector["name"]))
}
