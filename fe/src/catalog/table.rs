//! Tables, partitions, tablets and replicas.

use crate::catalog::map::Map;
use coffer_proto::ids::{BackendId, PartitionId, TableId, TabletId};
use coffer_table::{KeyRange, Layout, LayoutPartition, Schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of a partition that never took a load: empty, nothing on any disk.
pub const FIRST_VERSION: u64 = 1;

/// A table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Id.
    pub id: TableId,
    /// Name as created.
    pub name: String,
    /// Columns.
    pub schema: Schema,
    /// RANGE partition columns; empty when unpartitioned.
    pub partition_columns: Vec<String>,
    /// HASH bucket columns; empty for RANDOM.
    pub bucket_columns: Vec<String>,
    /// Properties as set, those of dynamic partitions and `colocate_with` among them; `replication_num` is always there.
    pub properties: BTreeMap<String, String>,
    /// COMMENT.
    pub comment: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// By id; names are unique ignoring ASCII case.
    pub partitions: Map<PartitionId, Partition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// Id.
    pub id: PartitionId,
    /// Name; that of the table when unpartitioned.
    pub name: String,
    /// Key range; `None` when the table is unpartitioned.
    pub range: Option<KeyRange>,
    /// Replicas per tablet.
    pub replication_num: u32,
    /// What queries and backups see.
    pub visible_version: u64,
    /// When that became visible, milliseconds.
    pub visible_ms: u64,
    /// The last version given to a committed load, at least `visible_version`.
    pub committed_version: u64,
    /// In bucket order.
    pub tablets: Vec<Tablet>,
}

/// A tablet and the backends that hold its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablet {
    /// Id.
    pub id: TabletId,
    /// Distinct backends, in placement order.
    pub replicas: Vec<BackendId>,
}

impl Table {
    /// The partition with this name, ignoring ASCII case.
    pub fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions.values().find(|partition| partition.name.eq_ignore_ascii_case(name))
    }

    /// Where rows go.
    pub fn layout(&self) -> Layout {
        let partitions = self.partitions.values().map(|partition| LayoutPartition {
            id: partition.id.0,
            name: partition.name.clone(),
            range: partition.range.clone(),
            tablets: partition.tablets.iter().map(|tablet| tablet.id.0).collect(),
        });
        Layout {
            partition_columns: self.partition_columns.clone(),
            bucket_columns: self.bucket_columns.clone(),
            partitions: partitions.collect(),
        }
    }

    /// All tablets with their partition.
    pub fn tablets(&self) -> impl Iterator<Item = (&Partition, &Tablet)> {
        self.partitions.values().flat_map(|partition| partition.tablets.iter().map(move |tablet| (partition, tablet)))
    }
}
