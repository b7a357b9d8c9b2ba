//! SHOW DATA, SHOW TABLE STATUS and ADMIN SHOW REPLICA: what the catalog says, beside what backends reported last.

use crate::account::Rights;
use crate::backends::{Backends, Replica};
use crate::catalog::table::{FIRST_VERSION, Partition, Table, Tablet};
use crate::error::Result;
use crate::exec::answer::RowSet;
use crate::exec::ddl::chosen_partitions;
use crate::exec::filter::{self, like};
use crate::exec::text::{share, size, time};
use crate::meta::state::State;
use crate::sql::ast::{ObjectName, RowCondition, RowFilter};
use coffer_proto::ids::BackendId;
use std::collections::BTreeMap;

/// The quota that operators of the classic system see: there is none here.
const QUOTA_BYTES: u64 = 1 << 60;

/// Sums over a table.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    rows: u64,
    /// Each tablet once.
    bytes: u64,
    /// All replicas.
    replica_bytes: u64,
    replicas: u64,
    updated_ms: u64,
}

fn sums(table: &Table, backends: &Backends) -> Sums {
    let mut sums = Sums::default();
    for partition in table.partitions.values() {
        let found = backends.tablet_sums(&partition.tablets);
        sums.rows += found.rows;
        sums.bytes += found.bytes;
        sums.replica_bytes += found.replica_bytes;
        sums.replicas += partition.tablets.iter().map(|tablet| tablet.replicas.len() as u64).sum::<u64>();
        sums.updated_ms = sums.updated_ms.max(partition.visible_ms);
    }
    sums
}

