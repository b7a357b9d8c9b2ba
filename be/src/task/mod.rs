//! What tasks are made of, and the small ones that only touch tablets. Tasks of backups and restores are in `snapshot`
//! and `transfer`; `agent` receives, queues and dispatches all of them.

pub mod context;
pub mod discard;
pub mod drop_tablets;
pub mod publish;

pub use context::{ProgressSink, TaskContext};

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

/// The output of tasks that name the tablets they could not do.
pub fn tablets_done(failures: Vec<(u64, Error)>) -> Output {
    let failure =
        |(tablet_id, error): (u64, Error)| v1::TabletFailure { tablet_id, error: Some(status::to_wire(&error)) };
    Output::Tablets(v1::TabletsDone { failures: failures.into_iter().map(failure).collect() })
}
