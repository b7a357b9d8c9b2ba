//! One object being written: a temporary file that becomes the object or vanishes.
//!
//! Whoever drops a [`Pending`] without committing it removes the temporary file; only a crash leaves it.

use super::dirs::Dirs;
use super::writer;
use bytes::Bytes;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A temporary file beside its target.
#[derive(Debug)]
pub(super) struct Pending {
    file: File,
    // Dropped after the file is closed.
    temporary: Temporary,
    target: PathBuf,
    create_new: bool,
}

impl Pending {
    /// An empty temporary file for `target`.
    pub(super) fn create(dirs: Arc<Dirs>, target: PathBuf, create_new: bool) -> Result<Pending> {
        if create_new && target.exists() {
            return Err(exists(&target));
        }
        let path = target.with_file_name(writer::name());
        let file = dirs
            .with_parent(&path, || File::create_new(&path))
            .context(|| format!("create a file for {}", target.display()))?;
        Ok(Pending { file, temporary: Temporary { dirs, path, in_force: false }, target, create_new })
    }

    /// Append.
    pub(super) fn write(mut self, batch: &[Bytes]) -> Result<Pending> {
        for chunk in batch {
            self.file.write_all(chunk).context(|| format!("write {}", self.target.display()))?;
        }
        Ok(self)
    }

    /// Make the bytes durable, then visible, then the name durable.
    pub(super) fn commit(mut self) -> Result<Metadata> {
        let target = &self.target;
        let doing = || format!("write {}", target.display());
        self.file.sync_all().context(doing)?;
        let meta = self.file.metadata().context(doing)?;
        let temporary = &self.temporary.path;
        if self.create_new {
            fs::hard_link(temporary, target).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => exists(target),
                _ => Error::from(error),
            })
        } else {
            fs::rename(temporary, target).map_err(Error::from)
        }
        .context(doing)?;
        // After a link the temporary name is still to be removed.
        self.temporary.in_force = !self.create_new;
        let dir = target.parent().unwrap_or(target).to_owned();
        drop(self);
        fsx::sync_dir(&dir)?;
        Ok(meta)
    }
}

fn exists(target: &Path) -> Error {
    Error::already_exists(format!("object {} exists already", target.display()))
}

#[derive(Debug)]
struct Temporary {
    dirs: Arc<Dirs>,
    path: PathBuf,
    in_force: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.in_force {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "temporary file stays behind");
        }
        self.dirs.prune(&self.path);
    }
}
