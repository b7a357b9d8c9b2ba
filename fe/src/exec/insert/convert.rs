//! Columns of a query as columns of a table, strictly. Pure.
//!
//! Text is read as a load file's is. Numbers are brought to the column's type if their value fits; decimals and floating
//! point numbers are rounded half away from zero to the digits that the column has. Dates and times convert into each
//! other. Everything converts to text, in the form in which a client sees it. A value that does not fit, a text that is too
//! long and a NULL where none is allowed are errors that name column, value and row.

use crate::error::{Error, Result};
use crate::query::encode;
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt32Array, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType,
};
use coffer_mysql::Value;
use coffer_stdx::time::now_ms;
use coffer_table::calendar::{DAY_US, FIRST_DAY, LAST_DAY};
use coffer_table::{BatchBuilder, Column, ColumnType, Schema};

/// NULL in a NOT NULL column.
const NULL_REFUSED: u16 = 1048;
/// Characters of a value shown in a message.
const SHOWN_CHARS: usize = 64;
/// A value that does not fit becomes NULL, and is then found by that.
const NULL_FOR_MISFITS: CastOptions<'_> =
    CastOptions { safe: true, format_options: arrow::util::display::FormatOptions::new() };

/// The values of a column that the statement leaves out.
#[derive(Debug)]
pub(super) struct Filler {
    /// One value.
    value: ArrayRef,
}

/// The default of a column at this moment.
pub(super) fn default_text(column: &Column) -> Option<String> {
    column.default_at(i64::try_from(now_ms()).unwrap_or(0) * 1_000)
}

impl Filler {
    /// The default of a column, or NULL.
    pub(super) fn new(column: &Column) -> Result<Filler> {
        let value = match default_text(column) {
            None => new_null_array(&column.kind.arrow(), 1),
            Some(text) => read(&StringArray::from(vec![text.as_str()]), column, 0)?,
        };
        Ok(Filler { value })
    }

    pub(super) fn fill(&self, rows: usize) -> Result<ArrayRef> {
        take(&self.value, &UInt32Array::from(vec![0; rows]), None).map_err(|error| defect(&error))
    }
}

/// A column of the source as the column of the table. `before` counts the rows before the first, for messages.
pub(super) fn convert(array: &ArrayRef, column: &Column, before: u64) -> Result<ArrayRef> {
    let converted = match array.data_type() {
        DataType::Null => new_null_array(&column.kind.arrow(), array.len()),
        DataType::Utf8 => read(array.as_string::<i32>(), column, before)?,
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let texts = cast(array, &DataType::Utf8)?;
            all_kept(array, &texts, column, before)?;
            read(texts.as_string::<i32>(), column, before)?
        }
        _ => {
            let converted = match column.kind {
                ColumnType::Date | ColumnType::DateTime { .. } => times(array, column, before)?,
                ColumnType::Char { .. } | ColumnType::Varchar { .. } | ColumnType::String => {
                    read(&texts_of(array)?, column, before)?
                }
                _ if is_number(array.data_type()) => numbers(array, column.kind)?,
                _ => read(&texts_of(array)?, column, before)?,
            };
            all_kept(array, &converted, column, before)?;
            converted
        }
    };
    if !column.nullable
        && let Some(row) = (0..converted.len()).find(|row| converted.is_null(*row))
    {
        return Err(null_refused(column, &format!("(row {})", before + row as u64 + 1)));
    }
    Ok(converted)
}

/// NULL in a NOT NULL column.
pub(super) fn null_refused(column: &Column, place: &str) -> Error {
    Error::invalid(format!("Column '{}' cannot be null {place}", column.name)).numbered(NULL_REFUSED)
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric() || *kind == DataType::Boolean
}

/// Texts as a load file has them.
fn read(texts: &StringArray, column: &Column, before: u64) -> Result<ArrayRef> {
    let nullable = Column { nullable: true, ..column.clone() };
    let schema = Schema { columns: vec![nullable], model: coffer_table::Model::Duplicate };
    let mut builder = BatchBuilder::new(&schema);
    for (row, text) in texts.iter().enumerate() {
        let text = text.map(str::as_bytes);
        builder.push(0, text).map_err(|misfit| {
            let row = before + row as u64 + 1;
            Error::invalid(format!("{} (row {row})", misfit.describe(&schema, 0, text)))
        })?;
        builder.end_row();
    }
    Ok(builder.finish()?.column(0).clone())
}

