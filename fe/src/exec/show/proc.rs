//! SHOW PROC: the virtual directory that operators of the classic system look into.

use super::health;
use crate::backends::Backends;
use crate::catalog::database::Database;
use crate::catalog::table::{FIRST_VERSION, Table};
use crate::error::{Error, Result};
use crate::exec::answer::RowSet;
use crate::exec::ddl::{COLOCATE_WITH, show_allocation};
use crate::exec::text::{NONE, size};
use crate::meta::state::State;
use crate::sql::ast::ObjectName;
use coffer_proto::ids::{DbId, PartitionId, TableId};
use std::collections::BTreeMap;

/// The top of the tree.
const TOP: [&str; 7] = ["backends", "brokers", "cluster_health", "colocation_group", "dbs", "frontends", "statistic"];

/// What lies at a path.
pub(super) fn show(state: &State, backends: &Backends, path: &str) -> Result<RowSet> {
    let parts: Vec<&str> = path.split('/').map(str::trim).filter(|part| !part.is_empty()).collect();
    let wrong = || Error::invalid(format!("Proc path '{path}' doesn't exist"));
    match parts.as_slice() {
        [] => Ok(names("name", &TOP)),
        ["dbs"] => Ok(databases(state, backends)),
        ["dbs", db, rest @ ..] => {
            let id: u64 = db.parse().map_err(|_| wrong())?;
            let database = state.databases.get(&DbId(id)).ok_or_else(wrong)?;
            match rest {
                [] => Ok(tables(database)),
                [table, rest @ ..] => {
                    let id: u64 = table.parse().map_err(|_| wrong())?;
                    let table = database.tables.get(&TableId(id)).ok_or_else(wrong)?;
                    in_table(state, backends, (database, table), rest).unwrap_or_else(|| Err(wrong()))
                }
            }
        }
        ["statistic"] => Ok(statistic(state, backends)),
        ["cluster_health"] => Ok(names("name", &["tablet_health"])),
        ["cluster_health", "tablet_health"] => Ok(health::tablets(state, backends)),
        ["colocation_group"] => Ok(groups(state)),
        _ => Err(wrong()),
    }
}

fn names(column: &str, names: &[&str]) -> RowSet {
    let mut set = RowSet::new([column]);
    names.iter().for_each(|name| set.push([*name]));
    set
}

fn databases(state: &State, backends: &Backends) -> RowSet {
    let mut set = RowSet::new([
        "DbId",
        "DbName",
        "TableNum",
        "Size",
        "Quota",
        "LastConsistencyCheckTime",
        "ReplicaCount",
        "ReplicaQuota",
    ]);
    for database in state.databases.values() {
        let tablets = || database.tables.values().flat_map(Table::tablets).map(|(_, tablet)| tablet);
        let replicas: usize = tablets().map(|tablet| tablet.replicas.len()).sum();
        set.push([
            database.id.to_string(),
            database.name.clone(),
            (database.tables.len() + database.views.len()).to_string(),
            size(backends.tablet_sums(tablets()).replica_bytes),
            size(1 << 60),
            NONE.to_owned(),
            replicas.to_string(),
            (1_u64 << 30).to_string(),
        ]);
    }
    set
}

fn tables(database: &Database) -> RowSet {
    let mut set = RowSet::new([
        "TableId",
        "TableName",
        "IndexNum",
        "PartitionColumnName",
        "PartitionNum",
        "State",
        "Type",
        "LastConsistencyCheckTime",
        "ReplicaCount",
    ]);
    for table in database.tables.values() {
        let replicas: usize = table.tablets().map(|(_, tablet)| tablet.replicas.len()).sum();
        set.push([
            table.id.to_string(),
            table.name.clone(),
            "1".to_owned(),
            table.partition_columns.join(", "),
            table.partitions.len().to_string(),
            "NORMAL".to_owned(),
            "OLAP".to_owned(),
            NONE.to_owned(),
            replicas.to_string(),
        ]);
    }
    for view in database.views.values() {
        let fixed = |text: &str| text.to_owned();
        let (id, name) = (view.id.to_string(), view.name.clone());
        let none = fixed(NONE);
        set.push([id, name, fixed("0"), String::new(), fixed("0"), fixed("NORMAL"), fixed("VIEW"), none, fixed("0")]);
    }
    set
}

/// `None`: there is no such path.
fn in_table(
    state: &State,
    backends: &Backends,
    (database, table): (&Database, &Table),
    rest: &[&str],
) -> Option<Result<RowSet>> {
    let name = ObjectName { database: Some(database.name.clone()), name: table.name.clone() };
    Some(match rest {
        [] => Ok(names("Nodes", &["partitions", "temp_partitions", "index_schema"])),
        ["partitions"] => super::tablets::partitions(state, backends, &name, None),
        ["temp_partitions"] => super::tablets::partitions(state, backends, &name, None).map(|mut set| {
            set.rows.clear();
            set
        }),
        ["index_schema"] => {
            let mut set = RowSet::new(["IndexId", "IndexName", "SchemaVersion", "SchemaHash", "ShortKeyColumnCount"]);
            let keys = table.schema.key_count().to_string();
            set.push([table.id.to_string(), table.name.clone(), "0".to_owned(), "0".to_owned(), keys]);
            Ok(set)
        }
        ["partitions", partition, rest @ ..] => {
            let found = table.partitions.get(&PartitionId(partition.parse().ok()?))?;
            match rest {
                [] => {
                    let mut set = RowSet::new(["IndexId", "IndexName", "State", "LastConsistencyCheckTime"]);
                    let id = table.id.to_string();
                    set.push([id, table.name.clone(), "NORMAL".to_owned(), NONE.to_owned()]);
                    Ok(set)
                }
                [_index, tablet @ ..] => {
                    let all =
                        super::tablets::tablets(state, backends, (&name, None), std::slice::from_ref(&found.name));
                    match tablet {
                        [] => all,
                        [tablet] => all.map(|mut set| {
                            set.rows.retain(|row| row[0].as_deref() == Some(*tablet));
                            set
                        }),
                        _ => return None,
                    }
                }
            }
        }
        _ => return None,
    })
}

