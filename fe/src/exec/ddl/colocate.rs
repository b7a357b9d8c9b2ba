//! Colocation groups (`colocate_with`): tables of one database whose buckets of the same number lie on the same backends.
//! Pure.
//!
//! A group is what its tables say: it begins with the first table that names it and ends with the last. All its tables
//! have the same number and types of distribution columns, buckets and replicas; the places of a new partition are those
//! of a partition that is there.

use crate::catalog::database::Database;
use crate::catalog::table::Table;
use crate::error::{Error, Result};
use crate::meta::command::Placement;
use coffer_table::ColumnType;

/// What a table must have in common with its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) buckets: u32,
    pub(crate) replicas: u32,
    /// Names and types of the distribution columns.
    pub(crate) columns: Vec<(String, ColumnType)>,
}

impl Shape {
    /// That of a table; `None` when nothing says how many buckets it has.
    pub(crate) fn of(table: &Table) -> Option<Shape> {
        let column = |name: &String| Some((name.clone(), table.schema.columns[table.schema.index_of(name)?].kind));
        Some(Shape {
            buckets: table.new_buckets()?,
            replicas: table.new_replicas()?,
            columns: table.bucket_columns.iter().filter_map(column).collect(),
        })
    }
}

/// The group of a table.
pub(crate) fn group_of(table: &Table) -> Option<&str> {
    table.group()
}

fn members<'a>(database: &'a Database, group: &'a str) -> impl Iterator<Item = &'a Table> {
    database.tables.values().filter(move |table| group_of(table) == Some(group))
}

/// Where the buckets of a group lie; `None` while no table of it has a partition.
pub(crate) fn places(database: &Database, group: &str) -> Option<Placement> {
    let partition = members(database, group).find_map(|table| table.partitions.values().next())?;
    Some(partition.tablets.iter().map(|tablet| tablet.replicas.clone()).collect())
}

/// Whether a table of this shape may join a group.
pub(crate) fn check(database: &Database, group: &str, shape: &Shape) -> Result<()> {
    if shape.columns.is_empty() {
        return Err(Error::invalid("Random distribution for colocate table is unsupported"));
    }
    let Some(theirs) = members(database, group).find_map(Shape::of) else { return Ok(()) };
    let wrong = |text: String| Err(Error::invalid(text));
    if theirs.buckets != shape.buckets {
        return wrong(format!(
            "Colocate tables must have same bucket num: {} should be {}",
            shape.buckets, theirs.buckets
        ));
    }
    if theirs.columns.len() != shape.columns.len() {
        return wrong(format!("Colocate tables distribution columns size must be same : {}", theirs.columns.len()));
    }
    for ((name, kind), (_, wanted)) in shape.columns.iter().zip(&theirs.columns) {
        if kind != wanted {
            return wrong(format!(
                "Colocate tables distribution columns must have the same data type: {name} should be {wanted}"
            ));
        }
    }
    if theirs.replicas != shape.replicas {
        return wrong(format!(
            "Colocate tables must have same replication num: {} should be {}",
            shape.replicas, theirs.replicas
        ));
    }
    Ok(())
}

/// Whether every partition of a table lies as its group does, so that it may join as it is.
pub(crate) fn lies_as(table: &Table, places: &Placement) -> bool {
    table.partitions.values().all(|partition| {
        partition.tablets.len() == places.len()
            && partition.tablets.iter().zip(places).all(|(tablet, place)| tablet.replicas == *place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::table::COLOCATE_WITH;
    use crate::exec::backup::sample::{database, table};
    use coffer_proto::ids::BackendId;

    fn member(name: &str) -> Table {
        let mut member = table(name, &["p1", "p2"]);
        member.properties.insert(COLOCATE_WITH.to_owned(), "g".to_owned());
        member
    }

    #[test]
    fn tables_of_a_group_have_one_shape() {
        let database = database(vec![member("a"), table("b", &["p1"])]);
        let good = Shape::of(&member("c")).unwrap();
        assert_eq!(check(&database, "g", &good), Ok(()));
        for (shape, text) in [
            (Shape { buckets: 9, ..good.clone() }, "same bucket num: 9 should be 2"),
            (Shape { replicas: 3, ..good.clone() }, "same replication num: 3 should be 1"),
            (Shape { columns: Vec::new(), ..good.clone() }, "Random distribution"),
            (Shape { columns: vec![("k".to_owned(), ColumnType::BigInt)], ..good.clone() }, "k should be int"),
            (
                Shape { columns: [good.columns.clone(), good.columns.clone()].concat(), ..good.clone() },
                "size must be same : 1",
            ),
        ] {
            let error = check(&database, "g", &shape).unwrap_err();
            assert!(error.message().contains(text), "{error}");
            assert_eq!(check(&database, "other", &shape).is_ok(), !shape.columns.is_empty());
        }
    }

    #[test]
    fn the_places_are_those_of_a_partition_that_is_there() {
        let here = database(vec![member("a")]);
        let found = places(&here, "g").unwrap();
        assert_eq!(found, [[BackendId(1)], [BackendId(1)]]);
        assert!(lies_as(&table("b", &["p1"]), &found));
        assert!(!lies_as(&table("b", &["p1"]), &vec![vec![BackendId(2)]; 2]));
        assert_eq!(places(&here, "other"), None);
        assert_eq!(group_of(&table("b", &["p1"])), None);
    }
}
