//! The recycle bin: into it, back from it, and out of it for good.
//!
//! Tablets of what is in the bin stay claimed, so that backends keep them. Of namesakes only the youngest few stay.

use super::catalog::{free_of_restore, known_database, known_database_mut, known_table, known_table_mut};
use super::partition::{duplicate, take_name};
use crate::catalog::bin::{BinEntry, Dropped};
use crate::catalog::database::Database;
use crate::catalog::table::{Partition, Table};
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::Outcome;
use crate::meta::state::State;
use coffer_proto::ids::{DbId, TableId};

/// Put something there; of namesakes the oldest are gone when there are too many.
pub(super) fn put(state: &mut State, what: Dropped, now_ms: u64) {
    let namesakes: Vec<u64> =
        state.bin.iter().filter(|(_, entry)| entry.what.is_namesake(&what)).map(|(id, _)| *id).collect();
    let mut by_age: Vec<(u64, u64)> = namesakes.iter().map(|id| (state.bin[id].dropped_ms, *id)).collect();
    by_age.sort_unstable();
    let extra = (by_age.len() + 1).saturating_sub(limits::MAX_NAMESAKES_IN_BIN);
    let gone: Vec<u64> = by_age[..extra].iter().map(|(_, id)| *id).collect();
    forget(state, &gone);
    state.bin.insert(what.id(), BinEntry { what, dropped_ms: now_ms });
}

/// Loads are on their way into it: their versions would be missing when it comes back.
pub(super) fn not_yet(what: &str, name: &str) -> Error {
    Error::conflict(format!(
        "There are still some transactions in the COMMITTED state waiting to be completed. The {what} [{name}] cannot be \
         dropped. If you want to forcibly drop(cannot be recovered), please use \"DROP {what} FORCE\""
    ))
}

/// Whether all loads of a partition can be seen.
pub(super) fn is_settled(partition: &Partition) -> bool {
    partition.committed_version <= partition.visible_version
}

pub(super) fn recycle_table(state: &mut State, (db, table): (DbId, TableId), now_ms: u64) -> Result<Outcome> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    if !known.partitions.values().all(is_settled) {
        return Err(not_yet("table", &known.name));
    }
    if let Some(table) = known_database_mut(state, db)?.tables.remove(&table) {
        put(state, Dropped::Table { db, table }, now_ms);
    }
    Ok(Outcome::Done)
}

pub(super) fn recycle_database(state: &mut State, db: DbId, now_ms: u64) -> Result<Outcome> {
    let database = known_database(state, db)?;
    super::catalog::free_of_jobs(state, database)?;
    if !database.tables.values().all(|table| table.partitions.values().all(is_settled)) {
        return Err(not_yet("database", &database.name));
    }
    if let Some(database) = state.databases.remove(&db) {
        put(state, Dropped::Database(database), now_ms);
    }
    state.backups.retain(|_, job| job.db != db || !job.cleaned);
    state.restores.retain(|_, job| job.db != db || !job.cleaned);
    Ok(Outcome::Done)
}

/// Out of the bin for good.
pub(super) fn erase(state: &mut State, entries: &[u64], upto_ms: Option<u64>) -> Result<Outcome> {
    let old = |id: &u64| upto_ms.is_none_or(|upto| state.bin.get(id).is_some_and(|entry| entry.dropped_ms <= upto));
    let entries: Vec<u64> = entries.iter().copied().filter(old).collect();
    forget(state, &entries);
    Ok(Outcome::Done)
}

/// With a database its loads are forgotten, and what was dropped in it before.
fn forget(state: &mut State, entries: &[u64]) {
    for id in entries {
        let Some(entry) = state.bin.remove(id) else { continue };
        if let Dropped::Database(database) = entry.what {
            state.transactions.retain(|_, transaction| transaction.db != database.id);
            state.bin.retain(|_, other| other.what.place().0 != database.id);
        } else if let Dropped::Table { table, .. } = entry.what {
            state.bin.retain(|_, other| !matches!(other.what, Dropped::Partition { table: of, .. } if of == table.id));
        }
    }
}

