//! Partition bounds as text: what CREATE TABLE says and what SHOW PARTITIONS prints.

use crate::calendar;
use crate::range::{Bound, KeyRange, Scalar};
use crate::types::ColumnType;
use coffer_stdx::{Error, Result};

/// Largest magnitude of a LARGEINT: 38 decimal digits.
pub const LARGEINT_MAX: i128 = 10_i128.pow(38) - 1;

impl Scalar {
    /// Read a literal's text (quotes removed) as a value of a partition column.
    pub fn parse(kind: ColumnType, text: &str) -> Result<Scalar> {
        let text = text.trim();
        let value = match kind {
            ColumnType::Date => calendar::parse_date(text.as_bytes()).map(Scalar::Date),
            ColumnType::DateTime { scale } => calendar::parse_datetime(text.as_bytes(), scale).map(Scalar::DateTime),
            _ => {
                let Some((lowest, highest)) = whole_range(kind) else {
                    return Err(Error::not_supported(format!("partition values of type {kind} are not supported")));
                };
                text.parse().ok().filter(|value| (lowest..=highest).contains(value)).map(Scalar::Int)
            }
        };
        value.ok_or_else(|| Error::invalid(format!("'{text}' is not a value of type {kind}")))
    }

    /// The value as text, without quotes: `7`, `2024-01-31`, `2024-01-31 00:00:00`.
    pub fn format(self, kind: ColumnType) -> String {
        match (self, kind) {
            (Scalar::Int(value), _) => value.to_string(),
            (Scalar::Date(days), _) => calendar::format_date(days),
            (Scalar::DateTime(micros), ColumnType::DateTime { scale }) => calendar::format_datetime(micros, scale),
            (Scalar::DateTime(micros), _) => calendar::format_datetime(micros, 0),
        }
    }

    /// The value as a number whose order is the value's order.
    pub fn order(self) -> i128 {
        match self {
            Scalar::Int(value) => value,
            Scalar::Date(days) => i128::from(days),
            Scalar::DateTime(micros) => i128::from(micros),
        }
    }
}

/// Smallest and largest value of a whole number type; `None` for the other types.
pub fn whole_range(kind: ColumnType) -> Option<(i128, i128)> {
    Some(match kind {
        ColumnType::TinyInt => (i8::MIN.into(), i8::MAX.into()),
        ColumnType::SmallInt => (i16::MIN.into(), i16::MAX.into()),
        ColumnType::Int => (i32::MIN.into(), i32::MAX.into()),
        ColumnType::BigInt => (i64::MIN.into(), i64::MAX.into()),
        ColumnType::LargeInt => (-LARGEINT_MAX, LARGEINT_MAX),
        _ => return None,
    })
}

impl Bound {
    /// The bound as SHOW PARTITIONS prints it: `MAXVALUE`, the type's smallest value for [`Bound::Min`], or the value.
    pub fn format(self, kind: ColumnType) -> String {
        match self {
            Bound::Max => "MAXVALUE".to_owned(),
            Bound::Value(value) => value.format(kind),
            Bound::Min => match kind {
                ColumnType::Date => calendar::format_date(calendar::FIRST_DAY),
                ColumnType::DateTime { .. } => format!("{} 00:00:00", calendar::format_date(calendar::FIRST_DAY)),
                _ => whole_range(kind).map_or_else(|| "MINVALUE".to_owned(), |(lowest, _)| lowest.to_string()),
            },
        }
    }
}

impl KeyRange {
    /// The range as SHOW PARTITIONS prints it: `[types: [DATEV2]; keys: [2024-01-01]; ..types: [DATEV2]; keys: [2024-02-01]; )`.
    /// `kinds` are the types of the partition columns.
    pub fn format(&self, kinds: &[ColumnType]) -> String {
        if self.list.is_empty() {
            return format!("[{}..{})", side(&self.lower, kinds), side(&self.upper, kinds));
        }
        let types: Vec<&str> = kinds.iter().map(|kind| show_type(*kind)).collect();
        let keys = self.list.iter().map(|key| {
            let values: Vec<String> = key.iter().zip(kinds).map(|(value, kind)| value.format(*kind)).collect();
            format!("types: [{}]; keys: [{}]; ", types.join(", "), values.join(", "))
        });
        format!("[{}]", keys.collect::<String>())
    }
}

fn side(bounds: &[Bound], kinds: &[ColumnType]) -> String {
    let types: Vec<&str> = kinds.iter().map(|kind| show_type(*kind)).collect();
    let keys: Vec<String> = bounds.iter().zip(kinds).map(|(bound, kind)| bound.format(*kind)).collect();
    format!("types: [{}]; keys: [{}]; ", types.join(", "), keys.join(", "))
}

fn show_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::TinyInt => "TINYINT",
        ColumnType::SmallInt => "SMALLINT",
        ColumnType::Int => "INT",
        ColumnType::BigInt => "BIGINT",
        ColumnType::LargeInt => "LARGEINT",
        ColumnType::Float => "FLOAT",
        ColumnType::Double => "DOUBLE",
        ColumnType::Decimal { .. } => "DECIMALV3",
        ColumnType::Date => "DATEV2",
        ColumnType::DateTime { .. } => "DATETIMEV2",
        ColumnType::Char { .. } => "CHAR",
        ColumnType::Varchar { .. } => "VARCHAR",
        ColumnType::String => "STRING",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_and_print_back() {
        let cases = [
            (ColumnType::Int, "-7"),
            (ColumnType::LargeInt, "99999999999999999999999999999999999999"),
            (ColumnType::Date, "2024-02-29"),
            (ColumnType::DateTime { scale: 0 }, "2024-02-29 01:02:03"),
            (ColumnType::DateTime { scale: 6 }, "2024-02-29 01:02:03.000004"),
        ];
        for (kind, text) in cases {
            assert_eq!(Scalar::parse(kind, text).unwrap().format(kind), text);
        }
    }

    #[test]
    fn values_outside_the_type_are_refused_by_name() {
        for (kind, text) in [
            (ColumnType::TinyInt, "128"),
            (ColumnType::Int, "1.5"),
            (ColumnType::Date, "2023-02-29"),
            (ColumnType::BigInt, ""),
        ] {
            let error = Scalar::parse(kind, text).unwrap_err();
            assert!(error.message().contains(&kind.to_string()), "{error}");
        }
        assert!(Scalar::parse(ColumnType::String, "a").is_err());
    }

    #[test]
    fn a_range_prints_in_the_form_operators_know() {
        let range =
            KeyRange::new(vec![Bound::Min], vec![Bound::Value(Scalar::parse(ColumnType::Date, "2024-02-01").unwrap())]);
        assert_eq!(
            range.format(&[ColumnType::Date]),
            "[types: [DATEV2]; keys: [0000-01-01]; ..types: [DATEV2]; keys: [2024-02-01]; )"
        );
        let open = KeyRange::new(vec![Bound::Min, Bound::Min], vec![Bound::Max, Bound::Max]);
        assert_eq!(
            open.format(&[ColumnType::TinyInt, ColumnType::DateTime { scale: 0 }]),
            "[types: [TINYINT, DATETIMEV2]; keys: [-128, 0000-01-01 00:00:00]; ..types: [TINYINT, DATETIMEV2]; keys: [MAXVALUE, MAXVALUE]; )"
        );
    }
}
