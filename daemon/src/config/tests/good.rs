//! What is accepted, and what it turns into.

use std::time::Duration;

use super::*;

#[test]
fn one_member_is_enough_and_the_rest_has_defaults() {
    let config = parse(MEMBER).unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/claviger"));
    assert!(!config.dev && !config.allow_software_tokens);
    assert_eq!(config.admin.name, "admin");
    assert_eq!(config.admin.socket, Path::new("/run/claviger/admin.sock"));
    assert_eq!((config.admin.mode, &config.admin.owner, &config.admin.group), (0o600, &None, &None));
    assert!(config.endpoints.is_empty() && config.metrics.is_none());
    assert_eq!(config.log, LogConfig { format: LogFormat::Auto, level: "info".into() });
    assert_eq!(config.limits, Limits::default());
    let [member] = config.hsm.as_slice() else { panic!("one member") };
    assert_eq!((member.name.as_str(), member.profile.name.as_str()), ("a", "embedded"));
    assert_eq!(member.source, TokenSource::Embedded { dir: "/var/lib/claviger/token".into() });
    assert_eq!(member.pin, PinSource::File("/etc/claviger/a.pin".into()));
}

#[test]
fn every_key_says_what_it_says() {
    let config = parse(
        r#"
        state_dir = "/srv//keys/./a/"
        allow_software_tokens = true
        [admin]
        socket = "/run/k/admin.sock"
        mode = "0660"
        owner = "claviger"
        group = "990"
        [[endpoint]]
        name = "app"
        socket = "/run/k/app.sock"
        [[endpoint]]
        name = "billing_2"
        socket = "/run/k/billing.sock"
        mode = "770"
        group = "billing"
        [[hsm]]
        name = "soft"
        profile = "softhsm2"
        module = "/usr/lib/softhsm/libsofthsm2.so"
        token_label = "claviger-a"
        pin = { credential = "a.pin" }
        isolation = "thread"
        [metrics]
        listen = "unix:/run/k//metrics.sock"
        group = "prometheus"
        [log]
        format = "json"
        level = "warn,clavigerd::store=debug"
        [audit]
        [limits]
        max_plaintext = 4096
        max_body = "2MiB"
        max_batch = 1_000
        idle_timeout = "1m 30s"
        [quotas]
        "#,
    )
    .unwrap();
    assert_eq!(config.state_dir.to_str(), Some("/srv/keys/a"));
    assert!(config.allow_software_tokens);
    assert_eq!((config.admin.mode, config.admin.owner.as_deref()), (0o660, Some("claviger")));
    assert_eq!(config.admin.group.as_deref(), Some("990"));
    let names: Vec<_> =
        config.endpoints.iter().map(|endpoint| (endpoint.name.as_str(), endpoint.mode)).collect();
    assert_eq!(names, [("app", 0o600), ("billing_2", 0o770)]);
    let Some(MetricsListen::Unix(metrics)) = &config.metrics else { panic!("a socket") };
    assert_eq!((metrics.socket.to_str(), metrics.mode), (Some("/run/k/metrics.sock"), 0o660));
    assert_eq!((metrics.owner.as_deref(), metrics.group.as_deref()), (None, Some("prometheus")));
    let level = "warn,clavigerd::store=debug".to_owned();
    assert_eq!(config.log, LogConfig { format: LogFormat::Json, level });
    let path = "/usr/lib/softhsm/libsofthsm2.so".into();
    let token = TokenSelector::Label("claviger-a".into());
    assert_eq!(config.hsm[0].source, TokenSource::Module { path, token });
    assert_eq!(config.hsm[0].pin, PinSource::Credential("a.pin".into()));
    let limits = Limits {
        max_plaintext: 4096,
        max_body: 2 * 1024 * 1024,
        max_batch: 1000,
        idle_timeout: Duration::from_secs(90),
        ..Limits::default()
    };
    assert_eq!(config.limits, limits);
}

#[test]
fn each_selector_and_each_pin_source_is_taken() {
    let member = |selector: &str, pin: &str| {
        let text =
            format!("[[hsm]]\nname='a'\nprofile='softhsm2'\nmodule='/m.so'\n{selector}\npin = {{ {pin} }}\n");
        let mut config = parse(&text).unwrap();
        let member = config.hsm.remove(0);
        let TokenSource::Module { token, .. } = member.source else { panic!("a module") };
        (token, member.pin)
    };
    let env = PinSource::Env("A_PIN".into());
    assert_eq!(member("serial = '0af3'", "env = 'A_PIN'"), (TokenSelector::Serial("0af3".into()), env));
    let words = vec!["/usr/bin/pass".to_owned(), "show".to_owned(), "hsm a".to_owned()];
    let command = PinSource::Command(words);
    assert_eq!(format!("{command:?}"), "Command(Some(\"/usr/bin/pass\"), ..)");
    let taken = member("slot = 0x1F", "command = ['/usr/bin/pass', 'show', 'hsm a']");
    assert_eq!(taken, (TokenSelector::Slot(31), command));
}

