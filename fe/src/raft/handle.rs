//! Propose, read, watch, who leads: all that the rest of the frontend sees of Raft.

use super::figures::{Figures, bound_log_bytes};
use super::home::Home;
use super::log::LogStore;
use super::machine::{Machine, Shared};
use super::network::Alone;
use super::proposer::Proposer;
use super::types::{NodeId, TypeConfig};
use crate::error::{Error, Result};
use crate::limits;
use crate::meta::apply::apply;
use crate::meta::command::{Command, Outcome};
use crate::meta::state::State;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, Raft, RaftMetrics, ServerState, SnapshotPolicy};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// The replicated state and the way to change it. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    shared: Arc<Shared>,
    leadership: watch::Receiver<Leadership>,
    node_id: NodeId,
    log: Log,
}

/// Who decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The Raft term.
    pub term: u64,
    /// Whether this frontend leads in it and has applied everything that earlier leaders committed.
    pub leading: bool,
}

#[derive(Clone)]
enum Log {
    /// No log: for tests. Keeps the leadership channel open.
    Memory { _leader: Arc<watch::Sender<Leadership>> },
    /// openraft; the directory stays locked as long as anybody has it.
    Raft { raft: Raft<TypeConfig>, proposer: Proposer, _home: Arc<Home> },
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
        let home = Arc::new(Home::open(dir)?);
        let machine = Machine::open(&home.snapshot())?;
        let log = LogStore::open(&home.log())?;
        if let Some(purged) = log.purged().filter(|purged| machine.last_applied() < Some(*purged)) {
            return Err(Error::corrupt(format!(
                "metadata snapshot {} is missing or too old: the log behind it starts after entry {}",
                home.snapshot().display(),
                purged.index
            )));
        }
        let shared = machine.shared();
        let counters = log.counters();
        shared.count(Arc::clone(&counters));
        let node_id = home.identity.node_id;
        let raft = Raft::new(node_id, Arc::new(settings()?), Alone, log, machine)
            .await
            .map_err(|error| Error::corrupt(format!("open the metadata in {}: {error}", dir.display())))?;
        tokio::spawn(bound_log_bytes(raft.clone(), counters));
        lead(&raft, node_id, address).await?;
        let (sender, leadership) = watch::channel(Leadership::default());
        tokio::spawn(follow(raft.clone(), sender));
        let cluster_id = home.identity.cluster_id.clone();
        let meta = Meta {
            shared,
            leadership,
            node_id,
            log: Log::Raft { proposer: Proposer::start(raft.clone()), raft, _home: home },
        };
        meta.bootstrap(dir, cluster_id).await?;
        let mut leading = meta.leadership();
        leading.wait_for(|now| now.leading).await.map_err(|_| Error::bug("nobody follows the leadership"))?;
        Ok(meta)
    }

    async fn bootstrap(&self, dir: &Path, cluster_id: String) -> Result<()> {
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
        Ok(())
    }

    /// Make a change. Returns when it is durable and applied here; a refusal is an error.
    pub async fn propose(&self, command: Command) -> Result<Outcome> {
        match &self.log {
            Log::Memory { .. } => {
                let outcome = self.shared.change(|state| apply(state, &command));
                let index = *self.shared.applied().borrow() + 1;
                self.shared.announce(index);
                outcome.into_result()
            }
            Log::Raft { proposer, .. } => {
                let written = tokio::time::timeout(limits::PROPOSE_TIMEOUT, proposer.write(command)).await;
                let written = written.map_err(|_| {
                    Error::timeout("the change found no place in the metadata log in time; it may still take effect")
                })?;
                written.map_err(|error| refused(&error))?.into_result()
            }
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

    /// The id of this frontend in Raft.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Wait until the log cannot go on (its disk is full or broken); the process should then stop.
    pub async fn failed(&self) -> Error {
        let Log::Raft { raft, .. } = &self.log else { return std::future::pending().await };
        let mut metrics = raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return Error::unavailable(format!("the metadata log has stopped: {fatal}"));
            }
            if metrics.changed().await.is_err() {
                return Error::unavailable("the metadata log has stopped");
            }
        }
    }

    /// Take no more changes; what was acknowledged is durable already.
    pub async fn stop(&self) {
        if let Log::Raft { raft, .. } = &self.log
            && let Err(error) = raft.shutdown().await
        {
            tracing::warn!(%error, "the metadata log did not stop cleanly");
        }
    }

    /// Write a snapshot now.
    #[cfg(test)]
    pub(super) async fn snapshot(&self) {
        let Log::Raft { raft, .. } = &self.log else { return };
        let last = raft.metrics().borrow().last_applied;
        raft.trigger().snapshot().await.unwrap();
        let limit = Some(std::time::Duration::from_secs(10));
        raft.wait(limit).metrics(|metrics| metrics.snapshot >= last, "snapshot").await.unwrap();
    }
}

