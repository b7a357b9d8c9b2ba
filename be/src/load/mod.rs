//! Loads: rows from files and statements into tablets.
//!
//! Bottom to top: [`memory`], [`batches`] | [`receiver`] (rows into files here) | [`targets`] (here and elsewhere) |
//! [`coordinator`] (one load over all its backends) | [`service`] (the same for frontends, over gRPC) | [`stream`] (files
//! over HTTP).

pub mod batches;
pub mod coordinator;
pub mod memory;
pub mod receiver;
pub mod rejects;
pub mod service;
pub mod stream;
pub mod targets;
#[cfg(test)]
pub(crate) mod testing;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::load::memory::LoadMemory;
use crate::metrics::Metrics;
use crate::tablet::TabletStore;
use coffer_stdx::{Error, Result};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What loads need from outside.
#[derive(Debug, Clone)]
pub struct LoadDeps {
    /// Tablets.
    pub store: Arc<TabletStore>,
    /// Leader and peers.
    pub cluster: Arc<Cluster>,
    /// The budget for rows.
    pub memory: Arc<LoadMemory>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Places for loads that are coordinated here.
    places: Arc<Semaphore>,
    max_loads: usize,
}

impl LoadDeps {
    /// As configured.
    pub fn new(store: Arc<TabletStore>, cluster: Arc<Cluster>, metrics: Arc<Metrics>, config: &Config) -> LoadDeps {
        LoadDeps {
            store,
            cluster,
            memory: LoadMemory::new(config.load_memory_mib << 20, metrics.load_memory_bytes.clone()),
            metrics,
            places: Arc::new(Semaphore::new(config.max_loads)),
            max_loads: config.max_loads,
        }
    }

    /// A place for one more load, or Limit.
    pub fn place(&self) -> Result<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            Error::limit(format!("{} loads run on this backend already (option max_loads); try again", self.max_loads))
        })
    }
}
