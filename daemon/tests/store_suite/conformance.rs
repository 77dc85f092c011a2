//! Both forms of the store, held to the same rules by the same cases.

use std::sync::{Arc, Mutex};

use crate::common::put;
use clavigerd::edge::Edge;
use clavigerd::store::{
    Change, Expect, MAX_BATCH_OPS, MAX_KEY_LEN, MAX_VALUE_LEN, MemoryStore, Op, Store, StoreError,
};

/// Runs the case on both forms, a test for each.
macro_rules! conform {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $case() {
                let store = super::MemoryStore::new(&super::Edge::system(), 256).unwrap();
                super::$case(store).await;
            })*
        }
        mod sled {
            $(#[tokio::test] async fn $case() {
                let dir = tempfile::tempdir().unwrap();
                let store = crate::common::open(dir.path()).unwrap();
                super::$case(store).await;
            })*
        }
    };
}

conform!(
    expectations_are_held_against_the_state_before,
    a_conflict_names_the_key_and_writes_nothing,
    a_key_named_twice_gets_the_last_change,
    revisions_rise_and_a_check_takes_one_too,
    lists_are_ordered_prefixed_and_paged,
    limits_refuse_exactly_above,
    sixteen_writers_count_without_a_loss,
    watchers_hear_after_the_write_and_before_the_caller_in_order,
    a_dropped_future_still_commits,
    no_read_sees_half_a_batch,
    a_rewrite_keeps_what_is_live_and_answers_a_revision_that_was_given,
);

fn op(key: &[u8], expect: Expect, change: Change) -> Op {
    Op { key: key.to_vec(), expect, change }
}

async fn value(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|record| record.value)
}

async fn expectations_are_held_against_the_state_before(store: Arc<dyn Store>) {
    let conflict = Err(StoreError::Conflict { key: b"a".to_vec() });
    let write = |expect| store.commit(vec![op(b"a", expect, Change::Put(b"x".to_vec()))]);
    assert_eq!(write(Expect::Revision(1)).await, conflict);
    let first = write(Expect::Absent).await.unwrap();
    assert_eq!(write(Expect::Absent).await, conflict);
    let second = write(Expect::Revision(first)).await.unwrap();
    assert_eq!(write(Expect::Revision(first)).await, conflict);
    assert_eq!(write(Expect::Revision(second + 1)).await, conflict);
    assert!(write(Expect::Any).await.is_ok());
    store.commit(vec![op(b"a", Expect::Any, Change::Delete)]).await.unwrap();
    assert_eq!(value(&*store, b"a").await, None);
    assert_eq!(write(Expect::Revision(second)).await, conflict);
    assert!(write(Expect::Absent).await.is_ok());
    // Deleting what isn't there is no error: the expectation says what must be.
    store.commit(vec![op(b"nothing", Expect::Any, Change::Delete)]).await.unwrap();
}

async fn a_conflict_names_the_key_and_writes_nothing(store: Arc<dyn Store>) {
    store.commit(vec![put(b"b", b"old")]).await.unwrap();
    let batch = vec![
        put(b"a", b"new"),
        put(b"b", b"new"),
        op(b"b", Expect::Absent, Change::Check),
        op(b"c", Expect::Any, Change::Delete),
    ];
    assert_eq!(store.commit(batch).await, Err(StoreError::Conflict { key: b"b".to_vec() }));
    assert_eq!(value(&*store, b"a").await, None);
    assert_eq!(value(&*store, b"b").await.unwrap(), b"old");
}

async fn a_key_named_twice_gets_the_last_change(store: Arc<dyn Store>) {
    let batch = vec![
        op(b"a", Expect::Absent, Change::Put(b"1".to_vec())),
        op(b"a", Expect::Absent, Change::Put(b"2".to_vec())),
        op(b"a", Expect::Absent, Change::Check),
    ];
    store.commit(batch).await.unwrap();
    assert_eq!(value(&*store, b"a").await.unwrap(), b"2");
    store.commit(vec![put(b"a", b"3"), op(b"a", Expect::Any, Change::Delete)]).await.unwrap();
    assert_eq!(value(&*store, b"a").await, None);
}

