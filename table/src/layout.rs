//! Where each row of a table goes: first the partition by key range, then the tablet by a hash of the bucket columns.
//!
//! The hash is part of the format: tablets of a backup keep their rows only as long as it never changes. It is CRC32C
//! (Castagnoli), chained over the bucket columns in order: whole numbers, dates and times as 16 bytes little endian two's
//! complement of their value (days, microseconds, unscaled decimal), text as its UTF-8 bytes without trailing padding,
//! NULL as four zero bytes. The tablet is `hash % buckets`.

use crate::range::KeyRange;
use serde::{Deserialize, Serialize};

/// The partitions of a table and the tablets of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Names of the RANGE or LIST partition columns; empty for an unpartitioned table, which has one partition without a range.
    pub partition_columns: Vec<String>,
    /// Names of the HASH columns; empty means rows go to tablets in turn (RANDOM).
    pub bucket_columns: Vec<String>,
    /// Partitions, any order; ranges do not overlap.
    pub partitions: Vec<LayoutPartition>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutPartition {
    /// Partition id.
    pub id: u64,
    /// Partition name.
    pub name: String,
    /// Keys it takes; `None` for the one partition of an unpartitioned table.
    pub range: Option<KeyRange>,
    /// Tablet ids in bucket order.
    pub tablets: Vec<u64>,
}
