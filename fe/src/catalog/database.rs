//! Databases.

use crate::catalog::map::Map;
use crate::catalog::table::Table;
use coffer_proto::ids::{DbId, TableId};
use serde::{Deserialize, Serialize};

/// A database and its tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Id.
    pub id: DbId,
    /// Name, case-sensitive.
    pub name: String,
    /// By id; names are unique, case-sensitive.
    pub tables: Map<TableId, Table>,
}

impl Database {
    /// The table with this name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.values().find(|table| table.name == name)
    }
}
