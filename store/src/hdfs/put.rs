//! One object is written: a temporary file beside its target, closed, then renamed.
//!
//! What a crash leaves: the old object or the new one, and perhaps `.coffer-tmp-<random>` in the folder, which no listing
//! shows and which HDFS closes by itself when its lease has expired. A put that fails or is given up removes it.
//!
//! A DataNode that dies under a write is left out by hdfs-native when another has the block; when none is left, or when
//! a new block was to begin on a DataNode that is dead (hdfs-native does not ask for another), the whole file is written
//! again as long as its bytes are at hand, the later tries with one replica at first, which a dead DataNode cannot spoil
//! for the others; the NameNode makes the other replicas. Beyond that the error is transient, and the caller tries again.

use super::failure;
use super::pool::{ANSWER_WITHIN, Cluster, io};
use super::replay::Replay;
use super::window::{PROBE_BYTES, Passed, Window};
use super::{Place, diagnose, parent};
use crate::PutOptions;
use crate::path::TEMPORARY;
use bytes::Bytes;
use coffer_stdx::retry::Policy;
use coffer_stdx::{Error, ErrorKind, Result};
use hdfs_native::file::FileWriter;
use hdfs_native::{HdfsError, WriteOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Tries of one file while its bytes are at hand.
const TRIES: Policy = Policy { attempts: 5, first_ms: 200, max_ms: 1_600 };
/// Tries, of those, with all replicas from the beginning.
const WHOLE_TRIES: u32 = 2;
/// How long DataNodes may take to acknowledge anything. hdfs-native gives a silent one up after sixty seconds.
const STALL: Duration = Duration::from_secs(90);
/// How long a close may take: the rest of the packets, and a DataNode given up on the way.
const CLOSE_WITHIN: Duration = Duration::from_secs(180);
/// How often the temporary file is asked for while it is being closed; doubles.
const FIRST_LOOK: Duration = Duration::from_millis(4);
const LONGEST_LOOK: Duration = Duration::from_millis(250);
/// Largest file whose close is hurried: asking is dear when there are many blocks, bytes.
const HURRIED_BYTES: u64 = 2 << 30;
/// Times a rename is tried whose answer got lost.
const RENAMES: Policy = Policy { attempts: 6, first_ms: 200, max_ms: 3_000 };

/// A put.
pub(super) struct Put {
    pub(super) place: Arc<Place>,
    pub(super) target: String,
    pub(super) options: PutOptions,
}

/// A temporary file, removed unless it became the object.
struct Temporary {
    place: Arc<Place>,
    path: String,
    there: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Some(io) = io().ok().filter(|_| self.there) else { return };
        let (place, path) = (Arc::clone(&self.place), std::mem::take(&mut self.path));
        io.spawn(async move { remove(&place, &path).await });
    }
}

impl Temporary {
    async fn remove(mut self) {
        if std::mem::take(&mut self.there) {
            remove(&self.place, &self.path).await;
        }
    }
}

async fn remove(place: &Place, path: &str) {
    if let Err(error) = place.remove_file(path).await {
        tracing::warn!(path, %error, "temporary file stays behind");
    }
    place.prune(path).await;
}

impl Put {
    /// Write `body`; the number of its bytes.
    pub(super) async fn run(self, mut body: Replay) -> Result<u64> {
        let mut tries = 1;
        loop {
            let error = match self.attempt(&mut body, tries).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            if let Some(cause) = body.failed() {
                return Err(cause.clone());
            }
            if tries >= TRIES.attempts || !failure::worth_another_try(&error) || !body.rewind() {
                return Err(error);
            }
            tries += 1;
            tracing::warn!(path = self.target, tries, %error, "file is written again");
            tokio::time::sleep(TRIES.ceiling(tries)).await;
        }
    }

