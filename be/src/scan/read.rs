//! The rows of tablets at exact versions: one file after the other, only the columns asked for.
//!
//! A file is compared with its checksum before it is read for the first time, and now and then later. When reading fails,
//! it is compared once more: only when it is gone or its checksum differs is the tablet bad. A disk or memory that fails for a moment fails this scan alone.

use crate::limits::SCAN_BATCH_ROWS;
use crate::tablet::meta::FIRST_VERSION;
use crate::tablet::rowset::{from_arrow, from_parquet};
use crate::tablet::{DataFile, Tablet, TabletMeta, TabletStore};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use coffer_proto::v1;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows of a batch without columns: beyond any batch that has some, far below what row counts hold.
const COUNT_ROWS: u64 = 1 << 30;

/// A scan whose tablets are all here at their versions. It holds no thread between batches.
#[derive(Debug)]
pub struct Scan {
    store: Arc<TabletStore>,
    tablets: VecDeque<(Arc<Tablet>, TabletMeta)>,
    schema: SchemaRef,
    /// Files of the current tablet that were not opened yet.
    files: Option<(Arc<Tablet>, VecDeque<DataFile>)>,
    open: Option<OpenFile>,
    /// Rows that batches without columns still stand for.
    counted: u64,
    /// Rows until the limit.
    left: u64,
}

impl Scan {
    /// Find the tablets. NotFound, Conflict or Corrupt when one is missing, behind or bad: another replica may have it.
    pub fn open(store: &Arc<TabletStore>, ticket: &v1::ScanTicket) -> Result<Scan> {
        let mut tablets = VecDeque::with_capacity(ticket.tablets.len());
        let mut schema = None;
        for wanted in &ticket.tablets {
            // A tablet that nothing was loaded into is nowhere.
            if wanted.version <= FIRST_VERSION && store.tablet(wanted.tablet_id).is_none() {
                continue;
            }
            let tablet = store.find(wanted.tablet_id)?;
            let meta = tablet.meta_at(wanted.version)?;
            if meta.table_id != ticket.table_id {
                return Err(Error::invalid(format!(
                    "tablet {} belongs to table {}, not to {}",
                    wanted.tablet_id, meta.table_id, ticket.table_id
                )));
            }
            if schema.is_none() {
                schema = Some(projected(&meta, &ticket.columns)?);
            }
            tablets.push_back((tablet, meta));
        }
        Ok(Scan {
            store: store.clone(),
            tablets,
            schema: schema.unwrap_or_else(|| Arc::new(ArrowSchema::empty())),
            files: None,
            open: None,
            counted: 0,
            left: if ticket.limit == 0 { u64::MAX } else { ticket.limit },
        })
    }

    /// The columns of every batch; none when no tablet was ever loaded into.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next batch, or the end. Blocking.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while self.left > 0 {
            if self.counted > 0 {
                return self.count().map(Some);
            }
            if let Some(file) = &mut self.open {
                match file.next(&self.schema, self.left) {
                    Ok(Some(batch)) => {
                        self.left -= batch.num_rows() as u64;
                        return Ok(Some(batch));
                    }
                    Ok(None) => self.open = None,
                    Err(error) => {
                        let file = file.file.clone();
                        return Err(self.judge(error, &file));
                    }
                }
            } else if let Some((tablet, files)) = &mut self.files {
                let Some(file) = files.pop_front() else {
                    self.files = None;
                    continue;
                };
                match OpenFile::new(tablet, &file, &self.schema, self.left) {
                    Ok(open) => self.open = Some(open),
                    Err(error) => return Err(self.judge(error, &file)),
                }
            } else {
                let Some((tablet, meta)) = self.tablets.pop_front() else { break };
                if self.schema.fields().is_empty() {
                    self.counted = meta.rows();
                } else {
                    let files = meta.rowsets.into_iter().flat_map(|rowset| rowset.files).collect();
                    self.files = Some((tablet, files));
                }
            }
        }
        Ok(None)
    }

    /// A file that is gone or has other bytes than were written makes its tablet bad, unless the tablet was dropped
    /// meanwhile.
    fn judge(&mut self, error: Error, file: &DataFile) -> Error {
        self.open = None;
        let Some((tablet, _)) = self.files.take() else { return error };
        let mut verdict = error;
        let doubtful = matches!(verdict.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unavailable);
        if doubtful && self.store.tablet(tablet.id()).is_some_and(|now| Arc::ptr_eq(&now, &tablet)) {
            match tablet.verify(file) {
                Ok(()) => {}
                Err(found) if matches!(found.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    self.store.mark_bad(tablet.id(), found.message());
                    verdict = Error::corrupt(found.message());
                }
                Err(found) => verdict = found,
            }
        }
        Error::new(verdict.kind(), format!("tablet {}: {verdict}", tablet.id()))
    }

    /// A batch without columns that stands for many rows.
    fn count(&mut self) -> Result<RecordBatch> {
        let rows = self.counted.min(self.left).min(COUNT_ROWS);
        self.left -= rows;
        self.counted -= rows;
        let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
        RecordBatch::try_new_with_options(self.schema.clone(), vec![], &options).map_err(from_arrow)
    }
}

