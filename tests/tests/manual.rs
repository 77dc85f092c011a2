//! Completions and manual pages of both programs, read by the programs that they are for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;

use claviger_tests::programs::{binary, run, text, tool};

const PROGRAMS: [(&str, &str, &str); 2] =
    [("claviger", "descr", "describe-blob"), ("clavigerd", "check", "check-config")];

/// The script for `shell`, in a file.
fn script(program: &str, shell: &str, dir: &Path) -> String {
    let file = dir.join(format!("{program}.{shell}"));
    std::fs::write(&file, tool(Command::new(binary(program)).args(["completions", shell]))).unwrap();
    text(&file).to_owned()
}

#[test]
fn bash_completes_subcommands() {
    let dir = tempfile::tempdir().unwrap();
    for (program, begun, whole) in PROGRAMS {
        let file = script(program, "bash", dir.path());
        // What readline does: the function of `complete -F`, then COMPREPLY.
        let line = format!(
            "set -e; source {file}; complete -p {program} >&2; COMP_WORDS=({program} {begun}); COMP_CWORD=1; \
             _{program} {program} {begun} {program}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let said = tool(Command::new("bash").args(["--norc", "-c", &line]));
        assert_eq!(String::from_utf8(said).unwrap().trim(), whole);
    }
}

#[test]
fn the_other_shells_read_their_scripts_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for (program, _, whole) in PROGRAMS {
        for shell in ["zsh", "fish"] {
            let file = script(program, shell, dir.path());
            assert!(std::fs::read_to_string(&file).unwrap().contains(whole));
            let Ok(read) = Command::new(shell).args(["-n", &file]).output() else { continue };
            assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}

#[test]
fn every_command_has_a_page_that_groff_reads_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    for (program, ..) in PROGRAMS {
        tool(Command::new(binary(program)).args(["man", text(dir.path())]));
    }
    for page in [
        "claviger.1",
        "claviger-key-create.1",
        "claviger-key-schedule-deletion.1",
        "claviger-alias-update.1",
        "claviger-default-key-create.1",
        "claviger-data-key-generate.1",
        "claviger-data-key-export.1",
        "claviger-asymmetric-decrypt.1",
        "claviger-verify-mac.1",
        "clavigerd-hsm-init.1",
        "claviger.toml.5",
    ] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
    for page in std::fs::read_dir(dir.path()).unwrap() {
        let page = page.unwrap().path();
        let read = run(Command::new("groff").args(["-ww", "-z", "-man", "-Kutf8", "-Tutf8", text(&page)]));
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(read.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
}

#[test]
fn the_page_of_the_configuration_shows_the_example_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    tool(Command::new(binary("clavigerd")).args(["man", text(dir.path())]));
    let page = dir.path().join("claviger.toml.5");
    // Without overstriking, so that the text is what is read.
    let shown = tool(Command::new("groff").args(["-man", "-Kutf8", "-Tutf8", "-P-c", "-P-bou", text(&page)]));
    let shown = String::from_utf8(shown).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let shown: Vec<_> = shown.lines().map(words).collect();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/claviger.toml.example");
    for line in std::fs::read_to_string(example).unwrap().lines() {
        assert!(shown.contains(&words(line)), "{line}");
    }
}

#[test]
fn a_reader_that_had_enough_is_no_error() {
    for (program, ..) in PROGRAMS {
        let line =
            format!("{} completions bash | head -n 1; exit ${{PIPESTATUS[0]}}", text(&binary(program)));
        let output = run(Command::new("bash").args(["--norc", "-c", &line]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.is_empty() && [Some(0), Some(141)].contains(&output.status.code()), "{said}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    for (program, ..) in PROGRAMS {
        let refused = run(Command::new(binary(program)).args(["man", "/nonexistent"]));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("/nonexistent") && said.contains("give a directory"), "{said}");
    }
}
