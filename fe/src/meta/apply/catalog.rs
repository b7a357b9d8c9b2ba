//! Databases and tables.

use crate::catalog::database::Database;
use crate::catalog::map::Map;
use crate::catalog::table::{FIRST_VERSION, Partition, Table, Tablet};
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::{NewPartition, NewTable, Outcome, Placement};
use crate::meta::state::State;
use coffer_proto::ids::{DbId, PartitionId, TableId, TabletId};
use std::collections::BTreeMap;

pub(super) fn create_database(state: &mut State, name: &str) -> Result<Outcome> {
    if state.find_database(name).is_some() {
        return Err(error::database_exists(name));
    }
    if state.databases.len() >= limits::MAX_DATABASES {
        return Err(Error::limit(format!("the cluster has {} databases, which is the limit", limits::MAX_DATABASES)));
    }
    let id = DbId(state.take_id());
    state.databases.insert(id, Database::new(id, name));
    Ok(Outcome::Created(id.0))
}

pub(super) fn drop_database(state: &mut State, db: DbId) -> Result<Outcome> {
    free_of_jobs(state, known_database(state, db)?)?;
    state.databases.remove(&db);
    state.transactions.retain(|_, transaction| transaction.db != db);
    state.backups.retain(|_, job| job.db != db || !job.cleaned);
    state.restores.retain(|_, job| job.db != db || !job.cleaned);
    Ok(Outcome::Done)
}

pub(super) fn free_of_jobs(state: &State, database: &Database) -> Result<()> {
    match state.running_job(database.id) {
        Some(job) => Err(Error::conflict(format!(
            "database '{}' is in use by job {} with label {}; wait for it or cancel it",
            database.name, job.id, job.label
        ))),
        None => Ok(()),
    }
}

pub(super) fn create_table(state: &mut State, new: &NewTable) -> Result<Outcome> {
    let database = known_database(state, new.db)?;
    if database.has(&new.name) {
        return Err(error::table_exists(&new.name));
    }
    if let Some(job) = state.restore_creating(new.db, &new.name) {
        return Err(Error::conflict(format!("Table '{}' is being created by restore job {}", new.name, job.id)));
    }
    if database.tables.len() >= limits::MAX_TABLES_PER_DATABASE {
        let most = limits::MAX_TABLES_PER_DATABASE;
        return Err(Error::limit(format!("database '{}' has {most} tables, which is the limit", database.name)));
    }
    for partition in &new.partitions {
        check_placement(state, &partition.placement)?;
    }
    let id = TableId(state.take_id());
    let mut partitions = Map::new();
    for partition in &new.partitions {
        let made = make_partition(state, partition, new.now_ms);
        partitions.insert(made.id, made);
    }
    let table = Table {
        id,
        name: new.name.clone(),
        schema: new.schema.clone(),
        partition_columns: new.partition_columns.clone(),
        partitioning: new.partitioning,
        bucket_columns: new.bucket_columns.clone(),
        properties: new.properties.clone(),
        comment: new.comment.clone(),
        created_ms: new.now_ms,
        had_deletes: false,
        partitions,
    };
    known_database_mut(state, new.db)?.tables.insert(id, table);
    Ok(Outcome::Created(id.0))
}

pub(super) fn drop_table(state: &mut State, db: DbId, table: TableId) -> Result<Outcome> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    known_database_mut(state, db)?.tables.remove(&table);
    Ok(Outcome::Done)
}

