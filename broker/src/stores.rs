//! Stores kept open, so that a stream of small requests does not set up a connection each.
//!
//! Keyed by everything that describes the storage, credentials included: two clients share a store only when they know
//! the same secret. What is idle is dropped; when too many are open the one unused for longest is.

use crate::limits::OPEN_STORES;
use crate::metrics::Metrics;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::{Error, Result};
use coffer_store::memory::MemoryStore;
use coffer_store::null::NullStore;
use coffer_store::{Budget, LocalAccess, Store, open_within};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Key = (String, BTreeMap<String, String>);

/// The open stores of a broker.
pub struct Stores {
    access: LocalAccess,
    allow_null: bool,
    parts: Budget,
    metrics: Metrics,
    open: Mutex<BTreeMap<Key, Entry>>,
}

struct Entry {
    store: Arc<dyn Store>,
    used: Instant,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The keys hold credentials.
        f.debug_struct("Stores").field("open", &self.open().len()).finish()
    }
}

impl Stores {
    /// None open. `parts` is the memory for parts of uploads.
    pub fn new(access: LocalAccess, allow_null: bool, parts: Budget, metrics: Metrics) -> Stores {
        Stores { access, allow_null, parts, metrics, open: Mutex::default() }
    }

    /// The store that `spec` describes.
    pub fn get(&self, spec: Option<StorageSpec>, now: Instant) -> Result<Arc<dyn Store>> {
        let spec = spec.ok_or_else(|| Error::invalid("the request names no storage"))?;
        let properties = spec.properties.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let key = (spec.location.clone(), properties);
        if let Some(entry) = self.open().get_mut(&key) {
            entry.used = now;
            return Ok(Arc::clone(&entry.store));
        }
        // Opening looks at directories; nobody else waits for that. Two that open at once differ in nothing.
        let store = self.connect(spec)?;
        let mut open = self.open();
        if open.len() >= OPEN_STORES {
            let oldest = open.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| open.remove(&key));
        }
        open.insert(key, Entry { store: Arc::clone(&store), used: now });
        self.metrics.stores.set(open.len() as i64);
        Ok(store)
    }

    /// Drop what was not used since `idle` before `now`.
    pub fn sweep(&self, now: Instant, idle: Duration) {
        let mut open = self.open();
        open.retain(|_, entry| now.saturating_duration_since(entry.used) < idle);
        self.metrics.stores.set(open.len() as i64);
    }

    fn connect(&self, spec: StorageSpec) -> Result<Arc<dyn Store>> {
        if self.allow_null && spec.location.starts_with("null://") {
            return Ok(Arc::new(NullStore));
        }
        // Lives as long as it is not idle: for tests.
        if self.allow_null && spec.location.starts_with("memory://") {
            return Ok(Arc::new(MemoryStore::new()));
        }
        // A broker never goes through another broker, and limits are those of a request, not of a store.
        open_within(&StorageSpec { brokers: Vec::new(), limit: None, ..spec }, &self.access, &self.parts)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        // No code panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(allow_null: bool) -> Stores {
        Stores::new(LocalAccess::default(), allow_null, Budget::new(1 << 20), Metrics::new().unwrap())
    }

    fn spec(location: &str, secret: &str) -> Option<StorageSpec> {
        let properties = [("secret".to_owned(), secret.to_owned())].into();
        Some(StorageSpec {
            location: location.to_owned(),
            properties,
            brokers: vec!["elsewhere:1".to_owned()],
            ..StorageSpec::default()
        })
    }

    #[test]
    fn the_same_description_is_the_same_store_until_it_is_idle() {
        let stores = stores(true);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = stores.get(spec("null://", "a"), at(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &stores.get(spec("null://", "a"), at(50)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &stores.get(spec("null://", "b"), at(10)).unwrap()));
        stores.sweep(at(70), Duration::from_secs(60));
        assert_eq!(stores.open().len(), 1);
        assert!(Arc::ptr_eq(&first, &stores.get(spec("null://", "a"), at(70)).unwrap()));
    }

    #[test]
    fn the_number_of_open_stores_is_bounded() {
        let stores = stores(true);
        let start = Instant::now();
        for at in 0..OPEN_STORES as u64 + 5 {
            stores.get(spec(&format!("null://{at}"), ""), start + Duration::from_secs(at)).unwrap();
        }
        assert_eq!(stores.open().len(), OPEN_STORES);
        assert!(stores.open().keys().all(|(location, _)| location != "null://0"));
    }

    #[test]
    fn null_must_be_allowed_and_a_storage_named() {
        assert!(stores(false).get(spec("null://", ""), Instant::now()).unwrap_err().message().contains("allow_null"));
        assert!(stores(false).get(None, Instant::now()).is_err());
    }
}
