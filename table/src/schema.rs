//! The columns of a table, in order.

use crate::types::ColumnType;
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name as written; compared without regard to ASCII case.
    pub name: String,
    /// Type.
    pub kind: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// DEFAULT as text in the form a load file would have; `None` without a DEFAULT clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether rows are sorted by it (DUPLICATE KEY columns come first).
    #[serde(default)]
    pub key: bool,
    /// COMMENT.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// The columns of a table, key columns first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// In table order.
    pub columns: Vec<Column>,
}

impl Schema {
    /// Position of a column, ignoring ASCII case.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The Arrow schema of a batch of whole rows.
    pub fn arrow(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.columns.iter().map(|column| Field::new(&column.name, column.kind.arrow(), column.nullable)).collect();
        Arc::new(ArrowSchema::new(fields))
    }

    /// How many leading columns are keys.
    pub fn key_count(&self) -> usize {
        self.columns.iter().take_while(|column| column.key).count()
    }
}
