//! A module in a helper's process does with private keys and MACs what it does in this
//! one, on as many lanes. The test runs itself again, because SoftHSM2 finds its
//! configuration by an environment variable.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command as Process;
use std::time::Duration;

use claviger_hsm_profiles::Profile;
use claviger_protocol::{KeySpec, SecretBytes, SigningAlgorithm};
use clavigerd::backend::hsm::command::{Answer, Command, HsmError, ObjectId, Template};
use clavigerd::backend::hsm::lane::Lane;
use clavigerd::backend::hsm::member::Member;
use clavigerd::backend::hsm::{domain, init, member};
use clavigerd::backend::software::{self, PublicKey};
use clavigerd::config::{
    Config, EndpointConfig, Isolation, Limits, LockMemory, LogConfig, MemberConfig, PinSource, TokenSelector,
    TokenSource,
};
use clavigerd::edge::Edge;

const DIR: &str = "CLAVIGER_TEST_DIR";
const PIN: &str = "87654321";

fn configuration(dir: &Path, isolation: Isolation) -> Config {
    let source = TokenSource::Module {
        path: "/usr/lib/softhsm/libsofthsm2.so".into(),
        token: TokenSelector::Label("claviger".to_owned()),
    };
    Config {
        state_dir: dir.join("state"),
        dev: true,
        allow_software_tokens: true,
        lock_memory: LockMemory::Off,
        admin: EndpointConfig {
            name: "admin".to_owned(),
            socket: dir.join("admin.sock"),
            mode: 0o600,
            owner: None,
            group: None,
            service: None,
        },
        endpoints: Vec::new(),
        hsm: vec![MemberConfig {
            name: "softhsm".to_owned(),
            profile: Profile::load("softhsm2").unwrap(),
            source,
            pin: PinSource::File(dir.join("pin")),
            isolation,
            call_timeout: Duration::from_secs(30),
        }],
        metrics: None,
        log: LogConfig::default(),
        limits: Limits::default(),
    }
}

