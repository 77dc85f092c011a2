//! The table of operations and states, end to end: what each operation on a key answers in
//! each state of it, that a refusal names the state, and that it changes nothing.

use claviger_protocol::body::{
    AsymmetricSignRequest, AsymmetricVerifyRequest, CancelKeyDeletionRequest, CreateAliasRequest,
    CreateKeyRequest, CreateKeyVersionRequest, DecryptRequest, DescribeKeyRequest, DetectAssociationRequest,
    DisableKeyRequest, EnableKeyRequest, EncryptRequest, ErrorBody, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, GenerateMacRequest, GetPublicKeyRequest, KeyStatesReply,
    ListAliasByUuidRequest, ListKeyVersionsRequest, ListTagsRequest, MoveResourceRequest, ProtectKeyRequest,
    ReEncryptRequest, RotateKeyRequest, ScheduleKeyDeletionRequest, TagResourceRequest, UnprotectKeyRequest,
    UntagResourceRequest, UpdateAliasRequest, UpdateKeyDescriptionRequest, UpdateRotationPolicyRequest,
    VerifyMacRequest,
};
use claviger_protocol::names::{Alias, Description, KeyRef, ProjectName, Tag, TagKey, Tags};
use claviger_protocol::secret::Bytes;
use claviger_protocol::{
    Code, DataKeySize, EncryptionContext, KeyOrigin, KeySpec, KeyState, MessageType, Operation, Protection,
    SecretBytes, SigningAlgorithm, codec,
};
use clavigerd::keyring::record::{KeyRecord, path};
use uuid::Uuid;

use super::Sim;
use crate::{create, decrypt, encrypt};

const DAY: i64 = 24 * 60 * 60 * 1000;

/// Where a key stands: the columns of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stand {
    Enabled,
    Disabled,
    PendingImport,
    PendingDeletion,
    /// Planned to be deleted before it ever had material.
    PendingDeletionEmpty,
    Deleted,
}

use Stand::{Deleted, Disabled, Enabled, PendingDeletion, PendingDeletionEmpty, PendingImport};

const STANDS: [Stand; 6] = [Enabled, Disabled, PendingImport, PendingDeletion, PendingDeletionEmpty, Deleted];

/// What came of a call, and how a refusal says so.
type Came = (Code, String);

/// A key to try things on, what it made while it could, and other things to do it with.
struct Subject {
    key: Uuid,
    /// An Enabled key of the same kind.
    other: Uuid,
    blob: Option<Vec<u8>>,
    mac: Option<Vec<u8>>,
}

impl Subject {
    fn key(&self) -> KeyRef {
        KeyRef::Id(self.key)
    }

    fn keys(&self) -> Vec<KeyRef> {
        vec![self.key()]
    }
}

fn one<O: Operation>(sim: &mut Sim, request: O) -> Came {
    let id = sim.start(request);
    sim.settle();
    let (code, body) = &sim.answers[&id];
    match code {
        Code::Ok => (Code::Ok, String::new()),
        code => (*code, codec::decode::<ErrorBody>(body).unwrap().message),
    }
}

fn each<O: Operation<Reply = KeyStatesReply>>(sim: &mut Sim, request: O) -> Came {
    let result = sim.call(request).unwrap().results.remove(0);
    (Code::from_number(result.status).unwrap(), result.message)
}

fn planned(sim: &mut Sim, request: ScheduleKeyDeletionRequest) -> Came {
    let result = sim.call(request).unwrap().results.remove(0);
    (Code::from_number(result.status).unwrap(), result.message)
}

fn alias(name: &str) -> Alias {
    Alias::new(name).unwrap()
}

fn plan(spec: KeySpec, origin: KeyOrigin, token: u8) -> CreateKeyRequest {
    CreateKeyRequest { spec, origin, ..create([token; 16], Protection::Software) }
}

fn mac_of(key: KeyRef) -> GenerateMacRequest {
    GenerateMacRequest { key, algorithm: None, message: SecretBytes::new(b"m".to_vec()) }
}

