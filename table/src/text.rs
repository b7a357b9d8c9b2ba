//! Text fields, as load files have them, into typed Arrow columns.
//!
//! Numbers, dates and times may have ASCII blanks around them; text is taken as it is. Decimals with more digits after
//! the point than the column are rounded half up, away from zero. Whatever else does not fit exactly is refused with a
//! [`Misfit`], and the row that holds it can be abandoned as a whole: a [`BatchBuilder`] only ever grows by whole rows.

use crate::calendar;
use crate::scalar::whole_range;
use crate::schema::Schema;
use crate::types::ColumnType;
use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;
use coffer_stdx::{Error, Result};
use std::sync::Arc;

/// Why a field does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// The text is no value of the type, or one out of its range.
    Value,
    /// More bytes than the column holds.
    TooLong,
    /// Not UTF-8.
    Encoding,
    /// NULL in a NOT NULL column.
    Null,
}

impl Misfit {
    /// One sentence for people: column, cause, and the start of the text.
    pub fn describe(self, schema: &Schema, column: usize, text: Option<&[u8]>) -> String {
        let column = &schema.columns[column];
        let text = text.unwrap_or_default();
        let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN_BYTES)]);
        let dots = if text.len() > SHOWN_BYTES { "..." } else { "" };
        match self {
            Misfit::Value if text.trim_ascii().is_empty() => {
                let null = if column.nullable { "" } else { ", and NULL is not allowed" };
                format!("column '{}': the field is empty, which is no value of type {}{null}", column.name, column.kind)
            }
            Misfit::Value => {
                let limit = if column.kind == ColumnType::LargeInt { " (at most 38 digits)" } else { "" };
                format!("column '{}': '{shown}{dots}' is not a value of type {}{limit}", column.name, column.kind)
            }
            Misfit::TooLong => format!(
                "column '{}': the text has {} bytes, {} are allowed: '{shown}{dots}'",
                column.name,
                text.len(),
                column.kind.max_bytes().unwrap_or_default(),
            ),
            Misfit::Encoding => format!("column '{}': the text is not UTF-8: '{shown}{dots}'", column.name),
            Misfit::Null => format!("column '{}': NULL is not allowed", column.name),
        }
    }
}

/// Bytes of a field shown in a message.
const SHOWN_BYTES: usize = 64;

/// Builds batches of whole rows in table column order.
#[derive(Debug)]
pub struct BatchBuilder {
    arrow: SchemaRef,
    columns: Vec<ColumnBuilder>,
    rows: usize,
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new(schema: &Schema) -> BatchBuilder {
        let columns = schema.columns.iter().map(|column| ColumnBuilder::new(column.kind, column.nullable)).collect();
        BatchBuilder { arrow: schema.arrow(), columns, rows: 0 }
    }

    /// Give the current row its value in one column; each column exactly once per row. `None` is NULL.
    pub fn push(&mut self, column: usize, text: Option<&[u8]>) -> Result<(), Misfit> {
        self.columns[column].push(text)
    }

    /// The current row is complete.
    pub fn end_row(&mut self) {
        self.rows += 1;
        debug_assert!(self.columns.iter().all(|column| column.valid.len() == self.rows), "a column was not filled");
    }

    /// Forget what was pushed of the current row.
    pub fn abandon_row(&mut self) {
        self.columns.iter_mut().for_each(|column| column.truncate(self.rows));
    }

    /// Complete rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Memory of the values, about.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.values.bytes()).sum()
    }

    /// The rows so far as a batch; the builder is empty again.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        self.abandon_row();
        let arrays = self.columns.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        RecordBatch::try_new_with_options(self.arrow.clone(), arrays, &options)
            .map_err(|error| Error::bug(format!("batch from text: {error}")))
    }
}

#[derive(Debug)]
struct ColumnBuilder {
    kind: ColumnType,
    nullable: bool,
    valid: BooleanBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int128(Vec<i128>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Text { offsets: Vec<i32>, data: Vec<u8> },
}

/// Run `$do` with `$values` bound to the vector of any but the text variant; `$text` handles that one.
macro_rules! each_vector {
    ($self:expr, $values:ident => $do:expr, $offsets:ident, $data:ident => $text:expr) => {
        match $self {
            Values::Boolean($values) => $do,
            Values::Int8($values) => $do,
            Values::Int16($values) => $do,
            Values::Int32($values) => $do,
            Values::Int64($values) => $do,
            Values::Int128($values) => $do,
            Values::Float32($values) => $do,
            Values::Float64($values) => $do,
            Values::Text { offsets: $offsets, data: $data } => $text,
        }
    };
}

impl Values {
    fn new(kind: ColumnType) -> Values {
        match kind {
            ColumnType::Boolean => Values::Boolean(Vec::new()),
            ColumnType::TinyInt => Values::Int8(Vec::new()),
            ColumnType::SmallInt => Values::Int16(Vec::new()),
            ColumnType::Int | ColumnType::Date => Values::Int32(Vec::new()),
            ColumnType::BigInt | ColumnType::DateTime { .. } => Values::Int64(Vec::new()),
            ColumnType::LargeInt | ColumnType::Decimal { .. } => Values::Int128(Vec::new()),
            ColumnType::Float => Values::Float32(Vec::new()),
            ColumnType::Double => Values::Float64(Vec::new()),
            ColumnType::Char { .. } | ColumnType::Varchar { .. } | ColumnType::String => {
                Values::Text { offsets: vec![0], data: Vec::new() }
            }
        }
    }

