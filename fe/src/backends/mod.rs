//! What the leader knows about backends and brokers, and how it makes backends work.
//!
//! While this frontend leads it holds one `Agent.Control` stream to every backend of the catalog ([`control`]). Down go
//! tasks ([`tasks`]), up come heartbeats, tablet reports, progress and results ([`registry`]). Brokers are pinged by every
//! frontend ([`brokers`]). Nothing here is replicated: a new leader starts empty and hears everything again within a
//! second; what a backend holds that nobody claims any more is removed after each report ([`reconcile`]).
//!
//! A task is known by its id, and a backend answers a repeated id with the result it had: so an id is used again only for
//! the very same work; [`Backends::unique`] helps where that is not so. [`Backends::run`] sends it, sends it again after a
//! reconnect, and answers with its result; dropping the future cancels the task. Running the same id twice at a time is
//! one task.
//!
//! Crash of this process: backends finish what they do and keep results only as files; the next leader runs the same ids
//! again, and a repeated task gives the same result.
//!
//! Modules: `registry`, `tasks`, `rates`, `keeping` and `claims` stand alone; `hub` holds what the others share.

pub mod brokers;
pub mod claims;
mod control;
mod health;
mod hub;
mod keeping;
mod rates;
pub mod reconcile;
pub mod registry;
mod storage;
mod surplus;
pub mod tasks;

pub use brokers::BrokerStatus;
pub use health::Fault;
pub use hub::Event;
pub use keeping::Kept;
pub use registry::{BackendStatus, Presence, Replica, TabletSums};

use crate::catalog::cluster::Repository;
use crate::catalog::table::Tablet;
use crate::config::Config;
use crate::meta::state::State;
use crate::raft::Meta;
use crate::vault::Vault;
use coffer_proto::ids::{BackendId, RepositoryId, TabletId};
use coffer_proto::v1;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result};
use hub::Hub;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How long a task waits for a backend that went away before its caller hears of it.
pub const DEAD_AFTER: Duration = Duration::from_secs(15);

/// How long cancelled tasks are waited for.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(10);

/// The handle that everything above uses; cloned freely.
#[derive(Clone, Debug)]
pub struct Backends {
    hub: Arc<Hub>,
    /// Whether anybody follows the catalog.
    connected: bool,
}

/// Start talking to the backends and brokers of the catalog; ends with `shutdown`.
pub fn start(meta: Meta, config: Arc<Config>, shutdown: Shutdown) -> Backends {
    let hub = Arc::new(Hub::new(config));
    shutdown.spawn(control::supervise(meta.clone(), Arc::clone(&hub), shutdown.clone()));
    shutdown.spawn(reconcile::follow(meta.clone(), Arc::clone(&hub), shutdown.clone()));
    shutdown.spawn(brokers::supervise(meta.clone(), Arc::clone(&hub), shutdown.clone()));
    let backends = Backends { hub, connected: true };
    shutdown.spawn(health::follow(meta, backends.clone(), shutdown.clone()));
    backends
}

impl Backends {
    /// Knows no backend and never will: for tests of what stands above.
    pub fn disconnected(config: Arc<Config>) -> Backends {
        Backends { hub: Arc::new(Hub::new(config)), connected: false }
    }

    /// What a backend last said about itself; `None` while it was never tried.
    pub fn status(&self, backend: BackendId) -> Option<BackendStatus> {
        self.hub.registry.status(backend)
    }

    /// Whether its stream is up and it was heard of lately.
    pub fn alive(&self, backend: BackendId) -> bool {
        match self.hub.registry.presence(backend) {
            Presence::Up => true,
            Presence::Down { .. } => false,
            Presence::Unknown => self.hub.remote().iter().any(|alive| alive.backend_id == backend.0),
        }
    }

    /// What the leader says about backends, while another frontend leads; nothing while this one does.
    pub fn heard(&self, alive: Vec<v1::BackendAddress>) {
        *self.hub.remote.write().unwrap_or_else(PoisonError::into_inner) = alive;
    }

    /// Whether it is there, and if not, since when.
    pub fn presence(&self, backend: BackendId) -> Presence {
        self.hub.registry.presence(backend)
    }

    /// Where the backends answer that have registered at least once since this frontend leads.
    pub fn addresses(&self) -> Vec<v1::BackendAddress> {
        self.hub.addresses()
    }

    /// What one backend reported about one tablet.
    pub fn tablet_stat(&self, tablet: TabletId, backend: BackendId) -> Option<v1::TabletStat> {
        self.hub.registry.tablet_stat(tablet, backend)
    }

    /// Look at many replicas at one moment.
    pub fn look<T>(&self, with: impl FnOnce(&dyn Fn(TabletId, BackendId) -> Replica) -> T) -> T {
        self.hub.registry.look(with)
    }

