//! Key models: what happens to rows with equal keys.
//!
//! DUPLICATE keeps them all. UNIQUE keeps the last. AGGREGATE makes one row of them, each value column by its own
//! [`Aggregate`]. "Last" is by version, within a load by the order of its rows.

use crate::types::ColumnType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a table does with rows that have equal keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// All of them stay.
    #[default]
    Duplicate,
    /// They become one row.
    Aggregate,
    /// The last one stays.
    Unique,
}

impl Model {
    /// Whether all rows stay.
    pub fn is_duplicate(&self) -> bool {
        *self == Model::Duplicate
    }
}

/// As in `AGGREGATE KEY`.
impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Model::Duplicate => "DUPLICATE",
            Model::Aggregate => "AGGREGATE",
            Model::Unique => "UNIQUE",
        })
    }
}

/// How the values of a column become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// The sum; NULLs are left out. A sum that leaves the range of its type goes on from the other end of it, so that
    /// the order of merging does not matter; sums of floating point depend on that order in their last digits.
    Sum,
    /// The smallest; NULLs are left out.
    Min,
    /// The largest; NULLs are left out.
    Max,
    /// The last, also when it is NULL.
    Replace,
    /// The last that is not NULL.
    ReplaceIfNotNull,
}

impl Aggregate {
    /// All, by name.
    pub const NAMED: [(&'static str, Aggregate); 5] = [
        ("SUM", Aggregate::Sum),
        ("MIN", Aggregate::Min),
        ("MAX", Aggregate::Max),
        ("REPLACE", Aggregate::Replace),
        ("REPLACE_IF_NOT_NULL", Aggregate::ReplaceIfNotNull),
    ];

    /// Whether a column of this type can have it.
    pub fn takes(self, kind: ColumnType) -> bool {
        match self {
            Aggregate::Sum => kind.is_numeric(),
            Aggregate::Min | Aggregate::Max | Aggregate::Replace | Aggregate::ReplaceIfNotNull => true,
        }
    }
}

/// As in CREATE TABLE.
impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Aggregate::NAMED.iter().find(|(_, known)| known == self).map_or("", |(name, _)| *name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types() {
        assert_eq!(Aggregate::ReplaceIfNotNull.to_string(), "REPLACE_IF_NOT_NULL");
        assert_eq!(Model::Unique.to_string(), "UNIQUE");
        assert!(Aggregate::Sum.takes(ColumnType::Decimal { precision: 5, scale: 1 }));
        assert!(!Aggregate::Sum.takes(ColumnType::Date) && Aggregate::Max.takes(ColumnType::Date));
        assert_eq!(serde_json::to_string(&Aggregate::ReplaceIfNotNull).unwrap(), "\"replace_if_not_null\"");
    }
}
