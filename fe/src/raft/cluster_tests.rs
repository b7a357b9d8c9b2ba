//! openraft itself over our storage and with our elections: three frontends in one process, on a network that loses, delays,
//! doubles and cuts off, also in one direction, with frontends that are shut down and opened again from their directories.

use super::election::{Ask, Candidate};
use super::hearing::Hearing;
use super::log::LogStore;
use super::machine::{Machine, Shared};
use super::types::{LogId, NodeId, TypeConfig};
use crate::error::{Error, Result as Answered};
use crate::limits;
use crate::meta::apply::apply;
use crate::meta::command::{Command, Outcome};
use crate::meta::state::State;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, Raft, SnapshotPolicy};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SEEDS: u64 = 2;
const ROUNDS: u64 = 3;
const CHANGES: u64 = 8;
const WITHIN: Duration = Duration::from_secs(60);
/// How long a client asks around, and waits for each answer.
const TRY: Duration = Duration::from_secs(6);
const ANSWER: Duration = Duration::from_millis(500);

/// One frontend.
type Node = (Raft<TypeConfig>, Hearing);

/// Who is there, and how bad the network is.
struct Net {
    nodes: Mutex<BTreeMap<NodeId, Node>>,
    rng: Mutex<StdRng>,
    /// Who cannot call whom.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    bad: std::sync::atomic::AtomicBool,
    /// How often each asked for votes in vain.
    refused: Mutex<BTreeMap<NodeId, u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    fn lost() -> NetworkError {
        NetworkError::new(&std::io::Error::other("lost"))
    }

    /// The receiver, after some time; how often it gets the message.
    async fn way(&self, from: NodeId, to: NodeId) -> Result<(Node, u32), NetworkError> {
        let (copies, delay) = {
            let mut rng = locked(&self.rng);
            match self.bad.load(std::sync::atomic::Ordering::Relaxed) {
                true => ([0, 1, 1, 1, 1, 1, 1, 1, 2, 2][rng.random_range(0..10)], rng.random_range(0..15)),
                false => (1, 0),
            }
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let cut = locked(&self.cut).contains(&(from, to));
        let node = locked(&self.nodes).get(&to).cloned();
        match node {
            Some(node) if copies > 0 && !cut => Ok((node, copies)),
            _ => Err(Net::lost()),
        }
    }

    /// Nobody calls it any more, and when `both` it calls nobody.
    fn cut_off(&self, id: NodeId, both: bool) {
        let others = (1..=3).filter(|other| *other != id);
        locked(&self.cut).extend(others.flat_map(|other| [(other, id), (id, if both { other } else { id })]));
    }

    fn heal(&self) {
        locked(&self.cut).clear();
    }
}

/// Asks for votes over the network; who is asked calls back.
struct Asks(Arc<Net>, NodeId);

impl Ask for Asks {
    async fn ask(&self, (voter, _): (NodeId, &str), last: Option<LogId>) -> Answered<()> {
        let Asks(net, own) = self;
        let asked = async {
            let lost = |error: NetworkError| error.to_string();
            let ((raft, hearing), _) = net.way(*own, voter).await.map_err(lost)?;
            hearing.judge(&raft, (*own, last)).map_err(|no| no.to_string())?;
            net.way(voter, *own).await.map(drop).map_err(lost)
        };
        asked.await.map_err(|why| {
            *locked(&net.refused).entry(*own).or_default() += 1;
            Error::conflict(why)
        })
    }
}

struct Factory(Arc<Net>, NodeId);

struct Way {
    net: Arc<Net>,
    from: NodeId,
    to: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Way;

    async fn new_client(&mut self, to: NodeId, _: &BasicNode) -> Way {
        Way { net: Arc::clone(&self.0), from: self.1, to }
    }
}

type Failed<E = openraft::error::Infallible> = RPCError<NodeId, BasicNode, RaftError<NodeId, E>>;

impl RaftNetwork<TypeConfig> for Way {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failed> {
        let ((node, hearing), copies) = self.net.way(self.from, self.to).await?;
        hearing.word(&node, &rpc.vote);
        for _ in 1..copies {
            drop(node.append_entries(rpc.clone()).await);
        }
        let answer = node.append_entries(rpc).await.map_err(|error| RemoteError::new(self.to, error))?;
        // The answer comes the way of the call.
        self.net.way(self.from, self.to).await?;
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failed<InstallSnapshotError>> {
        let ((node, hearing), _) = self.net.way(self.from, self.to).await?;
        hearing.word(&node, &rpc.vote);
        let answer = node.install_snapshot(rpc).await.map_err(|error| RemoteError::new(self.to, error))?;
        self.net.way(self.from, self.to).await?;
        Ok(answer)
    }

