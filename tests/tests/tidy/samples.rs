//! Every rule, fed what it must refuse and what it must not.

use crate::structure::{
    edge_only, fenced_crates, file_length, function_length, module_doc, random_hashers, unfinished,
    unsafe_code,
};
use crate::text::{machine_paths, whitespace};
use crate::tree::{Finding, Source};

const DAEMON: &str = "daemon/src/keyring/mod.rs";

/// What `rule` finds in `text` at `path`: lines only.
fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
    let source = Source { path: path.to_owned(), text: text.to_owned() };
    rule(&source).into_iter().map(|finding| finding.line).collect()
}

/// `rule` refuses each of the first at `path`, and none of the second.
fn judge(rule: fn(&Source) -> Vec<Finding>, path: &str, bad: &[&str], good: &[&str]) {
    for text in bad {
        assert_eq!(lines(rule, path, text).len(), 1, "refused once: {text}");
    }
    for text in good {
        assert_eq!(lines(rule, path, text), [], "accepted: {text}");
    }
}

#[test]
fn a_file_of_501_lines_is_too_long() {
    assert_eq!(lines(file_length, DAEMON, &"//\n".repeat(500)), []);
    assert_eq!(lines(file_length, DAEMON, &"//\n".repeat(501)), [501]);
    assert_eq!(lines(file_length, "protocol/SPEC.md", &"text\n".repeat(501)), []);
}

#[test]
fn a_function_of_71_lines_is_too_long_wherever_it_is() {
    let function =
        |lines: usize| format!("fn f(a: [u8; 3]) -> u8 {{\n{}}}\n", "// {{ fn\n".repeat(lines - 2));
    assert_eq!(lines(function_length, DAEMON, &function(70)), []);
    assert_eq!(lines(function_length, DAEMON, &function(71)), [1]);
    let inside = |around: &str, lines: usize| format!("{around}\n{}\n}}", function(lines));
    for around in ["impl A {", "mod tests {", "macro_rules! m { () => {", "trait T { fn none(&self);"] {
        let close = if around.starts_with("macro") { "}" } else { "" };
        assert_eq!(
            lines(function_length, DAEMON, &format!("{}{close}", inside(around, 71))),
            [2],
            "{around}"
        );
        assert_eq!(lines(function_length, DAEMON, &format!("{}{close}", inside(around, 70))), [], "{around}");
    }
    let generated = format!("macro_rules! m {{ ($n:ident) => {{\nfn $n() {{\n{}}} }} }}", "\n".repeat(80));
    assert_eq!(lines(function_length, DAEMON, &generated), [2]);
    let types = format!("type F = fn(u8) -> u8;\nconst S: &str = \"fn f() {{\";\n{}", "// x\n".repeat(80));
    assert_eq!(lines(function_length, DAEMON, &types), []);
}

#[test]
fn a_file_that_is_not_rust_is_a_finding_and_not_a_pass() {
    assert_eq!(lines(function_length, DAEMON, "fn f() {"), [1]);
    assert_eq!(lines(edge_only, DAEMON, "let s = \"open"), [1]);
}

#[test]
fn a_module_starts_with_its_doc() {
    let bad = ["", "use std::fmt;\n//! Late.\n", "// Not a doc.\n", "//!\n", "/// Of an item.\nfn f() {}\n"];
    judge(module_doc, DAEMON, &bad, &["//! What lives here.\n", "\n//! What lives here.\n"]);
    assert_eq!(lines(module_doc, "Makefile", "run:\n"), []);
}

#[test]
fn fenced_crates_are_found_however_they_are_named() {
    let bad = [
        "use sled::Db;",
        "use sled;",
        "use ::sled::Db;",
        "fn f(db: &sled::Db) {}",
        "use {std::fmt, sled::{Db as D}};",
        "pub use bincode as b;",
        "#[derive(bincode::Encode)]\nstruct S;",
        "use cryptoki::context::Pkcs11;",
        "#[cfg(test)]\nmod tests { use cryptoki::error::Error; }",
    ];
    let good = [
        "// use sled::Db;",
        "/// [`sled::Db`]\nfn f() {}",
        "const S: &str = \"sled::Db\";",
        "mod sled_trees;",
        "use self::sled::Db;",
        "use crate::store::sled::Db;",
        "let sled = 1;",
    ];
    judge(fenced_crates, DAEMON, &bad, &good);
    assert_eq!(lines(fenced_crates, DAEMON, "use {std::fmt,\nsled::{Db,\nTree as T}};"), [2, 3]);
    assert_eq!(lines(fenced_crates, "daemon/src/store/sled_trees.rs", "use sled::Db;"), []);
    assert_eq!(lines(fenced_crates, "daemon/src/store/open.rs", "use sled::Db;"), []);
    assert_eq!(lines(fenced_crates, "daemon/src/store/mod.rs", "use sled::Db;"), [1]);
    assert_eq!(lines(fenced_crates, "protocol/src/codec.rs", "use bincode::config;"), []);
    assert_eq!(lines(fenced_crates, "daemon/src/backend/hsm/pkcs11.rs", "use cryptoki::slot::Slot;"), []);
    assert_eq!(lines(fenced_crates, "daemon/tests/hsm_softhsm.rs", "use cryptoki::slot::Slot;"), []);
    assert_eq!(lines(fenced_crates, "daemon/tests/store.rs", "use cryptoki::slot::Slot;"), [1]);
}

