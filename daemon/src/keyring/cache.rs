//! A bounded cache whose misses are loaded once however many ask: waiters
//! suspend, none blocks a thread. A key forgotten while it is being loaded is not
//! cached, so a stale value can't outlive the change that made it stale.

use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Lifecycle, UnitWeighter};

use crate::edge::HashKey;
use crate::metrics::Counter;
use crate::metrics::groups::CacheCounts;

/// See the module.
pub struct LoadingCache<K, V> {
    cache: Cache<K, Arc<V>, UnitWeighter, HashKey, Evictions>,
    evictions: Evictions,
    counts: CacheCounts,
}

/// Counts what is dropped to make room.
#[derive(Clone, Default)]
struct Evictions(Arc<Counter>);

impl<K, V> Lifecycle<K, V> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: K, _: V) {
        self.0.one();
    }
}

impl<K: Eq + Hash + Clone, V> LoadingCache<K, V> {
    /// An empty cache for at most `capacity` values.
    #[must_use]
    pub fn new(capacity: usize, hash: &HashKey) -> Self {
        let evictions = Evictions::default();
        let cache = Cache::with(capacity, capacity as u64, UnitWeighter, hash.clone(), evictions.clone());
        Self { cache, evictions, counts: CacheCounts::default() }
    }

    /// The value, if it is here.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Arc<V>> {
        self.cache.get(key).inspect(|_| self.counts.hits.one())
    }

    /// The value; if it isn't here, `load` is awaited by one caller for all. If
    /// that caller fails or goes away, the next one loads. Boxed: the calls that
    /// find their value with [`LoadingCache::get`] needn't carry the room for this.
    pub fn get_or_load<'a, E: 'a>(
        &'a self,
        key: &'a K,
        load: impl Future<Output = Result<V, E>> + Send + 'a,
    ) -> BoxFuture<'a, Result<Arc<V>, E>>
    where
        K: Send + Sync,
        V: Send + Sync,
    {
        Box::pin(async move {
            match self.cache.get_value_or_guard_async(key).await {
                Ok(value) => Ok(value),
                Err(guard) => {
                    self.counts.misses.one();
                    let value = Arc::new(load.await?);
                    // Refused where the key was forgotten meanwhile: the caller still
                    // gets what it loaded, nobody later does.
                    let _ = guard.insert(Arc::clone(&value));
                    Ok(value)
                }
            }
        })
    }

    /// Drops a value, and keeps a load that is under way from being cached.
    pub fn forget(&self, key: &K) {
        self.cache.remove(key);
    }

    /// Drops every value whose key isn't wanted any more.
    pub fn retain(&self, wanted: impl Fn(&K) -> bool) {
        self.cache.retain(|key, _| wanted(key));
    }

    /// How often a value was here, and how often it had to be loaded.
    pub fn counts(&self) -> &CacheCounts {
        &self.counts
    }

    /// How many values were dropped to make room.
    pub fn evictions(&self) -> u64 {
        self.evictions.0.get()
    }

    /// How many values are here.
    pub fn len(&self) -> usize {
        self.cache.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Entropy;
    use futures_util::FutureExt;
    use std::convert::Infallible;
    use tokio::sync::oneshot;

    fn cache(capacity: usize) -> LoadingCache<u32, String> {
        LoadingCache::new(capacity, &HashKey::new(&Entropy::seeded(1)).unwrap())
    }

    #[test]
    fn many_ask_one_loads() {
        let cache = cache(10);
        let (send, receive) = oneshot::channel::<String>();
        let mut first =
            Box::pin(cache.get_or_load(&1, async { Ok::<_, Infallible>(receive.await.unwrap()) }));
        assert!((&mut first).now_or_never().is_none());
        let mut second =
            Box::pin(cache.get_or_load(&1, async { unreachable!() as Result<String, Infallible> }));
        assert!((&mut second).now_or_never().is_none());
        send.send("v".into()).unwrap();
        assert_eq!(*first.now_or_never().unwrap().unwrap(), "v");
        assert_eq!(*second.now_or_never().unwrap().unwrap(), "v");
    }

    #[test]
    fn a_loader_that_goes_away_hands_over() {
        let cache = cache(10);
        let mut first = Box::pin(cache.get_or_load(&1, std::future::pending::<Result<String, Infallible>>()));
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(cache.get_or_load(&1, async { Ok::<_, Infallible>("b".into()) }));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert_eq!(*second.now_or_never().unwrap().unwrap(), "b");
    }

    #[test]
    fn what_is_forgotten_while_loading_is_not_cached() {
        let cache = cache(10);
        let (send, receive) = oneshot::channel::<String>();
        let mut first =
            Box::pin(cache.get_or_load(&1, async { Ok::<_, Infallible>(receive.await.unwrap()) }));
        assert!((&mut first).now_or_never().is_none());
        cache.forget(&1);
        send.send("stale".into()).unwrap();
        assert_eq!(*first.now_or_never().unwrap().unwrap(), "stale");
        assert!(cache.get(&1).is_none());
    }

    #[test]
    fn it_is_bounded() {
        let cache = cache(8);
        for i in 0..100 {
            let got = cache.get_or_load(&i, async { Ok::<_, Infallible>(i.to_string()) }).now_or_never();
            assert_eq!(*got.unwrap().unwrap(), i.to_string());
        }
        assert!(cache.len() <= 8);
        assert_eq!((cache.counts().misses.get(), cache.evictions()), (100, 100 - cache.len() as u64));
    }
}