async fn revisions_rise_and_a_check_takes_one_too(store: Arc<dyn Store>) {
    let first = store.commit(vec![put(b"a", b""), put(b"b", b"")]).await.unwrap();
    assert!(first > 0);
    let checked = store.commit(vec![op(b"a", Expect::Revision(first), Change::Check)]).await.unwrap();
    assert!(checked > first);
    let empty = store.commit(vec![]).await.unwrap();
    assert!(empty > checked);
    let last = store.commit(vec![put(b"b", b"")]).await.unwrap();
    assert!(last > empty);
    assert_eq!(store.get(b"a").await.unwrap().unwrap().revision, first, "a check doesn't touch the record");
    assert_eq!(store.get(b"b").await.unwrap().unwrap().revision, last);
}

async fn lists_are_ordered_prefixed_and_paged(store: Arc<dyn Store>) {
    let keys: [&[u8]; 8] = [b"", b"a", b"a/", b"a/\x00", b"a/1", b"a/1\xff", b"a/\xff\xff", b"b"];
    // Written in another order than listed.
    for key in keys.iter().rev() {
        store.commit(vec![put(key, key)]).await.unwrap();
    }
    let list = async |prefix: &[u8], after: Option<&[u8]>, limit| {
        let found = store.list(prefix, after, limit).await.unwrap();
        assert!(found.iter().all(|(key, record)| *key == record.value));
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(list(b"", None, 100).await, keys);
    assert_eq!(list(b"a/", None, 100).await, keys[2..7]);
    assert_eq!(list(b"a/", None, 0).await, [b""; 0]);
    assert_eq!(list(b"zz", None, 9).await, [b""; 0]);
    assert_eq!(list(b"\xff", None, 9).await, [b""; 0]);
    assert_eq!(list(b"a/", Some(b""), 9).await, keys[2..7], "after lies before the prefix");
    assert_eq!(list(b"a/", Some(b"b"), 9).await, [b""; 0], "after lies behind the prefix");
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let page = list(b"a/", seen.last().map(Vec::as_slice), 2).await;
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, keys[2..7]);
    store.commit(vec![op(b"a/1", Expect::Any, Change::Delete)]).await.unwrap();
    assert_eq!(list(b"a/", Some(b"a/1"), 1).await, [b"a/1\xff"], "a removed key still marks a place");
}

async fn limits_refuse_exactly_above(store: Arc<dyn Store>) {
    let largest = vec![7; MAX_VALUE_LEN];
    let batch: Vec<_> = (0..MAX_BATCH_OPS)
        .map(|i| {
            let mut key = vec![b'k'; MAX_KEY_LEN];
            key[0] = u8::try_from(i).unwrap();
            put(&key, &largest)
        })
        .collect();
    store.commit(batch.clone()).await.unwrap();
    assert_eq!(store.list(b"", None, 1000).await.unwrap().len(), MAX_BATCH_OPS);
    let over = [batch, vec![put(b"one more", b"")]].concat();
    assert_eq!(store.commit(over).await, Err(StoreError::TooLarge));
    let wide = vec![put(b"v", &vec![0; MAX_VALUE_LEN + 1])];
    assert_eq!(store.commit(wide).await, Err(StoreError::TooLarge));
    let long = vec![0; MAX_KEY_LEN + 1];
    assert_eq!(store.commit(vec![put(&long, b"")]).await, Err(StoreError::TooLarge));
    assert_eq!(store.commit(vec![op(&long, Expect::Absent, Change::Check)]).await, Err(StoreError::TooLarge));
    assert_eq!(store.get(&long).await, Ok(None));
}