/// SHOW DATA: the tables of a database, or one.
pub(super) fn data(
    state: &State,
    backends: &Backends,
    (rights, current): (&Rights<'_>, Option<&str>),
    (table, wanted): (Option<&ObjectName>, &RowFilter),
) -> Result<RowSet> {
    if let Some(name) = table {
        let (_, table) = state.table(name, current)?;
        let sums = sums(table, backends);
        let mut set = RowSet::new(["TableName", "IndexName", "Size", "ReplicaCount", "RowCount", "RemoteSize"]);
        let (bytes, replicas) = (size(sums.replica_bytes), sums.replicas.to_string());
        let rows = sums.rows.to_string();
        set.push([table.name.clone(), table.name.clone(), bytes.clone(), replicas.clone(), rows, size(0)]);
        set.push([String::new(), "Total".to_owned(), bytes, replicas, String::new(), size(0)]);
        return Ok(set);
    }
    let database = state.database_or_current(None, current)?;
    let mut tables: Vec<&Table> = database.tables.values().collect();
    tables.retain(|table| rights.sees_table(&database.name, &table.name));
    tables.sort_by(|left, right| left.name.cmp(&right.name));
    let mut total = Sums::default();
    let mut set = RowSet::new(["TableName", "Size", "ReplicaCount", "RemoteSize"]);
    for table in tables {
        let sums = sums(table, backends);
        total.replica_bytes += sums.replica_bytes;
        total.replicas += sums.replicas;
        set.push([table.name.clone(), size(sums.replica_bytes), sums.replicas.to_string(), size(0)]);
    }
    let mut set = filter::apply(set, wanted)?;
    let left = QUOTA_BYTES.saturating_sub(total.replica_bytes);
    let quota = (1_u64 << 30).to_string();
    set.push(["Total".to_owned(), size(total.replica_bytes), total.replicas.to_string(), size(0)]);
    set.push(["Quota".to_owned(), size(QUOTA_BYTES), quota, String::new()]);
    set.push(["Left".to_owned(), size(left), ((1_u64 << 30) - total.replicas).to_string(), String::new()]);
    Ok(set)
}

const STATUS_COLUMNS: [&str; 18] = [
    "Name",
    "Engine",
    "Version",
    "Row_format",
    "Rows",
    "Avg_row_length",
    "Data_length",
    "Max_data_length",
    "Index_length",
    "Data_free",
    "Auto_increment",
    "Create_time",
    "Update_time",
    "Check_time",
    "Collation",
    "Checksum",
    "Create_options",
    "Comment",
];

/// SHOW TABLE STATUS.
pub(super) fn table_status(
    state: &State,
    backends: &Backends,
    (rights, current): (&Rights<'_>, Option<&str>),
    (given, pattern, conditions): (Option<&str>, Option<&str>, &[RowCondition]),
) -> Result<RowSet> {
    let mut set = RowSet::new(STATUS_COLUMNS);
    let name = given.or(current).ok_or_else(crate::error::no_database)?;
    if crate::exec::names::is_system_database(name) {
        return Ok(set);
    }
    let database = state.database(name)?;
    let sees = |table: &str| rights.sees_table(name, table) && pattern.is_none_or(|pattern| like(pattern, table));
    let some = |text: &str| Some(text.to_owned());
    for table in database.tables.values().filter(|table| sees(&table.name)) {
        let sums = sums(table, backends);
        let mut row = vec![None; STATUS_COLUMNS.len()];
        (row[0], row[1]) = (some(&table.name), some("Doris"));
        row[4] = Some(sums.rows.to_string());
        row[5] = Some(sums.bytes.checked_div(sums.rows).unwrap_or(0).to_string());
        row[6] = Some(sums.bytes.to_string());
        (row[11], row[12]) = (Some(time(table.created_ms)), Some(time(sums.updated_ms)));
        (row[14], row[17]) = (some("utf8mb4_0900_bin"), some(&table.comment));
        row[1] = some("OLAP");
        set.rows.push(row);
    }
    for view in database.views.values().filter(|view| sees(&view.name)) {
        let mut row = vec![None; STATUS_COLUMNS.len()];
        (row[0], row[1]) = (some(&view.name), some("View"));
        (row[11], row[14]) = (Some(time(view.created_ms)), some("utf8mb4_0900_bin"));
        row[17] = if view.comment.is_empty() { some("VIEW") } else { some(&view.comment) };
        set.rows.push(row);
    }
    set.rows.sort();
    filter::apply(set, &RowFilter { conditions: conditions.to_vec(), ..RowFilter::default() })
}

/// ADMIN SHOW REPLICA STATUS: a row per replica.
pub(super) fn replica_status(
    state: &State,
    backends: &Backends,
    (name, current): (&ObjectName, Option<&str>),
    (partitions, wanted): (&[String], &RowFilter),
) -> Result<RowSet> {
    let (_, table) = state.table(name, current)?;
    let mut set = RowSet::new([
        "TabletId",
        "ReplicaId",
        "BackendId",
        "Version",
        "LastFailedVersion",
        "LastSuccessVersion",
        "CommittedVersion",
        "SchemaHash",
        "VersionNum",
        "IsBad",
        "State",
        "Status",
    ]);
    for partition in chosen_partitions(table, partitions)? {
        for tablet in &partition.tablets {
            for backend in &tablet.replicas {
                let known = state.backends.contains_key(backend);
                set.push(status_row((backends, known), partition, tablet, *backend));
            }
        }
    }
    filter::apply(set, wanted)
}

fn status_row(
    (backends, known): (&Backends, bool),
    partition: &Partition,
    tablet: &Tablet,
    backend: BackendId,
) -> [String; 12] {
    let stat = backends.tablet_stat(tablet.id, backend);
    let version = stat.as_ref().map_or(FIRST_VERSION, |stat| stat.version);
    let bad = stat.as_ref().is_some_and(|stat| stat.bad);
    let found = backends.look(|replica| replica(tablet.id, backend));
    let behind = version < partition.visible_version;
    let status = match found {
        // Its backend was dropped: another one is to take its place.
        _ if !known => "MISSING",
        _ if !backends.alive(backend) => "DEAD",
        Replica::Bad => "BAD",
        Replica::Missing if partition.visible_version > FIRST_VERSION => "MISSING",
        Replica::At(_) if behind => "VERSION_ERROR",
        Replica::Unknown | Replica::Missing | Replica::At(_) => "OK",
    };
    [
        tablet.id.to_string(),
        tablet.id.to_string(),
        backend.to_string(),
        version.to_string(),
        if behind { partition.visible_version.to_string() } else { "-1".to_owned() },
        version.to_string(),
        partition.committed_version.to_string(),
        "0".to_owned(),
        stat.as_ref().map_or(0, |stat| stat.version_count).to_string(),
        bad.to_string(),
        "NORMAL".to_owned(),
        status.to_owned(),
    ]
}

/// ADMIN SHOW REPLICA DISTRIBUTION: a row per backend.
pub(super) fn replica_distribution(
    state: &State,
    backends: &Backends,
    (name, current): (&ObjectName, Option<&str>),
    partitions: &[String],
) -> Result<RowSet> {
    let (_, table) = state.table(name, current)?;
    let mut held: BTreeMap<BackendId, (u64, u64)> = state.backends.keys().map(|backend| (*backend, (0, 0))).collect();
    for partition in chosen_partitions(table, partitions)? {
        for tablet in &partition.tablets {
            for backend in &tablet.replicas {
                let bytes = backends.tablet_stat(tablet.id, *backend).map_or(0, |stat| stat.bytes);
                let (count, sum) = held.entry(*backend).or_default();
                (*count, *sum) = (*count + 1, *sum + bytes);
            }
        }
    }
    let (replicas, bytes) = held.values().fold((0, 0), |(count, sum), (c, s)| (count + c, sum + s));
    let mut set =
        RowSet::new(["BackendId", "ReplicaNum", "ReplicaSize", "NumGraph", "NumPercent", "SizeGraph", "SizePercent"]);
    let graph = |part: u64, whole: u64| ">".repeat((part * 100).checked_div(whole).unwrap_or(0) as usize);
    for (backend, (count, sum)) in held {
        set.push([
            backend.to_string(),
            count.to_string(),
            size(sum),
            graph(count, replicas),
            share(count, replicas),
            graph(sum, bytes),
            share(sum, bytes),
        ]);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Who;
    use crate::config::Config;
    use crate::exec::sample;
    use std::sync::Arc;

    #[test]
    fn sizes_and_replicas_have_the_known_columns() {
        let (state, backends) = (sample::state(), Backends::disconnected(Arc::new(Config::default())));
        let root = Who { user: "root".to_owned(), ..Default::default() };
        let rights = state.rights(&root).unwrap();
        let t = ObjectName { database: None, name: "t".to_owned() };
        let all = RowFilter::default();
        let set = data(&state, &backends, (&rights, Some("db")), (None, &all)).unwrap();
        let names: Vec<&str> = set.rows.iter().map(|row| row[0].as_deref().unwrap()).collect();
        assert_eq!(names, ["plain", "t", "Total", "Quota", "Left"]);
        assert_eq!(set.rows[2][2].as_deref(), Some("13"));
        let set = data(&state, &backends, (&rights, Some("db")), (Some(&t), &all)).unwrap();
        assert_eq!((set.rows.len(), set.rows[0][3].as_deref()), (2, Some("12")));
        let set = table_status(&state, &backends, (&rights, None), (Some("db"), Some("t%"), &[])).unwrap();
        assert_eq!((set.rows.len(), set.rows[0].len()), (1, 18));
        let set = replica_status(&state, &backends, (&t, Some("db")), (&["p1".to_owned()], &all)).unwrap();
        assert!(set.rows.len() == 4 && set.rows.iter().all(|row| row[11].as_deref() == Some("DEAD")));
        let set = replica_distribution(&state, &backends, (&t, Some("db")), &[]).unwrap();
        assert_eq!(set.rows.len(), 2);
        assert_eq!((set.rows[0][1].as_deref(), set.rows[0][4].as_deref()), (Some("6"), Some("50.00 %")));
    }
}
