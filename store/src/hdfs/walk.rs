//! Listing a tree of folders page by page: memory holds one page per level.
//!
//! A folder whose listing breaks off is begun again and read up to the entry that came last, because hdfs-native cannot
//! go on in the middle. What appears or goes meanwhile may be listed or not.

use super::pool::ANSWER_WITHIN;
use super::{Place, failure};
use crate::{Child, ObjectInfo, path};
use coffer_stdx::{Error, ErrorKind, Result};
use hdfs_native::HdfsError;
use hdfs_native::client::{FileStatus, ListStatusIterator};
use std::sync::Arc;
use std::time::Duration;

/// Times one folder is begun again without an entry in between.
const BREAKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(300);

/// How far down a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Only the folder itself: folders in it are named.
    One,
    /// Everything below; folders are not named.
    All,
}

/// A walk that has got somewhere.
pub(super) struct Walk {
    place: Arc<Place>,
    depth: Depth,
    open: Vec<Level>,
}

struct Level {
    folder: String,
    entries: Arc<ListStatusIterator>,
    last: Option<String>,
    // Entries up to `last` are still to be passed over.
    passing: bool,
    breaks: u32,
}

impl Walk {
    /// At the beginning of a folder, a path in HDFS.
    pub(super) fn start(place: Arc<Place>, folder: String, depth: Depth) -> Walk {
        let mut walk = Walk { place, depth, open: Vec::new() };
        walk.enter(folder);
        walk
    }

    fn entries(&self, folder: &str) -> Arc<ListStatusIterator> {
        let folder = if folder.is_empty() { "/" } else { folder };
        Arc::new(self.place.cluster.client().list_status_iter(folder, false))
    }

    fn enter(&mut self, folder: String) {
        let entries = self.entries(&folder);
        self.open.push(Level { folder, entries, last: None, passing: false, breaks: 0 });
    }

    /// What comes next; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Child>> {
        while let Some(level) = self.open.last_mut() {
            let doing = format!("list {}", self.place.shown(&level.folder));
            let entries = Arc::clone(&level.entries);
            let cluster = &self.place.cluster;
            let next = cluster.ask_once(&doing, ANSWER_WITHIN, move |_| {
                let entries = Arc::clone(&entries);
                async move { entries.next().await.transpose() }
            });
            match next.await {
                Ok(None) if level.passing => {
                    return Err(Error::unavailable(format!(
                        "{doing}: the folder changed while its listing was repeated"
                    )));
                }
                Ok(None) => drop(self.open.pop()),
                // The folder went meanwhile, or there is none.
                Err(error) if error.kind() == ErrorKind::NotFound => drop(self.open.pop()),
                Err(error) => self.again(error).await?,
                Ok(Some(entry)) => {
                    if let Some(child) = self.visit(entry) {
                        return Ok(Some(child));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn again(&mut self, error: Error) -> Result<()> {
        let breaks = self.open.last().map_or(BREAKS, |level| level.breaks);
        if breaks >= BREAKS || !error.kind().is_transient() {
            return Err(error);
        }
        tracing::debug!(%error, "listing is begun again");
        tokio::time::sleep(PAUSE * (breaks + 1)).await;
        let folder = self.open.last().map(|level| level.folder.clone()).unwrap_or_default();
        let entries = self.entries(&folder);
        if let Some(level) = self.open.last_mut() {
            level.entries = entries;
            level.passing = level.last.is_some();
            level.breaks += 1;
        }
        Ok(())
    }

    fn visit(&mut self, entry: FileStatus) -> Option<Child> {
        let level = self.open.last_mut()?;
        let name = entry.path.rsplit('/').next().unwrap_or_default();
        if level.passing {
            level.passing = level.last.as_deref() != Some(name);
            return None;
        }
        // The folder turned out to be a file: nothing lies below it.
        if entry.path == level.folder {
            return None;
        }
        level.last = Some(name.to_owned());
        level.breaks = 0;
        if entry.isdir && self.depth == Depth::All {
            self.enter(entry.path);
            return None;
        }
        let path = self.place.object(&entry.path)?;
        path::check(&path).ok()?;
        Some(if entry.isdir { Child::Folder(path) } else { Child::Object(info(path, &entry)) })
    }
}

/// A file as an object.
pub(super) fn info(path: String, status: &FileStatus) -> ObjectInfo {
    ObjectInfo { path, bytes: status.length as u64, modified_ms: status.modification_time }
}

/// What a look at a path found; nothing is no failure.
pub(super) fn found(outcome: Result<FileStatus, HdfsError>) -> Result<Option<FileStatus>, HdfsError> {
    match outcome {
        Ok(status) => Ok(Some(status)),
        Err(HdfsError::FileNotFound(_)) => Ok(None),
        Err(error) if failure::runs_through_a_file(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
