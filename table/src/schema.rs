//! The columns of a table, in order.

use crate::calendar;
use crate::model::{Aggregate, Model};
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
    /// DEFAULT as text in the form a load file would have, or CURRENT_TIMESTAMP or CURRENT_DATE, which stand for the time
    /// of the load ([`Column::default_at`]); `None` without a DEFAULT clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether rows are sorted by it; key columns come first.
    #[serde(default)]
    pub key: bool,
    /// COMMENT.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// How values of rows with equal keys become one: those of an AGGREGATE KEY table have one, no other columns do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
}

impl Column {
    /// A value column that takes NULL and has no DEFAULT.
    pub fn new(name: &str, kind: ColumnType) -> Column {
        Column {
            name: name.to_owned(),
            kind,
            nullable: true,
            default: None,
            key: false,
            comment: String::new(),
            aggregate: None,
        }
    }

    /// Whether DEFAULT is the time of the load.
    pub fn default_is_now(&self) -> bool {
        let word = match self.kind {
            ColumnType::DateTime { .. } => "CURRENT_TIMESTAMP",
            ColumnType::Date => "CURRENT_DATE",
            _ => return false,
        };
        let start = self.default.as_ref().and_then(|text| text.get(..word.len()));
        start.is_some_and(|start| start.eq_ignore_ascii_case(word))
    }

    /// DEFAULT as text in the form a load file would have, for rows loaded at this time (microseconds since 1970, UTC).
    pub fn default_at(&self, now_us: i64) -> Option<String> {
        match self.kind {
            ColumnType::DateTime { scale } if self.default_is_now() => Some(calendar::format_datetime(now_us, scale)),
            ColumnType::Date if self.default_is_now() => {
                Some(calendar::format_date(now_us.div_euclid(calendar::DAY_US) as i32))
            }
            _ => self.default.clone(),
        }
    }
}

/// The columns of a table, key columns first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// In table order.
    pub columns: Vec<Column>,
    /// What happens to rows with equal keys.
    #[serde(default, skip_serializing_if = "Model::is_duplicate")]
    pub model: Model,
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

    /// How the values of a column become one; `None` for key columns, and where all rows stay.
    pub fn aggregate(&self, column: usize) -> Option<Aggregate> {
        let column = self.columns.get(column).filter(|column| !column.key)?;
        match self.model {
            Model::Duplicate => None,
            Model::Unique => Some(Aggregate::Replace),
            Model::Aggregate => Some(column.aggregate.unwrap_or(Aggregate::Replace)),
        }
    }

    /// How many leading columns are keys.
    pub fn key_count(&self) -> usize {
        self.columns.iter().take_while(|column| column.key).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_may_be_the_time_of_the_load() {
        let column = |kind, default: &str| Column {
            name: "c".to_owned(),
            kind,
            nullable: true,
            default: Some(default.to_owned()),
            key: false,
            comment: String::new(),
            aggregate: None,
        };
        let now = 86_400_000_000 + 1_234_567;
        for (kind, default, text, is_now) in [
            (ColumnType::DateTime { scale: 0 }, "CURRENT_TIMESTAMP", "1970-01-02 00:00:01", true),
            (ColumnType::DateTime { scale: 3 }, "current_timestamp(3)", "1970-01-02 00:00:01.234", true),
            (ColumnType::DateTime { scale: 0 }, "2024-01-01", "2024-01-01", false),
            (ColumnType::Date, "CURRENT_DATE", "1970-01-02", true),
            (ColumnType::String, "CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP", false),
        ] {
            let column = column(kind, default);
            assert_eq!((column.default_at(now).as_deref(), column.default_is_now()), (Some(text), is_now), "{kind}");
        }
    }
}