    /// Copy onto a replica without its being dropped as one too many; `None` while it is.
    pub fn keep(&self, tablet: TabletId, backend: BackendId) -> Option<Kept> {
        self.hub.keeping.keep((tablet, backend))
    }

    /// Sums over tablets, for SHOW.
    pub fn tablet_sums<'a>(&self, tablets: impl IntoIterator<Item = &'a Tablet>) -> TabletSums {
        self.hub.registry.sums(tablets)
    }

    /// Wait, at most this long, until each of these was reached or could not be: a leader that is new has heard of none.
    pub async fn acquainted(&self, backends: &[BackendId], limit: Duration) {
        if !self.connected {
            return;
        }
        let mut changes = self.hub.registry.changes();
        let wait = async {
            while self.hub.registry.has_untried(backends) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Who was not reached by then counts as dead.
        let _ = tokio::time::timeout(limit, wait).await;
    }

    /// A number that changes when a backend or broker comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.hub.registry.changes()
    }

    /// What happens to backends, from now on. A receiver that falls behind by more than a thousand loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.hub.events.subscribe()
    }

    /// How a broker answers; `None` while it was never tried.
    pub fn broker_status(&self, name: &str, address: &str) -> Option<BrokerStatus> {
        self.hub.brokers.status(name, address)
    }

    /// How to reach the storage of a repository: brokers that are alive first, those on the host `near` before others;
    /// among equals `turn` decides, so that work spreads.
    pub fn storage(
        &self,
        state: &State,
        repository: &Repository,
        (near, turn): (&str, u64),
    ) -> Result<v1::StorageSpec> {
        let mut spec = storage::spec(&self.hub.brokers, &state.brokers, repository, (near, turn))?;
        spec.properties = self.hub.vault.open(&repository.properties)?.into_iter().collect();
        spec.limit = self.hub.limit(state, repository);
        Ok(spec)
    }

    /// Seals and opens the secrets of repositories.
    pub fn vault(&self) -> &Vault {
        &self.hub.vault
    }

    /// Why a repository did not answer when it was last looked at, if it did not.
    pub fn repository_fault(&self, repository: RepositoryId) -> Option<Fault> {
        self.hub.health.fault(repository)
    }

    /// The end of a task id that was never used before.
    pub fn unique(&self) -> String {
        self.hub.unique()
    }

    /// Wait until the cancelled tasks whose ids begin with one of these have ended on a backend, at most [`SETTLE_WITHIN`].
    pub async fn settled(&self, backend: BackendId, prefixes: &[String]) {
        let wait = async {
            let mut ended = self.hub.tasks.ended();
            while self.hub.tasks.stopping(backend, prefixes) {
                if ended.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SETTLE_WITHIN, wait).await.is_err() {
            tracing::warn!(%backend, "cancelled tasks did not end in time");
        }
    }

    /// Do a task on a backend and wait for its result. `Unavailable` when the backend stays away for [`DEAD_AFTER`],
    /// `NotLeader` when this frontend stops leading.
    pub async fn run(
        &self,
        backend: BackendId,
        task_id: String,
        work: v1::task::Work,
    ) -> Result<Option<v1::task_result::Output>> {
        self.run_with_progress(backend, task_id, work, |_| ()).await
    }

    /// As [`Backends::run`]; `on_progress` is called with what the backend says in between.
    pub async fn run_with_progress(
        &self,
        backend: BackendId,
        task_id: String,
        work: v1::task::Work,
        on_progress: impl Fn(&v1::Progress) + Send,
    ) -> Result<Option<v1::task_result::Output>> {
        let mut changes = self.hub.registry.changes();
        let mut handle = self.hub.tasks.submit(backend, task_id, work)?;
        loop {
            let seen = handle.state();
            if let Some(result) = seen.result {
                return result;
            }
            if let Some(progress) = &seen.progress {
                on_progress(progress);
            }
            let patience = match self.hub.registry.presence(backend) {
                Presence::Up => Duration::MAX,
                Presence::Down { since } => DEAD_AFTER.saturating_sub(since),
                Presence::Unknown => return Err(self.away(backend)),
            };
            tokio::select! {
                () = handle.changed() => (),
                _ = changes.changed() => (),
                () = sleep(patience) => return Err(self.away(backend)),
            }
        }
    }

    fn away(&self, backend: BackendId) -> Error {
        match self.hub.registry.status(backend) {
            Some(status) => Error::unavailable(format!("backend {} is not alive: {}", status.address, status.error)),
            None => Error::unavailable(format!("backend {backend} is not part of the cluster")),
        }
    }
}

/// [`Duration::MAX`] means for ever; tokio would cut it at about 30 years, which is the same.
async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[cfg(test)]
mod tests;
