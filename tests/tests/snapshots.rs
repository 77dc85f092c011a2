//! Everything that `claviger` and `clavigerd` say, as people and programs read it: each
//! test is a session whose transcript is compared with `tests/snapshots/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use claviger_tests::process::stop;
use claviger_tests::programs::{binary, text, tool};
use claviger_tests::session::Session;
use claviger_tests::{Daemon, Site, Token, eventually};
use nix::sys::signal::Signal;

const TOKEN: &str = "00112233445566778899aabbccddeeff";

#[test]
fn every_command_of_the_client() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut session = Session::new("client", &site);
    session.both(&["ping"], b"");
    session.both(&["key", "create", "--alias", "alias/pay", "--client-token", TOKEN], b"");
    let more = ["--protection", "software", "--tag", "team=web", "--description", "web sessions"];
    let create = ["key", "create", "--alias", "alias/web"];
    let _ = session.claviger(&[&create[..], &more].concat(), b"");
    session.both(&["key", "describe", "alias/web"], b"");
    session.both(&["key", "list", "--tag", "team=web"], b"");
    session.both(&["key", "list", "--state", "Disabled"], b"");
    // Which of the two comes first is chance, so this is no part of the transcript.
    let page = claviger_tests::cli::claviger(&site, &["key", "list", "--limit", "1"], b"");
    assert!(String::from_utf8(page.stdout).unwrap().contains("\nthere are more: --page "));
    session.both(&["key", "disable", "alias/pay", "alias/none"], b"");
    session.both(&["key", "enable", "alias/pay"], b"");
    let _ = session.claviger(&["encrypt", "alias/pay", "--out", "card.blob"], b"4929");
    let _ = session.claviger(&["encrypt", "alias/pay", "--json"], b"4929");
    session.both(&["decrypt", "--in", "card.blob"], b"");
    session.both(&["describe-blob", "--in", "card.blob"], b"");
    let _ = session.claviger(&["re-encrypt", "--to", "alias/web", "--in", "card.blob"], b"");
    let _ = session.claviger(&["re-encrypt", "--to", "alias/web", "--in", "card.blob", "--json"], b"");
    let files = ["--plaintext-out", "dek", "--blob-out", "dek.blob"];
    session.both(&[&["data-key", "generate", "alias/pay"][..], &files].concat(), b"");
    let _ = session.claviger(&["data-key", "generate", "alias/pay", "--json"], b"");
    let _ = session.claviger(&["data-key", "generate", "alias/pay", "--without-plaintext", "--json"], b"");
    let _ = session.claviger(&["random", "32", "--json"], b"");
    session.both(&["status"], b"");
    session.both(&["backup", "create", "--force", "monday.backup"], b"");
    session.both(&["backup", "verify", "monday.backup"], b"");
    let _ = session.claviger(&["completions", "tcsh"], b"");
    session.golden.finish();
    daemon.terminate();
}

