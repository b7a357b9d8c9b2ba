//! Rows and parameters of prepared statements: fixed-width numbers, packed times, a bitmap of NULLs.
//!
//! Rows are laid out by the type of their column, parameters by the type the client sends with them.

use crate::column::{Column, ColumnType};
use crate::error::{ServerError, UNKNOWN};
use crate::lenenc::{Malformed, Reader, put_bytes};
use crate::value::Value;
use bytes::Bytes;

/// In the bitmap of a row, the first column is this bit.
const ROW_BITMAP_OFFSET: usize = 2;

/// Append `row`. Fails when a value does not fit its column; what was appended is then to be thrown away.
pub(crate) fn encode_row(out: &mut Vec<u8>, columns: &[Column], row: &[Value]) -> Result<(), ServerError> {
    out.push(0);
    let bitmap = out.len();
    out.resize(bitmap + (row.len() + ROW_BITMAP_OFFSET).div_ceil(8), 0);
    for (at, (column, value)) in columns.iter().zip(row).enumerate() {
        if matches!(value, Value::Null) {
            let bit = at + ROW_BITMAP_OFFSET;
            out[bitmap + bit / 8] |= 1 << (bit % 8);
        } else {
            encode_value(out, column, value)?;
        }
    }
    Ok(())
}

fn encode_value(out: &mut Vec<u8>, column: &Column, value: &Value) -> Result<(), ServerError> {
    let misfit =
        || UNKNOWN.error(format!("a value of column '{}' does not fit its type {:?}", column.name, column.kind));
    match column.kind {
        ColumnType::Tiny => out.extend_from_slice(&integer::<1>(column, value).ok_or_else(misfit)?),
        ColumnType::Short => out.extend_from_slice(&integer::<2>(column, value).ok_or_else(misfit)?),
        ColumnType::Long => out.extend_from_slice(&integer::<4>(column, value).ok_or_else(misfit)?),
        ColumnType::LongLong => out.extend_from_slice(&integer::<8>(column, value).ok_or_else(misfit)?),
        ColumnType::Float => match value {
            Value::Float(value) => out.extend_from_slice(&value.to_le_bytes()),
            _ => return Err(misfit()),
        },
        ColumnType::Double => match value {
            Value::Float(value) => out.extend_from_slice(&f64::from(*value).to_le_bytes()),
            Value::Double(value) => out.extend_from_slice(&value.to_le_bytes()),
            _ => return Err(misfit()),
        },
        ColumnType::Date | ColumnType::DateTime => encode_date_time(out, value).ok_or_else(misfit)?,
        ColumnType::Time => encode_time(out, value).ok_or_else(misfit)?,
        ColumnType::Null => return Err(misfit()),
        ColumnType::Decimal | ColumnType::VarString | ColumnType::Blob | ColumnType::Json => match value {
            Value::Text(text) => put_bytes(out, text.as_bytes()),
            Value::Bytes(bytes) => put_bytes(out, bytes),
            other => put_bytes(out, other.to_string().as_bytes()),
        },
    }
    Ok(())
}

