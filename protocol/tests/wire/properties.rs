//! Every body that `SPEC.md` allows is read and written back byte for byte; any
//! cut, any leftover and any garbage is refused without a panic.
//!
//! The strategies are built from the text's own tables, so a new operation is
//! covered as soon as the text has it.

use std::collections::BTreeMap;

use claviger_protocol::{Code, Opcode, Reply, Request};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::{number, text, vectors};
use crate::spec::tables;

type Bytes = BoxedStrategy<Vec<u8>>;
type Rows = Vec<Vec<String>>;

/// Strategies for encoded values of the types of section 7.
struct Grammar(BTreeMap<String, Rows>);

impl Grammar {
    fn body(&self, name: &str) -> Bytes {
        let fields = &self.0[name];
        let parts: Vec<_> =
            fields.iter().map(|row| bounded(name, &row[0]).unwrap_or_else(|| self.value(&row[1]))).collect();
        parts.into_iter().fold(Just(Vec::new()).boxed(), |all, part| {
            (all, part).prop_map(|(all, part)| [all, part].concat()).boxed()
        })
    }

    fn value(&self, kind: &str) -> Bytes {
        if let Some(inner) = kind.strip_prefix("option<").and_then(|kind| kind.strip_suffix('>')) {
            let some = self.value(inner).prop_map(|value| [vec![1], value].concat());
            return prop_oneof![Just(vec![0]), some].boxed();
        }
        if let Some(inner) = kind.strip_prefix("list<").and_then(|kind| kind.strip_suffix('>')) {
            return list(self.value(inner), 0);
        }
        match kind {
            "u8" => exactly(1),
            "u16" => exactly(2),
            "u32" => exactly(4),
            "u64" | "i64" => exactly(8),
            "raw16" => exactly(16),
            "raw32" => exactly(32),
            "bool" => (0..=1_u8).prop_map(|byte| vec![byte]).boxed(),
            "bytes" => vec(any::<u8>(), 0..40).prop_map(|bytes| counted(&bytes)).boxed(),
            "text" => "\\PC{0,20}".prop_map(|text| counted(text.as_bytes())).boxed(),
            "uuid" => any::<[u8; 16]>().prop_map(|uuid| counted(&uuid)).boxed(),
            "key" => prop_oneof![
                "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
                "alias/[A-Za-z0-9_:/-]{1,20}",
                "alias/[a-z]{1,9}/default"
            ]
            .prop_map(|text| counted(text.as_bytes()))
            .boxed(),
            "alias" => {
                "alias/[A-Za-z0-9_:/-]{0,20}[A-Z0-9_:-]".prop_map(|text| counted(text.as_bytes())).boxed()
            }
            "project" => "[A-Za-z0-9_:/-]{1,20}".prop_map(|text| counted(text.as_bytes())).boxed(),
            "service" => "[A-Za-z0-9_-]{1,64}".prop_map(|text| counted(text.as_bytes())).boxed(),
            "tag_key" => "\\PC{1,12}".prop_map(|text| counted(text.as_bytes())).boxed(),
            "description" => "\\PC{0,255}".prop_map(|text| counted(text.as_bytes())).boxed(),
            "tag" => ("\\PC{1,12}", "\\PC{0,12}").prop_map(|tag| encode_tag(&tag)).boxed(),
            "tags" => proptest::collection::btree_map("\\PC{1,12}", "\\PC{0,12}", 0..20)
                .prop_map(|tags| {
                    counted_items(&tags.into_iter().map(|tag| encode_tag(&tag)).collect::<Vec<_>>())
                })
                .boxed(),
            "context" => proptest::collection::btree_map("\\PC{1,12}", "\\PC{0,12}", 0..6)
                .prop_map(|pairs| counted(&canonical(&pairs)))
                .boxed(),
            "size" => prop_oneof![
                (1..=3_u8).prop_map(|spec| vec![spec, 0, 0]),
                (1..=1024_u16).prop_map(|bytes| [&[0], &bytes.to_le_bytes()[..]].concat())
            ]
            .boxed(),
            structure if self.0[structure].iter().all(|row| row[0].parse::<u8>().is_ok()) => {
                let numbers: Vec<u8> = self.0[structure].iter().map(|row| row[0].parse().unwrap()).collect();
                proptest::sample::select(numbers).prop_map(|number| vec![number]).boxed()
            }
            structure => self.body(structure),
        }
    }
}

/// Fields whose bounds are narrower than their type's.
fn bounded(body: &str, field: &str) -> Option<Bytes> {
    let u16s = |range: std::ops::RangeInclusive<u16>| range.prop_map(|n| n.to_le_bytes().to_vec());
    Some(match (body, field) {
        ("HelloRequest", "agent") => "[ -~]{0,64}".prop_map(|text| counted(text.as_bytes())).boxed(),
        ("HelloRequest", "access_key") => {
            "[A-Za-z0-9_-]{0,64}".prop_map(|text| counted(text.as_bytes())).boxed()
        }
        (request, "rotation_days") if request.ends_with("Request") => optional(u16s(7..=730)),
        ("ScheduleKeyDeletionRequest", "days") => optional(u16s(0..=1096)),
        (request, "limit") if request.ends_with("Request") => u16s(0..=1000).boxed(),
        ("GetRandomRequest", "length") => u16s(1..=4096).boxed(),
        (request, "keys") if request.ends_with("Request") => list(Grammar(tables()).value("key"), 1),
        ("UntagResourceRequest", "tag_keys") => list(Grammar(tables()).value("tag_key"), 1),
        _ => return None,
    })
}

