//! Batches: typed results, splitting, failures of one item and of one frame.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use claviger_client::{Batch, Client, Error, Options, ProtocolError};
use claviger_protocol::body::{
    BatchReply, BatchRequest, BatchResult, DescribeBlobRequest, ErrorBody, GetRandomReply, GetRandomRequest,
    HelloReply,
};
use claviger_protocol::{Code, Reply, Request, codec};
use support::{Fake, Peer, hello};

async fn connected(fake: &Fake, hello: HelloReply) -> (Client, Peer) {
    let client = tokio::spawn(Client::connect(fake.path(), Options::default()));
    let peer = fake.accept_with(hello).await;
    (client.await.unwrap().unwrap(), peer)
}

fn randoms(request: &BatchRequest) -> Vec<BatchResult> {
    let each = request.items.iter().map(|item| {
        let request: GetRandomRequest = codec::decode(item.body.expose()).unwrap();
        let length = u8::try_from(request.length).unwrap();
        let reply = GetRandomReply { random: vec![length; usize::from(length)].into() };
        BatchResult { status: 0, body: codec::encode(&reply).unwrap().into() }
    });
    each.collect()
}

async fn batch_request(peer: &mut Peer) -> (claviger_protocol::Header, BatchRequest) {
    match peer.request().await {
        (header, Request::Batch(request)) => (header, request),
        (_, other) => panic!("not a batch: {other:?}"),
    }
}

#[tokio::test]
async fn each_item_has_its_own_typed_result() {
    let fake = Fake::new();
    let (client, mut peer) = connected(&fake, hello()).await;
    let mut batch = Batch::new();
    let random = batch.push(GetRandomRequest { length: 3 });
    let refused = batch.push(DescribeBlobRequest { ciphertext_blob: vec![1].into() });
    let broken = batch.push(GetRandomRequest { length: 4 });
    let call = tokio::spawn(async move { client.batch(batch).await });
    let (header, request) = batch_request(&mut peer).await;
    let opcodes: Vec<_> = request.items.iter().map(|item| item.opcode).collect();
    assert_eq!(opcodes, [0x207, 0x204, 0x207]);
    let refusal = ErrorBody { message: "no blob".into(), retry_after_ms: 0 };
    let random_reply = GetRandomReply { random: vec![7; 3].into() };
    let results = vec![
        BatchResult { status: 0, body: codec::encode(&random_reply).unwrap().into() },
        BatchResult {
            status: Code::InvalidCiphertext.number(),
            body: codec::encode(&refusal).unwrap().into(),
        },
        BatchResult { status: 0, body: b"cut".to_vec().into() },
    ];
    peer.reply(&header, &Reply::Batch(BatchReply { results })).await;
    let mut results = call.await.unwrap();
    assert_eq!(results.take(random).unwrap().random.expose(), [7; 3]);
    let error = results.take(refused).unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::InvalidCiphertext, .. }), "{error}");
    let error = results.take(broken).unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::Body { .. })), "{error}");
}

#[tokio::test]
async fn a_batch_is_split_by_items_and_by_size_and_kept_in_order() {
    // Four items of 2 + 8 + 8 + 12 bytes after the 8 of their number fill a body of 128.
    for limits in [HelloReply { max_batch: 4, ..hello() }, HelloReply { max_body: 128, ..hello() }] {
        let fake = Fake::new();
        let (client, mut peer) = connected(&fake, limits).await;
        let mut batch = Batch::new();
        let mut push = |n| batch.push(DescribeBlobRequest { ciphertext_blob: vec![n; 12].into() });
        let items: Vec<_> = (0..10).map(&mut push).collect();
        let call = tokio::spawn(async move { client.batch(batch).await });
        for expected in [4, 4, 2] {
            let (header, request) = batch_request(&mut peer).await;
            assert_eq!(request.items.len(), expected);
            let results = request.items.iter().map(|item| {
                let blob: DescribeBlobRequest = codec::decode(item.body.expose()).unwrap();
                let body = ErrorBody { message: blob.ciphertext_blob.0[0].to_string(), retry_after_ms: 0 };
                BatchResult { status: Code::Malformed.number(), body: codec::encode(&body).unwrap().into() }
            });
            peer.reply(&header, &Reply::Batch(BatchReply { results: results.collect() })).await;
        }
        let mut results = call.await.unwrap();
        for (n, item) in (0..).zip(items) {
            let Err(Error::Refused { message, .. }) = results.take(item) else { panic!() };
            assert_eq!(message.parse(), Ok(n));
        }
    }
}