/// The value in `N` bytes if it fits there with the column's sign.
fn integer<const N: usize>(column: &Column, value: &Value) -> Option<[u8; N]> {
    let wide = match value {
        Value::Int(value) => i128::from(*value),
        Value::UInt(value) => i128::from(*value),
        _ => return None,
    };
    let bits = N as u32 * 8;
    let (least, most) =
        if column.unsigned { (0, (1_i128 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) };
    if !(least..=most).contains(&wide) {
        return None;
    }
    wide.to_le_bytes()[..N].try_into().ok()
}

fn encode_date_time(out: &mut Vec<u8>, value: &Value) -> Option<()> {
    let (year, month, day, time, micros) = match value {
        Value::Date { year, month, day } => (year, *month, *day, [0; 3], 0),
        Value::DateTime { year, month, day, hour, minute, second, micros } => {
            (year, *month, *day, [*hour, *minute, *second], *micros)
        }
        _ => return None,
    };
    let length = match (time, micros) {
        (_, 1..) => 11,
        ([0, 0, 0], 0) => 4,
        _ => 7,
    };
    out.push(length);
    out.extend_from_slice(&year.to_le_bytes());
    out.extend_from_slice(&[month, day]);
    if length > 4 {
        out.extend_from_slice(&time);
    }
    if length > 7 {
        out.extend_from_slice(&micros.to_le_bytes());
    }
    Some(())
}

fn encode_time(out: &mut Vec<u8>, value: &Value) -> Option<()> {
    let Value::Time { negative, hours, minute, second, micros } = value else { return None };
    let (days, hour) = (hours / 24, (hours % 24) as u8);
    let length = match (days, hour, minute, second, micros) {
        (.., 1..) => 12,
        (0, 0, 0, 0, 0) => 0,
        _ => 8,
    };
    out.push(length);
    if length > 0 {
        out.push(u8::from(*negative));
        out.extend_from_slice(&days.to_le_bytes());
        out.extend_from_slice(&[hour, *minute, *second]);
    }
    if length > 8 {
        out.extend_from_slice(&micros.to_le_bytes());
    }
    Some(())
}

/// The type of a parameter: its code, and whether it has no sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParamType {
    code: u8,
    unsigned: bool,
}

/// The arguments of COM_STMT_EXECUTE, read for a statement with `count` parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) types: Vec<ParamType>,
    pub(crate) values: Vec<Value>,
}

impl Arguments {
    /// Read them. `types` are those of the last execution, which a client need not repeat; `sent` tells which
    /// parameters came before, piece by piece, and have no value here.
    pub(crate) fn parse(
        packet: &[u8],
        count: u16,
        types: &[ParamType],
        sent: impl Fn(u16) -> bool,
    ) -> Result<Arguments, Malformed> {
        if count == 0 {
            return Ok(Arguments { types: Vec::new(), values: Vec::new() });
        }
        let mut reader = Reader::new(packet);
        let nulls = reader.take(usize::from(count).div_ceil(8))?;
        let types = match reader.u8()? {
            1 => (0..count)
                .map(|_| Ok(ParamType { code: reader.u8()?, unsigned: reader.u8()? & 0x80 != 0 }))
                .collect::<Result<Vec<_>, Malformed>>()?,
            _ if types.len() == usize::from(count) => types.to_vec(),
            _ => return Err(Malformed),
        };
        let values = (0..count)
            .zip(&types)
            .map(|(at, kind)| {
                let null = nulls[usize::from(at) / 8] & (1 << (at % 8)) != 0;
                if null || sent(at) { Ok(Value::Null) } else { decode_value(&mut reader, *kind) }
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        Ok(Arguments { types, values })
    }
}

fn decode_value(reader: &mut Reader<'_>, kind: ParamType) -> Result<Value, Malformed> {
    Ok(match (kind.code, kind.unsigned) {
        (0x01, false) => Value::from(i8::from_le_bytes(reader.array()?)),
        (0x01, true) => Value::from(reader.u8()?),
        (0x02, false) => Value::from(i16::from_le_bytes(reader.array()?)),
        (0x02 | 0x0d, _) => Value::from(reader.u16()?),
        (0x03 | 0x09, false) => Value::from(i32::from_le_bytes(reader.array()?)),
        (0x03 | 0x09, true) => Value::from(reader.u32()?),
        (0x08, false) => Value::from(i64::from_le_bytes(reader.array()?)),
        (0x08, true) => Value::from(reader.u64()?),
        (0x04, _) => Value::from(f32::from_le_bytes(reader.array()?)),
        (0x05, _) => Value::from(f64::from_le_bytes(reader.array()?)),
        (0x06, _) => Value::Null,
        (0x0a, _) => match decode_date_time(reader)? {
            Value::DateTime { year, month, day, .. } => Value::Date { year, month, day },
            other => other,
        },
        (0x07 | 0x0c, _) => decode_date_time(reader)?,
        (0x0b, _) => decode_time(reader)?,
        // Decimals, strings, enumerations, sets, JSON, blobs, bits, shapes.
        (0x00 | 0x0f | 0x10 | 0xf5..=0xff, _) => text_or_bytes(reader.bytes()?),
        _ => return Err(Malformed),
    })
}

/// Text where it is UTF-8. Clients send text with the type of bytes and the other way round.
pub(crate) fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::text(text),
        Err(_) => Value::Bytes(Bytes::copy_from_slice(bytes)),
    }
}

