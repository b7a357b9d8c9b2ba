//! The rows of `VALUES` when every value is a literal: read straight into the types of the table, as a load file is, each
//! value by itself. Nothing is evaluated, so that `0.1` beside `1e20` stays exact and thousands of rows cost little. Pure.
//!
//! A number for a whole number column is rounded half away from zero; for a BOOLEAN column it is false when 0. DEFAULT
//! stands for the default of its column.

use super::convert::null_refused;
use crate::error::{Error, Result};
use arrow::array::RecordBatch;
use coffer_table::text::parse_decimal;
use coffer_table::{BatchBuilder, ColumnType, Schema};
use sqlparser::ast::{Expr, Query, SetExpr, Statement, UnaryOperator, Value};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;
use std::borrow::Cow;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;
/// Values of a batch, bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Rows of literals.
#[derive(Debug)]
pub(super) struct Literals {
    rows: Vec<Vec<Expr>>,
}

impl Literals {
    /// The rows of a source, if that is VALUES of literals and nothing else.
    pub(super) fn of(source: &str) -> Option<Literals> {
        let statement = Parser::parse_sql(&MySqlDialect {}, source).ok()?.pop()?;
        let Statement::Query(query) = statement else { return None };
        let Query { with: None, body, order_by: None, limit_clause: None, fetch: None, .. } = *query else {
            return None;
        };
        let SetExpr::Values(values) = *body else { return None };
        let rows: Vec<Vec<Expr>> = values.rows.into_iter().map(|row| row.content).collect();
        rows.iter().flatten().all(|cell| cell_of(cell).is_some()).then_some(Literals { rows })
    }

    /// Values per row, as the first row has them.
    pub(super) fn width(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Batches of whole rows. `origins` says for each column of the table which value of a row it takes; left out ones are
    /// filled with their default.
    pub(super) fn batches(&self, schema: &Schema, origins: &[Option<usize>]) -> Result<Vec<RecordBatch>> {
        // The time of now is taken once for all rows.
        let defaults: Vec<Option<String>> = schema.columns.iter().map(super::convert::default_text).collect();
        let mut batches = Vec::new();
        let mut builder = BatchBuilder::new(schema);
        for (number, row) in self.rows.iter().enumerate() {
            let place = format!("(row {})", number + 1);
            if row.len() != self.width() {
                let text = format!("Column count doesn't match value count at row {}", number + 1);
                return Err(Error::invalid(text).numbered(super::COLUMN_COUNT));
            }
            for (position, origin) in origins.iter().enumerate() {
                let cell = origin.and_then(|source| row.get(source)).map_or(Some(Cell::Default), cell_of);
                let text = match cell {
                    Some(Cell::Default) | None => defaults[position].as_deref().map(Cow::Borrowed),
                    Some(Cell::Null) => None,
                    Some(Cell::Text(text)) => Some(Cow::Borrowed(text)),
                    Some(Cell::Number(text)) => Some(number_for(schema.columns[position].kind, text)),
                };
                let column = &schema.columns[position];
                if text.is_none() && !column.nullable {
                    return Err(null_refused(column, &place));
                }
                let bytes = text.as_ref().map(|text| text.as_bytes());
                let misfit = builder.push(position, bytes);
                misfit.map_err(|misfit| {
                    Error::invalid(format!("{} {place}", misfit.describe(schema, position, bytes)))
                })?;
            }
            builder.end_row();
            if builder.rows() >= BATCH_ROWS || builder.bytes() >= BATCH_BYTES {
                batches.push(builder.finish()?);
            }
        }
        if builder.rows() > 0 {
            batches.push(builder.finish()?);
        }
        Ok(batches)
    }
}

enum Cell<'a> {
    Null,
    Default,
    Text(&'a str),
    Number(Cow<'a, str>),
}

fn cell_of(expr: &Expr) -> Option<Cell<'_>> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Null => Some(Cell::Null),
            Value::Boolean(truth) => Some(Cell::Number(Cow::Borrowed(if *truth { "1" } else { "0" }))),
            Value::Number(text, _) => Some(Cell::Number(Cow::Borrowed(text))),
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(Cell::Text(text)),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match cell_of(expr)? {
            Cell::Number(text) if !text.starts_with('-') => Some(Cell::Number(Cow::Owned(format!("-{text}")))),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => match cell_of(expr)? {
            number @ Cell::Number(_) => Some(number),
            _ => None,
        },
        Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default") => {
            Some(Cell::Default)
        }
        _ => None,
    }
}

