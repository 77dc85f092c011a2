//! Pipelines: whose reply is whose, what a daemon may not say, and where they end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::time::Duration;

use claviger_client::{Error, Options, Pipeline, ProtocolError};
use claviger_protocol::body::{DecryptRequest, GetRandomRequest, HelloReply, PingRequest};
use claviger_protocol::{Code, EncryptionContext, Header, Opcode, Reply, Request};
use support::{Fake, GUARD, Peer, hello};

async fn connected(fake: &Fake, hello: HelloReply) -> (Pipeline<u8>, Peer) {
    let path = fake.path();
    let pipeline = tokio::spawn(async move { Pipeline::connect(&path, &Options::default()).await });
    let peer = fake.accept_with(hello).await;
    (pipeline.await.unwrap().unwrap(), peer)
}

fn ping(payload: &[u8]) -> PingRequest {
    PingRequest { payload: payload.to_vec().into() }
}

fn payload(reply: Reply) -> Vec<u8> {
    let Reply::Ping(reply) = reply else { panic!("not a ping's: {reply:?}") };
    reply.payload.0
}

async fn ready(pipeline: &mut Pipeline<u8>) -> Result<(), Error> {
    tokio::time::timeout(GUARD, pipeline.ready()).await.expect("never ready")
}

#[tokio::test]
async fn replies_come_with_their_tags_in_any_order_and_places_are_used_again() {
    let fake = Fake::new();
    let (mut pipeline, mut peer) = connected(&fake, hello()).await;
    for round in 0..3_u8 {
        for n in 0..50 {
            pipeline.submit(ping(&[round, n]), n).unwrap();
        }
        let server = tokio::spawn(async move {
            let mut requests = Vec::new();
            for _ in 0..50 {
                requests.push(peer.request().await);
            }
            for (header, request) in requests.into_iter().rev() {
                peer.pong(&header, request).await;
            }
            peer
        });
        let mut tags = Vec::new();
        while pipeline.in_flight() > 0 {
            ready(&mut pipeline).await.unwrap();
            while let Some((tag, reply)) = pipeline.take().unwrap() {
                assert_eq!(payload(reply.unwrap().decode().unwrap()), [round, tag]);
                tags.push(tag);
            }
        }
        assert_eq!(tags, (0..50).rev().collect::<Vec<_>>());
        peer = server.await.unwrap();
    }
    // Nothing under way: nothing to wait for, and nothing there.
    ready(&mut pipeline).await.unwrap();
    assert!(pipeline.take().unwrap().is_none());
}

