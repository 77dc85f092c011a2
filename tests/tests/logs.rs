//! The log of a real daemon: its forms, its levels, and one span a request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use claviger_protocol::{Code, Protection};
use claviger_tests::keys::new_key;
use claviger_tests::programs::text;
use claviger_tests::{Site, Token, eventually};
use serde_json::Value;

/// A place whose daemon logs as its configuration says.
fn site(token: Token, log: &str, environment: &str) -> Arc<Site> {
    let mut site = Site::bare(token);
    site.set_env("CLAVIGER_LOG", environment);
    site.set_sections(&format!("[log]\n{log}\n"));
    site.make_token();
    site.write_config();
    site.init_domain(&[]);
    Arc::new(site)
}

/// The log's lines, without what else was printed.
fn lines(site: &Site) -> Vec<String> {
    site.said()
        .lines()
        .filter(|line| {
            !line.starts_with("clavigerd: ")
                && !line.starts_with("made domain")
                && !line.starts_with("WARNING")
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn json_is_one_object_a_line_and_one_line_a_request_tells_its_outcome() {
    let site = site(Token::Embedded, "format = \"json\"\nlevel = \"info,clavigerd::service=debug\"", "");
    let daemon = site.start();
    let mut app = daemon.app();
    let key = daemon.admin().create(Protection::Hsm);
    let blob = app.encrypt(key, b"x");
    assert_eq!(app.decrypt(&blob[1..]), Err(Code::InvalidCiphertext));
    daemon.terminate();
    let lines: Vec<Value> = lines(&site).iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} of {line}");
        }
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.len() >= 20 && time.ends_with('Z') && &time[10..11] == "T", "RFC 3339: {time}");
    }
    let answered: Vec<_> = lines.iter().filter(|line| line["message"] == "answered").collect();
    let told = |line: &&Value| {
        let span = &line["span"];
        assert_eq!(span["name"], "request");
        assert!(
            span["queue_us"].is_u64() && span["work_us"].is_u64() && span["connection"].is_u64(),
            "{line}"
        );
        let text = |field: &str| span[field].as_str().unwrap().to_owned();
        (text("operation"), text("endpoint"), text("outcome"), span["request_id"].as_u64().unwrap())
    };
    let told: Vec<_> = answered.iter().map(told).collect();
    let wanted = [
        ("CreateKey", "admin", "Ok", 2),
        ("Encrypt", "app", "Ok", 2),
        ("Decrypt", "app", "InvalidCiphertext", 3),
    ];
    assert_eq!(told, wanted.map(|(o, e, c, id)| (o.to_owned(), e.to_owned(), c.to_owned(), id)));
    let message = |text: &str| lines.iter().find(|line| line["message"] == text).expect(text);
    let start = message("starting");
    assert_eq!(start["config"].as_str(), Some(text(site.config_file())));
    assert_eq!(start["state_dir"].as_str(), Some(text(&site.state_dir())));
    assert!(start["version"].is_string());
    let listening: Vec<_> = lines.iter().filter(|line| line["message"] == "listening").collect();
    assert_eq!(listening.iter().map(|line| &line["endpoint"]).collect::<Vec<_>>(), ["admin", "app"]);
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[test]
fn the_level_is_the_configurations_unless_the_environment_says_another() {
    let quiet = site(Token::Embedded, "level = \"warn\"", "");
    quiet.start().terminate();
    assert_eq!(lines(&quiet), Vec::<String>::new());
    let default = site(Token::Embedded, "", "");
    default.start().terminate();
    let said = default.said();
    assert!(said.contains(" INFO ") && !said.contains("DEBUG"), "{said}");
    let overridden = site(Token::Embedded, "level = \"off\"", "debug");
    let daemon = overridden.start();
    daemon.admin().create(Protection::Software);
    daemon.terminate();
    let said = overridden.said();
    let line = said.lines().find(|line| line.contains("answered")).expect(&said);
    assert!(line.contains("operation=\"CreateKey\"") && line.contains("outcome=\"Ok\""), "{line}");
}

#[test]
fn without_a_journal_its_format_falls_back_to_lines_with_priorities() {
    if Path::new("/run/systemd/journal/socket").exists() {
        // This machine has a journal, which takes it all.
        return;
    }
    let site = site(Token::Embedded, "format = \"journald\"", "");
    site.start().terminate();
    let lines = lines(&site);
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.starts_with("<6>") || line.starts_with("<4>")),
        "{lines:?}"
    );
}

#[test]
fn a_serious_outcome_is_told_once_a_second_however_many_there_are() {
    let site = site(Token::SoftHsm, "", "");
    site.write_pin("00000000", 0o600);
    let mut daemon = site.spawn();
    let mut admin = daemon.admin_when_listening();
    let began = std::time::Instant::now();
    for _ in 0..200 {
        assert_eq!(admin.call(new_key(Protection::Hsm)).unwrap_err().code, Code::HsmUnavailable);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let told = eventually("it is told", || {
        let told = site.said().lines().filter(|line| line.contains("a request failed")).count();
        (told > 0).then_some(told)
    });
    assert!(told <= seconds + 2, "{told} in {seconds} s");
    assert!(site.said().contains("outcome=\"HsmUnavailable\""), "{}", site.said());
    daemon.terminate();
}
