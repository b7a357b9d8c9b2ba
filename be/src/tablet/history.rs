//! What a tablet had before: rowsets that compaction replaced, and who still reads what.
//!
//! A replaced rowset is kept for a while, so that a version that was pinned before, or a scan that was begun on another
//! replica, can still be read. The list is in the file `replaced` beside the meta. It is written before the meta that
//! replaces the rowsets, and again, shorter, before their files are removed: a crash leaves entries that are in force (left
//! out when read), or files that neither lists (removed when the store is opened). Losing the list loses only the grace.

use crate::sync;
use crate::tablet::layout::replaced_file;
use crate::tablet::meta::{self, DataFile, Rowset, TabletMeta};
use crate::tablet::tablet::Tablet;
use coffer_stdx::error::Context;
use coffer_stdx::{Result, fsx};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A rowset that is not in force any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    pub(crate) rowset: Rowset,
    /// Time of the disk's clock (see `trash`) when it was replaced, milliseconds.
    pub(crate) since_ms: u64,
}

/// Replaced rowsets and readers.
#[derive(Debug, Default)]
pub(crate) struct History {
    replaced: Vec<Replaced>,
    /// Readers by file.
    pins: HashMap<String, usize>,
}

impl History {
    pub(crate) fn new(replaced: Vec<Replaced>) -> History {
        History { replaced, pins: HashMap::new() }
    }

    fn pin(&mut self, meta: &TabletMeta) -> Vec<String> {
        let files: Vec<String> = meta.files().map(|file| file.name.clone()).collect();
        for file in &files {
            *self.pins.entry(file.clone()).or_default() += 1;
        }
        files
    }

    fn rowsets(&self) -> Vec<Rowset> {
        self.replaced.iter().map(|replaced| replaced.rowset.clone()).collect()
    }
}

/// The list in a tablet's directory, as far as it can be read, without what is in force.
pub(crate) fn read(dir: &Path, meta: &TabletMeta) -> Vec<Replaced> {
    let Ok(bytes) = fs::read(replaced_file(dir)) else { return Vec::new() };
    let mut found: Vec<Replaced> = meta::decode(&bytes).unwrap_or_default();
    let in_force: HashSet<&str> = meta.files().map(|file| file.name.as_str()).collect();
    found.retain(|replaced| {
        let mut files = replaced.rowset.files.iter();
        files.all(|file| !in_force.contains(file.name.as_str()) && dir.join(&file.name).exists())
    });
    found
}

fn write(dir: &Path, replaced: &[Replaced]) -> Result<()> {
    let path = replaced_file(dir);
    if replaced.is_empty() {
        return fsx::remove(&path);
    }
    let tmp = path.with_extension(fsx::TMP_SUFFIX);
    fs::write(&tmp, meta::encode(&replaced)?).context(|| format!("write {}", tmp.display()))?;
    fsx::rename(&tmp, &path)
}

/// Files that somebody reads: they stay until this is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    tablet: Arc<Tablet>,
    files: Vec<String>,
}

impl Pin {
    pub(crate) fn tablet(&self) -> &Arc<Tablet> {
        &self.tablet
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut history = sync::lock(self.tablet.history());
        for file in &self.files {
            if let Some(count) = history.pins.get_mut(file) {
                *count -= 1;
                if *count == 0 {
                    history.pins.remove(file);
                }
            }
        }
    }
}

impl Tablet {
    /// The tablet at exactly `version`, of rowsets that `may` accepts, and its files held. Conflict when the tablet is
    /// behind, or the version was merged away.
    pub(crate) fn pinned(self: &Arc<Self>, version: u64, may: impl Fn(&Rowset) -> bool) -> Result<(TabletMeta, Pin)> {
        let mut history = sync::lock(self.history());
        let meta = self.meta().at_with(version, &history.rowsets(), may)?;
        let files = history.pin(&meta);
        Ok((meta, Pin { tablet: Arc::clone(self), files }))
    }

    /// The description in force, and its files held.
    pub(crate) fn hold(self: &Arc<Self>) -> (TabletMeta, Pin) {
        let mut history = sync::lock(self.history());
        let meta = (*self.meta()).clone();
        let files = history.pin(&meta);
        (meta, Pin { tablet: Arc::clone(self), files })
    }

    /// A file of the tablet, also of a replaced rowset.
    pub(crate) fn find_file(&self, name: &str) -> Option<DataFile> {
        let history = sync::lock(self.history());
        let mut old = history.replaced.iter().flat_map(|replaced| &replaced.rowset.files);
        self.meta().files().find(|file| file.name == name).or_else(|| old.find(|file| file.name == name)).cloned()
    }

    /// Whether a file is in force.
    pub(crate) fn has_file(&self, name: &str) -> bool {
        self.meta().files().any(|file| file.name == name)
    }

    /// Leave out DELETEs that no rowset is older than, of those in `meta`, those about to be replaced, and those kept.
    pub(crate) fn forget_deletes(&self, meta: &mut TabletMeta, replaced: &[Rowset]) {
        let history = sync::lock(self.history());
        let kept = history.replaced.iter().map(|replaced| &replaced.rowset);
        let full = meta.rowsets.iter().chain(replaced).chain(kept).filter(|rowset| !rowset.files.is_empty());
        let oldest = full.map(|rowset| rowset.to).min().unwrap_or(u64::MAX);
        meta.deletes.retain(|delete| delete.version > oldest);
    }

    /// Note that these rowsets are being replaced; before the meta that does it.
    pub(crate) fn begin_replacing(&self, rowsets: &[Rowset]) -> Result<()> {
        let mut all = sync::lock(self.history()).replaced.clone();
        let since_ms = self.disk().trash_now();
        all.extend(rowsets.iter().map(|rowset| Replaced { rowset: rowset.clone(), since_ms }));
        write(&self.dir(), &all)
    }

    /// A durable meta replaces these rowsets.
    pub(crate) fn finish_replacing(&self, rowsets: Vec<Rowset>, meta: TabletMeta) {
        let since_ms = self.disk().trash_now();
        let mut history = sync::lock(self.history());
        history.replaced.extend(rowsets.into_iter().map(|rowset| Replaced { rowset, since_ms }));
        self.replace(meta);
    }

    /// Remove what was replaced at least `keep` ago and is read by nobody. Returns how many rowsets went. Nobody may replace
    /// rowsets meanwhile.
    pub(crate) fn forget_replaced(&self, keep: Duration) -> Result<usize> {
        let now = self.disk().trash_now();
        let mut history = sync::lock(self.history());
        let pins = &history.pins;
        let held = |replaced: &Replaced| {
            // A time of the future is that of a clock that was lost.
            let young = replaced.since_ms <= now && now - replaced.since_ms < keep.as_millis() as u64;
            young || replaced.rowset.files.iter().any(|file| pins.contains_key(&file.name))
        };
        let (kept, gone): (Vec<Replaced>, Vec<Replaced>) = history.replaced.iter().cloned().partition(held);
        if gone.is_empty() {
            return Ok(0);
        }
        write(&self.dir(), &kept)?;
        history.replaced = kept;
        drop(history);
        for file in gone.iter().flat_map(|replaced| &replaced.rowset.files) {
            self.forget_verified(&file.name);
            fsx::remove(&self.file_path(&file.name))?;
        }
        Ok(gone.len())
    }

    /// Whether anything replaced is kept.
    pub(crate) fn has_replaced(&self) -> bool {
        !sync::lock(self.history()).replaced.is_empty()
    }
}
