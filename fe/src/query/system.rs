//! `information_schema`: what tools ask about databases, tables and columns, with the columns MySQL has.
//!
//! A table is made when a statement names it, from the catalog as pinned for that statement. What there is none of here
//! (keys, routines, triggers) is an empty table, so that a tool that looks finds nothing instead of an error.

use super::pin::{Pinned, PinnedTable};
use crate::catalog::view::View;
use async_trait::async_trait;
use coffer_table::{Column, ColumnType, Model, calendar};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;
use std::sync::Arc;

/// Its name, in lower case.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// Digits of what a column holds are printed in this collation.
const COLLATION: &str = "utf8mb4_0900_bin";

/// Name and columns; those with a `#` are numbers.
type Definition = (&'static str, &'static [&'static str]);

const SCHEMATA: Definition =
    ("schemata", &["CATALOG_NAME", "SCHEMA_NAME", "DEFAULT_CHARACTER_SET_NAME", "DEFAULT_COLLATION_NAME", "SQL_PATH"]);

const TABLES: Definition = (
    "tables",
    &[
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "TABLE_TYPE",
        "ENGINE",
        "VERSION#",
        "ROW_FORMAT",
        "TABLE_ROWS#",
        "AVG_ROW_LENGTH#",
        "DATA_LENGTH#",
        "MAX_DATA_LENGTH#",
        "INDEX_LENGTH#",
        "DATA_FREE#",
        "AUTO_INCREMENT#",
        "CREATE_TIME",
        "UPDATE_TIME",
        "CHECK_TIME",
        "TABLE_COLLATION",
        "CHECKSUM#",
        "CREATE_OPTIONS",
        "TABLE_COMMENT",
    ],
);

const COLUMNS: Definition = (
    "columns",
    &[
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "COLUMN_NAME",
        "ORDINAL_POSITION#",
        "COLUMN_DEFAULT",
        "IS_NULLABLE",
        "DATA_TYPE",
        "CHARACTER_MAXIMUM_LENGTH#",
        "CHARACTER_OCTET_LENGTH#",
        "NUMERIC_PRECISION#",
        "NUMERIC_SCALE#",
        "DATETIME_PRECISION#",
        "CHARACTER_SET_NAME",
        "COLLATION_NAME",
        "COLUMN_TYPE",
        "COLUMN_KEY",
        "EXTRA",
        "PRIVILEGES",
        "COLUMN_COMMENT",
        "GENERATION_EXPRESSION",
    ],
);

const VIEWS: Definition = (
    "views",
    &[
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "VIEW_DEFINITION",
        "CHECK_OPTION",
        "IS_UPDATABLE",
        "DEFINER",
        "SECURITY_TYPE",
        "CHARACTER_SET_CLIENT",
        "COLLATION_CONNECTION",
    ],
);

const PARTITIONS: Definition = (
    "partitions",
    &[
        "TABLE_CATALOG",
        "TABLE_SCHEMA",
        "TABLE_NAME",
        "PARTITION_NAME",
        "SUBPARTITION_NAME",
        "PARTITION_ORDINAL_POSITION#",
        "SUBPARTITION_ORDINAL_POSITION#",
        "PARTITION_METHOD",
        "SUBPARTITION_METHOD",
        "PARTITION_EXPRESSION",
        "SUBPARTITION_EXPRESSION",
        "PARTITION_DESCRIPTION",
        "TABLE_ROWS#",
        "AVG_ROW_LENGTH#",
        "DATA_LENGTH#",
        "MAX_DATA_LENGTH#",
        "INDEX_LENGTH#",
        "DATA_FREE#",
        "CREATE_TIME",
        "UPDATE_TIME",
        "CHECK_TIME",
        "CHECKSUM#",
        "PARTITION_COMMENT",
        "NODEGROUP",
        "TABLESPACE_NAME",
    ],
);

/// Always empty.
const EMPTY: [Definition; 8] = [
    ("events", &["EVENT_CATALOG", "EVENT_SCHEMA", "EVENT_NAME", "STATUS"]),
    (
        "key_column_usage",
        &[
            "CONSTRAINT_CATALOG",
            "CONSTRAINT_SCHEMA",
            "CONSTRAINT_NAME",
            "TABLE_CATALOG",
            "TABLE_SCHEMA",
            "TABLE_NAME",
            "COLUMN_NAME",
            "ORDINAL_POSITION#",
            "POSITION_IN_UNIQUE_CONSTRAINT#",
            "REFERENCED_TABLE_SCHEMA",
            "REFERENCED_TABLE_NAME",
            "REFERENCED_COLUMN_NAME",
        ],
    ),
    (
        "parameters",
        &[
            "SPECIFIC_CATALOG",
            "SPECIFIC_SCHEMA",
            "SPECIFIC_NAME",
            "ORDINAL_POSITION#",
            "PARAMETER_MODE",
            "PARAMETER_NAME",
            "DATA_TYPE",
            "CHARACTER_MAXIMUM_LENGTH#",
            "CHARACTER_OCTET_LENGTH#",
            "NUMERIC_PRECISION#",
            "NUMERIC_SCALE#",
            "DTD_IDENTIFIER",
            "ROUTINE_TYPE",
        ],
    ),
    (
        "referential_constraints",
        &[
            "CONSTRAINT_CATALOG",
            "CONSTRAINT_SCHEMA",
            "CONSTRAINT_NAME",
            "UNIQUE_CONSTRAINT_SCHEMA",
            "UNIQUE_CONSTRAINT_NAME",
            "MATCH_OPTION",
            "UPDATE_RULE",
            "DELETE_RULE",
            "TABLE_NAME",
            "REFERENCED_TABLE_NAME",
        ],
    ),
    (
        "routines",
        &[
            "SPECIFIC_NAME",
            "ROUTINE_CATALOG",
            "ROUTINE_SCHEMA",
            "ROUTINE_NAME",
            "ROUTINE_TYPE",
            "DATA_TYPE",
            "ROUTINE_DEFINITION",
            "CREATED",
            "LAST_ALTERED",
            "ROUTINE_COMMENT",
            "DEFINER",
        ],
    ),
    (
        "statistics",
        &[
            "TABLE_CATALOG",
            "TABLE_SCHEMA",
            "TABLE_NAME",
            "NON_UNIQUE#",
            "INDEX_SCHEMA",
            "INDEX_NAME",
            "SEQ_IN_INDEX#",
            "COLUMN_NAME",
            "COLLATION",
            "CARDINALITY#",
            "SUB_PART#",
            "PACKED",
            "NULLABLE",
            "INDEX_TYPE",
            "COMMENT",
            "INDEX_COMMENT",
        ],
    ),
    (
        "table_constraints",
        &[
            "CONSTRAINT_CATALOG",
            "CONSTRAINT_SCHEMA",
            "CONSTRAINT_NAME",
            "TABLE_SCHEMA",
            "TABLE_NAME",
            "CONSTRAINT_TYPE",
        ],
    ),
    (
        "triggers",
        &[
            "TRIGGER_CATALOG",
            "TRIGGER_SCHEMA",
            "TRIGGER_NAME",
            "EVENT_OBJECT_SCHEMA",
            "EVENT_OBJECT_TABLE",
            "ACTION_STATEMENT",
        ],
    ),
];

fn definitions() -> impl Iterator<Item = Definition> {
    [SCHEMATA, TABLES, COLUMNS, VIEWS, PARTITIONS].into_iter().chain(EMPTY)
}

/// The names of the tables.
pub fn table_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = definitions().map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

/// The name of every column of every table.
pub(crate) fn column_names() -> impl Iterator<Item = &'static str> {
    definitions().flat_map(|(_, columns)| columns.iter().map(|column| column.trim_end_matches('#')))
}

/// The schema as the engine looks it up.
#[derive(Debug)]
pub(crate) struct System {
    pinned: Arc<Pinned>,
}

impl System {
    pub(crate) fn new(pinned: Arc<Pinned>) -> System {
        System { pinned }
    }
}

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        table_names().into_iter().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((name, columns)) = definitions().find(|(known, _)| *known == name) else { return Ok(None) };
        let rows = match name {
            "schemata" => schemata(&self.pinned),
            "tables" => tables(&self.pinned),
            "columns" => {
                let of_tables = self.pinned_tables().flat_map(|(database, table)| columns_of(database, table));
                of_tables.chain(self.pinned.views.iter().flat_map(columns_of_view)).collect()
            }
            "views" => self.pinned.views.iter().map(view_row).collect(),
            "partitions" => self.pinned_tables().flat_map(|(database, table)| partitions_of(database, table)).collect(),
            _ => Vec::new(),
        };
        let batch = batch(columns, &rows)?;
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        definitions().any(|(known, _)| known == name)
    }
}

