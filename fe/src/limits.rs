//! Every bound of this process, with its unit in the name or the comment. What is replicated is bounded by constants, not
//! by configuration, because every frontend must decide alike.

use std::time::Duration;

/// Databases of a cluster.
pub const MAX_DATABASES: usize = 10_000;
/// Tables of one database.
pub const MAX_TABLES_PER_DATABASE: usize = 100_000;
/// Columns of one table.
pub const MAX_COLUMNS: usize = 4_096;
/// Partitions of one table.
pub const MAX_PARTITIONS_PER_TABLE: usize = 20_000;
/// Buckets of one partition.
pub const MAX_BUCKETS: u32 = 10_000;
/// Tablets of one CREATE TABLE or TRUNCATE.
pub const MAX_TABLETS_PER_STATEMENT: usize = 200_000;
/// Replicas of one tablet.
pub const MAX_REPLICAS: u32 = 16;
/// Backends of a cluster.
pub const MAX_BACKENDS: usize = 1_000;
/// Brokers of a cluster, over all names.
pub const MAX_BROKERS: usize = 1_000;
/// Repositories of a cluster.
pub const MAX_REPOSITORIES: usize = 1_000;
/// Loads of one database that are not yet visible or aborted.
pub const MAX_OPEN_TRANSACTIONS: usize = 1_000;
/// Tablets of one backup or restore.
pub const MAX_TABLETS_PER_JOB: usize = 300_000;
/// Ended backup and restore jobs kept per database, for SHOW.
pub const MAX_ENDED_JOBS_PER_DATABASE: usize = 10;
/// Properties of one object.
pub const MAX_PROPERTIES: usize = 256;
/// Bytes of one property key or value, and of a comment.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// How long a change waits for its place in the log before the statement gives up.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a start waits for this frontend to lead.
pub const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a start may take to apply the log behind the last snapshot.
pub const REPLAY_TIMEOUT: Duration = Duration::from_secs(600);
/// Log entries after which the state is written as a snapshot.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 10_000;
/// Log entries kept behind a snapshot.
pub const LOG_KEEP_ENTRIES: u64 = 1_000;
/// Appends that the log writer joins into one fsync.
pub const LOG_GROUP_APPENDS: usize = 512;

/// How long a stop waits for open statements and streams.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Session variables that one connection may set.
pub const MAX_SESSION_VARIABLES: usize = 1_024;
/// Warnings kept for SHOW WARNINGS.
pub const MAX_WARNINGS: usize = 64;
/// Stack of the threads that run queries, for the deepest expression that `sql::depth` lets pass; only what is used takes
/// memory.
pub const THREAD_STACK_BYTES: usize = 16 << 20;
