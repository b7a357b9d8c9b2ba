//! What one statement sees: the tables it names, each at the version that was visible at one moment, and where their
//! replicas are. Made at a single look at the replicated state, so that all tables of a statement belong together.

use super::dialect::Part;
use crate::catalog::map::Map;
use crate::catalog::table::{FIRST_VERSION, Partition, Table};
use crate::error::unknown_partition;
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
}

impl Pinned {
    /// Pin the tables named; a name without a database is of `current`. `parts` tells which names stand for some partitions
    /// of a table. Fails on the first that does not exist.
    pub(crate) fn named(
        state: &State,
        names: &[ObjectName],
        parts: &BTreeMap<String, Part>,
        current: Option<&str>,
    ) -> Result<Pinned> {
        let mut pinned = Pinned::default();
        for name in names {
            let part = parts.get(&name.name);
            let table = part.map_or(&name.name, |part| &part.table);
            let (database, table) =
                state.table(&ObjectName { database: name.database.clone(), name: table.clone() }, current)?;
            let tables = pinned.databases.entry(database.name.clone()).or_default();
            let mut found = PinnedTable::new(state, table);
            let mut known_as = table.name.clone();
            if let Some(part) = part {
                let find = |name: &String| table.partition(name).ok_or_else(|| unknown_partition(name, &table.name));
                let chosen = part.partitions.iter().map(|name| find(name).map(|partition| partition.id));
                found.only = Some(chosen.collect::<Result<_>>()?);
                known_as.clone_from(&name.name);
            }
            tables.insert(known_as, found);
        }
        if let Some(current) = current.and_then(|name| state.find_database(name)) {
            pinned.databases.entry(current.name.clone()).or_default();
        }
        Ok(pinned)
    }

    /// Everything, for statements about the catalog itself.
    pub(crate) fn everything(state: &State) -> Pinned {
        let tables_of = |tables: &Map<_, Table>| {
            tables.values().map(|table| (table.name.clone(), PinnedTable::new(state, table))).collect()
        };
        let databases = state.databases.values().map(|database| (database.name.clone(), tables_of(&database.tables)));
        Pinned { databases: databases.collect() }
    }
}

impl PinnedTable {
    fn new(state: &State, table: &Table) -> PinnedTable {
        let holders: BTreeSet<BackendId> = table.tablets().flat_map(|(_, tablet)| tablet.replicas.clone()).collect();
        let addresses = holders.into_iter().filter_map(|id| Some((id, state.backends.get(&id)?.address()))).collect();
        PinnedTable { table: Arc::new(table.clone()), addresses: Arc::new(addresses), only: None }
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