/// Values as a client sees them.
fn texts_of(array: &ArrayRef) -> Result<StringArray> {
    let batch = RecordBatch::try_from_iter([("value", array.clone())]).map_err(|error| defect(&error))?;
    let rows = encode::rows(&batch)?;
    let texts = rows.iter().map(|row| row.first().filter(|value| **value != Value::Null).map(ToString::to_string));
    Ok(texts.collect())
}

fn numbers(array: &ArrayRef, kind: ColumnType) -> Result<ArrayRef> {
    let target = kind.arrow();
    match (array.data_type(), kind) {
        (DataType::Float16 | DataType::Float32 | DataType::Float64, ColumnType::Float) => {
            let narrow = cast(array, &target)?;
            let wide = cast(array, &DataType::Float64)?;
            let (narrow, wide) = (narrow.as_primitive::<Float32Type>(), wide.as_primitive::<Float64Type>());
            // What is too large becomes infinite; that is not what was given.
            let kept = narrow.iter().zip(wide).map(|(narrow, wide)| {
                narrow.filter(|narrow| narrow.is_finite() || wide.is_some_and(|wide| !wide.is_finite()))
            });
            Ok(std::sync::Arc::new(kept.collect::<arrow::array::Float32Array>()))
        }
        (DataType::Float16 | DataType::Float32 | DataType::Float64, kind) if is_whole(kind) => {
            let wide = cast(array, &DataType::Float64)?;
            let rounded: Float64Array = wide.as_primitive::<Float64Type>().unary(f64::round);
            cast(&(std::sync::Arc::new(rounded) as ArrayRef), &target)
        }
        (DataType::Decimal128(_, scale), kind) if *scale > 0 && is_whole(kind) => {
            cast(&cast(array, &DataType::Decimal128(38, 0))?, &target)
        }
        (DataType::Decimal256(_, _), kind) if is_whole(kind) => {
            cast(&cast(array, &DataType::Decimal128(38, 0))?, &target)
        }
        (DataType::Decimal128(_, _), ColumnType::Boolean) => {
            let zero = array.as_primitive::<Decimal128Type>();
            let truths = zero.iter().map(|value| value.map(|value| value != 0));
            Ok(std::sync::Arc::new(truths.collect::<arrow::array::BooleanArray>()))
        }
        (DataType::Boolean, ColumnType::LargeInt | ColumnType::Decimal { .. }) => {
            cast(&cast(array, &DataType::Int8)?, &target)
        }
        _ => cast(array, &target),
    }
}

fn is_whole(kind: ColumnType) -> bool {
    use ColumnType::{BigInt, Int, LargeInt, SmallInt, TinyInt};
    matches!(kind, TinyInt | SmallInt | Int | BigInt | LargeInt)
}

fn times(array: &ArrayRef, column: &Column, before: u64) -> Result<ArrayRef> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    match array.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => (),
        _ => return read(&texts_of(array)?, column, before),
    }
    let plain =
        if matches!(array.data_type(), DataType::Timestamp(_, _)) { cast(array, &micros)? } else { array.clone() };
    let converted = cast(&plain, &column.kind.arrow())?;
    Ok(match column.kind {
        ColumnType::DateTime { scale } => {
            let (first, last) = (i64::from(FIRST_DAY) * DAY_US, (i64::from(LAST_DAY) + 1) * DAY_US);
            let times = converted.as_primitive::<TimestampMicrosecondType>().iter();
            let times = times.map(|time| {
                let rounded = round_time(time?, scale);
                (first..last).contains(&rounded).then_some(rounded)
            });
            std::sync::Arc::new(times.collect::<TimestampMicrosecondArray>())
        }
        _ => {
            let days = converted.as_primitive::<Date32Type>().iter();
            let days = days.map(|day| day.filter(|day| (FIRST_DAY..=LAST_DAY).contains(day)));
            std::sync::Arc::new(days.collect::<Date32Array>())
        }
    })
}

