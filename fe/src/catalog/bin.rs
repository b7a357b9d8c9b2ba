//! The recycle bin: what was dropped and can be brought back for a while.

use crate::catalog::database::Database;
use crate::catalog::table::{Partition, Table, Tablet};
use coffer_proto::ids::{DbId, TableId};
use serde::{Deserialize, Serialize};

/// Something that was dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinEntry {
    /// It.
    pub what: Dropped,
    /// When, milliseconds since the epoch.
    pub dropped_ms: u64,
}

/// What was dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Dropped {
    /// A database with all that was in it then.
    Database(Database),
    /// A table.
    Table {
        /// Of this database.
        db: DbId,
        /// It.
        table: Table,
    },
    /// A partition.
    Partition {
        /// Of this database.
        db: DbId,
        /// Of this table.
        table: TableId,
        /// It.
        partition: Partition,
    },
}

impl Dropped {
    /// Database, Table or Partition.
    pub fn kind(&self) -> &'static str {
        match self {
            Dropped::Database(_) => "Database",
            Dropped::Table { .. } => "Table",
            Dropped::Partition { .. } => "Partition",
        }
    }

    /// The name it had.
    pub fn name(&self) -> &str {
        match self {
            Dropped::Database(database) => &database.name,
            Dropped::Table { table, .. } => &table.name,
            Dropped::Partition { partition, .. } => &partition.name,
        }
    }

    /// The id it had and has again when it comes back.
    pub fn id(&self) -> u64 {
        match self {
            Dropped::Database(database) => database.id.0,
            Dropped::Table { table, .. } => table.id.0,
            Dropped::Partition { partition, .. } => partition.id.0,
        }
    }

    /// The database it was or was in, and the table, where there is one.
    pub fn place(&self) -> (DbId, Option<TableId>) {
        match self {
            Dropped::Database(database) => (database.id, None),
            Dropped::Table { db, table } => (*db, Some(table.id)),
            Dropped::Partition { db, table, .. } => (*db, Some(*table)),
        }
    }

    /// Whether another is of the same kind, place and name, so that only an id tells them apart.
    pub fn is_namesake(&self, other: &Dropped) -> bool {
        let same_place = match (self, other) {
            (Dropped::Database(_), Dropped::Database(_)) => true,
            (Dropped::Table { db, .. }, Dropped::Table { db: theirs, .. }) => db == theirs,
            (Dropped::Partition { table, .. }, Dropped::Partition { table: theirs, .. }) => table == theirs,
            _ => false,
        };
        same_place && self.name() == other.name()
    }

    /// Its tablets.
    pub fn tablets(&self) -> Vec<&Tablet> {
        match self {
            Dropped::Database(database) => {
                database.tables.values().flat_map(|table| table.tablets().map(|(_, tablet)| tablet)).collect()
            }
            Dropped::Table { table, .. } => table.tablets().map(|(_, tablet)| tablet).collect(),
            Dropped::Partition { partition, .. } => partition.tablets.iter().collect(),
        }
    }
}