    async fn attempt(&self, body: &mut Replay, tries: u32) -> Result<u64> {
        let temporary = format!("{}/{TEMPORARY}{}", parent(&self.target), Uuid::new_v4().simple());
        let mut temporary = Temporary { place: Arc::clone(&self.place), path: temporary, there: true };
        match self.write(&temporary.path, body, tries).await {
            Ok(bytes) => {
                // From here on the file has its name or not; a failure must not remove it under its new name.
                let outcome = self.publish(&temporary.path).await;
                temporary.there = outcome.is_err();
                outcome.map(|()| bytes)
            }
            Err(error) => {
                temporary.remove().await;
                Err(error)
            }
        }
    }

    async fn write(&self, temporary: &str, body: &mut Replay, tries: u32) -> Result<u64> {
        let lonely = tries > WHOLE_TRIES && self.place.replication != Some(1);
        let (block_size, replication) = (self.place.block_bytes, self.place.replication);
        let options = WriteOptions { block_size, replication, ..WriteOptions::default() };
        let doing = format!("put {}", self.place.shown(&self.target));
        let cluster = &self.place.cluster;
        let created = cluster.ask_once(&doing, ANSWER_WITHIN, |client| {
            let (path, options) = (temporary.to_owned(), options.clone());
            async move { client.create(&path, options).await }
        });
        let writer = created.await.map_err(|error| match error.kind() {
            // A part of the path is a file.
            ErrorKind::NotFound => Error::invalid(error.message()),
            _ => error,
        })?;
        let copies = if lonely { self.alone(temporary, &doing).await? } else { None };
        let mut file = Writing { cluster, doing: &doing, writer, window: Window::new(), bytes: 0 };
        let written = async {
            while let Some(chunk) = body.chunk().await? {
                file.write(chunk).await?;
            }
            file.close(temporary).await
        };
        if let Err(Stopped { error, datanodes }) = written.await {
            return Err(match datanodes {
                true => diagnose::explain(cluster, temporary, block_size, error).await,
                false => error,
            });
        }
        let bytes = file.bytes;
        if let Some(copies) = copies {
            self.replicate(temporary, copies, &doing).await?;
        }
        Ok(bytes)
    }

    /// Let the file have one replica while it is written; how many it is to have.
    async fn alone(&self, temporary: &str, doing: &str) -> Result<Option<u32>> {
        let copies =
            self.place.file(temporary).await?.and_then(|status| status.replication).filter(|copies| *copies > 1);
        if copies.is_some() {
            self.replicate(temporary, 1, doing).await?;
        }
        Ok(copies)
    }

    async fn replicate(&self, temporary: &str, copies: u32, doing: &str) -> Result<()> {
        let asked = self.place.cluster.ask(doing, ANSWER_WITHIN, |client| {
            let path = temporary.to_owned();
            async move { client.set_replication(&path, copies).await }
        });
        asked.await.map(drop)
    }

    /// Give the file its name. An answer that got lost is made up for by looking: nobody else knows the temporary name.
    async fn publish(&self, temporary: &str) -> Result<()> {
        let doing = format!("put {}", self.place.shown(&self.target));
        let mut tries = 1;
        loop {
            let renamed = self.place.cluster.ask_once(&doing, ANSWER_WITHIN, |client| {
                let (from, to, overwrite) = (temporary.to_owned(), self.target.clone(), !self.options.create_new);
                async move { client.rename(&from, &to, overwrite).await }
            });
            let error = match renamed.await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let lost = tries > 1 && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists);
            if lost && self.place.file(temporary).await?.is_none() && self.place.file(&self.target).await?.is_some() {
                return Ok(());
            }
            if error.kind() == ErrorKind::AlreadyExists {
                return Err(exists(&self.place, &self.target));
            }
            if tries >= RENAMES.attempts || !error.kind().is_transient() {
                return Err(error);
            }
            tries += 1;
            tokio::time::sleep(RENAMES.ceiling(tries)).await;
        }
    }
}

/// The answer to `create_new`.
pub(super) fn exists(place: &Place, target: &str) -> Error {
    Error::already_exists(format!("object {} exists already", place.shown(target)))
}

