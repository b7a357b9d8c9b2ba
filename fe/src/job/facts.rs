//! What a plan may know besides the job record: the time and which backends are there.

use coffer_proto::ids::BackendId;
use std::collections::{BTreeMap, BTreeSet};

/// A backend without an answer for so long is replaced by other replicas, where a job can.
pub const MOVE_AFTER_MS: u64 = 15_000;
/// A backend that alone has something a backup needs is waited for so long before the job fails.
pub const GIVE_UP_AFTER_MS: u64 = 120_000;

/// How a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It takes tasks.
    Up,
    /// It does not answer.
    Down {
        /// For so long, milliseconds.
        for_ms: u64,
        /// Which, and why.
        cause: String,
    },
    /// It left the cluster.
    Gone,
}

/// The world, as one plan sees it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Milliseconds since the epoch.
    pub now_ms: u64,
    /// The backends of the catalog.
    pub backends: BTreeMap<BackendId, Health>,
    /// Those that are to leave, which take nothing more.
    pub leaving: BTreeSet<BackendId>,
}

impl Facts {
    /// How a backend is.
    pub fn health(&self, backend: BackendId) -> &Health {
        self.backends.get(&backend).unwrap_or(&Health::Gone)
    }

    /// Whether it takes tasks.
    pub fn up(&self, backend: BackendId) -> bool {
        *self.health(backend) == Health::Up
    }
}
