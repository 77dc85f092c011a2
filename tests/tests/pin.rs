//! Where the PIN comes from, end to end: a systemd credential, a command. The file is
//! what every other test uses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use claviger_protocol::Protection;
use claviger_tests::programs::text;
use claviger_tests::token::PIN;
use claviger_tests::{Daemon, Site, Token, eventually};

/// A place on SoftHSM2 whose configuration has this for its PIN from now on.
fn place(pin: impl FnOnce(&Site) -> String) -> Arc<Site> {
    let site = Site::with_limits(Token::SoftHsm, "hsm_retry = \"100ms\"");
    let config = std::fs::read_to_string(site.config_file()).unwrap();
    let file = format!("pin = {{ file = \"{}\" }}", text(&site.pin_file()));
    assert!(config.contains(&file), "{config}");
    std::fs::write(site.config_file(), config.replace(&file, &pin(&site))).unwrap();
    std::fs::remove_file(site.pin_file()).unwrap();
    site
}

/// A daemon with these credentials, as systemd passes them: read-only, its own.
fn with_credentials(site: &Arc<Site>, credentials: &[(&str, &[u8])]) -> Daemon {
    let dir = site.dir().join("credentials");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    for (name, content) in credentials {
        std::fs::write(dir.join(name), content).unwrap();
        std::fs::set_permissions(dir.join(name), Permissions::from_mode(0o400)).unwrap();
    }
    std::fs::set_permissions(&dir, Permissions::from_mode(0o500)).unwrap();
    let mut command = site.daemon_command();
    command.env("CREDENTIALS_DIRECTORY", &dir);
    Daemon::spawn(site, command)
}

/// What a daemon that stays locked says of it.
fn locked(mut daemon: Daemon, why: &str) {
    let mut admin = daemon.admin_when_listening();
    let status = eventually(why, || Some(admin.status()).filter(|status| status.reason.contains(why)));
    assert!(!status.reason.contains(PIN), "{status:?}");
    daemon.terminate();
}

#[test]
fn a_credential_opens_the_token() {
    let site = place(|_| "pin = { credential = \"hsm-a\" }".to_owned());
    for content in [PIN.to_owned(), format!("{PIN}\n")] {
        let mut daemon = with_credentials(&site, &[("hsm-a", content.as_bytes()), ("other", b"x")]);
        daemon.wait_serving();
        let key = daemon.admin().create(Protection::Hsm);
        assert!(!daemon.app().encrypt(key, b"x").is_empty());
        daemon.terminate();
    }
    assert!(!site.said().contains(PIN));
}

#[test]
fn a_credential_that_is_missing_empty_or_too_long_is_named_and_no_pin_is_tried() {
    let site = place(|_| "pin = { credential = \"hsm-a\" }".to_owned());
    let long = [b'7'; 1025];
    let mut no_break = PIN.as_bytes().to_vec();
    no_break.extend(vec![b'x'; 1024 * 1024]);
    for (content, why) in [
        (&[("other", PIN.as_bytes())][..], "credential hsm-a: No such file"),
        (&[("hsm-a", b"".as_slice())], "credential hsm-a: the PIN is empty"),
        (&[("hsm-a", &long)], "credential hsm-a: the PIN is longer than 1024 bytes"),
        (&[("hsm-a", &no_break)], "credential hsm-a: the PIN is longer than 1024 bytes"),
        (&[("hsm-a", b"\xff\xfe".as_slice())], "credential hsm-a: the PIN is not UTF-8"),
    ] {
        locked(with_credentials(&site, content), why);
    }
    locked(site.spawn(), "no $CREDENTIALS_DIRECTORY");
    // A token that counts has lost no try: the right one opens it.
    let mut daemon = with_credentials(&site, &[("hsm-a", PIN.as_bytes())]);
    daemon.wait_serving();
    daemon.terminate();
}

#[test]
fn a_commands_first_line_opens_the_token_and_its_failure_is_named() {
    let script = "cat \"$0\" && echo '# and more'";
    let site = place(|site| {
        format!("pin = {{ command = [\"/bin/sh\", \"-c\", {script:?}, {:?}] }}", site.pin_file())
    });
    locked(site.spawn(), "sh: exit status: 1");
    site.write_pin(&format!("{PIN}\n"), 0o600);
    let mut daemon = site.spawn();
    daemon.wait_serving();
    assert_eq!(daemon.admin().list_all().len(), 0);
    daemon.terminate();
}
