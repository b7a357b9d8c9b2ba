//! Statements for tests.

use crate::sql::ast::{BoundText, CreateTable, ObjectName, PartitionBy, PartitionDef, PartitionValues, Properties};
use coffer_table::{Column, ColumnType};

/// A nullable column.
pub(crate) fn column(name: &str, kind: ColumnType) -> Column {
    Column::new(name, kind)
}

/// A table without partitions, in RANDOM buckets.
pub(crate) fn create_table(name: &str, columns: &[(&str, ColumnType)]) -> CreateTable {
    CreateTable {
        table: ObjectName { database: None, name: name.to_owned() },
        if_not_exists: false,
        columns: columns.iter().map(|(name, kind)| column(name, *kind)).collect(),
        indexes: Vec::new(),
        keys: None,
        comment: String::new(),
        partition: None,
        bucket_columns: Vec::new(),
        buckets: None,
        properties: Properties::new(),
    }
}

/// Bounds; `MAX` is MAXVALUE.
pub(crate) fn bounds(values: &[&str]) -> Vec<BoundText> {
    values
        .iter()
        .map(|value| if *value == "MAX" { BoundText::MaxValue } else { BoundText::Value((*value).to_owned()) })
        .collect()
}

/// VALUES LESS THAN.
pub(crate) fn less_than(name: &str, upper: &[&str]) -> PartitionDef {
    PartitionDef {
        name: name.to_owned(),
        values: PartitionValues::LessThan(bounds(upper)),
        properties: Properties::new(),
    }
}

/// VALUES [lower, upper).
pub(crate) fn between(name: &str, lower: &[&str], upper: &[&str]) -> PartitionDef {
    let values = PartitionValues::Range { lower: bounds(lower), upper: bounds(upper) };
    PartitionDef { name: name.to_owned(), values, properties: Properties::new() }
}

/// PARTITION BY RANGE.
pub(crate) fn partition_by(columns: &[&str], partitions: Vec<PartitionDef>) -> PartitionBy {
    PartitionBy { list: false, columns: columns.iter().map(|name| (*name).to_owned()).collect(), partitions }
}
