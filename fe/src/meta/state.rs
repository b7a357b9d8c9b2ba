//! Everything that survives a restart, in one struct. Changed only by `apply`.

use crate::account::{Role, User};
use crate::catalog::bin::BinEntry;
use crate::catalog::cluster::{Backend, BrokerGroup, Frontend, Repository};
use crate::catalog::database::Database;
use crate::catalog::job::{BackupJob, RestoreJob};
use crate::catalog::map::Map;
use crate::catalog::transaction::Transaction;
use crate::meta::requests::Requests;
use coffer_proto::ids::{BackendId, DbId, JobId, RepositoryId, TransactionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The replicated state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Set once by `Command::Bootstrap`; empty before.
    pub cluster_id: String,
    /// The next id; ids are never used twice.
    pub next_id: u64,
    /// By id; names are unique, case-sensitive.
    pub databases: Map<DbId, Database>,
    /// By id in Raft.
    #[serde(default)]
    pub frontends: BTreeMap<u64, Frontend>,
    /// The next id of a frontend; ids are never used twice.
    #[serde(default)]
    pub next_frontend: u64,
    /// What statements that may be sent again were answered.
    #[serde(default, skip_serializing_if = "Requests::is_empty")]
    pub requests: Requests,
    /// By id.
    pub backends: BTreeMap<BackendId, Backend>,
    /// By name.
    pub brokers: BTreeMap<String, BrokerGroup>,
    /// By id; names are unique.
    pub repositories: BTreeMap<RepositoryId, Repository>,
    /// By the key of the account: `eve`, or `eve@10.%` where the host is not any.
    pub users: BTreeMap<String, User>,
    /// By name, without those that are built in.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
    /// By id; old ones are purged.
    pub transactions: Map<TransactionId, Transaction>,
    /// By id; the last few per database are kept when ended.
    pub backups: Map<JobId, BackupJob>,
    /// By id; the last few per database are kept when ended.
    pub restores: Map<JobId, RestoreJob>,
    /// What was dropped and can be brought back, by the id it had.
    #[serde(default)]
    pub bin: Map<u64, BinEntry>,
}

/// The first id given; below it there is room for ids that are not of this state.
pub const FIRST_ID: u64 = 10_001;

impl Default for State {
    fn default() -> State {
        State {
            cluster_id: String::new(),
            next_id: FIRST_ID,
            databases: Map::new(),
            frontends: BTreeMap::new(),
            next_frontend: 0,
            requests: Requests::default(),
            backends: BTreeMap::new(),
            brokers: BTreeMap::new(),
            repositories: BTreeMap::new(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            transactions: Map::new(),
            backups: Map::new(),
            restores: Map::new(),
            bin: Map::new(),
        }
    }
}

impl State {
    /// A new id.
    pub(in crate::meta) fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
