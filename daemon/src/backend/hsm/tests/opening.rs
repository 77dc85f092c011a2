//! Opening a member: the right token, the right profile, one login.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use claviger_hsm_profiles::{Derivation, MechanismUse, Profile};
use claviger_protocol::{KeySpec, KeyUsage, SecretBytes};
use cryptoki::mechanism::Mechanism;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use uuid::Uuid;

use super::support::{Bench, SPY, Token, init_softhsm, isolated, on_each_token, spy_log, write_pin};
use crate::backend::hsm::RootId;
use crate::backend::hsm::command::{Answer, Command, HsmError, Template};
use crate::backend::hsm::domain::DomainError;
use crate::backend::hsm::login;
use crate::backend::hsm::member::OpenError;
use crate::backend::hsm::template;
use crate::config::{PinSource, TokenSelector, TokenSource};

on_each_token!(
    a_wrong_pin_is_tried_once,
    an_unreadable_pin_is_never_tried,
    a_token_of_another_kind_is_refused,
    a_token_without_the_root_opens_and_says_so,
    an_altered_domain_file_is_told_from_a_missing_root,
    key_generation_does_not_hold_up_encryption,
    a_member_can_be_opened_again_and_again,
    a_mechanism_that_fails_turns_its_specs_off,
    a_token_without_derivation_is_direct,
);

fn a_wrong_pin_is_tried_once(token: Token) {
    let mut bench = Bench::new(token);
    if let TokenSource::Module { path, .. } = &mut bench.config.source {
        *path = SPY.into();
    }
    let right = fs::read_to_string(bench.path().join("pin")).unwrap();
    write_pin(&bench.path().join("pin"), "not the pin");
    let refused = bench.open(None, 1).err().unwrap();
    assert_eq!(refused, OpenError::PinRefused);
    assert!(refused.latches());
    assert!(!refused.to_string().contains("not the pin"));
    if token == Token::SoftHsm {
        // What passed between us and the module, as another program saw it.
        assert_eq!(spy_log().matches(": C_Login\n").count(), 1);
    }
    write_pin(&bench.path().join("pin"), &right);
    bench.open(None, 2).unwrap();
    if token == Token::SoftHsm {
        assert_eq!(spy_log().matches(": C_Login\n").count(), 2);
    }
}

fn an_unreadable_pin_is_never_tried(token: Token) {
    use std::os::unix::fs::PermissionsExt;
    let mut bench = Bench::new(token);
    let pin = bench.path().join("pin");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(bench.open(None, 1).err(), Some(OpenError::NoPin(_))));
    fs::remove_file(&pin).unwrap();
    assert!(matches!(bench.open(None, 1).err(), Some(OpenError::NoPin(_))));
    bench.config.pin = PinSource::Env("CLAVIGER_NO_SUCH_PIN".to_owned());
    let error = bench.open(None, 1).err().unwrap();
    assert!(matches!(error, OpenError::NoPin(_)) && !error.latches(), "{error}");
}

fn a_token_of_another_kind_is_refused(token: Token) {
    let mut bench = Bench::new(token);
    let right = bench.config.profile.clone();
    let edits: [fn(&mut Profile); 3] = [
        |p| p.matches.manufacturer = "Thales".to_owned(),
        |p| p.matches.model = "Luna K7".to_owned(),
        |p| p.matches.library = "Chrystoki".to_owned(),
    ];
    for edit in edits {
        edit(&mut bench.config.profile);
        let error = bench.open(None, 1).err().unwrap();
        assert!(matches!(&error, OpenError::Profile(text) if text.contains("expects")), "{error}");
        bench.config.profile = right.clone();
    }
    let other = if token == Token::Embedded { "softhsm2" } else { "embedded" };
    bench.config.profile = Profile::load(other).unwrap();
    assert!(matches!(bench.open(None, 1).err(), Some(OpenError::Profile(_))));
    bench.config.profile = right;
    bench.open(None, 1).unwrap();
}

