//! Dynamic partitions: tables that get partitions ahead of time and lose those that are too old.
//!
//! What a table wants is in its properties ([`spec`]); what is to be done at a given moment is a pure function of those,
//! its partitions and that moment ([`plan`]); the leader does it ([`scheduler`]), partition by partition through the log. A
//! crash in between leaves some of them done; the next look does the rest. Dropped partitions go to the recycle bin.

pub(crate) mod plan;
pub(crate) mod scheduler;
pub(crate) mod spec;

pub(crate) use spec::{is_on, is_wanted};

use crate::catalog::table::Table;
use crate::error::Result;
use crate::exec::answer::RowSet;
use crate::exec::text::{NONE, time};
use crate::meta::state::State;
use coffer_proto::ids::TableId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happened to a table when it was looked at; in the leader's memory only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When a partition was last made or dropped, milliseconds; 0: never.
    pub(crate) updated_ms: u64,
    /// When it was last looked at.
    pub(crate) looked_ms: u64,
    /// What was in the way of a new partition; empty: nothing.
    pub(crate) create_error: String,
    /// What was in the way of dropping one.
    pub(crate) drop_error: String,
}

/// The tables the scheduler has looked at; cloned freely.
#[derive(Debug, Clone, Default)]
pub struct Dynamics {
    seen: Arc<Mutex<BTreeMap<TableId, Seen>>>,
}

impl Dynamics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TableId, Seen>> {
        // Nothing panics while it holds the lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened to a table.
    pub(crate) fn of(&self, table: TableId) -> Seen {
        self.lock().get(&table).cloned().unwrap_or_default()
    }

    fn note(&self, table: TableId, change: impl FnOnce(&mut Seen)) {
        change(self.lock().entry(table).or_default());
    }

    fn keep(&self, known: impl Fn(TableId) -> bool) {
        self.lock().retain(|table, _| known(*table));
    }
}

/// SHOW DYNAMIC PARTITION TABLES.
pub(super) fn show(
    state: &State,
    dynamics: &Dynamics,
    (given, current): (Option<&str>, Option<&str>),
    sees: impl Fn(&str, &str) -> bool,
) -> Result<RowSet> {
    let database = state.database_or_current(given, current)?;
    let mut set = RowSet::new([
        "TableName",
        "Enable",
        "TimeUnit",
        "Start",
        "End",
        "Prefix",
        "Buckets",
        "ReplicationNum",
        "ReplicaAllocation",
        "StartOf",
        "LastUpdateTime",
        "LastSchedulerTime",
        "State",
        "LastCreatePartitionMsg",
        "LastDropPartitionMsg",
        "ReservedHistoryPeriods",
    ]);
    let mut tables: Vec<&Table> = database.tables.values().collect();
    tables.sort_by(|left, right| left.name.cmp(&right.name));
    for table in tables.into_iter().filter(|table| sees(&database.name, &table.name)) {
        let Ok(Some(spec)) = spec::read(&table.properties) else { continue };
        let seen = dynamics.of(table.id);
        let good = seen.create_error.is_empty() && seen.drop_error.is_empty();
        let or_none = |text: &str| if text.is_empty() { NONE.to_owned() } else { text.to_owned() };
        let replicas = spec.replicas.or(table.new_replicas()).unwrap_or(1);
        set.push([
            table.name.clone(),
            spec.enable.to_string(),
            spec.unit_name().to_owned(),
            spec.start.unwrap_or(i64::from(i32::MIN)).to_string(),
            spec.end.to_string(),
            spec.prefix.clone(),
            spec.buckets.or(table.new_buckets()).unwrap_or(0).to_string(),
            replicas.to_string(),
            super::ddl::show_allocation(replicas),
            spec.start_of(),
            time(seen.updated_ms),
            time(seen.looked_ms),
            if good { "NORMAL" } else { "ERROR" }.to_owned(),
            or_none(&seen.create_error),
            or_none(&seen.drop_error),
            spec.reserved_text.clone(),
        ]);
    }
    Ok(set)
}
