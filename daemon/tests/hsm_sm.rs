//! SM2, SM3 and SM4 in a token: the SM test token under each vendor's numbers, as the
//! built-in profiles give them, and the liars among them. OpenSSL's command line is the
//! other side. What must not live here: the token's own tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command as Process;
use std::time::Duration;

use claviger_hsm_profiles::{Match, Profile, Quirk};
use claviger_protocol::{
    EncryptionAlgorithm, KeySpec, KeyUsage, MacAlgorithm, SecretBytes, SigningAlgorithm,
};
use clavigerd::backend::hsm::command::{
    Answer, CheckValue, Command, HsmError, ObjectId, Template, WrapFormat, Wrapped,
};
use clavigerd::backend::hsm::lane::Lane;
use clavigerd::backend::hsm::member::{self, Member};
use clavigerd::backend::hsm::{RootId, domain, init};
use clavigerd::backend::software::PublicKey;
use clavigerd::config::{
    Config, EndpointConfig, Isolation, Limits, LockMemory, MemberConfig, PinSource, TokenSelector,
    TokenSource,
};
use clavigerd::edge::Edge;

/// Where the inner run of a test finds its directory.
const DIR: &str = "CLAVIGER_SM_TEST_DIR";
const PIN: &str = "20463871";
const TOKEN: &str = "Claviger SM test token";

/// Runs a test in a process of its own: the module reads its numbering, and SoftHSM2
/// beneath its configuration, from the environment when it is loaded.
fn isolated(name: &str, numbering: &str, test: impl FnOnce(&Bench)) {
    if let Some(dir) = std::env::var_os(DIR) {
        return test(&Bench { dir: dir.into(), numbering: numbering.to_owned() });
    }
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("softhsm2.conf");
    let tokens = dir.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))
        .unwrap();
    let made = Process::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &conf)
        .args(["--init-token", "--free", "--label", "sm", "--so-pin", "12345678", "--pin", PIN])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let done = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .current_dir(dir.path())
        .env(DIR, dir.path())
        .env("SOFTHSM2_CONF", &conf)
        .env("CLAVIGER_SM_TOKEN", numbering)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "{name}: {}\n{said}", done.status);
}

/// A token of a numbering and the directory it lives in.
struct Bench {
    dir: PathBuf,
    numbering: String,
}

impl Bench {
    fn config(&self, profile: Profile) -> Config {
        use std::os::unix::fs::PermissionsExt;
        let module = std::env::current_exe().unwrap().with_file_name("libclaviger_sm_token.so");
        assert!(module.is_file(), "{} is missing", module.display());
        let pin = self.dir.join("pin");
        std::fs::write(&pin, PIN).unwrap();
        std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o600)).unwrap();
        let socket = self.dir.join("admin.sock");
        Config {
            state_dir: self.dir.join("state"),
            dev: true,
            allow_software_tokens: true,
            lock_memory: LockMemory::Off,
            admin: EndpointConfig {
                name: "admin".to_owned(),
                socket,
                mode: 0o600,
                owner: None,
                group: None,
                service: None,
            },
            endpoints: Vec::new(),
            hsm: vec![MemberConfig {
                name: "sm".to_owned(),
                profile,
                source: TokenSource::Module { path: module, token: TokenSelector::Label("sm".to_owned()) },
                pin: PinSource::File(pin),
                isolation: Isolation::Thread,
                call_timeout: Duration::from_secs(30),
            }],
            metrics: None,
            log: clavigerd::config::LogConfig::default(),
            limits: Limits::default(),
        }
    }

    /// The token's profile; or a vendor's, whole, but for what the module beneath is and can't.
    fn profile(&self, vendor: Option<&str>) -> Profile {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sm-token/profile.toml");
        let own = Profile::load(path).unwrap();
        let Some(name) = vendor else { return own };
        let mut vendor = Profile::load(name).unwrap();
        if name == "luna" {
            // Its key wrap can't be called: what is the standard's is the module's here.
            vendor.mechanisms.retain(|used, _| used.is_vendors());
            vendor.mechanisms.extend(own.mechanisms.iter().filter(|(used, _)| !used.is_vendors()));
        }
        let beneath = |quirk: &Quirk| *quirk != Quirk::OaepSha256Outside || name == "luna";
        vendor.quirks = own.quirks.into_iter().filter(beneath).collect();
        let model = format!("SM {}", self.numbering);
        vendor.matches = Match { manufacturer: TOKEN.to_owned(), model, library: TOKEN.to_owned() };
        vendor
    }

    /// Opens the member, and makes its domain where there is none.
    fn open(&self, vendor: Option<&str>, epoch: u64) -> Member {
        let (config, edge) = (self.config(self.profile(vendor)), Edge::system());
        if domain::header(&config.state_dir).unwrap().is_none() {
            init(&config, &[], &edge, &mut |_| ControlFlow::Continue(())).unwrap();
        }
        let root: RootId = domain::header(&config.state_dir).unwrap().unwrap().root;
        member::open(&config.hsm[0], Some(&root), &edge.workers, &config.limits, epoch).unwrap()
    }
}

