//! Views: a query under a name.

use coffer_proto::ids::TableId;
use coffer_table::Column;
use serde::{Deserialize, Serialize};

/// A view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Id, from the same counter as those of tables.
    pub id: TableId,
    /// Name, case-sensitive.
    pub name: String,
    /// What the query answered when the view was made: names, types, whether NULL may occur.
    pub columns: Vec<Column>,
    /// The query, with the database in front of every table.
    pub query: String,
    /// COMMENT.
    #[serde(default)]
    pub comment: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
}

impl View {
    /// Whether two views are the same but for id, time and comment.
    pub fn same_as(&self, other: &View) -> bool {
        let names = |view: &View| view.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        self.query == other.query && names(self) == names(other)
    }
}
