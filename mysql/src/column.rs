//! What a client is told about a column: names, type, flags.

use crate::lenenc::{put_bytes, put_int};

/// The type of a column on the wire. Binary rows lay their values out by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// 8 bit integer.
    Tiny,
    /// 16 bit integer.
    Short,
    /// 32 bit integer.
    Long,
    /// 64 bit integer.
    LongLong,
    /// Single precision.
    Float,
    /// Double precision.
    Double,
    /// Decimal, as text.
    Decimal,
    /// No type: only NULLs.
    Null,
    /// A day.
    Date,
    /// A day and a time.
    DateTime,
    /// A span of time.
    Time,
    /// Text.
    VarString,
    /// Long text or, with a binary character set, bytes.
    Blob,
    /// JSON text.
    Json,
}

const CHARSET_UTF8: u16 = 45;
const CHARSET_BINARY: u16 = 63;
const FLAG_NOT_NULL: u16 = 1;
const FLAG_PRIMARY_KEY: u16 = 2;
const FLAG_BLOB: u16 = 16;
const FLAG_UNSIGNED: u16 = 32;
const FLAG_BINARY: u16 = 128;
const FLAG_NUMBER: u16 = 32_768;
/// Decimals of a floating point column: as many as there are.
const DECIMALS_ANY: u8 = 31;

impl ColumnType {
    /// The byte that stands for the type.
    pub(crate) fn code(self) -> u8 {
        match self {
            ColumnType::Tiny => 0x01,
            ColumnType::Short => 0x02,
            ColumnType::Long => 0x03,
            ColumnType::Float => 0x04,
            ColumnType::Double => 0x05,
            ColumnType::Null => 0x06,
            ColumnType::LongLong => 0x08,
            ColumnType::Date => 0x0a,
            ColumnType::Time => 0x0b,
            ColumnType::DateTime => 0x0c,
            ColumnType::Json => 0xf5,
            ColumnType::Decimal => 0xf6,
            ColumnType::Blob => 0xfc,
            ColumnType::VarString => 0xfd,
        }
    }

    fn is_number(self) -> bool {
        matches!(
            self,
            ColumnType::Tiny
                | ColumnType::Short
                | ColumnType::Long
                | ColumnType::LongLong
                | ColumnType::Float
                | ColumnType::Double
                | ColumnType::Decimal
        )
    }

    /// The widest display of a value, in bytes.
    fn length(self) -> u32 {
        match self {
            ColumnType::Null => 0,
            ColumnType::Tiny => 4,
            ColumnType::Short => 6,
            ColumnType::Long => 11,
            ColumnType::LongLong => 20,
            ColumnType::Float => 12,
            ColumnType::Double => 22,
            ColumnType::Date | ColumnType::Time => 10,
            ColumnType::DateTime => 26,
            ColumnType::Decimal => 80,
            ColumnType::VarString => 65_533 * 4,
            ColumnType::Blob | ColumnType::Json => u32::MAX,
        }
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// The table it comes from, or empty.
    pub table: String,
    /// The database of the table, or empty.
    pub database: String,
    /// The type.
    pub kind: ColumnType,
    /// Whether an integer has no sign.
    pub unsigned: bool,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether it is part of the key.
    pub key: bool,
    /// Whether its values are bytes instead of text.
    pub binary: bool,
    /// Digits after the point of decimals; digits of a fraction of a second of times.
    pub decimals: u8,
    /// Times print exactly `decimals` digits of a second as text; otherwise six, or none when they are zero.
    pub exact_fraction: bool,
}

impl Column {
    /// A nullable column of no table.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Column {
        Column {
            name: name.into(),
            table: String::new(),
            database: String::new(),
            kind,
            unsigned: false,
            nullable: true,
            key: false,
            binary: false,
            decimals: 0,
            exact_fraction: false,
        }
    }

    /// A text column of no table.
    pub fn text(name: impl Into<String>) -> Column {
        Column::new(name, ColumnType::VarString)
    }

    /// The same column, of this table.
    pub fn of(mut self, database: impl Into<String>, table: impl Into<String>) -> Column {
        (self.database, self.table) = (database.into(), table.into());
        self
    }

    /// The same column without a sign.
    pub fn unsigned(mut self) -> Column {
        self.unsigned = true;
        self
    }

    /// The same column with this many decimals.
    pub fn decimals(mut self, decimals: u8) -> Column {
        self.decimals = decimals;
        self
    }

    /// The same column of times that print exactly this many digits of a second.
    pub fn exact_fraction(mut self, digits: u8) -> Column {
        (self.decimals, self.exact_fraction) = (digits.min(6), true);
        self
    }

    fn is_text(&self) -> bool {
        !self.binary && matches!(self.kind, ColumnType::VarString | ColumnType::Blob | ColumnType::Json)
    }

    fn flags(&self) -> u16 {
        let number = self.kind.is_number();
        [
            (!self.nullable, FLAG_NOT_NULL),
            (self.key, FLAG_PRIMARY_KEY),
            (self.kind == ColumnType::Blob, FLAG_BLOB),
            (self.unsigned, FLAG_UNSIGNED),
            (!self.is_text(), FLAG_BINARY),
            (number, FLAG_NUMBER),
        ]
        .into_iter()
        .filter_map(|(set, flag)| set.then_some(flag))
        .sum()
    }

    /// Append the column definition; with `default` as answers to COM_FIELD_LIST have it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, default: bool) {
        for text in ["def", &self.database, &self.table, &self.table, &self.name, &self.name] {
            put_bytes(out, text.as_bytes());
        }
        put_int(out, 0x0c);
        let charset = if self.is_text() { CHARSET_UTF8 } else { CHARSET_BINARY };
        out.extend_from_slice(&charset.to_le_bytes());
        out.extend_from_slice(&self.kind.length().to_le_bytes());
        out.push(self.kind.code());
        out.extend_from_slice(&self.flags().to_le_bytes());
        out.push(match self.kind {
            ColumnType::Float | ColumnType::Double if self.decimals == 0 => DECIMALS_ANY,
            _ => self.decimals,
        });
        out.extend_from_slice(&[0, 0]);
        if default {
            out.push(crate::lenenc::NULL_CELL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_has_the_layout_of_protocol_41() {
        let mut out = Vec::new();
        Column::new("id", ColumnType::LongLong).unsigned().of("d", "t").encode(&mut out, false);
        let expected: &[u8] = &[
            3, b'd', b'e', b'f', 1, b'd', 1, b't', 1, b't', 2, b'i', b'd', 2, b'i', b'd', 0x0c, 63, 0, 20, 0, 0, 0, 8,
            0xa0, 0x80, 0, 0, 0,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn text_is_text_and_bytes_are_binary() {
        let mut column = Column::text("x");
        assert_eq!(column.flags(), 0);
        column.binary = true;
        column.key = true;
        column.nullable = false;
        assert_eq!(column.flags(), FLAG_BINARY | FLAG_PRIMARY_KEY | FLAG_NOT_NULL);
    }
}
