//! Every command has an example, and each example is one that the command line takes.

use clap::{Command, CommandFactory, Parser};

use crate::args::Cli;

/// Every command with its path, `help` aside.
fn commands(command: &Command, path: &str, found: &mut Vec<(String, String)>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    found.push((path.to_owned(), help));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        commands(inner, &format!("{path} {}", inner.get_name()), found);
    }
}

/// The calls of `program` in a line of shell: what stands between `|`, `&&` and `>`.
fn calls(line: &str, program: &str) -> Vec<Vec<String>> {
    let mut words = vec![Vec::new()];
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars().chain([' ']) {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => match std::mem::take(&mut word).as_str() {
                "" => {}
                "|" | "&&" | ">" => words.push(Vec::new()),
                text => words.last_mut().unwrap().push(text.to_owned()),
            },
            c => word.push(c),
        }
    }
    words.retain(|call| call.first().is_some_and(|first| first == program));
    words
}

#[test]
fn every_command_has_examples_that_are_right() {
    let mut found = Vec::new();
    commands(&Cli::command(), "claviger", &mut found);
    assert!(found.len() >= 20, "{found:?}");
    for (path, help) in found {
        let examples = help.split("Example").nth(1).unwrap_or_else(|| panic!("{path} has no example"));
        let lines = examples.lines().filter(|line| line.starts_with("  "));
        let calls: Vec<_> = lines.flat_map(|line| calls(line, "claviger")).collect();
        assert!(calls.iter().any(|call| call.join(" ").starts_with(&path)), "{path} isn't in its examples");
        for call in calls {
            if let Err(error) = Cli::try_parse_from(&call) {
                panic!("{path}: {call:?}: {error}");
            }
        }
    }
}

#[test]
fn lines_are_taken_apart_as_shells_do() {
    let line = "echo secret | a x 'y z' && a b > a.txt";
    assert_eq!(calls(line, "a"), [vec!["a", "x", "y z"], vec!["a", "b"]]);
}