fn settings() -> Result<openraft::Config> {
    let config = openraft::Config {
        cluster_name: "coffer".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 300,
        election_timeout_max: 600,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits::SNAPSHOT_EVERY_ENTRIES),
        max_in_snapshot_log_to_keep: limits::LOG_KEEP_ENTRIES,
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| Error::bug(format!("raft settings: {error}")))
}

/// Become the leader of a cluster of one, with everything in the log applied.
async fn lead(raft: &Raft<TypeConfig>, node_id: NodeId, address: &str) -> Result<()> {
    let stopped = |error: &dyn std::fmt::Display| Error::corrupt(format!("the metadata log cannot be read: {error}"));
    if !raft.is_initialized().await.map_err(|error| stopped(&error))? {
        let members = BTreeMap::from([(node_id, BasicNode::new(address))]);
        raft.initialize(members).await.map_err(|error| stopped(&error))?;
    }
    let leader = raft.wait(Some(limits::ELECTION_TIMEOUT)).current_leader(node_id, "lead").await;
    leader.map_err(|error| Error::unavailable(format!("this frontend could not become the leader: {error}")))?;
    raft.ensure_linearizable().await.map_err(|error| stopped(&error))?;
    // A leader that goes on in its old term is linearizable before it has applied its whole log again.
    let last = raft.metrics().borrow().last_log_index;
    let applied = raft.wait(Some(limits::REPLAY_TIMEOUT)).applied_index_at_least(last, "replay the log").await;
    applied.map_err(|error| Error::timeout(format!("the metadata log was not applied in time: {error}")))?;
    Ok(())
}

/// Turn openraft's metrics into leadership: leading only when everything before is applied.
async fn follow(raft: Raft<TypeConfig>, leadership: watch::Sender<Leadership>) {
    let mut metrics = raft.metrics();
    loop {
        let (term, is_leader) = {
            let now = metrics.borrow_and_update();
            (now.current_term, leads(&now))
        };
        let known = *leadership.borrow();
        let caught_up =
            is_leader && (known == Leadership { term, leading: true } || raft.ensure_linearizable().await.is_ok());
        let now = Leadership { term, leading: caught_up };
        if now != known {
            tracing::info!(term, leading = now.leading, "leadership");
            leadership.send_replace(now);
        }
        if metrics.changed().await.is_err() || leadership.is_closed() {
            return;
        }
    }
}

fn leads(metrics: &RaftMetrics<NodeId, BasicNode>) -> bool {
    metrics.running_state.is_ok() && metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id)
}

fn refused(error: &RaftError<NodeId, ClientWriteError<NodeId, BasicNode>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => match &forward.leader_node {
            Some(node) => Error::not_leader(format!("the leader is {}", node.addr)),
            None => Error::unavailable("Node catalog is not ready, please wait for a while."),
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => Error::bug(error.to_string()),
        RaftError::Fatal(fatal) => Error::unavailable(format!("the metadata log has stopped: {fatal}")),
    }
}
