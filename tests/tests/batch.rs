//! Batches: many calls in one frame, each with its own result.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_protocol::body::{
    BatchItem, BatchRequest, BatchResult, DecryptRequest, EncryptRequest, ErrorBody, GetRandomRequest,
    PingRequest,
};
use claviger_protocol::{Code, Opcode, Operation, Protection, Request, codec};
use claviger_tests::keys::{decryption, encryption, new_key};
use claviger_tests::{Site, Token, Wire, on_both_tokens};
use uuid::Uuid;

fn item<O: Operation>(request: O) -> BatchItem {
    let request: Request = request.into();
    BatchItem { opcode: O::OPCODE.number(), body: request.encode().unwrap().into() }
}

fn run(wire: &mut Wire, items: Vec<BatchItem>) -> Vec<BatchResult> {
    let expected = items.len();
    let results = wire.call(BatchRequest { items }).expect("the batch as a whole succeeds").results;
    assert_eq!(results.len(), expected, "a result for each item");
    results
}

fn code(result: &BatchResult) -> Code {
    Code::from_number(result.status).expect("a code of the list")
}

fn reply<O: Operation>(result: &BatchResult) -> O::Reply {
    assert_eq!(code(result), Code::Ok);
    codec::decode(result.body.expose()).expect("the item's reply")
}

#[test]
fn as_many_items_as_allowed_and_not_one_more() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.app();
        assert_eq!(run(&mut wire, vec![]), []);
        let random = || item(GetRandomRequest { length: 16 });
        let results = run(&mut wire, vec![random(); 1024]);
        let mut seen: Vec<Vec<u8>> =
            results.iter().map(|result| reply::<GetRandomRequest>(result).random.expose().to_vec()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 1024, "every item ran, and by itself");
        let refused = wire.call(BatchRequest { items: vec![random(); 1025] });
        assert_eq!(refused.unwrap_err().code, Code::InvalidArgument);
    });
    let site = Site::with_limits(Token::Embedded, "max_batch = 2");
    let daemon = site.start();
    let items = |n| BatchRequest { items: vec![item(GetRandomRequest { length: 1 }); n] };
    assert_eq!(daemon.app().call(items(2)).unwrap().results.len(), 2);
    assert_eq!(daemon.app().call(items(3)).unwrap_err().code, Code::InvalidArgument);
    daemon.terminate();
}

#[test]
fn results_are_mixed_and_in_the_order_of_their_items() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let (hsm, software) = (wire.create(Protection::Hsm), wire.create(Protection::Software));
        let off = wire.create(Protection::Hsm);
        wire.switch(off, false);
        let blob = wire.encrypt(hsm, b"before");
        let mut cut = blob.clone();
        cut.pop();
        let broken = BatchItem { opcode: Opcode::Encrypt.number(), body: vec![1].into() };
        let unknown = BatchItem { opcode: 0x7777, body: vec![].into() };
        let results = run(
            &mut wire,
            vec![
                item(encryption(hsm, b"one")),
                item(decryption(&cut)),
                item(encryption(software, b"two")),
                item(encryption(off, b"x")),
                broken,
                item(encryption(Uuid::from_u128(9), b"x")),
                unknown,
                item(GetRandomRequest { length: 0 }),
                item(encryption(hsm, &[0; 6145])),
                item(decryption(&blob)),
            ],
        );
        let codes: Vec<Code> = results.iter().map(code).collect();
        assert_eq!(
            codes,
            [
                Code::Ok,
                Code::InvalidCiphertext,
                Code::Ok,
                Code::InvalidKeyState,
                Code::Malformed,
                Code::NotFound,
                Code::UnknownOpcode,
                Code::InvalidArgument,
                Code::PlaintextTooLarge,
                Code::Ok,
            ]
        );
        for refused in results.iter().filter(|result| code(result) != Code::Ok) {
            let error: ErrorBody = codec::decode(refused.body.expose()).unwrap();
            assert!(!error.message.is_empty());
        }
        assert_eq!(reply::<DecryptRequest>(&results[9]).plaintext.expose(), b"before");
        for (index, key, text) in [(0, hsm, &b"one"[..]), (2, software, b"two")] {
            let sealed = reply::<EncryptRequest>(&results[index]);
            assert_eq!(sealed.key_id, key);
            assert_eq!(wire.decrypt(&sealed.ciphertext_blob.0), Ok(text.to_vec()));
        }
    });
}

#[test]
fn nothing_but_the_data_plane_goes_into_a_batch() {
    on_both_tokens(|daemon| {
        let mut wire = daemon.admin();
        let nested = BatchRequest { items: vec![item(GetRandomRequest { length: 1 })] };
        let hello = claviger_tests::wire::plain_hello();
        let results = run(
            &mut wire,
            vec![
                item(nested),
                item(new_key(Protection::Software)),
                item(PingRequest { payload: vec![].into() }),
                item(hello),
                item(GetRandomRequest { length: 1 }),
            ],
        );
        let codes: Vec<Code> = results.iter().map(code).collect();
        let refused = Code::InvalidArgument;
        assert_eq!(codes, [refused, refused, refused, refused, Code::Ok]);
        assert_eq!(wire.list_all().len(), 0);
        // A claimed count with nothing behind it, and one over the format's own bound.
        for (count, want) in [(2_u64, Code::Malformed), (u64::MAX, Code::InvalidArgument)] {
            let refusal = wire.refused(Opcode::Batch.number(), &count.to_le_bytes());
            assert_eq!(refusal.code, want, "{count}");
        }
    });
}

#[test]
fn a_result_that_does_not_fit_the_reply_is_reply_too_large_and_the_rest_stands() {
    let site = Site::with_limits(Token::Embedded, "max_body = \"64KiB\"");
    let daemon = site.start();
    let mut wire = daemon.app();
    // Thirty times 4 KiB don't fit in 64 KiB; what is small still does, also later.
    let mut items = vec![item(GetRandomRequest { length: 4096 }); 30];
    items.push(item(GetRandomRequest { length: 1 }));
    let results = run(&mut wire, items);
    let codes: Vec<Code> = results.iter().map(code).collect();
    let fitting = codes.iter().take_while(|code| **code == Code::Ok).count();
    assert!((14..=15).contains(&fitting), "{codes:?}");
    assert!(codes[fitting..30].iter().all(|code| *code == Code::ReplyTooLarge), "{codes:?}");
    for result in &results[..fitting] {
        assert_eq!(reply::<GetRandomRequest>(result).random.len(), 4096);
    }
    assert_eq!(reply::<GetRandomRequest>(&results[30]).random.len(), 1);
    daemon.terminate();
}
