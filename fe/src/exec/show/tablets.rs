//! SHOW PARTITIONS, TABLETS and TABLET: what the catalog says, beside what backends reported last.

use crate::backends::Backends;
use crate::catalog::table::{FIRST_VERSION, Partition, Table, Tablet};
use crate::error::Result;
use crate::exec::answer::RowSet;
use crate::exec::ddl::{chosen_partitions, show_allocation};
use crate::exec::text::{NONE, size, time};
use crate::meta::state::State;
use crate::sql::ast::ObjectName;
use coffer_proto::ids::{BackendId, TabletId};
use coffer_table::ColumnType;

const PARTITION_COLUMNS: [&str; 22] = [
    "PartitionId",
    "PartitionName",
    "VisibleVersion",
    "VisibleVersionTime",
    "State",
    "PartitionKey",
    "Range",
    "DistributionKey",
    "Buckets",
    "ReplicationNum",
    "StorageMedium",
    "CooldownTime",
    "RemoteStoragePolicy",
    "LastConsistencyCheckTime",
    "DataSize",
    "IsInMemory",
    "ReplicaAllocation",
    "IsMutable",
    "SyncWithBaseTables",
    "UnsyncTables",
    "CommittedVersion",
    "RowCount",
];

const TABLET_COLUMNS: [&str; 25] = [
    "TabletId",
    "ReplicaId",
    "BackendId",
    "SchemaHash",
    "Version",
    "LstSuccessVersion",
    "LstFailedVersion",
    "LstFailedTime",
    "LocalDataSize",
    "RemoteDataSize",
    "RowCount",
    "State",
    "LstConsistencyCheckTime",
    "CheckVersion",
    "VisibleVersionCount",
    "VersionCount",
    "QueryHits",
    "WindowAccessCount",
    "LastAccessTime",
    "PathHash",
    "Path",
    "MetaUrl",
    "CompactionStatus",
    "CooldownReplicaId",
    "CooldownMetaId",
];

const TABLET_PLACE_COLUMNS: [&str; 14] = [
    "DbName",
    "TableName",
    "PartitionName",
    "IndexName",
    "DbId",
    "TableId",
    "PartitionId",
    "IndexId",
    "IsSync",
    "Order",
    "QueryHits",
    "WindowAccessCount",
    "LastAccessTime",
    "DetailCmd",
];

/// There is no cooling down: the time operators know for never.
const NEVER: &str = "9999-12-31 23:59:59";

/// SHOW PARTITIONS, in the order of the ranges.
pub(super) fn partitions(
    state: &State,
    backends: &Backends,
    name: &ObjectName,
    current: Option<&str>,
) -> Result<RowSet> {
    let (_, table) = state.table(name, current)?;
    let restoring = state.restore_into(table.id).is_some();
    let mut set = RowSet::new(PARTITION_COLUMNS);
    let mut sorted: Vec<&Partition> = table.partitions.values().collect();
    sorted.sort_by(|left, right| {
        let lower = |partition: &Partition| partition.range.as_ref().map(|range| range.lower.clone());
        lower(left).cmp(&lower(right)).then(left.id.cmp(&right.id))
    });
    for partition in sorted {
        set.push(partition_row(table, partition, restoring, backends));
    }
    Ok(set)
}

fn partition_row(table: &Table, partition: &Partition, restoring: bool, backends: &Backends) -> Vec<String> {
    let kinds: Vec<ColumnType> = table
        .partition_columns
        .iter()
        .filter_map(|name| Some(table.schema.columns[table.schema.index_of(name)?].kind))
        .collect();
    let sums = backends.tablet_sums(&partition.tablets);
    let fixed = |text: &str| text.to_owned();
    let range = partition.range.as_ref().map_or_else(String::new, |range| range.format(&kinds));
    let distribution = if table.bucket_columns.is_empty() { fixed("RANDOM") } else { table.bucket_columns.join(", ") };
    let medium = table.properties.get("storage_medium").map_or("HDD", String::as_str).to_ascii_uppercase();
    vec![
        partition.id.to_string(),
        partition.name.clone(),
        partition.visible_version.to_string(),
        time(partition.visible_ms),
        fixed(if restoring { "RESTORE" } else { "NORMAL" }),
        table.partition_columns.join(", "),
        range,
        distribution,
        partition.tablets.len().to_string(),
        partition.replication_num.to_string(),
        medium,
        fixed(NEVER),
        String::new(),
        fixed(NONE),
        size(sums.bytes),
        fixed("false"),
        show_allocation(partition.replication_num),
        fixed("true"),
        fixed("true"),
        fixed(NONE),
        partition.committed_version.to_string(),
        sums.rows.to_string(),
    ]
}

/// SHOW TABLETS: a row per replica.
pub(super) fn tablets(
    state: &State,
    backends: &Backends,
    (name, current): (&ObjectName, Option<&str>),
    names: &[String],
) -> Result<RowSet> {
    let (_, table) = state.table(name, current)?;
    let mut replicas: Vec<(&Partition, &Tablet, BackendId)> = Vec::new();
    for partition in chosen_partitions(table, names)? {
        for tablet in &partition.tablets {
            replicas.extend(tablet.replicas.iter().map(|backend| (partition, tablet, *backend)));
        }
    }
    replicas.sort_by_key(|(_, tablet, backend)| (tablet.id, *backend));
    let mut set = RowSet::new(TABLET_COLUMNS);
    for (partition, tablet, backend) in replicas {
        set.push(replica_row(backends, partition, (tablet.id, backend)));
    }
    Ok(set)
}

