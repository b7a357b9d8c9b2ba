//! Rows of one load on their way into the files of this backend's tablets.
//!
//! Rows wait in memory by tablet. A tablet becomes a file each time its rows reach [`TABLET_BUFFER_BYTES`], and at the end;
//! where files begin and end depends on the rows alone, so all replicas write the same bytes, and a scan that goes on at
//! another replica goes on at the same row. A load with more than its share of memory puts rows aside in *runs*, plain
//! Arrow files that are read back when their tablet becomes a file.
//!
//! Nothing is durable or visible to others until [`Receiver::finish`] returns; a receiver that is dropped before removes
//! what it wrote.

use crate::limits::TABLET_BUFFER_BYTES;
use crate::load::LoadDeps;
use crate::load::batches::batch_bytes;
use crate::load::memory::Held;
use crate::sync;
use crate::tablet::{DataFile, LoadWriter, rowset};
use crate::task::blocking;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use coffer_proto::v1;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use coffer_table::Schema;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// Takes the rows of one load for this backend.
#[derive(Debug)]
pub struct Receiver {
    deps: LoadDeps,
    schema: Arc<Schema>,
    writer: Writer,
    buffers: BTreeMap<u64, Buffer>,
    /// Rows taken by tablet; there are fewer in files where rows with equal keys become one.
    taken: BTreeMap<u64, u64>,
    /// Bytes in memory, in buffers and in the file being written.
    buffered: usize,
    held: Held,
}

/// The writer, or the file work that has it.
#[derive(Debug)]
enum Writer {
    Idle(LoadWriter),
    /// A file of a full tablet is being written while more rows come in.
    Busy {
        task: JoinHandle<Result<LoadWriter>>,
        bytes: usize,
    },
    /// File work failed, and the load with it.
    Gone,
}

/// Rows of one tablet that are not in a file yet, in the order they came: first the runs, then the batches.
#[derive(Debug, Default)]
struct Buffer {
    runs: Vec<PathBuf>,
    batches: Vec<RecordBatch>,
    /// Bytes in memory.
    bytes: usize,
    /// Bytes in runs and in memory.
    total: usize,
}

type Work = Vec<(u64, Buffer)>;

impl Receiver {
    /// Begin; Conflict when the transaction has rows here already.
    pub fn begin(deps: &LoadDeps, transaction: u64, schema: Arc<Schema>) -> Result<Receiver> {
        Ok(Receiver {
            deps: deps.clone(),
            schema,
            writer: Writer::Idle(LoadWriter::begin(&deps.store, transaction)?),
            buffers: BTreeMap::new(),
            taken: BTreeMap::new(),
            buffered: 0,
            held: deps.memory.hold(),
        })
    }

    /// Take rows of one tablet, in table column order.
    pub async fn push(&mut self, tablet: u64, batch: RecordBatch) -> Result<()> {
        let bytes = batch_bytes(&batch);
        *self.taken.entry(tablet).or_default() += batch.num_rows() as u64;
        let buffer = self.buffers.entry(tablet).or_default();
        buffer.batches.push(batch);
        buffer.bytes += bytes;
        buffer.total += bytes;
        let full = buffer.total >= TABLET_BUFFER_BYTES;
        self.hold(self.buffered + bytes);
        if full && let Some(buffer) = self.buffers.remove(&tablet) {
            self.write_behind(tablet, buffer).await?;
        }
        if self.held.is_over() {
            self.wait().await?;
        }
        if self.held.is_over() {
            self.put_aside().await?;
        }
        Ok(())
    }

    /// Everything into files, durable. Returns what each tablet got.
    pub async fn finish(mut self) -> Result<Vec<v1::TabletWritten>> {
        let work: Work = std::mem::take(&mut self.buffers).into_iter().collect();
        self.with_writer(move |writer, schema| write_files(writer, schema, work)).await?;
        self.hold(0);
        let writer = self.idle().await?;
        let written = blocking(move || writer.finish()).await?;
        for (_, rows, bytes) in &written {
            self.deps.metrics.written_rows.inc_by(*rows);
            self.deps.metrics.written_bytes.inc_by(*bytes);
        }
        let taken = |tablet: u64| self.taken.get(&tablet).copied().unwrap_or_default();
        let tablet = |(tablet_id, _, bytes)| v1::TabletWritten {
            tablet_id,
            rows: taken(tablet_id),
            bytes,
            backend_ids: Vec::new(),
        };
        Ok(written.into_iter().map(tablet).collect())
    }

    fn hold(&mut self, bytes: usize) {
        self.buffered = bytes;
        self.held.set(bytes);
    }

    /// Put the rows of the largest tablets, together at least half of all, into runs.
    async fn put_aside(&mut self) -> Result<()> {
        let mut sizes: Vec<(usize, u64)> =
            self.buffers.iter().map(|(tablet, buffer)| (buffer.bytes, *tablet)).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let (mut freed, half) = (0, self.buffered / 2);
        let mut work = Vec::new();
        for (bytes, tablet) in sizes {
            if let Some(buffer) = self.buffers.get_mut(&tablet) {
                work.push((tablet, std::mem::take(&mut buffer.batches)));
                freed += std::mem::take(&mut buffer.bytes);
            }
            if freed >= half || bytes == 0 {
                break;
            }
        }
        let runs = self.with_writer(move |writer, _| write_runs(writer, work)).await?;
        for (tablet, run) in runs {
            self.buffers.entry(tablet).or_default().runs.push(run);
        }
        self.hold(self.buffered - freed);
        Ok(())
    }

