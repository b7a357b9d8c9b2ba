//! Rows into immutable Parquet files: sorted by the key columns, zstd level 1, BLAKE3 computed as the bytes pass.
//!
//! A file is written once under a random name and never touched again. It counts only when a meta or a staging manifest
//! names it, and whoever writes that file first makes this one durable.

use crate::limits::{PAGE_BYTES, ROW_GROUP_BYTES, ROW_GROUP_ROWS};
use crate::tablet::layout::ROWS_SUFFIX;
use crate::tablet::meta::DataFile;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_table::{Schema, merge};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// Sort rows and write them as one file in `dir`; where the schema says so, rows with equal keys become one. Not durable by
/// itself.
pub fn write_file(dir: &Path, schema: &Schema, batches: &[RecordBatch]) -> Result<DataFile> {
    write_rows(dir, schema, batches.to_vec())
}

/// As [`write_file`], for batches that nobody else holds: their memory is free before the rows are sorted.
pub fn write_rows(dir: &Path, schema: &Schema, batches: Vec<RecordBatch>) -> Result<DataFile> {
    let rows = concat_batches(&schema.arrow(), &batches).map_err(from_arrow)?;
    drop(batches);
    let rows = merge::combine(schema, merge::sort(schema, rows)?)?;
    let mut writer = FileWriter::create(dir, schema)?;
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()
}

/// Writes one file, batch by batch. Dropped before [`FileWriter::finish`], it leaves a file that no meta names.
pub(crate) struct FileWriter {
    name: String,
    path: PathBuf,
    writer: ArrowWriter<Hashing<BufWriter<File>>>,
    rows: u64,
}

impl FileWriter {
    /// A new file in `dir`.
    pub(crate) fn create(dir: &Path, schema: &Schema) -> Result<FileWriter> {
        let name = format!("{}.{ROWS_SUFFIX}", uuid::Uuid::new_v4().simple());
        let path = dir.join(&name);
        let create = || {
            let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, File::create(&path)?);
            let options = ArrowWriterOptions::new().with_properties(properties()).with_skip_arrow_metadata(true);
            let output = Hashing { inner: file, hasher: blake3::Hasher::new(), bytes: 0 };
            ArrowWriter::try_new_with_options(output, schema.arrow(), options).map_err(from_parquet)
        };
        let writer = create().context(|| format!("write rows to {}", path.display()))?;
        Ok(FileWriter { name, path, writer, rows: 0 })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// More rows, in key order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut write = || -> Result<()> {
            self.writer.write(batch).map_err(from_parquet)?;
            if self.writer.memory_size() > ROW_GROUP_BYTES {
                self.writer.flush().map_err(from_parquet)?;
            }
            Ok(())
        };
        self.rows += batch.num_rows() as u64;
        write().context(|| format!("write rows to {}", self.path.display()))
    }

    /// All rows were given.
    pub(crate) fn finish(self) -> Result<DataFile> {
        let FileWriter { name, path, writer, rows } = self;
        let finish = || -> Result<DataFile> {
            let mut output = writer.into_inner().map_err(from_parquet)?;
            output.flush()?;
            let blake3 = output.hasher.finalize().to_hex().to_string();
            Ok(DataFile { name, bytes: output.bytes, rows, blake3 })
        };
        finish().context(|| format!("write rows to {}", path.display()))
    }
}

fn properties() -> WriterProperties {
    // Level 1 exists, so the default is never taken.
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by("coffer".to_owned())
        .build()
}

/// Hashes and counts what is written.
#[derive(Debug)]
struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A Parquet error as ours: I/O keeps its kind, everything else is Corrupt.
pub(crate) fn from_parquet(error: ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(io) => Error::from(*io),
            Err(cause) => Error::corrupt(format!("parquet: {cause}")),
        },
        other => Error::corrupt(other.to_string()),
    }
}

/// An Arrow error on batches that we made: a defect.
pub(crate) fn from_arrow(error: arrow::error::ArrowError) -> Error {
    Error::bug(format!("arrow: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::{batch, schema};
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn a_file_is_sorted_hashed_and_reads_back_with_the_same_types() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_file(dir.path(), &schema(), &[batch(&[3, 1]), batch(&[2])]).unwrap();
        let bytes = std::fs::read(dir.path().join(&written.name)).unwrap();
        assert_eq!(written.bytes, bytes.len() as u64);
        assert_eq!(written.blake3, blake3::hash(&bytes).to_hex().to_string());
        let file = File::open(dir.path().join(&written.name)).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let read: Vec<RecordBatch> = builder.build().unwrap().map(|batch| batch.unwrap()).collect();
        assert_eq!(read[0].column(0).as_primitive::<Int32Type>().values(), &[1, 2, 3]);
        assert_eq!(read[0].schema().field(1).data_type(), schema().arrow().field(1).data_type());
    }

    #[test]
    fn rows_with_equal_keys_become_one_where_the_schema_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let schema = Schema { model: coffer_table::Model::Unique, ..schema() };
        let written = write_file(dir.path(), &schema, &[batch(&[5, 4]), batch(&[4, 1])]).unwrap();
        assert_eq!(written.rows, 3);
        assert_eq!(write_file(dir.path(), &schema, &[]).unwrap().rows, 0);
    }
}