/// Signatures and SM2 ciphertexts go to files: their lengths are a matter of chance.
#[test]
fn key_pairs_macs_and_digests() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut session = Session::new("pairs", &site);
    for line in [
        "key create --spec SM2 --protection software --sm2-user-id ALICE --alias alias/sm2",
        "key describe alias/sm2",
        "key public-key alias/sm2",
        "key public-key alias/sm2 --json",
        "key public-key alias/sm2 --format der --encoding base64 --out sm2.b64",
        "sign alias/sm2 --in text --out text.sig",
        "sign alias/sm2 --in text --out text.sig --json",
        "verify alias/sm2 --in text --signature text.sig",
        "verify alias/sm2 --in text --signature text.sig --json",
        "verify alias/sm2 --in text --signature text.sig --user-id BOB",
        "verify alias/sm2 --in text --signature text.sig --user-id BOB --json",
        "verify alias/sm2 --in text --signature text.sig --digest",
        "sign alias/sm2 --algorithm ECDSA_SHA_256 --in text",
        "asymmetric encrypt alias/sm2 --in text",
        "key create --spec RSA_2048 --usage ENCRYPT_DECRYPT --protection software --alias alias/box",
        "key public-key alias/box --out box.pem",
        "asymmetric encrypt alias/box --in text --out text.enc",
        "asymmetric encrypt alias/box --in text --json",
        "asymmetric decrypt alias/box --in text.enc",
        "asymmetric decrypt alias/box --in text.enc --json",
        "asymmetric decrypt alias/box --in text.enc --algorithm RSAES_OAEP_SHA_1",
        "key create --spec HMAC_256 --protection software --alias alias/mac",
        "mac alias/mac --in text --out text.mac",
        "mac alias/mac --in text --json",
        "verify-mac alias/mac --in text --mac text.mac",
        "verify-mac alias/mac --in text.mac --mac text.mac --json",
        "mac alias/mac --in text --algorithm HMAC_SM3",
        "sign alias/mac --in text",
        "digest --algorithm SM3 --encoding hex --in text",
        "digest --algorithm SHA_256 --in text --json",
        "key create --alias alias/pay",
        "data-key generate alias/pay --pair EC_P256 --json",
        "data-key generate alias/pay --pair SM2 --without-plaintext --public-key-out p.pem --blob-out p.blob",
        "data-key generate alias/pay --without-plaintext --blob-out dek.blob",
        "data-key export --public-key box.pem --in dek.blob --json",
        "data-key export --public-key p.pem --in dek.blob --out dek.sm2 --json",
        "data-key export --public-key sm2.b64 --encoding base64 --in dek.blob --out dek.b64",
        "data-key export --public-key p.pem --algorithm RSAES_PKCS1_V1_5 --in dek.blob",
        "data-key export --generate alias/pay --public-key box.pem --json",
        "key public-key alias/pay",
        "encrypt alias/sm2 --in text",
    ] {
        std::fs::write(site.dir().join("text"), "attack at dawn\n").unwrap();
        let _ = session.claviger(&line.split(' ').collect::<Vec<_>>(), b"");
    }
    session.golden.finish();
    daemon.terminate();
}

#[test]
fn every_refusal_of_the_client() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let mut session = Session::new("refusals", &site);
    let _ = session.claviger(&["key", "create", "--alias", "alias/a", "--client-token", TOKEN], b"");
    session.golden.say("the daemon refuses: exit code 1");
    for (args, input) in [
        (&["key", "describe", "alias/none"][..], &b""[..]),
        (&["encrypt", "11111111-2222-4333-8444-555555555555"], b"x"),
        (&["key", "create", "--alias", "alias/a"], b""),
        (&["key", "create", "--spec", "SM4", "--client-token", TOKEN], b""),
        (&["key", "create", "--rotation-days", "3"], b""),
        (&["key", "create", "--spec", "SM4"], b""),
        (&["key", "create", "--spec", "SM2"], b""),
        (&["key", "create", "--usage", "SIGN_VERIFY"], b""),
        (&["key", "create", "--project", "other"], b""),
        (&["key", "list", "--project", "other"], b""),
        (&["key", "list", "--page", "AAAA"], b""),
        (&["encrypt", "alias/a"], &[0; 6145]),
        (&["decrypt"], b"not a blob"),
        (&["describe-blob"], b"not a blob"),
        (&["backup", "verify", "not-a-backup"], b""),
    ] {
        std::fs::write(site.dir().join("not-a-backup"), "no header").unwrap();
        session.both(args, input);
    }
    let _ = session.claviger(&["encrypt", "alias/a", "--context", "user=7", "--out", "blob"], b"x");
    let _ = session.claviger(&["decrypt", "--in", "blob"], b"");
    let _ = session.claviger(&["decrypt", "--key", "alias/none", "--in", "blob"], b"");
    let _ = session.claviger(&["key", "disable", "alias/a"], b"");
    let _ = session.claviger(&["encrypt", "alias/a"], b"x");
    let _ = session.claviger(&["decrypt", "--context", "user=7", "--in", "blob"], b"");
    session.golden.say("an application asks for what administrators may");
    let app = site.app_socket();
    for args in [&["status"][..], &["key", "create"], &["key", "list"], &["backup", "create", "b"]] {
        let _ = session.on(&app, args, b"");
    }
    let _ = session.on(&app, &["key", "disable", "alias/a", "--json"], b"");
    let _ = session.on(&app, &["encrypt", "alias/none"], b"x");
    usage(&mut session);
    unreachable(&mut session, &daemon);
    session.golden.finish();
    daemon.terminate();
}

