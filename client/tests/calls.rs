//! Calls over one connection: order, cap, timeouts, dropped callers, bad replies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_client::{Client, Error, Options, ProtocolError, blocking};
use claviger_protocol::body::{BatchRequest, DecryptReply, ErrorBody, GetRandomReply, HelloReply};
use claviger_protocol::{Code, EncryptionContext, FrameError, Header, Opcode, Reply, Request, codec};
use support::{Fake, GUARD, OnThread, Peer, hello};
use tokio::task::JoinHandle;

async fn connected(fake: &Fake, options: Options, hello: HelloReply) -> (Client, Peer) {
    let path = fake.path();
    let client = tokio::spawn(async move { Client::connect(path, options).await });
    let peer = fake.accept_with(hello).await;
    (client.await.unwrap().unwrap(), peer)
}

async fn pair(fake: &Fake) -> (Client, Peer) {
    connected(fake, Options::default(), hello()).await
}

fn ping(client: &Client, payload: &[u8]) -> JoinHandle<Result<Vec<u8>, Error>> {
    let (client, payload) = (client.clone(), payload.to_vec());
    tokio::spawn(async move { client.ping(payload).await.map(|reply| reply.payload.0) })
}

#[tokio::test]
async fn replies_find_their_callers_out_of_order() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let calls: BTreeMap<u8, _> = (0..100).map(|n| (n, ping(&client, &[n]))).collect();
    let mut requests = Vec::new();
    for _ in 0..calls.len() {
        requests.push(peer.request().await);
    }
    for (header, request) in requests.into_iter().rev() {
        peer.pong(&header, request).await;
    }
    for (n, call) in calls {
        assert_eq!(call.await.unwrap().unwrap(), [n]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_share_one_connection_and_large_frames_mix_with_small() {
    let fake = Arc::new(Fake::new());
    let (client, mut peer) = pair(&fake).await;
    let server = tokio::spawn(async move {
        while let Some((header, request)) = peer.next_request().await {
            let Request::Decrypt(request) = request else {
                peer.pong(&header, request).await;
                continue;
            };
            let plaintext = request.ciphertext_blob.0.into();
            let id = uuid::Uuid::nil();
            let reply = DecryptReply { key_id: id, key_version_id: id, plaintext };
            peer.reply(&header, &Reply::Decrypt(reply)).await;
        }
    });
    let small: Vec<_> =
        (0..2_000_usize).map(|n| (n, ping(&client, &vec![u8::try_from(n % 251).unwrap(); n % 50]))).collect();
    let large: Vec<_> = (0..200_u8)
        .map(|n| {
            let client = client.clone();
            let blob = vec![n; 200_000 + usize::from(n)];
            (n, tokio::spawn(async move { client.decrypt(None, blob, EncryptionContext::default()).await }))
        })
        .collect();
    for (n, call) in small {
        assert_eq!(call.await.unwrap().unwrap(), vec![u8::try_from(n % 251).unwrap(); n % 50]);
    }
    for (n, call) in large {
        assert_eq!(call.await.unwrap().unwrap().plaintext.expose(), vec![n; 200_000 + usize::from(n)]);
    }
    drop(client);
    tokio::time::timeout(GUARD, server).await.expect("dropping the client closes the connection").unwrap();
}

#[tokio::test]
async fn a_reply_in_single_bytes_is_put_together() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let call = ping(&client, b"slowly");
    let (header, request) = peer.request().await;
    let Request::Ping(body) = request else { panic!() };
    let body = Reply::Ping(claviger_protocol::body::PingReply { version: "1".into(), payload: body.payload });
    let body = body.encode().unwrap();
    let header = header.reply(0, u32::try_from(body.len()).unwrap());
    for byte in [&header.to_bytes()[..], &body].concat() {
        peer.raw(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(call.await.unwrap().unwrap(), b"slowly");
}

#[tokio::test]
async fn no_more_than_the_announced_number_is_in_flight() {
    let fake = Fake::new();
    let (client, mut peer) =
        connected(&fake, Options::default(), HelloReply { max_in_flight: 2, ..hello() }).await;
    let calls: Vec<_> = (0..5).map(|n| ping(&client, &[n])).collect();
    let first = peer.request().await;
    let second = peer.request().await;
    let third = tokio::time::timeout(Duration::from_millis(50), peer.next_request()).await;
    assert!(third.is_err(), "a third request while two are unanswered");
    peer.pong(&first.0, first.1).await;
    peer.pong(&second.0, second.1).await;
    for _ in 2..5 {
        let (header, request) = peer.request().await;
        peer.pong(&header, request).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_dropped_call_gives_its_place_back_and_its_late_reply_is_ignored() {
    let fake = Fake::new();
    let (client, mut peer) =
        connected(&fake, Options::default(), HelloReply { max_in_flight: 1, ..hello() }).await;
    let dropped = ping(&client, b"dropped");
    let (header, request) = peer.request().await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    let next = ping(&client, b"next");
    peer.pong(&header, request).await;
    let (header, request) = peer.request().await;
    peer.pong(&header, request).await;
    assert_eq!(next.await.unwrap().unwrap(), b"next");
}

#[tokio::test]
async fn a_call_ends_in_time_and_tells_the_daemon_its_deadline() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let quick = client.with_timeout(Duration::from_millis(80));
    let call = ping(&quick, b"x");
    let (header, _) = peer.request().await;
    assert!((1..=80).contains(&header.deadline_ms), "{}", header.deadline_ms);
    assert!(matches!(call.await.unwrap(), Err(Error::Timeout(t)) if t == Duration::from_millis(80)));
    // The connection is still good.
    let call = ping(&client, b"y");
    let (header, request) = peer.request().await;
    assert!(header.deadline_ms > 4_000);
    peer.pong(&header, request).await;
    assert_eq!(call.await.unwrap().unwrap(), b"y");
}

#[tokio::test]
async fn a_refusal_carries_code_message_and_when_to_come_back() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let call = ping(&client, b"");
    let (header, _) = peer.request().await;
    peer.refuse(&header, Code::Throttled, "slow down", 250).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(error.retryable());
    let Error::Refused { code, message, retry_after } = error else { panic!("{error:?}") };
    assert_eq!((code, message.as_str()), (Code::Throttled, "slow down"));
    assert_eq!(retry_after, Some(Duration::from_millis(250)));
    let call = ping(&client, b"");
    let (header, _) = peer.request().await;
    peer.answer(&header, Code::Busy.number(), b"not an error body").await;
    let Err(Error::Refused { code, message, .. }) = call.await.unwrap() else { panic!() };
    assert_eq!((code, message.as_str()), (Code::Busy, Code::Busy.meaning()));
}

#[tokio::test]
async fn what_only_one_call_can_not_read_leaves_the_connection_alone() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let call = ping(&client, b"");
    let (header, _) = peer.request().await;
    let body = codec::encode(&ErrorBody { message: "from later".into(), retry_after_ms: 9 }).unwrap();
    peer.answer(&header, 4_711, &body).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(!error.retryable());
    let unknown = ProtocolError::UnknownStatus { status: 4_711, message: "from later".into() };
    assert!(matches!(&error, Error::Protocol(e) if *e == unknown), "{error}");
    let call = ping(&client, b"");
    let (header, _) = peer.request().await;
    peer.answer(&header, 0, b"cut").await;
    let error = call.await.unwrap().unwrap_err();
    let body = |e: &Error| matches!(e, Error::Protocol(ProtocolError::Body { opcode: Opcode::Ping, .. }));
    assert!(body(&error), "{error}");
    let call = ping(&client, b"fine");
    let (header, request) = peer.request().await;
    peer.pong(&header, request).await;
    assert_eq!(call.await.unwrap().unwrap(), b"fine");
}

#[tokio::test]
async fn a_broken_reply_ends_the_connection_for_all_and_the_next_call_makes_a_new_one() {
    type Spoil = fn(&Header) -> Vec<u8>;
    type Expected = fn(&ProtocolError) -> bool;
    let cases: [(Spoil, Expected); 7] = [
        (
            |h| Header { deadline_ms: 1, length: 0, ..*h }.to_bytes().to_vec(),
            |e| *e == ProtocolError::Reserved,
        ),
        (
            |h| Header { length: (1 << 20) + 1, ..*h }.to_bytes()[..4].to_vec(),
            |e| matches!(e, ProtocolError::TooLarge(FrameError::TooLarge { cap: 1_048_576, .. })),
        ),
        (|h| Header { version: 2, length: 0, ..*h }.to_bytes().to_vec(), |e| *e == ProtocolError::Version(2)),
        (|h| Header { flags: 1, length: 0, ..*h }.to_bytes().to_vec(), |e| *e == ProtocolError::Reserved),
        (
            |h| Header { request_id: 99, length: 0, ..*h }.to_bytes().to_vec(),
            |e| *e == ProtocolError::UnknownRequest(99),
        ),
        (
            |h| Header { opcode: 0x207, length: 0, ..*h }.to_bytes().to_vec(),
            |e| *e == ProtocolError::WrongOperation { expected: 2, got: 0x207 },
        ),
        (|_| vec![0xff; 64], |e| matches!(e, ProtocolError::TooLarge(_))),
    ];
    for (spoil, expected) in cases {
        let fake = Fake::new();
        let (client, mut peer) = pair(&fake).await;
        let (one, two) = (ping(&client, b"1"), ping(&client, b"2"));
        let (header, _) = peer.request().await;
        peer.request().await;
        peer.raw(&spoil(&header.reply(0, 0))).await;
        for call in [one, two] {
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(&error, Error::Protocol(e) if expected(e)), "{error}");
        }
        assert!(peer.sees_close().await);
        let call = ping(&client, b"3");
        let mut peer = fake.accept().await;
        let (header, request) = peer.request().await;
        peer.pong(&header, request).await;
        assert_eq!(call.await.unwrap().unwrap(), b"3");
    }
}

#[tokio::test]
async fn a_reply_given_twice_is_a_broken_connection() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let (one, two) = (ping(&client, b"1"), ping(&client, b"2"));
    let (header, request) = peer.request().await;
    peer.pong(&header, request.clone()).await;
    peer.pong(&header, request).await;
    let results = [one.await.unwrap(), two.await.unwrap()];
    let answered = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(answered, 1);
    let unknown = |r: &Result<_, Error>| matches!(r, Err(Error::Protocol(ProtocolError::UnknownRequest(id))) if *id == header.request_id);
    assert!(results.iter().any(unknown), "{results:?}");
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused_here_and_not_sent() {
    let fake = Fake::new();
    let (client, mut peer) =
        connected(&fake, Options::default(), HelloReply { max_body: 100, ..hello() }).await;
    let error = client.ping(vec![0; 100]).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::FrameTooLarge, .. }), "{error}");
    drop(client);
    assert!(peer.sees_close().await);
}

