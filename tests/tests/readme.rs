//! What the README says to paste does what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Command;

use claviger_tests::programs::{binary, run, text};
use claviger_tests::{Site, Token};

const README: &str = include_str!("../../README.md");

/// The block of commands that follows a line of the README.
fn block_after(line: &str) -> &'static str {
    let (_, rest) = README.split_once(line).expect("the README has this line");
    let (_, rest) = rest.split_once("```sh\n").expect("commands follow");
    rest.split_once("```").expect("the block ends").0
}

#[test]
fn its_first_steps_can_be_pasted() {
    let site = Site::new(Token::Embedded);
    let daemon = site.start();
    let programs = binary("claviger");
    let path = format!("{}:{}", text(programs.parent().unwrap()), std::env::var("PATH").unwrap());
    for line in [
        "A key, a file, there and back:",
        "Files over 6,144 bytes are encrypted with a data key",
        "### The life of a key",
        "Bring your own material: it is",
    ] {
        let commands = block_after(line).replace("/tmp/claviger", text(site.dir()));
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &commands])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        bash.env("PATH", &path).env("CLAVIGER_SOCKET", site.admin_socket());
        let output = run(&mut bash);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}: {said}");
        let printed = String::from_utf8_lossy(&output.stdout);
        match line {
            "A key, a file, there and back:" => assert!(printed.contains("same\n")),
            "### The life of a key" => assert!(printed.contains("older versions decrypt\n")),
            _ => {}
        }
    }
    daemon.terminate();
}
