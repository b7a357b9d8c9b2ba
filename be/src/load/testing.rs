//! A backend of one directory for tests.

use super::LoadDeps;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::load::memory::LoadMemory;
use crate::metrics::Metrics;
use crate::tablet::TabletStore;
use std::path::Path;
use std::sync::Arc;

/// Loads into `dir` with this much memory.
pub(crate) fn deps(dir: &Path, memory: u64) -> LoadDeps {
    let store = TabletStore::open(&[dir.to_owned()]).unwrap();
    let cluster = Cluster::new(store.clone()).unwrap();
    let metrics = Arc::new(Metrics::new());
    let mut deps = LoadDeps::new(store, cluster, metrics.clone(), &Config::default());
    deps.memory = LoadMemory::new(memory, metrics.load_memory_bytes.clone());
    deps
}
