//! What the targets start from: the golden vectors, the example configuration, the
//! profiles, and what once broke a target. Must not live here: mutation.

use std::path::Path;

use claviger_protocol::Header;
use claviger_protocol::limits::HEADER_LEN;
use serde_json::Value;

/// Inputs are cut to this, so that mutations of mutations stay small.
pub const MAX_INPUT: usize = 8192;

/// Inputs that once broke a target: (target, why, hex). They join the corpus.
pub const REGRESSIONS: &[(&str, &str, &str)] = &[(
    "bodies",
    "the property forgot that a key id may be in upper case",
    "0501000100000000000000240000000000000038636666616231632d393265362d343943612d616333332d303039616432303763326264",
)];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no .{extension} in {folder}");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The bytes of every hex string in a vector file, as they are and as bodies.
fn gather(value: &Value, opcode: Option<u16>, out: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(text) => {
            let Ok(bytes) = hex::decode(text) else { return };
            if let Some(opcode) = opcode {
                as_bodies(opcode, &bytes, out);
            }
            let head = bytes.first_chunk::<HEADER_LEN>().map(Header::from_bytes);
            if let Some(head) = head.filter(|head| bytes.len() == HEADER_LEN + head.length as usize) {
                as_bodies(head.opcode, &bytes[HEADER_LEN..], out);
            }
            out.push(bytes);
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, opcode, out)),
        Value::Object(fields) => {
            let own = fields.get("opcode").and_then(Value::as_u64);
            let opcode = own.map_or(opcode, |number| u16::try_from(number).ok());
            fields.values().for_each(|field| gather(field, opcode, out));
        }
        _ => {}
    }
}

fn as_bodies(opcode: u16, body: &[u8], out: &mut Vec<Vec<u8>>) {
    let [low, high] = opcode.to_le_bytes();
    out.extend([0, 1].map(|direction| [&[low, high, direction], body].concat()));
}

/// Every input, each once, in a fixed order.
///
/// # Panics
/// Where a vector or a profile can't be read.
#[must_use]
pub fn all() -> Vec<Vec<u8>> {
    let mut out = vec![Vec::new()];
    for file in files("protocol/vectors", "json") {
        gather(&serde_json::from_slice(&file).unwrap(), None, &mut out);
    }
    out.extend(files("hsm-profiles/profiles", "toml"));
    out.push(std::fs::read(root().join("systemd/claviger.toml.example")).unwrap());
    out.extend(REGRESSIONS.iter().map(|(_, _, input)| hex::decode(input).unwrap()));
    for input in &mut out {
        input.truncate(MAX_INPUT);
    }
    out.sort();
    out.dedup();
    out
}

/// The inputs that are worth a target's time. Bytes in a TOML text leave nothing to
/// parse: there, only texts are.
///
/// # Panics
/// As [`all`].
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let texts = matches!(target, "config" | "profile");
    all().into_iter().filter(|input| !texts || is_text(input)).collect()
}

/// Whether an input is one of the corpus's TOML texts.
fn is_text(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(|text| text.contains(" = "))
}
