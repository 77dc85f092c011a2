//! What is left in the memory of a daemon that has nothing to do any more: no
//! plaintext that went through it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use claviger_tests::keys::LEVELS;
use claviger_tests::process::proc;
use claviger_tests::programs::text;
use claviger_tests::{Daemon, Site, each_token};

/// Read at a time.
const PAGE: usize = 64 * 1024;
/// A page that nobody wrote to.
static ZERO: [u8; PAGE + PART] = [0; PAGE + PART];
/// What counts as found: this much of the plaintext.
const PART: usize = 16;

/// 64 bytes that nothing else has.
fn recognisable() -> Vec<u8> {
    (0..4).flat_map(|_| claviger_tests::keys::client_token()).collect()
}

/// Where parts of these are in the daemon's memory: which of them, the mapping's line
/// and the offset in it; none where this process may not look.
fn remains(daemon: &Daemon, secrets: &[&[u8]]) -> Option<Vec<(usize, String)>> {
    let memory = File::open(proc(daemon.pid(), "mem")).ok()?;
    let maps = std::fs::read_to_string(proc(daemon.pid(), "maps")).ok()?;
    let mut found = Vec::new();
    let mut page = vec![0; PAGE + PART];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        for at in (from..to).step_by(PAGE) {
            // A little of the next, so that nothing hides on the border.
            page.resize((PAGE + PART).min(usize::try_from(to - at).unwrap()), 0);
            // Most was never touched. Guard pages and the like can't be read.
            if memory.read_exact_at(&mut page, at).is_ok() && page[..] != ZERO[..page.len()] {
                let parts = parts_in(&page, secrets).into_iter();
                let place = |offset| format!("{line}: +{:#x}", at - from + offset as u64);
                found.extend(parts.map(|(secret, offset)| (secret, place(offset))));
            }
            page.resize(PAGE + PART, 0);
        }
    }
    Some(found)
}

/// Which secret's [`PART`] is where.
fn parts_in(page: &[u8], secrets: &[&[u8]]) -> Vec<(usize, usize)> {
    let numbered = secrets.iter().enumerate();
    let parts: Vec<(usize, &[u8])> = numbered
        .flat_map(|(number, secret)| secret.chunks_exact(PART).map(move |part| (number, part)))
        .collect();
    let mut begins = [false; 256];
    for (_, part) in &parts {
        begins[usize::from(part[0])] = true;
    }
    let mut found = Vec::new();
    for (at, byte) in page.iter().enumerate() {
        if begins[usize::from(*byte)] {
            let here = parts.iter().filter(|(_, part)| page[at..].starts_with(part));
            found.extend(here.map(|(number, _)| (*number, at)));
        }
    }
    found
}

#[test]
fn no_plaintext_is_left_once_its_calls_are_over() {
    for token in each_token() {
        let site = Site::new(token);
        let daemon = site.start();
        let mut app = daemon.app();
        let keys = LEVELS.map(|level| daemon.admin().create(level));
        let secrets = [recognisable(), recognisable()];
        for (key, secret) in keys.into_iter().zip(&secrets) {
            for _ in 0..100 {
                let blob = app.encrypt(key, secret);
                assert_eq!(app.decrypt(&blob).as_ref(), Ok(secret));
            }
        }
        // What stays, its own path: a scan that doesn't find it finds nothing.
        let state = site.state_dir();
        let known = text(&state).as_bytes();
        let Some(left) = remains(&daemon, &[&secrets[0], &secrets[1], known]) else {
            eprintln!("not allowed to read the daemon's memory here");
            return;
        };
        assert!(left.iter().any(|(which, _)| *which == 2), "{token:?}: the scan sees nothing");
        let left: Vec<_> = left.iter().filter(|(which, _)| *which < 2).collect();
        assert!(left.is_empty(), "{token:?}, (0: HSM, 1: SOFTWARE): {left:#?}");
        daemon.terminate();
    }
}
