//! Rows of one load on their way into the files of this backend's tablets.
//!
//! Rows wait in memory by tablet, so that a small load makes one file per tablet; a tablet with much, or a load with more
//! than its share of memory, becomes files early. Nothing is durable or visible to others until [`Receiver::finish`]
//! returns; a receiver that is dropped before removes what it wrote.

use crate::limits::TABLET_BUFFER_BYTES;
use crate::load::LoadDeps;
use crate::load::batches::batch_bytes;
use crate::load::memory::Held;
use crate::sync;
use crate::tablet::{DataFile, LoadWriter, rowset};
use crate::task::blocking;
use arrow::array::RecordBatch;
use coffer_proto::v1;
use coffer_stdx::{Error, Result};
use coffer_table::Schema;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Takes the rows of one load for this backend.
#[derive(Debug)]
pub struct Receiver {
    deps: LoadDeps,
    schema: Arc<Schema>,
    writer: Option<LoadWriter>,
    buffers: BTreeMap<u64, Buffer>,
    buffered: usize,
    held: Held,
}

#[derive(Debug, Default)]
struct Buffer {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

type Work = Vec<(u64, Vec<RecordBatch>)>;

impl Receiver {
    /// Begin; Conflict when the transaction has rows here already.
    pub fn begin(deps: &LoadDeps, transaction: u64, schema: Arc<Schema>) -> Result<Receiver> {
        Ok(Receiver {
            deps: deps.clone(),
            schema,
            writer: Some(LoadWriter::begin(&deps.store, transaction)?),
            buffers: BTreeMap::new(),
            buffered: 0,
            held: deps.memory.hold(),
        })
    }

    /// Take rows of one tablet, in table column order.
    pub async fn push(&mut self, tablet: u64, batch: RecordBatch) -> Result<()> {
        let bytes = batch_bytes(&batch);
        let buffer = self.buffers.entry(tablet).or_default();
        buffer.batches.push(batch);
        buffer.bytes += bytes;
        let full = buffer.bytes >= TABLET_BUFFER_BYTES;
        self.hold(self.buffered + bytes);
        if full {
            let work = self.take(&[tablet]);
            self.write(work).await?;
        }
        if self.held.is_over() {
            let work = self.take_largest();
            self.write(work).await?;
        }
        Ok(())
    }

    /// Everything into files, durable. Returns what each tablet got.
    pub async fn finish(mut self) -> Result<Vec<v1::TabletWritten>> {
        let all: Vec<u64> = self.buffers.keys().copied().collect();
        let work = self.take(&all);
        self.write(work).await?;
        let writer = self.writer.take().ok_or_else(gone)?;
        let written = blocking(move || writer.finish()).await?;
        for (_, rows, bytes) in &written {
            self.deps.metrics.written_rows.inc_by(*rows);
            self.deps.metrics.written_bytes.inc_by(*bytes);
        }
        let written = written.into_iter();
        Ok(written
            .map(|(tablet_id, rows, bytes)| v1::TabletWritten { tablet_id, rows, bytes, backend_ids: vec![] })
            .collect())
    }

    fn hold(&mut self, bytes: usize) {
        self.buffered = bytes;
        self.held.set(bytes);
    }

    fn take(&mut self, tablets: &[u64]) -> Work {
        let mut work = Work::new();
        for tablet in tablets {
            if let Some(buffer) = self.buffers.remove(tablet) {
                self.buffered -= buffer.bytes;
                work.push((*tablet, buffer.batches));
            }
        }
        work
    }

    /// The largest tablets, together at least half of all.
    fn take_largest(&mut self) -> Work {
        let mut sizes: Vec<(usize, u64)> =
            self.buffers.iter().map(|(tablet, buffer)| (buffer.bytes, *tablet)).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let mut wanted = self.buffered / 2;
        let mut tablets = Vec::new();
        for (bytes, tablet) in sizes {
            tablets.push(tablet);
            if bytes >= wanted {
                break;
            }
            wanted -= bytes;
        }
        self.take(&tablets)
    }

