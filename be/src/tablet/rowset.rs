//! Rows into immutable Parquet files: sorted by the key columns, zstd level 1, BLAKE3 computed as the bytes pass.
//!
//! A file is written once under a random name and never touched again. It counts only when a meta or a staging manifest
//! names it, and whoever writes that file first makes this one durable.

use crate::limits::{PAGE_BYTES, ROW_GROUP_ROWS};
use crate::tablet::layout::ROWS_SUFFIX;
use crate::tablet::meta::DataFile;
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, sort_to_indices, take_record_batch};
use arrow::row::{RowConverter, SortField};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_table::Schema;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

const SORT: SortOptions = SortOptions { descending: false, nulls_first: true };
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// Sort rows and write them as one file in `dir`. Not durable by itself.
pub fn write_file(dir: &Path, schema: &Schema, batches: &[RecordBatch]) -> Result<DataFile> {
    write_rows(dir, schema, batches.to_vec())
}

/// As [`write_file`], for batches that nobody else holds: their memory is free before the rows are sorted.
pub fn write_rows(dir: &Path, schema: &Schema, batches: Vec<RecordBatch>) -> Result<DataFile> {
    let rows = concat_batches(&schema.arrow(), &batches).map_err(from_arrow)?;
    drop(batches);
    let name = format!("{}.{ROWS_SUFFIX}", uuid::Uuid::new_v4().simple());
    let path = dir.join(&name);
    let sorted = sort(schema, rows)?;
    let write = || -> Result<DataFile> {
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, File::create(&path)?);
        let options = ArrowWriterOptions::new().with_properties(properties()).with_skip_arrow_metadata(true);
        let output = Hashing { inner: file, hasher: blake3::Hasher::new(), bytes: 0 };
        let mut writer = ArrowWriter::try_new_with_options(output, schema.arrow(), options).map_err(from_parquet)?;
        writer.write(&sorted).map_err(from_parquet)?;
        let mut output = writer.into_inner().map_err(from_parquet)?;
        output.flush()?;
        let blake3 = output.hasher.finalize().to_hex().to_string();
        Ok(DataFile { name, bytes: output.bytes, rows: sorted.num_rows() as u64, blake3 })
    };
    write().context(|| format!("write rows to {}", path.display()))
}

/// One batch with the rows of all, in the order of the key columns; equal keys keep their order.
pub fn sort_rows(schema: &Schema, batches: &[RecordBatch]) -> Result<RecordBatch> {
    sort(schema, concat_batches(&schema.arrow(), batches).map_err(from_arrow)?)
}

fn sort(schema: &Schema, rows: RecordBatch) -> Result<RecordBatch> {
    let keys = schema.key_count();
    if keys == 0 || rows.num_rows() < 2 {
        return Ok(rows);
    }
    let order = sorted_order(&rows.columns()[..keys])?;
    if order.values().windows(2).all(|pair| pair[0] < pair[1]) {
        return Ok(rows);
    }
    take_record_batch(&rows, &order).map_err(from_arrow)
}

fn sorted_order(keys: &[ArrayRef]) -> Result<UInt32Array> {
    let fields = keys.iter().map(|key| SortField::new_with_options(key.data_type().clone(), SORT)).collect();
    let Ok(converter) = RowConverter::new(fields) else {
        // Only nested types cannot be converted, and columns never have one.
        return sort_to_indices(&keys[0], Some(SORT), None).map_err(from_arrow);
    };
    let rows = converter.convert_columns(keys).map_err(from_arrow)?;
    let mut order: Vec<(_, u32)> = rows.iter().zip(0_u32..).collect();
    order.sort_unstable();
    Ok(order.into_iter().map(|(_, row)| row).collect::<Vec<u32>>().into())
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
    fn sorting_keeps_all_rows_and_nulls_come_first() {
        let sorted = sort_rows(&schema(), &[batch(&[5, 4]), batch(&[4, 1])]).unwrap();
        assert_eq!(sorted.column(0).as_primitive::<Int32Type>().values(), &[1, 4, 4, 5]);
        assert_eq!(sort_rows(&schema(), &[]).unwrap().num_rows(), 0);
    }
}