/// Mechanisms whose self-test failed, with the reason.
fn failed(member: &Member) -> Vec<(String, String)> {
    let failed = member.report.mechanisms.iter().filter(|mechanism| !mechanism.ok);
    failed.map(|mechanism| (mechanism.used_for.clone(), mechanism.reason.clone().unwrap())).collect()
}

fn object(answer: Result<Answer, HsmError>) -> ObjectId {
    match answer {
        Ok(Answer::Object(object)) => object,
        other => panic!("{other:?}"),
    }
}

fn bytes(answer: Result<Answer, HsmError>) -> Vec<u8> {
    match answer {
        Ok(Answer::Bytes(bytes)) => bytes.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn secret(lane: &Lane, spec: KeySpec, template: Template) -> (Wrapped, CheckValue) {
    match lane.run_now(&Command::Generate { spec, template }) {
        Ok(Answer::Generated { wrapped, check_value }) => (wrapped, check_value),
        other => panic!("{other:?}"),
    }
}

fn pair(lane: &Lane, template: Template) -> (Wrapped, Vec<u8>) {
    match lane.run_now(&Command::Generate { spec: KeySpec::Sm2, template }) {
        Ok(Answer::GeneratedPair { wrapped, public_key }) => (wrapped, public_key),
        other => panic!("{other:?}"),
    }
}

fn unwrap_pair(lane: &Lane, template: Template, made: &(Wrapped, Vec<u8>)) -> ObjectId {
    let (wrapped, public_key) = made.clone();
    object(lane.run_now(&Command::UnwrapPair { wrapped, spec: KeySpec::Sm2, template, public_key }))
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Process::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Something made in one session: what is left to be tried with it in another.
type Then = Box<dyn FnOnce(&Member)>;

/// A pair signs, and OpenSSL agrees.
fn signs(member: &Member) -> Then {
    assert_eq!(member.report.unavailable(KeySpec::Sm2, KeyUsage::SignVerify), None);
    let made = pair(&member.make, Template::Sm2Sign);
    assert_eq!(made.0.format, WrapFormat::AesKwp);
    Box::new(move |member| {
        let key = unwrap_pair(&member.serve, Template::Sm2Sign, &made);
        let public = PublicKey::from_spki(&made.1).unwrap();
        std::fs::write("public.der", &made.1).unwrap();
        std::fs::write("message", b"a message").unwrap();
        for _ in 0..4 {
            let digest = public.digest_of(SigningAlgorithm::Sm2Dsa, b"a message", None).unwrap();
            let sign = Command::Sign { object: key, algorithm: SigningAlgorithm::Sm2Dsa, digest };
            std::fs::write("signature", bytes(member.serve.run_now(&sign))).unwrap();
            let key = ["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public.der"];
            let how = ["-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678"];
            openssl(&[&key[..], &how, &["-in", "message", "-sigfile", "signature"]].concat());
        }
        assert!(member.serve.run_now(&private_decrypt(key, &[0; 120])).is_err(), "a key that signs decrypts");
    })
}

fn private_decrypt(object: ObjectId, ciphertext: &[u8]) -> Command {
    let algorithm = EncryptionAlgorithm::Sm2Pke;
    Command::PrivateDecrypt { object, algorithm, ciphertext: ciphertext.to_vec() }
}

/// What OpenSSL encrypts to a pair is opened; altered, it isn't.
fn decrypts(member: &Member) -> Then {
    assert_eq!(member.report.unavailable(KeySpec::Sm2, KeyUsage::EncryptDecrypt), None);
    let made = pair(&member.make, Template::Sm2Decrypt);
    Box::new(move |member| {
        let key = unwrap_pair(&member.serve, Template::Sm2Decrypt, &made);
        std::fs::write("public.der", &made.1).unwrap();
        for len in [1, 32, 200] {
            std::fs::write("text", vec![7; len]).unwrap();
            let to = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public.der"];
            let sealed = openssl(&[&to[..], &["-in", "text"]].concat());
            let opened = member.serve.run_now(&private_decrypt(key, &sealed));
            assert_eq!(bytes(opened), vec![7; len]);
            let mut flipped = sealed.clone();
            *flipped.last_mut().unwrap() ^= 1;
            let refused = member.serve.run_now(&private_decrypt(key, &flipped));
            assert_eq!(refused, Err(HsmError::AuthenticationFailed));
        }
    })
}

/// An SM4 key opens what it sealed in another session, and nothing else.
fn seals(member: &Member) -> Then {
    assert_eq!(member.report.unavailable(KeySpec::Sm4, KeyUsage::EncryptDecrypt), None);
    let (wrapped, check_value) = secret(&member.make, KeySpec::Sm4, Template::Sm4Direct);
    assert_eq!((wrapped.format, wrapped.blob.len()), (WrapFormat::AesKw, 24));
    let unwrap = move |wrapped: &Wrapped| Command::Unwrap {
        wrapped: wrapped.clone(),
        spec: KeySpec::Sm4,
        template: Template::Sm4Direct,
        check_value,
    };
    let aad = || b"aad".to_vec();
    let open = move |object, sealed| Command::GcmOpen { object, nonce: [3; 12], aad: aad(), sealed };
    let key = object(member.serve.run_now(&unwrap(&wrapped)));
    let plaintext = SecretBytes::new(b"text".to_vec());
    let seal = Command::GcmSeal { object: key, nonce: [3; 12], aad: aad(), plaintext };
    let sealed = bytes(member.serve.run_now(&seal));
    Box::new(move |member| {
        let key = object(member.serve.run_now(&unwrap(&wrapped)));
        assert_eq!(bytes(member.serve.run_now(&open(key, sealed.clone()))), b"text");
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 0x10;
            let refused = member.serve.run_now(&open(key, flipped));
            assert_eq!(refused, Err(HsmError::AuthenticationFailed), "{at}");
        }
        let (other, _) = secret(&member.make, KeySpec::Sm4, Template::Sm4Direct);
        let refused = member.serve.run_now(&unwrap(&other));
        assert_eq!(refused, Err(HsmError::CheckValueMismatch));
    })
}

/// A secret makes the same HMAC-SM3 in another session.
fn makes_macs(member: &Member) -> Then {
    assert_eq!(member.report.unavailable(KeySpec::HmacSm3, KeyUsage::GenerateVerifyMac), None);
    let (wrapped, check_value) = secret(&member.make, KeySpec::HmacSm3, Template::HmacSecret);
    let mac = move |member: &Member| {
        let (wrapped, template) = (wrapped.clone(), Template::HmacSecret);
        let unwrap = Command::Unwrap { wrapped, spec: KeySpec::HmacSm3, template, check_value };
        let key = object(member.serve.run_now(&unwrap));
        let message = SecretBytes::new(b"message".to_vec());
        bytes(member.serve.run_now(&Command::Mac { object: key, algorithm: MacAlgorithm::HmacSm3, message }))
    };
    let first = mac(member);
    assert_eq!(first.len(), 32);
    Box::new(move |member| assert_eq!(mac(member), first))
}

/// Makes keys in one session of an honest token, and uses them in the next.
fn holds(name: &str, numbering: &str, vendor: Option<&str>, trials: &[fn(&Member) -> Then]) {
    isolated(name, numbering, |bench| {
        let member = bench.open(vendor, 1);
        assert_eq!(failed(&member), []);
        let then: Vec<Then> = trials.iter().map(|trial| trial(&member)).collect();
        if !trials.contains(&(seals as fn(&Member) -> Then)) {
            assert_eq!(why(&member, KeySpec::Sm4), "the profile has no number for sm4-gcm");
        }
        drop(member);
        let member = bench.open(vendor, 2);
        for trial in then {
            trial(&member);
        }
    });
}

/// A token that leaves zeros out of its DER, takes any point and has error codes of its own is
/// honest enough to be used: what it leaves out is made up for outside it.
#[test]
fn a_careless_token_is_looked_after() {
    let name = "a_careless_token_is_looked_after";
    holds(name, "liar=careless", None, &[signs, decrypts, takes_no_point_off_the_curve, seals]);
}

/// A ciphertext whose point is on no curve never comes to the token.
fn takes_no_point_off_the_curve(member: &Member) -> Then {
    let made = pair(&member.make, Template::Sm2Decrypt);
    Box::new(move |member| {
        let key = unwrap_pair(&member.serve, Template::Sm2Decrypt, &made);
        let off = [vec![4], vec![0x11; 64], vec![9; 32], vec![7; 20]].concat();
        let off = clavigerd::backend::encoding::sm2_cipher_to_der(&off).unwrap();
        let refused = member.serve.run_now(&private_decrypt(key, &off));
        assert_eq!(refused, Err(HsmError::AuthenticationFailed));
    })
}

/// Why keys of a spec can't be held, for whatever is their first usage.
fn why(member: &Member, spec: KeySpec) -> &str {
    member.report.unavailable(spec, spec.usages()[0]).expect("it can be held")
}

#[test]
fn all_of_sm_is_held() {
    holds("all_of_sm_is_held", "complete", None, &[signs, decrypts, seals, makes_macs]);
}

#[test]
fn sansecs_numbers_hold_sm2() {
    holds("sansecs_numbers_hold_sm2", "sansec", Some("sansec"), &[signs, decrypts]);
}

#[test]
fn tasss_numbers_hold_sm2() {
    holds("tasss_numbers_hold_sm2", "tass", Some("tass"), &[signs, decrypts]);
}

#[test]
fn ep11s_numbers_hold_sm2() {
    holds("ep11s_numbers_hold_sm2", "ep11", Some("ibm-ep11"), &[signs, decrypts]);
}

#[test]
fn westones_numbers_hold_sm2() {
    holds("westones_numbers_hold_sm2", "westone", Some("westone"), &[signs, decrypts]);
}

#[test]
fn lunas_numbers_hold_sm2_for_signing_and_hmac_sm3() {
    let name = "lunas_numbers_hold_sm2_for_signing_and_hmac_sm3";
    holds(name, "luna", Some("luna"), &[signs, makes_macs]);
}

/// Without a key type nothing can be unwrapped, and the profile says so.
#[test]
fn koals_numbers_hold_nothing_yet() {
    isolated("koals_numbers_hold_nothing_yet", "koal", |bench| {
        let member = bench.open(Some("koal"), 1);
        for (mechanism, reason) in failed(&member) {
            assert!(mechanism.starts_with("sm"), "{mechanism}: {reason}");
            assert!(reason.contains("the profile has no key type for sm"), "{mechanism}: {reason}");
        }
        assert!(why(&member, KeySpec::Sm2).contains("the profile has no key type for sm2"));
        assert!(why(&member, KeySpec::Sm4).contains("the profile has no key type for sm4"));
        assert_eq!(member.report.unavailable(KeySpec::Aes256, KeyUsage::EncryptDecrypt), None);
    });
}

/// Another vendor's numbers on this token: refused before anything is done with them.
#[test]
fn a_foreign_numbering_is_refused() {
    isolated("a_foreign_numbering_is_refused", "westone", |bench| {
        let member = bench.open(Some("sansec"), 1);
        let refused = failed(&member);
        let numbered = bench.profile(Some("sansec")).mechanisms.into_keys().filter(|used| used.is_vendors());
        let expected: Vec<_> =
            numbered.map(|used| (used.name().to_owned(), "the token doesn't list it".to_owned())).collect();
        assert_eq!(refused.len(), expected.len());
        assert!(refused.iter().all(|mechanism| expected.contains(mechanism)), "{refused:?}");
        assert_eq!(member.report.unavailable(KeySpec::Aes256, KeyUsage::EncryptDecrypt), None);
    });
}

/// A liar: which mechanism is refused and why, and which specs go with it.
fn lies(name: &str, lie: &str, refused: &[(&str, &str)], off: &[(KeySpec, KeyUsage)]) {
    isolated(name, &format!("liar={lie}"), |bench| {
        let member = bench.open(None, 1);
        let expected: Vec<_> =
            refused.iter().map(|(used, why)| ((*used).to_owned(), (*why).to_owned())).collect();
        assert_eq!(failed(&member), expected);
        for &spec in KeySpec::ALL {
            for &usage in spec.usages() {
                let reason = member.report.unavailable(spec, usage);
                assert_eq!(reason.is_some(), off.contains(&(spec, usage)), "{spec} {usage}: {reason:?}");
            }
        }
        for (spec, template) in [(KeySpec::Sm2, Template::Sm2Sign), (KeySpec::Sm4, Template::Sm4Direct)] {
            let refused = off.contains(&(spec, template.usage()));
            let made = member.make.run_now(&Command::Generate { spec, template });
            assert_eq!(matches!(made, Err(HsmError::Unsupported(_))), refused, "{spec}: {made:?}");
            assert_eq!(made.is_ok(), !refused, "{spec}");
        }
    });
}

const SIGN: (KeySpec, KeyUsage) = (KeySpec::Sm2, KeyUsage::SignVerify);
const DECRYPT: (KeySpec, KeyUsage) = (KeySpec::Sm2, KeyUsage::EncryptDecrypt);
const SM4: (KeySpec, KeyUsage) = (KeySpec::Sm4, KeyUsage::EncryptDecrypt);
const MAC: (KeySpec, KeyUsage) = (KeySpec::HmacSm3, KeyUsage::GenerateVerifyMac);

/// A digest under a wrong number says that the numbers are another token's.
#[test]
fn a_lie_about_sm3_takes_all_of_sm_with_it() {
    let refused = [("sm3", "the digest is not SM3's")];
    lies("a_lie_about_sm3_takes_all_of_sm_with_it", "sm3", &refused, &[SIGN, DECRYPT, SM4, MAC]);
}

#[test]
fn a_lie_about_sm4_is_refused() {
    let refused = [("sm4-gcm", "the ciphertext is not RFC 8998's")];
    lies("a_lie_about_sm4_is_refused", "sm4", &refused, &[SM4]);
}

#[test]
fn a_lie_about_sm2_signatures_is_refused() {
    let refused = [("sm2-sign", "a signature of SM2 is not SM2DSA")];
    lies("a_lie_about_sm2_signatures_is_refused", "sm2-sign", &refused, &[SIGN]);
}

#[test]
fn a_lie_about_sm2_ciphertexts_is_refused() {
    let why = "what was encrypted outside does not open: Function::Decrypt: EncryptedDataInvalid";
    lies("a_lie_about_sm2_ciphertexts_is_refused", "sm2-encrypt", &[("sm2-encrypt", why)], &[DECRYPT]);
}