/// A daemon with a key of the spec that stands so, and another that is Enabled.
fn subject(spec: KeySpec, stand: Stand) -> (Sim, Subject) {
    let mut sim = Sim::new(5);
    let empty = matches!(stand, PendingImport | PendingDeletionEmpty);
    let origin = if empty { KeyOrigin::External } else { KeyOrigin::Kms };
    let key = sim.call(plan(spec, origin, 1)).unwrap().key_id;
    let other = sim.call(plan(spec, KeyOrigin::Kms, 2)).unwrap().key_id;
    let elsewhere = CreateAliasRequest { alias: alias("alias/other"), key: KeyRef::Id(other) };
    sim.call(elsewhere).unwrap();
    let blob =
        (!empty && spec == KeySpec::Aes256).then(|| sim.call(encrypt(key, b"x")).unwrap().ciphertext_blob.0);
    let mac = (!empty && spec == KeySpec::Hmac256).then(|| sim.call(mac_of(KeyRef::Id(key))).unwrap().mac.0);
    let keys = || vec![KeyRef::Id(key)];
    match stand {
        Enabled | PendingImport => {}
        Disabled => drop(sim.call(DisableKeyRequest { keys: keys() }).unwrap()),
        PendingDeletion | PendingDeletionEmpty | Deleted => {
            sim.call(ScheduleKeyDeletionRequest { keys: keys(), days: Some(7), force: true }).unwrap();
        }
    }
    if stand == Deleted {
        sim.time.step_wall(8 * DAY);
        sim.look();
    }
    let subject = Subject { key, other, blob, mac };
    let shown = sim.call(DescribeKeyRequest { key: subject.key() }).unwrap().state;
    assert!(format!("{stand:?}").starts_with(shown.name()), "{stand:?} is {shown}");
    (sim, subject)
}

/// A row of the table: the operation, and for each column `y` where it succeeds and changes
/// something, `=` where there is nothing to do, `r` where it only reads, `-` where the state
/// forbids it, `u` where that kind of key never does it, `.` where it can't be tried.
struct Row {
    name: &'static str,
    wanted: &'static str,
    call: fn(&mut Sim, &Subject) -> Came,
}

const fn row(name: &'static str, wanted: &'static str, call: fn(&mut Sim, &Subject) -> Came) -> Row {
    Row { name, wanted, call }
}

/// Runs one cell.
fn cell(spec: KeySpec, stand: Stand, row: &Row, wanted: char) {
    if wanted == '.' {
        return;
    }
    let (mut sim, subject) = subject(spec, stand);
    let place = path::key(subject.key);
    let before: KeyRecord = sim.record(&place);
    let (code, message) = (row.call)(&mut sim, &subject);
    let after: KeyRecord = sim.record(&place);
    let cell = format!("{} of {stand:?}: {} {message}", row.name, code.name());
    let code_wanted = match wanted {
        'y' | '=' | 'r' => Code::Ok,
        '-' => Code::InvalidKeyState,
        _ => Code::UnsupportedByKey,
    };
    assert_eq!(code, code_wanted, "{cell}");
    assert_eq!(before != after, wanted == 'y', "{cell}");
    if wanted == '-' {
        let name = match before.state {
            KeyState::Deleted => "deleted on 20",
            state => state.name(),
        };
        assert!(message.contains(name), "a refusal names the state: {cell}");
    }
    assert_eq!(sim.intents(), 0, "{cell}");
}

fn table(spec: KeySpec, rows: &[Row]) {
    for row in rows {
        assert_eq!(row.wanted.len(), STANDS.len(), "{}", row.name);
        for (stand, wanted) in STANDS.into_iter().zip(row.wanted.chars()) {
            cell(spec, stand, row, wanted);
        }
    }
}

// Columns: Enabled, Disabled, PendingImport, PendingDeletion with and without material,
// Deleted. The rows of import are to stand here when there is import.