/// New partition ids too: a load that was open keeps the old ones and is refused at its commit.
pub(super) fn truncate(
    state: &mut State,
    (db, table): (DbId, TableId),
    partitions: &[(PartitionId, Placement)],
    now_ms: u64,
) -> Result<Outcome> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    for (partition, placement) in partitions {
        let old = known.partitions.get(partition).ok_or_else(|| {
            Error::conflict(format!("partition {partition} of table '{}' is gone; try again", known.name))
        })?;
        if old.tablets.len() != placement.len() {
            return Err(Error::bug(format!("TRUNCATE of partition {} changes its buckets", old.name)));
        }
        check_placement(state, placement)?;
    }
    for (partition, placement) in partitions {
        let id = PartitionId(state.take_id());
        let tablets = make_tablets(state, placement);
        let known = known_table_mut(state, db, table)?;
        if let Some(old) = known.partitions.remove(partition) {
            let made = Partition {
                id,
                visible_version: FIRST_VERSION,
                visible_ms: now_ms,
                committed_version: FIRST_VERSION,
                tablets,
                ..old
            };
            known.partitions.insert(id, made);
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn set_properties(
    state: &mut State,
    (db, table): (DbId, TableId),
    properties: &BTreeMap<String, String>,
) -> Result<Outcome> {
    let known = known_table_mut(state, db, table)?;
    let mut merged = known.properties.clone();
    for (key, value) in properties {
        if value.is_empty() {
            merged.remove(key);
        } else {
            merged.insert(key.clone(), value.clone());
        }
    }
    if merged.len() > limits::MAX_PROPERTIES {
        return Err(Error::limit(format!(
            "table '{}' would have more than {} properties",
            known.name,
            limits::MAX_PROPERTIES
        )));
    }
    known.properties = merged;
    Ok(Outcome::Done)
}

pub(super) fn make_partition(state: &mut State, new: &NewPartition, now_ms: u64) -> Partition {
    Partition {
        id: PartitionId(state.take_id()),
        name: new.name.clone(),
        range: new.range.clone(),
        replication_num: new.replication_num,
        visible_version: FIRST_VERSION,
        visible_ms: now_ms,
        committed_version: FIRST_VERSION,
        tablets: make_tablets(state, &new.placement),
    }
}

fn make_tablets(state: &mut State, placement: &Placement) -> Vec<Tablet> {
    placement.iter().map(|replicas| Tablet { id: TabletId(state.take_id()), replicas: replicas.clone() }).collect()
}

pub(super) fn check_placement(state: &State, placement: &Placement) -> Result<()> {
    for replicas in placement {
        for (at, backend) in replicas.iter().enumerate() {
            if !state.backends.contains_key(backend) {
                return Err(Error::conflict(format!("backend {backend} was dropped meanwhile; try again")));
            }
            if replicas[..at].contains(backend) {
                return Err(Error::bug(format!("two replicas of one tablet on backend {backend}")));
            }
        }
        if replicas.is_empty() {
            return Err(Error::bug("a tablet without replicas"));
        }
    }
    Ok(())
}

pub(super) fn free_of_restore(state: &State, table: &Table) -> Result<()> {
    match state.restore_into(table.id) {
        Some(job) => Err(Error::conflict(format!(
            "table '{}' is being restored by job {} with label {}; wait for it or cancel it",
            table.name, job.id, job.label
        ))),
        None => Ok(()),
    }
}

pub(super) fn known_database(state: &State, db: DbId) -> Result<&Database> {
    state.databases.get(&db).ok_or_else(|| error::unknown_database(&db.to_string()))
}

pub(super) fn known_database_mut(state: &mut State, db: DbId) -> Result<&mut Database> {
    state.databases.get_mut(&db).ok_or_else(|| error::unknown_database(&db.to_string()))
}

pub(super) fn known_table(state: &State, db: DbId, table: TableId) -> Result<&Table> {
    known_database(state, db)?.tables.get(&table).ok_or_else(|| error::unknown_table(&table.to_string()))
}

pub(super) fn known_table_mut(state: &mut State, db: DbId, table: TableId) -> Result<&mut Table> {
    known_database_mut(state, db)?.tables.get_mut(&table).ok_or_else(|| error::unknown_table(&table.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use coffer_proto::ids::BackendId;

    #[test]
    fn databases_come_and_go() {
        let mut sample = Sample::new();
        let twice = Command::CreateDatabase { name: "db".to_owned() };
        assert_eq!(sample.refused(&twice).number(), 1007);
        // Case matters.
        sample.create(&Command::CreateDatabase { name: "DB".to_owned() });
        let transaction = sample.begin("l");
        let job = sample.backup();
        let drop = Command::DropDatabase { db: sample.db };
        sample.refuses(&drop, ErrorKind::Conflict, "in use by job");
        let error = crate::catalog::job::JobError { kind: "CANCELLED".to_owned(), message: "user".to_owned() };
        sample.ok(&Command::CancelJob { job, error, now_ms: 1 });
        sample.ok(&drop);
        assert!(!sample.state.transactions.contains_key(&transaction));
        // The job still owns snapshots: its record goes when they are gone.
        assert!(sample.state.backups.contains_key(&job));
        sample.ok(&Command::JobCleaned { job });
        assert!(sample.state.backups.is_empty());
        sample.refuses(&drop, ErrorKind::NotFound, "Unknown database");
    }

    #[test]
    fn a_table_gets_ids_that_nothing_else_has() {
        let sample = Sample::new();
        let table = sample.table();
        assert_eq!(table.partitions.len(), 2);
        let mut ids: Vec<u64> = table.tablets().map(|(_, tablet)| tablet.id.0).collect();
        ids.extend(table.partitions.keys().map(|id| id.0));
        ids.push(table.id.0);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4 + 2 + 1);
        assert!(sample.state.next_id > ids[6]);
        assert!(table.partitions.values().all(|partition| partition.visible_version == FIRST_VERSION));
    }

    #[test]
    fn a_table_is_refused_when_its_name_or_place_is_taken() {
        let mut sample = Sample::new();
        assert_eq!(sample.refused(&Command::CreateTable(sample.new_table("t"))).number(), 1050);
        let mut elsewhere = sample.new_table("u");
        elsewhere.db = DbId(1);
        assert_eq!(sample.refused(&Command::CreateTable(elsewhere)).number(), 1049);
        for (placement, kind, text) in [
            (vec![vec![BackendId(1)]], ErrorKind::Conflict, "dropped meanwhile"),
            (vec![vec![sample.backends[0], sample.backends[0]]], ErrorKind::Bug, "two replicas"),
            (vec![vec![]], ErrorKind::Bug, "without replicas"),
        ] {
            let mut new = sample.new_table("u");
            new.partitions[1].placement = placement;
            sample.refuses(&Command::CreateTable(new), kind, text);
        }
    }

    #[test]
    fn dropping_a_table_takes_its_tablets_off_the_claims() {
        let mut sample = Sample::new();
        assert_eq!(sample.state.claimed_tablets().len(), 4);
        let drop = Command::DropTable { db: sample.db, table: sample.table };
        sample.ok(&drop);
        assert!(sample.state.claimed_tablets().is_empty());
        assert_eq!(sample.refused(&drop).number(), 1051);
    }

    #[test]
    fn truncate_makes_new_partitions_and_tablets() {
        let mut sample = Sample::new();
        let old = sample.table().clone();
        let p1 = sample.partition("p1");
        let truncate = |partitions| Command::Truncate { db: sample.db, table: sample.table, partitions, now_ms: 9 };
        let command = truncate(vec![(p1, sample.placement())]);
        let wrong = truncate(vec![(p1, vec![vec![sample.backends[0]]])]);
        let gone = truncate(vec![(PartitionId(1), sample.placement())]);
        sample.refuses(&wrong, ErrorKind::Bug, "buckets");
        sample.refuses(&gone, ErrorKind::Conflict, "is gone");
        sample.ok(&command);
        let new = sample.table();
        assert_eq!(new.partitions.len(), 2);
        let (before, after) = (old.partition("p1").unwrap(), new.partition("p1").unwrap());
        assert!(before.id != after.id && before.range == after.range && before.tablets[0].id != after.tablets[0].id);
        assert_eq!(old.partition("p2"), new.partition("p2"));
    }

    #[test]
    fn properties_merge_and_an_empty_value_removes() {
        let mut sample = Sample::new();
        let (db, table) = (sample.db, sample.table);
        let set = |key: &str, value: &str| Command::SetProperties {
            db,
            table,
            properties: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        };
        sample.ok(&set("colocate_with", "g"));
        assert_eq!(sample.table().properties.len(), 2);
        sample.ok(&set("colocate_with", ""));
        assert_eq!(sample.table().properties.len(), 1);
        let many = (0..limits::MAX_PROPERTIES).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        sample.refuses(&Command::SetProperties { db, table, properties: many }, ErrorKind::Limit, "properties");
    }
}