    /// Write the file of a full tablet, while more rows come in.
    async fn write_behind(&mut self, tablet: u64, buffer: Buffer) -> Result<()> {
        let (mut writer, schema, bytes) = (self.idle().await?, self.schema.clone(), buffer.bytes);
        let write = move || write_files(&mut writer, &schema, vec![(tablet, buffer)]).map(|()| writer);
        self.writer = Writer::Busy { task: tokio::spawn(blocking(write)), bytes };
        Ok(())
    }

    /// Wait for the file being written.
    async fn wait(&mut self) -> Result<()> {
        let writer = self.idle().await?;
        self.writer = Writer::Idle(writer);
        Ok(())
    }

    /// The writer, once it is idle; the caller puts it back.
    async fn idle(&mut self) -> Result<LoadWriter> {
        match std::mem::replace(&mut self.writer, Writer::Gone) {
            Writer::Idle(writer) => Ok(writer),
            Writer::Busy { task, bytes } => {
                let writer = task.await.map_err(|_| Error::bug("writing a file of a load panicked"))??;
                self.hold(self.buffered - bytes);
                Ok(writer)
            }
            Writer::Gone => Err(Error::cancelled("the load failed before")),
        }
    }

    /// Run file work with the writer; when it fails, the writer is gone and the load with it.
    async fn with_writer<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut LoadWriter, &Schema) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (mut writer, schema) = (self.idle().await?, self.schema.clone());
        let (writer, done) = blocking(move || work(&mut writer, &schema).map(|done| (writer, done))).await?;
        self.writer = Writer::Idle(writer);
        Ok(done)
    }
}

/// Write one run per tablet.
fn write_runs(writer: &mut LoadWriter, work: Vec<(u64, Vec<RecordBatch>)>) -> Result<Vec<(u64, PathBuf)>> {
    let mut runs = Vec::with_capacity(work.len());
    for (tablet, batches) in work {
        let Some(first) = batches.first() else { continue };
        let path = writer.dir(tablet)?.join(format!("{}.run", uuid::Uuid::new_v4().simple()));
        let file = File::create(&path).context(|| format!("create {}", path.display()))?;
        let write = || {
            let mut stream = StreamWriter::try_new_buffered(file, first.schema_ref())?;
            batches.iter().try_for_each(|batch| stream.write(batch))?;
            stream.finish()
        };
        write().map_err(from_ipc).context(|| format!("put rows aside in {}", path.display()))?;
        runs.push((tablet, path));
    }
    Ok(runs)
}

fn read_run(path: &Path) -> Result<Vec<RecordBatch>> {
    let file = File::open(path).context(|| format!("open {}", path.display()))?;
    let read = || StreamReader::try_new_buffered(file, None)?.collect::<std::result::Result<Vec<_>, _>>();
    read().map_err(from_ipc).context(|| format!("read rows put aside in {}", path.display()))
}

fn from_ipc(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, cause) => Error::from(cause),
        other => Error::corrupt(other.to_string()),
    }
}

/// Write one file per tablet, several at a time.
fn write_files(writer: &mut LoadWriter, schema: &Schema, work: Work) -> Result<()> {
    let with_dir = |(tablet, buffer): (u64, Buffer)| writer.dir(tablet).map(|dir| (tablet, dir, Mutex::new(buffer)));
    let work: Vec<(u64, PathBuf, Mutex<Buffer>)> = work.into_iter().map(with_dir).collect::<Result<_>>()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(work.len());
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Ok::<Vec<(u64, DataFile)>, Error>(Vec::new())));
    let write = || {
        while let Some((tablet, dir, buffer)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let buffer = std::mem::take(&mut *sync::lock(buffer));
            let written = write_file(dir, schema, buffer);
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

fn write_file(dir: &Path, schema: &Schema, buffer: Buffer) -> Result<DataFile> {
    let mut batches = Vec::new();
    for run in &buffer.runs {
        batches.extend(read_run(run)?);
        fsx::remove(run)?;
    }
    batches.extend(buffer.batches);
    rowset::write_rows(dir, schema, batches)
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
    async fn memory_is_bounded_and_does_not_change_the_files() {
        assert_eq!(load(10_000).await, load(64 << 20).await);
    }

    /// Hashes of the files of a load with so much memory.
    async fn load(memory: u64) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let deps = deps(dir.path(), memory);
        let mut receiver = Receiver::begin(&deps, 100, Arc::new(schema())).unwrap();
        for number in 0..20 {
            let ids: Vec<i32> = (0..200).map(|row| number * 200 + row).collect();
            receiver.push(7 + u64::from(number % 2 == 0), batch(&ids)).await.unwrap();
            assert!(deps.metrics.load_memory_bytes.get() as u64 <= memory);
        }
        let runs = std::fs::read_dir(dir.path().join("staging/100/7")).map_or(0, Iterator::count);
        assert_eq!(runs > 0, memory == 10_000);
        let written = receiver.finish().await.unwrap();
        assert_eq!(written.iter().map(|tablet| tablet.rows).sum::<u64>(), 4_000);
        let file = |tablet: u64| {
            let entries = std::fs::read_dir(dir.path().join(format!("staging/100/{tablet}"))).unwrap();
            let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
            assert_eq!(paths.len(), 1);
            blake3::hash(&std::fs::read(&paths[0]).unwrap()).to_hex().to_string()
        };
        vec![file(7), file(8)]
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
