//! PARTITION BY RANGE: from the text of the statement to key ranges that do not overlap. Pure.

use crate::error::{self, Error, Result};
use crate::limits;
use crate::sql::ast::{BoundText, PartitionBy, PartitionValues};
use coffer_table::{Bound, ColumnType, KeyRange, Scalar, Schema};

/// The partition columns as the schema writes them.
pub(super) fn columns(by: &PartitionBy, schema: &Schema, table: &str) -> Result<Vec<String>> {
    if by.columns.is_empty() {
        return Err(Error::invalid("PARTITION BY RANGE needs at least one column"));
    }
    let mut found: Vec<String> = Vec::with_capacity(by.columns.len());
    for name in &by.columns {
        let at = schema.index_of(name).ok_or_else(|| error::unknown_column(name, table))?;
        let column = &schema.columns[at];
        if !column.kind.is_range_key() {
            return Err(Error::invalid(format!(
                "Column[{}] type[{}] cannot be a range partition key.",
                column.name, column.kind
            )));
        }
        if found.contains(&column.name) {
            return Err(Error::invalid(format!("Duplicated partition column: {}", column.name)));
        }
        found.push(column.name.clone());
    }
    Ok(found)
}

/// Names and ranges, in the order of the statement.
pub(super) fn ranges(by: &PartitionBy, kinds: &[ColumnType]) -> Result<Vec<(String, KeyRange)>> {
    if by.partitions.is_empty() {
        return Err(Error::not_supported(
            "a RANGE table without partitions is not supported: name at least one partition",
        ));
    }
    if by.partitions.len() > limits::MAX_PARTITIONS_PER_TABLE {
        return Err(Error::limit(format!("a table has at most {} partitions", limits::MAX_PARTITIONS_PER_TABLE)));
    }
    let mut seen = std::collections::BTreeSet::new();
    // Upper bounds first: they are the lower bounds of LESS THAN.
    let mut uppers = Vec::with_capacity(by.partitions.len());
    for partition in &by.partitions {
        if !seen.insert(partition.name.to_ascii_lowercase()) {
            return Err(Error::invalid(format!("Duplicated partition name: {}", partition.name)));
        }
        let (PartitionValues::LessThan(upper) | PartitionValues::Range { upper, .. }) = &partition.values;
        uppers.push(key(&partition.name, upper, kinds)?);
    }
    let mut sorted = uppers.clone();
    sorted.sort_unstable();
    let mut ranges = Vec::with_capacity(by.partitions.len());
    for (partition, upper) in by.partitions.iter().zip(uppers) {
        let lower = match &partition.values {
            PartitionValues::Range { lower, .. } => key(&partition.name, lower, kinds)?,
            PartitionValues::LessThan(_) => {
                let below = sorted.partition_point(|other| *other < upper);
                below.checked_sub(1).map_or_else(|| vec![Bound::Min; kinds.len()], |at| sorted[at].clone())
            }
        };
        let range = KeyRange { lower, upper };
        if range.is_empty() {
            return Err(Error::invalid(format!(
                "partition {} has no values: {} ends before it starts",
                partition.name,
                range.format(kinds)
            )));
        }
        ranges.push((partition.name.clone(), range));
    }
    no_overlap(&ranges, kinds)?;
    Ok(ranges)
}

/// A bound per column; those left out are the smallest.
fn key(partition: &str, texts: &[BoundText], kinds: &[ColumnType]) -> Result<Vec<Bound>> {
    if texts.is_empty() || texts.len() > kinds.len() {
        return Err(Error::invalid(format!(
            "partition {partition} has {} values for {} partition columns",
            texts.len(),
            kinds.len()
        )));
    }
    let mut bounds = Vec::with_capacity(kinds.len());
    for (at, kind) in kinds.iter().enumerate() {
        bounds.push(match texts.get(at) {
            None => Bound::Min,
            Some(BoundText::MaxValue) => Bound::Max,
            Some(BoundText::Value(text)) => Bound::Value(
                Scalar::parse(*kind, text)
                    .map_err(|error| Error::new(error.kind(), format!("partition {partition}: {}", error.message())))?,
            ),
        });
    }
    Ok(bounds)
}

