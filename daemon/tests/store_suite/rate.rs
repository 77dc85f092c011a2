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
