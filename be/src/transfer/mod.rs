//! Moving tablets between this backend's disks and a repository, in streams with bounded memory.
//!
//! Backup: [`upload`]. Restore: [`prepare`], [`download`], [`activate`]. Every task may be repeated; none touches a
//! tablet that is in force, except that `activate` puts new ones there.

pub mod activate;
pub mod download;
mod limits;
pub mod plan;
pub mod prepare;
mod receive;
mod source;
#[cfg(test)]
mod tests;
pub mod upload;

use crate::snapshot::RunId;
use crate::task::context::TaskContext;
use coffer_proto::v1;
use coffer_repo::Repository;
use coffer_stdx::fsx::TMP_SUFFIX;
use coffer_stdx::{Error, Result};
use coffer_store::LocalAccess;
use std::path::Path;

/// Open the repository that a task names.
async fn open(ctx: &TaskContext, storage: Option<&v1::StorageSpec>, name: &str) -> Result<Repository> {
    let storage = storage.ok_or_else(|| Error::bug(format!("task {} has no storage", ctx.id)))?;
    let access = LocalAccess { roots: ctx.config.local_roots.clone(), conf_dir: ctx.config.conf_dir.clone() };
    Repository::open(coffer_store::open(storage, &access)?, name).await
}

/// Run file work off the async threads. `what` names it in the error of a panic.
async fn blocking<T: Send + 'static>(what: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::bug(format!("{what}: {error}")))?
}

/// The id that starts the name of a temporary directory, whichever run made it.
fn parse_tmp(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(TMP_SUFFIX)?.strip_suffix('.')?;
    name.split_once('-')?.0.parse().ok()
}

/// `work`, unless the task is cancelled first; then it is dropped, which aborts what it has under way.
async fn or_cancelled<T>(ctx: &TaskContext, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(ctx.cancelled()),
        outcome = work => outcome,
    }
}
