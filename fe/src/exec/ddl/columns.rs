//! Columns and keys of CREATE TABLE. Pure.

use super::model;
use crate::error::{Error, Result, number};
use crate::limits;
use crate::sql::ast::CreateTable;
use coffer_table::{BatchBuilder, Column, ColumnType, Model, Schema};

/// Columns that become keys when the statement does not say.
const DEFAULT_KEY_COLUMNS: usize = 3;
/// And no more than so many bytes of them.
const DEFAULT_KEY_BYTES: usize = 36;
/// Longest VARCHAR.
const MAX_VARCHAR_BYTES: u32 = 65_533;

/// The schema of a new table, key columns first.
pub(super) fn schema(statement: &CreateTable) -> Result<Schema> {
    let mut columns = statement.columns.clone();
    if columns.is_empty() {
        return Err(Error::invalid("A table must have at least 1 column").numbered(number::NO_COLUMNS));
    }
    if columns.len() > limits::MAX_COLUMNS {
        return Err(Error::limit(format!("a table has at most {} columns", limits::MAX_COLUMNS)));
    }
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            return Err(
                Error::invalid(format!("Duplicate column name '{}'", column.name)).numbered(number::DUPLICATE_COLUMN)
            );
        }
        check_type(column)?;
        check_default(column)?;
        if column.comment.len() > limits::MAX_TEXT_BYTES {
            return Err(Error::limit(format!("the comment of column '{}' is too long", column.name)));
        }
    }
    let (model, keys) = match &statement.keys {
        Some((model, named)) => (*model, named_keys(&columns, named)?),
        // Where some columns have an aggregation, the others are the key.
        None if columns.iter().any(|column| column.aggregate.is_some()) => {
            let others = columns.iter().filter(|column| column.aggregate.is_none());
            (Model::Aggregate, named_keys(&columns, &others.map(|column| column.name.clone()).collect::<Vec<_>>())?)
        }
        None => (Model::Duplicate, default_keys(&columns)?),
    };
    for (at, column) in columns.iter_mut().enumerate() {
        column.key = at < keys;
    }
    let schema = Schema { columns, model };
    model::check_columns(&schema)?;
    Ok(schema)
}

fn check_type(column: &Column) -> Result<()> {
    let wrong = |why: String| Err(Error::invalid(format!("column '{}': {why}", column.name)));
    match column.kind {
        ColumnType::Decimal { precision, scale } if !(1..=38).contains(&precision) || scale > precision => {
            wrong(format!("decimal({precision},{scale}) is not possible: precision is 1 to 38, scale 0 to precision"))
        }
        ColumnType::DateTime { scale } if scale > 6 => {
            wrong(format!("datetime({scale}) is not possible: at most 6 digits of a second"))
        }
        ColumnType::Char { length } if !(1..=255).contains(&length) => {
            wrong(format!("char({length}) is not possible: the length is 1 to 255"))
        }
        ColumnType::Varchar { length } if !(1..=MAX_VARCHAR_BYTES).contains(&length) => {
            wrong(format!("varchar({length}) is not possible: the length is 1 to {MAX_VARCHAR_BYTES}"))
        }
        _ => Ok(()),
    }
}

/// A DEFAULT must be a value of its column.
fn check_default(column: &Column) -> Result<()> {
    let Some(default) = &column.default_at(0) else { return Ok(()) };
    let schema = Schema { columns: vec![column.clone()], model: coffer_table::Model::Duplicate };
    let fits = BatchBuilder::new(&schema).push(0, Some(default.as_bytes()));
    fits.map_err(|misfit| {
        let why = misfit.describe(&schema, 0, Some(default.as_bytes()));
        Error::invalid(format!("Invalid default value for '{}': {why}", column.name)).numbered(number::BAD_DEFAULT)
    })
}

/// Keys are the first columns of the table, in order.
fn named_keys(columns: &[Column], named: &[String]) -> Result<usize> {
    if named.is_empty() {
        return Err(Error::invalid("a key needs at least one column"));
    }
    for (at, name) in named.iter().enumerate() {
        let column = columns.get(at).filter(|column| column.name.eq_ignore_ascii_case(name));
        let Some(column) = column else {
            return Err(match columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)) {
                None => {
                    Error::invalid(format!("Key column[{name}] doesn't exist.")).numbered(number::KEY_COLUMN_NOT_THERE)
                }
                Some(_) => Error::invalid(format!(
                    "Key columns should be a ordered prefix of the schema. KeyColumns[{at}] (starts from zero) is {name}, \
                     but corresponding column is {} in the previous columns declaration.",
                    columns.get(at).map_or("missing", |column| column.name.as_str())
                )),
            });
        };
        match column.kind {
            ColumnType::Float | ColumnType::Double => {
                return Err(Error::invalid(format!(
                    "Float or double can not used as a key, use decimal instead: column '{name}'"
                )));
            }
            ColumnType::String => {
                return Err(Error::invalid(format!("String Type should not be used in key column[{name}].")));
            }
            _ => {}
        }
    }
    Ok(named.len())
}

/// The first columns that can be keys: at most three and 36 bytes; a VARCHAR is the last.
fn default_keys(columns: &[Column]) -> Result<usize> {
    let (mut keys, mut bytes) = (0, 0);
    for column in columns {
        let width = match column.kind {
            ColumnType::Float | ColumnType::Double | ColumnType::String => break,
            kind => width(kind),
        };
        if keys == DEFAULT_KEY_COLUMNS || (keys > 0 && bytes + width > DEFAULT_KEY_BYTES) {
            break;
        }
        keys += 1;
        bytes += width;
        if matches!(column.kind, ColumnType::Varchar { .. }) {
            break;
        }
    }
    if keys == 0 {
        return Err(Error::invalid(format!(
            "the first column could not be float, double or string, because rows are sorted by it: put another column \
             before '{}', or use decimal or varchar instead",
            columns[0].name
        )));
    }
    Ok(keys)
}

