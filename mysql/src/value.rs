//! Values of rows and of statement parameters, and how each is written as text and as an SQL literal.

use bytes::Bytes;
use std::fmt;

/// One row: a value per column.
pub type Row = Vec<Value>;

/// One value. Decimals and integers wider than 64 bits travel as [`Value::Text`] in a decimal or string column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    UInt(u64),
    /// Single precision.
    Float(f32),
    /// Double precision.
    Double(f64),
    /// Text, decimals, JSON.
    Text(String),
    /// Bytes that need not be text.
    Bytes(Bytes),
    /// A day.
    Date {
        /// Year, 0 to 9999.
        year: u16,
        /// Month, 1 to 12.
        month: u8,
        /// Day of the month.
        day: u8,
    },
    /// A day and a time of day.
    DateTime {
        /// Year, 0 to 9999.
        year: u16,
        /// Month, 1 to 12.
        month: u8,
        /// Day of the month.
        day: u8,
        /// Hour of the day.
        hour: u8,
        /// Minute.
        minute: u8,
        /// Second.
        second: u8,
        /// Microseconds.
        micros: u32,
    },
    /// A span of time.
    Time {
        /// Whether the span is negative.
        negative: bool,
        /// Whole hours, may exceed 24.
        hours: u32,
        /// Minutes.
        minute: u8,
        /// Seconds.
        second: u8,
        /// Microseconds.
        micros: u32,
    },
}

impl Value {
    /// Text.
    pub fn text(value: impl Into<String>) -> Value {
        Value::Text(value.into())
    }

    /// The value as an SQL literal that the parser reads back as the same value. `None` for a number that has no
    /// literal (not-a-number, infinity).
    pub fn literal(&self) -> Option<String> {
        Some(match self {
            Value::Null => "NULL".to_owned(),
            // The blank keeps `a-?` with -1 from becoming a comment.
            Value::Int(value) if *value < 0 => format!(" {value}"),
            Value::Float(value) if !value.is_finite() => return None,
            Value::Double(value) if !value.is_finite() => return None,
            Value::Float(value) if value.is_sign_negative() => format!(" {self}"),
            Value::Double(value) if value.is_sign_negative() => format!(" {self}"),
            Value::Int(_) | Value::UInt(_) | Value::Float(_) | Value::Double(_) => self.to_string(),
            Value::Text(text) => quote(text),
            Value::Bytes(bytes) => hex(bytes),
            Value::Date { .. } | Value::DateTime { .. } | Value::Time { .. } => format!("'{self}'"),
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Int(value) => write!(f, "{value}"),
            Value::UInt(value) => write!(f, "{value}"),
            Value::Float(value) => write_float(f, f64::from(value.abs()), value),
            Value::Double(value) => write_float(f, value.abs(), value),
            Value::Text(text) => f.write_str(text),
            Value::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Value::Date { year, month, day } => write!(f, "{year:04}-{month:02}-{day:02}"),
            Value::DateTime { year, month, day, hour, minute, second, micros } => {
                write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")?;
                write_micros(f, *micros)
            }
            Value::Time { negative, hours, minute, second, micros } => {
                write!(f, "{}{hours:02}:{minute:02}:{second:02}", if *negative { "-" } else { "" })?;
                write_micros(f, *micros)
            }
        }
    }
}

/// As MySQL prints them: plain digits between 1e-15 and 1e15, an exponent outside.
fn write_float(f: &mut fmt::Formatter<'_>, size: f64, value: &(impl fmt::Display + fmt::LowerExp)) -> fmt::Result {
    if size == 0.0 || !size.is_finite() || (1e-15..1e15).contains(&size) {
        write!(f, "{value}")
    } else {
        write!(f, "{value:e}")
    }
}

fn write_micros(f: &mut fmt::Formatter<'_>, micros: u32) -> fmt::Result {
    if micros == 0 { Ok(()) } else { write!(f, ".{micros:06}") }
}

/// `text` as a string literal.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for character in text.chars() {
        match character {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

/// `name` as an identifier in backticks.
pub fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(bytes.len() * 2 + 3);
    out.push_str("X'");
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out.push('\'');
    out
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(value.into())
            }
        })*
    };
}

from! { i8 => Int, i16 => Int, i32 => Int, i64 => Int, u8 => UInt, u16 => UInt, u32 => UInt, u64 => UInt,
f32 => Float, f64 => Double, &str => Text, String => Text, Bytes => Bytes }

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_mysql() {
        for (value, text) in [
            (Value::Double(1.5), "1.5"),
            (Value::Double(0.0), "0"),
            (Value::Double(-2.0), "-2"),
            (Value::Double(1e15), "1e15"),
            (Value::Double(1e-16), "1e-16"),
            (Value::Double(123_456_789_012_345_680.0), "1.2345678901234568e17"),
            (Value::Float(0.1), "0.1"),
            (Value::Double(f64::NAN), "NaN"),
            (Value::UInt(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn times_print_micros_only_when_there_are_some() {
        let mut value = Value::DateTime { year: 24, month: 2, day: 3, hour: 4, minute: 5, second: 6, micros: 0 };
        assert_eq!(value.to_string(), "0024-02-03 04:05:06");
        if let Value::DateTime { micros, .. } = &mut value {
            *micros = 70;
        }
        assert_eq!(value.to_string(), "0024-02-03 04:05:06.000070");
        let span = Value::Time { negative: true, hours: 838, minute: 59, second: 1, micros: 5 };
        assert_eq!(span.to_string(), "-838:59:01.000005");
    }

    #[test]
    fn literals_are_quoted() {
        assert_eq!(Value::text("a'b\\c\0").literal().as_deref(), Some("'a''b\\\\c\\0'"));
        assert_eq!(Value::Bytes(Bytes::from_static(&[0, 255])).literal().as_deref(), Some("X'00FF'"));
        assert_eq!(Value::Int(-1).literal().as_deref(), Some(" -1"));
        assert_eq!(Value::Double(f64::INFINITY).literal(), None);
        assert_eq!(Value::Date { year: 2024, month: 1, day: 2 }.literal().as_deref(), Some("'2024-01-02'"));
        assert_eq!(Value::from(None::<i64>).literal().as_deref(), Some("NULL"));
        assert_eq!(quote_identifier("a`b"), "`a``b`");
    }
}