#[tokio::test]
async fn a_refused_call_is_its_own_and_the_others_go_on() {
    let fake = Fake::new();
    let (mut pipeline, mut peer) = connected(&fake, hello()).await;
    pipeline.submit(GetRandomRequest { length: 1 }, 1).unwrap();
    pipeline.submit(ping(b"x"), 2).unwrap();
    let server = tokio::spawn(async move {
        let (header, _) = peer.request().await;
        peer.refuse(&header, Code::Throttled, "slow down", 250).await;
        let (header, request) = peer.request().await;
        peer.pong(&header, request).await;
        peer
    });
    ready(&mut pipeline).await.unwrap();
    let (tag, refused) = pipeline.take().unwrap().unwrap();
    let Err(Error::Refused { code: Code::Throttled, retry_after, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((tag, retry_after), (1, Some(Duration::from_millis(250))));
    ready(&mut pipeline).await.unwrap();
    let (tag, reply) = pipeline.take().unwrap().unwrap();
    assert_eq!((tag, payload(reply.unwrap().decode().unwrap())), (2, b"x".to_vec()));
    server.await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_sent() {
    let fake = Fake::new();
    let small = HelloReply { max_in_flight: 2, max_body: 20, ..hello() };
    let (mut pipeline, mut peer) = connected(&fake, small).await;
    let code = |result: Result<(), Error>| match result {
        Err(Error::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(pipeline.submit(ping(&[0; 13]), 0)), Code::FrameTooLarge);
    assert_eq!((pipeline.in_flight(), pipeline.room()), (0, 2));
    pipeline.submit(ping(&[0; 12]), 1).unwrap();
    pipeline.submit(ping(&[]), 2).unwrap();
    assert_eq!(code(pipeline.submit(ping(&[]), 3)), Code::Busy);
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (header, _) = peer.request().await;
            peer.answer(&header, 0, &[]).await;
        }
        peer
    });
    ready(&mut pipeline).await.unwrap();
    let (tag, reply) = pipeline.take().unwrap().unwrap();
    let reply = reply.unwrap();
    assert_eq!((tag, reply.body().len(), pipeline.room()), (1, 0, 1));
    let broken = Error::Protocol(ProtocolError::Body {
        opcode: Opcode::Ping,
        reason: Reply::decode(Opcode::Ping, &[]).unwrap_err(),
    });
    assert_eq!(reply.decode().unwrap_err().to_string(), broken.to_string());
    server.await.unwrap();
}

/// What a pipeline with one ping under way says of a reply, now and ever after.
async fn ends_with(reply: impl Fn(Header) -> Vec<u8>) -> String {
    let fake = Fake::new();
    let (mut pipeline, mut peer) = connected(&fake, hello()).await;
    pipeline.submit(ping(&[]), 1).unwrap();
    let asked = tokio::spawn(async move { (peer.request().await.0, peer) });
    let first = async {
        loop {
            ready(&mut pipeline).await?;
            // The second reply to the same call comes with the first.
            while let Some((_, reply)) = pipeline.take()? {
                reply.unwrap();
            }
        }
    };
    let answer = async {
        let (header, mut peer) = asked.await.unwrap();
        peer.raw(&reply(header)).await;
        drop(peer);
    };
    let (error, ()): (Result<(), Error>, ()) = tokio::join!(first, answer);
    let error = error.unwrap_err().to_string();
    assert_eq!(ready(&mut pipeline).await.unwrap_err().to_string(), error);
    assert_eq!(pipeline.take().unwrap_err().to_string(), error);
    assert_eq!(pipeline.submit(ping(&[]), 3).unwrap_err().to_string(), error);
    error
}

#[tokio::test]
async fn a_daemon_that_breaks_the_protocol_ends_it_for_good() {
    let plain = |header: Header| header.reply(0, 0);
    let other = |header: Header| Header { request_id: header.request_id ^ 1 << 40, ..plain(header) };
    assert!(ends_with(|header| other(header).to_bytes().to_vec()).await.contains("not in flight"));
    let far = |header: Header| Header { request_id: header.request_id | 7, ..plain(header) };
    assert!(ends_with(|header| far(header).to_bytes().to_vec()).await.contains("not in flight"));
    let twice = |header: Header| [plain(header).to_bytes(), plain(header).to_bytes()].concat();
    assert!(ends_with(twice).await.contains("not in flight"));
    let wrong = |header: Header| Header { opcode: 3, ..plain(header) };
    assert!(ends_with(|header| wrong(header).to_bytes().to_vec()).await.contains("for operation 0x0003"));
    let flagged = |header: Header| Header { flags: 1, ..plain(header) };
    assert!(ends_with(|header| flagged(header).to_bytes().to_vec()).await.contains("unknown flags"));
    let large = |header: Header| Header { length: 1 << 21, ..plain(header) };
    assert!(
        ends_with(|header| large(header).to_bytes().to_vec()).await.contains("over this connection's cap")
    );
    let cut = |header: Header| plain(header).to_bytes()[..20].to_vec();
    assert!(ends_with(cut).await.contains("lost"));
}

#[tokio::test]
async fn waiting_can_be_given_up_and_taken_up_again_while_both_ends_write_much() {
    let fake = Fake::new();
    let (mut pipeline, mut peer) = connected(&fake, hello()).await;
    let server = tokio::spawn(async move {
        let mut taken = 0;
        while let Some((header, request)) = peer.next_request().await {
            let Request::Decrypt(request) = request else { panic!("{request:?}") };
            peer.answer(&header, 0, &request.ciphertext_blob.0).await;
            taken += 1;
        }
        taken
    });
    // More than a socket holds, both ways.
    for n in 0..40 {
        let blob = vec![n; 100_000 + usize::from(n)].into();
        let context = EncryptionContext::default();
        pipeline.submit(DecryptRequest { key: None, ciphertext_blob: blob, context }, n).unwrap();
    }
    let mut seen = 0;
    while pipeline.in_flight() > 0 {
        // Polled once and dropped, most of the time before anything is there.
        let polled =
            tokio::select! { biased; ready = pipeline.ready() => Some(ready), () = async {} => None };
        if polled.is_none() {
            tokio::task::yield_now().await;
            continue;
        }
        while let Some((n, reply)) = pipeline.take().unwrap() {
            assert_eq!(reply.unwrap().body().expose(), vec![n; 100_000 + usize::from(n)]);
            seen += 1;
        }
    }
    drop(pipeline);
    assert_eq!((seen, server.await.unwrap()), (40, 40));
}
