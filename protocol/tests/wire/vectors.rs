//! The golden vectors against this crate, both ways: bytes to meaning and back.
//!
//! A body's meaning in a vector is lowered to what serde_json makes of the body
//! type, so one test serves every operation that there will ever be.

use std::collections::BTreeSet;

use claviger_protocol::algorithms::{
    DigestAlgorithm, EncryptionAlgorithm, ExportAlgorithm, ImportAlgorithm, KeyPairSpec, MacAlgorithm,
    MessageType, SigningAlgorithm, WrappingKeySpec,
};
use claviger_protocol::batch::Results;
use claviger_protocol::body::{BatchItem, ErrorBody};
use claviger_protocol::context::ContextError;
use claviger_protocol::frame::{self, Header};
use claviger_protocol::limits::{DEFAULT_MAX_BODY, HEADER_LEN, MAX_BODY_BEFORE_HELLO};
use claviger_protocol::ops::Endpoint;
use claviger_protocol::values::{AuthMethod, MemberState, ServiceState};
use claviger_protocol::{
    Code, DataKeySpec, EncryptionContext, KeyOrigin, KeySpec, KeyState, KeyUsage, Opcode, Protection, Reply,
    Request, Suite, codec,
};
use serde_json::{Value, json};

use crate::common::{bytes, number, text, vectors};

/// The name of a body's type, and its meaning as serde_json sees it.
macro_rules! meaning {
    ($of:ident, $message:expr) => {
        meaning!($of, $message, Hello Ping Status Batch CreateKey DescribeKey ListKeys EnableKey DisableKey
            ScheduleKeyDeletion CancelKeyDeletion ProtectKey UnprotectKey UpdateKeyDescription TagResource
            UntagResource ListTags RotateKey UpdateRotationPolicy CreateKeyVersion ListKeyVersions
            DescribeKeyVersion GetParametersForImport ImportKeyMaterial DeleteKeyMaterial DetectAssociation
            CreateDefaultKey ListAliasKeys ListSymmetricKeys CreateAlias UpdateAlias DeleteAlias ListAlias
            ListAliasByUuid CreateProject ListProjects DeleteProject MoveResource
            Encrypt Decrypt ReEncrypt DescribeBlob GenerateDataKey GenerateDataKeyWithoutPlaintext GetRandom
            GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext ExportDataKey GenerateAndExportDataKey
            AsymmetricSign AsymmetricVerify AsymmetricEncrypt AsymmetricDecrypt GetPublicKey GenerateMac VerifyMac
            MessageDigest BeginBackup ReadBackup EndBackup VerifyBackup ListBackups ListTombstones)
    };
    ($of:ident, $message:expr, $($operation:ident)+) => {
        match $message { $($of::$operation(body) => (type_name(body), serde_json::to_value(body).unwrap()),)+ }
    };
}

fn type_name<T>(_: &T) -> &'static str {
    std::any::type_name::<T>().rsplit("::").next().unwrap()
}

fn request_meaning(request: &Request) -> (&'static str, Value) {
    meaning!(Request, request)
}

fn reply_meaning(reply: &Reply) -> (&'static str, Value) {
    meaning!(Reply, reply)
}

/// An enumeration's number by its name and its value's spelling.
fn enumeration(kind: &str, spelling: &str) -> Option<u8> {
    macro_rules! numbers {
        ($($name:ident)+) => {
            match kind {
                $(stringify!($name) => spelling.parse::<$name>().ok().map(|value| {
                    assert_eq!(value.name(), spelling, "vectors use the first spelling");
                    value.number()
                }),)+
                _ => None,
            }
        };
    }
    numbers!(KeySpec KeyUsage Protection KeyOrigin KeyState DataKeySpec AuthMethod ServiceState MemberState Suite
        KeyPairSpec SigningAlgorithm EncryptionAlgorithm ExportAlgorithm ImportAlgorithm WrappingKeySpec MacAlgorithm
        DigestAlgorithm MessageType)
}

/// A vector's meaning as serde_json makes it of the body type.
fn lower(meaning: &Value) -> Value {
    match meaning {
        Value::Array(items) => items.iter().map(lower).collect(),
        Value::Object(fields) if fields.len() == 1 => {
            let (name, value) = fields.iter().next().unwrap();
            match (name.as_str(), value) {
                ("hex", Value::String(hex)) => json!(hex::decode(hex).unwrap()),
                ("context", Value::Array(_)) => json!(context(value).unwrap().as_bytes()),
                (kind, Value::String(spelling)) => match enumeration(kind, spelling) {
                    Some(number) => json!(number),
                    None => json!({ kind: spelling }),
                },
                (name, value) => json!({ name: lower(value) }),
            }
        }
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), lower(value))).collect(),
        plain => plain.clone(),
    }
}

