//! Killed between any two steps: the next attempt removes what is left, and only that.

use std::fs;
use std::ops::ControlFlow;

use super::recovery::{Keys, restore};
use super::support::{Bench, Token, isolated, on_each_token};
use crate::backend::hsm::domain;
use crate::backend::hsm::login;
use crate::backend::hsm::member::OpenError;
use crate::backend::hsm::{self, RootError, RootId, Step, make_embedded, roots};
use crate::edge::{Edge, Entropy};

on_each_token!(
    a_half_made_root_is_made_anew,
    a_half_restored_root_is_restored_anew,
    another_domains_root_is_left_alone,
);

/// Stops an attempt after its `n`-th step; gives the step.
fn init_stopped(bench: &Bench, recipients: &[std::path::PathBuf], n: usize) -> Option<Step> {
    let mut left = n;
    let mut count = |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    match hsm::init(&bench.daemon(), recipients, &Edge::system(), &mut count) {
        Err(RootError::Stopped(step)) => Some(step),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    }
}

fn root_keys(bench: &Bench, root: RootId) -> Vec<usize> {
    let opened = login::open(&bench.config).unwrap();
    opened.tokens().iter().map(|t| roots::objects(&t.owner, root.domain).unwrap().len()).collect()
}

fn token_objects(bench: &Bench) -> usize {
    use cryptoki::object::{Attribute, ObjectClass};
    let opened = login::open(&bench.config).unwrap();
    let wanted = [Attribute::Token(true), Attribute::Class(ObjectClass::SECRET_KEY)];
    opened.tokens().iter().map(|t| t.owner.find_objects(&wanted).unwrap().len()).sum()
}

fn a_half_made_root_is_made_anew(token: Token) {
    let bench = Bench::new(token);
    let state = bench.daemon().state_dir;
    let keys = Keys::make(bench.path(), "r", 3072);
    let slots = login::open(&bench.config).unwrap().tokens().len();
    // Intent, two keys for each slot, recovery, domain.
    let steps = 1 + 2 * slots + 2;
    for n in 1..steps {
        let step = init_stopped(&bench, &[keys.public()], n).unwrap();
        assert_ne!(step, Step::Domain);
        assert_eq!(domain::header(&state).unwrap(), None);
        assert!(state.join("root.intent").exists());
    }
    assert_eq!(init_stopped(&bench, &[keys.public()], steps), Some(Step::Domain));
    // The last kill came when the domain was there: it is kept, and its root.
    let root = domain::header(&state).unwrap().unwrap().root;
    let go = &mut |_| ControlFlow::Continue(());
    let again = hsm::init(&bench.daemon(), &[], &Edge::system(), go);
    assert!(matches!(again, Err(RootError::Exists(_))), "{again:?}");
    assert!(!state.join("root.intent").exists());
    assert_eq!(root_keys(&bench, root), vec![2; slots]);
    assert_eq!(token_objects(&bench), 2 * slots);
    let member = bench.open(Some(&root), 1).unwrap();
    assert_eq!(bench.domain(&member).unwrap().recovery_recipients, 1);
}

fn a_half_restored_root_is_restored_anew(token: Token) {
    let mut bench = Bench::new(token);
    let keys = Keys::make(bench.path(), "r", 3072);
    let root = bench.init(&[keys.public()]);
    let file = bench.daemon().state_dir.join("root-1.recovery");
    bench.wipe();
    let slots = login::open(&bench.config).unwrap().tokens().len();
    for n in 1..=1 + 2 * slots {
        let mut left = n;
        let mut count = |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let stopped = hsm::restore(&bench.daemon(), &file, &keys.private(), &Edge::system(), &mut count);
        // Once every key is there, the root is simply held.
        assert!(matches!(stopped, Err(RootError::Stopped(_))), "step {n}: {stopped:?}");
    }
    let last = restore(&bench, &file, &keys.private());
    assert!(matches!(last, Err(RootError::Held)), "{last:?}");
    assert!(!bench.daemon().state_dir.join("root.intent").exists());
    assert_eq!(root_keys(&bench, root), vec![2; slots]);
    let member = bench.open(Some(&root), 1).unwrap();
    bench.domain(&member).unwrap();
}

/// Two daemons share a token: an attempt of one that fails never touches the other's root.
fn another_domains_root_is_left_alone(token: Token) {
    let bench = Bench::new(token);
    let first = bench.init(&[]);
    let mut other = bench.daemon();
    other.state_dir = bench.path().join("other");
    let mut steps = 0;
    let stop = &mut |_| {
        steps += 1;
        if steps == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert!(matches!(hsm::init(&other, &[], &Edge::system(), stop), Err(RootError::Stopped(_))));
    let go = &mut |_| ControlFlow::Continue(());
    let second = hsm::init(&other, &[], &Edge::system(), go).unwrap();
    assert_ne!(second.domain, first.domain);
    let slots = login::open(&bench.config).unwrap().tokens().len();
    assert_eq!(root_keys(&bench, first), vec![2; slots]);
    assert_eq!(token_objects(&bench), 4 * slots);
    let member = bench.open(Some(&first), 1).unwrap();
    assert_eq!(bench.domain(&member).unwrap().id, first.domain);
}

/// Every state that a kill can leave the embedded token's directory in.
#[test]
fn a_half_made_embedded_token_is_made_anew() {
    let name = concat!(module_path!(), "::a_half_made_embedded_token_is_made_anew");
    isolated(name, || {
        let bench = Bench::new(Token::Embedded);
        let dir = bench.path().join("token");
        let entropy = Entropy::system();
        let opens = || bench.open(None, 1).map(drop);
        opens().unwrap();
        let pin = fs::read(bench.path().join("pin")).unwrap();
        // Killed just before the mark was removed: all is there, and made anew.
        fs::write(dir.join("making"), "").unwrap();
        assert!(matches!(opens(), Err(OpenError::NotInitialised(_))));
        make_embedded(&bench.config, true, &entropy).unwrap();
        opens().unwrap();
        // Killed while a database was being written.
        fs::write(dir.join("making"), "").unwrap();
        fs::write(dir.join("serve.sql"), "half a database").unwrap();
        fs::remove_file(dir.join("make.sql")).unwrap();
        make_embedded(&bench.config, true, &entropy).unwrap();
        opens().unwrap();
        // Killed before anything was written, with files that were only opened.
        for file in ["serve.sql", "make.sql"] {
            fs::write(dir.join(file), "").unwrap();
        }
        assert!(matches!(opens(), Err(OpenError::NotInitialised(_))));
        make_embedded(&bench.config, true, &entropy).unwrap();
        opens().unwrap();
        // A token that is made stays as it is, and so does the PIN.
        let root = bench.init(&[]);
        make_embedded(&bench.config, true, &entropy).unwrap();
        assert!(bench.domain(&bench.open(Some(&root), 1).unwrap()).is_ok());
        assert_eq!(fs::read(bench.path().join("pin")).unwrap(), pin);
    });
}
