//! Arrow batches as the MySQL protocol wants them: a column description per field, a value per cell. A few rows at a time,
//! so that a result of any size needs the memory of one batch.
//!
//! Decimals go as text with all their digits, numbers wider than 64 bits likewise; booleans are 0 and 1; nested values,
//! intervals and whatever has no MySQL type go as printed text.

use coffer_mysql::{Column, ColumnType, Row, Value};
use coffer_stdx::{Error, Result};
use coffer_table::calendar::{DAY_US, FIRST_DAY, LAST_DAY, date_of};
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Field, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use datafusion::arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};

/// In the metadata of a field: digits of a second with which a DATETIME(n) column was declared.
pub(crate) const FRACTION: &str = "coffer.fraction";
/// Rows made at a time.
pub(crate) const ROWS_AT_A_TIME: usize = 1_024;

/// The columns of a result.
pub fn columns(schema: &Schema) -> Vec<Column> {
    schema.fields().iter().map(|field| column(field)).collect()
}

fn column(field: &Field) -> Column {
    let plain = |kind| Column::new(field.name(), kind);
    let mut column = match field.data_type() {
        DataType::Null => plain(ColumnType::Null),
        DataType::Boolean | DataType::Int8 => plain(ColumnType::Tiny),
        DataType::UInt8 => plain(ColumnType::Tiny).unsigned(),
        DataType::Int16 => plain(ColumnType::Short),
        DataType::UInt16 => plain(ColumnType::Short).unsigned(),
        DataType::Int32 => plain(ColumnType::Long),
        DataType::UInt32 => plain(ColumnType::Long).unsigned(),
        DataType::Int64 => plain(ColumnType::LongLong),
        DataType::UInt64 => plain(ColumnType::LongLong).unsigned(),
        DataType::Float16 | DataType::Float32 => plain(ColumnType::Float),
        DataType::Float64 => plain(ColumnType::Double),
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => plain(ColumnType::Decimal).decimals(u8::try_from(*scale).unwrap_or(0)),
        DataType::Date32 | DataType::Date64 => plain(ColumnType::Date),
        DataType::Timestamp(_, _) => {
            let time = plain(ColumnType::DateTime);
            match field.metadata().get(FRACTION).and_then(|digits| digits.parse().ok()) {
                Some(digits) => time.exact_fraction(digits),
                None => time.decimals(6),
            }
        }
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) => plain(ColumnType::Time).decimals(6),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let mut column = plain(ColumnType::Blob);
            column.binary = true;
            column
        }
        DataType::Dictionary(_, value) => {
            let inner = Field::new(field.name(), value.as_ref().clone(), field.is_nullable());
            self::column(&inner)
        }
        _ => Column::text(field.name()),
    };
    column.nullable = field.is_nullable();
    column
}

/// The rows of a batch.
pub fn rows(batch: &RecordBatch) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = (0..batch.num_rows()).map(|_| Row::with_capacity(batch.num_columns())).collect();
    for array in batch.columns() {
        fill(array, &mut rows)
            .map_err(|error| Error::bug(format!("result column of type {}: {error}", array.data_type())))?;
    }
    Ok(rows)
}

type Filled = std::result::Result<(), datafusion::arrow::error::ArrowError>;