    fn push_default(&mut self) {
        each_vector!(self, values => values.push(Default::default()), offsets, data => offsets.push(data.len() as i32));
    }

    fn truncate(&mut self, rows: usize) {
        each_vector!(self, values => values.truncate(rows), offsets, data => {
            offsets.truncate(rows + 1);
            data.truncate(offsets.last().map_or(0, |end| *end as usize));
        });
    }

    fn bytes(&self) -> usize {
        each_vector!(self, values => std::mem::size_of_val(values.as_slice()), offsets, data => offsets.len() * 4 + data.len())
    }
}

impl ColumnBuilder {
    fn new(kind: ColumnType, nullable: bool) -> ColumnBuilder {
        ColumnBuilder { kind, nullable, valid: BooleanBufferBuilder::new(0), values: Values::new(kind) }
    }

    fn push(&mut self, text: Option<&[u8]>) -> Result<(), Misfit> {
        match text {
            Some(text) => self.push_text(text)?,
            None if self.nullable => self.values.push_default(),
            None => return Err(Misfit::Null),
        }
        self.valid.append(text.is_some());
        Ok(())
    }

    fn push_text(&mut self, text: &[u8]) -> Result<(), Misfit> {
        let kind = self.kind;
        match &mut self.values {
            Values::Text { offsets, data } => return push_string(kind, text, offsets, data),
            Values::Boolean(values) => values.push(parse_boolean(text.trim_ascii())?),
            Values::Int8(values) => values.push(small(text)?),
            Values::Int16(values) => values.push(small(text)?),
            Values::Int32(values) if kind == ColumnType::Date => {
                values.push(calendar::parse_date(text.trim_ascii()).ok_or(Misfit::Value)?);
            }
            Values::Int32(values) => values.push(small(text)?),
            Values::Int64(values) => match kind {
                ColumnType::DateTime { scale } => {
                    values.push(calendar::parse_datetime(text.trim_ascii(), scale).ok_or(Misfit::Value)?);
                }
                _ => values.push(parse_whole(text)?),
            },
            Values::Int128(values) => match kind {
                ColumnType::Decimal { precision, scale } => {
                    values.push(parse_decimal(text, precision, scale).ok_or(Misfit::Value)?);
                }
                _ => values.push(parse_large(text)?),
            },
            Values::Float32(values) => values.push(parse_float(text)?),
            Values::Float64(values) => values.push(parse_float(text)?),
        }
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        self.values.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let valid = NullBuffer::new(self.valid.finish());
        let nulls = Some(valid).filter(|valid| valid.null_count() > 0);
        let values = std::mem::replace(&mut self.values, Values::new(self.kind));
        Ok(match values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Values::Int8(values) => Arc::new(Int8Array::new(values.into(), nulls)),
            Values::Int16(values) => Arc::new(Int16Array::new(values.into(), nulls)),
            Values::Int32(values) if self.kind == ColumnType::Date => Arc::new(Date32Array::new(values.into(), nulls)),
            Values::Int32(values) => Arc::new(Int32Array::new(values.into(), nulls)),
            Values::Int64(values) if self.kind == ColumnType::BigInt => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::Int64(values) => Arc::new(TimestampMicrosecondArray::new(values.into(), nulls)),
            Values::Int128(values) => {
                Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(self.kind.arrow()))
            }
            Values::Float32(values) => Arc::new(Float32Array::new(values.into(), nulls)),
            Values::Float64(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Text { offsets, data } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(
                    StringArray::try_new(offsets, data.into(), nulls)
                        .map_err(|error| Error::bug(format!("text column: {error}")))?,
                )
            }
        })
    }
}