/// Microseconds rounded half up to a number of digits of a second.
fn round_time(micros: i64, scale: u8) -> i64 {
    let unit = 10_i64.pow(6 - u32::from(scale.min(6)));
    micros.saturating_add(unit / 2).div_euclid(unit) * unit
}

fn cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    cast_with_options(array, target, &NULL_FOR_MISFITS)
        .map_err(|error| Error::invalid(format!("values of type {} cannot be stored: {error}", array.data_type())))
}

/// Whether nothing became NULL that was not.
fn all_kept(from: &ArrayRef, to: &ArrayRef, column: &Column, before: u64) -> Result<()> {
    if to.null_count() <= from.null_count() {
        return Ok(());
    }
    let Some(row) = (0..from.len()).find(|row| to.is_null(*row) && !from.is_null(*row)) else { return Ok(()) };
    let value = texts_of(&from.slice(row, 1))?;
    let shown: String =
        if value.is_null(0) { "?".to_owned() } else { value.value(0).chars().take(SHOWN_CHARS).collect() };
    let row = before + row as u64 + 1;
    Err(Error::invalid(format!(
        "column '{}': '{shown}' is not a value of type {} (row {row})",
        column.name, column.kind
    )))
}

fn defect(error: &arrow::error::ArrowError) -> Error {
    Error::bug(format!("values of INSERT: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Decimal128Array, Int64Array, NullArray, StringViewArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow::util::display::array_value_to_string;
    use std::sync::Arc;

    fn column(kind: ColumnType) -> Column {
        Column::new("c", kind)
    }

    fn one(array: impl Array + 'static, kind: ColumnType) -> Result<String> {
        let array = Arc::new(array) as ArrayRef;
        let converted = convert(&array, &column(kind), 0)?;
        assert_eq!(converted.data_type(), &kind.arrow());
        Ok(array_value_to_string(&converted, 0).unwrap())
    }

    fn decimal(value: i128, precision: u8, scale: i8) -> Decimal128Array {
        Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap()
    }

    #[test]
    fn values_that_fit_are_converted() {
        let money = ColumnType::Decimal { precision: 15, scale: 2 };
        let cases: Vec<(Result<String>, &str)> = vec![
            (one(NullArray::new(1), ColumnType::Int), ""),
            (one(Int64Array::from(vec![-128]), ColumnType::TinyInt), "-128"),
            (one(Int64Array::from(vec![7]), ColumnType::LargeInt), "7"),
            (one(Int64Array::from(vec![7]), money), "7.00"),
            (one(Int64Array::from(vec![2]), ColumnType::Boolean), "true"),
            (one(Int64Array::from(vec![20_240_229]), ColumnType::Date), "2024-02-29"),
            (one(Int64Array::from(vec![5]), ColumnType::Varchar { length: 1 }), "5"),
            (one(UInt64Array::from(vec![u64::MAX]), ColumnType::LargeInt), "18446744073709551615"),
            (one(BooleanArray::from(vec![true]), ColumnType::Int), "1"),
            (one(BooleanArray::from(vec![true]), money), "1.00"),
            (one(BooleanArray::from(vec![true]), ColumnType::String), "1"),
            (one(Float64Array::from(vec![2.5]), ColumnType::Int), "3"),
            (one(Float64Array::from(vec![1.005e3]), money), "1005.00"),
            (one(Float64Array::from(vec![0.5]), ColumnType::Float), "0.5"),
            (one(Float64Array::from(vec![f64::INFINITY]), ColumnType::Float), "inf"),
            (one(decimal(25, 3, 1), ColumnType::Int), "3"),
            (one(decimal(12_345, 10, 3), money), "12.35"),
            (one(decimal(15, 3, 1), ColumnType::Double), "1.5"),
            (one(decimal(1, 3, 1), ColumnType::Boolean), "true"),
            (one(StringArray::from(vec!["12.345"]), money), "12.35"),
            (one(StringViewArray::from(vec!["2024-02-29 01:02:03"]), ColumnType::Date), "2024-02-29"),
            (one(Date32Array::from(vec![1]), ColumnType::DateTime { scale: 0 }), "1970-01-02T00:00:00"),
            (one(Date32Array::from(vec![1]), ColumnType::String), "1970-01-02"),
            (
                one(TimestampNanosecondArray::from(vec![1_500_000_000]), ColumnType::DateTime { scale: 0 }),
                "1970-01-01T00:00:02",
            ),
            (one(TimestampNanosecondArray::from(vec![0]).with_timezone("+00:00"), ColumnType::Date), "1970-01-01"),
        ];
        for (number, (converted, expected)) in cases.into_iter().enumerate() {
            assert_eq!(converted.as_deref(), Ok(expected), "case {number}");
        }
    }

    #[test]
    fn values_that_do_not_fit_are_named_with_their_row() {
        let cases: Vec<(Result<String>, &str)> = vec![
            (
                one(Int64Array::from(vec![1, 300]), ColumnType::TinyInt),
                "column 'c': '300' is not a value of type tinyint (row 2)",
            ),
            (one(StringArray::from(vec!["x"]), ColumnType::Int), "column 'c': 'x' is not a value of type int (row 1)"),
            (one(StringArray::from(vec!["abc"]), ColumnType::Varchar { length: 2 }), "3 bytes, 2 are allowed"),
            (one(Int64Array::from(vec![100]), ColumnType::Varchar { length: 2 }), "3 bytes, 2 are allowed"),
            (one(Float64Array::from(vec![1e300]), ColumnType::Float), "'1e300' is not a value of type float"),
            (one(Float64Array::from(vec![f64::NAN]), ColumnType::Int), "is not a value of type int"),
            (one(decimal(10_i128.pow(20), 38, 0), ColumnType::BigInt), "is not a value of type bigint"),
            (
                one(decimal(100_000, 10, 0), ColumnType::Decimal { precision: 5, scale: 2 }),
                "'100000' is not a value of type decimal(5,2)",
            ),
            (one(Date32Array::from(vec![i32::MAX]), ColumnType::Date), "is not a value of type date"),
            (one(Date32Array::from(vec![0]), ColumnType::Int), "'1970-01-01' is not a value of type int"),
        ];
        for (refused, expected) in cases {
            let error = refused.unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }

    #[test]
    fn null_is_refused_where_it_is_not_allowed() {
        let strict = Column { nullable: false, ..column(ColumnType::Int) };
        let array = Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef;
        let error = convert(&array, &strict, 10).unwrap_err();
        assert_eq!((error.number(), error.message()), (NULL_REFUSED, "Column 'c' cannot be null (row 12)"));
    }

    #[test]
    fn defaults_fill_what_is_left_out() {
        let fill = |kind, default: Option<&str>| {
            let column = Column { default: default.map(str::to_owned), ..column(kind) };
            Filler::new(&column)?.fill(2)
        };
        let shown = |array: ArrayRef| array_value_to_string(&array, 1).unwrap();
        assert_eq!(shown(fill(ColumnType::Int, Some("7")).unwrap()), "7");
        assert_eq!(fill(ColumnType::Int, None).unwrap().null_count(), 2);
        assert!(shown(fill(ColumnType::DateTime { scale: 0 }, Some("CURRENT_TIMESTAMP")).unwrap()).starts_with("20"));
        assert!(shown(fill(ColumnType::Date, Some("current_date")).unwrap()).starts_with("20"));
        assert!(fill(ColumnType::Int, Some("x")).is_err());
    }

    #[test]
    fn times_round_half_up() {
        assert_eq!(round_time(1_499_999, 0), 1_000_000);
        assert_eq!(round_time(1_500_000, 0), 2_000_000);
        assert_eq!(round_time(-1_500_000, 0), -1_000_000);
        assert_eq!(round_time(1_234_567, 6), 1_234_567);
        assert_eq!(round_time(1_234_567, 3), 1_235_000);
    }
}