fn optional(of: impl Strategy<Value = Vec<u8>> + 'static) -> Bytes {
    prop_oneof![Just(vec![0]), of.prop_map(|value| [vec![1], value].concat())].boxed()
}

fn exactly(count: usize) -> Bytes {
    vec(any::<u8>(), count).boxed()
}

fn list(of: Bytes, least: usize) -> Bytes {
    vec(of, least..4).prop_map(|items| counted_items(&items)).boxed()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

fn counted_items(items: &[Vec<u8>]) -> Vec<u8> {
    [(items.len() as u64).to_le_bytes().to_vec(), items.concat()].concat()
}

fn encode_tag((key, value): &(String, String)) -> Vec<u8> {
    [counted(key.as_bytes()), counted(value.as_bytes())].concat()
}

fn canonical(pairs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = u16::try_from(pairs.len()).unwrap().to_le_bytes().to_vec();
    for part in pairs.iter().flat_map(|(key, value)| [key, value]) {
        out.extend_from_slice(&u16::try_from(part.len()).unwrap().to_le_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Request,
    Reply,
}

/// Every operation, both ways, with its body's name: as the golden vectors have it.
fn bodies() -> Vec<(Opcode, Way, String)> {
    let mut found = BTreeMap::new();
    for vector in vectors("frames") {
        if number(&vector["header"], "status") == 0 {
            let opcode = u16::try_from(number(&vector["header"], "opcode")).unwrap();
            let way = if text(&vector, "direction") == "request" { Way::Request } else { Way::Reply };
            found.insert((Opcode::from_number(opcode).unwrap(), way), text(&vector, "type").to_owned());
        }
    }
    assert_eq!(found.len(), 2 * Opcode::ALL.len());
    found.into_iter().map(|((opcode, way), name)| (opcode, way, name)).collect()
}

/// Reads a body and writes it again.
fn again(opcode: Opcode, way: Way, body: &[u8]) -> Result<Vec<u8>, Code> {
    match way {
        Way::Request => {
            let request = Request::decode(opcode, body).map_err(|error| error.code())?;
            let mut frame = vec![0xff; 24];
            let length = request.encode_into(&mut frame).unwrap();
            assert_eq!(frame[24..], request.encode().unwrap());
            assert_eq!((frame.len(), &frame[..24]), (24 + length, &[0xff; 24][..]));
            let _ = (request.resources(), format!("{request:?}"));
            request.encode()
        }
        Way::Reply => {
            let reply = Reply::decode(opcode, body).map_err(|error| error.code())?;
            let mut frame = Vec::new();
            assert_eq!(reply.encode_into(&mut frame), Ok(frame.len()));
            assert_eq!(frame, reply.encode().unwrap());
            reply.encode()
        }
    }
    .map_err(|_| Code::ReplyTooLarge)
}

/// Runs one property over every operation and way, with so many cases each.
fn for_every_body(cases: u32, property: impl Fn(Opcode, Way, Vec<u8>, u64) -> Result<(), TestCaseError>) {
    let grammar = Grammar(tables());
    for (opcode, way, name) in bodies() {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let strategy = (grammar.body(&name), any::<u64>());
        let outcome = runner.run(&strategy, |(body, luck)| property(opcode, way, body, luck));
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

#[test]
fn every_allowed_body_comes_back_byte_for_byte() {
    for_every_body(64, |opcode, way, body, _| {
        prop_assert_eq!(again(opcode, way, &body).map(hex::encode), Ok(hex::encode(&body)));
        Ok(())
    });
}

#[test]
fn every_cut_and_every_leftover_of_an_allowed_body_is_malformed() {
    for_every_body(8, |opcode, way, body, luck| {
        for end in 0..body.len() {
            prop_assert_eq!(again(opcode, way, &body[..end]), Err(Code::Malformed), "cut to {} bytes", end);
        }
        let longer = [body.as_slice(), &luck.to_le_bytes()].concat();
        prop_assert_eq!(again(opcode, way, &longer), Err(Code::Malformed));
        Ok(())
    });
}

#[test]
fn a_changed_byte_is_refused_or_means_what_it_is_written_back_as() {
    for_every_body(256, |opcode, way, mut body, luck| {
        let Some(at) = luck.checked_rem(body.len() as u64) else { return Ok(()) };
        body[usize::try_from(at).unwrap()] ^= 1 << (luck >> 61);
        if let Ok(written) = again(opcode, way, &body) {
            prop_assert_eq!(again(opcode, way, &written), Ok(written.clone()));
            prop_assert_eq!(written.len(), body.len());
        }
        Ok(())
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(body in vec(any::<u8>(), 0..200), zeros in 0_usize..64) {
        // Mostly small lengths and counts: they get further than garbage alone.
        let sparse: Vec<_> = body.iter().enumerate().map(|(i, &b)| if i % 8 < zeros % 8 { b } else { 0 }).collect();
        for &opcode in Opcode::ALL {
            for body in [&body, &sparse] {
                let _ = (again(opcode, Way::Request, body), again(opcode, Way::Reply, body));
            }
        }
    }
}
