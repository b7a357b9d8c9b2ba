//! openraft itself over our storage: three frontends in one process, on a network that loses, delays, doubles and cuts off,
//! with frontends that are shut down and opened again from their directories.

use super::log::LogStore;
use super::machine::{Machine, Shared};
use super::types::{NodeId, TypeConfig};
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
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SEEDS: u64 = 2;
const ROUNDS: u64 = 3;
const CHANGES: u64 = 8;
const WITHIN: Duration = Duration::from_secs(60);
/// How long a client asks around, and waits for each answer.
const TRY: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_millis(500);

/// Who is there, and how bad the network is.
struct Net {
    nodes: Mutex<BTreeMap<NodeId, Raft<TypeConfig>>>,
    rng: Mutex<StdRng>,
    cut_off: Mutex<Option<NodeId>>,
    bad: std::sync::atomic::AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    fn lost() -> NetworkError {
        NetworkError::new(&std::io::Error::other("lost"))
    }

    /// The receiver, after some time; how often it gets the message.
    async fn way(&self, from: NodeId, to: NodeId) -> Result<(Raft<TypeConfig>, u32), NetworkError> {
        let (copies, delay) = {
            let mut rng = locked(&self.rng);
            match self.bad.load(std::sync::atomic::Ordering::Relaxed) {
                true => ([0, 1, 1, 1, 1, 1, 1, 1, 2, 2][rng.random_range(0..10)], rng.random_range(0..15)),
                false => (1, 0),
            }
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let cut = locked(&self.cut_off).is_some_and(|node| node == from || node == to);
        let node = locked(&self.nodes).get(&to).cloned();
        match node {
            Some(node) if copies > 0 && !cut => Ok((node, copies)),
            _ => Err(Net::lost()),
        }
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
        let (node, copies) = self.net.way(self.from, self.to).await?;
        for _ in 1..copies {
            drop(node.append_entries(rpc.clone()).await);
        }
        let answer = node.append_entries(rpc).await.map_err(|error| RemoteError::new(self.to, error))?;
        self.net.way(self.to, self.from).await?;
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failed<InstallSnapshotError>> {
        let (node, _) = self.net.way(self.from, self.to).await?;
        let answer = node.install_snapshot(rpc).await.map_err(|error| RemoteError::new(self.to, error))?;
        self.net.way(self.to, self.from).await?;
        Ok(answer)
    }

    async fn vote(&mut self, rpc: VoteRequest<NodeId>, _: RPCOption) -> Result<VoteResponse<NodeId>, Failed> {
        let (node, _) = self.net.way(self.from, self.to).await?;
        Ok(node.vote(rpc).await.map_err(|error| RemoteError::new(self.to, error))?)
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
            cut_off: Mutex::default(),
            bad: false.into(),
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
        locked(&self.net.nodes)[&id].clone()
    }

    async fn start(&mut self, id: NodeId) {
        let dir = self.dirs[id as usize - 1].path();
        let log = open_log(&dir.join("log")).await;
        let machine = Machine::open(&dir.join("snapshot")).unwrap();
        self.shared.insert(id, machine.shared());
        let config = openraft::Config {
            heartbeat_interval: 60,
            election_timeout_min: 200,
            election_timeout_max: 400,
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
        locked(&self.net.nodes).insert(id, raft);
    }

    async fn stop(&mut self, id: NodeId) {
        let node = locked(&self.net.nodes).remove(&id);
        node.unwrap().shutdown().await.unwrap();
    }

    /// One change at whoever leads, until it is acknowledged or the time is over.
    async fn propose(&mut self, name: String) {
        let command = Command::Group(vec![Command::CreateDatabase { name: name.clone() }]);
        let tried = tokio::time::timeout(TRY, async {
            loop {
                // Not in the head of the loop, which would hold the lock throughout.
                let nodes: Vec<_> = locked(&self.net.nodes).values().cloned().collect();
                for node in nodes {
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
        *locked(&self.net.cut_off) = None;
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
            0 => *locked(&cluster.net.cut_off) = Some(id),
            _ => cluster.stop(id).await,
        }
        for number in 0..CHANGES {
            cluster.propose(format!("d_{round}_{number}")).await;
        }
        *locked(&cluster.net.cut_off) = None;
        if round % 3 != 0 {
            cluster.start(id).await;
        }
    }
    cluster.check().await;
    let nodes = std::mem::take(&mut *locked(&cluster.net.nodes));
    for (_, node) in nodes {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_frontends_on_a_bad_network_lose_nothing_acknowledged() {
    for seed in 0..SEEDS {
        run(seed).await;
    }
}
