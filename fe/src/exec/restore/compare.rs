//! Whether a table of a snapshot fits into a table that exists, and the first difference if not. Pure.

use crate::catalog::table::{Partition, Table};
use crate::error::{Error, Result};
use crate::exec::ddl::COLOCATE_WITH;
use coffer_repo::{PartitionMeta, TableMeta};
use coffer_table::{Aggregate, Column};

/// Check a whole table. `alone`: partitions that are not restored do not stay, so none of them is in the way.
pub(super) fn fits(existing: &Table, wanted: &TableMeta, alone: bool) -> Result<()> {
    let name = &existing.name;
    if existing.properties.contains_key(COLOCATE_WITH) {
        return Err(Error::conflict(format!("Not support to restore to local table {name} with colocate group.")));
    }
    let kind = |columns: &[String], list: bool| (!columns.is_empty(), list);
    if kind(&existing.partition_columns, existing.partitioning.list) != kind(&wanted.partition_columns, wanted.list) {
        return Err(Error::conflict(format!("Table's partition type is different: table {name}")));
    }
    if let Some(difference) = first_difference(existing, wanted) {
        return Err(Error::conflict(format!("Table {name} already exist but with different schema: {difference}")));
    }
    wanted.partitions.iter().try_for_each(|partition| partition_fits(existing, partition, alone))
}

fn first_difference(existing: &Table, wanted: &TableMeta) -> Option<String> {
    let (here, there) = (&existing.schema.columns, &wanted.schema.columns);
    let (model, other) = (existing.schema.model, wanted.schema.model);
    if model != other {
        return Some(format!("the key model is {model} KEY here and {other} KEY in the snapshot"));
    }
    let differs = here.iter().zip(there).position(|(here, there)| describe(here) != describe(there));
    if let Some(at) = differs {
        let (here, there) = (shown(&here[at]), shown(&there[at]));
        return Some(format!("column {} is {here} here and {there} in the snapshot", at + 1));
    }
    if here.len() != there.len() {
        return Some(format!("it has {} columns here and {} in the snapshot", here.len(), there.len()));
    }
    let names = |what: &str, here: &[String], there: &[String]| {
        let same = here.len() == there.len() && here.iter().zip(there).all(|(a, b)| a.eq_ignore_ascii_case(b));
        let show = |names: &[String]| format!("({})", names.join(", "));
        (!same).then(|| format!("{what} are {} here and {} in the snapshot", show(here), show(there)))
    };
    names("partition columns", &existing.partition_columns, &wanted.partition_columns)
        .or_else(|| names("distribution columns", &existing.bucket_columns, &wanted.bucket_columns))
}

/// What makes a column the same for restored files.
fn describe(column: &Column) -> (String, coffer_table::ColumnType, bool, bool, Option<Aggregate>) {
    (column.name.to_ascii_lowercase(), column.kind, column.nullable, column.key, column.aggregate)
}

fn shown(column: &Column) -> String {
    let null = if column.nullable { "" } else { " not null" };
    let key = if column.key { " key" } else { "" };
    let aggregate = column.aggregate.map_or_else(String::new, |aggregate| format!(" {aggregate}"));
    format!("'{} {}{aggregate}{null}{key}'", column.name, column.kind)
}

fn partition_fits(existing: &Table, wanted: &PartitionMeta, alone: bool) -> Result<()> {
    let (table, name) = (&existing.name, &wanted.name);
    let Some(here) = counterpart(existing, wanted) else {
        if alone {
            return Ok(());
        }
        let clashes = |other: &Partition| match (&other.range, &wanted.range) {
            (Some(other), Some(wanted)) => other.overlaps(wanted),
            (None, _) | (_, None) => true,
        };
        return match existing.partitions.values().find(|other| clashes(other)) {
            Some(other) => Err(Error::conflict(format!(
                "Partition {name} in table {table} has conflict partition item with existing items: it overlaps {}",
                other.name
            ))),
            None => Ok(()),
        };
    };
    if here.range != wanted.range {
        return Err(Error::conflict(format!(
            "Partition {name} in table {table} has different partition item with partition in repository"
        )));
    }
    if here.tablets.len() != wanted.tablets.len() {
        return Err(Error::conflict(format!(
            "Table {table} already exist but with different schema: partition {name} has {} buckets here and {} in the \
             snapshot",
            here.tablets.len(),
            wanted.tablets.len()
        )));
    }
    Ok(())
}