/// Makes the token, and runs this test again with the token's configuration.
fn outer() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (conf, tokens) = (dir.path().join("softhsm2.conf"), dir.path().join("tokens"));
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))
        .unwrap();
    std::fs::write(dir.path().join("pin"), PIN).unwrap();
    std::fs::set_permissions(dir.path().join("pin"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let made = Process::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &conf)
        .args(["--init-token", "--free", "--label", "claviger", "--so-pin", "12345678", "--pin", PIN])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let done = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_helper_has_the_same_lanes_and_does_the_same", "--nocapture"])
        .env(DIR, dir.path())
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn a_helper_has_the_same_lanes_and_does_the_same() {
    let Some(dir) = std::env::var_os(DIR) else { return outer() };
    let dir = Path::new(&dir);
    let edge = Edge::system();
    let here = configuration(dir, Isolation::Thread);
    init(&here, &[], &edge, &mut |_| ControlFlow::Continue(())).unwrap();
    let root = domain::header(&here.state_dir).unwrap().unwrap().root;
    let helper = Some(env!("CARGO_BIN_EXE_clavigerd-hsm").into());
    let there = configuration(dir, Isolation::Process { helper });
    let open = |config: &Config, epoch| {
        member::open(&config.hsm[0], Some(&root), &edge.workers, &config.limits, epoch).unwrap()
    };
    let (inside, apart) = (open(&here, 1), open(&there, 2));
    assert_eq!(apart.report, inside.report);
    assert_eq!(apart.asymmetric.len(), inside.asymmetric.len());
    for (spec, template) in [
        (KeySpec::Rsa2048, Template::RsaSign),
        (KeySpec::Rsa2048, Template::RsaDecrypt),
        (KeySpec::EcP256, Template::EcSign),
        (KeySpec::EcP384, Template::EcSign),
    ] {
        pair(&apart, &inside, spec, template);
    }
    for spec in [KeySpec::Hmac256, KeySpec::Hmac384, KeySpec::Hmac512] {
        mac(&apart, &inside, spec);
    }
    let canaries = apart.asymmetric.iter().map(|lane| lane.run_now(&Command::Canary));
    assert!(canaries.into_iter().all(|outcome| outcome == Ok(Answer::Done)));
    assert!(apart.asymmetric.iter().all(|lane| lane.try_run(&Command::Canary).is_none()));
}

fn object(answer: Result<Answer, HsmError>) -> ObjectId {
    match answer {
        Ok(Answer::Object(object)) => object,
        other => panic!("{other:?}"),
    }
}

fn bytes(lane: &Lane, command: &Command) -> Vec<u8> {
    match lane.run_now(command) {
        Ok(Answer::Bytes(bytes)) => bytes.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Made by the helper, used on every lane of it and of the other member.
fn pair(apart: &Member, inside: &Member, spec: KeySpec, template: Template) {
    let made = apart.make.run_now(&Command::Generate { spec, template });
    let Ok(Answer::GeneratedPair { wrapped, public_key }) = made else { panic!("{made:?}") };
    let public = PublicKey::from_spki(&public_key).unwrap();
    for lane in apart.asymmetric.iter().chain([&apart.serve]).chain(&inside.asymmetric) {
        let (wrapped, public_key) = (wrapped.clone(), public_key.clone());
        let object = object(lane.run_now(&Command::UnwrapPair { wrapped, spec, template, public_key }));
        for &algorithm in spec.signing_algorithms().iter().filter(|_| template != Template::RsaDecrypt) {
            let digest = software::digest(algorithm.digest(), b"message");
            let signature = bytes(lane, &Command::Sign { object, algorithm, digest: digest.clone() });
            assert!(public.verify(algorithm, &digest, &signature), "{spec} {algorithm}");
        }
        for &algorithm in spec.encryption_algorithms().iter().filter(|_| template == Template::RsaDecrypt) {
            let ciphertext = public.encrypt(algorithm.into(), b"text", &Edge::system().entropy).unwrap();
            let mut flipped = ciphertext.clone();
            flipped[9] ^= 1;
            let command = |ciphertext| Command::PrivateDecrypt { object, algorithm, ciphertext };
            assert_eq!(bytes(lane, &command(ciphertext)), b"text");
            assert_eq!(lane.run_now(&command(flipped)), Err(HsmError::AuthenticationFailed));
        }
    }
    let other = apart.make.run_now(&Command::Generate { spec, template });
    let Ok(Answer::GeneratedPair { public_key, .. }) = other else { panic!("{other:?}") };
    let wrong = Command::UnwrapPair { wrapped, spec, template, public_key };
    assert_eq!(apart.pair_lane().run_now(&wrong), Err(HsmError::CheckValueMismatch));
    let (algorithm, digest) = (SigningAlgorithm::EcdsaSha256, vec![1; 32]);
    let gone = Command::Sign { object: ObjectId { epoch: 1, handle: 7 }, algorithm, digest };
    assert_eq!(apart.pair_lane().run_now(&gone), Err(HsmError::ObjectGone));
}

fn mac(apart: &Member, inside: &Member, spec: KeySpec) {
    let template = Template::HmacSecret;
    let made = apart.make.run_now(&Command::Generate { spec, template });
    let Ok(Answer::Generated { wrapped, check_value }) = made else { panic!("{made:?}") };
    let algorithm = spec.mac_algorithm().unwrap();
    let [first, second] = [apart, inside].map(|member| {
        let wrapped = wrapped.clone();
        let unwrap = Command::Unwrap { wrapped, spec, template, check_value };
        let object = object(member.serve.run_now(&unwrap));
        bytes(&member.serve, &Command::Mac { object, algorithm, message: SecretBytes::new(vec![5; 9000]) })
    });
    assert_eq!((first.len(), &first), (algorithm.digest().len(), &second));
}
