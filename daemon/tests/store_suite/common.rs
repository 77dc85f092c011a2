//! What the tests of the store share.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use clavigerd::edge::Edge;
use clavigerd::store::{Change, Expect, Op, OpenError, SledStore, StateLock, Store};

/// Bytes of sled's cache in tests.
pub(crate) const CACHE: u64 = 8 * 1024 * 1024;

pub(crate) fn put(key: &[u8], value: &[u8]) -> Op {
    Op { key: key.to_vec(), expect: Expect::Any, change: Change::Put(value.to_vec()) }
}

/// Locks the directory and opens the store in it.
pub(crate) fn open(dir: &Path) -> Result<Arc<SledStore>, OpenError> {
    SledStore::open(&StateLock::acquire(dir)?, CACHE, 256, &Edge::system())
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Writes `n` records of one batch each and closes; key and value are the number.
pub(crate) fn fill(dir: &Path, n: u32) {
    block_on(async {
        let store = open(dir).unwrap();
        for i in 0..n {
            store.commit(vec![put(&i.to_be_bytes(), &i.to_be_bytes())]).await.unwrap();
        }
        store.close().await.unwrap();
    });
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Numbers that look random, the same in every run (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}