pub(super) fn recover(state: &mut State, id: u64, name: Option<&str>) -> Result<Outcome> {
    let entry = state.bin.get(&id).cloned();
    let entry = entry.ok_or_else(|| Error::not_found(format!("nothing in the recycle bin has the id {id}")))?;
    match entry.what {
        Dropped::Database(database) => recover_database(state, database, name)?,
        Dropped::Table { db, table } => recover_table(state, db, table, name)?,
        Dropped::Partition { db, table, partition } => recover_partition(state, (db, table), partition, name)?,
    }
    state.bin.remove(&id);
    Ok(Outcome::Done)
}

fn recover_database(state: &mut State, mut database: Database, name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        name.clone_into(&mut database.name);
    }
    if state.find_database(&database.name).is_some() {
        return Err(error::database_exists(&database.name));
    }
    if state.databases.len() >= limits::MAX_DATABASES {
        return Err(Error::limit(format!("the cluster has {} databases, which is the limit", limits::MAX_DATABASES)));
    }
    state.databases.insert(database.id, database);
    Ok(())
}

fn recover_table(state: &mut State, db: DbId, mut table: Table, name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        take_name(&mut table, name);
    }
    let database = known_database(state, db)?;
    if database.has(&table.name) {
        return Err(error::table_exists(&table.name));
    }
    if let Some(job) = state.restore_creating(db, &table.name) {
        return Err(Error::conflict(format!("Table '{}' is being created by restore job {}", table.name, job.id)));
    }
    if database.tables.len() + database.views.len() >= limits::MAX_TABLES_PER_DATABASE {
        let most = limits::MAX_TABLES_PER_DATABASE;
        return Err(Error::limit(format!("database '{}' has {most} tables, which is the limit", database.name)));
    }
    known_database_mut(state, db)?.tables.insert(table.id, table);
    Ok(())
}

