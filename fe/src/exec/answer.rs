//! What a statement answers.

use crate::query::QueryStream;

/// The answer to one statement.
#[derive(Debug)]
pub enum Answer {
    /// Done, without rows.
    Done(Done),
    /// A few rows of text, as of SHOW.
    Rows(RowSet),
    /// Rows of a query as they come.
    Stream(QueryStream),
}

/// The end of a statement without rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows written or removed.
    pub affected: u64,
    /// For SHOW WARNINGS.
    pub warnings: Vec<String>,
    /// A line for people, shown below `Query OK`.
    pub info: String,
}

impl Answer {
    /// `Query OK, 0 rows affected`.
    pub fn ok() -> Answer {
        Answer::Done(Done::default())
    }

    /// `Query OK, <affected> rows affected`, with a line for people.
    pub fn affected(affected: u64, info: impl Into<String>) -> Answer {
        Answer::Done(Done { affected, warnings: Vec::new(), info: info.into() })
    }
}

/// Named columns and rows of text; `None` is SQL NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowSet {
    /// Headings.
    pub columns: Vec<String>,
    /// Each as long as `columns`.
    pub rows: Vec<Vec<Option<String>>>,
}

impl RowSet {
    /// No rows yet.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> RowSet {
        RowSet { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Add a row without NULLs.
    pub fn push<S: Into<String>>(&mut self, row: impl IntoIterator<Item = S>) {
        self.rows.push(row.into_iter().map(|cell| Some(cell.into())).collect());
    }
}
