//! `__meta_`: the catalog objects of a snapshot, enough to create its tables in another cluster. JSON, UTF-8.
//!
//! Fields that format version 1 does not know are ignored when read, so that later releases may add some; what would
//! change the meaning of a restore needs a new format version. Ids are those of the cluster that made the backup.

use coffer_table::{KeyRange, Schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest meta anybody reads: about ten million tablets.
pub const MAX_META_BYTES: u64 = 512 << 20;

/// All tables of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Format version.
    pub format: u32,
    /// In name order.
    pub tables: Vec<TableMeta>,
}

/// A table as it was at the cut, with the partitions that were backed up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableMeta {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Columns.
    pub schema: Schema,
    /// RANGE partition columns; empty when unpartitioned.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// HASH bucket columns; empty for RANDOM.
    #[serde(default)]
    pub bucket_columns: Vec<String>,
    /// Properties as set.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// COMMENT.
    #[serde(default)]
    pub comment: String,
    /// The statement of SHOW CREATE TABLE, for people.
    #[serde(default)]
    pub create_statement: String,
    /// In id order.
    pub partitions: Vec<PartitionMeta>,
}

/// A partition at its pinned version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionMeta {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Key range; none when the table is unpartitioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<KeyRange>,
    /// The version that the snapshot holds.
    pub visible_version: u64,
    /// Replicas per tablet.
    pub replication_num: u32,
    /// Tablet ids in bucket order: their number is the number of buckets.
    pub tablets: Vec<u64>,
    /// Rows, as far as known when the meta was written; the manifests count exactly.
    #[serde(default)]
    pub rows: u64,
    /// Bytes, likewise.
    #[serde(default)]
    pub bytes: u64,
}

impl SnapshotMeta {
    /// The table with this name, case included.
    pub fn table(&self, name: &str) -> Option<&TableMeta> {
        self.tables.iter().find(|table| table.name == name)
    }
}