#[tokio::test]
async fn a_frame_that_fails_fails_its_items_only() {
    let fake = Fake::new();
    let (client, mut peer) = connected(&fake, HelloReply { max_batch: 1, ..hello() }).await;
    let mut batch = Batch::new();
    let items: Vec<_> = (1..=3).map(|length| batch.push(GetRandomRequest { length })).collect();
    let call = tokio::spawn(async move { client.batch(batch).await });
    let (header, _) = batch_request(&mut peer).await;
    peer.refuse(&header, Code::Busy, "full", 0).await;
    let (header, _) = batch_request(&mut peer).await;
    peer.reply(&header, &Reply::Batch(BatchReply { results: vec![] })).await;
    let (header, request) = batch_request(&mut peer).await;
    peer.reply(&header, &Reply::Batch(BatchReply { results: randoms(&request) })).await;
    let mut results = call.await.unwrap();
    let mut each = items.into_iter().map(|item| results.take(item));
    assert!(matches!(each.next(), Some(Err(Error::Refused { code: Code::Busy, .. }))));
    let short = ProtocolError::BatchResults { expected: 1, got: 0 };
    assert!(matches!(each.next(), Some(Err(Error::Protocol(e))) if e == short));
    assert_eq!(each.next().unwrap().unwrap().random.len(), 3);
}

#[tokio::test]
async fn a_lost_batch_of_harmless_calls_is_sent_again() {
    let fake = Fake::new();
    let (client, mut peer) = connected(&fake, hello()).await;
    let mut batch = Batch::new();
    let item = batch.push(GetRandomRequest { length: 5 });
    let call = tokio::spawn(async move { client.batch(batch).await });
    batch_request(&mut peer).await;
    drop(peer);
    let mut peer = fake.accept().await;
    let (header, request) = batch_request(&mut peer).await;
    peer.reply(&header, &Reply::Batch(BatchReply { results: randoms(&request) })).await;
    assert_eq!(call.await.unwrap().take(item).unwrap().random.len(), 5);
}

#[tokio::test]
async fn items_that_are_too_large_of_another_batch_or_taken_twice_are_errors() {
    let fake = Fake::new();
    let (client, mut peer) = connected(&fake, HelloReply { max_body: 64, ..hello() }).await;
    let mut other = Batch::new();
    other.push(GetRandomRequest { length: 1 });
    other.push(GetRandomRequest { length: 1 });
    let foreign = other.push(GetRandomRequest { length: 1 });
    let mut batch = Batch::new();
    let large = batch.push(DescribeBlobRequest { ciphertext_blob: vec![0; 100].into() });
    let small = batch.push(GetRandomRequest { length: 2 });
    assert_eq!((batch.len(), batch.is_empty()), (2, false));
    let call = tokio::spawn(async move { client.batch(batch).await });
    let (header, request) = batch_request(&mut peer).await;
    assert_eq!(request.items.len(), 1);
    peer.reply(&header, &Reply::Batch(BatchReply { results: randoms(&request) })).await;
    let mut results = call.await.unwrap();
    let error = results.take(large).unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::FrameTooLarge, .. }), "{error}");
    assert_eq!(results.take(small).unwrap().random.len(), 2);
    let error = results.take(small).unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::NoSuchItem)), "{error}");
    let error = results.take(foreign).unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::NoSuchItem)), "{error}");
}