async fn sixteen_writers_count_without_a_loss(store: Arc<dyn Store>) {
    let writers = (0..16).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut done = 0;
            while done < 20 {
                let now = store.get(b"counter").await.unwrap();
                let count = now.as_ref().map_or(0, |r| u64::from_le_bytes(r.value[..].try_into().unwrap()));
                let expect = now.map_or(Expect::Absent, |r| Expect::Revision(r.revision));
                let next = Change::Put((count + 1).to_le_bytes().to_vec());
                match store.commit(vec![op(b"counter", expect, next)]).await {
                    Ok(_) => done += 1,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(value(&*store, b"counter").await.unwrap(), 320_u64.to_le_bytes());
}

async fn watchers_hear_after_the_write_and_before_the_caller_in_order(store: Arc<dyn Store>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    for name in ["first", "second"] {
        let heard = Arc::clone(&heard);
        store.watch(Box::new(move |keys| heard.lock().unwrap().push((name, keys.to_vec()))));
    }
    store
        .commit(vec![
            put(b"a", b""),
            op(b"c", Expect::Absent, Change::Check),
            op(b"b", Expect::Any, Change::Delete),
        ])
        .await
        .unwrap();
    let keys = vec![b"a".to_vec(), b"b".to_vec()];
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [("first", keys.clone()), ("second", keys)]);
    store.commit(vec![op(b"a", Expect::Absent, Change::Check)]).await.unwrap_err();
    assert!(heard.lock().unwrap().is_empty(), "nothing was written");
    // Many at once: the order heard is the order of the revisions.
    let commits: Vec<_> = (0..50_u8).map(|i| store.commit(vec![put(&[i], b"")])).collect();
    let mut last = 0;
    for commit in commits {
        let revision = commit.await.unwrap();
        assert!(revision > last);
        last = revision;
    }
    let heard: Vec<_> =
        heard.lock().unwrap().iter().filter(|(n, _)| *n == "first").map(|(_, k)| k[0][0]).collect();
    assert_eq!(heard, (0..50).collect::<Vec<_>>());
}

async fn a_dropped_future_still_commits(store: Arc<dyn Store>) {
    drop(store.commit(vec![put(b"a", b"x")]));
    drop(store.get(b"a"));
    store.commit(vec![]).await.unwrap();
    assert_eq!(value(&*store, b"a").await.unwrap(), b"x");
}

async fn no_read_sees_half_a_batch(store: Arc<dyn Store>) {
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for i in 0..100_u8 {
                let batch = (0..20_u8).map(|k| put(&[b'p', k], &[i])).collect();
                store.commit(batch).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let found = store.list(b"p", None, 100).await.unwrap();
        assert!(found.is_empty() || found.len() == 20);
        assert!(found.windows(2).all(|pair| pair[0].1 == pair[1].1), "records of two batches");
    }
    writer.await.unwrap();
}

async fn a_rewrite_keeps_what_is_live_and_answers_a_revision_that_was_given(store: Arc<dyn Store>) {
    assert_eq!(store.rewrite().await, Ok(0), "an empty one");
    let first = store.commit(vec![put(b"a", b"1"), put(b"b", b"2"), put(b"c", b"3")]).await.unwrap();
    let last = store.commit(vec![op(b"b", Expect::Any, Change::Delete), put(b"c", b"4")]).await.unwrap();
    let before = store.list(b"", None, 9).await.unwrap();
    let heard = Arc::new(Mutex::new(0));
    let hook = Arc::clone(&heard);
    store.watch(Box::new(move |_| *hook.lock().unwrap() += 1));
    assert_eq!(store.rewrite().await, Ok(last));
    assert_eq!(*heard.lock().unwrap(), 0, "nothing changed");
    assert_eq!(store.list(b"", None, 9).await.unwrap(), before);
    let change = op(b"a", Expect::Revision(first), Change::Delete);
    assert_eq!(store.commit(vec![change]).await, Ok(last + 1));
    assert_eq!(*heard.lock().unwrap(), 1);
    drop(store.rewrite());
    assert!(store.commit(vec![]).await.is_ok(), "nobody waits for it");
}
