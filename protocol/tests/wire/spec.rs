//! `SPEC.md` against this crate: its tables hold the same numbers, and a decoder
//! written from it alone reads every golden vector.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use claviger_protocol::algorithms::{
    DigestAlgorithm, EncryptionAlgorithm, ExportAlgorithm, ImportAlgorithm, KeyPairSpec, MacAlgorithm,
    MessageType, SigningAlgorithm, WrappingKeySpec,
};
use claviger_protocol::body::{HelloReply, PingReply};
use claviger_protocol::frame::Header;
use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::secret::Bytes;
use claviger_protocol::values::{AuthMethod, MemberState, ServiceState};
use claviger_protocol::{
    Code, DataKeySpec, KeyOrigin, KeySpec, KeyState, KeyUsage, Opcode, Protection, Reply, Request, Suite,
};

use crate::common::root;

/// Heading → rows of the tables under it, each without its head.
pub(crate) fn tables() -> BTreeMap<String, Vec<Vec<String>>> {
    let text = std::fs::read_to_string(root().join("SPEC.md")).unwrap();
    let mut tables = BTreeMap::<_, Vec<Vec<String>>>::new();
    let mut rows = tables.entry(String::new()).or_default();
    for line in text.lines() {
        if line.starts_with('#') {
            rows = tables.entry(line.trim_start_matches(['#', ' ']).to_owned()).or_default();
        } else if line.starts_with("| ---") {
            rows.pop();
        } else if let Some(row) = line.strip_prefix('|') {
            let cells = row.trim_end().trim_end_matches('|').split('|');
            rows.push(cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect());
        }
    }
    tables
}

/// The value of a constant's expression: sums of products of whole numbers.
fn evaluate(expression: &str) -> u64 {
    let product = |term: &str| {
        term.split('*').map(|n| n.trim().replace('_', "").parse::<u64>().unwrap()).product::<u64>()
    };
    expression.split('+').map(product).sum()
}

#[test]
fn limits_are_those_of_the_text() {
    let source = std::fs::read_to_string(root().join("src/limits.rs")).unwrap();
    let constants = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    let code: BTreeMap<_, _> = constants
        .map(|line| {
            let (name, rest) = line.split_once(':').unwrap();
            (name.to_owned(), evaluate(rest.split_once('=').unwrap().1.trim_end_matches(';')))
        })
        .collect();
    let text: BTreeMap<_, _> =
        tables()["2. Limits"].iter().map(|row| (row[0].clone(), row[1].parse::<u64>().unwrap())).collect();
    assert_eq!(code, text);
}

#[test]
fn codes_are_those_of_the_text() {
    let code: Vec<_> = Code::ALL
        .iter()
        .map(|code| {
            let retryable = if code.retryable() { "yes" } else { "no" };
            [&code.number().to_string(), code.name(), retryable, code.meaning()].map(str::to_owned).to_vec()
        })
        .collect();
    assert_eq!(code, tables()["6. Codes"]);
}

#[test]
fn operations_are_those_of_the_text() {
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    let code: Vec<_> = Opcode::ALL
        .iter()
        .map(|opcode| {
            let row = opcode.row();
            vec![
                format!("{:#06x}", opcode.number()),
                row.name.to_owned(),
                row.audit_name.to_owned(),
                format!("{:?}", row.endpoint).to_lowercase(),
                format!("{:?}", row.plane).to_lowercase(),
                format!("{:?}", row.access).to_lowercase(),
                format!("{:?}", row.rate).to_lowercase(),
                format!("{:?}", row.cost).to_lowercase(),
                yes(row.idempotent),
                yes(row.batchable),
                format!("{:?}", row.audit).to_lowercase(),
            ]
        })
        .collect();
    assert_eq!(code, tables()["7.4 Operations"]);
}

#[test]
fn enumerations_are_those_of_the_text() {
    let tables = tables();
    macro_rules! check {
        ($($name:ident)+) => {$(
            let code: Vec<_> = $name::ALL.iter().map(|v| (v.number().to_string(), v.name().to_owned())).collect();
            let text: Vec<_> = tables[stringify!($name)].iter().map(|r| (r[0].clone(), r[1].clone())).collect();
            assert_eq!(code, text, stringify!($name));
        )+};
    }
    check!(KeySpec KeyUsage Protection KeyOrigin KeyState DataKeySpec AuthMethod ServiceState MemberState Suite
        KeyPairSpec SigningAlgorithm EncryptionAlgorithm ExportAlgorithm ImportAlgorithm WrappingKeySpec MacAlgorithm
        DigestAlgorithm MessageType);
}