/// Bad usage: exit code 2, and no daemon is asked.
fn usage(session: &mut Session) {
    session.golden.say("bad usage: exit code 2");
    for args in [
        &[][..],
        &["frobnicate"],
        &["key"],
        &["ping", "--jsn"],
        &["encrypt"],
        &["encrypt", "not a key"],
        &["encrypt", "alias/a", "--context", "novalue"],
        &["encrypt", "alias/a", "--context", "a=1", "--context", "a=2"],
        &["encrypt", "alias/a", "--in", "none"],
        &["encrypt", "alias/a", "--in", "."],
        &["encrypt", "alias/a", "--out", "no/such/file"],
        &["key", "create", "--spec", "ROT13"],
        &["key", "create", "--usage", "TALK"],
        &["key", "create", "--protection", "paper"],
        &["key", "create", "--origin", "mars"],
        &["key", "create", "--tag", "a=1", "--tag", "a=2"],
        &["key", "create", "--alias", "pay"],
        &["key", "create", "--project", ""],
        &["key", "create", "--client-token", "1"],
        &["key", "list", "--limit", "0"],
        &["key", "list", "--page", "+"],
        &["key", "list", "--state", "Asleep"],
        &["key", "list", "--aliased", "--symmetric"],
        &["key", "schedule-deletion", "alias/a", "--days", "soon"],
        &["key", "rotation-policy", "alias/a"],
        &["key", "rotation-policy", "alias/a", "--days", "30", "--off"],
        &["key", "tag", "alias/a"],
        &["key", "version", "alias/a", "1"],
        &["key", "import", "alias/a", "--material", "none", "--token", "none"],
        &["key", "import", "alias/a", "--material", "m", "--token", "t", "--expires", "soon"],
        &["alias", "create", "pay", "alias/a"],
        &["alias", "list", "--key", "alias/a", "--limit", "1"],
        &["project", "move", "alias/a"],
        &["default-key", "create", "a/b"],
        &["random", "0"],
        &["data-key", "generate", "alias/a"],
        &["data-key", "generate", "alias/a", "--plaintext-out", "f", "--blob-out", "f"],
        &["data-key", "generate", "alias/a", "--bytes", "1025"],
        &["data-key", "generate", "alias/a", "--spec", "DES"],
        &["ping", "--timeout", "5"],
        &["ping", "--timeout", "0s"],
        &["ping", "--access-key", "AK"],
        &["ping", "--socket", ""],
        &["bench", "fly"],
        &["bench", "encrypt", "--size", "7000"],
        &["bench", "ping", "alias/a"],
        &["bench", "create-key"],
        &["backup", "create", "blob"],
        &["backup", "create", "no/such/dir"],
        &["backup", "verify", "none"],
        &["restore", "blob"],
        &["man", "no/such/dir"],
    ] {
        session.both(args, b"");
    }
}

/// Nobody is there, or nobody answers: exit code 3.
fn unreachable(session: &mut Session, daemon: &Daemon) {
    session.golden.say("no daemon can be reached: exit code 3");
    let (none, dead) = (session.site.dir().join("none.sock"), session.site.dir().join("dead.sock"));
    let _ = session.on(&none, &["ping"], b"");
    let _ = session.on(&none, &["ping", "--json"], b"");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let _ = session.on(&dead, &["ping"], b"");
    let file = session.site.dir().join("blob");
    let _ = session.on(&file, &["ping"], b"");
    // Stopped, the kernel still takes connections for it.
    stop(daemon.pid());
    let _ = session.claviger(&["ping", "--timeout", "100ms"], b"");
    daemon.signal(Signal::SIGCONT);
}