#[tokio::test]
async fn secrets_arrive_and_are_not_in_any_debug_text() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let call = tokio::spawn(async move { client.random(4).await });
    let (header, request) = peer.request().await;
    assert!(matches!(request, Request::GetRandom(r) if r.length == 4));
    peer.reply(&header, &Reply::GetRandom(GetRandomReply { random: b"ZZZZ".to_vec().into() })).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(reply.random.expose(), b"ZZZZ");
    assert!(!format!("{reply:?}").contains("90"));
}

#[test]
fn blocking_clients_share_a_connection_between_threads() {
    let fake = OnThread::run(|fake| async move {
        let mut peer = fake.accept().await;
        // Answers only once both threads have asked: so they are in flight together.
        let (one, two) = (peer.request().await, peer.request().await);
        peer.pong(&two.0, two.1).await;
        peer.pong(&one.0, one.1).await;
        peer.sees_close().await;
    });
    let client = blocking::Client::connect(fake.path(), Options::default()).unwrap();
    assert_eq!(client.session().unwrap().endpoint, "app");
    std::thread::scope(|scope| {
        for n in 0..2_u8 {
            let client = client.clone();
            scope.spawn(move || assert_eq!(client.ping(vec![n]).unwrap().payload.0, [n]));
        }
    });
    drop(client);
    fake.join();
}

