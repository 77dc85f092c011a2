//! Starts that must fail, and how: what is wrong is said in one message that names
//! it, the exit code is right, and nothing that was there is harmed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use claviger_protocol::Protection;
use claviger_tests::programs::{clavigerd, run, text};
use claviger_tests::{Site, Token, Wire, each_token};

/// How a program that must fail did.
fn failed(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, stdout } = run(command);
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{command:?} succeeded");
    assert_eq!(String::from_utf8_lossy(&stdout), "", "a refusal belongs on stderr");
    (status.code().unwrap_or_else(|| panic!("{command:?} died of a signal: {stderr}")), stderr)
}

fn dev(state_dir: &Path) -> Command {
    clavigerd(["--dev", "--state-dir", text(state_dir)])
}

#[test]
fn a_socket_in_use_is_left_alone() {
    let site = Site::bare(Token::Embedded);
    std::fs::create_dir(site.state_dir()).unwrap();
    std::fs::set_permissions(site.state_dir(), std::fs::Permissions::from_mode(0o700)).unwrap();
    for socket in [site.admin_socket(), site.app_socket()] {
        let owner = UnixListener::bind(&socket).unwrap();
        let (code, said) = failed(&mut site.daemon_command());
        assert_eq!(code, 1);
        assert!(said.contains(text(&socket)) && said.contains("in use"), "{said}");
        // Whoever listens there still does.
        let _ = Wire::connect(&socket);
        assert!(owner.accept().is_ok());
        drop(owner);
        // Its file is stale now, and no obstacle.
    }
    let site = std::sync::Arc::new(site);
    site.start().terminate();
    assert!(!site.admin_socket().exists() && !site.app_socket().exists(), "the sockets go with the daemon");

    std::fs::write(site.admin_socket(), "precious").unwrap();
    let (code, said) = failed(&mut site.daemon_command());
    assert!(code == 1 && said.contains("not a socket"), "{said}");
    assert_eq!(std::fs::read(site.admin_socket()).unwrap(), b"precious");
}

#[test]
fn an_unwritable_state_directory_is_named() {
    // Tests may run as root, whom no permission bits stop: paths that nobody can write.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let nowhere = Path::new("/proc/claviger-state");
    let read_only = Path::new("/proc/sys");
    for state in [file.clone(), file.join("below"), nowhere.to_owned(), read_only.to_owned()] {
        let (code, said) = failed(&mut dev(&state));
        assert!(code == 1 && said.contains(text(&state)), "{}: {code} {said}", state.display());
        assert_eq!(said.matches("clavigerd: ").count(), 1, "one message: {said}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"x");

    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o770)).unwrap();
    let (code, said) = failed(&mut dev(&open));
    assert!(code == 1 && said.contains(text(&open)) && said.contains("0700"), "{said}");
}

#[test]
fn a_bad_configuration_is_told_by_line_key_and_expectation() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("claviger.toml");
    let hsm = "[[hsm]]\nname = \"a\"\nprofile = \"embedded\"\npin = { env = \"P\" }\n";
    let cases = [
        ("state_dri = \"/x\"\n", ":1: state_dri:", "expected"),
        ("state_dir = \"relative\"\n", ":1: state_dir:", "absolute"),
        ("[limits]\nmax_body = \"1GiB\"\n", ":2: limits.max_body:", "16MiB"),
        ("[limits]\nhandshake_timeout = 5\n", ":2: limits.handshake_timeout:", "5s"),
        ("[admin]\nmode = \"0777\"\n", ":2: admin.mode:", "octal"),
        ("[[endpoint]]\nname = \"admin\"\nsocket = \"/x.sock\"\n", ":2: endpoint[0].name:", "another name"),
        ("[metrics]\nlisten = \"0.0.0.0:1\"\n", ":2: metrics.listen:", "loopback"),
        ("[[hsm]]\nname = \"b\"\nprofile = \"softhsm2\"\n", "hsm", "exactly one"),
    ];
    for (bad, place, expectation) in cases {
        // The bad part first, so that its lines count from 1.
        std::fs::write(&file, format!("{bad}{hsm}")).unwrap();
        let config = text(&file);
        for args in [
            &["--config", config][..],
            &["check-config", "--config", config],
            &["hsm", "probe", "--config", config],
        ] {
            let (code, said) = failed(&mut clavigerd(args.iter().copied()));
            assert_eq!(code, 2, "{args:?}: {said}");
            assert!(said.contains(config) && said.contains(place), "{args:?}: {said}");
            assert!(said.contains("found") && said.contains(expectation), "{args:?}: {said}");
        }
    }
    std::fs::write(&file, "state_dir = \n").unwrap();
    let (code, said) = failed(&mut clavigerd(["check-config", "--config", text(&file)]));
    assert!(code == 2 && said.contains(":1:"), "{said}");
    // What it names is looked at too: here a place that fits.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (state, socket) = (dir.path().join("state"), dir.path().join("admin.sock"));
    std::fs::write(&file, format!("state_dir = {state:?}\n{hsm}[admin]\nsocket = {socket:?}\n")).unwrap();
    assert!(run(&mut clavigerd(["check-config", "--config", text(&file)])).status.success());
}

