//! Housekeeping of the leader: dynamic partitions are made and dropped, and the recycle bin is emptied of what is too old.
//!
//! Tables are looked at when they or their properties are new to this leader, and else every
//! `dynamic_partition_check_interval_seconds`. Nothing here is durable: a new leader looks at all of them. Each change is a
//! command of its own and checked again by `apply`, so that losing the leadership in between does no harm.

use super::plan::{self, Plan};
use super::spec::{self, Spec};
use crate::catalog::table::Table;
use crate::error::{Error, Result};
use crate::exec::context::Context;
use crate::exec::ddl;
use crate::meta::command::Command;
use crate::meta::definition::Definition;
use crate::meta::state::State;
use coffer_proto::ids::{DbId, TableId};
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// Between looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Entries of the recycle bin that one change removes; the rest goes with the next look.
const MAX_ERASED: usize = 1_000;

/// The properties a table was last looked at with, and when.
type Looked = HashMap<TableId, (BTreeMap<String, String>, Instant)>;

/// Keep house while this frontend leads, until `shutdown`.
pub(crate) async fn run(context: Context, shutdown: Shutdown) {
    let token = shutdown.token();
    token.run_until_cancelled(follow(context)).await;
}

async fn follow(context: Context) {
    let leadership = context.meta.leadership();
    let mut looked = Looked::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !leadership.borrow().leading {
            looked.clear();
            continue;
        }
        if let Err(error) = sweep(&context).await {
            tracing::warn!(%error, "the recycle bin could not be swept");
        }
        if context.config.dynamic_partition_enable.get() {
            look(&context, &mut looked).await;
        }
    }
}

/// What is in the bin for too long is gone.
async fn sweep(context: &Context) -> Result<()> {
    let keep_ms = context.config.catalog_trash_expire_second.get().saturating_mul(1_000);
    let Some(upto_ms) = now_ms().checked_sub(keep_ms) else { return Ok(()) };
    let entries = context.meta.view(|state| {
        let old = state.bin.iter().filter(|(_, entry)| entry.dropped_ms <= upto_ms);
        old.map(|(id, _)| *id).take(MAX_ERASED).collect::<Vec<u64>>()
    });
    if entries.is_empty() {
        return Ok(());
    }
    context.meta.propose(Command::Define(Definition::Erase { entries, upto_ms: Some(upto_ms) })).await.map(|_| ())
}

async fn look(context: &Context, looked: &mut Looked) {
    let state = context.meta.view(State::clone);
    let every = Duration::from_secs(context.config.dynamic_partition_check_interval_seconds.get());
    let now = Instant::now();
    let mut due = Vec::new();
    let mut known = Looked::new();
    for (db, table) in state.databases.values().flat_map(|db| db.tables.values().map(move |table| (db.id, table))) {
        if !spec::is_on(&table.properties) {
            continue;
        }
        match looked.remove(&table.id) {
            Some((properties, last)) if properties == table.properties && now < last + every => {
                known.insert(table.id, (properties, last));
            }
            _ => {
                known.insert(table.id, (table.properties.clone(), now));
                due.push((db, table.id));
            }
        }
    }
    *looked = known;
    context.dynamics.keep(|table| looked.contains_key(&table));
    for (db, table) in due {
        one(context, db, table).await;
    }
}

/// One table as it is now.
async fn one(context: &Context, db: DbId, id: TableId) {
    let state = context.meta.view(State::clone);
    let Some((_, table)) = state.table_by_id(db, id) else { return };
    let Ok(Some(spec)) = spec::read(&table.properties) else { return };
    context.dynamics.note(id, |seen| seen.looked_ms = now_ms());
    if let Some(job) = state.restore_into(id) {
        let text = format!(
            "Table[{}]'s state is not NORMAL.Do not allow doing dynamic add partition. table state=RESTORE (job {})",
            table.name, job.id
        );
        context.dynamics.note(id, |seen| seen.create_error = text);
        return;
    }
    let Some(planned) = of(table, &spec) else { return };
    let mut changed = false;
    let mut create_error = planned.conflict.clone().unwrap_or_default();
    let mut drop_error = String::new();
    match add(context, &state, (db, id), (&spec, &planned)).await {
        Ok(made) => changed |= made,
        Err(error) => error.message().clone_into(&mut create_error),
    }
    for partition in planned.drop {
        let recycle_ms = Some(now_ms());
        let drop = Definition::DropPartition { db, table: id, partition, recycle_ms };
        match context.meta.propose(Command::Define(drop)).await {
            Ok(_) => changed = true,
            Err(error) => error.message().clone_into(&mut drop_error),
        }
    }
    context.dynamics.note(id, |seen| {
        (seen.create_error, seen.drop_error) = (create_error, drop_error);
        if changed {
            seen.updated_ms = now_ms();
        }
    });
}

fn of(table: &Table, spec: &Spec) -> Option<Plan> {
    let kind = *table.partition_kinds().first()?;
    let now = spec.local(now_ms()).ok()?;
    Some(plan::plan(spec, kind, table.partitions.values(), now))
}

/// Whether there was something to add.
async fn add(
    context: &Context,
    state: &State,
    (db, id): (DbId, TableId),
    (spec, planned): (&Spec, &Plan),
) -> Result<bool> {
    let Some((database, table)) = state.table_by_id(db, id) else { return Ok(false) };
    if planned.add.is_empty() {
        return Ok(false);
    }
    let buckets = spec.buckets.or(table.new_buckets());
    let buckets = buckets.unwrap_or_else(|| context.config.default_buckets.get_u32());
    let replicas = spec.replicas.or(table.new_replicas()).unwrap_or(1);
    let mut places = ddl::living(context, state);
    let partitions = ddl::place(database, table, planned.add.clone(), (buckets, replicas), &mut places)?;
    let add = Definition::AddPartitions { db, table: id, partitions, now_ms: now_ms() };
    context.meta.propose(Command::Define(add)).await?;
    Ok(true)
}

/// The first partitions of a table that is being made.
pub(crate) fn first_partitions(
    spec: &Spec,
    kind: coffer_table::ColumnType,
    existing: &[(String, coffer_table::KeyRange)],
) -> Result<Vec<(String, coffer_table::KeyRange)>> {
    if !spec.enable {
        return Ok(Vec::new());
    }
    let there = existing.iter().map(|(name, range)| crate::catalog::table::Partition {
        id: coffer_proto::ids::PartitionId(0),
        name: name.clone(),
        range: Some(range.clone()),
        replication_num: 1,
        visible_version: 1,
        visible_ms: 0,
        committed_version: 1,
        tablets: Vec::new(),
    });
    let there: Vec<_> = there.collect();
    let planned = plan::plan(spec, kind, there.iter(), spec.local(now_ms())?);
    match planned.conflict {
        Some(conflict) if planned.add.is_empty() => Err(Error::invalid(conflict)),
        _ => Ok(planned.add),
    }
}
