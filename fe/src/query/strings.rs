//! Functions of texts as MySQL has them: `concat` of a NULL is NULL, `substr` counts from the end when the start is
//! negative, `hex`. Pure.

use super::times::shaped;
use coffer_table::calendar::{format_date, format_datetime};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::fmt::Write;
use std::sync::Arc;

/// The functions.
pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    [What::Concat, What::Substr, What::Hex].into_iter().map(|what| {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::from(Text { what, aliases: what.aliases(), signature })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Concat,
    Substr,
    Hex,
}

impl What {
    fn aliases(self) -> Vec<String> {
        match self {
            What::Substr => vec!["substring".to_owned()],
            What::Concat | What::Hex => Vec::new(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Text {
    what: What,
    aliases: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for Text {
    fn name(&self) -> &'static str {
        match self.what {
            What::Concat => "concat",
            What::Substr => "substr",
            What::Hex => "hex",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.what, types) {
            (What::Concat, [_, ..]) => Ok(types.to_vec()),
            (What::Substr, [_, _]) => Ok(vec![types[0].clone(), DataType::Int64]),
            (What::Substr, [_, _, _]) => Ok(vec![types[0].clone(), DataType::Int64, DataType::Int64]),
            (What::Hex, [one]) if one.is_numeric() => Ok(vec![DataType::Int64]),
            (What::Hex, [DataType::Binary]) => Ok(vec![DataType::Binary]),
            (What::Hex, [_]) => Ok(vec![DataType::Utf8]),
            _ => plan_err!("{}() does not take {} arguments", self.name(), types.len()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let texts: StringArray = match (self.what, &arrays[..]) {
            (What::Concat, parts) => {
                let parts = parts.iter().map(texts).collect::<Result<Vec<_>>>()?;
                (0..parts[0].len()).map(|row| joined(&parts, row)).collect()
            }
            (What::Substr, [text, start, rest @ ..]) => {
                let text = texts(text)?;
                let starts = start.as_primitive::<Int64Type>();
                let lengths = rest.first().map(|lengths| lengths.as_primitive::<Int64Type>());
                let piece = |row: usize| {
                    let length = match lengths {
                        Some(lengths) if lengths.is_null(row) => return None,
                        Some(lengths) => lengths.value(row),
                        None => i64::MAX,
                    };
                    let known = !text.is_null(row) && !starts.is_null(row);
                    known.then(|| part(text.value(row), starts.value(row), length))
                };
                (0..text.len()).map(piece).collect()
            }
            (What::Hex, [one]) => match one.data_type() {
                DataType::Int64 => {
                    let numbers = one.as_primitive::<Int64Type>().iter();
                    numbers.map(|number| number.map(|number| format!("{number:X}"))).collect()
                }
                DataType::Binary => one.as_binary::<i32>().iter().map(|bytes| bytes.map(digits)).collect(),
                _ => one.as_string::<i32>().iter().map(|text| text.map(|text| digits(text.as_bytes()))).collect(),
            },
            _ => return internal_err!("{}() with {} arguments", self.name(), arrays.len()),
        };
        shaped(&args.args, Arc::new(texts))
    }
}

/// Values as MySQL writes them.
fn texts(values: &ArrayRef) -> Result<StringArray> {
    let text = match values.data_type() {
        DataType::Boolean => cast(&cast(values, &DataType::Int8)?, &DataType::Utf8)?,
        DataType::Date32 => {
            let days = values.as_primitive::<Date32Type>().iter();
            return Ok(days.map(|days| days.map(format_date)).collect());
        }
        DataType::Timestamp(_, _) => {
            let values = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let times = values.as_primitive::<TimestampMicrosecondType>().iter();
            let text = |micros: i64| format_datetime(micros, if micros % 1_000_000 == 0 { 0 } else { 6 });
            return Ok(times.map(|micros| micros.map(text)).collect());
        }
        _ => cast(values, &DataType::Utf8)?,
    };
    Ok(text.as_string::<i32>().clone())
}

fn joined(parts: &[StringArray], row: usize) -> Option<String> {
    parts.iter().all(|part| !part.is_null(row)).then(|| parts.iter().map(|part| part.value(row)).collect())
}

/// Letters from `start` on, which counts from 1, or from the end when it is negative; 0 is nowhere.
fn part(text: &str, start: i64, length: i64) -> String {
    let letters = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let skip = if start > 0 { start - 1 } else { letters.saturating_add(start) };
    if start == 0 || skip < 0 || length <= 0 {
        return String::new();
    }
    let (skip, length) = (usize::try_from(skip).unwrap_or(usize::MAX), usize::try_from(length).unwrap_or(usize::MAX));
    text.chars().skip(skip).take(length).collect()
}

fn digits(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02X}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_either_end() {
        for (start, length, expected) in
            [(1, 2, "gr"), (3, 9, "üße"), (-2, 9, "ße"), (0, 9, ""), (-6, 9, ""), (2, 0, ""), (2, -1, ""), (9, 1, "")]
        {
            assert_eq!(part("grüße", start, length), expected, "{start} {length}");
        }
        assert_eq!(part("abc", i64::MIN, i64::MAX), "");
        assert_eq!(digits("aé".as_bytes()), "61C3A9");
    }
}