fn push_string(kind: ColumnType, text: &[u8], offsets: &mut Vec<i32>, data: &mut Vec<u8>) -> Result<(), Misfit> {
    if kind.max_bytes().is_some_and(|limit| text.len() > limit as usize) {
        return Err(Misfit::TooLong);
    }
    if !text.is_ascii() && std::str::from_utf8(text).is_err() {
        return Err(Misfit::Encoding);
    }
    let end = i32::try_from(data.len() + text.len()).map_err(|_| Misfit::TooLong)?;
    data.extend_from_slice(text);
    offsets.push(end);
    Ok(())
}

fn small<T: TryFrom<i64>>(text: &[u8]) -> Result<T, Misfit> {
    T::try_from(parse_whole(text)?).map_err(|_| Misfit::Value)
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

fn parse_whole(text: &[u8]) -> Result<i64, Misfit> {
    let (negative, digits) = sign(text.trim_ascii());
    if digits.is_empty() {
        return Err(Misfit::Value);
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return Err(Misfit::Value);
        }
        // Negative numbers reach one further, so both are built below zero.
        value = value.checked_mul(10).and_then(|value| value.checked_sub(digit)).ok_or(Misfit::Value)?;
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or(Misfit::Value) }
}

fn parse_large(text: &[u8]) -> Result<i128, Misfit> {
    let (lowest, highest) = whole_range(ColumnType::LargeInt).ok_or(Misfit::Value)?;
    let text = std::str::from_utf8(text.trim_ascii()).map_err(|_| Misfit::Value)?;
    text.parse().ok().filter(|value| (lowest..=highest).contains(value)).ok_or(Misfit::Value)
}

/// A number that is too large for the type does not fit; `inf` and `nan` are what they say.
fn parse_float<T: std::str::FromStr + Into<f64> + Copy>(text: &[u8]) -> Result<T, Misfit> {
    let text = text.trim_ascii();
    let value: T = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Misfit::Value)?;
    let too_large = value.into().is_infinite() && text.iter().any(u8::is_ascii_digit);
    if too_large { Err(Misfit::Value) } else { Ok(value) }
}

fn parse_boolean(text: &[u8]) -> Result<bool, Misfit> {
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    if is("1") || is("true") || is("t") || is("yes") || is("on") {
        Ok(true)
    } else if is("0") || is("false") || is("f") || is("no") || is("off") {
        Ok(false)
    } else {
        Err(Misfit::Value)
    }
}

