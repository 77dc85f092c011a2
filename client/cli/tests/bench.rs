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