fn fill(array: &ArrayRef, rows: &mut [Row]) -> Filled {
    match array.data_type() {
        DataType::Null => put(rows, (0..array.len()).map(|_| None::<i8>)),
        DataType::Boolean => put(rows, array.as_boolean().iter().map(|value| value.map(i8::from))),
        DataType::Int8 => primitive::<Int8Type>(array, rows),
        DataType::Int16 => primitive::<Int16Type>(array, rows),
        DataType::Int32 => primitive::<Int32Type>(array, rows),
        DataType::Int64 => primitive::<Int64Type>(array, rows),
        DataType::UInt8 => primitive::<UInt8Type>(array, rows),
        DataType::UInt16 => primitive::<UInt16Type>(array, rows),
        DataType::UInt32 => primitive::<UInt32Type>(array, rows),
        DataType::UInt64 => primitive::<UInt64Type>(array, rows),
        DataType::Float16 => return fill(&cast(array, &DataType::Float32)?, rows),
        DataType::Float32 => primitive::<Float32Type>(array, rows),
        DataType::Float64 => primitive::<Float64Type>(array, rows),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            put(
                rows,
                array.as_primitive::<Decimal128Type>().iter().map(|value| value.map(|value| decimal(value, scale))),
            );
        }
        DataType::Date32 => put(rows, array.as_primitive::<Date32Type>().iter().map(|days| days.map(date))),
        DataType::Date64 => return fill(&cast(array, &DataType::Date32)?, rows),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            put(rows, array.as_primitive::<TimestampMicrosecondType>().iter().map(|micros| micros.map(datetime)));
        }
        DataType::Timestamp(_, _) => {
            return fill(&cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?, rows);
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            put(rows, array.as_primitive::<DurationMicrosecondType>().iter().map(|micros| micros.map(span)));
        }
        DataType::Duration(_) => return fill(&cast(array, &DataType::Duration(TimeUnit::Microsecond))?, rows),
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => {
            return fill(&cast(array, &DataType::Time64(TimeUnit::Microsecond))?, rows);
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let micros = cast(array, &DataType::Int64)?;
            put(rows, micros.as_primitive::<Int64Type>().iter().map(|micros| micros.map(span)));
        }
        DataType::Utf8 => put(rows, array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => put(rows, array.as_string::<i64>().iter()),
        DataType::Utf8View => put(rows, array.as_string_view().iter()),
        DataType::Binary => put(rows, array.as_binary::<i32>().iter().map(|value| value.map(bytes_of))),
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            return fill(&cast(array, &DataType::Binary)?, rows);
        }
        DataType::Dictionary(_, value) => return fill(&cast(array, value)?, rows),
        _ => return printed(array, rows),
    }
    Ok(())
}

fn put<V: Into<Value>>(rows: &mut [Row], values: impl Iterator<Item = Option<V>>) {
    for (row, value) in rows.iter_mut().zip(values) {
        row.push(value.map_or(Value::Null, Into::into));
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef, rows: &mut [Row])
where
    T::Native: Into<Value>,
{
    put(rows, array.as_primitive::<T>().iter());
}

fn printed(array: &ArrayRef, rows: &mut [Row]) -> Filled {
    let options = FormatOptions::new().with_display_error(true).with_duration_format(DurationFormat::Pretty);
    let formatter = ArrayFormatter::try_new(array, &options)?;
    for (number, row) in rows.iter_mut().enumerate() {
        row.push(if array.is_null(number) { Value::Null } else { Value::Text(formatter.value(number).to_string()) });
    }
    Ok(())
}

fn bytes_of(value: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(value)
}

/// An unscaled decimal as text, all digits after the point shown.
fn decimal(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) if value == 0 => digits,
        Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
    }
}

/// A day; one outside the years that MySQL knows is NULL, as MySQL answers.
fn date(days: i32) -> Value {
    if !(FIRST_DAY..=LAST_DAY).contains(&days) {
        return Value::Null;
    }
    let (year, month, day) = date_of(days);
    Value::Date { year: year as u16, month: month as u8, day: day as u8 }
}

fn datetime(micros: i64) -> Value {
    let (days, within) = (micros.div_euclid(DAY_US), micros.rem_euclid(DAY_US));
    let Ok(days) = i32::try_from(days) else { return Value::Null };
    let Value::Date { year, month, day } = date(days) else { return Value::Null };
    let seconds = within / 1_000_000;
    Value::DateTime {
        year,
        month,
        day,
        hour: (seconds / 3_600) as u8,
        minute: (seconds / 60 % 60) as u8,
        second: (seconds % 60) as u8,
        micros: (within % 1_000_000) as u32,
    }
}