/// A file being read.
struct OpenFile {
    file: DataFile,
    reader: ParquetRecordBatchReader,
    /// For each wanted column its position in what the reader gives.
    positions: Vec<usize>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl OpenFile {
    fn new(tablet: &Tablet, file: &DataFile, schema: &SchemaRef, limit: u64) -> Result<OpenFile> {
        let open = || -> Result<OpenFile> {
            let reader = tablet.open_verified(file)?;
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
            let mask = ProjectionMask::roots(builder.parquet_schema(), sorted);
            let mut builder = builder.with_projection(mask).with_batch_size(SCAN_BATCH_ROWS);
            if let Ok(limit) = usize::try_from(limit) {
                builder = builder.with_limit(limit);
            }
            Ok(OpenFile { file: file.clone(), reader: builder.build().map_err(from_parquet)?, positions })
        };
        open().context(|| format!("file {}", file.name))
    }

    fn next(&mut self, schema: &SchemaRef, left: u64) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        // The reader does not keep the kind of an error: whether the bytes are to blame is found out by checking them.
        let batch = batch.map_err(|error| Error::unavailable(format!("file {}: {error}", self.file.name)))?;
        let batch = if batch.num_rows() as u64 > left { batch.slice(0, left as usize) } else { batch };
        let columns: Vec<ArrayRef> = self.positions.iter().map(|at| batch.column(*at).clone()).collect();
        let fits = RecordBatch::try_new(schema.clone(), columns);
        fits.map(Some)
            .map_err(|error| Error::corrupt(format!("file {} does not fit the schema: {error}", self.file.name)))
    }
}

