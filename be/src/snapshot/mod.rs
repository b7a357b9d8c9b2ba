//! What jobs own on this backend's disks: the snapshots of backups (`snapshot/<job>/<tablet>/`, hard links and a copy of
//! the meta) and the tablets of restores that are not in force yet (`restore/<job>/<tablet>/`).
//!
//! A tablet's directory is made under a name of the run that ends in `.tmp`, and renamed when all of it is durable, so a
//! directory without that ending is whole. A crash leaves `.tmp` directories, which no later run uses. Everything of a
//! job goes away with [`release`]; a backend that restarts reports the jobs it still holds something of
//! ([`TabletStore::jobs`]), and the leader releases those that ended meanwhile.

pub mod make;
pub mod release;

use crate::tablet::layout::DirLayout;
use crate::tablet::{Disk, TabletStore};
use coffer_stdx::error::Context;
use coffer_stdx::fsx::{Batch, TMP_SUFFIX};
use coffer_stdx::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first data directory in which `path_in` exists, and that path.
pub(crate) fn find_in(
    store: &TabletStore,
    path_in: impl Fn(&DirLayout) -> PathBuf,
) -> Result<Option<(Arc<Disk>, PathBuf)>> {
    for disk in store.disks() {
        let path = path_in(disk.layout());
        if path.try_exists().context(|| format!("look at {}", path.display()))? {
            return Ok(Some((disk.clone(), path)));
        }
    }
    Ok(None)
}

/// Makes names that are only this run's: a run that was cancelled may have file work going on for a moment, which must
/// not meet that of the next run of the same task.
#[derive(Debug, Clone)]
pub(crate) struct RunId(String);

impl RunId {
    pub(crate) fn new() -> RunId {
        RunId(uuid::Uuid::new_v4().simple().to_string())
    }

    /// `<path>-<run>.tmp`.
    pub(crate) fn tmp(&self, path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{}.{TMP_SUFFIX}", self.0));
        PathBuf::from(name)
    }
}

/// Give everything its name, with two syncs per data directory; all of them at the same time.
pub(crate) async fn commit(batches: BTreeMap<PathBuf, Batch>) -> Result<()> {
    let commits = batches.into_iter().map(|(root, batch)| async move {
        tokio::task::spawn_blocking(move || batch.commit(&root))
            .await
            .map_err(|error| Error::bug(format!("commit of directories: {error}")))?
    });
    futures::future::try_join_all(commits).await.map(|_| ())
}
