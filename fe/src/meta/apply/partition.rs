//! ALTER TABLE: partitions come and go, things get other names.

use super::bin;
use super::catalog::{check_placement, free_of_restore, known_database, known_table, known_table_mut, make_partition};
use crate::catalog::bin::Dropped;
use crate::catalog::table::Table;
use crate::error::{self, Error, Result, number};
use crate::limits;
use crate::meta::command::{NewPartition, Outcome};
use crate::meta::state::State;
use coffer_proto::ids::{DbId, PartitionId, TableId};

pub(super) fn add(
    state: &mut State,
    (db, table): (DbId, TableId),
    partitions: &[NewPartition],
    now_ms: u64,
) -> Result<Outcome> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    if known.partition_columns.is_empty() {
        return Err(Error::invalid("Only support adding partition to range and list partitioned table"));
    }
    if known.partitions.len() + partitions.len() > limits::MAX_PARTITIONS_PER_TABLE {
        let most = limits::MAX_PARTITIONS_PER_TABLE;
        return Err(Error::limit(format!("a table has at most {most} partitions, '{}' would have more", known.name)));
    }
    for (at, partition) in partitions.iter().enumerate() {
        let namesake = partitions[..at].iter().any(|other| other.name.eq_ignore_ascii_case(&partition.name));
        if namesake || known.partition(&partition.name).is_some() {
            return Err(duplicate(&partition.name));
        }
        let Some(range) = &partition.range else {
            return Err(Error::bug(format!("partition {} has neither range nor list", partition.name)));
        };
        let mut others = known.partitions.values().map(|other| (&other.name, &other.range));
        let mut new = partitions[..at].iter().map(|other| (&other.name, &other.range));
        let clashes = |(_, other): &(&String, &Option<coffer_table::KeyRange>)| {
            other.as_ref().is_some_and(|other| other.overlaps(range))
        };
        if let Some((other, theirs)) = others.find(clashes).or_else(|| new.find(clashes)) {
            let kinds = known.partition_kinds();
            let theirs = theirs.as_ref().map(|theirs| theirs.format(&kinds)).unwrap_or_default();
            let word = if range.list.is_empty() { "Range" } else { "List" };
            return Err(Error::conflict(format!(
                "{word} {} of partition {} is intersected with {}: {theirs} of partition {other}",
                range.format(&kinds),
                partition.name,
                word.to_ascii_lowercase(),
            )));
        }
        check_placement(state, &partition.placement)?;
    }
    for partition in partitions {
        let made = make_partition(state, partition, now_ms);
        known_table_mut(state, db, table)?.partitions.insert(made.id, made);
    }
    Ok(Outcome::Done)
}

/// "Duplicate partition name".
pub(super) fn duplicate(name: &str) -> Error {
    Error::already_exists(format!("Duplicate partition name {name}")).numbered(number::SAME_PARTITION)
}

pub(super) fn drop(
    state: &mut State,
    (db, table): (DbId, TableId),
    partition: PartitionId,
    recycle_ms: Option<u64>,
) -> Result<Outcome> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    if known.partition_columns.is_empty() {
        return Err(Error::invalid(format!("Alter table [{}] failed. Not a partitioned table", known.name)));
    }
    let Some(found) = known.partitions.get(&partition) else {
        return Err(error::unknown_partition(&partition.to_string(), &known.name));
    };
    if recycle_ms.is_some() && found.committed_version > found.visible_version {
        return Err(bin::not_yet("partition", &found.name));
    }
    let gone = known_table_mut(state, db, table)?.partitions.remove(&partition);
    if let (Some(now_ms), Some(partition)) = (recycle_ms, gone) {
        bin::put(state, Dropped::Partition { db, table, partition }, now_ms);
    }
    Ok(Outcome::Done)
}

pub(super) fn rename_table(state: &mut State, (db, table): (DbId, TableId), name: &str) -> Result<Outcome> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    if known.name == name {
        return Err(Error::invalid("Same table name"));
    }
    if known_database(state, db)?.has(name) {
        return Err(Error::already_exists(format!("Table name[{name}] is already used")).numbered(number::TABLE_EXISTS));
    }
    if let Some(job) = state.restore_creating(db, name) {
        return Err(Error::conflict(format!("Table '{name}' is being created by restore job {}", job.id)));
    }
    take_name(known_table_mut(state, db, table)?, name);
    Ok(Outcome::Done)
}

/// The partition of a table without partitions has the table's name.
pub(super) fn take_name(table: &mut Table, name: &str) {
    name.clone_into(&mut table.name);
    if table.partition_columns.is_empty() {
        table.partitions.values_mut().for_each(|partition| name.clone_into(&mut partition.name));
    }
}

pub(super) fn rename(
    state: &mut State,
    (db, table): (DbId, TableId),
    partition: PartitionId,
    name: &str,
) -> Result<Outcome> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    if known.partition_columns.is_empty() {
        return Err(Error::invalid(format!(
            "Table [{}] is single partitioned. no need to rename partition name.",
            known.name
        )));
    }
    match known.partition(name) {
        Some(other) if other.id == partition && other.name == name => {
            return Err(Error::invalid("Same partition name"));
        }
        Some(other) if other.id != partition => {
            return Err(Error::already_exists(format!("Partition name[{name}] is already used")));
        }
        Some(_) | None => {}
    }
    match known_table_mut(state, db, table)?.partitions.get_mut(&partition) {
        Some(found) => name.clone_into(&mut found.name),
        None => return Err(Error::not_found(format!("Partition[{partition}] does not exists"))),
    }
    Ok(Outcome::Done)
}

