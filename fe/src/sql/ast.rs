//! Every statement Coffer accepts, one variant each. Names are as written; nothing is resolved here.

use super::define_ast::{Define, ShowMore};
use crate::account::{AccountName, Grantee, NewPassword, Privilege};
use coffer_table::{Column, Model, Predicate};
use std::collections::{BTreeMap, BTreeSet};

/// PROPERTIES ("key" = "value", ...). Keys keep their case; later duplicates are refused by the parser.
pub type Properties = BTreeMap<String, String>;

/// `[db.]name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// Database; the session's when absent.
    pub database: Option<String>,
    /// Table, label, ...
    pub name: String,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// USE db.
    Use(String),
    /// CREATE DATABASE [IF NOT EXISTS].
    CreateDatabase { name: String, if_not_exists: bool },
    /// DROP DATABASE [IF EXISTS] name [FORCE].
    DropDatabase { name: String, if_exists: bool, force: bool },
    /// CREATE TABLE.
    CreateTable(Box<CreateTable>),
    /// DROP TABLE [IF EXISTS] name [FORCE].
    DropTable { table: ObjectName, if_exists: bool, force: bool },
    /// TRUNCATE TABLE name [PARTITION (...)].
    TruncateTable { table: ObjectName, partitions: Vec<String> },
    /// ALTER TABLE name SET ("k" = "v").
    AlterTableSet { table: ObjectName, properties: Properties },
    /// ALTER TABLE, views, the recycle bin.
    Define(Define),
    /// DELETE FROM table [PARTITION p] WHERE conditions.
    Delete(Box<Delete>),
    /// INSERT INTO table [(columns)] [WITH LABEL l] VALUES ... | SELECT ...
    Insert(Box<Insert>),
    /// SELECT, WITH, VALUES, EXPLAIN: text for the query engine.
    Query(String),
    /// SET ...: session variables, NAMES, autocommit. Accepted and remembered where known.
    Set(Vec<(String, String)>),
    /// BEGIN, COMMIT, ROLLBACK, START TRANSACTION: accepted; every statement commits by itself.
    Transaction,
    /// KILL [CONNECTION | QUERY] number.
    Kill { connection: u32, query_only: bool },
    /// SHOW ...
    Show(Show),
    /// DESC table.
    Describe(ObjectName),
    /// ALTER SYSTEM ...
    AlterSystem(AlterSystem),
    /// CREATE [READ ONLY] REPOSITORY.
    CreateRepository(CreateRepository),
    /// ALTER REPOSITORY name [SET] PROPERTIES (...).
    AlterRepository { name: String, properties: Properties },
    /// DROP REPOSITORY [IF EXISTS] name.
    DropRepository { name: String, if_exists: bool },
    /// BACKUP SNAPSHOT.
    Backup(Backup),
    /// RESTORE SNAPSHOT.
    Restore(Restore),
    /// CANCEL BACKUP [FROM db].
    CancelBackup(Option<String>),
    /// CANCEL RESTORE [FROM db].
    CancelRestore(Option<String>),
    /// DROP SNAPSHOT.
    DropSnapshot(DropSnapshot),
    /// Users, roles, and what they hold.
    Account(AccountStatement),
    /// ADMIN SET FRONTEND CONFIG ("key" = "value").
    SetFrontendConfig(Properties),
    /// ADMIN SHOW and SET BACKEND or BROKER CONFIG.
    NodeConfig(NodeConfig),
    /// ADMIN CLEAN TRASH [ON (...)]: backends by address or id; none: all.
    CleanTrash(Vec<String>),
    /// HELP topic; empty for the contents.
    Help(String),
}

/// Options of backends or brokers, shown or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Whether it is about brokers; else backends.
    pub brokers: bool,
    /// "host:port" of those it is about; all when empty.
    pub addresses: Vec<String>,
    /// What changes; empty when options are only shown.
    pub set: Properties,
    /// Which options are shown.
    pub like: Option<String>,
}

