//! Keys of LIST partitions: a partition takes the rows whose key is one of those it lists.
//!
//! A key has one value per partition column. NULL is a value like any other; text compares byte by byte.

use crate::calendar;
use crate::range::{ListValue, Scalar};
use crate::types::ColumnType;
use arrow::array::{Array, ArrayRef, AsArray};
use coffer_stdx::{Error, Result};

impl ListValue {
    /// Read a literal's text (quotes removed).
    pub fn parse(kind: ColumnType, text: &str) -> Result<ListValue> {
        match kind {
            ColumnType::Char { length } | ColumnType::Varchar { length } => {
                if text.len() > length as usize {
                    return Err(Error::invalid(format!("'{text}' is not a value of type {kind}: it is too long")));
                }
                Ok(ListValue::Text(text.to_owned()))
            }
            ColumnType::Boolean => match text.trim() {
                "1" => Ok(ListValue::Value(Scalar::Int(1))),
                "0" => Ok(ListValue::Value(Scalar::Int(0))),
                word if word.eq_ignore_ascii_case("true") => Ok(ListValue::Value(Scalar::Int(1))),
                word if word.eq_ignore_ascii_case("false") => Ok(ListValue::Value(Scalar::Int(0))),
                _ => Err(Error::invalid(format!("'{text}' is not a value of type {kind}"))),
            },
            _ => Scalar::parse(kind, text).map(ListValue::Value),
        }
    }

    /// The value as text, without quotes.
    pub fn format(&self, kind: ColumnType) -> String {
        match self {
            ListValue::Null => "NULL".to_owned(),
            ListValue::Value(value) => value.format(kind),
            ListValue::Text(text) => text.clone(),
        }
    }
}

/// Whether a table may be partitioned by lists of this type.
pub fn is_list_key(kind: ColumnType) -> bool {
    kind.is_range_key() || matches!(kind, ColumnType::Char { .. } | ColumnType::Varchar { .. } | ColumnType::Boolean)
}

/// The value of a column in one row.
pub(crate) fn value_at(array: &ArrayRef, kind: ColumnType, row: usize) -> ListValue {
    use arrow::datatypes::{
        Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    };
    if array.is_null(row) {
        return ListValue::Null;
    }
    let number = |value: i128| ListValue::Value(Scalar::Int(value));
    match kind {
        ColumnType::Boolean => number(i128::from(array.as_boolean().value(row))),
        ColumnType::TinyInt => number(array.as_primitive::<Int8Type>().value(row).into()),
        ColumnType::SmallInt => number(array.as_primitive::<Int16Type>().value(row).into()),
        ColumnType::Int => number(array.as_primitive::<Int32Type>().value(row).into()),
        ColumnType::BigInt => number(array.as_primitive::<Int64Type>().value(row).into()),
        ColumnType::LargeInt => number(array.as_primitive::<Decimal128Type>().value(row)),
        ColumnType::Date => ListValue::Value(Scalar::Date(array.as_primitive::<Date32Type>().value(row))),
        ColumnType::DateTime { .. } => {
            ListValue::Value(Scalar::DateTime(array.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        ColumnType::Char { .. } | ColumnType::Varchar { .. } | ColumnType::String => {
            ListValue::Text(array.as_string::<i32>().value(row).to_owned())
        }
        // `is_list_key` keeps these out.
        ColumnType::Float | ColumnType::Double | ColumnType::Decimal { .. } => ListValue::Null,
    }
}

/// `YYYYMMDD` of a number of days since 1970: what dates look like in whole numbers.
pub fn number_of_day(days: i32) -> i128 {
    let (year, month, day) = calendar::date_of(days);
    i128::from(year) * 10_000 + i128::from(month) * 100 + i128::from(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_printed() {
        for (kind, text, shown) in [
            (ColumnType::Int, "7", "7"),
            (ColumnType::Boolean, "TRUE", "1"),
            (ColumnType::Boolean, "0", "0"),
            (ColumnType::Date, "2024-02-29", "2024-02-29"),
            (ColumnType::Varchar { length: 3 }, " a ", " a "),
        ] {
            assert_eq!(ListValue::parse(kind, text).unwrap().format(kind), shown, "{kind}");
        }
        for (kind, text) in [
            (ColumnType::TinyInt, "128"),
            (ColumnType::Boolean, "2"),
            (ColumnType::Char { length: 1 }, "ab"),
            (ColumnType::Double, "1"),
        ] {
            assert!(ListValue::parse(kind, text).is_err(), "{kind}");
        }
        assert_eq!(ListValue::Null.format(ColumnType::Int), "NULL");
        assert!(is_list_key(ColumnType::Boolean) && !is_list_key(ColumnType::String));
        assert_eq!(number_of_day(calendar::days_of(2024, 2, 29).unwrap()), 20_240_229);
    }
}