/// A decimal number, `[+-]digits[.digits][e[+-]digits]`, as its unscaled value; `None` when it is none or does not fit.
pub fn parse_decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, text) = sign(text.trim_ascii());
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, [].as_slice()),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Digits up to `kept` make the value, the next one rounds it, the others only have to be digits.
    let kept = (whole.len() as i64).checked_add(i64::from(scale))?.checked_add(i64::from(exponent))?;
    let mut value = 0_i128;
    let mut count = 0_i64;
    for byte in whole.iter().chain(fraction) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        if count < kept {
            value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
        } else if count == kept && digit >= 5 {
            value += 1;
        }
        count += 1;
    }
    if value != 0 && kept > count {
        value = value.checked_mul(10_i128.checked_pow(u32::try_from(kept - count).ok()?)?)?;
    }
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    if value >= limit {
        return None;
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Column;
    use arrow::util::pretty::pretty_format_batches;
    use proptest::prelude::*;

    fn schema(kinds: &[ColumnType], nullable: bool) -> Schema {
        let column = |(number, kind): (usize, &ColumnType)| Column {
            name: format!("c{number}"),
            kind: *kind,
            nullable,
            default: None,
            key: false,
            comment: String::new(),
            aggregate: None,
        };
        Schema { columns: kinds.iter().enumerate().map(column).collect(), model: crate::model::Model::Duplicate }
    }

    fn one(kind: ColumnType, text: &str) -> Result<String, Misfit> {
        let schema = schema(&[kind], true);
        let mut builder = BatchBuilder::new(&schema);
        builder.push(0, Some(text.as_bytes()))?;
        builder.end_row();
        let batch = builder.finish().unwrap();
        Ok(arrow::util::display::array_value_to_string(batch.column(0), 0).unwrap())
    }

    #[test]
    fn values_of_every_type() {
        let cases = [
            (ColumnType::Boolean, " TRUE", "true"),
            (ColumnType::TinyInt, "-128", "-128"),
            (ColumnType::SmallInt, "+7 ", "7"),
            (ColumnType::Int, "2147483647", "2147483647"),
            (ColumnType::BigInt, "-9223372036854775808", "-9223372036854775808"),
            (ColumnType::LargeInt, "99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
            (ColumnType::Float, "1.5", "1.5"),
            (ColumnType::Double, "-1e300", "-1e300"),
            (ColumnType::Decimal { precision: 5, scale: 2 }, "-1.005", "-1.01"),
            (ColumnType::Date, "2024-02-29", "2024-02-29"),
            (ColumnType::DateTime { scale: 0 }, "2024-02-29 01:02:03", "2024-02-29T01:02:03"),
            (ColumnType::Varchar { length: 2 }, "é", "é"),
            (ColumnType::String, "", ""),
        ];
        for (kind, text, shown) in cases {
            assert_eq!(one(kind, text).as_deref(), Ok(shown), "{kind} {text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases = [
            (ColumnType::Boolean, "2", Misfit::Value),
            (ColumnType::TinyInt, "128", Misfit::Value),
            (ColumnType::Int, "", Misfit::Value),
            (ColumnType::Int, "1.0", Misfit::Value),
            (ColumnType::Int, "-", Misfit::Value),
            (ColumnType::BigInt, "9223372036854775808", Misfit::Value),
            (ColumnType::LargeInt, "100000000000000000000000000000000000000", Misfit::Value),
            (ColumnType::Double, "x", Misfit::Value),
            (ColumnType::Decimal { precision: 3, scale: 2 }, "9.995", Misfit::Value),
            (ColumnType::Date, "2023-02-29", Misfit::Value),
            (ColumnType::Varchar { length: 2 }, "éa", Misfit::TooLong),
        ];
        for (kind, text, misfit) in cases {
            assert_eq!(one(kind, text), Err(misfit), "{kind} {text}");
        }
        let bytes: &[u8] = &[0xff];
        assert_eq!(BatchBuilder::new(&schema(&[ColumnType::String], true)).push(0, Some(bytes)), Err(Misfit::Encoding));
        assert_eq!(BatchBuilder::new(&schema(&[ColumnType::String], false)).push(0, None), Err(Misfit::Null));
    }

    #[test]
    fn a_number_too_large_for_its_type_is_refused_by_name() {
        for (kind, text, fits) in [
            (ColumnType::Double, "1e400", false),
            (ColumnType::Double, "-1e400", false),
            (ColumnType::Double, "1.7976931348623157e308", true),
            (ColumnType::Float, "1e39", false),
            (ColumnType::Float, "3.4e38", true),
            (ColumnType::Double, "inf", true),
            (ColumnType::Double, "1e-400", true),
        ] {
            let schema = schema(&[kind], true);
            let pushed = BatchBuilder::new(&schema).push(0, Some(text.as_bytes()));
            assert_eq!(pushed.is_ok(), fits, "{kind} {text}");
            let reason = Misfit::Value.describe(&schema, 0, Some(text.as_bytes()));
            assert!(reason.contains(text) && reason.contains(&kind.to_string()), "{reason}");
        }
    }

    #[test]
    fn decimals_shift_round_and_overflow() {
        let parse = |text: &str| parse_decimal(text.as_bytes(), 10, 2);
        assert_eq!(parse("1"), Some(100));
        assert_eq!(parse(".5"), Some(50));
        assert_eq!(parse("5."), Some(500));
        assert_eq!(parse("1.2e3"), Some(120_000));
        assert_eq!(parse("125e-4"), Some(1));
        assert_eq!(parse("150e-4"), Some(2));
        assert_eq!(parse("1e-9"), Some(0));
        assert_eq!(parse("5e-3"), Some(1));
        assert_eq!(parse("0e999999"), Some(0));
        for bad in ["", ".", "-", "1e", "1.2.3", "e5", "1e40", "99999999.999", "1x", "0.00x", "1e-99999999999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_abandoned_row_leaves_nothing() {
        let schema = schema(&[ColumnType::Int, ColumnType::String], true);
        let mut builder = BatchBuilder::new(&schema);
        for (number, text) in [("1", Some("one")), ("2", None)] {
            builder.push(0, Some(number.as_bytes())).unwrap();
            builder.push(1, text.map(str::as_bytes)).unwrap();
            builder.end_row();
            builder.push(0, Some(b"9")).unwrap();
            builder.push(1, Some(b"gone")).unwrap();
            builder.abandon_row();
        }
        let shown = pretty_format_batches(&[builder.finish().unwrap()]).unwrap().to_string();
        assert!(shown.contains("one") && !shown.contains("gone") && !shown.contains('9'), "{shown}");
        assert_eq!(builder.finish().unwrap().num_rows(), 0);
    }

    proptest! {
        #[test]
        fn whole_numbers_agree_with_the_standard_library(text in "[+-]?[0-9]{0,21}") {
            prop_assert_eq!(parse_whole(text.as_bytes()).ok(), text.parse::<i64>().ok());
        }

        #[test]
        fn no_decimal_text_panics(text in "[+-]?[0-9.e-]{0,45}") {
            let _ = parse_decimal(text.as_bytes(), 38, 10);
        }
    }
}