#[test]
fn a_corrupt_profile_is_refused_with_its_file_and_what_is_wrong_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, config) = (dir.path().join("p.toml"), dir.path().join("claviger.toml"));
    std::fs::write(
        &config,
        format!(
            "[[hsm]]\nname = \"a\"\nprofile = {profile:?}\nmodule = \"/m.so\"\nslot = 0\npin = {{ env = \"P\" }}\n"
        ),
    )
    .unwrap();
    let good = include_str!("../../hsm-profiles/profiles/softhsm2.toml");
    let spoilt = [
        good[..good.len() / 2].to_owned(),
        good.replace("aes-gcm = 0x1087", "aes-gcm = -1"),
        good.replace("wrap = \"aes-kw\"", "wrap = \"aes-cbc-pad\""),
        good.replace("hardware = false", "hardware = \"no\""),
        good.replace("derivation", "derivaton"),
        String::new(),
        "\u{0}\u{1}\u{2}".to_owned(),
    ];
    for text_of in spoilt {
        std::fs::write(&profile, &text_of).unwrap();
        for args in [&["--config", text(&config)][..], &["check-config", "--config", text(&config)]] {
            let (code, said) = failed(&mut clavigerd(args.iter().copied()));
            assert_eq!(code, 2, "{text_of}: {said}");
            assert!(said.contains("hsm[0].profile") && said.contains(text(&profile)), "{text_of}: {said}");
        }
    }
}

#[test]
fn wrong_arguments_exit_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.toml");
    for args in [
        &[][..],
        &["--config", text(&missing)],
        &["--dev"],
        &["--state-dir", "/x"],
        &["--dev", "--state-dir", "/x", "--config", "/y"],
        &["--no-such-flag"],
        &["hsm", "explode"],
    ] {
        let (code, said) = failed(&mut clavigerd(args.iter().copied()));
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(!said.is_empty());
    }
}

/// Every file below a directory, with its bytes.
fn contents(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if path.is_file() {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn the_state_of_a_newer_daemon_is_refused_untouched() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        daemon.admin().create(Protection::Hsm);
        daemon.terminate();
        let format = site.state_dir().join("format");
        let old = std::fs::read_to_string(&format).unwrap();
        std::fs::write(&format, old.replace('1', "2")).unwrap();
        assert_ne!(std::fs::read_to_string(&format).unwrap(), old);
        let before = contents(&site.state_dir());
        let (code, said) = failed(&mut site.daemon_command());
        assert!(code == 1 && said.contains("newer daemon"), "{said}");
        assert_eq!(contents(&site.state_dir()), before);
        std::fs::write(&format, old).unwrap();
        site.start().terminate();
    }
}

#[test]
fn a_domain_whose_store_is_gone_is_refused_not_served_empty() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        daemon.admin().create(Protection::Hsm);
        daemon.terminate();
        let store = site.state_dir().join("store");
        std::fs::rename(&store, site.dir().join("away")).unwrap();
        let (code, said) = failed(&mut site.daemon_command());
        assert!(
            code == 1 && said.contains("store is missing") && said.contains("restore a backup"),
            "{said}"
        );
        assert!(!store.exists());
        std::fs::rename(site.dir().join("away"), &store).unwrap();
        let daemon = site.start();
        assert_eq!(daemon.admin().list_all().len(), 1);
        daemon.terminate();
    }
}

#[test]
fn a_second_daemon_on_the_same_state_directory_is_refused() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let mut wire = daemon.admin();
        let key = wire.create(Protection::Hsm);
        let blob = wire.encrypt(key, b"secret");
        let (code, said) = failed(&mut site.daemon_command());
        assert_eq!(code, 1);
        assert!(said.contains("another daemon") && said.contains(text(&site.state_dir())), "{said}");
        // The first one noticed nothing: its sockets are still its own.
        assert_eq!(wire.decrypt(&blob), Ok(b"secret".to_vec()));
        assert_eq!(daemon.admin().decrypt(&blob), Ok(b"secret".to_vec()));
        if token == Token::SoftHsm {
            let init = site.hsm("init", &[]);
            assert_eq!(init.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&init.stderr).contains("another daemon"));
        }
        daemon.terminate();
    }
}

#[test]
fn a_store_of_another_domain_is_never_used() {
    for token in each_token() {
        let sites = [Site::new(token), Site::new(token)];
        for site in &sites {
            let daemon = site.start();
            daemon.admin().create(Protection::Software);
            daemon.terminate();
        }
        let store = |site: &Site, name: &str| site.state_dir().join(name);
        std::fs::rename(store(&sites[0], "store"), store(&sites[0], "own")).unwrap();
        std::fs::rename(store(&sites[1], "store"), store(&sites[0], "store")).unwrap();
        let (code, said) = failed(&mut sites[0].daemon_command());
        assert_eq!(code, 1);
        assert!(said.contains("store"), "{said}");
        // Its own still opens: nothing was written to anything.
        std::fs::rename(store(&sites[0], "store"), store(&sites[0], "foreign")).unwrap();
        std::fs::rename(store(&sites[0], "own"), store(&sites[0], "store")).unwrap();
        let daemon = sites[0].start();
        assert_eq!(daemon.admin().list_all().len(), 1);
        daemon.terminate();
    }
}