/// CREATE USER and its kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountStatement {
    /// CREATE USER [IF NOT EXISTS] 'u'[@'h'] [IDENTIFIED BY 'p'] [DEFAULT ROLE 'r' [, ...]].
    CreateUser { name: AccountName, if_not_exists: bool, password: Option<NewPassword>, roles: BTreeSet<String> },
    /// ALTER USER [IF EXISTS] 'u'[@'h'] IDENTIFIED BY 'p'.
    AlterUser { name: AccountName, if_exists: bool, password: NewPassword },
    /// DROP USER [IF EXISTS] 'u'[@'h'].
    DropUser { name: AccountName, if_exists: bool },
    /// SET PASSWORD [FOR 'u'[@'h']] = PASSWORD('p'); without FOR of the account of the session.
    SetPassword { name: Option<AccountName>, password: NewPassword },
    /// CREATE ROLE [IF NOT EXISTS] 'r'.
    CreateRole { role: String, if_not_exists: bool },
    /// DROP ROLE [IF EXISTS] 'r'.
    DropRole { role: String, if_exists: bool },
    /// GRANT ... TO ...
    Grant { what: Granted, to: Grantee },
    /// REVOKE ... FROM ...
    Revoke { what: Granted, from: Grantee },
}

/// What is granted or revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// privilege [, ...] ON ...
    Privileges(BTreeSet<Privilege>, GrantOn),
    /// 'role' [, ...]
    Roles(BTreeSet<String>),
}

/// Where a privilege holds, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantOn {
    /// `*.*`
    Everything,
    /// `db.*`; the session's database for `*` alone.
    Database(Option<String>),
    /// `[db.]table`
    Table(ObjectName),
    /// `RESOURCE 'name'`
    Resource(String),
}

/// CREATE TABLE [IF NOT EXISTS] name (columns) [ENGINE=OLAP] [{DUPLICATE | AGGREGATE | UNIQUE} KEY(...)] [COMMENT] [PARTITION BY ...]
/// DISTRIBUTED BY ... [PROPERTIES].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    pub table: ObjectName,
    pub if_not_exists: bool,
    /// `key` is set for the key columns only when the clause is present.
    pub columns: Vec<Column>,
    /// INDEX among the columns.
    pub indexes: Vec<Index>,
    /// The key model and its columns; `None` without the clause (the columns that can be keys are taken).
    pub keys: Option<(Model, Vec<String>)>,
    pub comment: String,
    /// PARTITION BY {RANGE | LIST} (columns) (...).
    pub partition: Option<PartitionBy>,
    /// DISTRIBUTED BY HASH(columns); empty for RANDOM.
    pub bucket_columns: Vec<String>,
    /// BUCKETS n; `None` when absent or AUTO.
    pub buckets: Option<u32>,
    pub properties: Properties,
}

/// `INDEX name (columns) [USING kind] [PROPERTIES (...)] [COMMENT "text"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    pub columns: Vec<String>,
    pub kind: Option<&'static str>,
    pub properties: Properties,
    pub comment: String,
}

/// PARTITION BY RANGE or LIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBy {
    pub columns: Vec<String>,
    pub list: bool,
    pub partitions: Vec<PartitionDef>,
}

/// One PARTITION definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDef {
    /// Empty for [`PartitionValues::Steps`], which name themselves.
    pub name: String,
    pub values: PartitionValues,
    /// `("replication_num" = "1")` behind the values.
    pub properties: Properties,
}

/// The key range of a partition, as text: types are known only with the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionValues {
    /// VALUES LESS THAN (...); the lower bound is the largest upper bound below it.
    LessThan(Vec<BoundText>),
    /// VALUES [(lower), (upper)).
    Range { lower: Vec<BoundText>, upper: Vec<BoundText> },
    /// VALUES IN (...): keys, each with a value per column.
    In(Vec<Vec<BoundText>>),
    /// FROM (...) TO (...) INTERVAL n [unit]: one partition after the other.
    Steps { from: String, to: String, every: u32, unit: Option<StepUnit> },
}

/// How long the partitions of FROM ... TO ... are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepUnit {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// A literal, MAXVALUE, or in lists NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundText {
    Value(String),
    MaxValue,
    Null,
}

/// DELETE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    pub table: ObjectName,
    /// None: all.
    pub partitions: Vec<String>,
    pub predicate: Predicate,
}

/// INSERT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    pub table: ObjectName,
    /// Empty: all columns in order.
    pub columns: Vec<String>,
    pub label: Option<String>,
    /// The VALUES or SELECT part as text for the query engine.
    pub source: String,
}

