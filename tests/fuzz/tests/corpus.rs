//! Every target over the whole corpus (the golden vectors, the example
//! configuration, the profiles) and over mutations of it that are the same in
//! every run. A failure prints the target and the input in hex.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use claviger_fuzz::TARGETS;
use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::{BlobRef, EncryptionContext, Header, Opcode, Reply, Request, frame};
use clavigerd::config::Config;
use serde_json::Value;

/// Where the mutations start; a failure prints it.
const SEED: u64 = 0x636c_6176_6967_6572;
/// Mutations a target.
const MUTATIONS: usize = 10_000;
/// Inputs are cut to this, so that mutations of mutations stay small.
const MAX_INPUT: usize = 8192;

/// Inputs that once broke a target: (target, why, hex). They join the corpus.
const REGRESSIONS: &[(&str, &str, &str)] = &[];

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which isn't 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

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

fn corpus() -> Vec<Vec<u8>> {
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

/// One to four small changes: a bit, a byte, a cut, a repeat, a splice, a number.
fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 => input.insert(at, random.next().to_le_bytes()[0]),
            2 => input.truncate(at),
            3 => {
                let again = input[at..].to_vec();
                input.extend_from_slice(&again);
            }
            4 => {
                let other = &corpus[random.below(corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ if at + 8 <= input.len() => {
                let number = [0, 1, u64::MAX, 1 << 31, 1 << 32, 255][random.below(6)];
                input[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            _ => {}
        }
        input.truncate(MAX_INPUT);
    }
    input
}

/// Whether an input is one of the corpus's TOML texts.
fn is_text(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(|text| text.contains(" = "))
}

fn check(name: &str, target: fn(&[u8]), input: &[u8]) {
    let kept = catch_unwind(AssertUnwindSafe(|| target(input))).is_ok();
    assert!(kept, "target {name}, seed {SEED:#x}: input {}", hex::encode(input));
}

#[test]
fn every_target_keeps_its_properties_over_the_corpus_and_its_mutations() {
    let corpus = corpus();
    for &(name, target) in TARGETS {
        // Bytes in a TOML text leave nothing to parse: texts are mutated for themselves.
        let texts = matches!(name, "config" | "profile");
        let corpus: Vec<_> = corpus.iter().filter(|input| !texts || is_text(input)).cloned().collect();
        let mut random = Random(SEED);
        for input in &corpus {
            check(name, target, input);
        }
        for _ in 0..MUTATIONS {
            check(name, target, &mutate(&mut random, &corpus));
        }
    }
}

#[test]
fn the_corpus_reaches_behind_every_parser() {
    let corpus = corpus();
    let text = |input: &Vec<u8>| String::from_utf8(input.clone()).unwrap_or_default();
    for &opcode in Opcode::ALL {
        let [low, high] = opcode.number().to_le_bytes();
        let bodies = |direction| {
            let start = [low, high, direction];
            corpus.iter().filter_map(move |input| input.strip_prefix(&start))
        };
        assert!(bodies(0).any(|body| Request::decode(opcode, body).is_ok()), "no request of {opcode:?}");
        assert!(bodies(1).any(|body| Reply::decode(opcode, body).is_ok()), "no reply of {opcode:?}");
    }
    assert!(corpus.iter().any(|input| matches!(frame::peek(input, 4096), Ok(Some(_)))));
    assert!(corpus.iter().any(|input| EncryptionContext::from_canonical(input.clone()).is_ok()));
    assert!(corpus.iter().any(|input| BlobRef::parse(input).is_ok()));
    assert!(corpus.iter().any(|input| Config::parse(&text(input), "seed.toml").is_ok()));
    assert!(
        corpus.iter().any(|input| claviger_hsm_profiles::Profile::parse("seed.toml", &text(input)).is_ok())
    );
}

#[test]
fn a_broken_property_fails() {
    let broken = |_: &[u8]| assert_eq!(1, 2, "a property that no input keeps");
    assert!(catch_unwind(|| check("broken", broken, b"any")).is_err());
}
