//! Small catalogs for the tests of BACKUP and RESTORE.

use crate::catalog::database::Database;
use crate::catalog::table::{Partition, Table, Tablet};
use coffer_proto::ids::{BackendId, DbId, PartitionId, TableId, TabletId};
use coffer_table::{Bound, Column, ColumnType, KeyRange, Scalar, Schema};
use std::collections::BTreeMap;

/// A table partitioned by ranges of ten, or not at all when its one partition has its own name; two buckets each, one
/// replica, version 2.
pub(crate) fn table(name: &str, partitions: &[&str]) -> Table {
    let unpartitioned = partitions == [name];
    let column = |name: &str, key: bool| Column {
        name: name.to_owned(),
        kind: ColumnType::Int,
        nullable: !key,
        default: None,
        key,
        comment: String::new(),
        aggregate: None,
    };
    let base = name.bytes().map(u64::from).sum::<u64>() * 1_000;
    let bound = |at: u64| vec![Bound::Value(Scalar::Int(i128::from(at) * 10))];
    let partition = |(at, name): (u64, &&str)| {
        let id = PartitionId(base + at + 1);
        let tablet = |bucket| Tablet { id: TabletId(base + 100 + at * 2 + bucket), replicas: vec![BackendId(1)] };
        let partition = Partition {
            id,
            name: (*name).to_owned(),
            range: (!unpartitioned).then(|| KeyRange::new(bound(at), bound(at + 1))),
            replication_num: 1,
            visible_version: 2,
            visible_ms: 1,
            committed_version: 2,
            tablets: (0..2).map(tablet).collect(),
        };
        (id, partition)
    };
    Table {
        id: TableId(base),
        name: name.to_owned(),
        schema: Schema { columns: vec![column("k", true), column("v", false)], model: coffer_table::Model::Duplicate },
        partition_columns: if unpartitioned { Vec::new() } else { vec!["k".to_owned()] },
        partitioning: Default::default(),
        bucket_columns: vec!["k".to_owned()],
        properties: BTreeMap::from([("replication_num".to_owned(), "1".to_owned())]),
        comment: String::new(),
        created_ms: 1,
        had_deletes: false,
        partitions: (0..).zip(partitions).map(partition).collect(),
    }
}

/// A database `d`.
pub(crate) fn database(tables: Vec<Table>) -> Database {
    let tables = tables.into_iter().map(|table| (table.id, table)).collect();
    Database { tables, ..Database::new(DbId(1), "d") }
}
