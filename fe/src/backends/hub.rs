//! The parts that links, reconciler and brokers share.

use super::brokers::Brokers;
use super::health::Health;
use super::keeping::Keeping;
use super::rates::Rates;
use super::registry::Registry;
use super::tasks::Tasks;
use crate::catalog::cluster::{Access, Repository};
use crate::config::Config;
use crate::meta::state::State;
use crate::vault::Vault;
use coffer_proto::ids::{BackendId, TransactionId};
use coffer_proto::v1;
use coffer_stdx::time::now_ms;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::broadcast;

/// Events kept for receivers that are slow.
const EVENTS_KEPT: usize = 1_024;

/// Something happened to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It registered.
    Up {
        /// Which.
        backend: BackendId,
        /// Loads written there but neither published nor discarded.
        staged: Vec<TransactionId>,
    },
    /// Its stream broke.
    Down {
        /// Which.
        backend: BackendId,
    },
}

/// Registry, tasks, brokers, limits and the health of repositories.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) config: Arc<Config>,
    pub(super) registry: Registry,
    pub(super) tasks: Tasks,
    pub(super) brokers: Brokers,
    pub(super) rates: Rates,
    pub(super) health: Health,
    /// Replicas that are being copied or dropped.
    pub(super) keeping: Arc<Keeping>,
    /// Opens the secrets of repositories.
    pub(super) vault: Vault,
    pub(super) events: broadcast::Sender<Event>,
    /// Backends that the leader says live, while another frontend leads.
    pub(super) remote: RwLock<Vec<v1::BackendAddress>>,
    /// When this process began, and how many ids it gave.
    serial: (u64, AtomicU64),
}

impl Hub {
    pub(super) fn new(config: Arc<Config>) -> Hub {
        let vault = Vault::at(config.metadata_key_path());
        Hub {
            config,
            vault,
            registry: Registry::default(),
            tasks: Tasks::default(),
            brokers: Brokers::default(),
            rates: Rates::default(),
            health: Health::default(),
            keeping: Arc::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            remote: RwLock::default(),
            serial: (now_ms(), AtomicU64::new(0)),
        }
    }

    /// The end of a task id that no process of this cluster gave before.
    pub(super) fn unique(&self) -> String {
        format!("{}-{}", self.serial.0, self.serial.1.fetch_add(1, Ordering::Relaxed))
    }

    /// How fast bytes of a repository may pass one process, if that was ever limited.
    pub(super) fn limit(&self, state: &State, repository: &Repository) -> Option<v1::RateLimit> {
        let limits = repository.limits?;
        let carriers = match &repository.access {
            Access::Broker(name) => self.brokers.alive(name),
            Access::S3 | Access::Hdfs | Access::Local => self.registry.alive(),
        };
        Some(self.rates.say(format!("{}/{}", state.cluster_id, repository.id), limits.share(carriers)))
    }

    /// What the leader said, when this frontend is not it.
    pub(super) fn remote(&self) -> Vec<v1::BackendAddress> {
        if self.rates.leads() {
            return Vec::new();
        }
        self.remote.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where backends answer: those that ever registered with this leader, or that the leader says live.
    pub(super) fn addresses(&self) -> Vec<v1::BackendAddress> {
        let remote = self.remote();
        if !remote.is_empty() {
            return remote;
        }
        let known = self.registry.ids().into_iter().filter_map(|id| Some((id, self.registry.status(id)?)));
        known
            .filter(|(_, status)| status.http_port != 0)
            .map(|(id, status)| {
                let host = status.address.rsplit_once(':').map_or("", |(host, _)| host);
                v1::BackendAddress {
                    backend_id: id.0,
                    http: format!("{host}:{}", status.http_port),
                    grpc: status.address,
                }
            })
            .collect()
    }
}
