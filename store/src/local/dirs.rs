//! The directories of a local store: made durable before the first object lies in them, removed when the last is gone.
//!
//! The first put into a directory, and whoever would remove it, also remove temporary files that a crash left there.
//!
//! The names of directories that are durable are remembered, so that the usual put pays for one sync of one directory.
//! Another process may remove an empty directory between our look and our write; then the write is tried again.

use super::writer;
use crate::path::TEMPORARY;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Directories remembered as durable before all are forgotten and looked at anew.
const REMEMBERED: usize = 10_000;
/// Tries to write into a directory that others keep removing.
const TRIES: usize = 10;

/// Remove what crashes left; whatever goes wrong here is no matter of the work at hand. True when something went.
fn sweep(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().filter(remove_left).count() > 0
}

/// Whether there are no objects, nor directories, in a directory; that one has thousands is seen at the first.
fn holds_only_temporary(dir: &Path) -> bool {
    let temporary = |entry: DirEntry| entry.file_name().to_string_lossy().starts_with(TEMPORARY);
    fs::read_dir(dir).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(temporary)))
}

/// Remove a temporary file that a crash left; true when it was one and went.
fn remove_left(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let Some(name) = name.to_str().filter(|name| name.starts_with(TEMPORARY)) else { return false };
    let written = entry.metadata().and_then(|meta| meta.modified()).ok();
    let age = written.and_then(|at| at.elapsed().ok());
    if !writer::is_left(name, age) || fs::remove_file(entry.path()).is_err() {
        return false;
    }
    tracing::info!(path = %entry.path().display(), "removed a temporary file that a crash left");
    true
}

/// The directories below one location.
#[derive(Debug)]
pub(super) struct Dirs {
    base: PathBuf,
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl Dirs {
    /// `base` exists and is never created; `root`, the location, lies below it.
    pub(super) fn new(base: PathBuf, root: PathBuf) -> Dirs {
        Dirs { base, root, durable: Mutex::default() }
    }

    /// The location.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// An absent base is a disk that is not mounted, not an empty store.
    pub(super) fn check_base(&self) -> Result<()> {
        if self.base.is_dir() {
            return Ok(());
        }
        Err(Error::unavailable(format!("directory {} of local_roots is gone; is it mounted?", self.base.display())))
    }

    /// Do something with a file whose directory must exist, and make sure that it does, durably.
    pub(super) fn with_parent<T>(&self, file: &Path, act: impl Fn() -> io::Result<T>) -> Result<T> {
        let dir = file.parent().unwrap_or(&self.root);
        let mut tries = 1;
        loop {
            self.make(&mut self.durable(), dir)?;
            match act() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {
                    self.durable().clear();
                    tries += 1;
                }
                other => return Ok(other?),
            }
        }
    }

    /// Remove the directories above `file` that are empty, up to the location.
    pub(super) fn prune(&self, file: &Path) {
        let mut durable = self.durable();
        for dir in file.ancestors().skip(1).take_while(|dir| *dir != self.root && dir.starts_with(&self.root)) {
            let full = |error: &io::Error| error.kind() == io::ErrorKind::DirectoryNotEmpty;
            let removed = match fs::remove_dir(dir) {
                Err(error) if full(&error) && holds_only_temporary(dir) && sweep(dir) => fs::remove_dir(dir),
                other => other,
            };
            if removed.is_err() {
                return;
            }
            durable.remove(dir);
        }
    }

    /// Remove an object, and with `recursive` everything below it; missing is fine.
    pub(super) fn remove(&self, file: &Path, recursive: bool) -> Result<()> {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
        let removed = match fs::remove_file(file) {
            Err(error) if error.kind() == IsADirectory && recursive => {
                let removed = fs::remove_dir_all(file);
                self.durable().clear();
                removed
            }
            Err(error) if error.kind() == IsADirectory => return Ok(()),
            other => other,
        };
        match removed {
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(()),
            other => other.context(|| format!("remove {}", file.display()))?,
        }
        self.prune(file);
        // The nearest directory that is left holds the change; others of a pruned chain went with it.
        match file.ancestors().skip(1).find(|dir| dir.is_dir()) {
            Some(dir) => fsx::sync_dir(dir),
            None => Ok(()),
        }
    }

    fn make(&self, durable: &mut HashSet<PathBuf>, dir: &Path) -> Result<()> {
        if durable.contains(dir) {
            return Ok(());
        }
        if dir == self.base || !dir.starts_with(&self.base) {
            return self.check_base();
        }
        let Some(parent) = dir.parent() else { return Ok(()) };
        self.make(durable, parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => drop(sweep(dir)),
            other => other.context(|| format!("create directory {}", dir.display()))?,
        }
        fsx::sync_dir(parent)?;
        if durable.len() >= REMEMBERED {
            durable.clear();
        }
        durable.insert(dir.to_owned());
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // The set is a memory aid; losing entries costs a sync, and no code panics in the middle of a change.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
