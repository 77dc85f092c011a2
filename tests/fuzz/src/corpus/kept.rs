//! Seeds of what is on the disk: one record of each kind, and the files inside the
//! fixture's backup.

use claviger_protocol::backup::BackupReader;
use claviger_protocol::secret::Bytes;
use claviger_protocol::{KeyOrigin, KeySpec, KeyState, KeyUsage, Protection, Suite, codec};
use clavigerd::audit::Event;
use clavigerd::backup::{Entry, Opened, Totals};
use clavigerd::keyring::record::{
    AliasRecord, ClientTokenRecord, IntentRecord, KeyRecord, Location, OutboxRecord, VersionRecord, location,
};
use serde::Serialize;
use uuid::Uuid;

const KEY: Uuid = Uuid::from_u128(1);
const VERSION: Uuid = Uuid::from_u128(2);

/// The fixture: a backup with its domain file and recovery file.
pub(super) fn fixture() -> Vec<u8> {
    std::fs::read(super::root().join("tests/fixtures/v1/backup")).unwrap()
}

/// The files in its header: the domain file, the recovery files.
pub(super) fn domain_files() -> Vec<Vec<u8>> {
    let header = BackupReader::new(fixture().as_slice()).unwrap().header;
    let recovery = header.recovery.into_iter().map(|copy| copy.bytes);
    recovery.chain([header.domain_file]).collect()
}

/// One record of each kind, in the order of the target's first byte.
pub(super) fn records() -> Vec<Vec<u8>> {
    let mut event = Event::internal(Uuid::from_u128(3), 1_000, "rotateKey");
    event.resources = vec![KEY];
    event.context_hash = Some([9; 16]);
    event.peer = Some((1, 2, 3));
    let token = ClientTokenRecord { request: [5; 32], created_at: 9, key_id: KEY, version_id: Some(VERSION) };
    vec![
        record(0, &key()),
        record(1, &version()),
        record(2, &AliasRecord { key_id: KEY }),
        record(3, &token),
        record(4, &IntentRecord { event: event.clone() }),
        record(5, &OutboxRecord { event }),
    ]
}

fn record(kind: u8, record: &impl Serialize) -> Vec<u8> {
    [vec![kind], codec::encode(record).unwrap()].concat()
}

fn key() -> KeyRecord {
    KeyRecord {
        key_id: KEY,
        spec: KeySpec::Aes256,
        usage: KeyUsage::EncryptDecrypt,
        protection: Protection::Hsm,
        origin: KeyOrigin::Kms,
        project: "default".parse().unwrap(),
        description: "a key".parse().unwrap(),
        aliases: vec!["alias/one".parse().unwrap(), "alias/two".parse().unwrap()],
        tags: codec::decode(&tags()).unwrap(),
        created_at: 1_000,
        created_by: "admin uid 0".to_owned(),
        state: KeyState::PendingDeletion,
        resume_state: Some(KeyState::Disabled),
        deletion_date: Some(2_000),
        erased_at: None,
        deletion_protection: true,
        material_expires_at: Some(3_000),
        import_fingerprint: Some(Bytes(vec![1; 32])),
        rotation_days: Some(90),
        last_rotation: Some(4_000),
        next_rotation: Some(5_000),
        primary_version: Some(VERSION),
        version_count: 2,
        default_for: Some("disk".to_owned()),
        sm2_user_id: Some(Bytes(b"1234567812345678".to_vec())),
        indexed: true,
    }
}

/// Two tags, in the order that isn't theirs.
fn tags() -> Vec<u8> {
    codec::encode(&[("b", "2"), ("a", "1")].as_slice()).unwrap()
}

fn version() -> VersionRecord {
    let wrapped = Location {
        kind: location::WRAPPED,
        format: 2,
        generation: 1,
        member: String::new(),
        blob: Bytes(vec![3; 40]),
    };
    VersionRecord {
        key_id: KEY,
        version_id: VERSION,
        number: 1,
        created_at: 1_000,
        suite: Some(Suite::HsmAes256Derived),
        check_value: [1; 8],
        locations: vec![wrapped.clone(), Location { kind: location::SEALED, ..wrapped }],
        reserved_uses: 1 << 20,
        hardware: true,
        made_by: "luna-1".to_owned(),
        public_key: Some(Bytes(vec![4; 91])),
        destroyed_at: Some(9_000),
    }
}

/// Chunks of a backup: a removal, a record that nobody sealed, the end.
pub(super) fn chunks() -> Vec<Vec<u8>> {
    let entries = vec![Entry::Delete(b"k/old".to_vec()), Entry::Put(b"k/new".to_vec(), vec![1; 50])];
    let totals = Some(Totals { puts: 1, deletes: 1 });
    let chunk = |entries: &[Entry], totals| Opened { entries: entries.to_vec(), totals }.encode().unwrap();
    vec![chunk(&entries, None), chunk(&entries, totals), chunk(&entries[..1], totals), chunk(&[], totals)]
}

/// How an audit log may end.
pub(super) fn logs() -> Vec<Vec<u8>> {
    [&b""[..], b"\n", b"{\"request_id\":1}\n", b"{\"request_id\":1}\n{\"request_", b"\n\n", b"\0\0\0"]
        .map(<[u8]>::to_vec)
        .to_vec()
}
