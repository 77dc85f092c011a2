//! Hostile frames: cut, huge, garbage, slow, and those that say things no frame may
//! say. What can be answered is answered and the connection goes on; what can't be
//! delimited ends it. The daemon goes on serving others, whatever one sends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use claviger_protocol::body::{
    CreateKeyRequest, DescribeKeyRequest, DisableKeyRequest, EnableKeyRequest, EncryptRequest,
    GetRandomRequest, HelloRequest, PingReply, PingRequest, StatusRequest,
};
use claviger_protocol::limits::{DEFAULT_MAX_BODY, HEADER_LEN, MAX_BODY_BEFORE_HELLO, MAX_PING_LEN};
use claviger_protocol::values::AuthMethod;
use claviger_protocol::{Code, Header, KeyRef, Opcode, Operation, Protection, Request, codec};
use claviger_tests::keys::{encryption, list_request, new_key};
use claviger_tests::wire::{header, plain_hello, request_frame};
use claviger_tests::{PATIENCE, Site, Token, Wire, on_both_tokens};
use uuid::Uuid;

fn ping(payload: &[u8]) -> PingRequest {
    PingRequest { payload: payload.to_vec().into() }
}

/// The connection still works.
fn goes_on(wire: &mut Wire) {
    let PingReply { payload, .. } = wire.call(ping(b"still there?")).expect("ping is answered");
    assert_eq!(payload.0, b"still there?");
}

fn body_of<O: Operation>(request: O) -> Vec<u8> {
    let request: Request = request.into();
    request.encode().unwrap()
}

/// One valid request of every operation but hello.
fn one_of_each() -> Vec<(u16, Vec<u8>)> {
    fn one<O: Operation>(request: O) -> (u16, Vec<u8>) {
        (O::OPCODE.number(), body_of(request))
    }
    vec![
        one(ping(b"x")),
        one(StatusRequest {}),
        one(new_key(Protection::Software)),
        one(DescribeKeyRequest { key: KeyRef::Id(Uuid::nil()) }),
        one(list_request(1, Vec::new())),
        one(encryption(Uuid::nil(), b"x")),
        one(GetRandomRequest { length: 1 }),
    ]
}

/// Bytes that look like nothing, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[test]
fn a_frame_cut_anywhere_is_dropped_and_the_connection_closed() {
    on_both_tokens(|daemon| {
        let hello = request_frame(1, plain_hello());
        for cut in 0..hello.len() {
            let mut wire = Wire::connect(&daemon.site().admin_socket());
            wire.send_bytes(&hello[..cut]);
            wire.finish_sending();
            wire.expect_closed();
        }
        let frame = request_frame(9, ping(b"12345678"));
        for cut in 1..frame.len() {
            let mut wire = daemon.admin();
            // The whole frame before the cut one is answered.
            wire.send_bytes(&[&frame, &frame[..cut]].concat());
            wire.finish_sending();
            assert_eq!(wire.read_frame().expect("an answer").header.request_id, 9);
            wire.expect_closed();
        }
        goes_on(&mut daemon.admin());
    });
}

#[test]
fn a_huge_frame_is_refused_by_its_length_and_the_connection_closed() {
    on_both_tokens(|daemon| {
        let socket = daemon.site().admin_socket();
        let claim = |length: usize| Header { length: u32::try_from(length).unwrap(), ..header(2, 5, 0) };
        for over in [MAX_BODY_BEFORE_HELLO + 1, DEFAULT_MAX_BODY, u32::MAX as usize] {
            let mut wire = Wire::connect(&socket);
            wire.send_frame(&claim(over), b"");
            let frame = wire.read_frame().expect("an answer");
            assert_eq!((frame.code(), frame.header.request_id), (Code::FrameTooLarge, 5), "{over}");
            wire.expect_closed();
        }
        for over in [DEFAULT_MAX_BODY + 1, u32::MAX as usize] {
            let mut wire = daemon.admin();
            wire.send_frame(&claim(over), b"");
            let frame = wire.read_frame().expect("an answer");
            assert_eq!((frame.code(), frame.header.request_id), (Code::FrameTooLarge, 5), "{over}");
            wire.expect_closed();
        }
        // At the cap it is read whole: refused for what it says, and the connection goes on.
        let mut wire = Wire::connect(&socket);
        wire.send_body(Opcode::Hello.number(), &vec![0xff; MAX_BODY_BEFORE_HELLO]);
        assert_ne!(wire.read_frame().expect("an answer").code(), Code::FrameTooLarge);
        let mut wire = daemon.admin();
        assert_eq!(wire.refused(2, &vec![0xff; DEFAULT_MAX_BODY]).code, Code::Malformed);
        goes_on(&mut wire);
    });
}