fn a_token_without_the_root_opens_and_says_so(token: Token) {
    let bench = Bench::new(token);
    let member = bench.open(None, 1).unwrap();
    assert!(matches!(bench.domain(&member), Err(DomainError::Missing)));
    drop(member);
    bench.init(&[]);
    let other = RootId { domain: Uuid::from_u128(5), generation: 1 };
    let member = bench.open(Some(&other), 2).unwrap();
    assert!(matches!(bench.domain(&member), Err(DomainError::NoRoot(_))));
}

fn an_altered_domain_file_is_told_from_a_missing_root(token: Token) {
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let path = bench.daemon().state_dir.join("domain");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).unwrap();
        let error = bench.domain(&member).err();
        assert!(matches!(error, Some(DomainError::Damaged { .. })), "byte {at}: {error:?}");
        // Somebody who mends the checksum gets no further: another root is asked for,
        // or the tag doesn't fit.
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &flipped[..92]);
        flipped[92..].copy_from_slice(&sum.as_ref()[..8]);
        if at < 92 {
            fs::write(&path, &flipped).unwrap();
            let error = bench.domain(&member).err();
            let refused = match error {
                Some(DomainError::Damaged { .. }) => !(10..26).contains(&at),
                Some(DomainError::NoRoot(_)) => (10..30).contains(&at),
                _ => false,
            };
            assert!(refused, "byte {at}");
        }
    }
    fs::write(&path, &good).unwrap();
    bench.domain(&member).unwrap();
}

