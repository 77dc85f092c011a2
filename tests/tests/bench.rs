//! `claviger bench` and `clavigerd hsm bench`: every operation, a few calls each. What is
//! looked at is that figures and baselines are there and errors are told, never how
//! large a figure is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use claviger_tests::cli::{claviger, claviger_json};
use claviger_tests::programs::{binary, clavigerd, run, text};
use claviger_tests::{Daemon, Site, Token};
use serde_json::Value;

/// Bounds that make a run a matter of milliseconds.
const TINY: [&str; 6] = ["--requests", "12", "--rounds", "2", "--warmup", "0"];
const FIGURES: [&str; 5] = ["ops_per_second", "p50_us", "p99_us", "p99_9_us", "max_us"];

fn bench(daemon: &Daemon, args: &[&str]) -> Value {
    claviger_json(daemon.site(), &[&["bench"], args, &TINY].concat(), b"").json()
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.is_finite() && number > 0.0)
}

/// What every run without errors has.
fn looks_right(report: &Value, operation: &str) {
    assert_eq!(report["operation"], operation);
    assert_eq!(report["errors"], 0, "{report}");
    assert_eq!(report["errors_by_code"], serde_json::json!({}), "{report}");
    assert_eq!((&report["rounds"], &report["replies_checked"]), (&2.into(), &3.into()), "{report}");
    for figure in FIGURES {
        assert!(positive(&report[figure]), "{figure}: {report}");
    }
    let ordered: Vec<f64> = FIGURES[1..].iter().map(|name| report[name].as_f64().unwrap()).collect();
    assert!(ordered.is_sorted(), "{report}");
}

fn has_echo(report: &Value) {
    for figure in FIGURES {
        assert!(positive(&report["echo"][figure]), "{figure}: {report}");
    }
    assert!(positive(&report["ratios"]["echo_p50"]) && positive(&report["ratios"]["echo_ops"]), "{report}");
}

#[test]
fn keys_of_every_kind_are_measured_and_each_has_its_own() {
    let daemon = Site::new(Token::Embedded).start();
    let mut keys = std::collections::BTreeSet::new();
    for (operation, more) in [
        ("sign", &["--spec", "SM2"][..]),
        ("sign", &["--algorithm", "RSA_PKCS1_SHA_512"]),
        ("verify", &["--spec", "EC_P384", "--batch", "2"]),
        ("asymmetric-encrypt", &["--spec", "SM2", "--size", "100"]),
        ("asymmetric-decrypt", &["--algorithm", "RSAES_OAEP_SHA_1", "--depth", "3"]),
        ("mac", &["--spec", "HMAC_SM3", "--size", "100000"]),
        ("encrypt", &["--spec", "SM4"]),
    ] {
        let report = bench(&daemon, &[&[operation, "--level", "software", "--no-baselines"], more].concat());
        looks_right(&report, operation);
        assert_eq!(report["level"], "SOFTWARE", "{report}");
        assert!(keys.insert(report["key"].to_string()), "{report}");
    }
    looks_right(&bench(&daemon, &["digest", "--algorithm", "SM3", "--no-baselines"]), "digest");
    daemon.terminate();
}

#[test]
fn every_operation_is_measured_beside_the_bare_echo() {
    let daemon = Site::new(Token::Embedded).start();
    // No clavigerd at this path: said, and no failure.
    let nowhere = ["--clavigerd", "/nonexistent/clavigerd"];
    for (operation, more) in [
        ("ping", &["--size", "100"][..]),
        ("random", &["--batch", "3"]),
        ("encrypt", &["--level", "software", "--clients", "2", "--depth", "3"]),
        ("encrypt", &["--level", "hsm", "--batch", "4", "--size", "6144"]),
        ("decrypt", &["--level", "software", "--batch", "2"]),
        ("decrypt", &["--level", "hsm", "--depth", "5"]),
        ("data-key", &["--level", "software", "--size", "1024"]),
        ("create-key", &["--level", "software", "--depth", "12"]),
    ] {
        let report = bench(&daemon, &[&[operation], more, &nowhere].concat());
        looks_right(&report, operation);
        has_echo(&report);
        let batch: u64 = if more.contains(&"--batch") { report["batch"].as_u64().unwrap() } else { 1 };
        assert_eq!(report["calls"], 12 * batch, "{report}");
        assert_eq!(report["in_process"], Value::Null, "{report}");
        assert_eq!(report["ratios"]["in_process_ops"], Value::Null, "{report}");
        let said = report["notes"].to_string().contains("/nonexistent/clavigerd: can't be run");
        assert_eq!(said, !["ping", "create-key"].contains(&operation), "{report}");
    }
    // 12 keys by create-key and one by its first call, which shows that replies are right;
    // and one of each level, used again and again.
    let keys = claviger_json(daemon.site(), &["key", "list"], b"").json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 15, "{keys}");
    let report = bench(&daemon, &["encrypt", "--level", "hsm", "--no-baselines"]);
    looks_right(&report, "encrypt");
    assert_eq!((&report["echo"], &report["notes"]), (&Value::Null, &serde_json::json!([])), "{report}");
    daemon.terminate();
}