/// An RSA key pair by OpenSSL: `offline.key.pem`, `offline.pub.pem`.
fn key_pair(dir: &Path) {
    let (private, public) = (dir.join("offline.key.pem"), dir.join("offline.pub.pem"));
    let make = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", text(&private)];
    tool(Command::new("openssl").args(make));
    tool(Command::new("openssl").args(["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]));
}

#[test]
fn the_life_of_a_domain_on_the_daemons_command_line() {
    let mut site = Site::bare(Token::SoftHsm);
    site.make_token();
    site.write_config();
    key_pair(site.dir());
    let site = Arc::new(site);
    let mut session = Session::new("daemon", &site);
    let config = ["--config", "claviger.toml"];
    let run = |session: &mut Session, args: &[&str]| session.daemon(&[args, &config].concat());
    let _ = run(&mut session, &["check-config"]);
    unfit(&mut session);
    let _ = run(&mut session, &["hsm", "probe"]);
    let _ = run(&mut session, &["hsm", "probe", "--json"]);
    let _ = run(&mut session, &["hsm", "init", "--recovery", "none.pem"]);
    let _ = run(&mut session, &["hsm", "init", "--recovery", "claviger.toml"]);
    let _ = run(&mut session, &["hsm", "init", "--recovery", "offline.pub.pem"]);
    let _ = run(&mut session, &["hsm", "init"]);
    let daemon = site.start();
    let _ = session.claviger(&["key", "create", "--alias", "alias/a"], b"");
    let _ = session.claviger(&["status"], b"");
    let _ = session.claviger(&["backup", "create", "monday.backup"], b"");
    session.golden.say("while the daemon runs");
    let _ = run(&mut session, &[]);
    let _ = run(&mut session, &["hsm", "init"]);
    let _ = run(&mut session, &["restore", "monday.backup"]);
    let _ = run(&mut session, &["restore", "monday.backup", "--json"]);
    daemon.terminate();
    let _ = run(&mut session, &["restore", "monday.backup"]);
    locked(&mut session);
    session.golden.say("everything is lost but the backup and the offline key");
    std::fs::remove_dir_all(site.state_dir()).unwrap();
    let _ = run(&mut session, &["restore", "monday.backup"]);
    let _ = run(&mut session, &["restore", "monday.backup", "--json"]);
    let _ = run(&mut session, &["restore", "none.backup"]);
    let _ = run(&mut session, &["restore", "claviger.toml"]);
    let with_key = ["--private-key", "offline.key.pem"];
    let wrong_key = ["--private-key", "offline.pub.pem"];
    let _ = run(&mut session, &[&["restore", "monday.backup"][..], &wrong_key].concat());
    let _ = run(&mut session, &[&["restore", "monday.backup"][..], &with_key].concat());
    let _ = run(&mut session, &["hsm", "bench", "--only", "nothing"]);
    site.write_pin("wrong", 0o600);
    let _ = run(&mut session, &["hsm", "probe", "--json"]);
    let _ = run(&mut session, &["hsm", "probe"]);
    session.golden.finish();
}

/// A configuration that is right in itself and names what isn't.
fn unfit(session: &mut Session) {
    let dir = session.site.dir().to_owned();
    let good = std::fs::read_to_string(session.site.config_file()).unwrap();
    let (state, pin) = (text(&dir).to_owned() + "/state", text(&dir).to_owned() + "/pin");
    let bad = good
        .replace("/usr/lib/softhsm/libsofthsm2.so", "/nonexistent/module.so")
        .replace(&state, "/proc/none/state")
        .replace(&pin, &format!("{pin}.none"))
        .replace("app.sock\"", "none/app.sock\"\ngroup = \"nobody-of-this-name\"");
    std::fs::write(dir.join("unfit.toml"), bad).unwrap();
    let _ = session.daemon(&["check-config", "--config", "unfit.toml"]);
}

/// What a daemon says whose HSM went away.
fn locked(session: &mut Session) {
    session.golden.say("the token is gone");
    let site = Arc::clone(&session.site);
    site.softhsm().wipe();
    let daemon = site.spawn();
    eventually("the daemon listens", || site.admin_socket().exists().then_some(()));
    eventually("the pool says why", || {
        let status = claviger_tests::cli::claviger_json(&site, &["status"], b"");
        let object: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        object["pool"][0]["reason"].as_str().filter(|reason| !reason.is_empty()).map(drop)
    });
    session.both(&["status"], b"");
    session.both(&["encrypt", "alias/a"], b"x");
    let _ = session.claviger(&["key", "create"], b"");
    let _ = session.claviger(&["backup", "create", "locked.backup"], b"");
    daemon.terminate();
    site.softhsm().init_token();
}

/// What a terminal shows of a command line.
fn on_a_terminal(site: &Site, line: &str) -> String {
    let mut command = site.program(Command::new("script"));
    command.env("TERM", "xterm").env_remove("NO_COLOR").env("CLAVIGER_SOCKET", site.admin_socket());
    command.current_dir(site.dir()).args(["-qc", line, "/dev/null"]);
    String::from_utf8_lossy(&tool(&mut command)).into_owned()
}

#[test]
fn terminals_see_progress_and_colours_and_pipes_none() {
    let site = Site::new(Token::SoftHsm);
    let daemon = site.start();
    let (client, server) = (binary("claviger"), binary("clavigerd"));
    let (client, server) = (text(&client), text(&server));
    let bench = format!("{client} bench ping --requests 3 --no-baselines");
    let probe = format!("{server} hsm probe --config claviger.toml");
    for (line, part) in [
        (&bench, "measuring ["),
        (&format!("{client} backup create a.backup"), "backing up ["),
        (&format!("{client} backup verify a.backup"), "verifying ["),
        (&probe, "opening \"a\""),
        (&format!("{client} status"), "\x1b[32mserving"),
        (&probe, "\x1b[32mok"),
    ] {
        let shown = on_a_terminal(&site, line);
        assert!(shown.contains(part), "{line}: {shown:?}");
        let force = if line.contains("create") { " --force" } else { "" };
        let json = on_a_terminal(&site, &format!("{line}{force} --json"));
        assert!(!json.contains('\x1b') && !json.contains(part), "{line}: {json:?}");
    }
    for line in [&bench, &probe] {
        let shown = on_a_terminal(&site, &format!("{line} 2>&1 | cat"));
        assert!(
            !shown.contains('\x1b') && !shown.contains("measuring [") && !shown.contains('…'),
            "{shown:?}"
        );
    }
    let shown = on_a_terminal(&site, &format!("{probe} --color never"));
    assert!(!shown.contains('\x1b'), "{shown:?}");
    daemon.terminate();
}

#[test]
fn bad_usage_of_the_daemon_and_bad_configurations() {
    let site = Arc::new(Site::bare(Token::Embedded));
    let mut session = Session::new("daemon-usage", &site);
    for command in [
        &[][..],
        &["check-config"],
        &["restore"],
        &["hsm"],
        &["hsm", "probe"],
        &["hsm", "bench"],
        &["hsm", "init"],
        &["hsm", "restore"],
        &["completions"],
        &["man"],
    ] {
        let _ = session.daemon(&[command, &["--help"]].concat());
    }
    for args in [
        &[][..],
        &["hsm", "probe", "--json"],
        &["hsm", "probe", "--json", "--config", "none.toml"],
        &["hsm", "bench", "--json", "--only", "nothing"],
        &["restore", "none.backup", "--json"],
        &["frobnicate"],
        &["--dev"],
        &["--dev", "--config", "claviger.toml", "--state-dir", "s"],
        &["hsm"],
        &["hsm", "probe"],
        &["hsm", "bench", "--size", "0"],
        &["check-config", "--config", "none.toml"],
        &["--config", "none.toml"],
        &["restore", "none.backup"],
        &["man", "no/such/dir"],
        &["completions", "tcsh"],
    ] {
        let _ = session.daemon(args);
    }
    for (name, toml) in [
        ("empty", ""),
        ("broken", "state_dir = \n"),
        ("unknown", "speed = 11\n[[hsm]]\nname = \"a\"\nprofile = \"embedded\"\npin = { env = \"P\" }\n"),
        (
            "wrong",
            "state_dir = \"here\"\nlock_memory = \"maybe\"\n[admin]\nmode = \"0666\"\n[limits]\nmax_body = 1\n\
          [[hsm]]\nname = \"a\"\nprofile = \"softhsm2\"\nmodule = \"lib.so\"\npin = { file = \"a\", env = \"b\" }\n",
        ),
    ] {
        let file = format!("{name}.toml");
        std::fs::write(site.dir().join(&file), toml).unwrap();
        let _ = session.daemon(&["check-config", "--config", &file]);
    }
    session.golden.finish();
}
