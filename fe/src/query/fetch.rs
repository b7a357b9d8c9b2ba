//! Reads tablets one after the other, each from one of its replicas, and goes on with another replica when one fails.
//!
//! Every tablet is a request of its own. Rowsets are immutable, replicas got the rows of every load in the same order, and
//! a scan of a version reads them in a fixed order: the n-th row of a tablet at a version is the same row on every replica.
//! Where that order depends on how far compaction has merged rowsets, the first replica says how it has them, and the next
//! is asked to read as if it had them so. A stream that breaks in the middle of a tablet is thus taken up again elsewhere
//! by leaving out as many rows as were already handed on; nothing is read twice and nothing is buffered. When no other
//! replica can read in that way any more, the statement fails and can be run again.
//!
//! Nothing is written here.

use super::pin::TabletRead;
use super::source::{Batches, Source};
use coffer_proto::ids::{BackendId, TableId};
use coffer_proto::scan::LAYOUT;
use coffer_proto::v1::{ScanTicket, TabletVersion};
use coffer_stdx::{Error, ErrorKind, Result};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is read of each tablet.
#[derive(Debug)]
pub(crate) struct ScanSpec {
    pub(crate) table: TableId,
    /// For messages.
    pub(crate) table_name: String,
    /// The columns, in output order; may be none.
    pub(crate) schema: SchemaRef,
    /// Rows wanted in all, if not all.
    pub(crate) limit: Option<usize>,
    pub(crate) addresses: Arc<BTreeMap<BackendId, String>>,
}

/// The rows of some tablets.
pub(crate) fn read(
    source: Arc<dyn Source>,
    spec: Arc<ScanSpec>,
    tablets: Vec<TabletRead>,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let limit = spec.limit.unwrap_or(usize::MAX);
    let batches = futures::stream::iter(tablets).flat_map(move |tablet| {
        let reader = Reader::new(Arc::clone(&source), Arc::clone(&spec), tablet);
        futures::stream::try_unfold(reader, |mut reader| async {
            let batch = reader.next().await?;
            Ok::<_, Error>(batch.map(|batch| (batch, reader)))
        })
        .boxed()
    });
    let mut left = limit;
    batches.try_take_while(move |batch| {
        let wanted = left > 0;
        left = left.saturating_sub(batch.num_rows());
        std::future::ready(Ok(wanted))
    })
}

/// One tablet being read.
struct Reader {
    source: Arc<dyn Source>,
    spec: Arc<ScanSpec>,
    tablet: TabletRead,
    /// The replica asked next.
    next: usize,
    open: Option<Batches>,
    /// The layout of the replica whose rows were handed on.
    layout: String,
    /// Rows handed on.
    done: usize,
    /// Rows of the open stream to leave out.
    skip: usize,
    /// Why replicas failed.
    failures: Vec<Error>,
}

impl Reader {
    fn new(source: Arc<dyn Source>, spec: Arc<ScanSpec>, tablet: TabletRead) -> Reader {
        Reader {
            source,
            spec,
            tablet,
            next: 0,
            open: None,
            layout: String::new(),
            done: 0,
            skip: 0,
            failures: Vec::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(open) = &mut self.open else {
                self.open_next().await?;
                continue;
            };
            match open.next().await {
                Some(Ok(batch)) => {
                    let skipped = self.skip.min(batch.num_rows());
                    self.skip -= skipped;
                    if skipped < batch.num_rows() {
                        let batch = batch.slice(skipped, batch.num_rows() - skipped);
                        if self.done == 0 {
                            self.layout = batch.schema().metadata().get(LAYOUT).cloned().unwrap_or_default();
                        }
                        self.done += batch.num_rows();
                        return self.fit(&batch).map(Some);
                    }
                }
                Some(Err(error)) => self.failed(error)?,
                None if self.skip == 0 => return Ok(None),
                None => {
                    return Err(Error::corrupt(format!(
                        "tablet {} of table '{}': a replica has fewer rows at version {} than another",
                        self.tablet.tablet, self.spec.table_name, self.tablet.version
                    )));
                }
            }
        }
    }

    async fn open_next(&mut self) -> Result<()> {
        let Some(backend) = self.tablet.replicas.get(self.next).copied() else { return Err(self.exhausted()) };
        self.next += 1;
        self.skip = self.done;
        let Some(address) = self.spec.addresses.get(&backend) else {
            return self.failed(Error::unavailable(format!("backend {backend} is not part of the cluster")));
        };
        match self.source.open(address, self.ticket()).await {
            Ok(open) => self.open = Some(open),
            Err(error) => self.failed(error)?,
        }
        Ok(())
    }

    fn ticket(&self) -> ScanTicket {
        let tablet = TabletVersion { tablet_id: self.tablet.tablet.0, version: self.tablet.version };
        ScanTicket {
            table_id: self.spec.table.0,
            tablets: vec![tablet],
            columns: self.spec.schema.fields().iter().map(|field| field.name().clone()).collect(),
            limit: self.spec.limit.unwrap_or(0) as u64,
            layout: self.layout.clone(),
        }
    }

