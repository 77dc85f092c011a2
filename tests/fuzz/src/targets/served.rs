//! What a stranger sends and the daemon reads before it knows who it is, and what a
//! helper says.

use claviger_protocol::body::HelloRequest;
use claviger_protocol::frame::{self, FrameError};
use claviger_protocol::limits::HEADER_LEN;
use claviger_protocol::{Code, Header, Opcode, codec};
use clavigerd::backend::hsm::helper;
use clavigerd::config::Limits;
use clavigerd::identity::{Endpoint, EndpointKind, Peer};
use clavigerd::server::{Asked, Budget, Input, greet};

/// The cap of a frame's body here.
const FRAME_CAP: u32 = 4096;
/// Memory for a connection's buffer: enough for any frame under the cap.
const MEMORY: usize = 64 * 1024;
/// A metrics request's head has at most so many bytes.
const MAX_HEAD: usize = 8 * 1024;

/// A connection's buffer gives the frames of a stream as they are, however the stream
/// comes in pieces, and gives its memory back. Input: bytes a read, the stream.
pub(crate) fn stream(input: &[u8]) {
    let Some((&[low, high], stream)) = input.split_first_chunk::<2>() else { return };
    let at_once = usize::from(u16::from_le_bytes([low, high])).max(1);
    let budget = Budget::new(MEMORY);
    let mut buffer = Input::new(&budget).unwrap();
    let (mut sent, mut taken, mut over) = (0, 0, false);
    while !over && sent < stream.len() {
        let space = buffer.space();
        assert!(!space.is_empty(), "a frame under the cap always fits");
        let count = at_once.min(space.len()).min(stream.len() - sent);
        space[..count].copy_from_slice(&stream[sent..sent + count]);
        buffer.filled(count);
        sent += count;
        over = take_frames(&mut buffer, &stream[..sent], &mut taken);
        assert!(budget.used() <= MEMORY);
    }
    drop(buffer);
    assert_eq!(budget.used(), 0);
}

/// Takes the complete frames out; says whether the stream is over.
fn take_frames(buffer: &mut Input, sent: &[u8], taken: &mut usize) -> bool {
    loop {
        assert_eq!(buffer.window(), &sent[*taken..], "what was sent and not taken");
        match frame::peek(buffer.window(), FRAME_CAP) {
            Ok(Some(header)) => {
                let whole = HEADER_LEN + header.length as usize;
                buffer.consume(whole);
                *taken += whole;
            }
            Ok(None) => {
                let head = buffer.window().first_chunk::<HEADER_LEN>().map(Header::from_bytes);
                assert!(head.is_none_or(|header| buffer.fit(header.length as usize)));
                return false;
            }
            Err(FrameError::TooLarge { .. }) => return true,
        }
    }
}

/// A hello makes a connection only if it is one, of a version of ours, without an access
/// key. Input: a frame.
pub(crate) fn hello(input: &[u8]) {
    let Some((head, body)) = input.split_first_chunk::<HEADER_LEN>() else { return };
    let header = Header::from_bytes(head);
    let peer = Peer { uid: 1000, gid: 1000, pid: 1, pidfd: None };
    let answer = |kind| {
        let endpoint = Endpoint { name: "fuzz".into(), kind, service: None };
        greet(&header, body, &endpoint, &peer, 990, &Limits::default()).map_err(|failure| failure.code)
    };
    let answered = answer(EndpointKind::App);
    match &answered {
        Ok(reply) => {
            let hello: HelloRequest = codec::decode(body).unwrap();
            assert!((hello.min_version..=hello.max_version).contains(&reply.version));
            assert_eq!(header.opcode, Opcode::Hello.number());
            assert!(hello.access_key.is_empty() && hello.proof.0.is_empty() && !hello.frame_authenticator);
            assert!(codec::encode(reply).is_ok());
        }
        Err(code) => assert!(matches!(
            code,
            Code::HelloRequired
                | Code::Malformed
                | Code::InvalidArgument
                | Code::UnsupportedVersion
                | Code::NotAvailable
        )),
    }
    let strange = answer(EndpointKind::Admin);
    assert_eq!(strange.map(drop), answered.and(Err(Code::AccessDenied)), "it is for root alone");
}

/// What a metrics request's head asks for stays, whatever follows; a head that is too
/// long is answered too.
pub(crate) fn http(input: &[u8]) {
    let head = &input[..input.len().min(MAX_HEAD)];
    let asked = Asked::read(head);
    assert!(asked.is_some() || head.len() < MAX_HEAD, "nobody is waited for for ever");
    if let Some(begun) = Asked::read(&head[..head.len() / 2]) {
        assert_eq!(asked.as_ref(), Some(&begun));
    }
    if let Some(Asked::Metrics { body }) = asked {
        let method: &[u8] = if body { b"GET /metrics" } else { b"HEAD /metrics" };
        assert!(head.trim_ascii_start().starts_with(method));
    }
}

/// A command has one form; an answer has one once its text is fit for a log. Input: a byte
/// whose lowest bit is 1 for an answer, tag and body.
pub(crate) fn helper(input: &[u8]) {
    let Some((direction, frame)) = input.split_first() else { return };
    let answer = direction & 1 == 1;
    let Ok(written) = helper::rewritten(answer, frame) else { return };
    if answer {
        assert_eq!(helper::rewritten(true, &written).as_ref(), Ok(&written));
    } else {
        assert_eq!(*written, frame);
    }
}
