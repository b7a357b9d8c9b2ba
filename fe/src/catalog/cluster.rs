//! The machines of the cluster, the repositories it knows, and its users.

pub use crate::account::User;
use crate::catalog::rate::RateLimits;
use coffer_proto::ids::{BackendId, RepositoryId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A backend as added; what it reports lives in memory of the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Id.
    pub id: BackendId,
    /// Host as written in ALTER SYSTEM.
    pub host: String,
    /// gRPC port.
    pub port: u16,
    /// Milliseconds since the epoch.
    pub added_ms: u64,
    /// Its replicas move to others, and then it leaves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decommissioned: bool,
}

impl Backend {
    /// "host:port".
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A frontend as added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontend {
    /// Id in Raft; never used again.
    pub id: u64,
    /// Host as written in ALTER SYSTEM.
    pub host: String,
    /// gRPC port.
    pub port: u16,
    /// Follows without a vote.
    pub observer: bool,
    /// Milliseconds since the epoch.
    pub added_ms: u64,
    /// What the process that joined under this id keeps in its metadata directory; `None` before it joined. Another one
    /// must not take the id: the votes of the first would be forgotten.
    pub token: Option<String>,
}

impl Frontend {
    /// "host:port".
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// FOLLOWER or OBSERVER.
    pub fn role(&self) -> &'static str {
        if self.observer { "OBSERVER" } else { "FOLLOWER" }
    }
}

/// The brokers under one name, "host:port" each, in the order added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BrokerGroup {
    /// Addresses.
    pub addresses: Vec<String>,
    /// How fast bytes may pass one of them, over all repositories, by address.
    #[serde(default)]
    pub limits: BTreeMap<String, RateLimits>,
}

/// A repository.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Id.
    pub id: RepositoryId,
    /// Name in this cluster.
    pub name: String,
    /// Name in the storage path; another cluster may have attached it under another.
    pub remote_name: String,
    /// READ ONLY.
    pub read_only: bool,
    /// How it is reached.
    pub access: Access,
    /// ON LOCATION.
    pub location: String,
    /// With secrets: never print, use `coffer_stdx::secret::masked`.
    pub properties: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// How fast bytes may pass, all processes together; `None` when that was never limited.
    #[serde(default)]
    pub limits: Option<RateLimits>,
}

/// Secrets stay out.
impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("name", &self.name).field("location", &self.location).finish_non_exhaustive()
    }
}

/// WITH BROKER name, or the storage directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Through brokers of this name.
    Broker(String),
    /// S3 in process.
    S3,
    /// HDFS in process.
    Hdfs,
    /// A directory in process.
    Local,
}
