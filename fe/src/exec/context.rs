//! What statements work with.

use crate::audit::Audit;
use crate::backends::Backends;
use crate::config::Config;
use crate::exec::dynamic::Dynamics;
use crate::exec::processes::Processes;
use crate::job::Jobs;
use crate::load::Loads;
use crate::login::Login;
use crate::query::Engine;
use crate::raft::Meta;
use std::sync::Arc;

/// Handles to everything below; cloned freely.
#[derive(Clone)]
pub struct Context {
    /// The replicated state.
    pub meta: Meta,
    /// Backends and brokers.
    pub backends: Backends,
    /// Load transactions.
    pub loads: Loads,
    /// The query engine.
    pub engine: Engine,
    /// Running jobs.
    pub jobs: Jobs,
    /// Who somebody is.
    pub login: Login,
    /// Who did what.
    pub audit: Audit,
    /// Settings.
    pub config: Arc<Config>,
    /// Tables with dynamic partitions as last looked at.
    pub dynamics: Dynamics,
    /// Open connections.
    pub processes: Processes,
    /// When this process started, milliseconds since the epoch.
    pub started_ms: u64,
}
