//! Databases.

use crate::catalog::map::Map;
use crate::catalog::table::Table;
use crate::catalog::view::View;
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
    /// Views, by id; no view has the name of a table.
    #[serde(default)]
    pub views: Map<TableId, View>,
}

impl Database {
    /// Without tables.
    pub fn new(id: DbId, name: &str) -> Database {
        Database { id, name: name.to_owned(), tables: Map::new(), views: Map::new() }
    }

    /// Whether a table or view has this name.
    pub fn has(&self, name: &str) -> bool {
        self.table(name).is_some() || self.view(name).is_some()
    }

    /// The view with this name.
    pub fn view(&self, name: &str) -> Option<&View> {
        self.views.values().find(|view| view.name == name)
    }

    /// The table with this name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.values().find(|table| table.name == name)
    }
}
