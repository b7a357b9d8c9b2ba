//! The rows of tablets at exact versions, only the columns asked for, in an order that another replica can go on with
//! (see `tablet::rows`).

use crate::tablet::meta::FIRST_VERSION;
use crate::tablet::rows::{ReadPlan, RowReader, counts_are_exact, ranges, within};
use crate::tablet::rowset::from_arrow;
use crate::tablet::run::Origin;
use crate::tablet::{TabletMeta, TabletStore};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use coffer_proto::scan::{LAYOUT, format_layout, parse_layout};
use coffer_proto::v1;
use coffer_stdx::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Rows of a batch without columns: beyond any batch that has some, far below what row counts hold.
const COUNT_ROWS: u64 = 1 << 30;

/// A scan whose tablets are all here at their versions. It holds no thread between batches.
#[derive(Debug)]
pub struct Scan {
    tablets: VecDeque<Wanted>,
    schema: SchemaRef,
    open: Option<RowReader>,
    /// Rows that batches without columns still stand for.
    counted: u64,
    /// Rows until the limit.
    left: u64,
    /// Ranges of versions that the one tablet is to be read as.
    layout: Option<Vec<(u64, u64)>>,
}

/// A tablet to read; its files stay meanwhile.
#[derive(Debug)]
struct Wanted {
    origin: Origin,
    meta: TabletMeta,
    /// By position in its schema.
    columns: Vec<usize>,
}

impl Scan {
    /// Find the tablets. NotFound, Conflict or Corrupt when one is missing, behind or bad: another replica may have it.
    pub fn open(store: &Arc<TabletStore>, ticket: &v1::ScanTicket) -> Result<Scan> {
        let layout = if ticket.layout.is_empty() { None } else { Some(parse_layout(&ticket.layout)?) };
        if layout.is_some() && ticket.tablets.len() != 1 {
            return Err(Error::invalid("a layout is that of one tablet"));
        }
        let mut tablets = VecDeque::with_capacity(ticket.tablets.len());
        let mut schema = None;
        for wanted in &ticket.tablets {
            // A tablet that nothing was loaded into is nowhere.
            if wanted.version <= FIRST_VERSION && store.tablet(wanted.tablet_id).is_none() {
                continue;
            }
            let tablet = store.find(wanted.tablet_id)?;
            let (meta, pin) =
                tablet.pinned(wanted.version, |rowset| layout.as_ref().is_none_or(|layout| within(layout, rowset)))?;
            if meta.table_id != ticket.table_id {
                return Err(Error::invalid(format!(
                    "tablet {} belongs to table {}, not to {}",
                    wanted.tablet_id, meta.table_id, ticket.table_id
                )));
            }
            let columns = positions(&meta, &ticket.columns)?;
            if schema.is_none() {
                schema = Some(projected(&meta, &columns));
            }
            tablets.push_back(Wanted { origin: Origin { store: store.clone(), pin: Arc::new(pin) }, meta, columns });
        }
        let mut schema = schema.unwrap_or_else(ArrowSchema::empty);
        if let [only] = tablets.make_contiguous()
            && only.meta.schema.model.is_duplicate()
        {
            let shown = format_layout(layout.as_deref().unwrap_or(&ranges(&only.meta)));
            schema = schema.with_metadata(HashMap::from([(LAYOUT.to_owned(), shown)]));
        }
        let left = if ticket.limit == 0 { u64::MAX } else { ticket.limit };
        Ok(Scan { tablets, schema: Arc::new(schema), open: None, counted: 0, left, layout })
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
            if let Some(open) = &mut self.open {
                let Some(batch) = open.next().transpose()? else {
                    self.open = None;
                    continue;
                };
                let rows = batch.num_rows() as u64;
                let batch = if rows > self.left { batch.slice(0, self.left as usize) } else { batch };
                self.left -= batch.num_rows() as u64;
                return Ok(Some(batch));
            }
            let Some(Wanted { origin, meta, columns }) = self.tablets.pop_front() else { break };
            if columns.is_empty() && counts_are_exact(&meta) {
                self.counted = meta.rows();
                continue;
            }
            let plan = ReadPlan::new(origin, &meta, &columns, self.schema.clone())?;
            let plan = plan.limited(usize::try_from(self.left).ok());
            self.open = Some(plan.read(&meta, self.layout.as_deref()));
        }
        Ok(None)
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

/// Where the wanted columns are in the tablet's schema.
fn positions(meta: &TabletMeta, columns: &[String]) -> Result<Vec<usize>> {
    let position = |name: &String| {
        meta.schema.index_of(name).ok_or_else(|| {
            Error::not_found(format!("tablet {} of table {} has no column '{name}'", meta.tablet_id, meta.table_id))
        })
    };
    columns.iter().map(position).collect()
}

/// The wanted columns with the types of the tablet's schema.
fn projected(meta: &TabletMeta, columns: &[usize]) -> ArrowSchema {
    let whole = meta.schema.arrow();
    ArrowSchema::new(columns.iter().map(|column| whole.field(*column).clone()).collect::<Vec<Field>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::{batch, schema};
    use crate::tablet::{LoadWriter, Publish, PublishTablet, rowset};
    use arrow::array::ArrayRef;
    use coffer_stdx::ErrorKind;

    fn store(dir: &std::path::Path) -> Arc<TabletStore> {
        let store = TabletStore::open(&[dir.to_owned()]).unwrap();
        for (transaction, version, ids) in [(100, 2, vec![3, 1]), (101, 3, vec![2])] {
            let mut writer = LoadWriter::begin(&store, transaction).unwrap();
            let dir = writer.dir(7).unwrap();
            writer.add(7, rowset::write_file(&dir, &schema(), &[batch(&ids)]).unwrap());
            writer.finish().unwrap();
            let tablets = vec![PublishTablet { tablet_id: 7, partition_id: 2, version, rows_expected: true }];
            let publish = Publish { transaction_id: transaction, table_id: 1, schema: schema(), delete: None, tablets };
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
            layout: String::new(),
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
