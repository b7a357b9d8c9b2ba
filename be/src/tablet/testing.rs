//! Small tables for tests.

use arrow::array::{Int32Array, RecordBatch, StringArray};
use coffer_table::{Column, ColumnType, Schema};
use std::sync::Arc;

/// Two columns: `id INT` (key) and `name VARCHAR(20)`.
pub(crate) fn schema() -> Schema {
    let column = |name: &str, kind: ColumnType, key: bool| Column {
        name: name.to_owned(),
        kind,
        nullable: !key,
        default: None,
        key,
        comment: String::new(),
    };
    Schema {
        columns: vec![column("id", ColumnType::Int, true), column("name", ColumnType::Varchar { length: 20 }, false)],
    }
}

/// Rows with these ids; the name is "n<id>".
pub(crate) fn batch(ids: &[i32]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    RecordBatch::try_new(
        schema().arrow(),
        vec![Arc::new(Int32Array::from(ids.to_vec())), Arc::new(StringArray::from(names))],
    )
    .unwrap()
}
