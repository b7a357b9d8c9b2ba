//! The Raft log and vote in one redb file.
//!
//! Every write goes through one thread, in order. Appends that wait together are joined into one transaction, so that many
//! statements share one fsync; each is acknowledged only after it. Until then its entries are readable from memory.
//!
//! A crash leaves a prefix of what was appended, at least everything acknowledged: redb commits are atomic. Every record
//! carries a checksum; a record that does not match stops openraft, and the process, with the name of the file.

use super::codec;
use super::types::{Entry, LogId, NodeId, Stop, TypeConfig, stop};
use crate::error::{Context, Error, Result};
use crate::limits;
use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, Vote};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const MARKS: TableDefinition<&str, &[u8]> = TableDefinition::new("marks");
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const CACHE_BYTES: usize = 16 << 20;
/// Jobs that wait for the writer; openraft waits beyond.
const MAX_WAITING_JOBS: usize = 1_024;

type Record = Arc<[u8]>;

/// The log; clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    file: Arc<LogFile>,
    jobs: mpsc::Sender<Job>,
}

struct LogFile {
    path: PathBuf,
    database: Database,
    /// Appended, not yet durable.
    waiting: Mutex<BTreeMap<u64, Record>>,
}

enum Job {
    Append(Vec<(u64, Record)>, LogFlushed<TypeConfig>),
    Write(Write, oneshot::Sender<Result<()>>),
}

enum Write {
    Vote(Vec<u8>),
    /// Remove entries from this index on.
    Truncate(u64),
    /// Remove entries up to this index; the record says so.
    Purge(u64, Vec<u8>),
    /// Nothing: answers when everything before is durable.
    Barrier,
}

impl LogStore {
    /// Open the log, or create an empty one.
    pub(super) fn open(path: &Path) -> Result<LogStore> {
        let named = |error: &dyn std::fmt::Display| Error::corrupt(format!("metadata log {}: {error}", path.display()));
        let mut builder = Database::builder();
        let database = builder.set_cache_size(CACHE_BYTES).create(path).map_err(|error| named(&error))?;
        let create = || -> std::result::Result<(), redb::Error> {
            let write = database.begin_write()?;
            write.open_table(ENTRIES)?;
            write.open_table(MARKS)?;
            Ok(write.commit()?)
        };
        create().map_err(|error| named(&error))?;
        let file = Arc::new(LogFile { path: path.to_owned(), database, waiting: Mutex::default() });
        let (jobs, receiver) = mpsc::channel(MAX_WAITING_JOBS);
        let writer = file.clone();
        std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run(receiver))
            .context(|| "start the log writer")?;
        Ok(LogStore { file, jobs })
    }

    /// The last entry purged; a snapshot must reach at least there.
    pub(super) fn purged(&self) -> Result<Option<LogId>> {
        self.file.mark(PURGED)
    }

    async fn write(&self, write: Write) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Write(write, answer)).await.map_err(|_| self.file.writer_gone())?;
        answered.await.map_err(|_| self.file.writer_gone())?
    }
}

