//! What the targets start from: the golden vectors, the example configuration, the
//! profiles, the fixtures, and what once broke a target. Must not live here: mutation.

mod kept;

use std::path::Path;

use claviger_protocol::Header;
use claviger_protocol::limits::HEADER_LEN;
use clavigerd::backend::hsm::helper;
use serde_json::Value;

/// Inputs are cut to this, so that mutations of mutations stay small.
pub const MAX_INPUT: usize = 8192;

/// Inputs that once broke a target: (target, why, hex). They join its seeds.
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

/// The seeds of a target, each once, in a fixed order; those of the wire for one that it
/// doesn't know.
///
/// # Panics
/// Where a vector, a profile or a fixture can't be read.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let mut out = match target {
        "config" | "profile" => texts(),
        "stream" => {
            vectors().into_iter().map(|frame| [&[7, 0], frame.repeat(3).as_slice()].concat()).collect()
        }
        "http" => heads(),
        "helper" => helper_frames(),
        "record" => kept::records(),
        "domain" | "recovery" => kept::domain_files(),
        "audit" => kept::logs(),
        "backup" => [vectors(), vec![kept::fixture()]].concat(),
        "chunk" => kept::chunks(),
        _ => vectors(),
    };
    let own = REGRESSIONS.iter().filter(|(name, _, _)| *name == target);
    out.extend(own.map(|(_, _, input)| hex::decode(input).unwrap()));
    for input in &mut out {
        input.truncate(MAX_INPUT);
    }
    out.sort();
    out.dedup();
    out
}

/// Every byte string of the golden vectors.
fn vectors() -> Vec<Vec<u8>> {
    let mut out = vec![Vec::new()];
    for file in files("protocol/vectors", "json") {
        gather(&serde_json::from_slice(&file).unwrap(), None, &mut out);
    }
    out
}

/// The texts that operators write. Other bytes leave a reader of texts nothing to parse.
fn texts() -> Vec<Vec<u8>> {
    let mut out = files("hsm-profiles/profiles", "toml");
    out.push(std::fs::read(root().join("systemd/claviger.toml.example")).unwrap());
    out
}

/// Heads of metrics requests.
fn heads() -> Vec<Vec<u8>> {
    [
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n",
        "HEAD /metrics?a=b HTTP/1.0\r\n\r\n",
        "\r\nPOST /metrics HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nA:\tb\n\n",
    ]
    .map(|head| head.as_bytes().to_vec())
    .to_vec()
}

/// Commands and answers of the helper: of each kind those that are all zeros or ones.
fn helper_frames() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (direction, tag) in (0..=1_u8).flat_map(|direction| (0..=u8::MAX).map(move |tag| (direction, tag))) {
        for (len, byte) in (0..96).flat_map(|len| [(len, 0), (len, 1)]) {
            let frame = [vec![tag], vec![byte; len]].concat();
            if helper::rewritten(direction == 1, &frame).is_ok() {
                out.push([vec![direction], frame].concat());
            }
        }
    }
    out
}
