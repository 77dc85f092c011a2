//! How fast commits are. Prints; run it with `--run-ignored all --no-capture`.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use clavigerd::store::Store;

use crate::common::{open, put};

/// Set to a directory on the disk to measure (`/tmp` may be in memory).
const DIR: &str = "STORE_RATE_DIR";

#[test]
#[ignore = "a measurement, not a test"]
fn commits_a_second() {
    let base = std::env::var_os(DIR).map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(base).unwrap();
    let store = open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for writers in [1_u32, 16] {
        let each = 16_000 / (4 * writers);
        let start = Instant::now();
        runtime.block_on(async {
            let tasks = (0..writers).map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for n in 0..each {
                        let key = [writer.to_be_bytes(), n.to_be_bytes()].concat();
                        store.commit(vec![put(&key, &[5; 256])]).await.unwrap();
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
        let rate = f64::from(writers * each) / start.elapsed().as_secs_f64();
        writeln!(std::io::stdout(), "{writers} writers: {rate:.0} commits/s").unwrap();
    }
}

/// How long a rewrite takes, how large its copy is, and how long commits wait meanwhile.
#[test]
#[ignore = "a measurement, not a test"]
fn a_rewrite() {
    let base = std::env::var_os(DIR).map_or_else(std::env::temp_dir, Into::into);
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (records, bytes) = (number("STORE_RATE_RECORDS", 100_000), number("STORE_RATE_BYTES", 300));
    let dir = tempfile::tempdir_in(base).unwrap();
    let store = open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let say = |line: String| writeln!(std::io::stdout(), "{line}").unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        // In no order, as identifiers come.
        let key = |n: usize| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        for batch in 0..records / 100 {
            let batch = batch * 100..(batch + 1) * 100;
            store.commit(batch.map(|n| put(&key(n), &vec![5; bytes])).collect()).await.unwrap();
        }
        let size = store.bytes_on_disk().await.unwrap();
        say(format!("{records} records of {bytes}: filled in {:?}, {size} bytes", start.elapsed()));
        let mut longest = std::time::Duration::ZERO;
        let (mut commits, start) = (0, Instant::now());
        let rewriting = store.rewrite();
        tokio::pin!(rewriting);
        loop {
            let asked = Instant::now();
            tokio::select! {
                done = &mut rewriting => {
                    done.unwrap();
                    break;
                }
                done = store.commit(vec![put(&key(commits), &vec![6; bytes])]) => {
                    done.unwrap();
                }
            }
            longest = longest.max(asked.elapsed());
            commits += 1;
        }
        let size = store.bytes_on_disk().await.unwrap();
        say(format!(
            "rewritten in {:?}, {size} bytes; {commits} commits, {longest:?} the longest",
            start.elapsed()
        ));
        store.close().await.unwrap();
    });
}