#[test]
fn a_module_runs_in_a_process_unless_it_is_told_otherwise() {
    let of = |lines: &str| {
        let member = parse(&format!("{MODULE}{lines}\n")).unwrap().hsm.remove(0);
        (member.isolation, member.call_timeout)
    };
    let thirty = Duration::from_secs(30);
    assert_eq!(of(""), (Isolation::Process { helper: None }, thirty));
    let helper = Some("/opt/clavigerd-hsm".into());
    assert_eq!(of("helper = '/opt/clavigerd-hsm'"), (Isolation::Process { helper }, thirty));
    assert_eq!(of("isolation = 'thread'\ncall_timeout = '2s'"), (Isolation::Thread, Duration::from_secs(2)));
    let unit = Isolation::Unit { socket: "/run/claviger-hsm/a.sock".into() };
    assert_eq!(of("isolation = 'unit'\nsocket = '/run/claviger-hsm/a.sock'"), (unit, thirty));
    let embedded = parse(MEMBER).unwrap().hsm.remove(0);
    assert_eq!(embedded.isolation, Isolation::Thread);
}

#[test]
fn a_socket_path_may_have_107_bytes_and_no_more() {
    let of = |bytes: usize| format!("[admin]\nsocket = \"/{}\"\n{MEMBER}", "s".repeat(bytes - 1));
    assert!(parse(&of(107)).is_ok());
    assert!(problems(&of(108)).contains("a path of at most 107 bytes (sun_path)"));
}

#[test]
fn dev_needs_nothing_and_keeps_everything_under_its_directory() {
    let config = Config::dev(Path::new("/tmp/dev")).unwrap();
    assert!(config.dev && config.allow_software_tokens);
    assert_eq!(config.admin.socket, Path::new("/tmp/dev/admin.sock"));
    let [app] = config.endpoints.as_slice() else { panic!("one endpoint") };
    assert_eq!((app.name.as_str(), app.socket.to_str()), ("app", Some("/tmp/dev/app.sock")));
    let [member] = config.hsm.as_slice() else { panic!("one member") };
    assert_eq!(member.source, TokenSource::Embedded { dir: "/tmp/dev/token".into() });
    assert_eq!(member.pin, PinSource::File("/tmp/dev/token/pin".into()));
    assert_eq!(
        config.limits,
        Limits { deletion_days_min: 0, erase_after: Duration::ZERO, ..Limits::default() }
    );
}

#[test]
fn dev_takes_a_relative_directory_from_the_working_directory() {
    let config = Config::dev(Path::new("dev-state")).unwrap();
    assert_eq!(config.state_dir, std::env::current_dir().unwrap().join("dev-state"));
}

#[test]
fn dev_refuses_a_directory_too_long_for_its_sockets() {
    let error = Config::dev(&Path::new("/").join("d".repeat(97))).unwrap_err().to_string();
    assert!(error.starts_with("--state-dir: admin.socket: found a path of 109 bytes (/ddd"), "{error}");
    assert!(error.ends_with("expected at most 107 bytes (sun_path): take a shorter --state-dir"), "{error}");
}

#[test]
fn a_file_is_read_whole_or_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let shown = path.display().to_string();
    let refused = |why: &str| format!("{shown}: {why}; give a TOML file that this user can read");
    let read = || Config::from_file(&path).map_err(|error| error.to_string());
    assert_eq!(read().unwrap_err(), refused("No such file or directory (os error 2)"));
    std::fs::write(&path, MEMBER).unwrap();
    assert_eq!(read().unwrap().hsm.len(), 1);
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(read().unwrap_err(), refused("larger than 1 MiB"));
    std::fs::write(&path, b"# \xff").unwrap();
    assert_eq!(read().unwrap_err(), refused("stream did not contain valid UTF-8"));
    std::fs::write(&path, "state_dir = 1\n[[hsm]]\n").unwrap();
    let first = read().unwrap_err();
    assert!(
        first.starts_with(&format!("{shown}:1: state_dir: found 1, expected an absolute path")),
        "{first}"
    );
}
