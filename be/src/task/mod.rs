//! What tasks are made of, and the small ones that only touch tablets. Tasks of backups and restores are in `snapshot`
//! and `transfer`; `agent` receives, queues and dispatches all of them.

pub mod clean_trash;
pub mod context;
pub mod discard;
pub mod drop_tablets;
pub mod publish;

pub use context::{ProgressSink, TaskContext};

use crate::tablet::Tablet;
use coffer_proto::v1::task_result::Output;
use coffer_proto::{status, v1};
use coffer_stdx::{Error, Result};

/// Run file work off the async threads. A panic there is a Bug.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::bug("a file operation panicked; see the log")),
        Err(_) => Err(Error::cancelled("this backend stops")),
    }
}

/// How a tablet is, for the leader.
pub fn stat(tablet: &Tablet) -> v1::TabletStat {
    let meta = tablet.meta();
    v1::TabletStat {
        tablet_id: tablet.id(),
        version: meta.version,
        rows: meta.rows(),
        bytes: meta.bytes(),
        version_count: meta.rowsets.len() as u32,
        path: tablet.dir().display().to_string(),
        bad: false,
    }
}

/// The output of tasks that name the tablets they could not do.
pub fn tablets_done(failures: Vec<(u64, Error)>) -> Output {
    changed_tablets(failures, Vec::new())
}

/// As [`tablets_done`], with how tablets are now.
pub fn changed_tablets(failures: Vec<(u64, Error)>, stats: Vec<v1::TabletStat>) -> Output {
    let failure =
        |(tablet_id, error): (u64, Error)| v1::TabletFailure { tablet_id, error: Some(status::to_wire(&error)) };
    Output::Tablets(v1::TabletsDone { failures: failures.into_iter().map(failure).collect(), stats })
}