impl LogFile {
    fn run(&self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let (mut entries, mut flushed, mut next) = (Vec::new(), Vec::new(), Some(first));
            while let Some(Job::Append(more, callback)) = next {
                entries.extend(more);
                flushed.push(callback);
                next = if flushed.len() < limits::LOG_GROUP_APPENDS { jobs.try_recv().ok() } else { None };
            }
            self.append(&entries, flushed);
            if let Some(Job::Write(write, answer)) = next {
                // Nobody waits any more only when openraft is going down.
                let _ = answer.send(self.perform(&write));
            }
        }
    }

    fn append(&self, entries: &[(u64, Record)], flushed: Vec<LogFlushed<TypeConfig>>) {
        if flushed.is_empty() {
            return;
        }
        let result = self.transaction(|write| {
            let mut table = write.open_table(ENTRIES)?;
            for (index, record) in entries {
                table.insert(*index, &record[..])?;
            }
            Ok(())
        });
        let mut waiting = self.waiting();
        for (index, record) in entries {
            // A later append may have put another entry at the same index.
            if waiting.get(index).is_some_and(|now| Arc::ptr_eq(now, record)) {
                waiting.remove(index);
            }
        }
        drop(waiting);
        for callback in flushed {
            callback.log_io_completed(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(std::io::Error::other(error.message().to_owned())),
            });
        }
    }

    fn perform(&self, write: &Write) -> Result<()> {
        match write {
            Write::Barrier => Ok(()),
            Write::Vote(record) => self.transaction(|write| {
                write.open_table(MARKS)?.insert(VOTE, record.as_slice())?;
                Ok(())
            }),
            Write::Truncate(from) => self.transaction(|write| {
                write.open_table(ENTRIES)?.retain_in(*from.., |_, _| false)?;
                Ok(())
            }),
            Write::Purge(to, record) => self.transaction(|write| {
                write.open_table(MARKS)?.insert(PURGED, record.as_slice())?;
                write.open_table(ENTRIES)?.retain_in(..=*to, |_, _| false)?;
                Ok(())
            }),
        }
    }

    /// One durable transaction.
    fn transaction(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> std::result::Result<(), redb::Error>,
    ) -> Result<()> {
        let run = || -> std::result::Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            work(&write)?;
            Ok(write.commit()?)
        };
        run().map_err(|error| self.failed(&error))
    }

    fn mark<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let read = || -> std::result::Result<Option<Vec<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(MARKS)?;
            Ok(table.get(name)?.map(|record| record.value().to_vec()))
        };
        let record = read().map_err(|error| self.failed(&error))?;
        record.map(|record| codec::open(&record, || format!("{name} in {}", self.path.display()))).transpose()
    }

    fn entry(&self, index: u64, record: &[u8]) -> Result<Entry> {
        codec::open(record, || format!("entry {index} of metadata log {}", self.path.display()))
    }

    fn entries(&self, from: u64, to: u64) -> Result<Vec<Entry>> {
        // Memory first, then the table: an entry moves only from here to there, so none is missed.
        let waiting: Vec<(u64, Record)> =
            self.waiting().range(from..to).map(|(index, record)| (*index, record.clone())).collect();
        let read = || -> std::result::Result<Vec<(u64, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(ENTRIES)?;
            let mut found = Vec::new();
            for item in table.range(from..to)? {
                let (index, record) = item?;
                found.push((index.value(), record.value().to_vec()));
            }
            Ok(found)
        };
        let mut entries = BTreeMap::new();
        for (index, record) in read().map_err(|error| self.failed(&error))? {
            entries.insert(index, self.entry(index, &record)?);
        }
        for (index, record) in waiting {
            entries.insert(index, self.entry(index, &record)?);
        }
        Ok(entries.into_values().collect())
    }

    fn last(&self) -> Result<Option<LogId>> {
        let read = || -> std::result::Result<Option<(u64, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(ENTRIES)?;
            Ok(table.last()?.map(|(index, record)| (index.value(), record.value().to_vec())))
        };
        match read().map_err(|error| self.failed(&error))? {
            Some((index, record)) => Ok(Some(self.entry(index, &record)?.log_id)),
            None => Ok(None),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Record>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &redb::Error) -> Error {
        let path = self.path.display();
        match error {
            redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
                Error::no_space(format!("metadata log {path}: no space left; free space and start again"))
            }
            redb::Error::Corrupted(_) => Error::corrupt(format!("metadata log {path}: {error}")),
            _ => Error::unavailable(format!("metadata log {path}: {error}")),
        }
    }

    fn writer_gone(&self) -> Error {
        Error::bug(format!("the writer of metadata log {} has ended", self.path.display()))
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
        if from >= to { Ok(Vec::new()) } else { self.file.entries(from, to).map_err(reading) }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> std::result::Result<LogState<TypeConfig>, Stop> {
        self.write(Write::Barrier).await.map_err(writing)?;
        let last_purged_log_id = self.purged().map_err(reading)?;
        let last_log_id = self.file.last().map_err(reading)?.or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> std::result::Result<(), Stop> {
        let failed = |error| stop(ErrorSubject::Vote, ErrorVerb::Write, &error);
        let record = codec::seal(vote).map_err(failed)?;
        self.write(Write::Vote(record)).await.map_err(failed)
    }

    async fn read_vote(&mut self) -> std::result::Result<Option<Vote<NodeId>>, Stop> {
        self.file.mark(VOTE).map_err(|error| stop(ErrorSubject::Vote, ErrorVerb::Read, &error))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> std::result::Result<(), Stop>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let sealed: Result<Vec<(u64, Record)>> =
            entries.into_iter().map(|entry| Ok((entry.log_id.index, codec::seal(&entry)?.into()))).collect();
        let sealed = sealed.map_err(writing)?;
        self.file.waiting().extend(sealed.iter().cloned());
        self.jobs.send(Job::Append(sealed, callback)).await.map_err(|_| writing(self.file.writer_gone()))
    }

    async fn truncate(&mut self, from: LogId) -> std::result::Result<(), Stop> {
        self.write(Write::Truncate(from.index)).await.map_err(writing)
    }

    async fn purge(&mut self, to: LogId) -> std::result::Result<(), Stop> {
        let record = codec::seal(&to).map_err(writing)?;
        self.write(Write::Purge(to.index, record)).await.map_err(writing)
    }
}
