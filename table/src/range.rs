//! Ranges of partition keys: `[lower, upper)`, one bound per partition column, compared left to right.

use serde::{Deserialize, Serialize};

/// A value of a partition column, in an order that matches SQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    /// Any whole number type.
    Int(i128),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00.
    DateTime(i64),
}

/// One bound. NULL keys sort with [`Bound::Min`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Below every value.
    Min,
    /// At a value.
    Value(Scalar),
    /// MAXVALUE: above every value.
    Max,
}

/// `[lower, upper)`. Both have one bound per partition column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// Inclusive.
    pub lower: Vec<Bound>,
    /// Exclusive.
    pub upper: Vec<Bound>,
}

impl KeyRange {
    /// Whether a key lies inside.
    pub fn contains(&self, key: &[Bound]) -> bool {
        self.lower.as_slice() <= key && key < self.upper.as_slice()
    }

    /// Whether two ranges share a key.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        self.lower < other.upper && other.lower < self.upper
    }

    /// Whether no key lies inside.
    pub fn is_empty(&self) -> bool {
        self.lower >= self.upper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lower: i128, upper: i128) -> KeyRange {
        KeyRange { lower: vec![Bound::Value(Scalar::Int(lower))], upper: vec![Bound::Value(Scalar::Int(upper))] }
    }

    #[test]
    fn lower_is_inside_and_upper_is_not() {
        let r = range(1, 5);
        assert!(r.contains(&[Bound::Value(Scalar::Int(1))]));
        assert!(!r.contains(&[Bound::Value(Scalar::Int(5))]));
        assert!(!r.contains(&[Bound::Min]));
        let open = KeyRange { lower: vec![Bound::Min], upper: vec![Bound::Max] };
        assert!(open.contains(&[Bound::Min]));
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        assert!(!range(1, 5).overlaps(&range(5, 9)));
        assert!(range(1, 5).overlaps(&range(4, 9)));
        assert!(range(5, 5).is_empty());
    }
}