#[test]
fn every_change_in_every_state() {
    table(
        KeySpec::Aes256,
        &[
            row("describe", "rrrrrr", |sim, s| one(sim, DescribeKeyRequest { key: s.key() })),
            row("list versions", "rrrrrr", |sim, s| {
                one(sim, ListKeyVersionsRequest { key: s.key(), limit: 0, page: Bytes::default() })
            }),
            row("list tags", "rrrrrr", |sim, s| one(sim, ListTagsRequest { key: s.key() })),
            row("list aliases", "rrrrrr", |sim, s| one(sim, ListAliasByUuidRequest { key: s.key() })),
            row("associations", "rrrrrr", |sim, s| one(sim, DetectAssociationRequest { key: s.key() })),
            row("create alias", "yyy---", |sim, s| {
                one(sim, CreateAliasRequest { alias: alias("alias/new"), key: s.key() })
            }),
            row("update alias", "yyy---", |sim, s| {
                one(sim, UpdateAliasRequest { alias: alias("alias/other"), key: s.key() })
            }),
            row("describe as", "yyy---", |sim, s| {
                let description = Description::new("new").unwrap();
                one(sim, UpdateKeyDescriptionRequest { key: s.key(), description })
            }),
            row("tag", "yyy---", |sim, s| {
                let tags = Tags::try_from(vec![Tag::new("k", "v").unwrap()]).unwrap();
                each(sim, TagResourceRequest { keys: s.keys(), tags })
            }),
            row("untag", "===---", |sim, s| {
                let tag_keys = vec![TagKey::new("k").unwrap()];
                each(sim, UntagResourceRequest { keys: s.keys(), tag_keys })
            }),
            row("move", "===---", |sim, s| {
                each(sim, MoveResourceRequest { keys: s.keys(), project: ProjectName::default() })
            }),
            row("protect", "yyy---", |sim, s| each(sim, ProtectKeyRequest { keys: s.keys() })),
            row("unprotect", "===---", |sim, s| each(sim, UnprotectKeyRequest { keys: s.keys() })),
            row("enable", "=y----", |sim, s| each(sim, EnableKeyRequest { keys: s.keys() })),
            row("disable", "y=----", |sim, s| each(sim, DisableKeyRequest { keys: s.keys() })),
            row("rotate", "y-u-u-", |sim, s| {
                one(sim, RotateKeyRequest { client_token: [9; 16], key: s.key() })
            }),
            row("create version", "uuuuuu", |sim, s| {
                one(sim, CreateKeyVersionRequest { client_token: [9; 16], key: s.key() })
            }),
            row("rotation policy", "yyu-u-", |sim, s| {
                one(sim, UpdateRotationPolicyRequest { key: s.key(), rotation_days: Some(7) })
            }),
            row("schedule deletion", "yyy---", |sim, s| {
                planned(sim, ScheduleKeyDeletionRequest { keys: s.keys(), days: None, force: true })
            }),
            row("cancel deletion", "---yy-", |sim, s| {
                each(sim, CancelKeyDeletionRequest { keys: s.keys(), enable: false })
            }),
            row("cancel deletion and enable", "---yy-", |sim, s| {
                each(sim, CancelKeyDeletionRequest { keys: s.keys(), enable: true })
            }),
        ],
    );
}

#[test]
fn every_use_of_a_symmetric_key_in_every_state() {
    table(
        KeySpec::Aes256,
        &[
            row("encrypt", "r-----", |sim, s| {
                let plaintext = SecretBytes::new(b"x".to_vec());
                one(sim, EncryptRequest { key: s.key(), plaintext, context: EncryptionContext::default() })
            }),
            row("decrypt", "r-.-.-", |sim, s| one(sim, decrypt(s.blob.as_ref().unwrap()))),
            row("decrypt by name", "r-.-.-", |sim, s| {
                let blob = s.blob.as_ref().unwrap();
                one(sim, DecryptRequest { key: Some(s.key()), ..decrypt(blob) })
            }),
            row("re-encrypt from", "r-.-.-", |sim, s| {
                one(
                    sim,
                    ReEncryptRequest {
                        source_key: None,
                        ciphertext_blob: Bytes(s.blob.clone().unwrap()),
                        source_context: EncryptionContext::default(),
                        destination_key: KeyRef::Id(s.other),
                        destination_context: EncryptionContext::default(),
                    },
                )
            }),
            row("re-encrypt to", "r-----", |sim, s| {
                let blob = sim.call(encrypt(s.other, b"y")).unwrap().ciphertext_blob;
                one(
                    sim,
                    ReEncryptRequest {
                        source_key: None,
                        ciphertext_blob: blob,
                        source_context: EncryptionContext::default(),
                        destination_key: s.key(),
                        destination_context: EncryptionContext::default(),
                    },
                )
            }),
            row("data key", "r-----", |sim, s| {
                let (size, context) = (DataKeySize::Bytes(32), EncryptionContext::default());
                one(sim, GenerateDataKeyRequest { key: s.key(), size, context })
            }),
            row("data key without plaintext", "r-----", |sim, s| {
                let (size, context) = (DataKeySize::Bytes(32), EncryptionContext::default());
                one(sim, GenerateDataKeyWithoutPlaintextRequest { key: s.key(), size, context })
            }),
        ],
    );
}

#[test]
fn every_use_of_a_mac_key_in_every_state() {
    table(
        KeySpec::Hmac256,
        &[
            row("make a MAC", "r-----", |sim, s| one(sim, mac_of(s.key()))),
            row("check a MAC", "r-----", |sim, s| {
                let mac = Bytes(s.mac.clone().unwrap_or_else(|| vec![0; 32]));
                let message = SecretBytes::new(b"m".to_vec());
                one(
                    sim,
                    VerifyMacRequest { key: s.key(), key_version_id: None, algorithm: None, message, mac },
                )
            }),
        ],
    );
}

fn signing(key: KeyRef) -> AsymmetricSignRequest {
    AsymmetricSignRequest {
        key,
        key_version_id: None,
        algorithm: SigningAlgorithm::EcdsaSha256,
        message_type: MessageType::Message,
        message: SecretBytes::new(b"m".to_vec()),
        user_id: None,
    }
}