#[test]
fn garbage_is_refused_or_ends_its_connection_and_harms_nobody() {
    on_both_tokens(|daemon| {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        for round in 0..60 {
            let mut wire = match round % 2 {
                0 => Wire::connect(&daemon.site().admin_socket()),
                _ => daemon.app(),
            };
            // The daemon may have closed before it took all of it.
            let _ = wire.try_send_bytes(&noise.bytes(3000));
            let _ = wire.try_finish_sending();
            while let Some(frame) = wire.read_frame() {
                assert_ne!(frame.code(), Code::Ok);
            }
        }
        // Right headers around noise: every frame is answered, on one connection.
        let mut wire = daemon.admin();
        for opcode in Opcode::ALL.iter().map(|opcode| opcode.number()).chain([0, 0xffff]) {
            for len in 0..60 {
                let id = wire.send_body(opcode, &noise.bytes(len));
                let frame = wire.wait(id);
                assert_eq!(frame.header.opcode, opcode);
                assert_ne!(frame.code(), Code::Internal, "opcode {opcode}, {len} bytes");
            }
        }
        goes_on(&mut wire);
    });
}

#[test]
fn slow_frames_are_not_waited_for() {
    let site = Site::with_limits(Token::Embedded, "handshake_timeout = \"1s\"\nidle_timeout = \"3s\"");
    let daemon = site.start();
    let mut silent = Wire::connect(&site.admin_socket());
    let mut trickling = Wire::connect(&site.admin_socket());
    let mut idle = daemon.admin();
    let mut trickling_later = daemon.admin();
    let mut busy = daemon.admin();
    // A byte at a time is activity on the socket and progress of nothing.
    let hello = request_frame(1, plain_hello());
    trickle(&mut trickling, &hello, &mut busy);
    silent.expect_closed();
    trickling.expect_closed();
    let whole = request_frame(1, ping(&[0; MAX_PING_LEN]));
    trickle(&mut trickling_later, &whole, &mut busy);
    idle.expect_closed();
    trickling_later.expect_closed();
    goes_on(&mut busy);
    daemon.terminate();
}

/// Sends a byte now and then until the daemon has had enough, while another
/// connection is used and must stay.
fn trickle(wire: &mut Wire, bytes: &[u8], busy: &mut Wire) {
    let began = Instant::now();
    for byte in bytes {
        if wire.try_send_bytes(&[*byte]).is_err() {
            return;
        }
        goes_on(busy);
        assert!(began.elapsed() < PATIENCE, "a slow frame was waited for");
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the whole frame was waited for");
}

#[test]
fn unknown_version_opcode_and_enum_values_are_answered_and_the_connection_goes_on() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for version in [0, 2, 255] {
            let head = Header { version, ..header(2, 77, 3) };
            wire.send_frame(&head, b"abc");
            let refusal = wire.wait(77).refusal();
            assert_eq!(refusal.code, Code::UnsupportedVersion, "{version}");
        }
        for opcode in [0, 5, 0x00ff, 0x0100, 0x011a, 0x0134, 0x0200, 0x02ff, 0xffff] {
            assert_eq!(wire.refused(opcode, b"abc").code, Code::UnknownOpcode, "{opcode:#06x}");
        }
        // By hand: offsets of the enumerations in the bodies of SPEC.md section 7.5.
        let create = body_of(CreateKeyRequest { usage: Some(KEY_USAGE), ..new_key(Protection::Software) });
        for at in [16, 18, 19, 20] {
            for value in [0, 99, 255] {
                let mut body = create.clone();
                body[at] = value;
                let refusal = wire.refused(Opcode::CreateKey.number(), &body);
                assert_eq!(refusal.code, Code::InvalidArgument, "byte {at} = {value}");
            }
        }
        for body in
            [&[1, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 1, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
        {
            let refusal = wire.refused(Opcode::ListKeys.number(), body);
            assert_eq!(refusal.code, Code::InvalidArgument, "{body:?}");
        }
        // Neither 0 nor 1 where an option says whether it is there: not a value, a broken body.
        let mut body = create;
        body[17] = 2;
        assert_eq!(wire.refused(Opcode::CreateKey.number(), &body).code, Code::Malformed);
        goes_on(&mut wire);
        assert_eq!(daemon.admin().list_all().len(), 0, "no refused create made a key");
    });
}

const KEY_USAGE: claviger_protocol::KeyUsage = claviger_protocol::KeyUsage::EncryptDecrypt;