fn span(micros: i64) -> Value {
    let size = micros.unsigned_abs();
    let seconds = size / 1_000_000;
    Value::Time {
        negative: micros < 0,
        hours: u32::try_from(seconds / 3_600).unwrap_or(u32::MAX),
        minute: (seconds / 60 % 60) as u8,
        second: (seconds % 60) as u8,
        micros: (size % 1_000_000) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationSecondArray, Float64Array, Int32Array,
        IntervalDayTimeArray, LargeStringArray, ListArray, NullArray, StringArray, StringViewArray,
        Time64NanosecondArray, TimestampMicrosecondArray, TimestampSecondArray, UInt64Array,
    };
    use datafusion::arrow::datatypes::IntervalDayTime;
    use std::sync::Arc;

    type Shown = (ColumnType, Vec<String>);

    fn shown(array: impl Array + 'static) -> Shown {
        let batch = RecordBatch::try_from_iter_with_nullable([("c", Arc::new(array) as ArrayRef, true)]).unwrap();
        let kind = columns(&batch.schema())[0].kind;
        (kind, rows(&batch).unwrap().iter().map(|row| row[0].to_string()).collect())
    }

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn values_of_every_type_print_as_in_mysql() {
        let decimals =
            Decimal128Array::from(vec![Some(-5), Some(12_345), None]).with_precision_and_scale(15, 2).unwrap();
        let large = Decimal128Array::from(vec![10_i128.pow(38) - 1]).with_precision_and_scale(38, 0).unwrap();
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
        let interval = IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, 0)]);
        let cases: Vec<(Shown, ColumnType, &[&str])> = vec![
            (shown(NullArray::new(1)), ColumnType::Null, &["NULL"]),
            (shown(BooleanArray::from(vec![Some(true), Some(false), None])), ColumnType::Tiny, &["1", "0", "NULL"]),
            (shown(Int32Array::from(vec![-1])), ColumnType::Long, &["-1"]),
            (shown(UInt64Array::from(vec![u64::MAX])), ColumnType::LongLong, &["18446744073709551615"]),
            (shown(Float64Array::from(vec![1.0, 1e20])), ColumnType::Double, &["1", "1e20"]),
            (shown(decimals), ColumnType::Decimal, &["-0.05", "123.45", "NULL"]),
            (shown(large), ColumnType::Decimal, &["99999999999999999999999999999999999999"]),
            (shown(Date32Array::from(vec![0, i32::MAX])), ColumnType::Date, &["1970-01-01", "NULL"]),
            (
                shown(TimestampMicrosecondArray::from(vec![-1, 0])),
                ColumnType::DateTime,
                &["1969-12-31 23:59:59.999999", "1970-01-01 00:00:00"],
            ),
            (
                shown(TimestampSecondArray::from(vec![86_399]).with_timezone("+00:00")),
                ColumnType::DateTime,
                &["1970-01-01 23:59:59"],
            ),
            (shown(DurationSecondArray::from(vec![-3_661])), ColumnType::Time, &["-01:01:01"]),
            (shown(Time64NanosecondArray::from(vec![1_000])), ColumnType::Time, &["00:00:00.000001"]),
            (shown(StringArray::from(vec!["é"])), ColumnType::VarString, &["é"]),
            (shown(LargeStringArray::from(vec!["b"])), ColumnType::VarString, &["b"]),
            (shown(StringViewArray::from(vec!["c"])), ColumnType::VarString, &["c"]),
            (shown(BinaryArray::from(vec![b"x".as_slice()])), ColumnType::Blob, &["x"]),
            (shown(list), ColumnType::VarString, &["[1, ]"]),
            (shown(interval), ColumnType::VarString, &["1 days"]),
        ];
        for ((kind, values), expected, printed) in cases {
            assert_eq!((kind, values), (expected, texts(printed)));
        }
    }

    #[test]
    fn decimals_print_every_digit() {
        for (value, scale, text) in
            [(0, 2, "0.00"), (7, 3, "0.007"), (-1_000, 3, "-1.000"), (12, 0, "12"), (12, -2, "1200"), (0, -2, "0")]
        {
            assert_eq!(decimal(value, scale), text);
        }
    }

    #[test]
    fn columns_say_what_clients_need() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::UInt64, false),
            Field::new("b", DataType::Decimal128(15, 2), true),
            Field::new("c", DataType::Binary, true),
            Field::new("d", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), true),
        ]);
        let columns = columns(&schema);
        assert!(columns[0].unsigned && !columns[0].nullable);
        assert_eq!((columns[1].kind, columns[1].decimals), (ColumnType::Decimal, 2));
        assert!(columns[2].binary);
        assert_eq!((columns[3].kind, columns[3].name.as_str()), (ColumnType::VarString, "d"));
        let time = Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true);
        assert!(!column(&time).exact_fraction);
        let declared = time.with_metadata([(FRACTION.to_owned(), "3".to_owned())].into());
        assert_eq!((column(&declared).decimals, column(&declared).exact_fraction), (3, true));
    }
}