/// The partition here that the one of the snapshot replaces: that of the same name, or the only one of a table without
/// partitions.
pub(super) fn counterpart<'a>(existing: &'a Table, wanted: &PartitionMeta) -> Option<&'a Partition> {
    if existing.partition_columns.is_empty() {
        return existing.partitions.values().next();
    }
    existing.partition(&wanted.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::backup::sample::table;
    use crate::exec::restore::sample::table_meta;
    use coffer_table::{Bound, ColumnType, Scalar};

    fn refusal(change: impl FnOnce(&mut Table, &mut TableMeta)) -> String {
        let mut existing = table("b", &["p1", "p2"]);
        let mut wanted = table_meta(&existing);
        change(&mut existing, &mut wanted);
        fits(&existing, &wanted, false).map_or_else(|error| error.message().to_owned(), |()| String::new())
    }

    #[test]
    fn the_same_table_fits_whatever_its_comments_and_defaults() {
        assert_eq!(refusal(|_, _| ()), "");
        assert_eq!(refusal(|here, _| here.schema.columns[1].comment = "c".to_owned()), "");
        assert_eq!(refusal(|here, _| here.schema.columns[1].name = "V".to_owned()), "");
        // A partition that does not exist here and overlaps none.
        assert_eq!(refusal(|here, _| here.partitions.retain(|_, partition| partition.name == "p1")), "");
    }

    #[test]
    fn partitions_that_go_are_not_in_the_way() {
        let existing = table("b", &["p1", "p2"]);
        let mut wanted = table_meta(&existing);
        wanted.partitions[1].name = "p3".to_owned();
        assert!(fits(&existing, &wanted, false).is_err());
        assert_eq!(fits(&existing, &wanted, true), Ok(()));
    }

    #[test]
    fn the_first_difference_is_named() {
        let schema = "Table b already exist but with different schema: ";
        for (change, text) in [
            (
                (|here, _| here.schema.columns[1].kind = ColumnType::BigInt) as fn(&mut Table, &mut TableMeta),
                format!("{schema}column 2 is 'v bigint' here and 'v int' in the snapshot"),
            ),
            (
                |_, there| there.schema.model = coffer_table::Model::Unique,
                format!("{schema}the key model is DUPLICATE KEY here and UNIQUE KEY in the snapshot"),
            ),
            (
                |here, there| {
                    (here.schema.model, there.schema.model) =
                        (coffer_table::Model::Aggregate, coffer_table::Model::Aggregate);
                    here.schema.columns[1].aggregate = Some(Aggregate::Sum);
                    there.schema.columns[1].aggregate = Some(Aggregate::ReplaceIfNotNull);
                },
                format!("{schema}column 2 is 'v int SUM' here and 'v int REPLACE_IF_NOT_NULL' in the snapshot"),
            ),
            (
                |_, there| drop(there.schema.columns.pop()),
                format!("{schema}it has 2 columns here and 1 in the snapshot"),
            ),
            (
                |here, _| here.bucket_columns = Vec::new(),
                format!("{schema}distribution columns are () here and (k) in the snapshot"),
            ),
            (
                |here, _| here.partition_columns = vec!["v".to_owned()],
                format!("{schema}partition columns are (v) here and (k) in the snapshot"),
            ),
            (
                |_, there| there.partitions[0].tablets.truncate(1),
                format!("{schema}partition p1 has 2 buckets here and 1 in the snapshot"),
            ),
            (|here, _| here.partition_columns = Vec::new(), "Table's partition type is different: table b".to_owned()),
            (
                |here, _| drop(here.properties.insert(COLOCATE_WITH.to_owned(), "g".to_owned())),
                "Not support to restore to local table b with colocate group.".to_owned(),
            ),
            (
                |_, there| there.partitions[1].name = "p3".to_owned(),
                "Partition p3 in table b has conflict partition item with existing items: it overlaps p2".to_owned(),
            ),
            (
                |_, there| {
                    if let Some(range) = &mut there.partitions[1].range {
                        range.upper = vec![Bound::Value(Scalar::Int(99))];
                    }
                },
                "Partition p2 in table b has different partition item with partition in repository".to_owned(),
            ),
        ] {
            assert_eq!(refusal(change), text);
        }
    }
}