fn no_overlap(ranges: &[(String, KeyRange)], kinds: &[ColumnType]) -> Result<()> {
    let mut sorted: Vec<&(String, KeyRange)> = ranges.iter().collect();
    sorted.sort_unstable_by(|(_, left), (_, right)| left.lower.cmp(&right.lower));
    for pair in sorted.windows(2) {
        let ((name, range), (next_name, next)) = (pair[0], pair[1]);
        if range.overlaps(next) {
            return Err(Error::invalid(format!(
                "Range {} of partition {next_name} is intersected with range: {} of partition {name}",
                next.format(kinds),
                range.format(kinds)
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::ddl::sample::{between, column, less_than, partition_by};

    fn shown(partitions: Vec<crate::sql::ast::PartitionDef>, kinds: &[ColumnType]) -> Result<Vec<String>> {
        let ranges = ranges(&partition_by(&["x"], partitions), kinds)?;
        Ok(ranges.into_iter().map(|(name, range)| format!("{name} {}", range.format(kinds))).collect())
    }

    #[test]
    fn less_than_starts_where_the_one_below_ends_in_any_order() {
        let kinds = [ColumnType::TinyInt];
        let shown = shown(vec![less_than("b", &["20"]), less_than("a", &["10"]), less_than("c", &["MAX"])], &kinds);
        assert_eq!(
            shown.unwrap(),
            [
                "b [types: [TINYINT]; keys: [10]; ..types: [TINYINT]; keys: [20]; )",
                "a [types: [TINYINT]; keys: [-128]; ..types: [TINYINT]; keys: [10]; )",
                "c [types: [TINYINT]; keys: [20]; ..types: [TINYINT]; keys: [MAXVALUE]; )",
            ]
        );
    }

    #[test]
    fn fixed_ranges_may_leave_gaps_and_values_left_out_are_the_smallest() {
        let kinds = [ColumnType::Int, ColumnType::Int];
        let by = partition_by(&["x", "y"], vec![between("a", &["1"], &["5", "3"]), less_than("b", &["9"])]);
        let ranges = ranges(&by, &kinds).unwrap();
        let value = |n| Bound::Value(Scalar::Int(n));
        assert_eq!(ranges[0].1, KeyRange { lower: vec![value(1), Bound::Min], upper: vec![value(5), value(3)] });
        assert_eq!(ranges[1].1, KeyRange { lower: vec![value(5), value(3)], upper: vec![value(9), Bound::Min] });
        assert_eq!(
            shown(vec![between("a", &["1"], &["2"]), between("b", &["7"], &["MAX"])], &kinds[..1]).unwrap().len(),
            2
        );
    }

    #[test]
    fn impossible_partitions_are_named() {
        let kinds = [ColumnType::TinyInt];
        for (partitions, text) in [
            (vec![], "without partitions"),
            (vec![less_than("a", &["1"]), less_than("A", &["2"])], "Duplicated partition name: A"),
            (vec![less_than("a", &["1"]), less_than("b", &["1"])], "intersected"),
            (vec![between("a", &["1"], &["5"]), between("b", &["4"], &["6"])], "partition b is intersected"),
            (vec![between("a", &["5"], &["5"])], "partition a has no values"),
            (vec![less_than("a", &["128"])], "partition a: '128' is not a value of type tinyint"),
            (vec![less_than("a", &["1", "2"])], "2 values for 1"),
            (vec![less_than("a", &[])], "0 values for 1"),
        ] {
            let error = shown(partitions, &kinds).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
        let many = (0..=limits::MAX_PARTITIONS_PER_TABLE).map(|n| less_than(&format!("p{n}"), &[&n.to_string()]));
        assert!(shown(many.collect(), &[ColumnType::Int]).unwrap_err().message().contains("at most"));
    }

    #[test]
    fn partition_columns_are_range_keys_of_the_table() {
        let schema = Schema { columns: vec![column("D", ColumnType::Date), column("s", ColumnType::String)] };
        let check = |names: &[&str]| columns(&partition_by(names, vec![]), &schema, "t");
        assert_eq!(check(&["d"]).unwrap(), ["D"]);
        assert_eq!(check(&["x"]).unwrap_err().number(), 1054);
        assert!(check(&["s"]).unwrap_err().message().contains("cannot be a range partition key"));
        assert!(check(&["d", "D"]).unwrap_err().message().contains("Duplicated"));
        assert!(check(&[]).is_err());
    }
}
