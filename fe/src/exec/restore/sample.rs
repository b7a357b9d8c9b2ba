//! Small snapshots for the tests of RESTORE.

use crate::catalog::table::{Partition, Table};
use crate::exec::backup::sample::table;
use coffer_repo::{FORMAT_VERSION, PartitionMeta, SnapshotMeta, TableMeta};

/// A table as a snapshot holds it.
pub(crate) fn table_meta(table: &Table) -> TableMeta {
    let partition = |partition: &Partition| PartitionMeta {
        id: partition.id.0,
        name: partition.name.clone(),
        range: partition.range.clone(),
        visible_version: partition.visible_version,
        replication_num: partition.replication_num,
        tablets: partition.tablets.iter().map(|tablet| tablet.id.0).collect(),
        rows: 0,
        bytes: 0,
    };
    TableMeta {
        id: table.id.0,
        name: table.name.clone(),
        schema: table.schema.clone(),
        partition_columns: table.partition_columns.clone(),
        list: table.partitioning.list,
        buckets: table.partitioning.buckets,
        bucket_columns: table.bucket_columns.clone(),
        properties: table.properties.clone(),
        comment: table.comment.clone(),
        had_deletes: table.had_deletes,
        create_statement: String::new(),
        partitions: table.partitions.values().map(partition).collect(),
    }
}

/// Tables `a`, without partitions, and `b` with `p1` and `p2`.
pub(crate) fn meta() -> SnapshotMeta {
    let tables = [table("a", &["a"]), table("b", &["p1", "p2"])];
    SnapshotMeta { format: FORMAT_VERSION, tables: tables.iter().map(table_meta).collect(), views: Vec::new() }
}