/// A row, numbers as text.
type Row = Vec<Option<String>>;

impl System {
    fn pinned_tables(&self) -> impl Iterator<Item = (&str, &PinnedTable)> {
        let databases = self.pinned.databases.iter();
        databases.flat_map(|(database, tables)| tables.values().map(move |table| (database.as_str(), table)))
    }
}

fn text(value: impl Into<String>) -> Option<String> {
    Some(value.into())
}

fn schemata(pinned: &Pinned) -> Vec<Row> {
    let names = pinned.databases.keys().map(String::as_str).chain([INFORMATION_SCHEMA]);
    names.map(|name| vec![text("def"), text(name), text("utf8mb4"), text(COLLATION), None]).collect()
}

fn tables(pinned: &Pinned) -> Vec<Row> {
    let mut rows = Vec::new();
    for (database, tables) in &pinned.databases {
        for table in tables.values() {
            let table = &table.table;
            let created = i64::try_from(table.created_ms.saturating_mul(1_000)).unwrap_or_default();
            let mut row = vec![None; TABLES.1.len()];
            row[..5].clone_from_slice(&[
                text("def"),
                text(database),
                text(&table.name),
                text("BASE TABLE"),
                text("OLAP"),
            ]);
            row[14] = Some(calendar::format_datetime(created, 0));
            row[17] = text(COLLATION);
            row[20] = text(&table.comment);
            rows.push(row);
        }
    }
    for (database, view) in &pinned.views {
        let created = i64::try_from(view.created_ms.saturating_mul(1_000)).unwrap_or_default();
        let mut row = vec![None; TABLES.1.len()];
        row[..5].clone_from_slice(&[text("def"), text(database), text(&view.name), text("VIEW"), None]);
        row[14] = Some(calendar::format_datetime(created, 0));
        row[17] = text(COLLATION);
        row[20] = text(&view.comment);
        rows.push(row);
    }
    for name in table_names() {
        let mut row = vec![None; TABLES.1.len()];
        row[..4].clone_from_slice(&[text("def"), text(INFORMATION_SCHEMA), text(name), text("SYSTEM VIEW")]);
        row[20] = text("");
        rows.push(row);
    }
    rows
}