/// A write that ended early; `datanodes` when one of them is to blame.
struct Stopped {
    error: Error,
    datanodes: bool,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped { error, datanodes: false }
    }
}

/// A file being written.
struct Writing<'a> {
    cluster: &'a Arc<Cluster>,
    doing: &'a str,
    writer: FileWriter,
    window: Window,
    bytes: u64,
}

impl Writing<'_> {
    fn stopped(&self, error: HdfsError) -> Stopped {
        let datanodes = failure::blames_datanodes(&error);
        Stopped { error: failure::failed(self.doing, &self.cluster.settings, error), datanodes }
    }

    fn stalled(&self, limit: Duration) -> Stopped {
        let (doing, name) = (self.doing, self.cluster.settings.name());
        let seconds = limit.as_secs();
        let error = Error::timeout(format!("{doing}: DataNodes of {name} took nothing for {seconds} s"));
        Stopped { error, datanodes: true }
    }

    async fn write(&mut self, mut chunk: Bytes) -> Result<(), Stopped> {
        let (mut probes, mut moved) = (0, Instant::now());
        while !chunk.is_empty() {
            let piece = match self.window.pass(&mut chunk, probes).await {
                Passed::Piece(piece) => {
                    (probes, moved) = (0, Instant::now());
                    piece
                }
                Passed::Probe(_) if moved.elapsed() > STALL => return Err(self.stalled(STALL)),
                Passed::Probe(piece) => {
                    probes += 1;
                    debug_assert!(piece.len() <= PROBE_BYTES);
                    piece
                }
            };
            let length = piece.len() as u64;
            match tokio::time::timeout(STALL, self.writer.write_bytes(piece)).await {
                Ok(Ok(_)) => self.bytes += length,
                Ok(Err(error)) => return Err(self.stopped(error)),
                Err(_) => return Err(self.stalled(STALL)),
            }
        }
        Ok(())
    }

    async fn close(&mut self, temporary: &str) -> Result<(), Stopped> {
        match tokio::time::timeout(CLOSE_WITHIN, self.close_early(temporary)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.stalled(CLOSE_WITHIN)),
        }
    }

    /// A close whose last block no DataNode has reported yet sleeps half a second in hdfs-native before it asks again,
    /// which would be most of the time of a small file. So the NameNode is asked meanwhile: as soon as it knows all
    /// bytes, the last block was taken and reported, and a second close finds the file complete.
    async fn close_early(&mut self, temporary: &str) -> Result<(), Stopped> {
        let (cluster, window, bytes) = (self.cluster, &self.window, self.bytes);
        let known = async {
            let mut look = FIRST_LOOK;
            let hurried = bytes > 0 && bytes <= HURRIED_BYTES;
            while !(hurried && window.is_empty() && known_bytes(cluster, temporary).await == Some(bytes)) {
                tokio::time::sleep(look).await;
                look = (look * 2).min(LONGEST_LOOK);
            }
        };
        // Both are polled all the time: a close that is left alone may hold a lock that the question waits for.
        let outcome = tokio::select! {
            outcome = self.writer.close() => Some(outcome),
            () = known => None,
        };
        let error = match outcome {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => error,
            None => match self.writer.close().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
        };
        // The answer may have got lost; what counts is what the NameNode knows.
        let stopped = self.stopped(error);
        for next in 2..=TRIES.attempts {
            if self.bytes > 0 && known_bytes(self.cluster, temporary).await == Some(self.bytes) {
                return Ok(());
            }
            tokio::time::sleep(TRIES.ceiling(next)).await;
            if !stopped.error.kind().is_transient() || stopped.datanodes {
                break;
            }
        }
        Err(stopped)
    }
}

/// The bytes of a file in blocks that the NameNode counts as complete.
async fn known_bytes(cluster: &Cluster, path: &str) -> Option<u64> {
    let asked = cluster.ask_once("look at a file being closed", ANSWER_WITHIN, |client| {
        let path = path.to_owned();
        async move { client.read(&path).await.map(|reader| reader.file_length() as u64) }
    });
    asked.await.ok()
}
