//! Dropped tablets: moved to the trash by one rename, removed for good after a while.
//!
//! Ages are those of the disk's own clock, which only runs while a backend runs and is written at every sweep: a jump of
//! the time of day removes nothing. An entry of the future (of a version that used the time of day, or of a clock that
//! was lost) gets the present time and is kept in full once more.
//!
//! A crash during a drop leaves the tablet where it was or in the trash; the leader's next DropTablets finds either.

use crate::sync;
use crate::tablet::disk::Disk;
use crate::tablet::layout::parse_trashed;
use crate::tablet::store::TabletStore;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use std::fs;
use std::path::{Path, PathBuf};
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
        let (from, to) = (disk.layout().tablet(tablet), disk.layout().trashed(disk.trash_now(), tablet));
        fsx::rename(&from, &to).context(|| format!("move tablet {tablet} to the trash"))
    }

    /// Probe the disks and remove what lies in the trash longer than `keep`. Blocking.
    pub fn sweep(&self, keep: Duration) {
        for disk in self.disks() {
            disk.probe();
            let swept = disk.keep_trash_clock().and_then(|()| sweep_disk(disk, keep));
            if let Err(error) = swept {
                tracing::warn!(path = %disk.root().display(), %error, "trash");
            }
            self.measure_trash(disk);
        }
    }

    /// Remove all that lies in the trash. Blocking.
    pub fn empty_trash(&self) -> Result<()> {
        let mut outcome = Ok(());
        for disk in self.disks() {
            for (path, _, _) in trashed(disk) {
                outcome = outcome.and(fsx::remove(&path));
            }
            self.measure_trash(disk);
        }
        outcome
    }

    pub(crate) fn measure_trash(&self, disk: &Arc<Disk>) {
        disk.set_trash_bytes(trashed(disk).iter().map(|(path, _, _)| file_bytes(path)).sum());
    }
}

/// Remove what was dropped long enough ago.
fn sweep_disk(disk: &Disk, keep: Duration) -> Result<()> {
    let now = disk.trash_now();
    for (path, dropped, tablet) in trashed(disk) {
        if dropped > now {
            fsx::rename(&path, &disk.layout().trashed(now, tablet))?;
        } else if now - dropped >= keep.as_millis() as u64 {
            fsx::remove(&path)?;
        }
    }
    Ok(())
}

/// Path, time and tablet of what is in the trash.
fn trashed(disk: &Disk) -> Vec<(PathBuf, u64, u64)> {
    let Ok(entries) = fs::read_dir(disk.layout().trash()) else { return Vec::new() };
    let parse =
        |entry: fs::DirEntry| parse_trashed(&entry.file_name()).map(|(time, tablet)| (entry.path(), time, tablet));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(store: &TabletStore) -> Vec<String> {
        let entries = fs::read_dir(store.disks()[0].layout().trash()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn ages_do_not_follow_the_time_of_day() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let hour = Duration::from_secs(3_600);
        let store = TabletStore::open(std::slice::from_ref(&root)).unwrap();
        let layout = store.disks()[0].layout().clone();
        // As an earlier version named it, by a date that may lie anywhere.
        fs::create_dir(layout.trashed(1_800_000_000_000, 7)).unwrap();
        store.sweep(hour);
        let [name] = &names(&store)[..] else { panic!("kept") };
        let (time, tablet) = parse_trashed(std::ffi::OsStr::new(name)).unwrap();
        assert!(time < 3_600_000 && tablet == 7, "{name}");
        drop(store);
        // Two hours of running later.
        fs::write(layout.trash_clock(), (time + 7_200_000).to_string()).unwrap();
        let store = TabletStore::open(&[root]).unwrap();
        assert!(store.disks()[0].trash_now() >= time + 7_200_000);
        store.sweep(3 * hour);
        assert_eq!(names(&store).len(), 1);
        store.sweep(hour);
        assert!(names(&store).is_empty());
        fs::create_dir(layout.trashed(store.disks()[0].trash_now(), 8)).unwrap();
        store.sweep(hour);
        assert_eq!(names(&store).len(), 1);
        store.empty_trash().unwrap();
        assert!(names(&store).is_empty());
    }
}