    /// Go on with the next replica if that can help.
    fn failed(&mut self, error: Error) -> Result<()> {
        self.open = None;
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Limit
            | ErrorKind::Corrupt => {
                tracing::info!(tablet = %self.tablet.tablet, %error, "a replica cannot be read, trying another");
                self.failures.push(error);
                Ok(())
            }
            ErrorKind::Invalid
            | ErrorKind::NotSupported
            | ErrorKind::AlreadyExists
            | ErrorKind::Denied
            | ErrorKind::NotLeader
            | ErrorKind::NoSpace
            | ErrorKind::Cancelled
            | ErrorKind::Bug => Err(error),
        }
    }

    fn exhausted(&self) -> Error {
        let causes: Vec<&str> = self.failures.iter().map(Error::message).collect();
        let kind = self.failures.first().map_or(ErrorKind::Unavailable, Error::kind);
        let again = if self.done > 0 {
            "; its first rows were already taken from one of them: run the statement again"
        } else {
            ""
        };
        Error::new(
            kind,
            format!(
                "tablet {} of table '{}' cannot be read at version {} from any of its {} replicas: {}{again}",
                self.tablet.tablet,
                self.spec.table_name,
                self.tablet.version,
                self.tablet.replicas.len(),
                causes.join("; ")
            ),
        )
    }

    /// The batch under the scan's schema; a backend that sends other types has other ideas of the table.
    fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), batch.columns().to_vec(), &options).map_err(
            |error| {
                Error::corrupt(format!(
                    "tablet {} of table '{}' does not have the columns of the table: {error}",
                    self.tablet.tablet, self.spec.table_name
                ))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::sample::{Memory, ints, numbers};
    use coffer_proto::ids::TabletId;

    fn spec(limit: Option<usize>) -> Arc<ScanSpec> {
        let addresses = (1..4).map(|id| (BackendId(id), format!("b{id}"))).collect();
        Arc::new(ScanSpec {
            table: TableId(1),
            table_name: "t".to_owned(),
            schema: ints(&[]).schema(),
            limit,
            addresses: Arc::new(addresses),
        })
    }

    fn tablets(count: u64) -> Vec<TabletRead> {
        let replicas: Vec<BackendId> = (1..4).map(BackendId).collect();
        (1..=count).map(|id| TabletRead { tablet: TabletId(id), version: 2, replicas: replicas.clone() }).collect()
    }

    async fn all(memory: &Arc<Memory>, limit: Option<usize>, count: u64) -> Result<Vec<i32>> {
        let source: Arc<dyn Source> = Arc::clone(memory) as _;
        let batches: Vec<RecordBatch> = read(source, spec(limit), tablets(count)).try_collect().await?;
        Ok(numbers(&batches))
    }

    #[tokio::test]
    async fn tablets_are_read_in_order_from_the_first_replica() {
        let memory = Memory::new(&[(1, vec![vec![1, 2], vec![3]]), (2, vec![vec![4]])]);
        assert_eq!(all(&memory, None, 2).await.unwrap(), [1, 2, 3, 4]);
        assert_eq!(memory.opened(), [("b1".to_owned(), 1), ("b1".to_owned(), 2)]);
    }

    #[tokio::test]
    async fn a_stream_that_breaks_goes_on_elsewhere_where_it_stopped() {
        let memory = Memory::new(&[(1, vec![vec![1, 2], vec![3, 4], vec![5]]), (2, vec![vec![6]])]);
        memory.break_after("b1", 1, 1, Error::unavailable("gone"));
        memory.break_after("b2", 1, 0, Error::not_found("no such tablet"));
        assert_eq!(all(&memory, None, 2).await.unwrap(), [1, 2, 3, 4, 5, 6]);
        let asked: Vec<(String, u64)> =
            [("b1", 1), ("b2", 1), ("b3", 1), ("b1", 2)].map(|(b, t)| (b.to_owned(), t)).into();
        assert_eq!(memory.opened(), asked);
    }

    #[tokio::test]
    async fn the_next_replica_is_asked_to_read_as_the_first_did() {
        let batch = |values: &[i32]| {
            let (fields, columns, _) = ints(values).into_parts();
            let metadata = std::collections::HashMap::from([(LAYOUT.to_owned(), "2-5".to_owned())]);
            RecordBatch::try_new(Arc::new(fields.as_ref().clone().with_metadata(metadata)), columns).unwrap()
        };
        let memory = Memory::of([(1, vec![batch(&[1, 2]), batch(&[3])])].into());
        memory.break_after("b1", 1, 0, Error::unavailable("gone"));
        memory.break_after("b2", 1, 1, Error::unavailable("gone too"));
        memory.break_after("b3", 1, 0, Error::conflict("merged"));
        let error = all(&memory, None, 1).await.unwrap_err();
        assert!(
            error.message().contains("merged; its first rows") && error.kind() == ErrorKind::Unavailable,
            "{error}"
        );
        // Before the first row any order will do.
        assert_eq!(memory.layouts(), ["", "", "2-5"]);
    }

    #[tokio::test]
    async fn all_replicas_failing_names_every_cause() {
        let memory = Memory::new(&[(1, vec![vec![1]])]);
        for address in ["b1", "b2", "b3"] {
            memory.break_after(address, 1, 0, Error::unavailable(format!("{address} is down")));
        }
        let error = all(&memory, None, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("b1 is down; b2 is down; b3 is down"), "{error}");
    }

    #[tokio::test]
    async fn an_error_that_another_replica_would_repeat_ends_the_scan() {
        let memory = Memory::new(&[(1, vec![vec![1]])]);
        memory.break_after("b1", 1, 0, Error::invalid("no column x"));
        assert_eq!(all(&memory, None, 1).await.unwrap_err(), Error::invalid("no column x"));
        assert_eq!(memory.opened().len(), 1);
    }

    #[tokio::test]
    async fn a_limit_stops_between_batches_and_asks_no_more_tablets() {
        let memory = Memory::new(&[(1, vec![vec![1, 2], vec![3]]), (2, vec![vec![4]])]);
        assert_eq!(all(&memory, Some(2), 2).await.unwrap(), [1, 2]);
        assert_eq!(memory.opened().len(), 1);
    }
}
