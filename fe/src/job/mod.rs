//! Backup and restore jobs on the leader.
//!
//! A job is its record in the replicated state; everything else here can be lost. [`backup`] and [`restore`] decide what
//! to do next from the record, a [`memory`] and [`facts`] (pure); `driver` asks them after every event and carries out
//! the answer, `runner` does the tasks. Each state is a log entry of its own before its tasks run; every task may be
//! repeated; a late driver's proposal names the state it was made in and is refused when that has passed.
//!
//! Modules, bottom to top: `action`, `facts`, `clock`, `placement`, `hold`, `rate` | `verdict` | `memory` | `common` | `lost` | `backup`,
//! `restore`, `snapshot`, `progress`, `contents` | `runner` | `driver`.

pub mod action;
pub mod backup;
mod clock;
mod common;
mod contents;
#[cfg(test)]
mod drill;
mod driver;
pub mod facts;
mod hold;
mod lost;
pub mod memory;
mod placement;
pub mod progress;
mod rate;
pub mod restore;
mod runner;
#[cfg(test)]
mod scale_tests;
pub mod snapshot;
mod verdict;

pub use progress::{JobProgress, TaskProgress};

use crate::backends::Backends;
use crate::config::Config;
use crate::raft::Meta;
use coffer_proto::ids::JobId;
use coffer_stdx::shutdown::Shutdown;
use contents::Contents;
use progress::ProgressBoard;
use runner::Runner;
use std::sync::Arc;

/// The handle that statements use; cloned freely.
#[derive(Clone, Debug, Default)]
pub struct Jobs {
    board: ProgressBoard,
}

/// Drive all jobs while this frontend leads; ends with `shutdown`.
pub fn start(meta: Meta, backends: Backends, config: Arc<Config>, shutdown: Shutdown) -> Jobs {
    let board = ProgressBoard::default();
    let runner = Runner {
        meta,
        backends,
        config,
        board: board.clone(),
        contents: Contents::default(),
        clock: clock::Clock::start(),
    };
    shutdown.spawn(driver::supervise(runner, shutdown.clone()));
    Jobs { board }
}

impl Jobs {
    /// How a job gets on; `None` when it does not run here.
    pub fn progress(&self, job: JobId) -> Option<JobProgress> {
        self.board.job(job)
    }
}
