//! From a metadata directory to a running member of the cluster.
//!
//! A directory without an identity becomes a new cluster or, with a helper, a new member of the helper's cluster: the
//! leader gives it the id under which it was added. The only voter of a cluster leads before the start is over; others are
//! found by the leader, which brings them up to date.

use super::core::Core;
use super::election::{Candidate, OverPeers};
use super::figures::bound_log_bytes;
use super::handle::Meta;
use super::hearing::Hearing;
use super::home::{Found, Fresh, Home};
use super::leadership::{self, Leadership};
use super::log::LogStore;
use super::machine::Machine;
use super::network::Network;
use super::peers::{self, Peers};
use super::types::{NodeId, TypeConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use coffer_proto::v1;
use openraft::{BasicNode, ChangeMembers, Raft, SnapshotPolicy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a frontend says of itself.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Where the metadata lies.
    pub dir: PathBuf,
    /// "host:port" under which others reach its gRPC service.
    pub address: String,
    /// gRPC address of a frontend of the cluster to join, for the first start.
    pub helper: Option<String>,
    /// Port of the MySQL service.
    pub mysql_port: u16,
    /// Port of the HTTP service.
    pub http_port: u16,
    /// When the process started, milliseconds since the epoch.
    pub started_ms: u64,
}

/// Open the directory and take part.
pub(super) async fn open(opening: Opening) -> Result<Meta> {
    let dir = opening.dir.clone();
    let home = Arc::new(match Home::find(&dir)? {
        Found::Known(home) => {
            if let Some(helper) = &opening.helper {
                same_cluster(&home, helper, &dir).await?;
            }
            home
        }
        Found::Fresh(fresh) => match &opening.helper {
            None => fresh.found()?,
            Some(helper) => join(fresh, helper, &opening.address).await?,
        },
    });
    let machine = Machine::open(&home.snapshot())?;
    let log = LogStore::open(&home.log())?;
    home.check_log(log.is_empty())?;
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
    let peers = Peers::new(home.identity.cluster_id.clone(), node_id);
    let network = Network { peers: peers.clone() };
    let raft = Raft::new(node_id, Arc::new(settings()?), network, log, machine)
        .await
        .map_err(|error| Error::corrupt(format!("open the metadata in {}: {error}", dir.display())))?;
    tokio::spawn(bound_log_bytes(raft.clone(), counters));
    let (sender, leadership) = watch::channel(Leadership::default());
    if home.is_new()? {
        tokio::spawn(settle(raft.clone(), Arc::clone(&home)));
    }
    let hearing = Hearing::new();
    let ask = OverPeers { peers: peers.clone(), address: opening.address.clone() };
    tokio::spawn(Candidate { raft: raft.clone(), hearing: hearing.clone(), ask }.run());
    let core = Core { raft, shared, leadership, peers, node_id, home, hearing };
    let alone = start(&core, &opening.address).await?;
    tokio::spawn(leadership::follow(core.raft.clone(), sender));
    let meta = Meta::over(core.clone(), opening.clone());
    if alone {
        let mut leading = meta.leadership();
        leading.wait_for(|now| now.leading).await.map_err(|_| Error::bug("nobody follows the leadership"))?;
        meta.bootstrap(&dir, core.home.identity.cluster_id.clone(), &opening.address).await?;
    }
    Ok(meta)
}

/// A directory that belongs to a cluster already joins no other. A helper that does not answer is no reason not to start: it
/// was needed for the first start only.
async fn same_cluster(home: &Home, helper: &str, dir: &Path) -> Result<()> {
    let peers = Peers::new(home.identity.cluster_id.clone(), home.identity.node_id);
    match peers.status(helper, limits::STATUS_WITHIN).await {
        Err(error) if error.kind() == ErrorKind::Conflict => Err(Error::conflict(format!(
            "metadata directory {} cannot join the cluster of the helper: {error}. To join it, empty the directory; to stay, \
             start without a helper",
            dir.display()
        ))),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Record that the log is no more empty, once something of it was applied.
async fn settle(raft: Raft<TypeConfig>, home: Arc<Home>) {
    if raft.wait(None).applied_index_at_least(Some(1), "the first entries").await.is_ok()
        && let Err(error) = home.settled()
    {
        tracing::warn!(%error, "the metadata directory still counts as new");
    }
}

/// Ask the helper who this is, again while nobody answers.
async fn join(fresh: Fresh, helper: &str, address: &str) -> Result<Home> {
    let deadline = Instant::now() + limits::JOIN_WITHIN;
    let token = fresh.token()?;
    tracing::info!(helper, address, "joining a cluster");
    loop {
        let request = v1::JoinRequest { address: address.to_owned(), passed_on: false, token: token.clone() };
        match peers::ask_to_join(helper, request, limits::LEADER_WAIT).await {
            Ok(reply) => {
                tracing::info!(cluster_id = reply.cluster_id, node_id = reply.node_id, "joined");
                return fresh.belongs_to(reply.cluster_id, reply.node_id);
            }
            Err(error) if error.kind().is_transient() && Instant::now() < deadline => {
                tracing::warn!(helper, %error, "cannot join yet");
                tokio::time::sleep(limits::STATUS_WITHIN).await;
            }
            Err(error) => {
                let text = format!("join the cluster of frontend {helper}: {error}");
                return Err(Error::new(error.kind(), text));
            }
        }
    }
}

fn settings() -> Result<openraft::Config> {
    let ms = |duration: std::time::Duration| duration.as_millis() as u64;
    let config = openraft::Config {
        cluster_name: "coffer".to_owned(),
        // For openraft, how long each message may take; signs of life come more often, from `election`.
        heartbeat_interval: ms(limits::APPEND_WITHIN),
        // Elections are ours (`election`); what is left of these two is how long a vote may take, and the lease of a leader.
        enable_elect: false,
        election_timeout_min: ms(limits::VOTE_WITHIN),
        election_timeout_max: ms(limits::LEADER_LEASE),
        install_snapshot_timeout: ms(limits::SNAPSHOT_PIECE_WITHIN),
        snapshot_max_chunk_size: limits::SNAPSHOT_PIECE_BYTES,
        replication_lag_threshold: limits::MAX_LAG_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits::SNAPSHOT_EVERY_ENTRIES),
        max_in_snapshot_log_to_keep: limits::LOG_KEEP_ENTRIES,
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| Error::bug(format!("raft settings: {error}")))
}

fn stopped(error: &dyn std::fmt::Display) -> Error {
    Error::corrupt(format!("the metadata log cannot be read: {error}"))
}

/// Whether this frontend is the only voter; then it leads when this returns, with everything in the log applied.
async fn start(core: &Core, address: &str) -> Result<bool> {
    let (raft, id) = (&core.raft, core.node_id);
    if !raft.is_initialized().await.map_err(|error| stopped(&error))? {
        if !core.home.is_first() {
            return Ok(false);
        }
        let members = BTreeMap::from([(id, BasicNode::new(address))]);
        raft.initialize(members).await.map_err(|error| stopped(&error))?;
    }
    // Not from the metrics: they follow a moment later.
    let alone = move |state: &openraft::RaftState<_, _, _>| state.membership_state.effective().voter_ids().eq([id]);
    if !raft.with_raft_state(alone).await.map_err(|error| stopped(&error))? {
        check_address(raft, id, address).await?;
        return Ok(false);
    }
    let leader = raft.wait(Some(limits::ELECTION_TIMEOUT)).current_leader(id, "lead").await;
    leader.map_err(|error| Error::unavailable(format!("this frontend could not become the leader: {error}")))?;
    raft.ensure_linearizable().await.map_err(|error| stopped(&error))?;
    // A leader that goes on in its old term is linearizable before it has applied its whole log again.
    let last = raft.metrics().borrow().last_log_index;
    let applied = raft.wait(Some(limits::REPLAY_TIMEOUT)).applied_index_at_least(last, "replay the log").await;
    applied.map_err(|error| Error::timeout(format!("the metadata log was not applied in time: {error}")))?;
    move_to(raft, id, address).await?;
    Ok(true)
}

/// The others reach this frontend where it was added. Elsewhere it would hear no leader.
async fn check_address(raft: &Raft<TypeConfig>, id: NodeId, address: &str) -> Result<()> {
    let known = move |state: &openraft::RaftState<_, _, _>| {
        state.membership_state.effective().membership().get_node(&id).map(|node: &BasicNode| node.addr.clone())
    };
    match raft.with_raft_state(known).await.map_err(|error| stopped(&error))? {
        Some(known) if known != address => Err(Error::invalid(format!(
            "this frontend says it is reached at {address} (options host, grpc_advertise, grpc_listen), but its cluster knows \
             it as {known}: use that address again, or DROP it there, ADD it as {address} and start it with --helper and an \
             empty metadata directory"
        ))),
        _ => Ok(()),
    }
}

/// The only voter may have another address than last time.
async fn move_to(raft: &Raft<TypeConfig>, id: NodeId, address: &str) -> Result<()> {
    let membership = raft.metrics().borrow().membership_config.membership().clone();
    if membership.get_node(&id).is_some_and(|node| node.addr == address) {
        return Ok(());
    }
    let nodes = ChangeMembers::SetNodes(BTreeMap::from([(id, BasicNode::new(address))]));
    raft.change_membership(nodes, true).await.map(drop).map_err(|error| stopped(&error))
}

/// As [`open`] for a new or known cluster of one: `address` is this node's gRPC address.
pub(super) async fn open_alone(dir: &Path, address: &str) -> Result<Meta> {
    open(Opening { dir: dir.to_owned(), address: address.to_owned(), ..Opening::default() }).await
}
