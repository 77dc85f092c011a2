//! What a key's life looks like on the command line, and what it refuses: sessions whose
//! transcripts are compared with `tests/snapshots/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use claviger_tests::session::Session;
use claviger_tests::{Site, Token};

/// What becomes of a key from its making to its end. Deletions have dates, and these are masked.
#[test]
fn the_life_of_a_key() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut session = Session::new("life", &site);
    for line in LIFE.lines() {
        let args: Vec<_> = line.split(' ').collect();
        if args.last() == Some(&"both") {
            session.both(&args[..args.len() - 1], b"");
        } else {
            let _ = session.claviger(&args, b"");
        }
    }
    session.golden.finish();
    daemon.terminate();
}

/// A command a line; `both` at its end: as an object too.
const LIFE: &str = "\
project create team/web --description cards both
project list both
key create --alias alias/pay --project team/web --rotation-days 90 --tag team=web --description cards
key describe alias/pay both
key set-description alias/pay checks both
key tag alias/pay --tag team=pay --tag env=prod both
key untag alias/pay --tag env
key tags alias/pay both
alias create alias/cards alias/pay both
key rotate alias/pay both
key rotation-policy alias/pay --days 30 both
key rotation-policy alias/pay --off
key versions alias/pay both
key describe alias/pay
key create --spec EC_P256 --protection software --alias alias/release
key create-version alias/release both
key versions alias/release --limit 1
key public-key alias/release
key associations alias/pay both
key protect alias/pay both
key schedule-deletion alias/pay both
key unprotect alias/pay
key schedule-deletion alias/pay alias/release alias/none both
key describe alias/pay
key cancel-deletion alias/pay both
key cancel-deletion alias/release --enable
key create --origin external --alias alias/mine both
key describe alias/mine
alias update alias/cards alias/release both
alias list both
alias list --key alias/pay
alias delete alias/cards both
key list --aliased both
key list --symmetric --project team/web
project move alias/pay alias/release --to default both
project delete team/web both
default-key create s3 both
key describe alias/s3/default";

#[test]
fn what_a_keys_life_refuses() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut session = Session::new("life-refusals", &site);
    let id = "11111111-2222-4333-8444-555555555555";
    for line in [
        "key create --alias alias/a",
        "key create --alias alias/e --origin external",
        "key create --alias alias/ec --spec EC_P256",
        "default-key create s3",
    ] {
        let _ = session.claviger(&line.split(' ').collect::<Vec<_>>(), b"");
    }
    for line in [
        "key create --origin external --rotation-days 30",
        "key create --spec EC_P256 --rotation-days 30",
        "key create --alias alias/s3/x",
        "key schedule-deletion alias/a --days 1097",
        "key schedule-deletion alias/s3/default alias/none",
        "key cancel-deletion alias/a",
        "key rotate alias/ec",
        "key rotate alias/e",
        "key rotate alias/s3/default",
        "key create-version alias/a",
        "key rotation-policy alias/a --days 731",
        "key tag alias/none --tag a=b",
        &format!("key version alias/a {id}"),
        "key enable alias/e",
        "alias create alias/a alias/e",
        "alias update alias/none alias/a",
        "alias delete alias/none",
        "project create default",
        "project delete none",
        "project move alias/a --to none",
    ] {
        session.both(&line.split(' ').collect::<Vec<_>>(), b"");
    }
    session.golden.finish();
    daemon.terminate();
}
