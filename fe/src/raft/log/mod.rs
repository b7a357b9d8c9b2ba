//! The Raft log and vote: append-only files of our own.
//!
//! Every write goes through one thread, in order. What waits together becomes one batch and shares one fsync; each part is
//! acknowledged only after it. Until then its entries are readable from memory.
//!
//! A crash leaves a prefix of what was written, at least everything acknowledged (`frame.rs` tells how the two are told
//! apart). Every record carries a checksum, verified whenever it is read; damage stops openraft, and the process, with the
//! name of the file and the place in it.

mod book;
mod files;
mod frame;
#[cfg(test)]
mod tests;

use super::types::{Entry, LogId, Stop, TypeConfig, Vote, stop};
use crate::error::{Context, Error, Result};
use crate::limits;
pub(super) use book::Book;
use coffer_stdx::fsx;
use files::Files;
pub(super) use files::Place;
pub(super) use frame::{Batch, Kind};
#[cfg(test)]
pub(super) use frame::{HEAD_BYTES, Head, acknowledgement, head, numbered, read_head, scan};
use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend};
use std::fmt::Debug;
use std::fs::{File, TryLockError};
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Jobs that wait for the writer; openraft waits beyond.
const MAX_WAITING_JOBS: usize = 1_024;

/// The log; clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

struct Shared {
    dir: PathBuf,
    book: Mutex<Book<Place>>,
    counters: Arc<LogCounters>,
    /// Held as long as anybody may write.
    _lock: File,
}

/// What the log did since the start.
#[derive(Debug, Default)]
pub(super) struct LogCounters {
    /// Batches made durable, one fsync each.
    pub(super) fsyncs: AtomicU64,
    /// Entries in them.
    pub(super) entries: AtomicU64,
    /// Bytes of entries in them.
    pub(super) bytes: AtomicU64,
}

struct Job {
    work: Work,
    done: Done,
}

enum Work {
    Append(Vec<(Arc<Entry>, Vec<u8>)>),
    Vote(Vec<u8>),
    /// Entries from this index on are void.
    Truncate(u64),
    /// Entries up to this index are void; the record says so.
    Purge(u64, Vec<u8>),
    /// Nothing: answers when everything before is durable.
    Barrier,
}

enum Done {
    Flushed(LogFlushed<TypeConfig>),
    Answer(oneshot::Sender<Result<()>>),
}

impl LogStore {
    /// Open the log in a directory, or create an empty one.
    pub(super) fn open(dir: &Path) -> Result<LogStore> {
        fsx::create_dir(dir)?;
        let lock = lock(dir)?;
        let (book, files) = Files::open(dir)?;
        let counters = Arc::new(LogCounters::default());
        let shared = Arc::new(Shared { dir: dir.to_owned(), book: Mutex::new(book), counters, _lock: lock });
        let (jobs, receiver) = mpsc::channel(MAX_WAITING_JOBS);
        let mut writer = Writer { shared: Arc::clone(&shared), files, committed: None, failed: None };
        let thread = std::thread::Builder::new().name("raft-log".to_owned());
        thread.spawn(move || writer.run(receiver)).context(|| "start the log writer")?;
        Ok(LogStore { shared, jobs })
    }

    /// The last entry purged; a snapshot must reach at least there.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.shared.book().purged
    }

    /// Whether it never had an entry.
    pub(super) fn is_empty(&self) -> bool {
        let book = self.shared.book();
        book.purged.is_none() && book.last().is_none()
    }

    /// What the log did since the start.
    pub(super) fn counters(&self) -> Arc<LogCounters> {
        Arc::clone(&self.shared.counters)
    }

    async fn write(&self, work: Work) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.send(Job { work, done: Done::Answer(answer) }).await?;
        answered.await.map_err(|_| self.shared.writer_gone())?
    }

    async fn send(&self, job: Job) -> Result<()> {
        self.jobs.send(job).await.map_err(|_| self.shared.writer_gone())
    }

    fn entries(&self, from: u64, to: u64) -> Result<Vec<Entry>> {
        let found = self.shared.book().range(from, to);
        found.into_iter().map(|(index, slot)| entry_of(index, slot)).collect()
    }
}

