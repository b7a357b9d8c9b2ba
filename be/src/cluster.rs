//! What this backend knows of its cluster: who leads, at which term, and where frontend and other backends answer.
//!
//! All of it comes with the leader's Hello, and so do the limits of repositories that are reached without a broker; those
//! are felt by tasks that run already. Cluster id and term are made durable before a Hello counts, so a backend
//! never serves two clusters and never obeys a leader older than one it has seen, also across restarts.

use crate::sync;
use crate::tablet::TabletStore;
use coffer_proto::channel;
use coffer_proto::v1;
use coffer_stdx::{Error, Result};
use coffer_store::rate::Limits;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use tonic::transport::Channel;

/// The cluster as seen from here.
#[derive(Debug)]
pub struct Cluster {
    store: Arc<TabletStore>,
    greeting: Mutex<()>,
    state: RwLock<State>,
    channels: Mutex<HashMap<String, Channel>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    term: u64,
    leader: Option<Leader>,
}

/// What the last Hello said.
#[derive(Debug, Clone)]
pub struct Leader {
    /// The cluster's id.
    pub cluster_id: String,
    /// This backend's id in it.
    pub backend_id: u64,
    /// gRPC address of the leading frontend.
    pub frontend: String,
    /// gRPC addresses of all backends.
    pub backends: HashMap<u64, String>,
}

impl Cluster {
    /// Knows only the term so far. Blocking.
    pub fn new(store: Arc<TabletStore>) -> Result<Arc<Cluster>> {
        let state = State { term: store.leader_term()?, leader: None };
        Ok(Arc::new(Cluster {
            store,
            greeting: Mutex::default(),
            state: RwLock::new(state),
            channels: Mutex::default(),
        }))
    }

    /// Take a leader's Hello, or say why not: foreign cluster (Conflict), older term (NotLeader). Blocking.
    pub fn greet(&self, hello: &v1::Hello) -> Result<()> {
        let _one_at_a_time = sync::lock(&self.greeting);
        if hello.cluster_id.is_empty() || hello.heartbeat_ms == 0 {
            return Err(Error::invalid("Hello without a cluster id or a heartbeat interval"));
        }
        self.store.join_cluster(&hello.cluster_id)?;
        self.check_term(hello.term)?;
        if hello.term > self.term() {
            self.store.set_leader_term(hello.term)?;
        }
        let backends: HashMap<u64, String> =
            hello.backends.iter().map(|backend| (backend.backend_id, backend.grpc.clone())).collect();
        sync::lock(&self.channels)
            .retain(|address, _| *address == hello.frontend || backends.values().any(|backend| backend == address));
        let leader = Leader {
            cluster_id: hello.cluster_id.clone(),
            backend_id: hello.backend_id,
            frontend: hello.frontend.clone(),
            backends,
        };
        *sync::write(&self.state) = State { term: hello.term, leader: Some(leader) };
        for limit in &hello.limits {
            Limits::of_process().learn(limit);
        }
        Ok(())
    }

    /// The highest term of a leader seen so far.
    pub fn term(&self) -> u64 {
        sync::read(&self.state).term
    }

    /// Refuse what an older leader says.
    pub fn check_term(&self, term: u64) -> Result<()> {
        let highest = self.term();
        if term < highest {
            return Err(Error::not_leader(format!("term {term} is over, a leader of term {highest} was here")));
        }
        Ok(())
    }

    /// What the last Hello said; Unavailable before the first.
    pub fn leader(&self) -> Result<Leader> {
        sync::read(&self.state).leader.clone().ok_or_else(|| {
            Error::unavailable(
                "no leading frontend has greeted this backend yet; was it added with ALTER SYSTEM ADD BACKEND?",
            )
        })
    }

    /// The channel to an address, opened on first use.
    pub fn channel(&self, address: &str) -> Result<Channel> {
        let mut channels = sync::lock(&self.channels);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = channel::connect(address)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn hello(cluster: &str, term: u64) -> v1::Hello {
        v1::Hello {
            cluster_id: cluster.to_owned(),
            backend_id: 3,
            term,
            frontend: "f:1".to_owned(),
            heartbeat_ms: 1_000,
            backends: vec![v1::BackendAddress { backend_id: 3, grpc: "b:1".to_owned(), http: "b:2".to_owned() }],
            limits: Vec::new(),
        }
    }

    #[test]
    fn foreign_clusters_and_older_terms_are_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let roots = [dir.path().to_owned()];
        let cluster = Cluster::new(TabletStore::open(&roots).unwrap()).unwrap();
        assert_eq!(cluster.leader().unwrap_err().kind(), ErrorKind::Unavailable);
        cluster.greet(&hello("c", 5)).unwrap();
        assert_eq!(cluster.leader().unwrap().backends[&3], "b:1");
        drop(cluster);
        let cluster = Cluster::new(TabletStore::open(&roots).unwrap()).unwrap();
        assert_eq!(cluster.greet(&hello("c", 4)).unwrap_err().kind(), ErrorKind::NotLeader);
        assert_eq!(cluster.greet(&hello("d", 6)).unwrap_err().kind(), ErrorKind::Conflict);
        cluster.greet(&hello("c", 5)).unwrap();
        assert_eq!(cluster.term(), 5);
    }
}