fn statistic(state: &State, backends: &Backends) -> RowSet {
    let mut set = RowSet::new([
        "DbId",
        "DbName",
        "TableNum",
        "PartitionNum",
        "IndexNum",
        "TabletNum",
        "ReplicaNum",
        "UnhealthyTabletNum",
    ]);
    let mut totals = [0_usize; 6];
    for database in state.databases.values() {
        let mut counts = [database.tables.len(), 0, 0, 0, 0, 0];
        for table in database.tables.values() {
            counts[1] += table.partitions.len();
            counts[2] += table.partitions.len();
            for (partition, tablet) in table.tablets() {
                counts[3] += 1;
                counts[4] += tablet.replicas.len();
                let good = |backend: &coffer_proto::ids::BackendId| {
                    let stat = backends.tablet_stat(tablet.id, *backend);
                    let version = stat.as_ref().map_or(FIRST_VERSION, |stat| stat.version);
                    backends.alive(*backend)
                        && version >= partition.visible_version
                        && !stat.is_some_and(|stat| stat.bad)
                };
                counts[5] += usize::from(!tablet.replicas.iter().all(good));
            }
        }
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        let numbers = counts.map(|count| count.to_string());
        set.push([database.id.to_string(), database.name.clone()].into_iter().chain(numbers));
    }
    let numbers = totals.map(|count| count.to_string());
    set.push(["Total".to_owned(), state.databases.len().to_string()].into_iter().chain(numbers));
    set
}

fn groups(state: &State) -> RowSet {
    let mut set =
        RowSet::new(["GroupId", "GroupName", "TableIds", "BucketsNum", "ReplicaAllocation", "DistCols", "IsStable"]);
    for database in state.databases.values() {
        let mut groups: BTreeMap<&str, Vec<&Table>> = BTreeMap::new();
        for table in database.tables.values() {
            if let Some(group) = table.properties.get(COLOCATE_WITH) {
                groups.entry(group).or_default().push(table);
            }
        }
        for (group, tables) in groups {
            let first = tables[0];
            let ids: Vec<String> = tables.iter().map(|table| table.id.to_string()).collect();
            let kinds = first.bucket_columns.iter().filter_map(|name| {
                let at = first.schema.index_of(name)?;
                Some(first.schema.columns[at].kind.to_string())
            });
            let places = crate::exec::ddl::colocate::places(database, group);
            let stable = places
                .is_none_or(|places| tables.iter().all(|table| crate::exec::ddl::colocate::lies_as(table, &places)));
            set.push([
                format!("{}.{}", database.id, first.id),
                format!("{}_{group}", database.id),
                ids.join(", "),
                first.new_buckets().unwrap_or(0).to_string(),
                show_allocation(first.new_replicas().unwrap_or(1)),
                kinds.collect::<Vec<_>>().join(", "),
                stable.to_string(),
            ]);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::exec::sample;
    use std::sync::Arc;

    #[test]
    fn every_path_leads_from_the_top_to_a_replica() {
        let (state, backends) = (sample::state(), Backends::disconnected(Arc::new(Config::default())));
        let at = |path: &str| show(&state, &backends, path);
        assert!(at("/").unwrap().rows.len() == TOP.len());
        let (db, table) = state.table(&ObjectName { database: Some("db".into()), name: "t".into() }, None).unwrap();
        let partition = table.partition("p2").unwrap();
        let mut path = "/dbs".to_owned();
        assert_eq!(at(&path).unwrap().rows.len(), 2);
        for (next, rows) in [
            (db.id.to_string(), 2),
            (table.id.to_string(), 3),
            ("partitions".to_owned(), 3),
            (partition.id.to_string(), 1),
            (table.id.to_string(), 4),
            (partition.tablets[0].id.to_string(), 2),
        ] {
            path = format!("{path}/{next}");
            assert_eq!(at(&path).unwrap().rows.len(), rows, "{path}");
        }
        let statistic = at("/statistic/").unwrap();
        assert_eq!(statistic.rows.last().unwrap()[5].as_deref(), Some("7"));
        assert_eq!(at("/cluster_health").unwrap().rows.len(), 1);
        assert_eq!(at("/cluster_health/tablet_health").unwrap().rows.len(), 3);
        assert!(at("/colocation_group").unwrap().rows.is_empty());
        for wrong in ["/x", "/dbs/1", "/dbs/x", &format!("/dbs/{}/1", db.id), &format!("{path}/x")] {
            assert!(at(wrong).unwrap_err().message().contains("doesn't exist"), "{wrong}");
        }
    }
}
