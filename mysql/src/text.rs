//! Rows as text: each value a length-encoded string, NULL a byte of its own.

use crate::column::Column;
use crate::lenenc::{NULL_CELL, put_bytes};
use crate::value::Value;
use std::io::Write;

/// Append `row`.
pub(crate) fn encode_row(out: &mut Vec<u8>, columns: &[Column], row: &[Value]) {
    for (value, column) in row.iter().zip(columns) {
        match value {
            Value::Null => out.push(NULL_CELL),
            Value::Text(text) => put_bytes(out, text.as_bytes()),
            Value::Bytes(bytes) => put_bytes(out, bytes),
            time @ Value::DateTime { micros, .. } if column.exact_fraction => {
                put_time(out, time, *micros, column.decimals)
            }
            number => put_short(out, number),
        }
    }
}

/// Numbers and times print in far less than 251 bytes, so that one byte tells the length.
fn put_short(out: &mut Vec<u8>, value: &Value) {
    let start = out.len();
    out.push(0);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
    out[start] = (out.len() - start - 1) as u8;
}

/// A day and a time of day with exactly so many digits of a second.
fn put_time(out: &mut Vec<u8>, time: &Value, micros: u32, digits: u8) {
    let start = out.len();
    put_short(out, time);
    // The length, `YYYY-MM-DD hh:mm:ss`, and what comes after the second.
    out.truncate(start + 1 + WHOLE_SECONDS);
    let digits = usize::from(digits);
    if digits > 0 {
        // Writing to a vector cannot fail.
        let _ = write!(out, ".{micros:06}");
        out.truncate(start + 1 + WHOLE_SECONDS + 1 + digits);
    }
    out[start] = (out.len() - start - 1) as u8;
}

/// Bytes of `YYYY-MM-DD hh:mm:ss`.
const WHOLE_SECONDS: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_cells() {
        let mut out = Vec::new();
        let columns = vec![Column::text("c"); 4];
        encode_row(&mut out, &columns, &[Value::Int(-12), Value::Null, Value::text("é"), Value::Double(f64::MIN)]);
        let mut expected = b"\x03-12\xfb\x02\xc3\xa9".to_vec();
        put_bytes(&mut expected, b"-1.7976931348623157e308");
        assert_eq!(out, expected);
    }

    #[test]
    fn times_print_the_digits_of_their_column() {
        let time = |micros| Value::DateTime { year: 2024, month: 2, day: 29, hour: 1, minute: 2, second: 3, micros };
        let plain = Column::new("c", crate::column::ColumnType::DateTime);
        for (column, micros, expected) in [
            (plain.clone(), 0, "2024-02-29 01:02:03"),
            (plain.clone(), 120_000, "2024-02-29 01:02:03.120000"),
            (plain.clone().exact_fraction(0), 0, "2024-02-29 01:02:03"),
            (plain.clone().exact_fraction(3), 0, "2024-02-29 01:02:03.000"),
            (plain.clone().exact_fraction(3), 120_000, "2024-02-29 01:02:03.120"),
            (plain.exact_fraction(6), 7, "2024-02-29 01:02:03.000007"),
        ] {
            let (mut out, mut wanted) = (Vec::new(), Vec::new());
            encode_row(&mut out, &[column], &[time(micros)]);
            put_bytes(&mut wanted, expected.as_bytes());
            assert_eq!(out, wanted, "{expected}");
        }
    }
}