    async fn vote(&mut self, rpc: VoteRequest<NodeId>, _: RPCOption) -> Result<VoteResponse<NodeId>, Failed> {
        let ((node, hearing), _) = self.net.way(self.from, self.to).await?;
        let candidate = rpc.vote.leader_id().voted_for();
        let answer = node.vote(rpc).await.map_err(|error| RemoteError::new(self.to, error))?;
        hearing.voted(candidate.filter(|_| answer.vote_granted));
        Ok(answer)
    }
}

struct Cluster {
    net: Arc<Net>,
    dirs: Vec<tempfile::TempDir>,
    shared: BTreeMap<NodeId, Arc<Shared>>,
    acknowledged: Vec<String>,
}

async fn open_log(dir: &Path) -> LogStore {
    let opened = tokio::time::timeout(WITHIN, async {
        loop {
            match LogStore::open(dir) {
                // The writer of the one that was shut down lets go a moment later.
                Err(error) if error.kind() == crate::error::ErrorKind::Conflict => tokio::task::yield_now().await,
                other => return other.unwrap(),
            }
        }
    });
    opened.await.expect("the log of a frontend that was shut down stays locked")
}

impl Cluster {
    async fn new(seed: u64) -> Cluster {
        let net = Net {
            nodes: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            cut: Mutex::default(),
            bad: false.into(),
            refused: Mutex::default(),
        };
        let dirs = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut cluster = Cluster { net: Arc::new(net), dirs, shared: BTreeMap::new(), acknowledged: Vec::new() };
        for id in 1..=3 {
            cluster.start(id).await;
        }
        let members: BTreeMap<NodeId, BasicNode> = (1..=3).map(|id| (id, BasicNode::new("in memory"))).collect();
        let first = cluster.node(1);
        first.initialize(members).await.unwrap();
        cluster
    }

    fn node(&self, id: NodeId) -> Raft<TypeConfig> {
        locked(&self.net.nodes)[&id].0.clone()
    }

    async fn start(&mut self, id: NodeId) {
        let dir = self.dirs[id as usize - 1].path();
        let log = open_log(&dir.join("log")).await;
        let machine = Machine::open(&dir.join("snapshot")).unwrap();
        self.shared.insert(id, machine.shared());
        let config = openraft::Config {
            heartbeat_interval: 60,
            enable_elect: false,
            election_timeout_min: limits::VOTE_WITHIN.as_millis() as u64,
            election_timeout_max: limits::LEADER_LEASE.as_millis() as u64,
            install_snapshot_timeout: 10_000,
            // Small, so that snapshots go in many pieces and logs are purged all the time.
            snapshot_max_chunk_size: 512,
            replication_lag_threshold: 5,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(10),
            max_in_snapshot_log_to_keep: 3,
            ..openraft::Config::default()
        };
        let config = Arc::new(config.validate().unwrap());
        let raft = Raft::new(id, config, Factory(Arc::clone(&self.net), id), log, machine).await.unwrap();
        let hearing = Hearing::new();
        let ask = Asks(Arc::clone(&self.net), id);
        tokio::spawn(Candidate { raft: raft.clone(), hearing: hearing.clone(), ask }.run());
        locked(&self.net.nodes).insert(id, (raft, hearing));
    }

    async fn stop(&mut self, id: NodeId) {
        let node = locked(&self.net.nodes).remove(&id);
        node.unwrap().0.shutdown().await.unwrap();
    }

    /// End all.
    async fn end(self) {
        let nodes = std::mem::take(&mut *locked(&self.net.nodes));
        for (_, (node, _)) in nodes {
            node.shutdown().await.unwrap();
        }
    }

