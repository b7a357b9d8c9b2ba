//! Databases and tables.

use crate::catalog::database::Database;
use crate::catalog::table::{FIRST_VERSION, Partition, Table, Tablet};
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::{NewTable, Outcome, Placement};
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
    state.databases.insert(id, Database { id, name: name.to_owned(), tables: BTreeMap::new() });
    Ok(Outcome::Created(id.0))
}

pub(super) fn drop_database(state: &mut State, db: DbId) -> Result<Outcome> {
    let database = known_database(state, db)?;
    if let Some(job) = state.running_job(db) {
        return Err(Error::conflict(format!(
            "database '{}' is in use by job {} with label {}; wait for it or cancel it",
            database.name, job.id, job.label
        )));
    }
    state.databases.remove(&db);
    state.transactions.retain(|_, transaction| transaction.db != db);
    state.backups.retain(|_, job| job.db != db || !job.cleaned);
    state.restores.retain(|_, job| job.db != db || !job.cleaned);
    Ok(Outcome::Done)
}

pub(super) fn create_table(state: &mut State, new: &NewTable) -> Result<Outcome> {
    let database = known_database(state, new.db)?;
    if database.table(&new.name).is_some() {
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
    let mut partitions = BTreeMap::new();
    for partition in &new.partitions {
        let made = Partition {
            id: PartitionId(state.take_id()),
            name: partition.name.clone(),
            range: partition.range.clone(),
            replication_num: partition.replication_num,
            visible_version: FIRST_VERSION,
            visible_ms: new.now_ms,
            committed_version: FIRST_VERSION,
            tablets: make_tablets(state, &partition.placement),
        };
        partitions.insert(made.id, made);
    }
    let table = Table {
        id,
        name: new.name.clone(),
        schema: new.schema.clone(),
        partition_columns: new.partition_columns.clone(),
        bucket_columns: new.bucket_columns.clone(),
        properties: new.properties.clone(),
        comment: new.comment.clone(),
        created_ms: new.now_ms,
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

fn make_tablets(state: &mut State, placement: &Placement) -> Vec<Tablet> {
    placement.iter().map(|replicas| Tablet { id: TabletId(state.take_id()), replicas: replicas.clone() }).collect()
}

fn check_placement(state: &State, placement: &Placement) -> Result<()> {
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

fn free_of_restore(state: &State, table: &Table) -> Result<()> {
    match state.restore_into(table.id) {
        Some(job) => Err(Error::conflict(format!(
            "table '{}' is being restored by job {} with label {}; wait for it or cancel it",
            table.name, job.id, job.label
        ))),
        None => Ok(()),
    }
}

fn known_database(state: &State, db: DbId) -> Result<&Database> {
    state.databases.get(&db).ok_or_else(|| error::unknown_database(&db.to_string()))
}

fn known_database_mut(state: &mut State, db: DbId) -> Result<&mut Database> {
    state.databases.get_mut(&db).ok_or_else(|| error::unknown_database(&db.to_string()))
}

fn known_table(state: &State, db: DbId, table: TableId) -> Result<&Table> {
    known_database(state, db)?.tables.get(&table).ok_or_else(|| error::unknown_table(&table.to_string()))
}

fn known_table_mut(state: &mut State, db: DbId, table: TableId) -> Result<&mut Table> {
    known_database_mut(state, db)?.tables.get_mut(&table).ok_or_else(|| error::unknown_table(&table.to_string()))
}
