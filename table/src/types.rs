//! Column types as operators write them, and the Arrow type that carries each.

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A scalar column type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// BOOLEAN.
    Boolean,
    /// TINYINT, 1 byte signed.
    TinyInt,
    /// SMALLINT, 2 bytes signed.
    SmallInt,
    /// INT, 4 bytes signed.
    Int,
    /// BIGINT, 8 bytes signed.
    BigInt,
    /// LARGEINT: up to 38 decimal digits.
    LargeInt,
    /// FLOAT, 4 bytes.
    Float,
    /// DOUBLE, 8 bytes.
    Double,
    /// DECIMAL(precision, scale), precision 1 to 38, scale 0 to precision.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// DATE, 0000-01-01 to 9999-12-31.
    Date,
    /// DATETIME(scale), scale 0 to 6 digits of a second; no time zone.
    DateTime {
        /// Digits after the second.
        scale: u8,
    },
    /// CHAR(length), at most 255 bytes.
    Char {
        /// Bytes.
        length: u32,
    },
    /// VARCHAR(length), at most 65533 bytes.
    Varchar {
        /// Bytes.
        length: u32,
    },
    /// STRING, at most [`MAX_STRING_BYTES`].
    String,
}

/// Longest STRING value, bytes.
pub const MAX_STRING_BYTES: u32 = 1 << 20;

impl ColumnType {
    /// The Arrow type that carries this column in memory, in Parquet and on the wire.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::TinyInt => DataType::Int8,
            ColumnType::SmallInt => DataType::Int16,
            ColumnType::Int => DataType::Int32,
            ColumnType::BigInt => DataType::Int64,
            ColumnType::LargeInt => DataType::Decimal128(38, 0),
            ColumnType::Float => DataType::Float32,
            ColumnType::Double => DataType::Float64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            ColumnType::Date => DataType::Date32,
            ColumnType::DateTime { .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::Char { .. } | ColumnType::Varchar { .. } | ColumnType::String => DataType::Utf8,
        }
    }

    /// Longest value in bytes, for the text types.
    pub fn max_bytes(self) -> Option<u32> {
        match self {
            ColumnType::Char { length } | ColumnType::Varchar { length } => Some(length),
            ColumnType::String => Some(MAX_STRING_BYTES),
            _ => None,
        }
    }

    /// Whether values are text.
    pub fn is_text(self) -> bool {
        self.max_bytes().is_some()
    }

    /// Whether values are numbers.
    pub fn is_numeric(self) -> bool {
        matches!(
            self,
            ColumnType::TinyInt
                | ColumnType::SmallInt
                | ColumnType::Int
                | ColumnType::BigInt
                | ColumnType::LargeInt
                | ColumnType::Float
                | ColumnType::Double
                | ColumnType::Decimal { .. }
        )
    }

    /// Whether a table may be partitioned by ranges of this type: whole numbers, dates and times.
    pub fn is_range_key(self) -> bool {
        matches!(
            self,
            ColumnType::TinyInt
                | ColumnType::SmallInt
                | ColumnType::Int
                | ColumnType::BigInt
                | ColumnType::LargeInt
                | ColumnType::Date
                | ColumnType::DateTime { .. }
        )
    }

    /// Whether rows may be spread by a hash of this type: all but floating point and boolean.
    pub fn is_hash_key(self) -> bool {
        !matches!(self, ColumnType::Float | ColumnType::Double | ColumnType::Boolean)
    }
}

/// The form of SHOW CREATE TABLE and DESC, lower case: `decimal(15,2)`, `datetime(6)`.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Boolean => f.write_str("boolean"),
            ColumnType::TinyInt => f.write_str("tinyint"),
            ColumnType::SmallInt => f.write_str("smallint"),
            ColumnType::Int => f.write_str("int"),
            ColumnType::BigInt => f.write_str("bigint"),
            ColumnType::LargeInt => f.write_str("largeint"),
            ColumnType::Float => f.write_str("float"),
            ColumnType::Double => f.write_str("double"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::DateTime { scale: 0 } => f.write_str("datetime"),
            ColumnType::DateTime { scale } => write!(f, "datetime({scale})"),
            ColumnType::Char { length } => write!(f, "char({length})"),
            ColumnType::Varchar { length } => write!(f, "varchar({length})"),
            ColumnType::String => f.write_str("string"),
        }
    }
}
