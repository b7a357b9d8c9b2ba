//! WHERE, ORDER BY and LIMIT of SHOW statements, on rows of text.
//!
//! Columns are found ignoring case. Values compare as numbers when both sides are numbers, else as text without regard
//! to ASCII case, as MySQL's default collation does.

pub use crate::account::pattern::like;
use crate::error::{Error, Result};
use crate::exec::answer::RowSet;
use crate::sql::ast::{RowCondition, RowFilter, RowOperator};
use std::cmp::Ordering;

/// The rows that the filter keeps, in its order.
pub fn apply(mut set: RowSet, filter: &RowFilter) -> Result<RowSet> {
    for condition in &filter.conditions {
        let column = find(&set, &condition.column)?;
        set.rows.retain(|row| row[column].as_deref().is_some_and(|cell| holds(cell, condition)));
    }
    let mut keys = Vec::with_capacity(filter.order_by.len());
    for (name, descending) in &filter.order_by {
        keys.push((find(&set, name)?, *descending));
    }
    if !keys.is_empty() {
        set.rows.sort_by(|left, right| {
            let orders = keys.iter().map(|(column, descending)| {
                let order = compare_cells(left[*column].as_deref(), right[*column].as_deref());
                if *descending { order.reverse() } else { order }
            });
            orders.fold(Ordering::Equal, Ordering::then)
        });
    }
    let skip = usize::try_from(filter.offset).unwrap_or(usize::MAX).min(set.rows.len());
    set.rows.drain(..skip);
    if let Some(limit) = filter.limit {
        set.rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(set)
}

fn find(set: &RowSet, name: &str) -> Result<usize> {
    let found = set.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        Error::invalid(format!("Unknown column '{name}' in this SHOW; its columns are {}", set.columns.join(", ")))
            .numbered(crate::error::number::UNKNOWN_COLUMN)
    })
}

fn holds(cell: &str, condition: &RowCondition) -> bool {
    let order = compare(cell, &condition.value);
    match condition.operator {
        RowOperator::Equal => order == Ordering::Equal,
        RowOperator::NotEqual => order != Ordering::Equal,
        RowOperator::Less => order == Ordering::Less,
        RowOperator::LessOrEqual => order != Ordering::Greater,
        RowOperator::Greater => order == Ordering::Greater,
        RowOperator::GreaterOrEqual => order != Ordering::Less,
        RowOperator::Like => like(&condition.value, cell),
    }
}

fn compare_cells(left: Option<&str>, right: Option<&str>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => compare(left, right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    }
}

fn compare(left: &str, right: &str) -> Ordering {
    if let (Ok(left), Ok(right)) = (left.parse::<i128>(), right.parse::<i128>()) {
        return left.cmp(&right);
    }
    if let (Ok(left), Ok(right)) = (left.parse::<f64>(), right.parse::<f64>()) {
        return left.total_cmp(&right);
    }
    left.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(right.bytes().map(|byte| byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> RowSet {
        let mut set = RowSet::new(["Name", "Size"]);
        for (name, size) in [("p1", "10"), ("p2", "9"), ("Q1", "1.5")] {
            set.push([name, size]);
        }
        set.rows.push(vec![Some("n".to_owned()), None]);
        set
    }

    fn names(filter: RowFilter) -> Vec<String> {
        apply(set(), &filter).unwrap().rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
    }

    fn only(column: &str, operator: RowOperator, value: &str) -> RowFilter {
        let condition = RowCondition { column: column.to_owned(), operator, value: value.to_owned() };
        RowFilter { conditions: vec![condition], ..RowFilter::default() }
    }

    #[test]
    fn conditions_compare_numbers_as_numbers_and_never_hold_for_null() {
        assert_eq!(names(only("size", RowOperator::Greater, "9")), ["p1"]);
        assert_eq!(names(only("size", RowOperator::GreaterOrEqual, "9")), ["p1", "p2"]);
        assert_eq!(names(only("size", RowOperator::Less, "9")), ["Q1"]);
        assert_eq!(names(only("size", RowOperator::LessOrEqual, "9")), ["p2", "Q1"]);
        assert_eq!(names(only("size", RowOperator::NotEqual, "9")), ["p1", "Q1"]);
        assert_eq!(names(only("NAME", RowOperator::Equal, "q1")), ["Q1"]);
        assert_eq!(names(only("name", RowOperator::Like, "p%")), ["p1", "p2"]);
    }

    #[test]
    fn order_limit_and_offset() {
        let ordered = RowFilter { order_by: vec![("size".to_owned(), false)], ..RowFilter::default() };
        assert_eq!(names(ordered), ["n", "Q1", "p2", "p1"]);
        let page =
            RowFilter { order_by: vec![("size".to_owned(), true)], limit: Some(2), offset: 1, ..RowFilter::default() };
        assert_eq!(names(page), ["p2", "Q1"]);
        assert_eq!(names(RowFilter { offset: 9, ..RowFilter::default() }), [""; 0]);
    }

    #[test]
    fn unknown_columns_are_named() {
        let error = apply(set(), &only("colour", RowOperator::Equal, "red")).unwrap_err();
        assert_eq!(error.number(), 1054);
        assert!(error.message().contains("colour"));
    }
}
