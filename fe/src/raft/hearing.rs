//! What this frontend heard of leaders and candidates: the [`Ear`] as its service and its own elections share it.

use super::canvass::{Ear, No};
use super::types::{LogId, NodeId, TypeConfig, Vote};
use openraft::Raft;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Clones share it.
#[derive(Clone)]
pub(super) struct Hearing {
    ear: Arc<Mutex<Ear>>,
}

/// The end of the log here.
pub(super) fn last(raft: &Raft<TypeConfig>) -> Option<LogId> {
    raft.data_metrics().borrow().last_log
}

impl Hearing {
    /// From now on.
    pub(super) fn new() -> Hearing {
        Hearing { ear: Arc::new(Mutex::new(Ear::new(Instant::now()))) }
    }

    fn ear(&self) -> MutexGuard<'_, Ear> {
        self.ear.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody speaks with this vote: a leader, unless a later vote is known. Told before openraft takes the message, which
    /// may wait for a slow disk.
    pub(super) fn word(&self, raft: &Raft<TypeConfig>, vote: &Vote) {
        if vote.is_committed() && *vote >= raft.metrics().borrow().vote {
            self.ear().leader_spoke(Instant::now());
        }
    }

    /// This frontend leads, and a majority answers it.
    pub(super) fn majority_spoke(&self) {
        self.ear().leader_spoke(Instant::now());
    }

    /// This frontend gave its vote.
    pub(super) fn voted(&self, candidate: Option<NodeId>) {
        if let Some(candidate) = candidate {
            self.ear().voted(candidate, Instant::now());
        }
    }

    /// For how long no leader has spoken.
    pub(super) fn silent(&self) -> Duration {
        self.ear().look(Instant::now())
    }

    /// What a frontend hears that wants to stand, but for whether it is reached.
    pub(super) fn judge(&self, raft: &Raft<TypeConfig>, asker: (NodeId, Option<LogId>)) -> Result<(), No> {
        let own = last(raft);
        self.ear().judge(asker, own, Instant::now())
    }
}