/// The wanted columns with the types of the tablet's schema.
fn projected(meta: &TabletMeta, columns: &[String]) -> Result<SchemaRef> {
    let whole = meta.schema.arrow();
    let field = |name: &String| {
        let position = meta.schema.index_of(name);
        position.map(|position| whole.field(position).clone()).ok_or_else(|| {
            Error::not_found(format!("tablet {} of table {} has no column '{name}'", meta.tablet_id, meta.table_id))
        })
    };
    Ok(Arc::new(ArrowSchema::new(columns.iter().map(field).collect::<Result<Vec<Field>>>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::{batch, schema};
    use crate::tablet::{LoadWriter, Publish, PublishTablet, rowset};

    fn store(dir: &std::path::Path) -> Arc<TabletStore> {
        let store = TabletStore::open(&[dir.to_owned()]).unwrap();
        for (transaction, version, ids) in [(100, 2, vec![3, 1]), (101, 3, vec![2])] {
            let mut writer = LoadWriter::begin(&store, transaction).unwrap();
            let dir = writer.dir(7).unwrap();
            writer.add(7, rowset::write_file(&dir, &schema(), &[batch(&ids)]).unwrap());
            writer.finish().unwrap();
            let tablets = vec![PublishTablet { tablet_id: 7, partition_id: 2, version, rows_expected: true }];
            let publish = Publish { transaction_id: transaction, table_id: 1, schema: schema(), tablets };
            assert!(store.publish(&publish).is_empty());
        }
        store
    }

    fn ticket(tablets: &[(u64, u64)], columns: &[&str], limit: u64) -> v1::ScanTicket {
        let version =
            |(tablet_id, version): &(u64, u64)| v1::TabletVersion { tablet_id: *tablet_id, version: *version };
        v1::ScanTicket {
            table_id: 1,
            tablets: tablets.iter().map(version).collect(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            limit,
        }
    }

    fn rows(store: &Arc<TabletStore>, ticket: &v1::ScanTicket) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        let mut scan = Scan::open(store, ticket)?;
        while let Some(batch) = scan.next_batch()? {
            for row in 0..batch.num_rows() {
                let value = |array: &ArrayRef| arrow::util::display::array_value_to_string(array, row).unwrap();
                rows.push(batch.columns().iter().map(value).collect::<Vec<_>>().join(","));
            }
        }
        Ok(rows)
    }

    #[test]
    fn a_version_is_read_exactly_and_columns_in_the_order_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(rows(&store, &ticket(&[(7, 3)], &["name", "ID"], 0)).unwrap(), ["n1,1", "n3,3", "n2,2"]);
        assert_eq!(rows(&store, &ticket(&[(7, 2)], &["id"], 0)).unwrap(), ["1", "3"]);
        assert_eq!(rows(&store, &ticket(&[(7, 1), (99, 1)], &["id"], 0)).unwrap(), Vec::<String>::new());
        assert_eq!(rows(&store, &ticket(&[(7, 3)], &["id"], 1)).unwrap(), ["1"]);
        assert_eq!(rows(&store, &ticket(&[(7, 3)], &[], 0)).unwrap().len(), 3);
        assert_eq!(rows(&store, &ticket(&[(7, 3), (7, 3)], &[], 4)).unwrap().len(), 4);
    }

    #[test]
    fn what_is_not_here_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let kind = |ticket: &v1::ScanTicket| rows(&store, ticket).unwrap_err().kind();
        assert_eq!(kind(&ticket(&[(7, 4)], &["id"], 0)), ErrorKind::Conflict);
        assert_eq!(kind(&ticket(&[(99, 2)], &["id"], 0)), ErrorKind::NotFound);
        assert_eq!(kind(&ticket(&[(7, 3)], &["nope"], 0)), ErrorKind::NotFound);
        assert_eq!(kind(&v1::ScanTicket { table_id: 2, ..ticket(&[(7, 3)], &["id"], 0) }), ErrorKind::Invalid);
    }

    #[test]
    fn no_changed_bit_is_ever_served() {
        let dir = tempfile::tempdir().unwrap();
        let first = store(dir.path());
        let tablet = first.tablet(7).unwrap();
        let path = tablet.file_path(&tablet.meta().files().next().unwrap().name);
        drop((tablet, first));
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(37) {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            let store = TabletStore::open(&[dir.path().to_owned()]).unwrap();
            let found = rows(&store, &ticket(&[(7, 2)], &["id", "name"], 0));
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
            assert_eq!(store.bad_tablets().len(), 1);
        }
        std::fs::write(&path, &good).unwrap();
        let store = TabletStore::open(&[dir.path().to_owned()]).unwrap();
        assert_eq!(rows(&store, &ticket(&[(7, 2)], &["id"], 0)).unwrap().len(), 2);
    }

    #[test]
    fn a_broken_file_makes_its_tablet_bad() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let tablet = store.tablet(7).unwrap();
        let name = tablet.meta().files().next().unwrap().name.clone();
        std::fs::write(tablet.file_path(&name), b"garbage").unwrap();
        assert_eq!(rows(&store, &ticket(&[(7, 3)], &["id"], 0)).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.bad_tablets().len(), 1);
    }

    #[test]
    fn a_file_that_does_not_fit_but_is_as_written_leaves_its_tablet_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let tablet = store.tablet(7).unwrap();
        let file = tablet.meta().files().next().unwrap().clone();
        let mut meta = (*tablet.meta()).clone();
        meta.schema.columns[0].name = "ID".to_owned();
        tablet.replace(meta.clone());
        assert_eq!(rows(&store, &ticket(&[(7, 2)], &["Id", "name"], 0)).unwrap(), ["1,n1", "3,n3"]);
        meta.schema.columns[1].name = "other".to_owned();
        tablet.replace(meta);
        let error = rows(&store, &ticket(&[(7, 2)], &["other"], 0)).unwrap_err();
        assert_eq!((error.kind(), store.bad_tablets().len()), (ErrorKind::Corrupt, 0), "{error}");
        tablet.verify(&file).unwrap();
        std::fs::remove_file(tablet.file_path(&file.name)).unwrap();
        assert_eq!(rows(&store, &ticket(&[(7, 2)], &["Id"], 0)).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.bad_tablets().len(), 1);
    }
}
