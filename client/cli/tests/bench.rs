//! `claviger bench` against daemons that fail: what went wrong is told, and a run with
//! errors is never mistaken for a measure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../tests/support/mod.rs"]
mod support;
mod tool;

use claviger_protocol::Code;
use serde_json::Value;
use support::{OnThread, Peer};
use tool::{Ran, claviger};

const RUN: [&str; 9] =
    ["bench", "ping", "--no-baselines", "--requests", "9", "--rounds", "1", "--warmup", "0"];

/// A run whose calls are answered by `script`; the other connection stays silent.
fn against<F: Future<Output = ()>>(args: &[&str], script: impl FnOnce(Peer) -> F + Send + 'static) -> Ran {
    let daemon = OnThread::run(|fake| async move {
        let _first = fake.accept().await;
        script(fake.accept().await).await;
    });
    let ran = claviger(Some(daemon.path()), &[&RUN, args].concat(), b"");
    daemon.join();
    ran
}

/// Answers the first calls and every third after them.
async fn every_third(mut peer: Peer) {
    let mut n = 0;
    while let Some((header, request)) = peer.next_request().await {
        match n {
            0 | 3 | 6 | 9 => peer.pong(&header, request).await,
            1 | 2 => peer.refuse(&header, Code::Throttled, "slow down", 0).await,
            _ => peer.refuse(&header, Code::Busy, "too much", 0).await,
        }
        n += 1;
    }
}

#[test]
fn refused_calls_are_counted_by_code_and_fail_the_run() {
    let ran = against(&["--json"], every_third);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    assert_eq!((&report["calls"], &report["errors"]), (&3.into(), &6.into()), "{report}");
    assert_eq!(report["errors_by_code"], serde_json::json!({ "Busy": 4, "Throttled": 2 }), "{report}");
    let ran = against(&[], every_third);
    let said = String::from_utf8(ran.stdout.clone()).unwrap();
    assert!(said.contains("6 ERRORS (4 Busy, 2 Throttled)"), "{said}");
    assert_eq!((ran.code, ran.error_code()), (1, "Errors"));
    assert!(ran.stderr.contains("no measure"), "{}", ran.stderr);
}

#[test]
fn a_wrong_reply_ends_the_run_without_figures() {
    for wrong in [0, 9] {
        let ran = against(&[], move |mut peer| async move {
            let mut n = 0;
            while let Some((header, mut request)) = peer.next_request().await {
                if let claviger_protocol::Request::Ping(ping) = &mut request
                    && n == wrong
                {
                    ping.payload.0[0] ^= 1;
                }
                peer.pong(&header, request).await;
                n += 1;
            }
        });
        assert_eq!((ran.code, ran.error_code(), ran.stdout.len()), (1, "WrongReply", 0), "{ran:?}");
    }
}

#[test]
fn a_daemon_that_goes_away_or_says_nothing_ends_the_run_without_figures() {
    let ran = against(&[], |mut peer| async move {
        let (header, request) = peer.request().await;
        peer.pong(&header, request).await;
        peer.request().await;
    });
    assert_eq!((ran.code, ran.error_code(), ran.stdout.len()), (3, "ConnectionLost", 0), "{ran:?}");
    let ran = against(&["--timeout", "200ms"], |mut peer| async move {
        let (header, request) = peer.request().await;
        peer.pong(&header, request).await;
        peer.request().await;
        assert!(peer.next_request().await.is_none());
    });
    assert_eq!((ran.code, ran.error_code(), ran.stdout.len()), (1, "Timeout", 0), "{ran:?}");
}

