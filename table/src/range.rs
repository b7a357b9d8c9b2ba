//! The keys of a partition: a range `[lower, upper)`, one bound per partition column, compared left to right; or a list.

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

/// A value of a partition column in a LIST.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListValue {
    /// NULL.
    Null,
    /// A whole number, date or time; BOOLEAN is 0 or 1.
    Value(Scalar),
    /// CHAR and VARCHAR.
    Text(String),
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

/// `[lower, upper)`. Both have one bound per partition column; none at all in a LIST partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// Inclusive.
    pub lower: Vec<Bound>,
    /// Exclusive.
    pub upper: Vec<Bound>,
    /// The keys of a LIST partition; empty for a range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<Vec<ListValue>>,
}

impl KeyRange {
    /// A range.
    pub fn new(lower: Vec<Bound>, upper: Vec<Bound>) -> KeyRange {
        KeyRange { lower, upper, list: Vec::new() }
    }

    /// A list of keys.
    pub fn of_list(list: Vec<Vec<ListValue>>) -> KeyRange {
        KeyRange { lower: Vec::new(), upper: Vec::new(), list }
    }

    /// Whether a key lies inside.
    pub fn contains(&self, key: &[Bound]) -> bool {
        self.lower.as_slice() <= key && key < self.upper.as_slice()
    }

    /// Whether two ranges share a key.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        if !self.list.is_empty() || !other.list.is_empty() {
            return self.list.iter().any(|key| other.list.contains(key));
        }
        self.lower < other.upper && other.lower < self.upper
    }

    /// Whether no key lies inside.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.lower >= self.upper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lower: i128, upper: i128) -> KeyRange {
        KeyRange::new(vec![Bound::Value(Scalar::Int(lower))], vec![Bound::Value(Scalar::Int(upper))])
    }

    #[test]
    fn lower_is_inside_and_upper_is_not() {
        let r = range(1, 5);
        assert!(r.contains(&[Bound::Value(Scalar::Int(1))]));
        assert!(!r.contains(&[Bound::Value(Scalar::Int(5))]));
        assert!(!r.contains(&[Bound::Min]));
        let open = KeyRange::new(vec![Bound::Min], vec![Bound::Max]);
        assert!(open.contains(&[Bound::Min]));
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        assert!(!range(1, 5).overlaps(&range(5, 9)));
        assert!(range(1, 5).overlaps(&range(4, 9)));
        assert!(range(5, 5).is_empty());
    }

    #[test]
    fn lists_overlap_when_they_share_a_key() {
        let list = |keys: &[i128]| {
            KeyRange::of_list(keys.iter().map(|key| vec![ListValue::Value(Scalar::Int(*key))]).collect())
        };
        assert!(list(&[1, 2]).overlaps(&list(&[2, 3])) && !list(&[1, 2]).overlaps(&list(&[3])));
        assert!(!list(&[1]).is_empty());
        // What was written before there were lists is read, and ranges are written as they were.
        let text = serde_json::to_string(&range(1, 5)).unwrap();
        assert!(!text.contains("list") && serde_json::from_str::<KeyRange>(&text).unwrap() == range(1, 5));
    }
}
