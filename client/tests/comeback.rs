//! Losing the connection and coming back: what is repeated, what isn't, and when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use claviger_client::{Client, Error, Options, ProtocolError, new_key};
use claviger_protocol::body::{BatchRequest, CreateKeyReply, HelloReply};
use claviger_protocol::{Code, KeySpec, Protection, Reply, Request, SecretBytes};
use support::{Fake, GUARD, Peer, hello};

async fn pair(fake: &Fake) -> (Client, Peer) {
    let path = fake.path();
    let client = tokio::spawn(Client::connect(path, Options::default()));
    let peer = fake.accept().await;
    (client.await.unwrap().unwrap(), peer)
}

#[tokio::test]
async fn connecting_to_nothing_fails_at_once() {
    let mut fake = Fake::new();
    fake.gone();
    let start = Instant::now();
    let Err(Error::Connect(error)) = Client::connect(fake.path(), Options::default()).await else { panic!() };
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(error.socket, fake.path());
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_hello_that_is_refused_or_unusable_is_a_typed_error() {
    type Expected = fn(&Error) -> bool;
    let unusable = |change: fn(&mut HelloReply)| {
        let mut reply = hello();
        change(&mut reply);
        reply
    };
    let cases: [(HelloReply, Expected); 4] = [
        (unusable(|h| h.version = 2), |e| matches!(e, Error::Protocol(ProtocolError::Version(2)))),
        (unusable(|h| h.complete = false), |e| matches!(e, Error::Protocol(ProtocolError::Hello(_)))),
        (unusable(|h| h.max_in_flight = 0), |e| matches!(e, Error::Protocol(ProtocolError::Hello(_)))),
        (unusable(|h| h.max_body = 0), |e| matches!(e, Error::Protocol(ProtocolError::Hello(_)))),
    ];
    for (reply, expected) in cases {
        let fake = Fake::new();
        let client = tokio::spawn(Client::connect(fake.path(), Options::default()));
        fake.accept_with(reply).await;
        let error = client.await.unwrap().err().unwrap();
        assert!(expected(&error), "{error}");
    }
    let fake = Fake::new();
    let client = tokio::spawn(Client::connect(fake.path(), Options::default()));
    let mut peer = fake.accept_silently().await;
    let (header, _) = peer.request().await;
    peer.refuse(&header, Code::Unauthenticated, "who?", 0).await;
    let error = client.await.unwrap().err().unwrap();
    assert!(matches!(error, Error::Refused { code: Code::Unauthenticated, .. }), "{error}");
}

#[tokio::test]
async fn a_hello_that_never_comes_is_a_connect_error_in_time() {
    let fake = Fake::new();
    let options = Options { connect_timeout: Duration::from_millis(50), ..Options::default() };
    let client = tokio::spawn(Client::connect(fake.path(), options));
    let _silent = fake.accept_silently().await;
    let Err(Error::Connect(error)) = client.await.unwrap() else { panic!() };
    assert_eq!(error.source.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_with_the_same_client_token() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let request = new_key(KeySpec::Aes256, Protection::Hsm);
    let token = request.client_token;
    let call = tokio::spawn(async move { client.create_key(request).await });
    let (_, first) = peer.request().await;
    drop(peer);
    let mut peer = fake.accept().await;
    let (header, second) = peer.request().await;
    assert_eq!(first, second);
    let Request::CreateKey(request) = second else { panic!() };
    assert_eq!(request.client_token, token);
    let key_id = uuid::Uuid::from_u128(7);
    peer.reply(&header, &Reply::CreateKey(CreateKeyReply { key_id, key_version_id: None })).await;
    assert_eq!(call.await.unwrap().unwrap().key_id, key_id);
}

#[tokio::test]
async fn a_daemon_that_closes_inside_a_reply_is_asked_again() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let call = tokio::spawn(async move { client.ping(b"again".to_vec()).await });
    let (header, _) = peer.request().await;
    let half = header.reply(0, 100).to_bytes();
    peer.raw(&half).await;
    peer.raw(b"only a part").await;
    drop(peer);
    let mut peer = fake.accept().await;
    let (header, request) = peer.request().await;
    peer.pong(&header, request).await;
    assert_eq!(call.await.unwrap().unwrap().payload.0, b"again");
}

#[tokio::test]
async fn what_may_have_been_done_and_is_not_repeatable_is_not_repeated() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let call = tokio::spawn(async move { client.call(BatchRequest { items: vec![] }).await });
    peer.request().await;
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { maybe_done: true }), "{error}");
}