fn columns_of<'a>(database: &'a str, table: &'a PinnedTable) -> impl Iterator<Item = Row> + 'a {
    let columns = table.table.schema.columns.iter().enumerate();
    columns
        .map(move |(at, column)| column_row((database, &table.table.name), (at + 1, Some(&table.table.schema)), column))
}

fn columns_of_view((database, view): &(String, View)) -> Vec<Row> {
    let columns = view.columns.iter().enumerate();
    columns.map(|(at, column)| column_row((database, &view.name), (at + 1, None), column)).collect()
}

fn view_row((database, view): &(String, View)) -> Row {
    vec![
        text("def"),
        text(database),
        text(&view.name),
        text(&view.query),
        text("NONE"),
        text("NO"),
        text("root@%"),
        text("DEFINER"),
        text("utf8mb4"),
        text(COLLATION),
    ]
}

fn partitions_of(database: &str, table: &PinnedTable) -> Vec<Row> {
    let table = &table.table;
    let kinds = table.partition_kinds();
    let method = match (table.partition_columns.is_empty(), table.partitioning.list) {
        (true, _) => None,
        (false, true) => text("LIST"),
        (false, false) => text("RANGE"),
    };
    let mut rows = Vec::with_capacity(table.partitions.len());
    for (at, partition) in table.partitions.values().enumerate() {
        let updated = i64::try_from(partition.visible_ms.saturating_mul(1_000)).unwrap_or_default();
        let mut row = vec![None; PARTITIONS.1.len()];
        row[..4].clone_from_slice(&[text("def"), text(database), text(&table.name), text(&partition.name)]);
        row[5] = Some((at + 1).to_string());
        row[7].clone_from(&method);
        row[9] = method.as_ref().map(|_| table.partition_columns.join(", "));
        row[11] = partition.range.as_ref().map(|range| range.format(&kinds));
        row[19] = Some(calendar::format_datetime(updated, 0));
        row[22] = text("");
        rows.push(row);
    }
    rows
}

