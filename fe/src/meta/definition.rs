//! The part of [`Command`](super::command::Command) that ALTER TABLE, RECOVER, views and the recycle bin need.

#![allow(missing_docs, reason = "fields are named after the catalog objects they become")]

use crate::catalog::view::View;
use crate::meta::command::NewPartition;
use coffer_proto::ids::{DbId, PartitionId, TableId};
use serde::{Deserialize, Serialize};

/// A change of what the catalog defines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Definition {
    AddPartitions {
        db: DbId,
        table: TableId,
        partitions: Vec<NewPartition>,
        now_ms: u64,
    },
    /// `recycle_ms`: when it went to the recycle bin; `None`: it is gone.
    DropPartition {
        db: DbId,
        table: TableId,
        partition: PartitionId,
        #[serde(default)]
        recycle_ms: Option<u64>,
    },
    RenameTable {
        db: DbId,
        table: TableId,
        name: String,
    },
    RenamePartition {
        db: DbId,
        table: TableId,
        partition: PartitionId,
        name: String,
    },
    RenameDatabase {
        db: DbId,
        name: String,
    },
    /// `Command::DropTable` without the way back.
    RecycleTable {
        db: DbId,
        table: TableId,
        now_ms: u64,
    },
    /// `Command::DropDatabase` without the way back.
    RecycleDatabase {
        db: DbId,
        now_ms: u64,
    },
    /// Bring back what is in the recycle bin under this id, under another name if one is given.
    Recover {
        entry: u64,
        #[serde(default)]
        name: Option<String>,
    },
    /// What is in the recycle bin under these ids is gone; ids that are not there are passed over, and, with `upto_ms`,
    /// what was dropped later: it may have come back and been dropped again since somebody looked.
    Erase {
        entries: Vec<u64>,
        #[serde(default)]
        upto_ms: Option<u64>,
    },
    CreateView(NewView),
    DropView {
        db: DbId,
        view: TableId,
    },
}

/// CREATE VIEW; the id of the view is given by `apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewView {
    pub db: DbId,
    pub view: View,
    /// A view of that name gives way.
    #[serde(default)]
    pub replace: bool,
}