fn context(pairs: &Value) -> Result<EncryptionContext, ContextError> {
    let pairs = pairs.as_array().unwrap().iter();
    EncryptionContext::from_pairs(pairs.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())))
}

fn header_of(vector: &Value) -> Header {
    let fields = &vector["header"];
    let small = |name: &str| u16::try_from(number(fields, name)).unwrap();
    Header {
        length: u32::try_from(number(fields, "length")).unwrap(),
        version: u8::try_from(number(fields, "version")).unwrap(),
        flags: u8::try_from(number(fields, "flags")).unwrap(),
        opcode: small("opcode"),
        request_id: number(fields, "request_id"),
        deadline_ms: u32::try_from(number(fields, "deadline_ms")).unwrap(),
        status: small("status"),
        reserved: small("reserved"),
    }
}

/// Type name, meaning and re-encoded bytes of a frame's body.
fn read_body(direction: &str, header: &Header, body: &[u8]) -> (&'static str, Value, Vec<u8>) {
    let opcode = Opcode::from_number(header.opcode).unwrap();
    let (name, meaning, again) = match (direction, header.status) {
        ("request", 0) => {
            let request = Request::decode(opcode, body).unwrap();
            assert_eq!(request.opcode(), opcode);
            let (name, meaning) = request_meaning(&request);
            (name, meaning, request.encode())
        }
        ("reply", 0) => {
            let reply = Reply::decode(opcode, body).unwrap();
            assert_eq!(reply.opcode(), opcode);
            let (name, meaning) = reply_meaning(&reply);
            (name, meaning, reply.encode())
        }
        _ => {
            let error: ErrorBody = codec::decode(body).unwrap();
            (type_name(&error), serde_json::to_value(&error).unwrap(), codec::encode(&error))
        }
    };
    (name, meaning, again.unwrap())
}

#[test]
fn frames_mean_what_they_say_and_encode_to_the_same_bytes() {
    for vector in vectors("frames") {
        let name = text(&vector, "name");
        let wire = bytes(&vector, "hex");
        let header = frame::peek(&wire, u32::try_from(DEFAULT_MAX_BODY).unwrap()).unwrap().expect(name);
        assert_eq!(header, header_of(&vector), "{name}");
        assert_eq!(header.to_bytes(), wire[..HEADER_LEN], "{name}");
        let (kind, meaning, again) = read_body(text(&vector, "direction"), &header, &wire[HEADER_LEN..]);
        assert_eq!(kind, text(&vector, "type"), "{name}");
        assert_eq!(meaning, lower(&vector["body"]), "{name}");
        assert_eq!(hex::encode(again), hex::encode(&wire[HEADER_LEN..]), "{name}");
    }
}

#[test]
fn every_operation_code_and_enumeration_value_has_a_vector() {
    let (mut requests, mut replies, mut codes, mut values) =
        <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    for vector in vectors("frames") {
        let header = header_of(&vector);
        codes.insert(header.status);
        match (text(&vector, "direction"), header.status) {
            ("request", _) => requests.insert(header.opcode),
            (_, 0) => replies.insert(header.opcode),
            _ => true,
        };
        collect_enumerations(&vector["body"], &mut values);
    }
    for &opcode in Opcode::ALL {
        assert!(requests.contains(&opcode.number()), "no request of {opcode:?} among the vectors");
        assert!(replies.contains(&opcode.number()), "no reply of {opcode:?} among the vectors");
    }
    for &code in Code::ALL {
        assert!(codes.contains(&code.number()), "no reply with {code:?} among the vectors");
    }
    macro_rules! complete {
        ($($name:ident)+) => {$(
            for value in $name::ALL {
                let wanted = (stringify!($name).to_owned(), value.name().to_owned());
                assert!(values.contains(&wanted), "no vector has {wanted:?}");
            }
        )+};
    }
    complete!(KeySpec KeyUsage Protection KeyOrigin KeyState DataKeySpec AuthMethod ServiceState MemberState Suite
        KeyPairSpec SigningAlgorithm EncryptionAlgorithm ExportAlgorithm ImportAlgorithm WrappingKeySpec MacAlgorithm
        DigestAlgorithm MessageType);
}

fn collect_enumerations(meaning: &Value, found: &mut BTreeSet<(String, String)>) {
    match meaning {
        Value::Array(items) => items.iter().for_each(|item| collect_enumerations(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(spelling) = value.as_str() {
                    found.insert((name.clone(), spelling.to_owned()));
                }
                collect_enumerations(value, found);
            }
        }
        _ => {}
    }
}