    /// Who leads in which term, as soon as everybody agrees.
    async fn leader(&self) -> (NodeId, u64) {
        let agreed = tokio::time::timeout(WITHIN, async {
            loop {
                let seen: BTreeSet<_> = (1..=3)
                    .map(|id| {
                        let metrics = self.node(id).metrics().borrow().clone();
                        (metrics.current_leader, metrics.current_term)
                    })
                    .collect();
                match (seen.len(), seen.first()) {
                    (1, Some((Some(leader), term))) => return (*leader, *term),
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        agreed.await.expect("the frontends do not agree who leads")
    }

    /// Wait until a frontend asked so often for votes in vain from now on.
    async fn refused(&self, id: NodeId, times: u64) {
        let refused = || locked(&self.net.refused).get(&id).copied().unwrap_or(0);
        let wanted = refused() + times;
        let waited = tokio::time::timeout(WITHIN, async {
            while refused() < wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waited.await.expect("it does not ask");
    }

    /// One change at whoever leads, until it is acknowledged or the time is over.
    async fn propose(&mut self, name: String) {
        let command = Command::Group(vec![Command::CreateDatabase { name: name.clone() }]);
        let tried = tokio::time::timeout(TRY, async {
            loop {
                // Not in the head of the loop, which would hold the lock throughout.
                let nodes: Vec<_> = locked(&self.net.nodes).values().cloned().collect();
                for (node, _) in nodes {
                    match tokio::time::timeout(ANSWER, node.client_write(command.clone())).await {
                        Ok(Ok(answer)) => return answer.data,
                        Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        });
        // A name that is there already was made by a try whose answer was lost.
        if let Ok(outcome) = tried.await {
            assert!(matches!(outcome, Outcome::Group(_)), "{outcome:?}");
            self.acknowledged.push(name);
        }
    }

    /// With a good network again: everybody has the same, and all that was acknowledged.
    async fn check(&mut self) {
        self.net.bad.store(false, std::sync::atomic::Ordering::Relaxed);
        self.net.heal();
        let deadline = tokio::time::Instant::now() + WITHIN;
        while self.acknowledged.last().is_none_or(|name| name != "last") {
            assert!(tokio::time::Instant::now() < deadline, "nobody leads");
            self.propose("last".to_owned()).await;
        }
        let settled = tokio::time::timeout(WITHIN, async {
            loop {
                let states: Vec<State> = self.shared.values().map(|shared| shared.view(State::clone)).collect();
                let last = |state: &State| state.databases.values().any(|database| database.name == "last");
                if states.iter().all(last) && states.windows(2).all(|two| two[0] == two[1]) {
                    return states[0].clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let state = settled.await.expect("the frontends do not become equal");
        for name in &self.acknowledged {
            assert!(
                state.databases.values().any(|database| database.name == *name),
                "{name} was acknowledged and is gone"
            );
        }
        // A state made by other means than by this cluster has another next id.
        let mut again = State::default();
        for database in state.databases.values() {
            apply(&mut again, &Command::CreateDatabase { name: database.name.clone() });
        }
        assert_eq!(again, state);
    }
}

async fn run(seed: u64) {
    let mut cluster = Cluster::new(seed).await;
    let mut rng = StdRng::seed_from_u64(!seed);
    cluster.propose("first".to_owned()).await;
    cluster.net.bad.store(true, std::sync::atomic::Ordering::Relaxed);
    for round in 0..ROUNDS {
        let id = rng.random_range(1..=3);
        match round % 3 {
            0 => cluster.net.cut_off(id, rng.random_bool(0.5)),
            _ => cluster.stop(id).await,
        }
        for number in 0..CHANGES {
            cluster.propose(format!("d_{round}_{number}")).await;
        }
        cluster.net.heal();
        if round % 3 != 0 {
            cluster.start(id).await;
        }
    }
    cluster.check().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_frontends_on_a_bad_network_lose_nothing_acknowledged() {
    for seed in 0..SEEDS {
        run(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_reached_or_cut_off_for_long_neither_leads_nor_disturbs() {
    let mut cluster = Cluster::new(7).await;
    cluster.propose("first".to_owned()).await;
    let before = cluster.leader().await;
    let lonely = (1..=3).find(|id| *id != before.0).unwrap();
    for both in [false, true] {
        cluster.net.cut_off(lonely, both);
        // It has asked everybody again and again.
        cluster.refused(lonely, 30).await;
        cluster.propose(format!("while_{both}")).await;
        cluster.net.heal();
        cluster.propose(format!("after_{both}")).await;
        assert_eq!(cluster.leader().await, before, "both: {both}");
    }
    // Without the leader, only the other one can lead, and only when somebody answers it.
    cluster.net.cut_off(lonely, false);
    cluster.stop(before.0).await;
    cluster.refused(lonely, 30).await;
    let term = cluster.node(lonely).metrics().borrow().current_term;
    assert_eq!(term, before.1);
    cluster.start(before.0).await;
    cluster.propose("last_but_one".to_owned()).await;
    let (leader, _) = tokio::time::timeout(WITHIN, async {
        loop {
            let seen = cluster.node(before.0).metrics().borrow().clone();
            match seen.current_leader {
                Some(leader) => return (leader, seen.current_term),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
    .expect("nobody leads");
    assert_ne!(leader, lonely);
    cluster.check().await;
    cluster.end().await;
}
