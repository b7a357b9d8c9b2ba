//! Answers of statements as the protocol wants them, but for the rows of queries.

use crate::exec;
use crate::exec::RowSet;
use coffer_mysql::{Column, ColumnType, Done, Reply, Value};

/// A statement without rows.
pub(super) fn done(done: exec::Done) -> Reply {
    Reply::Done(Done {
        affected: done.affected,
        warnings: u16::try_from(done.warnings.len()).unwrap_or(u16::MAX),
        info: done.info,
    })
}

/// The rows of SHOW.
pub(super) fn rows(set: RowSet) -> Reply {
    let columns = set.columns.into_iter().map(|name| Column::new(name, ColumnType::VarString)).collect();
    let cell = |cell: Option<String>| cell.map_or(Value::Null, Value::Text);
    Reply::rows(columns, set.rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect())
}
