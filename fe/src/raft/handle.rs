//! Propose, read, watch, who leads: all that the rest of the frontend sees of Raft.

use super::barrier::Barrier;
use super::core::Core;
use super::figures::Figures;
use super::leadership::Leadership;
use super::machine::Shared;
use super::opening::{self, Opening};
use super::peers::Peers;
use super::proposer::Proposer;
use super::request;
use super::types::NodeId;
use crate::error::{Error, Result};
use crate::limits;
use crate::meta::apply::apply;
use crate::meta::command::{Command, Outcome};
use crate::meta::state::State;
use coffer_proto::v1::LeaderMark;
use coffer_stdx::time::now_ms;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ServerState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The replicated state and the way to change it. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    shared: Arc<Shared>,
    leadership: watch::Receiver<Leadership>,
    node_id: NodeId,
    log: Log,
}

/// Where the leader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    /// Here.
    Here,
    /// At another frontend; it may be gone already.
    At(NodeId, String),
    /// Not known, or this frontend is about to lead.
    Unknown,
}

#[derive(Clone)]
enum Log {
    /// No log: for tests. Keeps the leadership channel open.
    Memory { _leader: Arc<watch::Sender<Leadership>> },
    /// openraft.
    Raft { core: Core, proposer: Proposer, barrier: Barrier, opening: Arc<Opening> },
}

impl Meta {
    /// A state without a log, bootstrapped, leading in term 1: for tests.
    pub fn in_memory() -> Meta {
        let mut state = State::default();
        apply(&mut state, &Command::Bootstrap { cluster_id: "test-cluster".to_owned() });
        let (sender, leadership) = watch::channel(Leadership { term: 1, leading: true });
        let log = Log::Memory { _leader: Arc::new(sender) };
        Meta { shared: Arc::new(Shared::new(state, 1)), leadership, node_id: 1, log }
    }

    /// Open a metadata directory and lead; a new directory becomes a new cluster. `address` is this node's gRPC address.
    pub async fn open(dir: &Path, address: &str) -> Result<Meta> {
        opening::open_alone(dir, address).await
    }

    /// Open a metadata directory and take part in its cluster; see [`Opening`].
    pub async fn take_part(opening: Opening) -> Result<Meta> {
        opening::open(opening).await
    }

    pub(super) fn over(core: Core, opening: Opening) -> Meta {
        let (shared, leadership, node_id) = (core.shared.clone(), core.leadership.clone(), core.node_id);
        let (barrier, proposer) = (Barrier::start(core.clone()), Proposer::start(core.raft.clone()));
        Meta { shared, leadership, node_id, log: Log::Raft { core, proposer, barrier, opening: Arc::new(opening) } }
    }

    /// The first entries of a new cluster, and of one that does not know its only frontend.
    pub(super) async fn bootstrap(&self, dir: &Path, cluster_id: String, address: &str) -> Result<()> {
        let known = self.view(|state| state.cluster_id.clone());
        if known.is_empty() {
            self.propose(Command::Bootstrap { cluster_id: cluster_id.clone() }).await?;
            tracing::info!(cluster_id, "new cluster");
        } else if known != cluster_id {
            return Err(Error::corrupt(format!(
                "metadata directory {} mixes two clusters: its identity says {cluster_id}, its log {known}",
                dir.display()
            )));
        }
        let id = self.node_id;
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let port = port.parse::<u16>().map_err(|_| Error::invalid(format!("address '{address}' is not host:port")))?;
        let written =
            self.view(|state| state.frontends.get(&id).is_some_and(|one| one.host == host && one.port == port));
        if !written && self.view(|state| state.frontends.keys().all(|known| *known == id)) {
            let adopt = Command::AdoptFrontend { id, host: host.to_owned(), port, now_ms: now_ms() };
            self.propose(adopt).await?;
        }
        Ok(())
    }

    /// Make a change. Returns when it is durable and applied here; a refusal is an error. `NotLeader` and `Timeout` leave
    /// open whether it was or will be made.
    pub async fn propose(&self, command: Command) -> Result<Outcome> {
        let command = request::stamped(command);
        match &self.log {
            Log::Memory { .. } => {
                let outcome = self.shared.change(|state| apply(state, &command));
                let index = *self.shared.applied().borrow() + 1;
                self.shared.announce(index);
                outcome.into_result()
            }
            Log::Raft { proposer, .. } => {
                let mut leadership = self.leadership();
                let term = leadership.borrow_and_update().term;
                if !leadership.borrow().leading {
                    return Err(Error::not_leader("this frontend does not lead"));
                }
                let written = tokio::time::timeout(limits::PROPOSE_TIMEOUT, proposer.write(command));
                let lost = leadership.wait_for(|now| !now.leading || now.term != term);
                let written = tokio::select! {
                    written = written => written,
                    _ = lost => {
                        return Err(Error::not_leader("this frontend stopped leading; the change may still take effect"));
                    }
                };
                let written = written.map_err(|_| {
                    Error::timeout("the change found no place in the metadata log in time; it may still take effect")
                })?;
                written.map_err(|error| refused(&error))?.into_result()
            }
        }
    }