/// SHOW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    Databases {
        like: Option<String>,
    },
    Tables {
        database: Option<String>,
        like: Option<String>,
        full: bool,
        /// Of `Tables_in_...` and `Table_type`.
        conditions: Vec<RowCondition>,
    },
    CreateTable(ObjectName),
    CreateDatabase(String),
    Columns {
        table: ObjectName,
        full: bool,
        like: Option<String>,
    },
    Partitions {
        table: ObjectName,
        filter: RowFilter,
    },
    Tablets {
        table: ObjectName,
        partitions: Vec<String>,
        filter: RowFilter,
    },
    Tablet(u64),
    Frontends,
    Backends,
    Brokers,
    Repositories,
    CreateRepository(String),
    Backup {
        database: Option<String>,
        filter: RowFilter,
    },
    Restore {
        database: Option<String>,
        brief: bool,
        filter: RowFilter,
    },
    Snapshot {
        repository: String,
        label: Option<String>,
        timestamp: Option<String>,
    },
    Variables {
        like: Option<String>,
    },
    Status {
        like: Option<String>,
    },
    Warnings,
    Errors,
    /// FULL shows whole statements.
    ProcessList {
        full: bool,
    },
    /// SHOW GRANTS [FOR 'u'[@'h']], SHOW ALL GRANTS.
    Grants(GrantsOf),
    Roles,
    /// ADMIN SHOW FRONTEND CONFIG [LIKE 'x'].
    FrontendConfig {
        like: Option<String>,
    },
    Engines,
    Collation,
    CharacterSet,
    /// Views, the recycle bin, sizes, and paths.
    More(ShowMore),
    /// Index, keys, triggers, events, routines and the like: empty sets for tools that ask.
    Empty {
        columns: Vec<String>,
    },
}

/// Whose grants are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantsOf {
    /// Of the session's account.
    Own,
    /// Of this account.
    User(AccountName),
    /// Of every account.
    All,
}

/// WHERE / ORDER BY / LIMIT of SHOW statements, applied to the shown columns by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// Joined by AND.
    pub conditions: Vec<RowCondition>,
    /// Column and whether descending.
    pub order_by: Vec<(String, bool)>,
    pub limit: Option<u64>,
    pub offset: u64,
}

/// `column op 'value'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCondition {
    pub column: String,
    pub operator: RowOperator,
    pub value: String,
}

/// How a column is compared. Numbers compare as numbers when both sides are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOperator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
}

/// ALTER SYSTEM. Addresses are "host:port" as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterSystem {
    AddBackend(Vec<String>),
    /// DROP: always refused with the known warning.
    DropBackend(Vec<String>),
    /// DROPP: really drops.
    ForceDropBackend(Vec<String>),
    /// DECOMMISSION: moves replicas away, then drops.
    DecommissionBackend(Vec<String>),
    /// CANCEL DECOMMISSION.
    CancelDecommission(Vec<String>),
    AddBroker {
        name: String,
        addresses: Vec<String>,
    },
    DropBroker {
        name: String,
        addresses: Vec<String>,
    },
    DropAllBroker(String),
    /// MODIFY BROKER name ["host:port", ...] SET (...); no address: all of the name.
    ModifyBroker {
        name: String,
        addresses: Vec<String>,
        properties: Properties,
    },
    AddFollower(Vec<String>),
    AddObserver(Vec<String>),
    DropFollower(Vec<String>),
    DropObserver(Vec<String>),
}

/// CREATE [READ ONLY] REPOSITORY [IF NOT EXISTS] name WITH ... ON LOCATION "..." PROPERTIES (...).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRepository {
    pub name: String,
    pub if_not_exists: bool,
    pub read_only: bool,
    pub access: RepositoryAccess,
    pub location: String,
    pub properties: Properties,
}

/// WITH BROKER name | S3 | HDFS | LOCAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryAccess {
    Broker(String),
    S3,
    Hdfs,
    Local,
}

/// A table of BACKUP or RESTORE: `t [PARTITION (p, ...)] [AS alias]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    pub table: String,
    /// Empty: all.
    pub partitions: Vec<String>,
    /// Only in RESTORE.
    pub alias: Option<String>,
}

/// ON (...) or EXCLUDE (...) or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objects {
    All,
    On(Vec<TableRef>),
    Exclude(Vec<TableRef>),
}

/// BACKUP SNAPSHOT [db.]label TO repo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub label: ObjectName,
    pub repository: String,
    pub objects: Objects,
    pub properties: Properties,
}

/// DROP SNAPSHOT label {ON | FROM} repo [WHERE TIMESTAMP = "..."].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropSnapshot {
    pub label: String,
    pub repository: String,
    /// All of the label when absent.
    pub timestamp: Option<String>,
}

/// RESTORE SNAPSHOT [db.]label FROM repo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    pub label: ObjectName,
    pub repository: String,
    pub objects: Objects,
    pub properties: Properties,
}
