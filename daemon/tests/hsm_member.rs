//! The HSM side as the rest of the daemon uses it: from an empty directory to an
//! encrypted message, over the library's public face only.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use claviger_hsm_profiles::Profile;
use claviger_protocol::{KeySpec, SecretBytes};
use clavigerd::backend::hsm::command::{Answer, Command, HsmError};
use clavigerd::backend::hsm::{RootId, domain, init, member};
use clavigerd::config::{
    Config, EndpointConfig, Isolation, Limits, LockMemory, MemberConfig, PinSource, TokenSource,
};
use clavigerd::edge::Edge;

fn configuration(dir: &Path, profile: Profile) -> Config {
    let socket = dir.join("admin.sock");
    Config {
        state_dir: dir.to_owned(),
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
            name: "embedded".to_owned(),
            profile,
            source: TokenSource::Embedded { dir: dir.join("token") },
            pin: PinSource::File(dir.join("pin")),
            isolation: Isolation::Thread,
            call_timeout: Duration::from_secs(30),
        }],
        metrics: None,
        log: clavigerd::config::LogConfig::default(),
        limits: Limits::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_a_message_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), Profile::load("embedded").unwrap());
    let edge = Edge::system();
    let member = {
        let (config, edge) = (config.clone(), edge.clone());
        let open = move || {
            assert!(domain::header(&config.state_dir).unwrap().is_none());
            init(&config, &[], &edge, &mut |_| ControlFlow::Continue(())).unwrap();
            let root: RootId = domain::header(&config.state_dir).unwrap().unwrap().root;
            member::open(&config.hsm[0], Some(&root), &edge.workers, &config.limits, 1).unwrap()
        };
        tokio::task::spawn_blocking(open).await.unwrap()
    };
    let opened = domain::open_domain(&config.state_dir, &member).unwrap();
    assert_eq!((opened.root_generation, opened.recovery_recipients), (1, 0));
    assert_ne!(opened.keys.record_mac(), opened.keys.software_seal());

    let template = member.aes_template;
    let made = member.make.run(Command::Generate { spec: KeySpec::Aes256, template }).await;
    let Ok(Answer::Generated { wrapped, check_value }) = made else { panic!("{made:?}") };
    let unwrapped =
        member.serve.run(Command::Unwrap { wrapped, spec: KeySpec::Aes256, template, check_value }).await;
    let Ok(Answer::Object(key)) = unwrapped else { panic!("{unwrapped:?}") };
    let (send, receive) = mpsc::channel();
    let derive = Command::Derive { object: key, salt: [1; 16] };
    member.serve.run_then(derive, move |outcome| send.send(outcome).unwrap()).unwrap();
    let Ok(Ok(Answer::Object(subkey))) = receive.recv() else { panic!("no sub-key") };

    let plaintext = SecretBytes::new(b"a message".to_vec());
    let seal = Command::GcmSeal { object: subkey, nonce: [2; 12], aad: Vec::new(), plaintext };
    let sealed = member.serve.run(seal).await;
    let Ok(Answer::Bytes(sealed)) = sealed else { panic!("{sealed:?}") };
    let open = |sealed: &[u8]| Command::GcmOpen {
        object: subkey,
        nonce: [2; 12],
        aad: Vec::new(),
        sealed: sealed.to_vec(),
    };
    let opened = member.serve.try_run(&open(sealed.expose()));
    assert_eq!(opened, Some(Ok(Answer::Bytes(SecretBytes::new(b"a message".to_vec())))));
    member.serve.release(subkey);
    member.serve.release(key);
    // Queued behind the releases, so it comes after them.
    let gone = member.serve.run(open(sealed.expose())).await;
    assert_eq!(gone, Err(HsmError::ObjectGone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_does_not_say_in_place_is_never_called_in_place() {
    for in_place in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile { in_place, ..Profile::load("embedded").unwrap() };
        let config = configuration(dir.path(), profile);
        let open = move || {
            let edge = Edge::system();
            init(&config, &[], &edge, &mut |_| ControlFlow::Continue(())).unwrap();
            member::open(&config.hsm[0], None, &edge.workers, &config.limits, 1).unwrap()
        };
        let member = tokio::task::spawn_blocking(open).await.unwrap();
        for lane in [&member.serve, &member.make] {
            assert_eq!(lane.try_run(&Command::Canary).is_some(), in_place);
            assert!(!matches!(lane.run(Command::Canary).await, Err(HsmError::Busy)));
        }
    }
}
