//! How the project keeps itself readable and its rooms apart: rules over every
//! file that git knows. Each rule is also fed samples that break it, so that none
//! passes because it looks at nothing.

#![allow(clippy::unwrap_used, reason = "a tree that can't be read fails the test")]

mod rust;
mod samples;
mod structure;
mod text;
mod tree;

use tree::{Finding, Source};

/// Fails with every finding of `rule` in the files of the project.
fn hold(rule: fn(&Source) -> Vec<Finding>) {
    let sources = tree::project();
    let rust = sources.iter().filter(|source| source.is_rust()).count();
    assert!(rust >= 30, "only {rust} Rust files found: the rules would look at nothing");
    let findings: Vec<String> = sources.iter().flat_map(rule).map(|finding| finding.to_string()).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn files_have_at_most_500_lines() {
    hold(structure::file_length);
}

#[test]
fn functions_have_at_most_70_lines() {
    hold(structure::function_length);
}

#[test]
fn every_module_says_what_it_is() {
    hold(structure::module_doc);
}

#[test]
fn sled_bincode_and_cryptoki_stay_in_their_files() {
    hold(structure::fenced_crates);
}

#[test]
fn clock_randomness_and_spawning_stay_in_edge() {
    hold(structure::edge_only);
}

#[test]
fn hash_maps_in_the_daemon_have_a_seed_of_ours() {
    hold(structure::random_hashers);
}

#[test]
fn unsafe_stays_in_the_embedded_token() {
    hold(structure::unsafe_code);
}

#[test]
fn nothing_is_left_to_do() {
    hold(structure::unfinished);
}

#[test]
fn no_path_of_somebodys_machine() {
    hold(text::machine_paths);
}

#[test]
fn no_trailing_whitespace_and_a_newline_at_the_end() {
    hold(text::whitespace);
}