/// What a log holds; nothing is written, a torn tail is passed over.
pub(super) fn read(dir: &Path) -> Result<Book<Place>> {
    files::read(dir)
}

/// One process at a time; a writer that is still ending counts as one.
fn lock(dir: &Path) -> Result<File> {
    let file = File::open(dir).context(|| format!("open {}", dir.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::conflict(format!("metadata log {} is in use; stop what uses it first", dir.display())))
        }
        Err(TryLockError::Error(error)) => Err(error).context(|| format!("lock {}", dir.display())),
    }
}

/// An entry from memory or from its place.
pub(super) fn entry_of(index: u64, slot: book::Slot<Place>) -> Result<Entry> {
    match (slot.entry, slot.place) {
        (Some(entry), _) => Ok(Arc::unwrap_or_clone(entry)),
        (None, Some(place)) => {
            let payload = place.read()?;
            let (number, json) = frame::numbered(&payload).map_err(|why| place.damaged(why))?;
            if number != index {
                return Err(place.damaged("another entry is there"));
            }
            serde_json::from_slice(json).map_err(|error| place.damaged(&format!("entry {index}: {error}")))
        }
        (None, None) => Err(Error::bug(format!("entry {index} of the metadata log is nowhere"))),
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book<Place>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, entries: &[(Arc<Entry>, Vec<u8>)]) {
        let mut book = self.book();
        entries.iter().for_each(|(entry, json)| book.append(Arc::clone(entry), json.len()));
    }

    fn writer_gone(&self) -> Error {
        Error::bug(format!("the writer of metadata log {} has ended", self.dir.display()))
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    files: Files,
    /// As last written.
    committed: Option<LogId>,
    /// After a failed fsync nothing is known of what is on the disk: no more is written.
    failed: Option<Error>,
}

impl Writer {
    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut group = vec![first];
            while group.len() < limits::LOG_GROUP_APPENDS
                && let Ok(more) = jobs.try_recv()
            {
                group.push(more);
            }
            let result = match &self.failed {
                Some(error) => Err(error.clone()),
                None => self.write(&group),
            };
            if let Err(error) = &result {
                self.failed.get_or_insert_with(|| error.clone());
            }
            group.into_iter().for_each(|job| job.done.tell(&result));
        }
    }

    fn write(&mut self, group: &[Job]) -> Result<()> {
        self.files.rotate()?;
        let mut batch = Batch::default();
        let (committed, marks) = {
            let book = self.shared.book();
            (book.committed, self.files.fresh.then_some((book.vote, book.purged)))
        };
        if let Some((vote, purged)) = marks {
            vote.map(|vote| mark(&mut batch, Kind::Vote, &vote)).transpose()?;
            purged.map(|purged| mark(&mut batch, Kind::Purge, &purged)).transpose()?;
        }
        let mut entries: Vec<(&Arc<Entry>, (usize, usize))> = Vec::new();
        let (mut last_entry, mut purged, mut bytes) = (None, None, 0);
        for job in group {
            match &job.work {
                Work::Append(appended) => {
                    for (entry, json) in appended {
                        let index = entry.log_id.index;
                        let offset = batch.add(Kind::Entry, (&index.to_le_bytes(), json));
                        entries.push((entry, (offset, frame::RECORD_HEAD_BYTES + 8 + json.len())));
                        last_entry = last_entry.max(Some(index));
                        bytes += json.len() as u64;
                    }
                }
                Work::Vote(record) => drop(batch.add(Kind::Vote, (record, b""))),
                Work::Truncate(from) => drop(batch.add(Kind::Truncate, (&from.to_le_bytes(), b""))),
                Work::Purge(to, record) => {
                    batch.add(Kind::Purge, (record, b""));
                    purged = purged.max(Some(*to));
                }
                Work::Barrier => {}
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(committed) = committed.filter(|committed| self.committed != Some(*committed)) {
            mark(&mut batch, Kind::Committed, &committed)?;
            self.committed = Some(committed);
        }
        let start = self.files.write(batch, last_entry)?;
        let mut book = self.shared.book();
        for (entry, place) in &entries {
            book.durable(entry, self.files.place(start, *place));
        }
        drop(book);
        let counters = &self.shared.counters;
        counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        counters.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        purged.map_or(Ok(()), |purged| self.files.remove_up_to(purged))
    }
}

fn mark<T: serde::Serialize>(batch: &mut Batch, kind: Kind, value: &T) -> Result<()> {
    batch.add(kind, (&json(value)?, b""));
    Ok(())
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::bug(format!("encode a log record: {error}")))
}