#[test]
fn clock_randomness_and_threads_are_found_however_they_are_named() {
    let bad = [
        "use std::time::SystemTime;",
        "use std::time::{Duration, SystemTime};",
        "fn f() { std::time::SystemTime::now(); }",
        "fn f() { Instant::now(); }",
        "fn f() { tokio::time::Instant::now(); }",
        "fn f() { std::thread::spawn(|| ()); }",
        "use std::thread::{self, Builder};",
        "fn f() { thread::Builder::new(); }",
        "use std::thread::spawn as start;",
        "fn f() { tokio::spawn(async {}); }",
        "fn f() { tokio::task::spawn_blocking(|| ()); }",
        "use tokio::{sync::oneshot, spawn};",
        "use tokio::time::timeout;",
        "fn f() { getrandom::fill(&mut []); }",
        "fn f() { aws_lc_rs::rand::fill(&mut []); }",
        "use aws_lc_rs::rand::SystemRandom;",
        "use std::hash::RandomState;",
        "fn f() { Uuid::new_v4(); }",
        "#[cfg(test)]\nmod tests {}\nfn f() { Instant::now(); }",
        "#[cfg(test)]\nuse std::fmt;\nfn f() { Instant::now(); }",
        "#[cfg(not(test))]\nfn f() { Instant::now(); }",
    ];
    let good = [
        "use std::time::{Duration, Instant};",
        "fn f(clock: &Clock) { clock.now(); }",
        "// Instant::now()\nfn f() {}",
        "#[cfg(test)]\nmod tests {\n fn f() { std::thread::spawn(|| Instant::now()); }\n}",
        "#[cfg(test)]\nuse std::time::SystemTime;\nfn f() {}",
        "fn f() -> impl Iterator<Item = u8> + use<'a> { x::spawn() }",
    ];
    judge(edge_only, DAEMON, &bad, &good);
    assert_eq!(lines(edge_only, "protocol/src/frame.rs", "fn f() { Instant::now(); }"), [1]);
    for path in [
        "daemon/src/edge/clock.rs",
        "daemon/src/bin/clavigerd/main.rs",
        "client/src/lib.rs",
        "daemon/src/config/tests.rs",
        "daemon/src/store/sled_tests.rs",
    ] {
        assert_eq!(lines(edge_only, path, "fn f() { Instant::now(); }"), [], "{path}");
    }
    let server = "daemon/src/server/connection.rs";
    assert_eq!(lines(edge_only, server, "fn f() { tokio::spawn(async {}); }"), []);
    assert_eq!(lines(edge_only, server, "fn f() { std::thread::spawn(|| ()); }"), [1]);
}

#[test]
fn hash_maps_need_a_hasher_of_ours() {
    let bad = [
        "fn f() { HashMap::new(); }",
        "fn f() { std::collections::HashSet::with_capacity(3); }",
        "struct S { map: HashMap<u8, u16> }",
        "struct S { map: HashMap<u8, Vec<(u8, u16)>> }",
        "struct S { map: HashMap<u8, fn(u8, u8) -> u16,> }",
        "struct S { set: HashSet<u8> }",
        "fn f() { x.collect::<HashSet<_>>(); }",
        "fn f() { HashMap::<u8, u8>::default(); }",
    ];
    let good = [
        "use std::collections::HashMap;",
        "struct S { map: HashMap<u8, u16, Hasher> }",
        "struct S { set: HashSet<(u8, u16), Hasher> }",
        "fn f() { HashMap::with_hasher(h); }",
        "struct S { map: BTreeMap<u8, u16> }",
        "#[cfg(test)]\nmod tests { fn f() { HashMap::new(); } }",
    ];
    judge(random_hashers, DAEMON, &bad, &good);
}

#[test]
fn unsafe_is_found_outside_its_crate() {
    let bad = ["fn f() { unsafe { g() } }", "unsafe fn f() {}", "#[unsafe(no_mangle)]\nfn f() {}"];
    judge(unsafe_code, DAEMON, &bad, &["// unsafe\nfn f() {}", "#![forbid(unsafe_code)]"]);
    assert_eq!(lines(unsafe_code, "daemon/embedded-token/src/lib.rs", "unsafe fn f() {}"), []);
}

#[test]
fn unfinished_code_is_found() {
    let bad = ["fn f() { todo!() }", "fn f() { unimplemented!(\"later\") }", "fn f() { dbg!(1); }"];
    judge(unfinished, DAEMON, &bad, &["// todo!()\nfn todo() {}", "fn f() { x.todo != y }"]);
}

#[test]
fn paths_of_a_machine_are_found() {
    // Put together here, or this file would break the rule.
    let own = |folder: &str| format!("cd /{folder}/x");
    for folder in ["work", "root", "home", "Users"] {
        assert_eq!(lines(machine_paths, "Makefile", &own(folder)), [1], "{folder}");
        assert_eq!(lines(machine_paths, "Makefile", &format!("a\n\"/{folder}/.x\"")), [2], "{folder}");
        assert_eq!(
            lines(machine_paths, "Makefile", &format!("$D/{folder}/ a/{folder}/b /{folder} /{folder}/ ")),
            []
        );
    }
}

#[test]
fn stray_whitespace_is_found() {
    let bad = ["a \nb\n", "a\t\n", "a\r\n", "a"];
    judge(whitespace, "README.md", &bad, &["", "a\n\n b\n"]);
}
