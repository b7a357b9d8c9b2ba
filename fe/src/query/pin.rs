//! What one statement sees: the tables it names, each at the version that was visible at one moment, and where their
//! replicas are. Made at a single look at the replicated state, so that all tables of a statement belong together.

use super::dialect::Part;
use crate::account::{Privilege, Rights, Who};
use crate::catalog::database::Database;
use crate::catalog::table::{FIRST_VERSION, Partition, Table};
use crate::catalog::view::View;
use crate::error::{table_denied, unknown_partition};
use crate::meta::state::State;
use crate::sql::ast::ObjectName;
use coffer_proto::ids::{BackendId, PartitionId, TabletId};
use coffer_stdx::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A table as a statement sees it.
#[derive(Debug, Clone)]
pub(crate) struct PinnedTable {
    /// The table with the versions visible then.
    pub(crate) table: Arc<Table>,
    /// "host:port" of every backend that holds replicas of it.
    pub(crate) addresses: Arc<BTreeMap<BackendId, String>>,
    /// Whether its rows may be read; otherwise it is only listed.
    pub(crate) readable: bool,
    /// The partitions that the statement names, when it names some.
    only: Option<BTreeSet<PartitionId>>,
}

/// A tablet to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TabletRead {
    pub(crate) tablet: TabletId,
    pub(crate) version: u64,
    /// Where, best first.
    pub(crate) replicas: Vec<BackendId>,
}

/// Databases and tables by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinned {
    pub(crate) databases: BTreeMap<String, BTreeMap<String, PinnedTable>>,
    /// The views to list, by database; only for statements about the catalog.
    pub(crate) views: Vec<(String, View)>,
    /// Names of the columns of views that the statement reads.
    pub(crate) view_columns: Vec<String>,
}

impl Pinned {
    /// Pin the tables named; a name without a database is of `current`. `parts` tells which names stand for some partitions
    /// of a table. Fails on the first that `who` may not read, or that does not exist.
    pub(crate) fn named(
        state: &State,
        names: &[ObjectName],
        parts: &BTreeMap<String, Part>,
        (current, who): (Option<&str>, &Who),
    ) -> Result<Pinned> {
        let rights = state.rights(who)?;
        let mut pinned = Pinned::default();
        names.iter().try_for_each(|name| may_read(&rights, &real(name, parts), (current, who)))?;
        pinned.add(state, names, parts, current)?;
        if let Some(current) = current.and_then(|name| state.find_database(name)) {
            pinned.databases.entry(current.name.clone()).or_default();
        }
        Ok(pinned)
    }

    /// Pin tables, whoever asks. Views are passed over: what they read is pinned for itself.
    pub(crate) fn add(
        &mut self,
        state: &State,
        names: &[ObjectName],
        parts: &BTreeMap<String, Part>,
        current: Option<&str>,
    ) -> Result<()> {
        for name in names {
            let part = parts.get(&name.name);
            let real = real(name, parts);
            let database = state.database_or_current(real.database.as_deref(), current)?;
            if let Some(view) = database.view(&real.name) {
                if part.is_some() {
                    let text = format!("'{}.{}' is a view: it has no partitions", database.name, view.name);
                    return Err(coffer_stdx::Error::invalid(text));
                }
                self.databases.entry(database.name.clone()).or_default();
                self.view_columns.extend(view.columns.iter().map(|column| column.name.clone()));
                continue;
            }
            let (database, table) = state.table(&real, current)?;
            let tables = self.databases.entry(database.name.clone()).or_default();
            let mut found = PinnedTable::new(state, table, true);
            let mut known_as = table.name.clone();
            if let Some(part) = part {
                let find = |name: &String| table.partition(name).ok_or_else(|| unknown_partition(name, &table.name));
                let chosen = part.partitions.iter().map(|name| find(name).map(|partition| partition.id));
                found.only = Some(chosen.collect::<Result<_>>()?);
                known_as.clone_from(&name.name);
            }
            tables.insert(known_as, found);
        }
        Ok(())
    }

    /// Everything that `who` sees, for statements about the catalog itself; those it names besides must be readable.
    pub(crate) fn everything(
        state: &State,
        names: &[ObjectName],
        (current, who): (Option<&str>, &Who),
    ) -> Result<Pinned> {
        let rights = state.rights(who)?;
        names.iter().try_for_each(|name| may_read(&rights, name, (current, who)))?;
        let tables_of = |database: &Database| {
            let seen = database.tables.values().filter(|table| rights.sees_table(&database.name, &table.name));
            let readable = |table: &Table| rights.holds_on_table(Privilege::Select, &database.name, &table.name);
            seen.map(|table| (table.name.clone(), PinnedTable::new(state, table, readable(table)))).collect()
        };
        let seen = state.databases.values().filter(|database| rights.sees_database(&database.name));
        let views = seen.clone().flat_map(|database| {
            let views = database.views.values().filter(|view| rights.sees_table(&database.name, &view.name));
            views.map(|view| (database.name.clone(), view.clone()))
        });
        let views = views.collect();
        let databases = seen.map(|database| (database.name.clone(), tables_of(database))).collect();
        Ok(Pinned { databases, views, view_columns: Vec::new() })
    }
}

/// The table that a name means, which may stand for some partitions of it.
fn real(name: &ObjectName, parts: &BTreeMap<String, Part>) -> ObjectName {
    let table = parts.get(&name.name).map_or(&name.name, |part| &part.table);
    ObjectName { database: name.database.clone(), name: table.clone() }
}

fn may_read(rights: &Rights<'_>, name: &ObjectName, (current, who): (Option<&str>, &Who)) -> Result<()> {
    match name.database.as_deref().or(current) {
        Some(database) if !rights.holds_on_table(Privilege::Select, database, &name.name) => {
            Err(table_denied("SELECT", &who.name(), &name.name))
        }
        // Without a database it is not found.
        _ => Ok(()),
    }
}

impl PinnedTable {
    fn new(state: &State, table: &Table, readable: bool) -> PinnedTable {
        let holders: BTreeSet<BackendId> = table.tablets().flat_map(|(_, tablet)| tablet.replicas.clone()).collect();
        let addresses = holders.into_iter().filter_map(|id| Some((id, state.backends.get(&id)?.address()))).collect();
        PinnedTable { table: Arc::new(table.clone()), addresses: Arc::new(addresses), readable, only: None }
    }

    /// Whether the statement may read a partition.
    pub(crate) fn includes(&self, partition: &Partition) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&partition.id))
    }

    /// The tablets that hold rows, of the partitions that `wanted` accepts.
    pub(crate) fn reads(&self, wanted: impl Fn(&Partition) -> bool) -> Vec<TabletRead> {
        let partitions = self.table.partitions.values();
        let partitions =
            partitions.filter(|part| part.visible_version > FIRST_VERSION && self.includes(part) && wanted(part));
        partitions
            .flat_map(|partition| {
                partition.tablets.iter().map(|tablet| TabletRead {
                    tablet: tablet.id,
                    version: partition.visible_version,
                    replicas: tablet.replicas.clone(),
                })
            })
            .collect()
    }
}
