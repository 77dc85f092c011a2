//! libFuzzer over the one target that the environment names; `claviger-fuzz` starts it.
//! libFuzzer's own `main` reads the arguments.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// The function to call.
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var(claviger_fuzz::TARGET_VARIABLE).unwrap_or_default();
    let found = claviger_fuzz::TARGETS.iter().find(|(known, _)| *known == name);
    assert!(found.is_some(), "{} names no target: {name:?}", claviger_fuzz::TARGET_VARIABLE);
    found.map_or(|_| {}, |(_, target)| *target)
});

fuzz_target!(|input: &[u8]| TARGET(input));
