//! Every command, there and back and refused.

use super::support::{Bench, Token, on_each_token};

on_each_token!(every_mechanism_passes_its_self_test);

fn every_mechanism_passes_its_self_test(token: Token) {
    let member = Bench::new(token).open(None, 1).unwrap();
    assert!(member.report.all_ok(), "{:#?}", member.report);
}
