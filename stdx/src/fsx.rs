//! Durable file operations, all in one place.
//!
//! The rules (POSIX leaves the directory entry of a new file undurable until the directory is synced; see fsync(2) and
//! rename(2)): a file is durable when its bytes are synced *and* the directory that names it is synced. A rename within
//! one file system is atomic, and durable when the target's directory is synced.
//!
//! One fsync costs about as much as thousands of hard links, so many small files are synced as a group:
//! [`Batch`] writes them all under temporary names, syncs the file system once, renames them, and syncs once more.
//! A crash at any point leaves either the old or the new content under each name, plus at most some `*.tmp`.

use crate::error::{Context, Error, Result};
use crate::shared_sync::SharedSync;
use rustix::buffer::spare_capacity;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Suffix of files that are not yet in force; whoever opens a directory may remove them.
pub const TMP_SUFFIX: &str = "tmp";

/// Sync a directory, so that the names in it are durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).context(|| format!("sync directory {}", dir.display()))
}

/// Sync everything written so far on the file system that holds `path`. Those who ask at the same time share one sync.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    let file = File::open(path).context(|| format!("open {}", path.display()))?;
    let device = file.metadata().context(|| format!("look at {}", path.display()))?.dev();
    shared(device).run(|| {
        rustix::fs::syncfs(&file)
            .map_err(std::io::Error::from)
            .context(|| format!("sync file system of {}", path.display()))
    })
}

/// Exactly `length` bytes of a file from `offset` on, in memory that nobody cleared before.
pub fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more than was asked for.
    bytes.truncate(length);
    Ok(bytes)
}

/// Have the kernel begin to write a range of a file to the disk, so that the sync at the end finds less to do. A hint.
pub fn begin_write_back(file: &File, offset: u64, bytes: u64) {
    if let Some(bytes) = std::num::NonZeroU64::new(bytes) {
        // Dirty pages are sent on their way before they may be forgotten; who ignores the advice has them synced later.
        let _ = rustix::fs::fadvise(file, offset, Some(bytes), rustix::fs::Advice::DontNeed);
    }
}

/// Those who sync a device. There are as many as there are disks.
fn shared(device: u64) -> Arc<SharedSync> {
    static DEVICES: Mutex<BTreeMap<u64, Arc<SharedSync>>> = Mutex::new(BTreeMap::new());
    Arc::clone(DEVICES.lock().unwrap_or_else(PoisonError::into_inner).entry(device).or_default())
}

/// Create a directory and its parents; durable.
pub fn create_dir(dir: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut at = dir;
    while !at.try_exists().context(|| format!("look at {}", at.display()))? {
        missing.push(at);
        at = at.parent().ok_or_else(|| Error::invalid(format!("no parent of {}", dir.display())))?;
    }
    fs::create_dir_all(dir).context(|| format!("create directory {}", dir.display()))?;
    for made in missing {
        if let Some(parent) = made.parent() {
            sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
    }
    Ok(())
}

/// Replace `path` with `bytes`: the old content or the new, never a mix; durable.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let tmp = tmp_path(path);
    let mut file = File::create(&tmp).context(|| format!("create {}", tmp.display()))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).context(|| format!("write {}", tmp.display()))?;
    rename_durably(&tmp, path)
}

/// Rename within one file system; durable.
pub fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    rename(from, to)?;
    sync_dir(parent_of(to)?)?;
    let (from_dir, to_dir) = (parent_of(from)?, parent_of(to)?);
    if from_dir != to_dir { sync_dir(from_dir) } else { Ok(()) }
}

/// Rename without syncing; pair it with [`sync_filesystem`] or [`sync_dir`].
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).context(|| format!("rename {} to {}", from.display(), to.display()))
}

/// Hard-link `from` as `to`; a link that exists already is fine. Not durable by itself.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.context(|| format!("link {} to {}", from.display(), to.display())),
    }
}

/// Remove a file or a whole directory; missing is fine.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context(|| format!("remove {}", path.display())),
    }
}

/// Total and available bytes of the file system that holds `path`.
pub fn space(path: &Path) -> Result<(u64, u64)> {
    let stat =
        rustix::fs::statvfs(path).map_err(std::io::Error::from).context(|| format!("statvfs {}", path.display()))?;
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

/// Many small files made durable together.
#[derive(Debug, Default)]
pub struct Batch {
    pending: Vec<(PathBuf, PathBuf)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Write `bytes` under a temporary name; in force after [`Batch::commit`].
    pub fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let tmp = tmp_path(path);
        fs::write(&tmp, bytes).context(|| format!("write {}", tmp.display()))?;
        self.pending.push((tmp, path.to_owned()));
        Ok(())
    }

    /// Also rename `from` to `to` when the batch commits.
    pub fn rename(&mut self, from: &Path, to: &Path) {
        self.pending.push((from.to_owned(), to.to_owned()));
    }

    /// Sync what was written, give everything its name in the order added, sync again. `anchor` is any path on the
    /// file system in question.
    pub fn commit(self, anchor: &Path) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        sync_filesystem(anchor)?;
        for (tmp, path) in &self.pending {
            rename(tmp, path)?;
        }
        sync_filesystem(anchor)
    }
}

fn tmp_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TMP_SUFFIX);
    PathBuf::from(name)
}

fn parent_of(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(Error::invalid(format!("no parent of {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_batch_is_in_force_only_after_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut batch = Batch::new();
        batch.write(&a, b"1").unwrap();
        batch.write(&b, b"2").unwrap();
        assert!(!a.exists() && !b.exists());
        batch.commit(dir.path()).unwrap();
        assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"1".to_vec(), b"2".to_vec()));
    }

    #[test]
    fn a_range_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"0123456789").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(read_at(&file, 0, 10).unwrap(), b"0123456789");
        assert_eq!(read_at(&file, 3, 4).unwrap(), b"3456");
        assert_eq!(read_at(&file, 10, 0).unwrap(), b"");
        for (offset, length) in [(5, 6), (10, 1), (99, 1)] {
            let error = read_at(&file, offset, length).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn removing_and_linking_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let (file, linked) = (dir.path().join("f"), dir.path().join("l"));
        fs::write(&file, b"x").unwrap();
        link(&file, &linked).unwrap();
        link(&file, &linked).unwrap();
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert_eq!(fs::read(&linked).unwrap(), b"x");
        create_dir(&dir.path().join("d/e")).unwrap();
        remove(&dir.path().join("d")).unwrap();
        assert!(!dir.path().join("d").exists());
    }
}