fn recover_partition(
    state: &mut State,
    (db, table): (DbId, TableId),
    mut partition: Partition,
    name: Option<&str>,
) -> Result<()> {
    let known = known_table(state, db, table)?;
    free_of_restore(state, known)?;
    if let Some(name) = name {
        name.clone_into(&mut partition.name);
    }
    if known.partition(&partition.name).is_some() {
        let mut error = duplicate(&partition.name);
        if name.is_none() {
            error =
                Error::already_exists(format!("partition[{}] already exist in table[{}]", partition.name, known.name))
                    .numbered(error.number());
        }
        return Err(error);
    }
    let clashes = |other: &&Partition| match (&other.range, &partition.range) {
        (Some(other), Some(range)) => other.overlaps(range),
        (None, _) | (_, None) => true,
    };
    if let Some(other) = known.partitions.values().find(clashes) {
        return Err(Error::conflict(format!(
            "Can not recover partition[{}]. Partition item conflict with partition[{}]",
            partition.name, other.name
        )));
    }
    if known.partitions.len() >= limits::MAX_PARTITIONS_PER_TABLE {
        let most = limits::MAX_PARTITIONS_PER_TABLE;
        return Err(Error::limit(format!("table '{}' has {most} partitions, which is the limit", known.name)));
    }
    known_table_mut(state, db, table)?.partitions.insert(partition.id, partition);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use crate::meta::definition::Definition;

    fn define(definition: Definition) -> Command {
        Command::Define(definition)
    }

    fn recover(entry: u64, name: Option<&str>) -> Command {
        define(Definition::Recover { entry, name: name.map(str::to_owned) })
    }

    #[test]
    fn a_table_comes_back_as_it_was_unless_its_name_is_taken() {
        let mut sample = Sample::new();
        let (db, table) = (sample.db, sample.table);
        let before = sample.table().clone();
        let load = sample.begin("l");
        sample.ok(&define(Definition::RecycleTable { db, table, now_ms: 50 }));
        assert!(sample.state.databases[&db].tables.is_empty());
        assert_eq!(sample.state.claimed_tablets().len(), 4);
        let new = sample.new_table("t");
        sample.create(&Command::CreateTable(new));
        assert_eq!(sample.refused(&recover(table.0, None)).number(), 1050);
        sample.ok(&recover(table.0, Some("old")));
        let back = sample.table();
        assert_eq!((back.name.as_str(), &back.partitions), ("old", &before.partitions));
        assert!(sample.state.bin.is_empty());
        // A load that was open meanwhile goes on.
        let p1 = sample.partition("p1");
        let commit = Command::CommitTransaction {
            transaction: load,
            partitions: vec![p1],
            rows: 1,
            tablets: Vec::new(),
            now_ms: 1,
        };
        sample.ok(&commit);
        sample.refuses(&recover(table.0, None), ErrorKind::NotFound, "nothing in the recycle bin");
    }

    #[test]
    fn a_partition_comes_back_unless_something_is_in_its_place() {
        let mut sample = Sample::new();
        let (db, table, p1) = (sample.db, sample.table, sample.partition("p1"));
        let drop = |partition| define(Definition::DropPartition { db, table, partition, recycle_ms: Some(1) });
        sample.ok(&drop(p1));
        sample.ok(&recover(p1.0, None));
        assert_eq!(sample.partition("p1"), p1);
        sample.ok(&drop(p1));
        let p2 = sample.partition("p2");
        sample.ok(&define(Definition::RenamePartition { db, table, partition: p2, name: "p1".to_owned() }));
        sample.refuses(&recover(p1.0, None), ErrorKind::AlreadyExists, "partition[p1] already exist in table[t]");
        sample.ok(&recover(p1.0, Some("p0")));
        assert_eq!(sample.partition("p0"), p1);
        sample.ok(&drop(p1));
        let range = sample.state.bin[&p1.0].what.tablets().len();
        assert_eq!(range, 2);
        let Dropped::Partition { partition, .. } = sample.state.bin[&p1.0].what.clone() else { panic!() };
        let new = crate::meta::command::NewPartition {
            name: "new".to_owned(),
            range: partition.range,
            replication_num: 2,
            placement: sample.placement(),
        };
        sample.ok(&define(Definition::AddPartitions { db, table, partitions: vec![new], now_ms: 1 }));
        sample.refuses(&recover(p1.0, None), ErrorKind::Conflict, "Partition item conflict with partition[new]");
    }

    #[test]
    fn a_database_comes_back_with_all_that_was_in_it() {
        let mut sample = Sample::new();
        let db = sample.db;
        sample.begin("l");
        let job = sample.backup();
        let drop = define(Definition::RecycleDatabase { db, now_ms: 1 });
        sample.refuses(&drop, ErrorKind::Conflict, "in use by job");
        let error = crate::catalog::job::JobError { kind: "CANCELLED".to_owned(), message: "user".to_owned() };
        sample.ok(&Command::CancelJob { job, error, now_ms: 1 });
        sample.ok(&drop);
        assert!(sample.state.databases.is_empty() && sample.state.transactions.len() == 1);
        sample.create(&Command::CreateDatabase { name: "db".to_owned() });
        assert_eq!(sample.refused(&recover(db.0, None)).number(), 1007);
        sample.ok(&recover(db.0, Some("again")));
        assert_eq!(sample.table().partitions.len(), 2);
        sample.ok(&Command::JobCleaned { job });
        sample.ok(&drop);
        // Whoever looked before it came back and was dropped again does not take it away.
        sample.ok(&define(Definition::Erase { entries: vec![db.0], upto_ms: Some(0) }));
        assert_eq!(sample.state.bin.len(), 1);
        sample.ok(&define(Definition::Erase { entries: vec![db.0, 1], upto_ms: Some(1) }));
        assert!(sample.state.bin.is_empty() && sample.state.transactions.is_empty());
        assert!(sample.state.claimed_tablets().is_empty());
    }

    #[test]
    fn only_the_youngest_namesakes_stay() {
        let mut sample = Sample::new();
        let db = sample.db;
        let mut dropped = Vec::new();
        for now_ms in 1..=5 {
            let table = sample.state.databases[&db].table("t").unwrap().id;
            sample.ok(&define(Definition::RecycleTable { db, table, now_ms }));
            dropped.push(table.0);
            let new = sample.new_table("t");
            sample.create(&Command::CreateTable(new));
        }
        let kept: Vec<u64> = sample.state.bin.keys().copied().collect();
        assert_eq!(kept, dropped[5 - limits::MAX_NAMESAKES_IN_BIN..]);
    }
}
