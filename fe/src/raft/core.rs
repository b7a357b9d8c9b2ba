//! What the parts of this folder share: Raft, the state, who leads, the way to other frontends.

use super::hearing::Hearing;
use super::home::Home;
use super::leadership::Leadership;
use super::machine::Shared;
use super::peers::Peers;
use super::types::{NodeId, TypeConfig};
use crate::error::{Error, Result};
use crate::limits;
use openraft::Raft;
use openraft::error::{CheckIsLeaderError, RaftError};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Handles; clones share everything. The metadata directory stays locked as long as anybody has one.
#[derive(Clone)]
pub(super) struct Core {
    pub(super) raft: Raft<TypeConfig>,
    pub(super) shared: Arc<Shared>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) peers: Peers,
    pub(super) node_id: NodeId,
    pub(super) home: Arc<Home>,
    pub(super) hearing: Hearing,
}

impl Core {
    /// Id and address of the leader, as far as known; it may be gone already. One that was silent for long is none.
    pub(super) fn leader(&self) -> Option<(NodeId, String)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let id = metrics.current_leader?;
        if id != self.node_id && self.hearing.silent() >= limits::STEP_DOWN_AFTER {
            return None;
        }
        let node = metrics.membership_config.membership().get_node(&id)?;
        Some((id, node.addr.clone()))
    }

    /// Up to where a read that begins now must have applied the log. One try.
    pub(super) async fn read_index(&self) -> Result<u64> {
        if self.leadership.borrow().leading {
            return self.own_read_index().await;
        }
        match self.leader() {
            Some((id, address)) if id != self.node_id => {
                self.peers.barrier((id, &address), limits::BARRIER_WITHIN).await
            }
            _ => Err(Error::not_leader("no frontend leads")),
        }
    }

    /// The same at the leader.
    pub(super) async fn own_read_index(&self) -> Result<u64> {
        if !self.leadership.borrow().leading {
            return Err(Error::not_leader("this frontend does not lead"));
        }
        let confirmed = tokio::time::timeout(limits::BARRIER_WITHIN, self.raft.get_read_log_id()).await;
        let confirmed = confirmed.map_err(|_| Error::timeout("a majority of the frontends does not answer in time"))?;
        match confirmed {
            Ok((read, _)) => Ok(read.map_or(0, |read| read.index)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => {
                Err(Error::not_leader("this frontend does not lead any more"))
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(Error::unavailable("a majority of the frontends does not answer"))
            }
            Err(RaftError::Fatal(fatal)) => Err(Error::unavailable(format!("the metadata log has stopped: {fatal}"))),
        }
    }

    /// Wait until the log is applied here up to `index`.
    pub(super) async fn applied(&self, index: u64, deadline: Instant) -> Result<()> {
        let mut applied = self.shared.applied();
        let reached = tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::unavailable("the metadata log has stopped")),
            Err(_) => Err(Error::timeout(format!(
                "this frontend is behind: it has not applied entry {index} of the metadata log in time; try another \
                 frontend, or SET enable_strong_consistency_read = 0 to read what it has"
            ))),
        }
    }
}
