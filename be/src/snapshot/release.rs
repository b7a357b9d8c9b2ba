//! Remove everything a job owns here. Missing is fine, so repeating it is too; a crash in the middle leaves some of it,
//! which the next start reports as a job that still owns something.

use crate::tablet::TabletStore;
use crate::task::context::TaskContext;
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::{Error, Result, fsx};
use std::sync::Arc;

/// Run the task.
pub async fn run(ctx: &TaskContext, work: v1::ReleaseJob) -> Result<Output> {
    let store = Arc::clone(&ctx.store);
    let removed = tokio::task::spawn_blocking(move || remove(&store, work.job_id)).await;
    removed.map_err(|error| Error::bug(format!("release of job {}: {error}", work.job_id)))??;
    Ok(Output::Tablets(v1::TabletsDone::default()))
}

/// All data directories are tried; the first error is returned.
fn remove(store: &TabletStore, job: u64) -> Result<()> {
    let mut outcome = Ok(());
    for disk in store.disks() {
        let layout = disk.layout();
        for path in [layout.snapshot_job(job), layout.restore_job(job)] {
            outcome = outcome.and(fsx::remove(&path));
        }
    }
    outcome
}
