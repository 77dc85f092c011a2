//! Every target over its seeds and over mutations of them that are the same in every
//! run. A failure prints the target and the input in hex.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use claviger_fuzz::TARGETS;
use claviger_fuzz::corpus::{self, MAX_INPUT};
use claviger_hsm_profiles::Profile;
use claviger_protocol::backup::BackupReader;
use claviger_protocol::body::HelloRequest;
use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::{BlobRef, EncryptionContext, Opcode, Reply, Request, codec, frame};
use clavigerd::backend::hsm::RecoveryFile;
use clavigerd::backend::hsm::domain::DomainHeader;
use clavigerd::backup::Opened;
use clavigerd::config::Config;
use clavigerd::keyring::record::KeyRecord;
use clavigerd::server::Asked;

/// Where the mutations start; a failure prints it.
const SEED: u64 = 0x636c_6176_6967_6572;
/// Mutations a target.
const MUTATIONS: usize = 10_000;
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

fn check(name: &str, target: fn(&[u8]), input: &[u8]) {
    let kept = catch_unwind(AssertUnwindSafe(|| target(input))).is_ok();
    assert!(kept, "target {name}, seed {SEED:#x}: input {}", hex::encode(input));
}

#[test]
fn every_target_keeps_its_properties_over_the_corpus_and_its_mutations() {
    for &(name, target) in TARGETS {
        let corpus = corpus::of(name);
        let mut random = Random(SEED);
        for input in &corpus {
            check(name, target, input);
        }
        for _ in 0..MUTATIONS {
            check(name, target, &mutate(&mut random, &corpus));
        }
    }
}

/// Whether a parser accepts an input.
type Reader = fn(&[u8]) -> bool;

#[test]
fn the_seeds_reach_behind_every_parser() {
    let vectors = corpus::of("bodies");
    for &opcode in Opcode::ALL {
        let [low, high] = opcode.number().to_le_bytes();
        let bodies = |direction| {
            let start = [low, high, direction];
            vectors.iter().filter_map(move |input| input.strip_prefix(&start))
        };
        assert!(bodies(0).any(|body| Request::decode(opcode, body).is_ok()), "no request of {opcode:?}");
        assert!(bodies(1).any(|body| Reply::decode(opcode, body).is_ok()), "no reply of {opcode:?}");
    }
    let readers: [(&str, Reader); 12] = [
        ("frames", |input| matches!(frame::peek(input, 4096), Ok(Some(_)))),
        ("stream", |input| matches!(frame::peek(&input[2..], 4096), Ok(Some(_)))),
        ("hello", |input| {
            input.get(HEADER_LEN..).is_some_and(|body| codec::decode::<HelloRequest>(body).is_ok())
        }),
        ("context", |input| EncryptionContext::from_canonical(input.to_vec()).is_ok()),
        ("blob", |input| BlobRef::parse(input).is_ok()),
        ("config", |input| Config::parse(&text(input), "seed.toml").is_ok()),
        ("profile", |input| Profile::parse("seed.toml", &text(input)).is_ok()),
        ("http", |input| matches!(Asked::read(input), Some(Asked::Metrics { .. }))),
        ("domain", |input| DomainHeader::parse(input).is_ok()),
        ("recovery", |input| RecoveryFile::parse(input).is_ok()),
        ("backup", |input| BackupReader::new(input).is_ok()),
        ("chunk", |input| Opened::parse(input).is_some()),
    ];
    for (target, reads) in readers {
        assert!(corpus::of(target).iter().any(|input| reads(input)), "no seed of {target} is read");
    }
    let record = &corpus::of("record")[0][1..];
    assert!(codec::decode::<KeyRecord>(record).is_ok());
    let commands = corpus::of("helper").iter().filter(|input| input[0] == 0).count();
    assert!(commands >= 8, "only {commands} commands of the helper");
}

fn text(input: &[u8]) -> String {
    String::from_utf8(input.to_vec()).unwrap_or_default()
}

#[test]
fn a_broken_property_fails() {
    let broken = |_: &[u8]| assert_eq!(1, 2, "a property that no input keeps");
    assert!(catch_unwind(|| check("broken", broken, b"any")).is_err());
}