    /// Wait until a look at the state sees everything that was acknowledged, anywhere in the cluster, before this call.
    pub async fn barrier(&self) -> Result<()> {
        self.barrier_within(limits::LEADER_WAIT).await
    }

    /// The same, for another time.
    pub async fn barrier_within(&self, wait: Duration) -> Result<()> {
        match &self.log {
            Log::Memory { .. } => Ok(()),
            Log::Raft { barrier, .. } => barrier.pass(Instant::now() + wait).await,
        }
    }

    /// Look at the state as applied here. Keep it short: changes wait meanwhile.
    pub fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.shared.view(look)
    }

    /// Changes whenever entries were applied; the value is the index of the last one.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied()
    }

    /// What log and snapshots did since the start.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// Whether this frontend leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Where statements go that only the leader can do.
    pub fn leader(&self) -> Leader {
        let Log::Raft { core, .. } = &self.log else { return Leader::Here };
        if self.leadership.borrow().leading {
            return Leader::Here;
        }
        match core.leader() {
            Some((id, address)) if id != self.node_id => Leader::At(id, address),
            _ => Leader::Unknown,
        }
    }

    /// Why statements that need the leader would not be answered now through this frontend; `None`: they would.
    pub fn unready(&self) -> Option<String> {
        if self.view(|state| state.cluster_id.is_empty()) {
            return Some("this frontend has not heard of its cluster yet".to_owned());
        }
        let Log::Raft { core, .. } = &self.log else { return None };
        match self.leader() {
            Leader::Here => None,
            Leader::At(_, address) => {
                let silent = core.peers.silent(&address);
                let lost = silent >= limits::LEADER_SILENT;
                lost.then(|| {
                    format!("the leader {address} has not answered this frontend for {} ms", silent.as_millis())
                })
            }
            Leader::Unknown if core.raft.metrics().borrow().state == ServerState::Leader => Some(format!(
                "this frontend leads, but a majority of the frontends has not confirmed that for {} ms",
                limits::STEP_DOWN_AFTER.as_millis()
            )),
            Leader::Unknown => {
                Some(format!("no leader has spoken to this frontend for {} ms", core.hearing.silent().as_millis()))
            }
        }
    }

    /// What marks requests to brokers as those of the leader; `NotLeader` when this frontend is not it.
    pub fn mark(&self) -> Result<LeaderMark> {
        let leadership = *self.leadership.borrow();
        if !leadership.leading {
            return Err(Error::not_leader("this frontend does not lead any more"));
        }
        Ok(LeaderMark { cluster_id: self.view(|state| state.cluster_id.clone()), term: leadership.term })
    }

    /// The id of this frontend in Raft.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The way to other frontends; `None` in tests without a log.
    pub fn peers(&self) -> Option<&Peers> {
        match &self.log {
            Log::Raft { core, .. } => Some(&core.peers),
            Log::Memory { .. } => None,
        }
    }

    pub(super) fn core(&self) -> Option<(&Core, &Opening)> {
        match &self.log {
            Log::Raft { core, opening, .. } => Some((core, opening)),
            Log::Memory { .. } => None,
        }
    }

    /// Wait until the log cannot go on (its disk is full or broken) or this frontend was dropped; the process should then
    /// stop.
    pub async fn failed(&self) -> Error {
        let Log::Raft { core, .. } = &self.log else { return std::future::pending().await };
        let broken = async {
            let mut metrics = core.raft.metrics();
            loop {
                if let Err(fatal) = &metrics.borrow_and_update().running_state {
                    return Error::unavailable(format!("the metadata log has stopped: {fatal}"));
                }
                if metrics.changed().await.is_err() {
                    return Error::unavailable("the metadata log has stopped");
                }
            }
        };
        tokio::select! {
            error = broken => error,
            error = core.peers.expelled() => error,
        }
    }

    /// Take no more changes; what was acknowledged is durable already.
    pub async fn stop(&self) {
        if let Log::Raft { core, .. } = &self.log
            && let Err(error) = core.raft.shutdown().await
        {
            tracing::warn!(%error, "the metadata log did not stop cleanly");
        }
    }

    /// Write a snapshot now.
    #[cfg(test)]
    pub(super) async fn snapshot(&self) {
        let Log::Raft { core, .. } = &self.log else { return };
        let last = core.raft.metrics().borrow().last_applied;
        core.raft.trigger().snapshot().await.unwrap();
        let limit = Some(std::time::Duration::from_secs(10));
        core.raft.wait(limit).metrics(|metrics| metrics.snapshot >= last, "snapshot").await.unwrap();
    }
}

fn refused(error: &RaftError<NodeId, ClientWriteError<NodeId, BasicNode>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => match &forward.leader_node {
            Some(node) => Error::not_leader(format!("the leader is {}", node.addr)),
            None => Error::not_leader("Node catalog is not ready, please wait for a while."),
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => Error::bug(error.to_string()),
        RaftError::Fatal(fatal) => Error::unavailable(format!("the metadata log has stopped: {fatal}")),
    }
}