/// RSA-4096 is made where keys are made while others encrypt where they are served.
fn key_generation_does_not_hold_up_encryption(token: Token) {
    // Measured: some 200,000 a generation where the slots are apart or the token doesn't lock,
    // and 800 where Kryoptic's lock is shared (before it is taken).
    const WANTED: u32 = 20_000;
    let bench = Bench::new(token);
    let (_, member) = bench.ready();
    let made = Command::Generate { spec: KeySpec::Aes256, template: Template::AesDirect };
    let Ok(Answer::Generated { wrapped, check_value }) = member.make.run_now(&made) else { panic!("no key") };
    let unwrap =
        Command::Unwrap { wrapped, spec: KeySpec::Aes256, template: Template::AesDirect, check_value };
    let Ok(Answer::Object(object)) = member.serve.run_now(&unwrap) else { panic!("no object") };
    let opened = login::open(&bench.config).unwrap();
    let (working, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let (making, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let plaintext = SecretBytes::new(vec![0; 32]);
            while !over.load(Ordering::SeqCst) {
                let nonce = [0; 12];
                let seal = Command::GcmSeal { object, nonce, aad: Vec::new(), plaintext: plaintext.clone() };
                assert!(matches!(member.serve.run_now(&seal), Ok(Answer::Bytes(_))));
                working.store(true, Ordering::SeqCst);
                if making.load(Ordering::SeqCst) {
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        while !working.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        let session = opened.session(opened.make()).unwrap();
        let (public, private) = template::receiving_pair(4096);
        for _ in 0..4 {
            making.store(true, Ordering::SeqCst);
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap();
            making.store(false, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
    });
    let done = done.into_inner();
    assert!(done >= WANTED, "only {done} encryptions beside four RSA-4096 generations");
}

fn a_member_can_be_opened_again_and_again(token: Token) {
    let bench = Bench::new(token);
    let root = bench.init(&[]);
    let mut first = None;
    for epoch in 1..=5 {
        let member = bench.open(Some(&root), epoch).unwrap();
        assert_eq!(member.epoch, epoch);
        let keys = bench.domain(&member).unwrap().keys;
        let mac = *keys.record_mac();
        assert_eq!(*first.get_or_insert(mac), mac);
        assert_eq!(member.serve.run_now(&Command::Canary), Ok(Answer::Done));
    }
}

#[test]
fn a_wrong_path_or_label_is_named() {
    isolated(concat!(module_path!(), "::a_wrong_path_or_label_is_named"), || {
        let mut bench = Bench::new(Token::SoftHsm);
        let TokenSource::Module { path: right, token } = bench.config.source.clone() else { panic!() };
        for wrong in ["/nonexistent/module.so", "/etc/passwd", "/lib/x86_64-linux-gnu/libm.so.6"] {
            bench.config.source = TokenSource::Module { path: wrong.into(), token: token.clone() };
            let error = bench.open(None, 1).err().unwrap();
            assert!(matches!(&error, OpenError::Library(text) if text.contains(wrong)), "{error}");
        }
        init_softhsm(&bench.path().join("softhsm2.conf"), "twin");
        init_softhsm(&bench.path().join("softhsm2.conf"), "twin");
        let cases = [
            (TokenSelector::Label("x".to_owned()), "no token with label \"x\""),
            (TokenSelector::Label("twin".to_owned()), "2 tokens with label \"twin\""),
            (TokenSelector::Serial("0".to_owned()), "no token with serial number \"0\""),
            (TokenSelector::Slot(77), "no token with slot number 77"),
        ];
        for (token, expected) in cases {
            bench.config.source = TokenSource::Module { path: right.clone(), token };
            let error = bench.open(None, 1).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    });
}

/// Kryoptic counts: with one try left, ours isn't it.
#[test]
fn the_last_try_is_never_spent() {
    isolated(concat!(module_path!(), "::the_last_try_is_never_spent"), || {
        let bench = Bench::new(Token::Embedded);
        let library = crate::backend::hsm::library::open(&bench.config.source).unwrap();
        let slot = library.pkcs11.get_all_slots().unwrap()[0];
        let info = || library.pkcs11.get_token_info(slot).unwrap();
        let session = library.pkcs11.open_rw_session(slot).unwrap();
        let wrong = AuthPin::new("not the pin".into());
        for _ in 0..100 {
            if info().user_pin_final_try() || info().user_pin_locked() {
                break;
            }
            assert!(session.login(UserType::User, Some(&wrong)).is_err());
        }
        assert!(info().user_pin_final_try() || info().user_pin_locked(), "the token doesn't count");
        let error = bench.open(None, 1).err().unwrap();
        assert_eq!(error, OpenError::PinFinalTry);
        assert!(error.latches());
    });
}

/// A number that means something else, or nothing, turns off what needs it, and says so.
fn a_mechanism_that_fails_turns_its_specs_off(token: Token) {
    let mut bench = Bench::new(token);
    for (used, number) in [
        (MechanismUse::AesGcm, 0x108A),
        (MechanismUse::AesKeyWrap, 0x8000_0109),
        (MechanismUse::AesCbcEncryptData, 0x1104),
    ] {
        let right = bench.config.profile.mechanisms.insert(used, number).unwrap();
        let report = bench.open(None, 1).unwrap().report;
        assert!(!report.all_ok());
        let reason = report.unavailable(KeySpec::Aes256, KeyUsage::EncryptDecrypt).unwrap();
        assert!(reason.contains(used.name()), "{reason}");
        let json = serde_json::to_value(&report).unwrap();
        let found = json["mechanisms"].as_array().unwrap().iter().find(|m| m["use"] == used.name()).unwrap();
        assert_eq!(found["mechanism"], format!("0x{number:04X}"));
        assert_eq!(found["ok"], false);
        bench.config.profile.mechanisms.insert(used, right);
    }
    // What AES_256 doesn't need may be missing.
    bench.config.profile.mechanisms.insert(MechanismUse::AesCmac, 0x1);
    let report = bench.open(None, 1).unwrap().report;
    assert_eq!(
        (report.all_ok(), report.unavailable(KeySpec::Aes256, KeyUsage::EncryptDecrypt)),
        (false, None)
    );
}

/// A token without derivation makes keys that encrypt themselves, and only those.
fn a_token_without_derivation_is_direct(token: Token) {
    let mut bench = Bench::new(token);
    bench.config.profile.derivation = Derivation::None;
    bench.config.profile.mechanisms.remove(&MechanismUse::AesCbcEncryptData);
    let (_, member) = bench.ready();
    assert_eq!(member.aes_template, Template::AesDirect);
    assert_eq!(member.report.unavailable(KeySpec::Aes256, KeyUsage::EncryptDecrypt), None);
    let generate = |template| member.make.run_now(&Command::Generate { spec: KeySpec::Aes256, template });
    assert!(matches!(generate(Template::AesDirect), Ok(Answer::Generated { .. })));
    assert!(matches!(generate(Template::AesDeriveOnly), Err(HsmError::Unsupported(_))));
}
