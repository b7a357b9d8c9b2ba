//! Column types as written in CREATE TABLE.

use super::cursor::Cursor;
use crate::error::{Error, Result};
use coffer_table::ColumnType;
use sqlparser::tokenizer::Token;

const MAX_CHAR: u32 = 255;
const MAX_VARCHAR: u32 = 65_533;
const MAX_PRECISION: u8 = 38;
const MAX_TIME_SCALE: u8 = 6;
/// DECIMAL without digits.
const DEFAULT_DECIMAL: (u8, u8) = (38, 9);

/// Types of such tables that Coffer does not have.
const NOT_YET: [&str; 25] = [
    "ARRAY",
    "MAP",
    "STRUCT",
    "JSON",
    "JSONB",
    "VARIANT",
    "HLL",
    "BITMAP",
    "QUANTILE_STATE",
    "AGG_STATE",
    "IPV4",
    "IPV6",
    "TIME",
    "TIMEV2",
    "TIMESTAMP",
    "YEAR",
    "BINARY",
    "VARBINARY",
    "BLOB",
    "LONGBLOB",
    "ENUM",
    "BIT",
    "UUID",
    "MEDIUMINT",
    "GEOMETRY",
];

/// Read a type.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<ColumnType> {
    let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
    if NOT_YET.contains(&word.as_str()) {
        return Err(Error::not_supported(format!("column type {word} is not supported")));
    }
    let plain = match word.as_str() {
        "BOOLEAN" | "BOOL" => Some(ColumnType::Boolean),
        "TINYINT" => Some(ColumnType::TinyInt),
        "SMALLINT" => Some(ColumnType::SmallInt),
        "INT" | "INTEGER" => Some(ColumnType::Int),
        "BIGINT" => Some(ColumnType::BigInt),
        "LARGEINT" => Some(ColumnType::LargeInt),
        "FLOAT" => Some(ColumnType::Float),
        "DOUBLE" => Some(ColumnType::Double),
        "DATE" | "DATEV2" => Some(ColumnType::Date),
        "STRING" | "TEXT" => Some(ColumnType::String),
        _ => None,
    };
    if let Some(kind) = plain {
        cursor.skip();
        if kind == ColumnType::Double {
            cursor.eat("PRECISION");
        }
        if matches!(kind, ColumnType::TinyInt | ColumnType::SmallInt | ColumnType::Int | ColumnType::BigInt) {
            // The width of display: read as MySQL does, and without a meaning there as here.
            optional_arguments::<u32>(cursor, 1)?;
        }
        return Ok(kind);
    }
    match word.as_str() {
        "DECIMAL" | "DECIMALV2" | "DECIMALV3" | "NUMERIC" => decimal(cursor),
        "DATETIME" | "DATETIMEV2" => date_time(cursor),
        "CHAR" | "CHARACTER" => {
            cursor.skip();
            Ok(ColumnType::Char { length: length(cursor, "CHAR", 1, MAX_CHAR)? })
        }
        "VARCHAR" => {
            cursor.skip();
            Ok(ColumnType::Varchar { length: length(cursor, "VARCHAR", MAX_VARCHAR, MAX_VARCHAR)? })
        }
        _ => Err(cursor.expected("a column type")),
    }
}

/// `[(n [, n])]`, at most `most` numbers.
fn optional_arguments<N: std::str::FromStr>(cursor: &mut Cursor<'_>, most: usize) -> Result<Vec<N>> {
    if *cursor.peek() != Token::LParen {
        return Ok(Vec::new());
    }
    let mut count = 0;
    cursor.parenthesised(|cursor| {
        count += 1;
        if count > most { Err(cursor.expected("')'")) } else { cursor.number("a number") }
    })
}

fn decimal(cursor: &mut Cursor<'_>) -> Result<ColumnType> {
    cursor.skip();
    let (precision, scale) = match optional_arguments::<u8>(cursor, 2)?[..] {
        [precision, scale, ..] => (precision, scale),
        [precision] => (precision, 0),
        [] => DEFAULT_DECIMAL,
    };
    if precision == 0 || precision > MAX_PRECISION {
        return Err(Error::invalid(format!(
            "Precision of decimal must between 1 and {MAX_PRECISION}. Precision was set to: {precision}"
        )));
    }
    if scale > precision {
        return Err(Error::invalid(format!(
            "Scale of decimal must be less than precision. Scale is {scale} and precision is {precision}"
        )));
    }
    Ok(ColumnType::Decimal { precision, scale })
}

fn date_time(cursor: &mut Cursor<'_>) -> Result<ColumnType> {
    cursor.skip();
    let scale = optional_arguments::<u8>(cursor, 1)?.first().copied().unwrap_or(0);
    if scale > MAX_TIME_SCALE {
        return Err(Error::invalid(format!(
            "Scale of Datetime must be between 0 and {MAX_TIME_SCALE}. Scale was set to: {scale}"
        )));
    }
    Ok(ColumnType::DateTime { scale })
}

/// `[(n | *)]`.
fn length(cursor: &mut Cursor<'_>, what: &str, default: u32, most: u32) -> Result<u32> {
    if *cursor.peek() == Token::LParen && *cursor.nth(1) == Token::Mul && *cursor.nth(2) == Token::RParen {
        (0..3).for_each(|_| cursor.skip());
        return Ok(most);
    }
    let length = optional_arguments(cursor, 1)?.first().copied().unwrap_or(default);
    if length == 0 || length > most {
        return Err(Error::invalid(format!("{what} size must be between 1 and {most}: {length}")));
    }
    Ok(length)
}