impl Done {
    fn tell(self, result: &Result<()>) {
        match self {
            Done::Flushed(callback) => callback.log_io_completed(match result {
                Ok(()) => Ok(()),
                Err(error) => Err(std::io::Error::other(error.message().to_owned())),
            }),
            // Nobody waits any more only when openraft is going down.
            Done::Answer(answer) => drop(answer.send(result.clone())),
        }
    }
}

fn reading(error: Error) -> Stop {
    stop(ErrorSubject::Logs, ErrorVerb::Read, &error)
}

fn writing(error: Error) -> Stop {
    stop(ErrorSubject::Logs, ErrorVerb::Write, &error)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> std::result::Result<Vec<Entry>, Stop> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(from, to).map_err(reading)
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> std::result::Result<Vec<Entry>, Stop> {
        let to = self.shared.book().within(from, to, limits::LOG_READ_BYTES);
        self.entries(from, to).map_err(reading)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> std::result::Result<LogState<TypeConfig>, Stop> {
        self.write(Work::Barrier).await.map_err(writing)?;
        let (last_purged_log_id, last) = {
            let book = self.shared.book();
            (book.purged, book.last())
        };
        let last = last.map(|(index, slot)| entry_of(index, slot)).transpose().map_err(reading)?;
        Ok(LogState { last_purged_log_id, last_log_id: last.map(|entry| entry.log_id).or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> std::result::Result<(), Stop> {
        let failed = |error| stop(ErrorSubject::Vote, ErrorVerb::Write, &error);
        let record = json(vote).map_err(failed)?;
        self.write(Work::Vote(record)).await.map_err(failed)?;
        self.shared.book().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> std::result::Result<Option<Vote>, Stop> {
        Ok(self.shared.book().vote)
    }

    /// In memory; the next batch takes it along. After a crash an older one is read, which is as true.
    async fn save_committed(&mut self, committed: Option<LogId>) -> std::result::Result<(), Stop> {
        self.shared.book().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> std::result::Result<Option<LogId>, Stop> {
        Ok(self.shared.book().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> std::result::Result<(), Stop>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encoded: Result<Vec<(Arc<Entry>, Vec<u8>)>> =
            entries.into_iter().map(|entry| json(&entry).map(|json| (Arc::new(entry), json))).collect();
        let encoded = encoded.map_err(writing)?;
        self.shared.remember(&encoded);
        self.send(Job { work: Work::Append(encoded), done: Done::Flushed(callback) }).await.map_err(writing)
    }

    async fn truncate(&mut self, from: LogId) -> std::result::Result<(), Stop> {
        self.shared.book().truncate(from.index);
        self.write(Work::Truncate(from.index)).await.map_err(writing)
    }

    async fn purge(&mut self, to: LogId) -> std::result::Result<(), Stop> {
        let record = json(&to).map_err(writing)?;
        self.shared.book().purge(to);
        self.write(Work::Purge(to.index, record)).await.map_err(writing)
    }
}
