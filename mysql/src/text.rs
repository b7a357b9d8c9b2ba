//! Rows as text: each value a length-encoded string, NULL a byte of its own.

use crate::lenenc::{NULL_CELL, put_bytes};
use crate::value::Value;
use std::io::Write;

/// Append `row`.
pub(crate) fn encode_row(out: &mut Vec<u8>, row: &[Value]) {
    for value in row {
        match value {
            Value::Null => out.push(NULL_CELL),
            Value::Text(text) => put_bytes(out, text.as_bytes()),
            Value::Bytes(bytes) => put_bytes(out, bytes),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_cells() {
        let mut out = Vec::new();
        encode_row(&mut out, &[Value::Int(-12), Value::Null, Value::text("é"), Value::Double(f64::MIN)]);
        let mut expected = b"\x03-12\xfb\x02\xc3\xa9".to_vec();
        put_bytes(&mut expected, b"-1.7976931348623157e308");
        assert_eq!(out, expected);
    }
}
