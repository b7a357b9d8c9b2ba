//! ALTER TABLE: partitions and names.
//!
//! The statement is planned against a copy of the state, and one command says what becomes of it; `apply` checks again what
//! may have changed meanwhile. A crash before the command is in the log leaves nothing.

use super::colocate;
use super::properties;
use super::ranges;
use super::{living, noted};
use crate::catalog::database::Database;
use crate::catalog::table::Table;
use crate::error::{self, Error, Result, number};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::exec::placement::{Places, too_few};
use crate::exec::session::Session;
use crate::limits;
use crate::meta::command::{Command, NewPartition};
use crate::meta::definition::Definition;
use crate::meta::state::State;
use crate::sql::ast::ObjectName;
use crate::sql::define_ast::{AddPartitions, TableChange};
use coffer_stdx::time::now_ms;
use coffer_table::KeyRange;

/// ALTER TABLE other than SET.
pub(in crate::exec) async fn alter(
    context: &Context,
    session: &Session,
    name: &ObjectName,
    change: &TableChange,
) -> Result<Answer> {
    let state = context.meta.view(State::clone);
    let (database, table) = super::table_not_view(&state, name, session.database.as_deref())?;
    let (db, id) = (database.id, table.id);
    let definition = match change {
        TableChange::AddPartitions(add) => {
            refuse_dynamic(table)?;
            let existing = table.partition(&add.partition.name).filter(|_| add.if_not_exists);
            if let Some(existing) = existing {
                return Ok(noted(&same_name(&existing.name)));
            }
            let partitions = planned(context, &state, (database, table), add)?;
            Definition::AddPartitions { db, table: id, partitions, now_ms: now_ms() }
        }
        TableChange::DropPartition { name, if_exists, force } => {
            refuse_dynamic(table)?;
            if table.partition_columns.is_empty() {
                let text = format!("Alter table [{}] failed. Not a partitioned table", table.name);
                return Err(Error::invalid(text));
            }
            let Some(found) = table.partition(name) else {
                let error = Error::not_found(format!("Error in list of partitions to {name}"));
                let error = error.numbered(number::NO_PARTITION);
                return if *if_exists { Ok(noted(&error)) } else { Err(error) };
            };
            let partition = found.id;
            if !force {
                super::settled(context, (db, Some(id)), Some(partition)).await;
            }
            Definition::DropPartition { db, table: id, partition, recycle_ms: (!force).then(now_ms) }
        }
        TableChange::Rename(to) => Definition::RenameTable { db, table: id, name: to.clone() },
        TableChange::RenamePartition { name, to } => {
            let found = table.partition(name).map(|partition| partition.id);
            if found.is_none() && !table.partition_columns.is_empty() {
                return Err(Error::not_found(format!("Partition[{name}] does not exists")));
            }
            let partition = found.unwrap_or(coffer_proto::ids::PartitionId(0));
            Definition::RenamePartition { db, table: id, partition, name: to.clone() }
        }
    };
    context.meta.propose(Command::Define(definition)).await?;
    Ok(Answer::ok())
}

fn same_name(partition: &str) -> Error {
    Error::already_exists(format!("Duplicate partition name {partition}")).numbered(number::SAME_PARTITION)
}

/// The scheduler of dynamic partitions makes and drops those of its tables.
fn refuse_dynamic(table: &Table) -> Result<()> {
    if !crate::exec::dynamic::is_on(&table.properties) {
        return Ok(());
    }
    Err(Error::invalid(
        "Cannot add/drop partition on a Dynamic Partition Table, Use command `ALTER TABLE tbl_name SET \
         (\"dynamic_partition.enable\" = \"false\")` firstly.",
    ))
}

fn planned(
    context: &Context,
    state: &State,
    (database, table): (&Database, &Table),
    add: &AddPartitions,
) -> Result<Vec<NewPartition>> {
    if table.partition_columns.is_empty() {
        return Err(Error::invalid("Only support adding partition to range and list partitioned table"));
    }
    if !add.partition.name.is_empty() && table.partition(&add.partition.name).is_some() {
        return Err(same_name(&add.partition.name));
    }
    let existing: Vec<(String, KeyRange)> = table
        .partitions
        .values()
        .filter_map(|partition| Some((partition.name.clone(), partition.range.clone()?)))
        .collect();
    let kinds = table.partition_kinds();
    let defs = std::slice::from_ref(&add.partition);
    let made = ranges::added(defs, table.partitioning.list, &existing, &kinds)?;
    let buckets = buckets(table, add, context.config.default_buckets.get_u32())?;
    let own = properties::for_partition(&add.partition.properties)?;
    let mut places = living(context, state);
    let replicas = own.or(table.new_replicas()).unwrap_or(1);
    place(database, table, made, (buckets, replicas), &mut places)
}

/// New partitions with places for their tablets: as the group lies, in a colocated table.
pub(in crate::exec) fn place(
    database: &Database,
    table: &Table,
    made: Vec<(String, KeyRange)>,
    (buckets, replicas): (u32, u32),
    places: &mut Places,
) -> Result<Vec<NewPartition>> {
    let tablets = made.len().saturating_mul(buckets as usize);
    if tablets > limits::MAX_TABLETS_PER_STATEMENT {
        return Err(Error::limit(format!(
            "table '{}' would get {tablets} tablets at once, {} are allowed; add fewer partitions",
            table.name,
            limits::MAX_TABLETS_PER_STATEMENT
        )));
    }
    let group = colocate::group_of(table).and_then(|group| colocate::places(database, group));
    let mut partitions = Vec::with_capacity(made.len());
    for (name, range) in made {
        let placement = match &group {
            Some(places) if places.len() != buckets as usize => {
                return Err(Error::invalid(format!("Colocate tables must have same bucket num: {}", places.len())));
            }
            Some(places) => places.clone(),
            None if replicas as usize > places.len() => return Err(too_few(replicas, places.len())),
            None => places.place(buckets, replicas)?,
        };
        let replicas = if group.is_some() { table.new_replicas().unwrap_or(replicas) } else { replicas };
        partitions.push(NewPartition { name, range: Some(range), replication_num: replicas, placement });
    }
    Ok(partitions)
}

fn buckets(table: &Table, add: &AddPartitions, default: u32) -> Result<u32> {
    if let Some(columns) = &add.bucket_columns {
        let same = columns.len() == table.bucket_columns.len()
            && columns.iter().zip(&table.bucket_columns).all(|(new, old)| new.eq_ignore_ascii_case(old));
        if !same {
            return Err(Error::invalid(format!(
                "Cannot assign hash distribution with different distribution cols. new is: [{}] default is: [{}]",
                columns.join(", "),
                table.bucket_columns.join(", ")
            )));
        }
    }
    let buckets = add.buckets.or(table.new_buckets()).unwrap_or(default);
    if buckets == 0 || buckets > limits::MAX_BUCKETS {
        return Err(Error::invalid(format!("the number of buckets is 1 to {}, not {buckets}", limits::MAX_BUCKETS)));
    }
    Ok(buckets)
}

/// ALTER DATABASE ... RENAME.
pub(in crate::exec) async fn rename_database(context: &Context, name: &str, to: &str) -> Result<Answer> {
    crate::exec::names::check_not_reserved(to)?;
    let db = context.meta.view(|state| state.find_database(name).map(|database| database.id));
    let db = db.ok_or_else(|| error::unknown_database(name))?;
    context.meta.propose(Command::Define(Definition::RenameDatabase { db, name: to.to_owned() })).await?;
    Ok(Answer::ok())
}
