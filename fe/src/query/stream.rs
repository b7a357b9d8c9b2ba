//! The rows of a query on their way to the client.

use super::encode;
use super::errors::from_engine;
use super::lane::Running;
use coffer_mysql::{Column, Row};
use coffer_stdx::Result;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

/// A running query. Dropping it ends the query.
pub struct QueryStream {
    /// The columns, for the protocol.
    pub columns: Vec<Column>,
    batches: Running,
}

impl QueryStream {
    /// `headings` replace the engine's names when there is one for each column.
    pub(super) fn new(batches: Running, headings: Option<Vec<String>>) -> QueryStream {
        let mut columns = encode::columns(&batches.schema());
        if let Some(headings) = headings.filter(|headings| headings.len() == columns.len()) {
            columns.iter_mut().zip(headings).for_each(|(column, heading)| column.name = heading);
        }
        QueryStream { columns, batches }
    }

    /// The Arrow schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        self.batches.schema()
    }

    /// The result as Arrow batches.
    pub fn into_batches(self) -> BoxStream<'static, Result<RecordBatch>> {
        self.batches.map_err(|error| from_engine(&error)).boxed()
    }

    /// The result as rows, some at a time.
    pub fn into_rows(self) -> BoxStream<'static, Result<Vec<Row>>> {
        let pieces = self.into_batches().map_ok(|batch| {
            let starts = (0..batch.num_rows()).step_by(encode::ROWS_AT_A_TIME);
            let pieces = starts.map(move |start| {
                let rows = encode::ROWS_AT_A_TIME.min(batch.num_rows() - start);
                Ok(batch.slice(start, rows))
            });
            futures::stream::iter(pieces)
        });
        pieces.try_flatten().and_then(|piece| std::future::ready(encode::rows(&piece))).boxed()
    }
}

impl std::fmt::Debug for QueryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryStream").field("columns", &self.columns).finish_non_exhaustive()
    }
}