/// A replica has no id of its own: tablet and backend name it, and the tablet's id is shown.
fn replica_row(backends: &Backends, partition: &Partition, (tablet, backend): (TabletId, BackendId)) -> Vec<String> {
    let fixed = |text: &str| text.to_owned();
    let stat = backends.tablet_stat(tablet, backend);
    // Before the first load there is nothing on disk, which is version 1.
    let version = stat.as_ref().map_or(FIRST_VERSION, |stat| stat.version);
    let behind = stat.is_some() && version < partition.visible_version;
    let bad = stat.as_ref().is_some_and(|stat| stat.bad);
    let count = stat.as_ref().map_or(0, |stat| stat.version_count).to_string();
    let number = |of: fn(&coffer_proto::v1::TabletStat) -> u64| stat.as_ref().map_or(0, of).to_string();
    vec![
        tablet.to_string(),
        tablet.to_string(),
        backend.to_string(),
        fixed("0"),
        version.to_string(),
        version.to_string(),
        if behind { partition.visible_version.to_string() } else { fixed("-1") },
        fixed(NONE),
        number(|stat| stat.bytes),
        fixed("0"),
        number(|stat| stat.rows),
        fixed(if bad { "BAD" } else { "NORMAL" }),
        fixed(NONE),
        fixed("-1"),
        count.clone(),
        count,
        fixed("0"),
        fixed("0"),
        fixed(NONE),
        fixed("0"),
        stat.as_ref().map(|stat| stat.path.clone()).unwrap_or_default(),
        String::new(),
        String::new(),
        fixed("-1"),
        String::new(),
    ]
}

/// SHOW TABLET id. An unknown id is one row of placeholders.
pub(super) fn tablet(state: &State, id: u64) -> RowSet {
    let fixed = |text: &str| text.to_owned();
    let mut set = RowSet::new(TABLET_PLACE_COLUMNS);
    let Some(place) = state.tablet(TabletId(id)) else {
        let mut row: Vec<String> = vec![fixed(NONE); TABLET_PLACE_COLUMNS.len()];
        row[4..8].fill(fixed("-1"));
        row[8] = fixed("false");
        row[9] = fixed("-1");
        set.push(row);
        return set;
    };
    let detail = format!(
        "SHOW TABLETS FROM {}.{} PARTITION({});",
        coffer_mysql::quote_identifier(&place.database.name),
        coffer_mysql::quote_identifier(&place.table.name),
        coffer_mysql::quote_identifier(&place.partition.name)
    );
    set.push([
        place.database.name.clone(),
        place.table.name.clone(),
        place.partition.name.clone(),
        place.table.name.clone(),
        place.database.id.to_string(),
        place.table.id.to_string(),
        place.partition.id.to_string(),
        place.table.id.to_string(),
        fixed("true"),
        place.bucket.to_string(),
        fixed("0"),
        fixed("0"),
        fixed(NONE),
        detail,
    ]);
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::exec::sample;
    use std::sync::Arc;

    fn backends() -> Backends {
        Backends::disconnected(Arc::new(Config::default()))
    }

    fn name(table: &str) -> ObjectName {
        ObjectName { database: Some("db".to_owned()), name: table.to_owned() }
    }

    fn cell<'a>(set: &'a RowSet, row: usize, column: &str) -> &'a str {
        let at = set.columns.iter().position(|known| known == column).unwrap();
        set.rows[row][at].as_deref().unwrap()
    }

    #[test]
    fn partitions_have_22_columns_in_the_order_of_ranges() {
        let state = sample::state();
        let set = partitions(&state, &backends(), &name("t"), None).unwrap();
        assert!(set.rows.len() == 3 && set.rows.iter().all(|row| row.len() == 22));
        assert_eq!(cell(&set, 0, "PartitionName"), "p1");
        assert_eq!(
            cell(&set, 1, "Range"),
            "[types: [DATEV2]; keys: [2024-01-01]; ..types: [DATEV2]; keys: [2024-02-01]; )"
        );
        assert_eq!((cell(&set, 0, "Buckets"), cell(&set, 0, "ReplicationNum")), ("2", "2"));
        assert_eq!((cell(&set, 0, "VisibleVersion"), cell(&set, 0, "CommittedVersion")), ("1", "1"));
        let plain = partitions(&state, &backends(), &name("plain"), None).unwrap();
        assert_eq!((cell(&plain, 0, "Range"), cell(&plain, 0, "DistributionKey")), ("", "RANDOM"));
        assert_eq!(partitions(&state, &backends(), &name("x"), None).unwrap_err().number(), 1051);
    }

    #[test]
    fn tablets_have_25_columns_and_a_row_per_replica() {
        let state = sample::state();
        let set = tablets(&state, &backends(), (&name("t"), None), &[]).unwrap();
        assert!(set.rows.len() == 12 && set.rows.iter().all(|row| row.len() == 25));
        let one = tablets(&state, &backends(), (&name("t"), None), &["P2".to_owned()]).unwrap();
        assert_eq!(one.rows.len(), 4);
        let error = tablets(&state, &backends(), (&name("t"), None), &["p9".to_owned()]).unwrap_err();
        assert_eq!(error.message(), "Unknown partition p9 in table t");
        assert_eq!(cell(&one, 0, "Version"), "1");
    }

    #[test]
    fn a_tablet_names_its_place_or_says_that_it_has_none() {
        let state = sample::state();
        let (_, table) = state.table(&name("t"), None).unwrap();
        let (_, second) = table.tablets().nth(1).unwrap();
        let set = tablet(&state, second.id.0);
        assert_eq!(set.rows[0].len(), 14);
        assert_eq!((cell(&set, 0, "TableName"), cell(&set, 0, "Order")), ("t", "1"));
        let unknown = tablet(&state, 1);
        assert_eq!(cell(&unknown, 0, "IsSync"), "false");
        assert_eq!(unknown.rows[0].len(), 14);
    }
}