fn decode_date_time(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let length = reader.u8()?;
    if !matches!(length, 0 | 4 | 7 | 11) {
        return Err(Malformed);
    }
    let (year, month, day) = if length > 0 { (reader.u16()?, reader.u8()?, reader.u8()?) } else { (0, 0, 0) };
    let [hour, minute, second] = if length > 4 { reader.array()? } else { [0; 3] };
    let micros = if length > 7 { reader.u32()? } else { 0 };
    if year > 9999 || month > 12 || day > 31 || hour > 23 || minute > 59 || second > 59 || micros > 999_999 {
        return Err(Malformed);
    }
    Ok(Value::DateTime { year, month, day, hour, minute, second, micros })
}

fn decode_time(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let length = reader.u8()?;
    if !matches!(length, 0 | 8 | 12) {
        return Err(Malformed);
    }
    let (negative, days) = if length > 0 { (reader.u8()? != 0, reader.u32()?) } else { (false, 0) };
    let [hour, minute, second] = if length > 0 { reader.array()? } else { [0; 3] };
    let micros = if length > 8 { reader.u32()? } else { 0 };
    if hour > 23 || minute > 59 || second > 59 || micros > 999_999 {
        return Err(Malformed);
    }
    let hours = days.checked_mul(24).and_then(|hours| hours.checked_add(u32::from(hour))).ok_or(Malformed)?;
    Ok(Value::Time { negative, hours, minute, second, micros })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moment(hour: u8, micros: u32) -> Value {
        Value::DateTime { year: 2024, month: 2, day: 29, hour, minute: 0, second: 0, micros }
    }

    #[test]
    fn a_row_has_a_bitmap_and_values_by_column_type() {
        let columns = [
            Column::new("a", ColumnType::Tiny),
            Column::new("b", ColumnType::Short).unsigned(),
            Column::new("c", ColumnType::LongLong),
            Column::text("d"),
            Column::new("e", ColumnType::Decimal),
            Column::new("f", ColumnType::Double),
            Column::new("g", ColumnType::Date),
        ];
        let row = [
            Value::Int(-1),
            Value::UInt(65_535),
            Value::Null,
            Value::text("x"),
            Value::text("1.50"),
            Value::Double(0.5),
            Value::Date { year: 2024, month: 2, day: 29 },
        ];
        let mut out = Vec::new();
        encode_row(&mut out, &columns, &row).unwrap();
        let mut expected = vec![0, 0b0001_0000, 0, 255, 255, 255, 1, b'x', 4, b'1', b'.', b'5', b'0'];
        expected.extend_from_slice(&0.5_f64.to_le_bytes());
        expected.extend_from_slice(&[4, 0xe8, 7, 2, 29]);
        assert_eq!(out, expected);
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        for (kind, value) in [
            (ColumnType::Tiny, Value::Int(128)),
            (ColumnType::Long, Value::UInt(1 << 31)),
            (ColumnType::LongLong, Value::UInt(u64::MAX)),
            (ColumnType::LongLong, Value::text("1")),
            (ColumnType::Float, Value::Double(1.0)),
            (ColumnType::Double, Value::Int(1)),
            (ColumnType::Date, Value::Int(1)),
            (ColumnType::Time, Value::Int(1)),
            (ColumnType::Null, Value::Int(1)),
        ] {
            let error = encode_row(&mut Vec::new(), &[Column::new("k", kind)], &[value]).unwrap_err();
            assert!(error.message.contains("'k'"), "{error}");
        }
        let unsigned = Column::new("k", ColumnType::Tiny).unsigned();
        assert!(encode_row(&mut Vec::new(), &[unsigned], &[Value::Int(-1)]).is_err());
    }

    #[test]
    fn times_are_packed_and_read_back() {
        let span = |hours, micros| Value::Time { negative: true, hours, minute: 0, second: 1, micros };
        let zero = Value::Time { negative: false, hours: 0, minute: 0, second: 0, micros: 0 };
        for (kind, value, length) in [
            (ColumnType::DateTime, moment(0, 0), 5),
            (ColumnType::DateTime, moment(1, 0), 8),
            (ColumnType::DateTime, moment(0, 1), 12),
            (ColumnType::Time, zero, 1),
            (ColumnType::Time, span(50, 0), 9),
            (ColumnType::Time, span(0, 9), 13),
        ] {
            let mut out = Vec::new();
            encode_value(&mut out, &Column::new("t", kind), &value).unwrap();
            assert_eq!(out.len(), length, "{value}");
            let read = decode_value(&mut Reader::new(&out), ParamType { code: kind.code(), unsigned: false });
            assert_eq!(read, Ok(value));
        }
    }

    #[test]
    fn arguments_are_read_with_old_types_and_without_sent_ones() {
        let packet = [0b10, 1, 0x01, 0x80, 0xfd, 0, 0xfc, 0, 0x08, 0, 200, 5, 0, 0, 0, 0, 0, 0, 0];
        let first = Arguments::parse(&packet, 4, &[], |at| at == 2).unwrap();
        assert_eq!(first.values, [Value::UInt(200), Value::Null, Value::Null, Value::Int(5)]);
        let again = Arguments::parse(&[0b1111, 0], 4, &first.types, |_| false).unwrap();
        assert_eq!(again.values, vec![Value::Null; 4]);
        assert_eq!(Arguments::parse(&[0b1111, 0], 4, &[], |_| false), Err(Malformed));
        assert_eq!(Arguments::parse(&[0, 1, 0x77, 0], 1, &[], |_| false), Err(Malformed));
        assert!(Arguments::parse(&[], 0, &[], |_| false).unwrap().values.is_empty());
    }

    #[test]
    fn impossible_times_are_malformed() {
        for bytes in [&[4, 0xff, 0xff, 1, 1][..], &[4, 0, 0, 13, 1], &[5, 0, 0, 0, 0, 0], &[7, 0, 0, 1, 1, 24, 0, 0]] {
            assert_eq!(decode_date_time(&mut Reader::new(bytes)), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(decode_time(&mut Reader::new(&[8, 0, 255, 255, 255, 255, 0, 0, 0])), Err(Malformed));
        assert_eq!(text_or_bytes(&[0xff]), Value::Bytes(Bytes::from_static(&[0xff])));
    }

    proptest! {
        #[test]
        fn random_arguments_do_not_panic(bytes: Vec<u8>, count in 0..40_u16) {
            let _ = Arguments::parse(&bytes, count, &[], |at| at % 3 == 0);
        }

        #[test]
        fn random_values_do_not_panic(code: u8, unsigned: bool, bytes: Vec<u8>) {
            let _ = decode_value(&mut Reader::new(&bytes), ParamType { code, unsigned });
        }

        #[test]
        fn integers_read_back(value: i64) {
            let mut out = Vec::new();
            encode_value(&mut out, &Column::new("t", ColumnType::LongLong), &Value::Int(value)).unwrap();
            prop_assert_eq!(decode_value(&mut Reader::new(&out), ParamType { code: 8, unsigned: false }), Ok(Value::Int(value)));
        }
    }
}