fn width(kind: ColumnType) -> usize {
    match kind {
        ColumnType::Boolean | ColumnType::TinyInt => 1,
        ColumnType::SmallInt => 2,
        ColumnType::Int | ColumnType::Float | ColumnType::Date => 4,
        ColumnType::BigInt | ColumnType::Double | ColumnType::DateTime { .. } => 8,
        ColumnType::LargeInt | ColumnType::Decimal { .. } => 16,
        ColumnType::Char { length } | ColumnType::Varchar { length } => length as usize,
        ColumnType::String => usize::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::ddl::sample::{column, create_table};

    fn keys(columns: &[(&str, ColumnType)], named: Option<&[&str]>) -> Result<Vec<String>> {
        let mut statement = create_table("t", columns);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        statement.keys = named.map(|named| (Model::Duplicate, names(named)));
        let schema = schema(&statement)?;
        Ok(schema.columns.into_iter().filter(|column| column.key).map(|column| column.name).collect())
    }

    #[test]
    fn keys_without_a_clause_are_the_first_columns_that_can() {
        use ColumnType::*;
        let varchar = Varchar { length: 10 };
        for (columns, expected) in [
            (vec![("a", Int), ("b", Int), ("c", Int), ("d", Int)], "a b c"),
            (vec![("a", Int), ("b", Double), ("c", Int)], "a"),
            (vec![("a", varchar), ("b", Int)], "a"),
            (vec![("a", Char { length: 30 }), ("b", LargeInt)], "a"),
            (vec![("a", Char { length: 255 }), ("b", Int)], "a"),
            (vec![("a", Date), ("b", Decimal { precision: 9, scale: 2 }), ("c", Boolean)], "a b c"),
        ] {
            assert_eq!(keys(&columns, None).unwrap().join(" "), expected);
        }
        for first in [Float, Double, String] {
            assert!(keys(&[("a", first), ("b", Int)], None).unwrap_err().message().contains("first column"));
        }
    }

    #[test]
    fn named_keys_are_a_prefix_of_the_columns() {
        use ColumnType::*;
        let columns = [("a", Int), ("B", Int), ("f", Double), ("s", String)];
        assert_eq!(keys(&columns, Some(&["A", "b"])).unwrap(), ["a", "B"]);
        for (named, text) in [
            (&["b"][..], "ordered prefix"),
            (&["x"], "Key column[x] doesn't exist."),
            (&["a", "b", "f"], "Float or double"),
            (&[], "at least one"),
            (&["a", "a"], "ordered prefix"),
        ] {
            let error = keys(&columns, Some(named)).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
        assert!(keys(&[("s", String)], Some(&["s"])).unwrap_err().message().contains("String Type"));
    }

    #[test]
    fn impossible_columns_are_named() {
        use ColumnType::*;
        for (columns, number, text) in [
            (vec![], 1113, "at least 1 column"),
            (vec![("a", Int), ("A", Int)], 1060, "Duplicate column name 'A'"),
            (vec![("a", Decimal { precision: 39, scale: 0 })], 0, "decimal(39,0)"),
            (vec![("a", Decimal { precision: 3, scale: 4 })], 0, "decimal(3,4)"),
            (vec![("a", DateTime { scale: 7 })], 0, "datetime(7)"),
            (vec![("a", Char { length: 256 })], 0, "char(256)"),
            (vec![("a", Varchar { length: 0 })], 0, "varchar(0)"),
        ] {
            let error = schema(&create_table("t", &columns)).unwrap_err();
            assert_eq!(error.number(), number, "{error}");
            assert!(error.message().contains(text), "{error}");
        }
        let many: Vec<(std::string::String, ColumnType)> =
            (0..=limits::MAX_COLUMNS).map(|n| (format!("c{n}"), Int)).collect();
        let many: Vec<(&str, ColumnType)> = many.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert!(schema(&create_table("t", &many)).unwrap_err().message().contains("at most"));
    }

    #[test]
    fn a_default_is_a_value_of_its_column() {
        let with = |kind, default: &str| {
            let mut statement = create_table("t", &[("a", ColumnType::Int)]);
            statement.columns.push(Column { default: Some(default.to_owned()), ..column("b", kind) });
            schema(&statement)
        };
        assert!(with(ColumnType::Int, "7").is_ok());
        assert!(with(ColumnType::Date, "2024-01-01").is_ok());
        assert!(with(ColumnType::DateTime { scale: 3 }, "CURRENT_TIMESTAMP").is_ok());
        assert!(with(ColumnType::Int, "CURRENT_TIMESTAMP").is_err());
        let error = with(ColumnType::Int, "seven").unwrap_err();
        assert_eq!(error.number(), 1067);
        assert!(error.message().contains("'b'") && error.message().contains("seven"), "{error}");
        assert!(with(ColumnType::Char { length: 2 }, "abc").is_err());
        let mut long = create_table("t", &[("a", ColumnType::Int)]);
        long.columns[0].comment = "x".repeat(limits::MAX_TEXT_BYTES + 1);
        assert!(schema(&long).is_err());
    }
}