/// Answers like a daemon that signs: with the digest's and the message's first byte.
fn signs(request: claviger_protocol::Request, wrong: bool) -> Result<claviger_protocol::Reply, Code> {
    use claviger_protocol::body::{
        AsymmetricSignReply, AsymmetricVerifyReply, CreateKeyReply, MessageDigestReply,
    };
    use claviger_protocol::{Reply, Request};

    let (key_id, key_version_id) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    match request {
        Request::DescribeKey(_) => Err(Code::NotFound),
        Request::CreateKey(r) => {
            assert_eq!((r.spec.name(), r.usage.unwrap().name()), ("SM2", "SIGN_VERIFY"));
            Ok(Reply::CreateKey(CreateKeyReply { key_id, key_version_id: Some(key_version_id) }))
        }
        Request::AsymmetricSign(r) => {
            let signature = vec![r.algorithm.number(), r.message.expose()[0]].into();
            Ok(Reply::AsymmetricSign(AsymmetricSignReply { key_id, key_version_id, signature }))
        }
        Request::AsymmetricVerify(r) => {
            let valid = !wrong && r.signature.0 == [r.algorithm.number(), r.message.expose()[0]];
            Ok(Reply::AsymmetricVerify(AsymmetricVerifyReply { key_id, key_version_id, valid }))
        }
        Request::MessageDigest(r) => {
            let digest = vec![0; r.algorithm.len() - usize::from(wrong)].into();
            Ok(Reply::MessageDigest(MessageDigestReply { digest }))
        }
        other => panic!("{:?} isn't sent here", other.opcode()),
    }
}

/// A run against [`signs`], each connection served by a task of its own.
fn signing(args: &[&str], wrong: bool) -> Ran {
    let daemon = OnThread::run(move |fake| async move {
        loop {
            let mut peer = fake.accept().await;
            tokio::spawn(async move {
                while let Some((header, request)) = peer.next_request().await {
                    match signs(request, wrong) {
                        Ok(reply) => peer.reply(&header, &reply).await,
                        Err(code) => peer.refuse(&header, code, "no", 0).await,
                    }
                }
            });
        }
    });
    claviger(Some(daemon.path()), &[&["bench"], args, &RUN[2..], &["--level", "software"]].concat(), b"")
}

#[test]
fn a_spec_has_its_own_key_and_its_replies_are_checked() {
    for operation in ["sign", "verify"] {
        let ran = signing(&["--json", operation, "--spec", "SM2"], false);
        let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!((ran.code, &report["calls"]), (0, &9.into()), "{report}");
        assert_eq!((&report["spec"], &report["algorithm"]), (&"SM2".into(), &"SM2DSA".into()), "{report}");
        assert_eq!(report["key"], "alias/claviger-bench-software-sm2", "{report}");
        let ran = signing(&[operation, "--spec", "SM2"], true);
        assert_eq!((ran.code, ran.error_code(), ran.stdout.len()), (1, "WrongReply", 0), "{ran:?}");
    }
    let ran = signing(&["--json", "digest", "--algorithm", "SM3"], false);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let named = (&report["algorithm"], &report["key"], &report["spec"]);
    assert_eq!(named, (&"SM3".into(), &Value::Null, &Value::Null), "{report}");
    assert_eq!(signing(&["digest"], true).error_code(), "WrongReply");
}

#[test]
fn keys_and_algorithms_that_an_operation_does_not_take_are_bad_usage() {
    for (args, part) in [
        (&["sign", "--spec", "AES_256"][..], "RSA_2048, RSA_3072, RSA_4096, EC_P256, EC_P384, SM2"),
        (&["mac", "--spec", "SM2"], "HMAC_256"),
        (&["digest", "--spec", "SM2"], "uses no key"),
        (&["verify", "--spec", "SM2", "--algorithm", "ECDSA_SHA_256"], "SM2 keys have no ECDSA_SHA_256"),
        (&["sign", "--spec", "SM2", "--algorithm", "SM3"], "expected one of"),
        (&["digest", "--algorithm", "MD5"], "expected one of"),
    ] {
        let ran = signing(args, false);
        assert_eq!((ran.code, ran.error_code()), (2, "Usage"), "{args:?} {ran:?}");
        assert!(ran.stderr.contains(part), "{args:?} {ran:?}");
    }
}
