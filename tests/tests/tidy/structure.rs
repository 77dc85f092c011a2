//! Rules of the Rust code: sizes, documentation, and which room may use what.

use crate::rust::{Path, Token, after_group, body, paths, starts, tokens, without_tests};
use crate::tree::{Finding, Source};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

/// Crates that one place wraps, so that they can be replaced there.
const FENCES: [(&str, &[&str]); 3] = [
    ("sled", &["daemon/src/store/sled*.rs", "daemon/src/store/open.rs"]),
    ("bincode", &["protocol/src/codec.rs"]),
    // The SM test token is called as any application would call it.
    ("cryptoki", &["daemon/src/backend/hsm/", "daemon/tests/hsm_*.rs", "tests/sm-token/tests/"]),
];

/// Code that runs from a seed in simulation.
const DETERMINISTIC: [&str; 3] = ["daemon/src/", "protocol/src/", "hsm-profiles/src/"];
/// The room that wraps the machine, and the binary that starts the runtime.
const EDGE: [&str; 2] = ["daemon/src/edge/", "daemon/src/bin/clavigerd/main.rs"];
/// Connections are tasks with time limits: sockets exist only outside simulation.
const EDGE_AND_SERVER: [&str; 4] =
    ["daemon/src/edge/", "daemon/src/bin/clavigerd/main.rs", "daemon/src/server/", "daemon/src/server.rs"];

/// What only the edge may name, and who else may.
const EDGE_ONLY: [(&[&str], &[&str]); 19] = [
    (&["SystemTime"], &EDGE),
    (&["Instant", "now"], &EDGE),
    (&["thread", "spawn"], &EDGE),
    (&["thread", "Builder"], &EDGE),
    (&["thread", "scope"], &EDGE),
    (&["thread", "sleep"], &EDGE),
    (&["tokio", "spawn"], &EDGE_AND_SERVER),
    (&["task", "spawn"], &EDGE_AND_SERVER),
    (&["task", "spawn_blocking"], &EDGE_AND_SERVER),
    (&["task", "spawn_local"], &EDGE_AND_SERVER),
    (&["task", "JoinSet"], &EDGE_AND_SERVER),
    (&["tokio", "time"], &EDGE_AND_SERVER),
    (&["getrandom"], &EDGE),
    (&["rand", "fill"], &EDGE),
    (&["rand", "rng"], &EDGE),
    (&["OsRng"], &EDGE),
    (&["SystemRandom"], &EDGE),
    (&["RandomState"], &EDGE),
    (&["Uuid", "new_v4"], &EDGE),
];

fn lex(source: &Source) -> Result<Vec<Token>, Vec<Finding>> {
    if !source.is_rust() {
        return Ok(Vec::new());
    }
    tokens(&source.text).map_err(|error| vec![source.finding(1, format!("not Rust: {error}"))])
}

/// Runs `rule` over a Rust file's tokens.
fn over(source: &Source, rule: impl FnOnce(&[Token]) -> Vec<Finding>) -> Vec<Finding> {
    match lex(source) {
        Ok(tokens) => rule(&tokens),
        Err(findings) => findings,
    }
}

/// Whether the whole file is tests: a module of its own under `#[cfg(test)]`.
fn is_test_file(source: &Source) -> bool {
    source.is_in(&["*/tests.rs", "*_tests.rs"]) || source.path.contains("/tests/")
}

pub(crate) fn file_length(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if !source.is_rust() || lines <= MAX_FILE_LINES {
        return Vec::new();
    }
    vec![source.finding(lines, format!("{lines} lines, at most {MAX_FILE_LINES}"))]
}

pub(crate) fn function_length(source: &Source) -> Vec<Finding> {
    over(source, |tokens| {
        let mut found = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            // `fn(u8)` is a type; `fn $name` is a function that a macro makes.
            let named = tokens.get(at + 1).is_some_and(|next| next.word || next.text == "$");
            if !(token.word && token.text == "fn" && named) {
                continue;
            }
            let body = body(tokens, at);
            let end = after_group(tokens, body).saturating_sub(1);
            let lines = tokens.get(end).map_or(0, |end| end.line + 1 - token.line);
            if lines > MAX_FUNCTION_LINES {
                let name = &tokens[at + 1].text;
                let what = format!("fn {name} has {lines} lines, at most {MAX_FUNCTION_LINES}");
                found.push(source.finding(token.line, what));
            }
        }
        found
    })
}