/// A number as the text that a column of this type reads.
fn number_for(kind: ColumnType, text: Cow<'_, str>) -> Cow<'_, str> {
    use ColumnType::{BigInt, Boolean, Int, LargeInt, SmallInt, TinyInt};
    match kind {
        TinyInt | SmallInt | Int | BigInt | LargeInt if text.contains(['.', 'e', 'E']) => {
            match parse_decimal(text.as_bytes(), 38, 0) {
                Some(rounded) => Cow::Owned(rounded.to_string()),
                None => text,
            }
        }
        Boolean => {
            let zero = text.parse::<f64>().is_ok_and(|value| value == 0.0);
            Cow::Borrowed(if zero { "0" } else { "1" })
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::display::array_value_to_string;
    use coffer_table::Column;

    fn schema(kinds: &[ColumnType]) -> Schema {
        let column = |kind: &ColumnType| Column {
            name: "c".to_owned(),
            kind: *kind,
            nullable: true,
            default: Some("7".to_owned()),
            key: false,
            comment: String::new(),
            aggregate: None,
        };
        Schema { columns: kinds.iter().map(column).collect(), model: coffer_table::Model::Duplicate }
    }

    fn one(kind: ColumnType, literal: &str) -> Result<String> {
        let literals = Literals::of(&format!("VALUES ({literal})")).unwrap();
        let batches = literals.batches(&schema(&[kind]), &[Some(0)])?;
        Ok(array_value_to_string(batches[0].column(0), 0).unwrap())
    }

    #[test]
    fn literals_are_read_as_they_are() {
        let money = ColumnType::Decimal { precision: 38, scale: 2 };
        for (kind, literal, expected) in [
            (ColumnType::Int, "-5", "-5"),
            (ColumnType::Int, "+5", "5"),
            (ColumnType::Int, "2.5", "3"),
            (ColumnType::Int, "-2.5", "-3"),
            (ColumnType::BigInt, "1e3", "1000"),
            (
                ColumnType::LargeInt,
                "-99999999999999999999999999999999999999",
                "-99999999999999999999999999999999999999",
            ),
            (ColumnType::Boolean, "TRUE", "true"),
            (ColumnType::Boolean, "2", "true"),
            (ColumnType::Boolean, "0.0", "false"),
            (money, "1e20", "100000000000000000000.00"),
            (money, "'1.005'", "1.01"),
            (ColumnType::Double, "1e300", "1e300"),
            (ColumnType::Date, "20240229", "2024-02-29"),
            (ColumnType::Date, "\"2024-02-29\"", "2024-02-29"),
            (ColumnType::String, "1.10", "1.10"),
            (ColumnType::String, "'it''s'", "it's"),
            (ColumnType::String, "NULL", ""),
            (ColumnType::String, "DEFAULT", "7"),
        ] {
            assert_eq!(one(kind, literal).as_deref(), Ok(expected), "{kind} {literal}");
        }
        assert!(
            one(ColumnType::TinyInt, "127.6").unwrap_err().message().contains("'128' is not a value of type tinyint")
        );
        assert!(one(ColumnType::Int, "'x'").unwrap_err().message().contains("(row 1)"));
    }

    #[test]
    fn anything_to_evaluate_is_left_to_the_engine() {
        for source in
            ["VALUES (1 + 1)", "VALUES (now())", "SELECT 1", "VALUES (1) LIMIT 1", "VALUES (- -1)", "VALUES (a)"]
        {
            assert!(Literals::of(source).is_none(), "{source}");
        }
    }

    #[test]
    fn rows_are_whole_and_batches_bounded() {
        let text = format!("VALUES {}", vec!["(1, 'x')"; 10_000].join(", "));
        let literals = Literals::of(&text).unwrap();
        let schema = schema(&[ColumnType::String, ColumnType::Int, ColumnType::Int]);
        let batches = literals.batches(&schema, &[Some(1), None, Some(0)]).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [BATCH_ROWS, 10_000 - BATCH_ROWS]);
        assert_eq!(array_value_to_string(batches[1].column(1), 5).unwrap(), "7");
        let uneven = Literals::of("VALUES (1, 2), (3)").unwrap();
        assert_eq!(
            uneven.batches(&schema, &[Some(0), Some(1), None]).unwrap_err().number(),
            crate::exec::insert::COLUMN_COUNT
        );
    }
}