pub(super) fn rename_database(state: &mut State, db: DbId, name: &str) -> Result<Outcome> {
    let known = known_database(state, db)?;
    if known.name == name {
        return Err(Error::invalid("Same database name"));
    }
    if state.find_database(name).is_some() {
        return Err(Error::already_exists(format!("Database name[{name}] is already used")));
    }
    if let Some(database) = state.databases.get_mut(&db) {
        name.clone_into(&mut database.name);
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use crate::meta::definition::Definition;
    use coffer_table::{Bound, KeyRange, Scalar};

    fn partition(sample: &Sample, name: &str, lower: i128, upper: i128) -> NewPartition {
        let bound = |n| vec![Bound::Value(Scalar::Int(n))];
        NewPartition {
            name: name.to_owned(),
            range: Some(KeyRange::new(bound(lower), bound(upper))),
            replication_num: 2,
            placement: sample.placement(),
        }
    }

    fn adding(sample: &Sample, partitions: Vec<NewPartition>) -> Command {
        Command::Define(Definition::AddPartitions { db: sample.db, table: sample.table, partitions, now_ms: 7 })
    }

    #[test]
    fn partitions_are_added_when_name_and_range_are_free() {
        let mut sample = Sample::new();
        let new = vec![partition(&sample, "p3", 20, 30), partition(&sample, "p4", 40, 50)];
        let add = adding(&sample, new);
        sample.ok(&add);
        let table = sample.table();
        assert_eq!((table.partitions.len(), table.partition("p4").unwrap().visible_version), (4, 1));
        sample.refuses(&add, ErrorKind::AlreadyExists, "Duplicate partition name p3");
        let over = adding(&sample, vec![partition(&sample, "p5", 29, 31)]);
        sample.refuses(&over, ErrorKind::Conflict, "of partition p5 is intersected with range");
        let both = adding(&sample, vec![partition(&sample, "p5", 60, 70), partition(&sample, "p6", 65, 80)]);
        sample.refuses(&both, ErrorKind::Conflict, "of partition p5");
        let mut lost = partition(&sample, "p5", 60, 70);
        lost.placement[0][0] = coffer_proto::ids::BackendId(1);
        let lost = adding(&sample, vec![lost]);
        sample.refuses(&lost, ErrorKind::Conflict, "dropped meanwhile");
    }

    #[test]
    fn partitions_are_dropped_into_the_bin_or_for_good() {
        let mut sample = Sample::new();
        let (db, table) = (sample.db, sample.table);
        let drop =
            |partition, recycle_ms| Command::Define(Definition::DropPartition { db, table, partition, recycle_ms });
        let (p1, p2) = (sample.partition("p1"), sample.partition("p2"));
        sample.ok(&drop(p1, Some(9)));
        assert_eq!(sample.state.claimed_tablets().len(), 4);
        sample.ok(&drop(p2, None));
        assert_eq!(sample.state.claimed_tablets().len(), 2);
        assert!(sample.table().partitions.is_empty() && sample.state.bin.len() == 1);
        sample.refuses(&drop(p2, None), ErrorKind::NotFound, "Unknown partition");
    }

    #[test]
    fn a_partition_with_a_load_on_its_way_is_dropped_only_by_force() {
        let mut sample = Sample::new();
        let (db, table, p1) = (sample.db, sample.table, sample.partition("p1"));
        let transaction = sample.begin("l");
        let commit =
            Command::CommitTransaction { transaction, partitions: vec![p1], rows: 1, tablets: Vec::new(), now_ms: 1 };
        sample.ok(&commit);
        let drop = |recycle_ms| Command::Define(Definition::DropPartition { db, table, partition: p1, recycle_ms });
        sample.refuses(&drop(Some(1)), ErrorKind::Conflict, "still some transactions in the COMMITTED state");
        let whole = Command::Define(Definition::RecycleTable { db, table, now_ms: 1 });
        sample.refuses(&whole, ErrorKind::Conflict, "The table [t] cannot be dropped");
        sample.ok(&drop(None));
    }

    #[test]
    fn names_change_when_they_are_free() {
        let mut sample = Sample::new();
        let (db, table, p1) = (sample.db, sample.table, sample.partition("p1"));
        let other = sample.new_table("other");
        sample.create(&Command::CreateTable(other));
        let table_to = |name: &str| Command::Define(Definition::RenameTable { db, table, name: name.to_owned() });
        sample.refuses(&table_to("t"), ErrorKind::Invalid, "Same table name");
        sample.refuses(&table_to("other"), ErrorKind::AlreadyExists, "Table name[other] is already used");
        sample.ok(&table_to("T"));
        assert_eq!(sample.table().name, "T");
        let to = |name: &str| {
            Command::Define(Definition::RenamePartition { db, table, partition: p1, name: name.to_owned() })
        };
        sample.refuses(&to("p1"), ErrorKind::Invalid, "Same partition name");
        sample.refuses(&to("P2"), ErrorKind::AlreadyExists, "Partition name[P2] is already used");
        sample.ok(&to("P1"));
        sample.ok(&to("q"));
        assert_eq!(sample.partition("q"), p1);
        let database = |name: &str| Command::Define(Definition::RenameDatabase { db, name: name.to_owned() });
        sample.refuses(&database("db"), ErrorKind::Invalid, "Same database name");
        sample.create(&Command::CreateDatabase { name: "taken".to_owned() });
        sample.refuses(&database("taken"), ErrorKind::AlreadyExists, "is already used");
        sample.ok(&database("new"));
        assert!(sample.state.find_database("new").is_some());
    }
}