pub(crate) fn module_doc(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().map(str::trim).find(|line| !line.is_empty());
    if !source.is_rust() || first.is_some_and(|line| line.len() > 4 && line.starts_with("//! ")) {
        return Vec::new();
    }
    vec![source.finding(1, "the file doesn't start with `//!`: what lives here, and what must not")]
}

pub(crate) fn fenced_crates(source: &Source) -> Vec<Finding> {
    over(source, |tokens| {
        let used = |path: &Path| {
            let (name, places) = FENCES.iter().find(|(name, _)| path.segments[0] == *name)?;
            (!source.is_in(places))
                .then(|| source.finding(path.line, format!("{name} is used only in {}", places.join(", "))))
        };
        paths(tokens).iter().filter_map(used).collect()
    })
}

pub(crate) fn edge_only(source: &Source) -> Vec<Finding> {
    if !source.is_in(&DETERMINISTIC) || is_test_file(source) {
        return Vec::new();
    }
    let tokens = match lex(source) {
        Ok(tokens) => without_tests(tokens),
        Err(findings) => return findings,
    };
    let mut found = Vec::new();
    for path in paths(&tokens) {
        let broken = EDGE_ONLY.iter().find(|(wanted, places)| path.contains(wanted) && !source.is_in(places));
        if let Some((wanted, places)) = broken {
            let what = format!("{} is used only in {}", wanted.join("::"), places.join(", "));
            found.push(source.finding(path.line, what));
        }
    }
    found
}

/// A map with the standard hasher iterates in another order each run. `BTreeMap`
/// has one order; a hash map says its hasher.
pub(crate) fn random_hashers(source: &Source) -> Vec<Finding> {
    if !source.is_in(&DETERMINISTIC) || is_test_file(source) {
        return Vec::new();
    }
    let tokens = match lex(source) {
        Ok(tokens) => without_tests(tokens),
        Err(findings) => return findings,
    };
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let least = match token.text.as_str() {
            "HashMap" => 3,
            "HashSet" => 2,
            _ => continue,
        };
        // These constructors exist for the standard hasher only.
        let made = ["new", "with_capacity", "from"].iter().any(|name| starts(&tokens, at + 1, &["::", name]));
        let arguments = if starts(&tokens, at + 1, &["<"]) {
            Some(generic_arguments(&tokens, at + 1))
        } else if starts(&tokens, at + 1, &["::", "<"]) {
            Some(generic_arguments(&tokens, at + 2))
        } else {
            None
        };
        if made || arguments.is_some_and(|count| count < least) {
            let what = format!("{} with the standard, randomly seeded hasher", token.text);
            found.push(source.finding(token.line, what));
        }
    }
    found
}

/// How many arguments stand between the `<` at `open` and its `>`.
fn generic_arguments(tokens: &[Token], open: usize) -> usize {
    let (mut depth, mut count, mut at, mut empty) = (0_usize, 0, open, true);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "<" => depth += 1,
            ">" => depth -= 1,
            "," if depth == 1 => (count, empty) = (count + usize::from(!empty), true),
            _ => empty = false,
        }
        if depth == 0 {
            break;
        }
        let bracket = matches!(token.text.as_str(), "(" | "[" | "{");
        at = if bracket { after_group(tokens, at) } else { at + 1 };
    }
    count + usize::from(!empty)
}

pub(crate) fn unsafe_code(source: &Source) -> Vec<Finding> {
    // C entry points: the standard says which pointers they get.
    if source.is_in(&["daemon/embedded-token/", "tests/sm-token/src/"]) {
        return Vec::new();
    }
    let what = "unsafe is only in daemon/embedded-token and tests/sm-token";
    over(source, |tokens| {
        let used = tokens.iter().filter(|token| token.word && token.text == "unsafe");
        used.map(|token| source.finding(token.line, what)).collect()
    })
}

pub(crate) fn unfinished(source: &Source) -> Vec<Finding> {
    over(source, |tokens| {
        let called =
            |three: &&[Token]| three[1].text == "!" && matches!(three[2].text.as_str(), "(" | "[" | "{");
        let macros = tokens.windows(3).filter(called);
        let left = macros.filter(|three| matches!(three[0].text.as_str(), "todo" | "unimplemented" | "dbg"));
        left.map(|three| source.finding(three[0].line, format!("{}!", three[0].text))).collect()
    })
}