#[test]
fn flags_status_and_reserved_fields_are_refused_and_the_connection_goes_on() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let ping = body_of(ping(b""));
        let good = header(2, 3, ping.len());
        for flags in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            wire.send_frame(&Header { flags, ..good }, &ping);
            assert_eq!(wire.wait(3).refusal().code, Code::UnsupportedFlag, "{flags:#04x}");
        }
        for bad in [
            Header { status: 1, ..good },
            Header { status: u16::MAX, ..good },
            Header { reserved: 1, ..good },
            Header { reserved: 0x8000, ..good },
        ] {
            wire.send_frame(&bad, &ping);
            assert_eq!(wire.wait(3).refusal().code, Code::Malformed, "{bad:?}");
        }
        // Any id and any deadline is fine.
        for (id, deadline_ms) in [(0, 1), (u64::MAX, u32::MAX), (3, 0)] {
            wire.send_frame(&Header { deadline_ms, ..header(2, id, ping.len()) }, &ping);
            assert_eq!(wire.wait(id).code(), Code::Ok, "{id} {deadline_ms}");
        }
        goes_on(&mut wire);
    });
}

#[test]
fn hello_missing_twice_or_wrong() {
    on_both_tokens(|daemon| {
        let socket = daemon.site().admin_socket();
        for (opcode, body) in one_of_each() {
            let mut wire = Wire::connect(&socket);
            assert_eq!(wire.refused(opcode, &body).code, Code::HelloRequired, "opcode {opcode}");
            wire.expect_closed();
        }
        let mut wire = daemon.admin();
        assert_eq!(wire.call(plain_hello()).unwrap_err().code, Code::HelloRequired);
        goes_on(&mut wire);

        let hello = plain_hello;
        let wrong = [
            (HelloRequest { min_version: 2, max_version: 9, ..hello() }, Code::UnsupportedVersion),
            (HelloRequest { min_version: 0, max_version: 0, ..hello() }, Code::UnsupportedVersion),
            (HelloRequest { min_version: 2, max_version: 1, ..hello() }, Code::UnsupportedVersion),
            (HelloRequest { agent: "a".repeat(65), ..hello() }, Code::InvalidArgument),
            (HelloRequest { agent: "forged\nline".into(), ..hello() }, Code::InvalidArgument),
            (HelloRequest { auth_method: AuthMethod::HmacSha256, ..hello() }, Code::NotAvailable),
            (HelloRequest { frame_authenticator: true, ..hello() }, Code::NotAvailable),
        ];
        for (body, want) in wrong {
            let mut wire = Wire::connect(&socket);
            assert_eq!(wire.call(body.clone()).unwrap_err().code, want, "{body:?}");
        }
        // SPEC.md 5.1: the client may say another hello.
        let mut wire = Wire::connect(&socket);
        assert_eq!(
            wire.call(HelloRequest { min_version: 2, max_version: 9, ..hello() }).unwrap_err().code,
            Code::UnsupportedVersion
        );
        assert!(wire.hello().complete);
        goes_on(&mut wire);
    });
}

#[test]
fn hello_says_the_endpoint_and_its_limits() {
    let limits = "max_body = \"128KiB\"\nmax_plaintext = 1000\nmax_batch = 7\nmax_in_flight = 3";
    let site = Site::with_limits(Token::Embedded, limits);
    let daemon = site.start();
    for (socket, endpoint) in [(site.admin_socket(), "admin"), (site.app_socket(), "app")] {
        let hello = Wire::connect(&socket).hello();
        assert_eq!(hello.endpoint, endpoint);
        assert_eq!((hello.max_body, hello.max_plaintext), (128 * 1024, 1000));
        assert_eq!((hello.max_batch, hello.max_in_flight), (7, 3));
        assert_eq!((hello.version, hello.server_nonce, hello.proof.0.len()), (1, [0; 32], 0));
    }
    // And keeps to them.
    let mut wire = daemon.admin();
    let key = wire.create(Protection::Hsm);
    wire.encrypt(key, &[1; 1000]);
    let over: EncryptRequest = encryption(key, &[1; 1001]);
    assert_eq!(wire.call(over).unwrap_err().code, Code::PlaintextTooLarge);
    wire.send_frame(&Header { length: 128 * 1024 + 1, ..header(2, 9, 0) }, b"");
    assert_eq!(wire.wait(9).code(), Code::FrameTooLarge);
    wire.expect_closed();
    daemon.terminate();
}