    async fn write(&mut self, work: Work) -> Result<()> {
        if !work.is_empty() {
            let mut writer = self.writer.take().ok_or_else(gone)?;
            let schema = self.schema.clone();
            let wrote = blocking(move || write_files(&mut writer, &schema, work).map(|()| writer)).await?;
            self.writer = Some(wrote);
        }
        self.hold(self.buffered);
        Ok(())
    }
}

fn gone() -> Error {
    Error::cancelled("the load failed before")
}

/// Write one file per tablet, several at a time.
fn write_files(writer: &mut LoadWriter, schema: &Schema, work: Work) -> Result<()> {
    let with_dir = |(tablet, batches): (u64, Vec<RecordBatch>)| writer.dir(tablet).map(|dir| (tablet, dir, batches));
    let work: Vec<(u64, PathBuf, Vec<RecordBatch>)> = work.into_iter().map(with_dir).collect::<Result<_>>()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(work.len());
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Ok::<Vec<(u64, DataFile)>, Error>(Vec::new())));
    let write = || {
        while let Some((tablet, dir, batches)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let written = rowset::write_file(dir, schema, batches);
            let mut done = sync::lock(&done);
            match (done.as_mut(), written) {
                (Ok(files), Ok(file)) => files.push((*tablet, file)),
                (Ok(_), Err(error)) => *done = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(write);
        }
        write();
    });
    let done = std::mem::replace(&mut *sync::lock(&done), Ok(Vec::new()));
    done?.into_iter().for_each(|(tablet, file)| writer.add(tablet, file));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::testing::deps;
    use crate::tablet::testing::{batch, schema};

    #[tokio::test]
    async fn a_small_load_makes_one_file_per_tablet() {
        let dir = tempfile::tempdir().unwrap();
        let deps = deps(dir.path(), 64 << 20);
        let mut receiver = Receiver::begin(&deps, 100, Arc::new(schema())).unwrap();
        for (tablet, ids) in [(7, [1, 2]), (8, [3, 4]), (7, [5, 6])] {
            receiver.push(tablet, batch(&ids)).await.unwrap();
        }
        let written = receiver.finish().await.unwrap();
        let rows: Vec<(u64, u64)> = written.iter().map(|tablet| (tablet.tablet_id, tablet.rows)).collect();
        assert_eq!(rows, [(7, 4), (8, 2)]);
        assert_eq!(std::fs::read_dir(dir.path().join("staging/100/7")).unwrap().count(), 1);
        assert_eq!(deps.store.staged_transactions(), [100]);
        assert_eq!(deps.metrics.load_memory_bytes.get(), 0);
    }

    #[tokio::test]
    async fn a_load_larger_than_its_memory_becomes_files_early() {
        let dir = tempfile::tempdir().unwrap();
        let deps = deps(dir.path(), 10_000);
        let mut receiver = Receiver::begin(&deps, 100, Arc::new(schema())).unwrap();
        for number in 0..20 {
            let ids: Vec<i32> = (0..200).map(|row| number * 200 + row).collect();
            receiver.push(7 + u64::from(number % 2 == 0), batch(&ids)).await.unwrap();
            assert!(deps.metrics.load_memory_bytes.get() <= 10_000);
        }
        let written = receiver.finish().await.unwrap();
        assert_eq!(written.iter().map(|tablet| tablet.rows).sum::<u64>(), 4_000);
        assert!(std::fs::read_dir(dir.path().join("staging/100/7")).unwrap().count() > 1);
    }

    #[tokio::test]
    async fn a_load_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let deps = deps(dir.path(), 1);
        let mut receiver = Receiver::begin(&deps, 100, Arc::new(schema())).unwrap();
        receiver.push(7, batch(&[1])).await.unwrap();
        assert!(dir.path().join("staging/100/7").exists());
        drop(receiver);
        assert!(!dir.path().join("staging/100").exists());
        assert!(deps.store.staged_transactions().is_empty());
    }
}