#[test]
fn the_token_itself_is_measured_in_process() {
    let daemon = Site::new(Token::Embedded).start();
    // Beside the command line, where `make` puts it: found without being named.
    let report = bench(&daemon, &["data-key"]);
    looks_right(&report, "data-key");
    assert_eq!(report["in_process"]["name"], "token_data_key", "{report}");
    assert!(positive(&report["in_process"]["ops_per_second"]), "{report}");
    assert!(positive(&report["ratios"]["in_process_ops"]), "{report}");
    let said = claviger(daemon.site(), &[&["bench", "ping"], &TINY[..]].concat(), b"");
    let printed = String::from_utf8(said.stdout).unwrap();
    for part in ["ping, 32 bytes: 1 client, depth 1", "bare echo", "no errors; 3 replies compared"] {
        assert!(printed.contains(part), "{printed}");
    }
    daemon.terminate();

    let daemon = Site::new(Token::SoftHsm).start();
    let report = bench(&daemon, &["random"]);
    looks_right(&report, "random");
    assert_eq!(report["in_process"], Value::Null, "{report}");
    assert!(report["notes"].to_string().contains("profile softhsm2; give its configuration"), "{report}");
    let config = text(daemon.site().config_file());
    let report = bench(&daemon, &["encrypt", "--config", config]);
    looks_right(&report, "encrypt");
    assert_eq!(report["in_process"]["name"], "token_encrypt", "{report}");
    assert!(positive(&report["ratios"]["in_process_ops"]), "{report}");
    // One of each kind.
    for name in [
        "token_random",
        "token_data_key",
        "command_encrypt",
        "software_encrypt",
        "software_encrypt_sm4",
        "token_sign_ec_p256",
        "token_sign_rsa_2048",
        "software_sign_sm2",
        "token_mac_hmac_256",
        "software_mac_hmac_sm3",
    ] {
        let arguments = ["--json", "--seconds", "0.01", "--size", "6144", "--only", name];
        let output = daemon.site().hsm("bench", &arguments);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["profile"], &report["size"]), (&"softhsm2".into(), &6144.into()));
        let results = report["results"].as_array().unwrap();
        assert_eq!((results.len(), &results[0]["name"]), (1, &name.into()), "{report}");
        assert!(positive(&results[0]["ops_per_second"]) && positive(&results[0]["p99_us"]), "{report}");
    }
    // It left the token as it was: the daemon goes on, and so does the next one.
    let site = std::sync::Arc::clone(daemon.site());
    daemon.terminate();
    let daemon = site.start();
    looks_right(&bench(&daemon, &["decrypt", "--no-baselines"]), "decrypt");
    daemon.terminate();
}

#[test]
fn make_bench_prints_its_table_and_writes_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("figures.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bench.py");
    let bench = |more: &[&str]| {
        let mut python = Command::new("python3");
        python.arg("-B").arg(&script).args(["--seconds", "0.03", "--keys", "20", "--only", "ping"]);
        python.arg("--bin").arg(binary("claviger").parent().unwrap()).arg("--json").arg(&file).args(more);
        // Its directories are temporary: they go with this test.
        run(python.env("TMPDIR", dir.path()))
    };
    let output = bench(&[]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    for part in
        ["p50/echo", "ping", "one core", "start, 20 keys", "<= 1 s: ", "each idle connection", "missed;"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let figures: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(figures["rows"].as_array().unwrap().len(), 2, "{figures}");
    for row in figures["rows"].as_array().unwrap() {
        assert!(positive(&row["ops_per_second"]) && positive(&row["ratios"]["echo_p50"]), "{row}");
    }
    assert_eq!(figures["create_key"]["calls"], 20, "{figures}");
    let measured = [&figures["start_seconds"], &figures["memory_idle"]["resident"]];
    assert!(measured.into_iter().all(positive), "{figures}");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["figures.json"], "everything else is removed");
    for wrong in [&["--seconds", "0"][..], &["--only", "sing"], &["--bin", "/nonexistent"]] {
        assert_eq!(bench(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_can_not_be_measured_is_refused_with_a_way_out() {
    let daemon = Site::new(Token::Embedded).start();
    for (args, part) in [
        (&["sing"][..], "possible values: ping, random"),
        (&["ping", "alias/x"], "uses no key"),
        (&["ping", "--batch", "2"], "can't be called in a batch"),
        (&["create-key"], "--requests"),
        (&["encrypt", "--depth", "5000"], "add --clients"),
        (&["encrypt", "--size", "6145"], "at most 6144"),
        (&["data-key", "--size", "1025"], "at most 1024"),
        (&["random", "--size", "4097"], "at most 4096"),
        (&["encrypt", "alias/x", "--level", "hsm"], "cannot be used with"),
        (&["encrypt", "--seconds", "0"], "over 0"),
        (&["encrypt", "--seconds", "1", "--requests", "1"], "cannot be used with"),
        (&["encrypt", "--requests", "2"], "each round needs"),
        (&["encrypt", "--clients", "0"], "1..=1000"),
        (&["encrypt", "--batch", "1025"], "1..=1024"),
    ] {
        let said = claviger(daemon.site(), &[&["bench"], args].concat(), b"");
        assert_eq!((said.code, said.stdout.len()), (2, 0), "{args:?} {}", said.stderr);
        assert!(said.stderr.contains(part), "{args:?} {}", said.stderr);
    }
    let said = claviger(daemon.site(), &["bench", "encrypt", "alias/none"], b"");
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("NotFound"), "{}", said.stderr);
    let mut on_app = Command::new(binary("claviger"));
    let socket = daemon.site().app_socket();
    let said = run(on_app.args(["--socket", text(&socket), "bench", "encrypt"]));
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("on the admin socket"));
    for args in [&["--only", "sing"][..], &["--seconds", "0"], &["--size", "6145"]] {
        let said = run(&mut clavigerd([&["hsm", "bench"], args].concat()));
        assert_eq!(said.status.code(), Some(2), "{args:?}");
    }
    let missing = PathBuf::from("/nonexistent/claviger.toml");
    let said = run(&mut clavigerd(["hsm", "bench", "--config", text(&missing)]));
    assert_eq!(said.status.code(), Some(2));
    daemon.terminate();
}