#[test]
fn a_blocking_client_left_alone_finds_its_connection_closed_and_makes_another() {
    let (closed, wait) = std::sync::mpsc::channel();
    let fake = OnThread::run(move |fake| async move {
        let mut peer = fake.accept().await;
        let (header, request) = peer.request().await;
        peer.pong(&header, request).await;
        drop(peer);
        closed.send(()).unwrap();
        let mut peer = fake.accept().await;
        // Not repeatable, and yet sent: the closed connection never took it.
        let (header, request) = peer.request().await;
        assert!(matches!(request, Request::Batch(_)));
        peer.refuse(&header, Code::Busy, "later", 0).await;
    });
    let client = blocking::Client::connect(fake.path(), Options::default()).unwrap();
    client.ping(vec![]).unwrap();
    wait.recv_timeout(GUARD).unwrap();
    let error = client.call(BatchRequest { items: vec![] }).unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Busy, .. }), "{error}");
    fake.join();
}

#[tokio::test]
async fn the_agent_is_printable_and_short() {
    let fake = Fake::new();
    let options = Options { agent: format!("a\nb\u{e9}{}", "c".repeat(100)), ..Options::default() };
    let client = tokio::spawn(Client::connect(fake.path(), options));
    let mut peer = fake.accept_silently().await;
    let (_, request) = peer.request().await;
    let Request::Hello(sent) = request else { panic!() };
    assert_eq!(sent.agent, format!("ab{}", "c".repeat(62)));
    drop(peer);
    let Err(Error::Connect(error)) = client.await.unwrap() else { panic!() };
    assert_eq!(error.source.kind(), std::io::ErrorKind::UnexpectedEof);
}
