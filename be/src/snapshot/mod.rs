//! What jobs own on this backend's disks: the snapshots of backups (`snapshot/<job>/<tablet>/`, hard links and a copy of
//! the meta) and the tablets of restores that are not in force yet (`restore/<job>/<tablet>/`).
//!
//! A tablet's directory is made under a name that ends in `.tmp` and renamed when all of it is durable, so a directory
//! without that ending is whole. A crash leaves `.tmp` directories; repeating the task replaces them. Everything of a job
//! goes away with [`release`]; a backend that restarts reports the [`jobs`] it still holds something of, and the leader
//! releases those that ended meanwhile.

pub mod make;
pub mod release;

use crate::tablet::TabletStore;
use crate::tablet::layout::{DirLayout, parse_id};
use coffer_stdx::Result;
use coffer_stdx::error::Context;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Ending of a tablet's directory that is not whole yet.
const TMP_SUFFIX: &str = "tmp";

/// The backup and restore jobs that own directories here.
pub fn jobs(store: &TabletStore) -> Vec<u64> {
    let mut jobs = BTreeSet::new();
    for layout in store.layouts() {
        for folder in [layout.snapshots(), layout.restores()] {
            match names(&folder) {
                Ok(names) => jobs.extend(names.iter().filter_map(|path| path.file_name().and_then(parse_id))),
                Err(error) => tracing::warn!(%error, "jobs on this disk are not known"),
            }
        }
    }
    jobs.into_iter().collect()
}

/// The entries of a directory; none when it does not exist.
fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| format!("list {}", folder.display())),
    };
    entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>().context(|| format!("list {}", folder.display()))
}

/// The first data directory in which `path_in` exists, and that path.
pub(crate) fn find_in(store: &TabletStore, path_in: impl Fn(&DirLayout) -> PathBuf) -> Result<Option<(DirLayout, PathBuf)>> {
    for layout in store.layouts() {
        let path = path_in(&layout);
        if path.try_exists().context(|| format!("look at {}", path.display()))? {
            return Ok(Some((layout, path)));
        }
    }
    Ok(None)
}

/// Where a directory is made before it gets its name.
pub(crate) fn tmp(path: &Path) -> PathBuf {
    path.with_extension(TMP_SUFFIX)
}
