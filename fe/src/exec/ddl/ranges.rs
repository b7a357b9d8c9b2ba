//! PARTITION BY and ADD PARTITION: from the text of the statement to key ranges or lists that do not overlap. Pure.

use super::periods;
use crate::error::{self, Error, Result};
use crate::limits;
use crate::sql::ast::{BoundText, PartitionBy, PartitionDef, PartitionValues};
use coffer_table::list::is_list_key;
use coffer_table::{Bound, ColumnType, KeyRange, ListValue, Scalar, Schema};

/// The partition columns as the schema writes them.
pub(super) fn columns(by: &PartitionBy, schema: &Schema, table: &str) -> Result<Vec<String>> {
    if by.columns.is_empty() {
        return Err(Error::invalid("PARTITION BY needs at least one column"));
    }
    let mut found: Vec<String> = Vec::with_capacity(by.columns.len());
    for name in &by.columns {
        let at = schema.index_of(name).ok_or_else(|| error::unknown_column(name, table))?;
        let column = &schema.columns[at];
        let (fits, word) = match by.list {
            true => (is_list_key(column.kind), "list"),
            false => (column.kind.is_range_key(), "range"),
        };
        if !fits {
            return Err(Error::invalid(format!(
                "Column[{}] type[{}] cannot be a {word} partition key.",
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

/// Names and ranges of CREATE TABLE, in the order of the statement.
pub(super) fn ranges(by: &PartitionBy, kinds: &[ColumnType]) -> Result<Vec<(String, KeyRange)>> {
    added(&by.partitions, by.list, &[], kinds)
}

/// Names and ranges of partitions that join others.
pub(super) fn added(
    defs: &[PartitionDef],
    list: bool,
    existing: &[(String, KeyRange)],
    kinds: &[ColumnType],
) -> Result<Vec<(String, KeyRange)>> {
    if existing.len() + defs.len() > limits::MAX_PARTITIONS_PER_TABLE {
        return Err(Error::limit(format!("a table has at most {} partitions", limits::MAX_PARTITIONS_PER_TABLE)));
    }
    // Upper bounds first: they are the lower bounds of LESS THAN.
    let mut sorted: Vec<Vec<Bound>> = existing.iter().map(|(_, range)| range.upper.clone()).collect();
    for def in defs.iter().filter(|_| !list) {
        if let PartitionValues::LessThan(upper) | PartitionValues::Range { upper, .. } = &def.values {
            sorted.push(key(&def.name, upper, kinds)?);
        }
    }
    sorted.sort_unstable();
    let mut ranges = Vec::with_capacity(defs.len());
    for def in defs {
        match (&def.values, list) {
            (PartitionValues::In(keys), true) => ranges.push((def.name.clone(), listed(&def.name, keys, kinds)?)),
            (PartitionValues::In(_), false) => {
                return Err(Error::invalid(format!("partition {} of a RANGE table cannot have VALUES IN", def.name)));
            }
            (_, true) => {
                return Err(Error::invalid(format!("partition {} of a LIST table needs VALUES IN (...)", def.name)));
            }
            (PartitionValues::Steps { from, to, every, unit }, false) => match kinds {
                [kind] => ranges.extend(periods::steps((from, to), (*every, *unit), *kind)?),
                _ => {
                    return Err(Error::invalid("partitions by FROM ... TO ... INTERVAL have one partition column"));
                }
            },
            (PartitionValues::LessThan(_) | PartitionValues::Range { .. }, false) => {
                ranges.push((def.name.clone(), range(def, &sorted, kinds)?));
            }
        }
    }
    if existing.len() + ranges.len() > limits::MAX_PARTITIONS_PER_TABLE {
        return Err(Error::limit(format!("a table has at most {} partitions", limits::MAX_PARTITIONS_PER_TABLE)));
    }
    let mut seen: std::collections::BTreeSet<String> =
        existing.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    for (name, _) in &ranges {
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(Error::invalid(format!("Duplicated partition name: {name}")));
        }
    }
    if list {
        no_shared_key(existing, &ranges, kinds)?
    } else {
        no_overlap(existing, &ranges, kinds)?
    }
    Ok(ranges)
}

fn range(def: &PartitionDef, uppers: &[Vec<Bound>], kinds: &[ColumnType]) -> Result<KeyRange> {
    let name = &def.name;
    let (lower, upper) = match &def.values {
        PartitionValues::Range { lower, upper } => (key(name, lower, kinds)?, key(name, upper, kinds)?),
        PartitionValues::LessThan(upper) => {
            let upper = key(name, upper, kinds)?;
            let below = uppers.partition_point(|other| *other < upper);
            let lower = below.checked_sub(1).map_or_else(|| vec![Bound::Min; kinds.len()], |at| uppers[at].clone());
            (lower, upper)
        }
        PartitionValues::In(_) | PartitionValues::Steps { .. } => {
            return Err(Error::bug(format!("partition {name} is no single range")));
        }
    };
    let range = KeyRange::new(lower, upper);
    if range.is_empty() {
        return Err(Error::invalid(format!(
            "partition {name} has no values: {} ends before it starts",
            range.format(kinds)
        )));
    }
    Ok(range)
}

fn listed(name: &str, keys: &[Vec<BoundText>], kinds: &[ColumnType]) -> Result<KeyRange> {
    let mut list: Vec<Vec<ListValue>> = Vec::with_capacity(keys.len());
    for key in keys {
        if key.len() != kinds.len() {
            return Err(Error::invalid(format!(
                "partition {name} has a key of {} values for {} partition columns",
                key.len(),
                kinds.len()
            )));
        }
        let value = |(text, kind): (&BoundText, &ColumnType)| match text {
            BoundText::Null => Ok(ListValue::Null),
            BoundText::MaxValue => Err(Error::invalid(format!("partition {name}: MAXVALUE cannot be in a list"))),
            BoundText::Value(text) => ListValue::parse(*kind, text)
                .map_err(|error| Error::new(error.kind(), format!("partition {name}: {}", error.message()))),
        };
        let key: Vec<ListValue> = key.iter().zip(kinds).map(value).collect::<Result<_>>()?;
        if list.contains(&key) {
            return Err(Error::invalid(format!("The partition key[{}] has duplicate item", shown(&key, kinds))));
        }
        list.push(key);
    }
    Ok(KeyRange::of_list(list))
}

fn shown(key: &[ListValue], kinds: &[ColumnType]) -> String {
    key.iter().zip(kinds).map(|(value, kind)| value.format(*kind)).collect::<Vec<_>>().join(", ")
}

fn no_shared_key(existing: &[(String, KeyRange)], new: &[(String, KeyRange)], kinds: &[ColumnType]) -> Result<()> {
    let mut owners: std::collections::BTreeMap<&[ListValue], &str> = std::collections::BTreeMap::new();
    for (name, range) in existing.iter().chain(new) {
        for key in &range.list {
            if let Some(other) = owners.insert(key, name) {
                return Err(Error::invalid(format!(
                    "The partition key[{}] in partition item[{name}] is conflict with current partitionKeys[{other}]",
                    shown(key, kinds)
                )));
            }
        }
    }
    Ok(())
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
            Some(BoundText::Null) => {
                return Err(Error::invalid(format!("partition {partition}: NULL cannot be the bound of a range")));
            }
            Some(BoundText::Value(text)) => Bound::Value(
                Scalar::parse(*kind, text)
                    .map_err(|error| Error::new(error.kind(), format!("partition {partition}: {}", error.message())))?,
            ),
        });
    }
    Ok(bounds)
}

fn no_overlap(existing: &[(String, KeyRange)], new: &[(String, KeyRange)], kinds: &[ColumnType]) -> Result<()> {
    let mut sorted: Vec<(&(String, KeyRange), bool)> = existing.iter().map(|one| (one, false)).collect();
    sorted.extend(new.iter().map(|one| (one, true)));
    sorted.sort_unstable_by(|((_, left), _), ((_, right), _)| left.lower.cmp(&right.lower));
    for pair in sorted.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if !first.0.1.overlaps(&second.0.1) {
            continue;
        }
        // The one that is added is at fault; of two, the later one.
        let ((name, range), (other, theirs)) = if second.1 { (second.0, first.0) } else { (first.0, second.0) };
        return Err(Error::invalid(format!(
            "Range {} of partition {name} is intersected with range: {} of partition {other}",
            range.format(kinds),
            theirs.format(kinds)
        )));
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
        assert_eq!(ranges[0].1, KeyRange::new(vec![value(1), Bound::Min], vec![value(5), value(3)]));
        assert_eq!(ranges[1].1, KeyRange::new(vec![value(5), value(3)], vec![value(9), Bound::Min]));
        assert_eq!(
            shown(vec![between("a", &["1"], &["2"]), between("b", &["7"], &["MAX"])], &kinds[..1]).unwrap().len(),
            2
        );
    }

    #[test]
    fn impossible_partitions_are_named() {
        let kinds = [ColumnType::TinyInt];
        for (partitions, text) in [
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
    fn a_partition_that_joins_others_starts_where_the_one_below_ends() {
        let kinds = [ColumnType::Int];
        let bound = |n: i128| vec![Bound::Value(Scalar::Int(n))];
        let existing = vec![
            ("a".to_owned(), KeyRange::new(bound(0), bound(10))),
            ("b".to_owned(), KeyRange::new(bound(20), bound(30))),
        ];
        let add = |def: PartitionDef| added(&[def], false, &existing, &kinds).map(|mut made| made.remove(0).1);
        assert_eq!(add(less_than("c", &["40"])), Ok(KeyRange::new(bound(30), bound(40))));
        assert_eq!(add(less_than("c", &["15"])), Ok(KeyRange::new(bound(10), bound(15))));
        assert_eq!(add(less_than("c", &["0"])), Ok(KeyRange::new(vec![Bound::Min], bound(0))));
        for (def, text) in [
            (less_than("c", &["25"]), "of partition c is intersected with range"),
            (between("c", &["-5"], &["1"]), "of partition c is intersected"),
            (less_than("A", &["50"]), "Duplicated partition name: A"),
        ] {
            assert!(add(def).unwrap_err().message().contains(text));
        }
    }

    #[test]
    fn lists_have_keys_that_no_other_has() {
        let kinds = [ColumnType::Varchar { length: 3 }, ColumnType::Int];
        let value = |text: &str| match text {
            "NULL" => BoundText::Null,
            "MAX" => BoundText::MaxValue,
            text => BoundText::Value(text.to_owned()),
        };
        let def = |name: &str, keys: &[[&str; 2]]| PartitionDef {
            name: name.to_owned(),
            values: PartitionValues::In(keys.iter().map(|key| key.iter().map(|text| value(text)).collect()).collect()),
            properties: Default::default(),
        };
        let made = added(&[def("a", &[["x", "1"], ["NULL", "2"]])], true, &[], &kinds).unwrap();
        assert_eq!(
            made[0].1.format(&kinds),
            "[types: [VARCHAR, INT]; keys: [x, 1]; types: [VARCHAR, INT]; keys: [NULL, 2]; ]"
        );
        for (def, text) in [
            (def("b", &[["NULL", "2"]]), "is conflict with current partitionKeys[a]"),
            (def("b", &[["y", "1"], ["y", "1"]]), "has duplicate item"),
            (def("b", &[["MAX", "1"]]), "MAXVALUE"),
            (def("b", &[["y", "z"]]), "'z' is not a value"),
            (def("b", &[["long", "1"]]), "too long"),
            (less_than("b", &["1"]), "needs VALUES IN"),
        ] {
            let error = added(&[def], true, &made, &kinds).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
        let in_range = added(&[def("b", &[["x", "1"]])], false, &[], &kinds);
        assert!(in_range.unwrap_err().message().contains("cannot have VALUES IN"));
    }

    #[test]
    fn partition_columns_are_range_keys_of_the_table() {
        let schema = Schema {
            columns: vec![column("D", ColumnType::Date), column("s", ColumnType::String)],
            model: coffer_table::Model::Duplicate,
        };
        let check = |names: &[&str]| columns(&partition_by(names, vec![]), &schema, "t");
        assert_eq!(check(&["d"]).unwrap(), ["D"]);
        assert_eq!(check(&["x"]).unwrap_err().number(), 1054);
        assert!(check(&["s"]).unwrap_err().message().contains("cannot be a range partition key"));
        assert!(check(&["d", "D"]).unwrap_err().message().contains("Duplicated"));
        assert!(check(&[]).is_err());
    }
}
