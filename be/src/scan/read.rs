//! The rows of tablets at exact versions: one file after the other, only the columns asked for.

use crate::limits::SCAN_BATCH_ROWS;
use crate::tablet::meta::FIRST_VERSION;
use crate::tablet::rowset::{from_arrow, from_parquet};
use crate::tablet::{Tablet, TabletMeta, TabletStore};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use coffer_proto::v1;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::sync::Arc;

/// A scan whose tablets are all here at their versions.
#[derive(Debug)]
pub struct Scan {
    store: Arc<TabletStore>,
    tablets: Vec<(Arc<Tablet>, TabletMeta)>,
    schema: SchemaRef,
    left: u64,
}

impl Scan {
    /// Find the tablets. NotFound, Conflict or Corrupt when one is missing, behind or bad: another replica may have it.
    /// `columns` are the types of the wanted columns in output order.
    pub fn open(store: &Arc<TabletStore>, ticket: &v1::ScanTicket) -> Result<Scan> {
        let mut tablets = Vec::with_capacity(ticket.tablets.len());
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
            tablets.push((tablet, meta));
        }
        let left = if ticket.limit == 0 { u64::MAX } else { ticket.limit };
        Ok(Scan {
            store: store.clone(),
            tablets,
            schema: schema.unwrap_or_else(|| Arc::new(ArrowSchema::empty())),
            left,
        })
    }

    /// The columns of every batch; without columns when no tablet has rows.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Give all batches to `emit`, until it wants no more. Blocking.
    pub fn run(mut self, mut emit: impl FnMut(RecordBatch) -> bool) -> Result<()> {
        for (tablet, meta) in std::mem::take(&mut self.tablets) {
            let columns: Vec<String> = self.schema.fields().iter().map(|field| field.name().clone()).collect();
            if columns.is_empty() {
                if !self.count(meta.rows(), &mut emit)? {
                    return Ok(());
                }
                continue;
            }
            for file in meta.files() {
                let read = self.file(&tablet, &file.name, &mut emit);
                match read.context(|| format!("tablet {}, file {}", tablet.id(), file.name)) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error) => return Err(self.judge(&tablet, error)),
                }
            }
        }
        Ok(())
    }

    /// A file that is gone or broken makes its tablet bad, unless the tablet was dropped meanwhile.
    fn judge(&self, tablet: &Arc<Tablet>, error: Error) -> Error {
        let still = self.store.tablet(tablet.id()).is_some_and(|now| Arc::ptr_eq(&now, tablet));
        if still && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) {
            self.store.mark_bad(tablet.id(), error.message());
            return Error::corrupt(error.message());
        }
        error
    }

    /// Batches without columns that stand for so many rows.
    fn count(&mut self, rows: u64, emit: &mut impl FnMut(RecordBatch) -> bool) -> Result<bool> {
        let mut rows = rows.min(self.left);
        self.left -= rows;
        while rows > 0 {
            // Far beyond any batch that has columns, far below what row counts can hold.
            let some = rows.min(1 << 30);
            let options = RecordBatchOptions::new().with_row_count(Some(some as usize));
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), vec![], &options).map_err(from_arrow)?;
            if !emit(batch) {
                return Ok(false);
            }
            rows -= some;
        }
        Ok(self.left > 0)
    }

    fn file(&mut self, tablet: &Tablet, name: &str, emit: &mut impl FnMut(RecordBatch) -> bool) -> Result<bool> {
        let (reader, positions) = open_file(tablet, name, &self.schema, self.left)?;
        for batch in reader {
            let batch = batch.map_err(|error| Error::corrupt(error.to_string()))?;
            let batch = if batch.num_rows() as u64 > self.left { batch.slice(0, self.left as usize) } else { batch };
            self.left -= batch.num_rows() as u64;
            let column = |(position, field): (&Option<usize>, &Arc<Field>)| match position {
                Some(at) => batch.column(*at).clone(),
                None => new_null_array(field.data_type(), batch.num_rows()),
            };
            let columns: Vec<ArrayRef> = positions.iter().zip(self.schema.fields()).map(column).collect();
            let batch = RecordBatch::try_new(self.schema.clone(), columns)
                .map_err(|error| Error::corrupt(format!("columns do not fit the schema: {error}")))?;
            if !emit(batch) || self.left == 0 {
                return Ok(false);
            }
        }
        Ok(true)
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

/// A reader of the wanted columns, and for each of them its position in what the reader gives.
fn open_file(
    tablet: &Tablet,
    name: &str,
    schema: &SchemaRef,
    limit: u64,
) -> Result<(ParquetRecordBatchReader, Vec<Option<usize>>)> {
    let file = File::open(tablet.file_path(name))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(from_parquet)?;
    let there = builder.schema();
    let root = |field: &Arc<Field>| there.fields().iter().position(|known| known.name() == field.name());
    let roots: Vec<Option<usize>> = schema.fields().iter().map(root).collect();
    let mut sorted: Vec<usize> = roots.iter().flatten().copied().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let positions = roots.iter().map(|root| root.and_then(|root| sorted.binary_search(&root).ok())).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), sorted);
    let mut builder = builder.with_projection(mask).with_batch_size(SCAN_BATCH_ROWS);
    if let Ok(limit) = usize::try_from(limit) {
        builder = builder.with_limit(limit);
    }
    Ok((builder.build().map_err(from_parquet)?, positions))
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
        Scan::open(store, ticket)?.run(|batch| {
            for row in 0..batch.num_rows() {
                let value = |array: &ArrayRef| arrow::util::display::array_value_to_string(array, row).unwrap();
                rows.push(batch.columns().iter().map(value).collect::<Vec<_>>().join(","));
            }
            true
        })?;
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
    fn a_broken_file_makes_its_tablet_bad() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let tablet = store.tablet(7).unwrap();
        let name = tablet.meta().files().next().unwrap().name.clone();
        std::fs::write(tablet.file_path(&name), b"garbage").unwrap();
        assert_eq!(rows(&store, &ticket(&[(7, 3)], &["id"], 0)).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.bad_tablets().len(), 1);
    }
}