/// `schema` is that of the table; a view has none.
fn column_row(
    (database, table): (&str, &str),
    (position, schema): (usize, Option<&coffer_table::Schema>),
    column: &Column,
) -> Row {
    let aggregate = schema.and_then(|schema| schema.aggregate(position - 1));
    let is_text = column.kind.max_bytes();
    let (precision, scale, fraction) = match column.kind {
        ColumnType::Boolean | ColumnType::TinyInt => (Some(3), Some(0), None),
        ColumnType::SmallInt => (Some(5), Some(0), None),
        ColumnType::Int => (Some(10), Some(0), None),
        ColumnType::BigInt => (Some(19), Some(0), None),
        ColumnType::LargeInt => (Some(38), Some(0), None),
        ColumnType::Float => (Some(12), None, None),
        ColumnType::Double => (Some(22), None, None),
        ColumnType::Decimal { precision, scale } => (Some(precision), Some(scale), None),
        ColumnType::DateTime { scale } => (None, None, Some(scale)),
        ColumnType::Date | ColumnType::Char { .. } | ColumnType::Varchar { .. } | ColumnType::String => {
            (None, None, None)
        }
    };
    let full = column.kind.to_string();
    let name = full.split('(').next().unwrap_or_default();
    // Types that MySQL does not have go by the name of the nearest that it has.
    let name = match column.kind {
        ColumnType::String => "text",
        ColumnType::Boolean => "tinyint",
        ColumnType::LargeInt => "decimal",
        _ => name,
    };
    let whole = |number: Option<u8>| number.map(|number| number.to_string());
    vec![
        text("def"),
        text(database),
        text(table),
        text(&column.name),
        Some(position.to_string()),
        column.default.clone(),
        text(if column.nullable { "YES" } else { "NO" }),
        text(name),
        is_text.map(|bytes| bytes.to_string()),
        is_text.map(|bytes| bytes.to_string()),
        whole(precision),
        whole(scale),
        whole(fraction),
        is_text.map(|_| "utf8mb4".to_owned()),
        is_text.map(|_| COLLATION.to_owned()),
        text(&full),
        text(schema.filter(|_| column.key).map_or("", |schema| key_of(schema.model))),
        text(aggregate.map_or_else(String::new, |aggregate| aggregate.to_string())),
        text("select,insert"),
        text(&column.comment),
        text(""),
    ]
}

/// How the key column of a table of this model shows.
fn key_of(model: Model) -> &'static str {
    match model {
        Model::Duplicate => "DUP",
        Model::Aggregate => "AGG",
        Model::Unique => "UNI",
    }
}

fn batch(columns: &[&str], rows: &[Row]) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| match column.strip_suffix('#') {
            Some(name) => Field::new(name, DataType::Int64, true),
            None => Field::new(*column, DataType::Utf8, true),
        })
        .collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let arrays = columns.iter().enumerate().map(|(at, column)| -> ArrayRef {
        let cells = rows.iter().map(|row| row.get(at).and_then(Option::as_deref));
        if column.ends_with('#') {
            Arc::new(cells.map(|cell| cell.and_then(|cell| cell.parse::<i64>().ok())).collect::<Int64Array>())
        } else {
            Arc::new(cells.collect::<StringArray>())
        }
    });
    Ok(RecordBatch::try_new(schema, arrays.collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_long_as_their_tables_are_wide() {
        let column = Column {
            name: "c".to_owned(),
            kind: ColumnType::Decimal { precision: 9, scale: 2 },
            nullable: true,
            default: None,
            key: false,
            comment: String::new(),
            aggregate: None,
        };
        let schema = coffer_table::Schema { columns: vec![column.clone()], model: Model::Duplicate };
        assert_eq!(column_row(("d", "t"), (1, Some(&schema)), &column).len(), COLUMNS.1.len());
        let rows = tables(&Pinned::default());
        assert!(rows.len() == table_names().len() && rows.iter().all(|row| row.len() == TABLES.1.len()));
        assert!(schemata(&Pinned::default()).iter().all(|row| row.len() == SCHEMATA.1.len()));
    }

    #[test]
    fn numbers_are_numbers() {
        let rows = vec![vec![Some("x".to_owned()), Some("7".to_owned())], vec![None, None]];
        let batch = batch(&["A", "B#"], &rows).unwrap();
        assert_eq!(batch.schema().field(1).name(), "B");
        assert_eq!(
            batch.column(1).as_ref(),
            &Int64Array::from(vec![Some(7), None]) as &dyn datafusion::arrow::array::Array
        );
    }

    #[test]
    fn every_table_of_mysql_that_tools_ask_for_is_there() {
        let names = table_names();
        assert!(names.is_sorted() && names.contains(&"key_column_usage") && names.len() == 13);
        assert!(column_names().any(|name| name == "COLUMN_TYPE"));
    }
}
