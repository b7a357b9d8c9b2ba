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
    /// RANGE or LIST partition columns; empty when unpartitioned.
    pub partition_columns: Vec<String>,
    /// How new partitions are made.
    #[serde(default)]
    pub partitioning: Partitioning,
    /// HASH bucket columns; empty for RANDOM.
    pub bucket_columns: Vec<String>,
    /// Properties as set, those of dynamic partitions and `colocate_with` among them, and INDEX definitions under
    /// keys that begin with `index:`; `replication_num` is always there.
    pub properties: BTreeMap<String, String>,
    /// COMMENT.
    pub comment: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Whether a DELETE was ever done: backups of it need a reader that knows what that is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub had_deletes: bool,
    /// By id; names are unique ignoring ASCII case.
    pub partitions: Map<PartitionId, Partition>,
}

/// How the partitions of a table are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitioning {
    /// LIST instead of RANGE.
    #[serde(default)]
    pub list: bool,
    /// Buckets of a new partition; 0: as the partitions there are.
    #[serde(default)]
    pub buckets: u32,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// Id.
    pub id: PartitionId,
    /// Name; that of the table when unpartitioned.
    pub name: String,
    /// Key range or list; `None` when the table is unpartitioned.
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

/// The property that names the colocation group.
pub const COLOCATE_WITH: &str = "colocate_with";

impl Table {
    /// Its colocation group.
    pub fn group(&self) -> Option<&str> {
        self.properties.get(COLOCATE_WITH).map(String::as_str).filter(|group| !group.is_empty())
    }

    /// The partition with this name, ignoring ASCII case.
    pub fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions.values().find(|partition| partition.name.eq_ignore_ascii_case(name))
    }

    /// Buckets of a new partition: as the table was made, else as its youngest partition has; `None` when neither tells.
    pub fn new_buckets(&self) -> Option<u32> {
        if self.partitioning.buckets > 0 {
            return Some(self.partitioning.buckets);
        }
        let youngest = self.partitions.values().next_back()?;
        u32::try_from(youngest.tablets.len()).ok()
    }

    /// The types of the partition columns.
    pub fn partition_kinds(&self) -> Vec<coffer_table::ColumnType> {
        let kind = |name: &String| Some(self.schema.columns[self.schema.index_of(name)?].kind);
        self.partition_columns.iter().filter_map(kind).collect()
    }

    /// Replicas of a new partition.
    pub fn new_replicas(&self) -> Option<u32> {
        self.properties.get("replication_num")?.trim().parse().ok()
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