#[test]
fn leftovers_and_missing_bytes_of_a_body_are_refused_for_every_operation() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        for (opcode, body) in one_of_each() {
            let more = [&body[..], &[0]].concat();
            assert_eq!(wire.refused(opcode, &more).code, Code::Malformed, "opcode {opcode}, leftover");
            if let Some((_, less)) = body.split_last() {
                assert_eq!(wire.refused(opcode, less).code, Code::Malformed, "opcode {opcode}, cut");
            }
        }
        let hello = [codec::encode(&plain_hello()).unwrap(), vec![0]].concat();
        let mut wire = Wire::connect(&daemon.site().admin_socket());
        assert_eq!(wire.refused(Opcode::Hello.number(), &hello).code, Code::Malformed);
        assert_eq!(daemon.admin().list_all().len(), 0, "no refused create made a key");
    });
}

/// A call of a hundred commits, one after the other: long beside the frames that are
/// written behind it, however busy the machine is.
fn long_call(keys: &[Uuid], disable: bool) -> Request {
    let keys = keys.iter().copied().map(KeyRef::Id).collect();
    if disable { DisableKeyRequest { keys }.into() } else { EnableKeyRequest { keys }.into() }
}

fn long_frame(id: u64, keys: &[Uuid], disable: bool) -> Vec<u8> {
    let call = long_call(keys, disable);
    let body = call.encode().unwrap();
    [header(call.opcode().number(), id, body.len()).to_bytes().as_slice(), &body].concat()
}

fn hundred_keys(wire: &mut Wire) -> Vec<Uuid> {
    (0..100).map(|_| wire.create(Protection::Software)).collect()
}

#[test]
fn replies_come_out_of_order_by_id_and_an_id_in_flight_is_not_taken_twice() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let keys = hundred_keys(&mut wire);
        // The ping behind it in the same write doesn't wait for the disk.
        wire.send_bytes(&[long_frame(1, &keys, true), request_frame(2, ping(b""))].concat());
        let first = wire.read_frame().expect("an answer");
        assert_eq!((first.header.request_id, first.code()), (2, Code::Ok));
        let second = wire.read_frame().expect("an answer");
        assert_eq!((second.header.request_id, second.code()), (1, Code::Ok));

        wire.send_bytes(&[long_frame(7, &keys, false), request_frame(7, ping(b""))].concat());
        let refused = wire.read_frame().expect("an answer");
        assert_eq!(refused.header.opcode, Opcode::Ping.number());
        assert_eq!(refused.refusal().code, Code::InvalidArgument);
        let done = wire.read_frame().expect("an answer");
        assert_eq!((done.header.opcode, done.code()), (Opcode::EnableKey.number(), Code::Ok));
        // Once answered, the id is free again.
        wire.send_bytes(&request_frame(7, ping(b"")));
        assert_eq!(wire.wait(7).code(), Code::Ok);
    });
}

#[test]
fn no_more_than_max_in_flight_calls_wait_on_a_connection() {
    let site = Site::with_limits(Token::Embedded, "max_in_flight = 3");
    let daemon = site.start();
    let mut wire = daemon.admin();
    let keys: Vec<Vec<Uuid>> = (1..=3).map(|_| hundred_keys(&mut wire)).collect();
    let long = (1..=3).zip(&keys).flat_map(|(id, keys)| long_frame(id, keys, true));
    let more = (4..=5).flat_map(|id| request_frame(id, new_key(Protection::Hsm)));
    wire.send_bytes(&long.chain(more).collect::<Vec<u8>>());
    let codes: Vec<Code> = (1..=5).map(|id| wire.wait(id).code()).collect();
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::Ok, Code::Busy, Code::Busy]);
    assert_eq!(wire.list_all().len(), 300, "what was refused has made nothing");
    daemon.terminate();
}

#[test]
fn a_client_that_stops_sending_or_reading_gets_what_it_asked_for() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let create = request_frame(1, new_key(Protection::Hsm));
        let pings: Vec<u8> = (2..=500).flat_map(|id| request_frame(id, ping(&[1; 100]))).collect();
        wire.send_bytes(&[create, pings].concat());
        wire.finish_sending();
        for id in 1..=500 {
            assert_eq!(wire.wait(id).code(), Code::Ok, "{id}");
        }
        wire.expect_closed();

        // Not reading: the daemon stops reading too, long before it holds much.
        let mut deaf = daemon.admin();
        let frame = request_frame(1, ping(&[7; MAX_PING_LEN]));
        let most = 64 * 1024 * 1024 / frame.len();
        let taken = deaf.send_until_stuck(&frame, most);
        assert!(taken < most, "the daemon took {taken} frames whose answers nobody reads");
        goes_on(&mut daemon.admin());
        for _ in 0..taken {
            assert_eq!(deaf.read_frame().expect("an answer").body.len(), body_len(&frame));
        }
    });
}

/// Length of the answer to this ping: its version text besides the payload.
fn body_len(frame: &[u8]) -> usize {
    frame.len() - HEADER_LEN + 8 + env!("CARGO_PKG_VERSION").len()
}
