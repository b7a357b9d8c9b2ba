//! One file of rows being read: some columns of it, batch by batch.
//!
//! A file is compared with its checksum before it is read for the first time, and now and then later. When reading fails,
//! it is compared once more: only when it is gone or its checksum differs is the tablet bad. A disk or memory that fails
//! for a moment fails this read alone.

use crate::limits::SCAN_BATCH_ROWS;
use crate::tablet::history::Pin;
use crate::tablet::meta::DataFile;
use crate::tablet::rowset::from_parquet;
use crate::tablet::store::TabletStore;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_table::condition::Filter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::sync::Arc;

/// Fewest rows of a batch, however long they are.
const MIN_BATCH_ROWS: usize = 64;

/// Where files are read.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) store: Arc<TabletStore>,
    /// Keeps the files.
    pub(crate) pin: Arc<Pin>,
}

/// How much is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Rows in all.
    pub(crate) rows: Option<usize>,
    /// Bytes of a batch, about.
    pub(crate) batch_bytes: usize,
}

/// A file, opened when the first batch is wanted.
pub(crate) struct Run {
    origin: Origin,
    file: DataFile,
    schema: SchemaRef,
    /// What is left out; the key columns are the first ones then.
    filters: Vec<Arc<Filter>>,
    bounds: Bounds,
    open: Option<OpenFile>,
    ended: bool,
}

struct OpenFile {
    reader: ParquetRecordBatchReader,
    /// For each wanted column its position in what the reader gives.
    positions: Vec<usize>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Run {
    /// The columns of `schema`, of which there is at least one, in its order.
    pub(crate) fn new(origin: &Origin, file: DataFile, schema: SchemaRef, bounds: Bounds) -> Run {
        Run { origin: origin.clone(), file, schema, filters: Vec::new(), bounds, open: None, ended: false }
    }

    /// Leave out rows of files whose first columns are those of the key.
    pub(crate) fn without(self, filters: Vec<Arc<Filter>>) -> Run {
        Run { filters, ..self }
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let opened = OpenFile::new(&self.origin, &self.file, &self.schema, self.bounds);
                self.open.insert(opened.context(|| format!("file {}", self.file.name))?)
            }
        };
        let Some(batch) = open.reader.next() else { return Ok(None) };
        // The reader does not keep the kind of an error: whether the bytes are to blame is found out by checking them.
        let batch = batch.map_err(|error| Error::unavailable(format!("file {}: {error}", self.file.name)))?;
        let columns: Vec<ArrayRef> = open.positions.iter().map(|at| batch.column(*at).clone()).collect();
        let fits = RecordBatch::try_new(self.schema.clone(), columns);
        let batch =
            fits.map_err(|error| Error::corrupt(format!("file {} does not fit the schema: {error}", self.file.name)))?;
        self.filters.iter().try_fold(batch, |batch, filter| filter.keep(batch)).map(Some)
    }

    /// A file that is gone or has other bytes than were written makes its tablet bad, unless the tablet was dropped or the
    /// file replaced meanwhile.
    fn judge(&self, error: Error) -> Error {
        let tablet = self.origin.pin.tablet();
        let mut verdict = error;
        let doubtful = matches!(verdict.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unavailable);
        if doubtful && self.origin.store.tablet(tablet.id()).is_some_and(|now| Arc::ptr_eq(&now, tablet)) {
            match tablet.verify(&self.file) {
                Ok(()) => {}
                Err(found) if matches!(found.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    self.origin.store.mark_file_bad(tablet, &self.file.name, found.message());
                    verdict = Error::corrupt(found.message());
                }
                Err(found) => verdict = found,
            }
        }
        Error::new(verdict.kind(), format!("tablet {}: {verdict}", tablet.id()))
    }
}

impl Iterator for Run {
    type Item = Result<RecordBatch>;

    /// Blocking.
    fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.ended {
            return None;
        }
        let next = self.read().map_err(|error| self.judge(error)).transpose();
        if !matches!(next, Some(Ok(_))) {
            self.ended = true;
            self.open = None;
        }
        next
    }
}

impl OpenFile {
    fn new(origin: &Origin, file: &DataFile, schema: &SchemaRef, bounds: Bounds) -> Result<OpenFile> {
        let reader = origin.pin.tablet().open_verified(file)?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(reader).map_err(from_parquet)?;
        let there = builder.schema();
        // A restored tablet may have been written when a column was spelled with other capitals.
        let root = |field: &Arc<Field>| {
            let at = there.fields().iter().position(|known| known.name().eq_ignore_ascii_case(field.name()));
            at.ok_or_else(|| Error::corrupt(format!("it has no column '{}'", field.name())))
        };
        let roots = schema.fields().iter().map(root).collect::<Result<Vec<usize>>>()?;
        let mut sorted = roots.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let positions = roots.iter().map(|root| sorted.partition_point(|known| known < root)).collect();
        let metadata = builder.metadata();
        let bytes: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size()).sum();
        let row_bytes = usize::try_from(bytes).unwrap_or(0) / (file.rows.max(1) as usize);
        let rows = (bounds.batch_bytes / row_bytes.max(1)).clamp(MIN_BATCH_ROWS, SCAN_BATCH_ROWS);
        let mask = ProjectionMask::roots(builder.parquet_schema(), sorted);
        let mut builder = builder.with_projection(mask).with_batch_size(rows);
        if let Some(limit) = bounds.rows {
            builder = builder.with_limit(limit);
        }
        Ok(OpenFile { reader: builder.build().map_err(from_parquet)?, positions })
    }
}
