//! Dropped tablets: moved to the trash by one rename, removed for good after a while.
//!
//! A crash during a drop leaves the tablet where it was or in the trash; the leader's next DropTablets finds either.

use crate::sync;
use crate::tablet::disk::Disk;
use crate::tablet::layout::parse_trashed;
use crate::tablet::store::TabletStore;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx, time};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

impl TabletStore {
    /// Move tablets to the trash; unknown ones are fine. Returns those that could not be moved.
    pub fn drop_tablets(&self, ids: &[u64]) -> Vec<(u64, Error)> {
        let _no_publish = sync::lock(self.publishing());
        let mut failures = Vec::new();
        for id in ids {
            let (tablet, bad) = (self.take(*id), self.take_bad(*id));
            if tablet.is_none() && bad.is_none() {
                continue;
            }
            if let Err(error) = self.all_to_trash(*id) {
                // Still there, so still known: the leader sees it and asks again.
                tablet.into_iter().for_each(|tablet| self.put_back(tablet));
                bad.into_iter().for_each(|bad| self.put_back_bad(*id, bad));
                failures.push((*id, error));
            }
        }
        for disk in self.disks() {
            if let Err(error) = fsx::sync_dir(&disk.layout().data()) {
                tracing::warn!(%error, "drop may come back after a power loss");
            }
        }
        self.changed();
        failures
    }

    /// Every copy, also bad ones beside the one that was served.
    fn all_to_trash(&self, tablet: u64) -> Result<()> {
        for disk in self.disks() {
            let path = disk.layout().tablet(tablet);
            if path.try_exists().context(|| format!("look at {}", path.display()))? {
                self.move_to_trash(disk, tablet)?;
            }
        }
        Ok(())
    }

    pub(crate) fn move_to_trash(&self, disk: &Disk, tablet: u64) -> Result<()> {
        let (from, to) = (disk.layout().tablet(tablet), disk.layout().trashed(time::now_ms(), tablet));
        fsx::rename(&from, &to).context(|| format!("move tablet {tablet} to the trash"))
    }

    /// Probe the disks and remove what lies in the trash longer than `keep`. Blocking.
    pub fn sweep(&self, keep: Duration) {
        let now = time::now_ms();
        for disk in self.disks() {
            disk.probe();
            for (path, dropped) in trashed(disk) {
                if now.saturating_sub(dropped) >= keep.as_millis() as u64
                    && let Err(error) = fsx::remove(&path)
                {
                    tracing::warn!(%error, "trash");
                }
            }
            self.measure_trash(disk);
        }
    }

    pub(crate) fn measure_trash(&self, disk: &Arc<Disk>) {
        disk.set_trash_bytes(trashed(disk).iter().map(|(path, _)| file_bytes(path)).sum());
    }
}

fn trashed(disk: &Disk) -> Vec<(std::path::PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(disk.layout().trash()) else { return Vec::new() };
    let parse = |entry: fs::DirEntry| parse_trashed(&entry.file_name()).map(|(time, _)| (entry.path(), time));
    entries.flatten().filter_map(parse).collect()
}

fn file_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|meta| meta.len())
        .sum()
}