#[test]
fn bad_bodies_are_refused_with_their_code() {
    for vector in vectors("bodies") {
        let opcode = Opcode::from_number(u16::try_from(number(&vector, "opcode")).unwrap()).unwrap();
        let code = match Request::decode(opcode, &bytes(&vector, "hex")) {
            Ok(request) => panic!("{} {}: taken as {request:?}", opcode.row().name, vector["name"]),
            Err(error) => error.code(),
        };
        assert_eq!(code.name(), text(&vector, "code"), "{} {}", opcode.row().name, vector["name"]);
    }
}

/// What section 3.1 says of each frame, as far as this crate alone decides it.
struct Connection {
    admin: bool,
    hello: bool,
    open: bool,
}

impl Connection {
    fn judge(&mut self, wire: &[u8]) -> Code {
        assert!(self.open, "nothing is sent after the end");
        let cap = if self.hello { DEFAULT_MAX_BODY } else { MAX_BODY_BEFORE_HELLO };
        let Ok(header) = frame::peek(wire, u32::try_from(cap).unwrap()) else {
            self.open = false;
            return Code::FrameTooLarge;
        };
        let header = header.expect("vectors hold whole frames");
        if let Err(code) = header.check_request() {
            return code;
        }
        if self.hello == (header.opcode == Opcode::Hello.number()) {
            self.open = self.hello;
            return Code::HelloRequired;
        }
        let Some(opcode) = Opcode::from_number(header.opcode) else {
            return Code::UnknownOpcode;
        };
        if opcode.row().endpoint == Endpoint::Admin && !self.admin {
            return Code::AccessDenied;
        }
        match Request::decode(opcode, &wire[HEADER_LEN..]) {
            Ok(Request::Hello(hello)) => self.judge_hello(&hello),
            Ok(_) => Code::Ok,
            Err(error) => error.code(),
        }
    }

    fn judge_hello(&mut self, hello: &claviger_protocol::body::HelloRequest) -> Code {
        if !(hello.min_version..=hello.max_version).contains(&frame::VERSION) {
            return Code::UnsupportedVersion;
        }
        if hello.auth_method != AuthMethod::None || hello.frame_authenticator {
            return Code::NotAvailable;
        }
        if !hello.access_key.is_empty() || !hello.proof.0.is_empty() || hello.client_nonce != [0; 32] {
            return Code::InvalidArgument;
        }
        self.hello = true;
        Code::Ok
    }
}

#[test]
fn connections_answer_each_frame_as_the_text_says() {
    for vector in vectors("connections") {
        let name = text(&vector, "name");
        let mut connection =
            Connection { admin: text(&vector, "endpoint") == "admin", hello: false, open: true };
        for step in vector["steps"].as_array().unwrap() {
            let got = connection.judge(&bytes(step, "send"));
            assert_eq!(got.name(), text(step, "code"), "{name}: {}", step["note"]);
        }
        assert_eq!(!connection.open, vector["closed"].as_bool().unwrap(), "{name}");
    }
}

#[test]
fn batch_items_are_judged_one_by_one() {
    for vector in vectors("batch_items") {
        let opcode = u16::try_from(number(&vector, "opcode")).unwrap();
        let code = match (BatchItem { opcode, body: bytes(&vector, "hex").into() }).request() {
            Ok(request) => {
                assert_eq!(request.opcode().number(), opcode);
                Code::Ok
            }
            Err(error) => error.code(),
        };
        assert_eq!(code.name(), text(&vector, "code"), "{}", vector["name"]);
    }
}

#[test]
fn batch_results_that_do_not_fit_are_replaced() {
    for vector in vectors("batch_rooms") {
        let replies = vector["replies"].as_array().unwrap();
        let max_body = usize::try_from(number(&vector, "max_body")).unwrap();
        let mut results = Results::new(replies.len(), max_body);
        let codes: Vec<_> = replies
            .iter()
            .map(|length| vec![0; usize::try_from(length.as_u64().unwrap()).unwrap()])
            .map(|body| results.reply(body.into()).name())
            .collect();
        assert_eq!(json!(codes), vector["codes"], "{}", vector["name"]);
        assert!(codec::encode(&results.finish()).unwrap().len() <= max_body, "{}", vector["name"]);
    }
}

#[test]
fn contexts_are_taken_only_in_canonical_form() {
    for vector in vectors("contexts") {
        let name = text(&vector, "name");
        let wire = bytes(&vector, "hex");
        let got = EncryptionContext::from_canonical(wire.clone());
        assert_eq!(got.is_ok(), text(&vector, "code") == "Ok", "{name}: {got:?}");
        let Ok(got) = got else { continue };
        let pairs: Vec<_> = got.pairs().map(|(key, value)| json!([key, value])).collect();
        assert_eq!(Value::Array(pairs), vector["pairs"], "{name}");
        let mut reversed = vector["pairs"].as_array().unwrap().clone();
        reversed.reverse();
        assert_eq!(context(&Value::Array(reversed)).unwrap().as_bytes(), wire, "{name}");
    }
}
