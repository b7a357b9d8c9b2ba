//! The statements of [`super::ast`] that change what the catalog defines, beyond CREATE and DROP; and what shows it.

use super::ast::{ObjectName, PartitionDef, RowCondition, RowFilter};

/// A definition that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Define {
    /// ALTER TABLE.
    AlterTable { table: ObjectName, change: TableChange },
    /// ALTER DATABASE name RENAME other.
    RenameDatabase { name: String, to: String },
    /// CREATE [OR REPLACE] VIEW.
    CreateView(CreateView),
    /// DROP VIEW [IF EXISTS] name.
    DropView { view: ObjectName, if_exists: bool },
    /// RECOVER {DATABASE | TABLE | PARTITION} name [id] [AS other] [FROM table].
    Recover(Recover),
    /// DROP CATALOG RECYCLE BIN WHERE 'DbId' = 1.
    EraseBin { kind: BinKind, id: u64 },
}

/// ALTER TABLE name ...
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// ADD PARTITION[S] ...
    AddPartitions(AddPartitions),
    /// DROP PARTITION [IF EXISTS] name [FORCE].
    DropPartition { name: String, if_exists: bool, force: bool },
    /// RENAME other.
    Rename(String),
    /// RENAME PARTITION name other.
    RenamePartition { name: String, to: String },
}

/// ADD PARTITION [IF NOT EXISTS] p VALUES ... [("k" = "v")] [DISTRIBUTED BY HASH(c) BUCKETS n].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPartitions {
    pub partition: PartitionDef,
    pub if_not_exists: bool,
    /// HASH columns when the clause is there; empty for RANDOM.
    pub bucket_columns: Option<Vec<String>>,
    pub buckets: Option<u32>,
}

/// CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [(column [COMMENT "text"], ...)] [COMMENT "text"] AS query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateView {
    pub view: ObjectName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    /// Names and comments; empty: as the query calls them.
    pub columns: Vec<(String, String)>,
    pub comment: String,
    pub query: String,
}

/// What comes back from the recycle bin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recover {
    pub kind: BinKind,
    pub name: String,
    /// The database of a table, where one is given.
    pub database: Option<String>,
    pub id: Option<u64>,
    pub as_name: Option<String>,
    /// Of a partition.
    pub table: Option<ObjectName>,
}

/// Kinds of things in the recycle bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinKind {
    Database,
    Table,
    Partition,
}

/// SHOW of these things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShowMore {
    /// SHOW CATALOG RECYCLE BIN [WHERE NAME ...].
    RecycleBin(RowFilter),
    /// SHOW DYNAMIC PARTITION TABLES [FROM db].
    DynamicPartitions(Option<String>),
    /// SHOW CREATE VIEW v.
    CreateView(ObjectName),
    /// SHOW VIEW FROM t [FROM db]: the views that read a table.
    ViewsOf(ObjectName),
    /// SHOW VIEWS [FROM db] [LIKE 'x'].
    Views { database: Option<String>, like: Option<String> },
    /// SHOW DATA [FROM t] [ORDER BY ...].
    Data { table: Option<ObjectName>, filter: RowFilter },
    /// SHOW TABLE STATUS [FROM db] [LIKE 'x' | WHERE ...].
    TableStatus { database: Option<String>, like: Option<String>, conditions: Vec<RowCondition> },
    /// SHOW TRANSACTION [FROM db] [WHERE ...].
    Transactions { database: Option<String>, filter: RowFilter },
    /// SHOW PROC 'path'.
    Proc(String),
    /// ADMIN SHOW REPLICA STATUS FROM t [PARTITION (...)] [WHERE STATUS = 'x'].
    ReplicaStatus { table: ObjectName, partitions: Vec<String>, filter: RowFilter },
    /// ADMIN SHOW REPLICA DISTRIBUTION FROM t [PARTITION (...)].
    ReplicaDistribution { table: ObjectName, partitions: Vec<String> },
}