#[test]
fn every_use_of_a_pair_in_every_state() {
    table(
        KeySpec::EcP256,
        &[
            row("sign", "r-----", |sim, s| one(sim, signing(s.key()))),
            row("verify", "r-----", |sim, s| {
                let AsymmetricSignRequest { algorithm, message_type, message, .. } = signing(s.key());
                one(
                    sim,
                    AsymmetricVerifyRequest {
                        key: s.key(),
                        key_version_id: None,
                        algorithm,
                        message_type,
                        message,
                        signature: Bytes(vec![0; 70]),
                        user_id: None,
                    },
                )
            }),
            row("public key", "r-----", |sim, s| {
                one(sim, GetPublicKeyRequest { key: s.key(), key_version_id: None })
            }),
            row("create version", "y-u-u-", |sim, s| {
                one(sim, CreateKeyVersionRequest { client_token: [9; 16], key: s.key() })
            }),
            row("rotate", "uuuuuu", |sim, s| {
                one(sim, RotateKeyRequest { client_token: [9; 16], key: s.key() })
            }),
            row("rotation policy", "uuuuuu", |sim, s| {
                one(sim, UpdateRotationPolicyRequest { key: s.key(), rotation_days: Some(7) })
            }),
        ],
    );
}

#[test]
fn a_pair_with_several_versions_wants_one_named() {
    let (mut sim, s) = subject(KeySpec::EcP256, Enabled);
    let first = sim.call(signing(s.key())).unwrap().key_version_id;
    let made = sim.call(CreateKeyVersionRequest { client_token: [9; 16], key: s.key() }).unwrap();
    assert_eq!(sim.call(signing(s.key())).unwrap_err(), Code::KeyVersionRequired);
    let public = |key_version_id| GetPublicKeyRequest { key: s.key(), key_version_id };
    assert_eq!(sim.call(public(None)).unwrap_err(), Code::KeyVersionRequired);
    for version in [first, made.key_version_id] {
        let signed = AsymmetricSignRequest { key_version_id: Some(version), ..signing(s.key()) };
        assert_eq!(sim.call(signed).unwrap().key_version_id, version);
        assert_eq!(sim.call(public(Some(version))).unwrap().key_version_id, version);
    }
    let strange = AsymmetricSignRequest { key_version_id: Some(s.key), ..signing(s.key()) };
    assert_eq!(sim.call(strange).unwrap_err(), Code::NotFound);
}

#[test]
fn what_was_cancelled_stands_where_its_material_puts_it() {
    for (stand, enable, want) in [
        (PendingDeletion, false, KeyState::Disabled),
        (PendingDeletion, true, KeyState::Enabled),
        (PendingDeletionEmpty, false, KeyState::PendingImport),
        (PendingDeletionEmpty, true, KeyState::PendingImport),
    ] {
        let (mut sim, s) = subject(KeySpec::Aes256, stand);
        let reply = sim.call(CancelKeyDeletionRequest { keys: s.keys(), enable }).unwrap();
        assert_eq!(reply.results[0].state, Some(want));
        let shown = sim.call(DescribeKeyRequest { key: s.key() }).unwrap();
        assert_eq!((shown.state, shown.deletion_date), (want, None));
    }
}

#[test]
fn the_bounds_of_a_deletion_and_what_stands_against_it() {
    let (mut sim, s) = subject(KeySpec::Aes256, Enabled);
    let schedule = |days, force| ScheduleKeyDeletionRequest { keys: s.keys(), days, force };
    for days in [0, 6] {
        assert_eq!(sim.call(schedule(Some(days), true)).unwrap_err(), Code::InvalidArgument, "{days}");
    }
    // It was used just now, to make a blob: that is told, and no matter to who insists.
    let result = sim.call(schedule(Some(7), false)).unwrap().results.remove(0);
    assert_eq!(result.status, Code::KeyInUse.number());
    assert_eq!(result.associations[0].access_point, "admin");
    sim.call(ProtectKeyRequest { keys: s.keys() }).unwrap();
    for force in [false, true] {
        assert_eq!(planned(&mut sim, schedule(Some(7), force)).0, Code::DeletionProtected);
    }
    sim.call(UnprotectKeyRequest { keys: s.keys() }).unwrap();
    sim.time.step_wall(31 * DAY);
    let result = sim.call(schedule(None, false)).unwrap().results.remove(0);
    assert_eq!(result.status, Code::Ok.number(), "{}", result.message);
    let now = sim.edge.clock.now();
    assert_eq!(result.deletion_date, Some(now + 30 * DAY));
}
