//! Snapshot files: written aside and renamed, sent and received in pieces.
//!
//! A crash leaves the old file or the new one under the name `snapshot`, and perhaps `snapshot.*.tmp`, removed at the next
//! start. A file that is replaced while it is sent to another frontend stays readable until it is sent.

use super::image;
use super::types::{LogId, SnapshotMeta};
use crate::error::{Context, Error, Result};
use crate::meta::state::State;
use coffer_stdx::fsx;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context as Task, Poll};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// Bytes written between syncs: a long queue of unwritten pages would hold up the fsyncs of the log.
const SYNC_EVERY_BYTES: u64 = 4 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// The snapshot of a metadata directory.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// Up to where the file in force reaches.
    newest: Mutex<Option<LogId>>,
}

impl Store {
    /// Clean up behind a crash, and read what is there.
    pub(super) fn open(path: &Path) -> Result<(Store, Option<(SnapshotMeta, State)>)> {
        remove_unfinished(path)?;
        let found = load(path)?;
        let newest = Mutex::new(found.as_ref().and_then(|(meta, _)| meta.last_log_id));
        Ok((Store { path: path.to_owned(), newest }, found))
    }

    /// A file to receive a snapshot in.
    pub(super) fn receive(&self) -> Result<SnapshotFile> {
        let path = self.aside();
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
        let file = file.context(|| format!("create {}", path.display()))?;
        Ok(SnapshotFile { file: tokio::fs::File::from_std(file), path: Some(path) })
    }

    /// Check a received snapshot and put it in force.
    pub(super) fn install(&self, received: &Path, meta: &SnapshotMeta) -> Result<State> {
        let file = File::open(received).context(|| format!("open {}", received.display()))?;
        let (found, state) = image::read(BufReader::with_capacity(BUFFER_BYTES, &file), received)?;
        if found != *meta {
            return Err(Error::corrupt(format!(
                "the metadata snapshot received as {} reaches to {:?}, announced was {:?}",
                received.display(),
                found.last_log_id,
                meta.last_log_id
            )));
        }
        file.sync_all().context(|| format!("sync {}", received.display()))?;
        self.put_in_force(received, meta.last_log_id)?;
        Ok(state)
    }

    /// Write the state; returns the length of the file.
    pub(super) fn write(&self, meta: &SnapshotMeta, state: &State) -> Result<u64> {
        let path = self.aside();
        let written = write_image(&path, meta, state);
        let bytes = written.inspect_err(|_| drop(fsx::remove(&path)))?;
        self.put_in_force(&path, meta.last_log_id)?;
        Ok(bytes)
    }

    /// Write the state in the place of whatever is there.
    pub(super) fn replace(&self, meta: &SnapshotMeta, state: &State) -> Result<()> {
        let path = self.aside();
        write_image(&path, meta, state)?;
        fsx::rename_durably(&path, &self.path)
    }

    /// The file in force.
    pub(super) fn current(&self) -> Result<Option<(SnapshotMeta, SnapshotFile)>> {
        let Some(file) = open(&self.path)? else { return Ok(None) };
        let meta = image::read_meta(BufReader::new(&file), &self.path)?;
        io::Seek::rewind(&mut &file).context(|| format!("rewind {}", self.path.display()))?;
        Ok(Some((meta, SnapshotFile { file: tokio::fs::File::from_std(file), path: None })))
    }

    /// One that was begun earlier and ends later must not replace a newer one: the log before that may be gone.
    fn put_in_force(&self, path: &Path, reaches: Option<LogId>) -> Result<()> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest > reaches {
            return fsx::remove(path);
        }
        fsx::rename_durably(path, &self.path)?;
        *newest = reaches;
        Ok(())
    }

    fn aside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}.{}", uuid::Uuid::new_v4().simple(), fsx::TMP_SUFFIX));
        PathBuf::from(name)
    }
}

/// Read a snapshot file; `None` when there is none.
pub(super) fn load(path: &Path) -> Result<Option<(SnapshotMeta, State)>> {
    let Some(file) = open(path)? else { return Ok(None) };
    image::read(BufReader::with_capacity(BUFFER_BYTES, file), path).map(Some)
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(|| format!("open metadata snapshot {}", path.display())),
    }
}

/// Write an image into a new file, synced; the caller gives it its name.
pub(super) fn write_image(path: &Path, meta: &SnapshotMeta, state: &State) -> Result<u64> {
    let file = File::create(path).context(|| format!("create {}", path.display()))?;
    let paced = Paced { file: &file, unsynced: 0 };
    let bytes = image::write(BufWriter::with_capacity(BUFFER_BYTES, paced), meta, state)
        .context(|| format!("write metadata snapshot {}", path.display()))?;
    file.sync_all().context(|| format!("sync {}", path.display()))?;
    Ok(bytes)
}

fn remove_unfinished(path: &Path) -> Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    for entry in std::fs::read_dir(dir).context(|| format!("list {}", dir.display()))? {
        let entry = entry.context(|| format!("list {}", dir.display()))?;
        let found = entry.file_name().to_string_lossy().into_owned();
        let rest = found.strip_prefix(name).filter(|rest| rest.starts_with('.') && rest.ends_with(fsx::TMP_SUFFIX));
        if rest.is_some() {
            fsx::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Syncs on the way.
struct Paced<'a> {
    file: &'a File,
    unsynced: u64,
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A snapshot on its way to or from another frontend.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "part of TypeConfig, which openraft's macro makes public")]
pub struct SnapshotFile {
    file: tokio::fs::File,
    /// Of one that is received; removed when it is given up.
    path: Option<PathBuf>,
}

impl SnapshotFile {
    /// All pieces are there: the path of a file of its own, durable or not.
    pub(super) async fn received(mut self, store: &Store) -> Result<PathBuf> {
        let failed = || "take in a metadata snapshot";
        tokio::io::AsyncWriteExt::flush(&mut self.file).await.context(failed)?;
        if let Some(path) = self.path.take() {
            return Ok(path);
        }
        // The one in force, asked for to be sent: it is not moved away.
        let mut copy = store.receive()?;
        tokio::io::AsyncSeekExt::rewind(&mut self.file).await.context(failed)?;
        tokio::io::copy(&mut self.file, &mut copy.file).await.context(failed)?;
        tokio::io::AsyncWriteExt::flush(&mut copy.file).await.context(failed)?;
        copy.path.take().ok_or_else(|| Error::bug("a file to receive a snapshot in has no path"))
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Left behind, the next start removes it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl AsyncRead for SnapshotFile {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(task, buffer)
    }
}

impl AsyncWrite for SnapshotFile {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.file).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(task)
    }
}

impl AsyncSeek for SnapshotFile {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(task)
    }
}
