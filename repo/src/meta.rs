//! `__meta_`: the catalog objects of a snapshot, enough to create its tables in another cluster. JSON, UTF-8.
//!
//! Fields that format version 1 does not know are ignored when read, so that later releases may add some; what would
//! change the meaning of a restore needs a new format version. Ids are those of the cluster that made the backup.

use crate::{FORMAT_VERSION, SNAPSHOT_VERSION};
use coffer_table::{Column, KeyRange, Schema};
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
    /// In name order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<ViewMeta>,
}

/// A view: a query under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewMeta {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// What the query answers.
    pub columns: Vec<Column>,
    /// The query, with the database in front of every table.
    pub query: String,
    /// COMMENT.
    #[serde(default)]
    pub comment: String,
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
    /// RANGE or LIST partition columns; empty when unpartitioned.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// Whether the partitions are lists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub list: bool,
    /// Buckets of a new partition; 0: as the partitions there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub buckets: u32,
    /// HASH bucket columns; empty for RANDOM.
    #[serde(default)]
    pub bucket_columns: Vec<String>,
    /// Properties as set.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// COMMENT.
    #[serde(default)]
    pub comment: String,
    /// Whether tablets may have DELETEs in their manifest records.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub had_deletes: bool,
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
    /// Key range or list; none when the table is unpartitioned.
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The format version that the info and the meta of a snapshot with these tables need; of each its columns, and whether it
/// had a DELETE.
pub fn version_for<'a>(tables: impl IntoIterator<Item = (&'a Schema, bool)>) -> u32 {
    let newer = |(schema, had_deletes): (&Schema, bool)| had_deletes || !schema.model.is_duplicate();
    if tables.into_iter().any(newer) { SNAPSHOT_VERSION } else { FORMAT_VERSION }
}

impl SnapshotMeta {
    /// The view with this name, case included.
    pub fn view(&self, name: &str) -> Option<&ViewMeta> {
        self.views.iter().find(|view| view.name == name)
    }

    /// The table with this name, case included.
    pub fn table(&self, name: &str) -> Option<&TableMeta> {
        self.tables.iter().find(|table| table.name == name)
    }
}