#[test]
fn blob_lengths_are_those_of_the_text() {
    let tables = tables();
    let rows = tables["9.1 Layout"].iter().filter(|row| row[0].contains("_GCM_"));
    let text: Vec<_> =
        rows.map(|row| row[1..].iter().map(|n| n.parse().unwrap()).collect::<Vec<usize>>()).collect();
    let code: Vec<_> =
        Suite::ALL.iter().map(|s| vec![s.salt_len(), s.commitment_len(), s.header_len() + 16]).collect();
    assert_eq!(code, text);
    assert_eq!(
        Suite::ALL.iter().map(|suite| suite.header_len() + 16).max(),
        Some(claviger_protocol::limits::MAX_BLOB_OVERHEAD)
    );
}

/// Runs a Python that has the `cryptography` package: the system's, or the first in the path.
fn python(arguments: &[&str]) -> String {
    let able = |python: &&str| {
        let check = Command::new(python).args(["-c", "import cryptography"]).output();
        check.is_ok_and(|output| output.status.success())
    };
    let python = ["/usr/bin/python3", "python3"].into_iter().find(able);
    let output = Command::new(python.expect("a python3 with cryptography (Debian: python3-cryptography)"))
        .arg("-B")
        .args(arguments)
        .current_dir(root().parent().unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python3 {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_decoder_written_from_the_text_reads_every_vector() {
    let said = python(&["tests/decoder/decoder.py", "check-vectors", "protocol/vectors"]);
    let checks: usize = said.trim().strip_suffix(" checks").expect(&said).parse().unwrap();
    assert!(checks > 1000, "only {checks} checks");
}

#[test]
fn that_decoder_has_the_texts_own_tables() {
    python(&["tests/decoder/decoder.py", "check-spec", "protocol/SPEC.md"]);
}

#[test]
fn that_decoder_speaks_to_a_live_socket() {
    let path = std::env::temp_dir().join(format!("claviger-spec-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let daemon = std::thread::spawn(move || answer_two(&mut listener.accept().unwrap().0));
    let said = python(&["tests/decoder/decoder.py", "ping", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    daemon.join().unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["hello"]["endpoint"], "test");
    assert_eq!(said["ping"]["version"], "9.9.9");
}

/// Answers a hello and a ping.
fn answer_two(stream: &mut UnixStream) {
    for _ in 0..2 {
        let mut head = [0; HEADER_LEN];
        stream.read_exact(&mut head).unwrap();
        let header = Header::from_bytes(&head);
        assert_eq!(header.check_request(), Ok(()));
        let mut body = vec![0; header.length as usize];
        stream.read_exact(&mut body).unwrap();
        let reply = match Request::decode(Opcode::from_number(header.opcode).unwrap(), &body).unwrap() {
            Request::Hello(_) => Reply::Hello(HelloReply {
                version: 1,
                agent: String::new(),
                endpoint: "test".into(),
                server_nonce: [0; 32],
                proof: Bytes::default(),
                complete: true,
                max_body: 65536,
                max_in_flight: 1,
                max_batch: 1,
                max_plaintext: 1,
            }),
            Request::Ping(ping) => Reply::Ping(PingReply { version: "9.9.9".into(), payload: ping.payload }),
            other => panic!("{other:?}"),
        };
        let body = reply.encode().unwrap();
        stream.write_all(&header.reply(0, u32::try_from(body.len()).unwrap()).to_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    }
}

#[test]
fn the_vectors_are_what_their_maker_writes() {
    python(&["protocol/vectors/make/make.py", "--check"]);
}

#[test]
fn no_declaration_or_hash_order_reaches_the_wire() {
    let mut sources: Vec<_> = ["src", "src/body"].map(|dir| root().join(dir)).into();
    let mut derived = 0;
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("HashMap") && !text.contains("HashSet"), "{}", path.display());
        // An enum that derives serde's traits is written as its place in the declaration.
        for after in text.split("derive(").skip(1).filter(|after| derives_serde(after)) {
            let item = after.lines().skip(1).map(str::trim).find(|line| !line.starts_with(['#', '/']));
            let item = item.unwrap_or_default().trim_start_matches("pub ");
            assert!(item.starts_with("struct "), "{}: {item}", path.display());
            derived += 1;
        }
    }
    assert!(derived > 2, "the search finds what it looks for");
}

fn derives_serde(after: &str) -> bool {
    after
        .split_once(')')
        .is_some_and(|(traits, _)| traits.contains("Serialize") || traits.contains("Deserialize"))
}

#[test]
fn every_part_of_the_vectors_is_one_that_the_tests_know() {
    let known: BTreeSet<_> = [
        "about",
        "frames",
        "bodies",
        "connections",
        "contexts",
        "blobs",
        "refused_blobs",
        "handshakes",
        "signatures",
        "ciphertexts",
        "macs",
        "digests",
        "batch_items",
        "batch_rooms",
    ]
    .into();
    for file in crate::common::vector_files() {
        let family: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for part in family.keys() {
            assert!(known.contains(part.as_str()), "{}: {part}", file.display());
        }
    }
}
