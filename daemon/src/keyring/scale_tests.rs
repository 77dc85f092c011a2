//! A domain with very many keys, for measurements: SOFTWARE keys written in bulk, the way
//! `create` makes them and without its calls. Not a test; `scripts/scale.py` runs it.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use claviger_protocol::names::{Alias, Description, ProjectName, Tags};
use claviger_protocol::{KeyOrigin, KeySpec, KeyUsage, Protection};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::super::record::{AliasRecord, path};
use super::super::{Keyring, Rules, index};
use super::{NewKey, put_new};
use crate::backend::hsm::{self, domain};
use crate::config::Config;
use crate::edge::Edge;
use crate::store::{MAX_BATCH_OPS, Op, SledStore, StateLock, Store};

/// The state directory, as `clavigerd --dev` uses it, and how many keys it is to have.
const DIR: &str = "CLAVIGER_SCALE_DIR";
const KEYS: &str = "CLAVIGER_SCALE_KEYS";
/// Batches under way at once.
const IN_FLIGHT: usize = 32;

/// The alias of a key by its number.
fn alias(number: u64) -> Alias {
    format!("alias/scale/{number:08}").parse().unwrap()
}

/// Every record of one key.
async fn records(keyring: &Keyring, number: u64) -> Vec<Op> {
    let new = NewKey {
        spec: KeySpec::Aes256,
        usage: KeyUsage::EncryptDecrypt,
        protection: Protection::Software,
        origin: KeyOrigin::Kms,
        project: ProjectName::default(),
        alias: Some(alias(number)),
        description: Description::default(),
        tags: Tags::default(),
        rotation_days: None,
        created_by: "admin uid 0".to_owned(),
        token: None,
        sm2_user_id: None,
        default_for: None,
    };
    let ids = (keyring.edge.entropy.uuid().unwrap(), keyring.edge.entropy.uuid().unwrap());
    let key = keyring.key_record(&new, ids);
    let material = keyring.new_material(new.spec, new.usage, new.protection, ids).await.unwrap();
    let mut ops = keyring.version_ops(&key, ids.1, 1, &material).unwrap();
    ops.extend(index::changes(&keyring.store, None, &key).unwrap());
    let key_path = path::key(key.key_id);
    ops.push(put_new(keyring.store.put(&key_path, &key).unwrap(), key_path));
    let alias_path = path::alias(alias(number).as_str());
    let record = AliasRecord { key_id: key.key_id };
    ops.push(put_new(keyring.store.put(&alias_path, &record).unwrap(), alias_path));
    ops
}

/// The domain in a state directory, made if there is none, and its keyring.
async fn open(dir: &Path) -> (Arc<SledStore>, Keyring) {
    let (config, edge) = (Config::dev(dir).unwrap(), Edge::system());
    let state = StateLock::acquire(dir).unwrap();
    let store = SledStore::open(&state, 256 << 20, 1024, &edge).unwrap();
    if domain::header(dir).unwrap().is_none() {
        hsm::init(&config, &[], &edge, &mut |_| ControlFlow::Continue(())).unwrap();
    }
    let root = domain::header(dir).unwrap().unwrap().root;
    let member = hsm::member::open(&config.hsm[0], Some(&root), &edge.workers, &config.limits, 1).unwrap();
    let domain = domain::open_domain(dir, &member).unwrap();
    let rules = Rules { allow_software_tokens: true, ..Rules::default() };
    let began = Instant::now();
    let store_ = Arc::clone(&store) as Arc<dyn Store>;
    let keyring = Keyring::open(edge, store_, domain, member, rules, &config.limits).await.unwrap();
    let keys: u64 = keyring.counts().into_iter().map(|(_, _, count)| count).sum();
    say(&format!("{keys} keys counted in {:.2?}", began.elapsed()));
    (store, keyring)
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").unwrap();
}

#[test]
#[ignore = "a measurement's preparation, not a test"]
fn fill() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let wanted: u64 = std::env::var(KEYS).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (store, keyring) = open(Path::new(&dir)).await;
        let mut number: u64 = keyring.counts().into_iter().map(|(_, _, count)| count).sum();
        let (began, before) = (Instant::now(), number);
        let mut under_way = FuturesUnordered::new();
        while number < wanted || !under_way.is_empty() {
            while number < wanted && under_way.len() < IN_FLIGHT {
                let mut batch = Vec::new();
                while number < wanted {
                    let next = records(&keyring, number).await;
                    if batch.len() + next.len() > MAX_BATCH_OPS {
                        // Made for nothing; it is made again.
                        break;
                    }
                    batch.extend(next);
                    number += 1;
                }
                under_way.push(store.commit(batch));
            }
            if let Some(committed) = under_way.next().await {
                committed.unwrap();
            }
        }
        drop(under_way);
        say(&format!("{} keys made in {:.2?}", number - before, began.elapsed()));
        store.close().await.unwrap();
    });
}