#[tokio::test]
async fn a_request_that_kills_the_daemon_is_given_up() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let call = tokio::spawn(async move { client.ping(vec![]).await });
    for _ in 0..2 {
        peer.request().await;
        peer = fake.accept_after(peer).await;
    }
    peer.request().await;
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { maybe_done: true }), "{error}");
}

#[tokio::test]
async fn a_request_that_never_went_out_whole_is_sent_again_whatever_it_is() {
    let fake = Fake::new();
    let (client, peer) = pair(&fake).await;
    // More than a socket takes without a reader: the daemon can't have it all.
    let body =
        claviger_protocol::body::BatchItem { opcode: 0x207, body: SecretBytes::new(vec![1; 1_000_000]) };
    let call = tokio::spawn(async move { client.call(BatchRequest { items: vec![body] }).await });
    peer.stream.readable().await.unwrap();
    drop(peer);
    let mut peer = fake.accept().await;
    let (header, request) = peer.request().await;
    assert!(matches!(request, Request::Batch(_)));
    peer.refuse(&header, Code::Busy, "later", 0).await;
    assert!(matches!(call.await.unwrap(), Err(Error::Refused { code: Code::Busy, .. })));
}

#[tokio::test]
async fn a_client_waits_for_a_daemon_that_restarts() {
    let mut fake = Fake::new();
    let (client, peer) = pair(&fake).await;
    fake.gone();
    drop(peer);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.ping(b"back?".to_vec()).await })
    };
    // It finds nobody at least once.
    let short = client.with_timeout(Duration::from_millis(100)).ping(vec![]).await.unwrap_err();
    let Error::Connect(error) = short else { panic!("{short}") };
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
    fake.listen();
    let mut peer = fake.accept().await;
    let (header, request) = peer.request().await;
    peer.pong(&header, request).await;
    assert_eq!(waiting.await.unwrap().unwrap().payload.0, b"back?");
}

#[tokio::test]
async fn many_callers_come_back_over_one_new_connection() {
    let fake = Fake::new();
    let (client, mut peer) = pair(&fake).await;
    let calls: Vec<_> = (0..50_u8)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.ping(vec![n]).await })
        })
        .collect();
    for _ in 0..50 {
        peer.request().await;
    }
    drop(peer);
    let mut peer = fake.accept().await;
    for _ in 0..50 {
        let (header, request) = peer.request().await;
        peer.pong(&header, request).await;
    }
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap().payload.0, [n]);
    }
    drop(client);
    assert!(peer.sees_close().await);
    let another = tokio::time::timeout(Duration::from_millis(20), fake.accept_silently()).await;
    assert!(another.is_err(), "a second connection");
}

#[tokio::test]
async fn a_caller_that_connects_for_all_may_leave() {
    let fake = Fake::new();
    let (client, peer) = pair(&fake).await;
    drop(peer);
    let leaving = {
        let client = client.clone();
        tokio::spawn(async move { client.ping(b"leaving".to_vec()).await })
    };
    let silent = fake.accept_silently().await;
    let staying = {
        let client = client.clone();
        tokio::spawn(async move { client.ping(b"staying".to_vec()).await })
    };
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    let mut peer = tokio::time::timeout(GUARD, fake.accept()).await.unwrap();
    let (header, request) = peer.request().await;
    peer.pong(&header, request).await;
    assert_eq!(staying.await.unwrap().unwrap().payload.0, b"staying");
    drop(silent);
}
