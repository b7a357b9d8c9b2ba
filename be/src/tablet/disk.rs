//! One data directory: claimed by one process at a time and by one cluster for good.
//!
//! The lock is a `flock`, which the kernel releases however the process ends. `cluster_id` is written before the first
//! tablet can be, so a directory without it holds nothing.

use crate::tablet::layout::{DirLayout, parse_id};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result, fsx};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A claimed data directory.
#[derive(Debug)]
pub struct Disk {
    layout: DirLayout,
    usable: AtomicBool,
    data_bytes: AtomicU64,
    trash_bytes: AtomicU64,
    clock: TrashClock,
    _lock: File,
}

/// Milliseconds for which processes have had the directory open, from one start to the next with an error of one sweep.
/// Unlike the time of day it never jumps, so a machine whose date is set wrong for a moment does not empty its trash.
#[derive(Debug)]
struct TrashClock {
    before_ms: u64,
    opened: Instant,
}

impl Disk {
    /// Claim a directory; it and its folders are created when missing.
    pub(crate) fn open(root: &Path) -> Result<Disk> {
        let layout = DirLayout::new(root);
        fsx::create_dir(root).context(|| format!("data directory {}", root.display()))?;
        let lock =
            File::create(layout.lock()).context(|| format!("data directory {} is not writable", root.display()))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Error::conflict(format!(
                "data directory {} is in use by another process, or listed twice in data_dirs",
                root.display()
            ))
        })?;
        for folder in layout.folders() {
            fsx::create_dir(&folder)?;
        }
        // A clock that is gone or cannot be read begins anew; what seems to be of the future then is kept once more.
        let text = fs::read_to_string(layout.trash_clock()).unwrap_or_default();
        let clock = TrashClock { before_ms: text.trim().parse().unwrap_or(0), opened: Instant::now() };
        Ok(Disk {
            layout,
            clock,
            usable: AtomicBool::new(true),
            data_bytes: AtomicU64::new(0),
            trash_bytes: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// Its paths.
    pub fn layout(&self) -> &DirLayout {
        &self.layout
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Whether the last look at it found it working.
    pub fn usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// Total and available bytes; (0, 0) when the disk does not answer.
    pub fn space(&self) -> (u64, u64) {
        fsx::space(self.root()).unwrap_or_default()
    }

    /// Bytes of tablets at the last report.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_data_bytes(&self, bytes: u64) {
        self.data_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes in the trash at the last sweep.
    pub fn trash_bytes(&self) -> u64 {
        self.trash_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_trash_bytes(&self, bytes: u64) {
        self.trash_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The time of the trash's clock.
    pub(crate) fn trash_now(&self) -> u64 {
        self.clock.before_ms + self.clock.opened.elapsed().as_millis() as u64
    }

    /// Let the clock go on from here after a restart.
    pub(crate) fn keep_trash_clock(&self) -> Result<()> {
        fsx::write_durably(&self.layout.trash_clock(), self.trash_now().to_string().as_bytes())
    }

    /// Write and read a few bytes; a disk that fails is not given new tablets until it works again. A full disk works.
    pub(crate) fn probe(&self) {
        const BYTES: &[u8] = b"probe";
        let path = self.layout.probe();
        let probed = fs::write(&path, BYTES).and_then(|()| fs::read(&path)).map_err(Error::from);
        let works = match &probed {
            Ok(bytes) => bytes == BYTES,
            Err(error) => error.kind() == ErrorKind::NoSpace,
        };
        if self.usable.swap(works, Ordering::Relaxed) != works {
            let path = self.root().display();
            match probed {
                Err(error) if !works => {
                    tracing::error!(%path, %error, "data directory failed, not used for new tablets")
                }
                _ => tracing::info!(%path, works, "data directory changed state"),
            }
        }
    }

    /// The cluster this directory belongs to; `None` while it is new.
    pub(crate) fn cluster_id(&self) -> Result<Option<String>> {
        Ok(read_text(&self.layout.cluster_id())?.filter(|id| !id.is_empty()))
    }

    pub(crate) fn set_cluster_id(&self, cluster_id: &str) -> Result<()> {
        fsx::write_durably(&self.layout.cluster_id(), cluster_id.as_bytes())
    }

    /// The highest leader term written here; 0 when none is.
    pub(crate) fn leader_term(&self) -> Result<u64> {
        let path = self.layout.leader_term();
        let Some(text) = read_text(&path)? else { return Ok(0) };
        text.parse().map_err(|_| Error::corrupt(format!("{} does not hold a number", path.display())))
    }

    pub(crate) fn set_leader_term(&self, term: u64) -> Result<()> {
        fsx::write_durably(&self.layout.leader_term(), term.to_string().as_bytes())
    }
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(|| format!("read {}", path.display())),
    }
}

/// The directory entries whose name is an id, with the id.
pub(crate) fn id_entries(folder: &Path) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder).context(|| format!("list {}", folder.display()))? {
        let entry = entry.context(|| format!("list {}", folder.display()))?;
        match parse_id(&entry.file_name()) {
            Some(id) => ids.push(id),
            None => tracing::warn!(path = %entry.path().display(), "not a name of ours, left alone"),
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Disk::open(dir.path()).unwrap();
        let error = Disk::open(dir.path()).unwrap_err();
        assert!(error.message().contains("in use by another process"), "{error}");
        drop(first);
        Disk::open(dir.path()).unwrap();
    }

    #[test]
    fn cluster_and_term_survive() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        assert_eq!((disk.cluster_id().unwrap(), disk.leader_term().unwrap()), (None, 0));
        disk.set_cluster_id("c1").unwrap();
        disk.set_leader_term(7).unwrap();
        assert_eq!((disk.cluster_id().unwrap(), disk.leader_term().unwrap()), (Some("c1".to_owned()), 7));
        fs::write(disk.layout().leader_term(), "x").unwrap();
        assert_eq!(disk.leader_term().unwrap_err().kind(), ErrorKind::Corrupt);
        disk.probe();
        assert!(disk.usable());
    }
}
