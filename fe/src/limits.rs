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
/// Partitions of one dynamic table that are wanted at a time.
pub const MAX_DYNAMIC_PARTITIONS: i64 = 20_000;
/// Things of one kind, place and name in the recycle bin; of more the oldest are gone.
pub const MAX_NAMESAKES_IN_BIN: usize = 3;
/// Buckets of one partition.
pub const MAX_BUCKETS: u32 = 10_000;
/// Tablets of one CREATE TABLE or TRUNCATE.
pub const MAX_TABLETS_PER_STATEMENT: usize = 200_000;
/// Replicas of one tablet.
pub const MAX_REPLICAS: u32 = 16;
/// Backends of a cluster.
pub const MAX_BACKENDS: usize = 1_000;
/// Frontends of a cluster.
pub const MAX_FRONTENDS: usize = 64;
/// Largest id of a frontend: ids of frontends are the lower bits of the term that backends and brokers see.
pub const MAX_FRONTEND_ID: u64 = (1 << FRONTEND_ID_BITS) - 1;
/// Bits of the id of a frontend.
pub const FRONTEND_ID_BITS: u32 = 12;
/// Answers of statements that are kept for when a statement is sent again: as many as come while one waits for a leader.
pub const MAX_KEPT_REQUESTS: usize = 16_384;
/// For how long they are kept, milliseconds.
pub const KEEP_REQUESTS_MS: u64 = 10 * 60 * 1_000;
/// Brokers of a cluster, over all names.
pub const MAX_BROKERS: usize = 1_000;
/// Repositories of a cluster.
pub const MAX_REPOSITORIES: usize = 1_000;
/// Accounts of a cluster.
pub const MAX_USERS: usize = 10_000;
/// Roles of a cluster.
pub const MAX_ROLES: usize = 1_000;
/// Scopes on which one account or role holds something.
pub const MAX_GRANTS: usize = 10_000;
/// Loads of one database that are not yet visible or aborted.
pub const MAX_OPEN_TRANSACTIONS: usize = 1_000;
/// Tablets of one backup or restore.
pub const MAX_TABLETS_PER_JOB: usize = 300_000;
/// Ended backup and restore jobs kept per database, for SHOW.
pub const MAX_ENDED_JOBS_PER_DATABASE: usize = 10;
/// INDEX definitions of one table; they are kept and do nothing.
pub const MAX_INDEXES: usize = 64;
/// Properties of one object.
pub const MAX_PROPERTIES: usize = 256;
/// Bytes of one property key or value, and of a comment.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// How long a change waits for its place in the log before the statement gives up.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two signs of life of the leader.
pub const HEARTBEAT: Duration = Duration::from_millis(150);
/// How long a message of the leader to one follower may take, with its answer; then it is sent again. Much longer than
/// between signs of life: on a machine that is busy, answers come late, and a leader without them does not lead.
pub const APPEND_WITHIN: Duration = Duration::from_millis(400);
/// For so long after its leader's last word nobody votes for another.
pub const LEADER_LEASE: Duration = Duration::from_millis(800);
/// After the lease a frontend waits for a time of its own between these, then asks whether it may stand for election.
pub const ELECTION_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(600));
/// The same before it stands once more.
pub const ELECTION_PAUSE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_millis(1_200));
/// How long a vote may take; it is made durable first.
pub const VOTE_WITHIN: Duration = Duration::from_millis(750);
/// A leader that heard nothing of a majority for so long stops leading.
pub const STEP_DOWN_AFTER: Duration = Duration::from_millis(1_500);
/// A leader that was called for so long in vain is lost to the frontend that calls it, even if it is heard.
pub const LEADER_SILENT: Duration = Duration::from_secs(3);
/// How long a statement waits for leaders, all in all; what it takes to run does not count.
pub const LEADER_WAIT: Duration = Duration::from_secs(15);
/// How long one question to the leader about the end of the log may take.
pub const BARRIER_WITHIN: Duration = Duration::from_secs(1);
/// Between tries of what needs a leader.
pub const LEADER_AGAIN: Duration = Duration::from_millis(50);
/// How long a question to another frontend about itself may take.
pub const STATUS_WITHIN: Duration = Duration::from_secs(1);
/// Bytes of one statement on its way to the leader; the MySQL protocol takes no larger ones.
pub const MAX_FORWARDED_BYTES: usize = 80 << 20;
/// Rows of a query that the leader answers to another frontend.
pub const MAX_FORWARDED_ROWS: usize = 1_000_000;
/// How long a new frontend tries to reach the one that helps it to join.
pub const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of one message of the Raft protocol: the largest entry of the log fits.
pub const MAX_RAFT_MESSAGE_BYTES: u64 = 512 << 20;
/// Bytes of one piece of a metadata snapshot on its way to another frontend.
pub const SNAPSHOT_PIECE_BYTES: u64 = 1 << 20;
/// How long one piece of a snapshot, and installing the whole, may take.
pub const SNAPSHOT_PIECE_WITHIN: Duration = Duration::from_secs(60);
/// Entries a follower may be behind before it gets a snapshot instead of them.
pub const MAX_LAG_ENTRIES: u64 = 20_000;
/// Entries a new follower may be behind when it gets its vote.
pub const VOTE_LAG_ENTRIES: u64 = 1_000;
/// How long a start waits for this frontend to lead.
pub const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a start may take to apply the log behind the last snapshot.
pub const REPLAY_TIMEOUT: Duration = Duration::from_secs(600);
/// Log entries after which the state is written as a snapshot.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 10_000;
/// Bytes of log after which the state is written as a snapshot.
pub const SNAPSHOT_EVERY_BYTES: u64 = 64 << 20;
/// Log entries kept behind a snapshot.
pub const LOG_KEEP_ENTRIES: u64 = 1_000;
/// Bytes of one file of the log; a larger group makes it longer.
pub const LOG_SEGMENT_BYTES: u64 = 32 << 20;
/// Bytes by which a file of the log is filled with zeros ahead of what is written.
pub const LOG_FILL_BYTES: u64 = 4 << 20;
/// Bytes of entries kept in memory for followers and for the state machine.
pub const LOG_CACHE_BYTES: usize = 16 << 20;
/// Bytes of entries handed out at a time for replication.
pub const LOG_READ_BYTES: usize = 4 << 20;
/// Proposals that wait for a place in the log; more wait for a place to wait.
pub const MAX_WAITING_PROPOSALS: usize = 4_096;
/// Proposals that share one entry of the log.
pub const GROUP_COMMANDS: usize = 256;
/// Bytes of proposals that share one entry of the log.
pub const GROUP_BYTES: usize = 1 << 20;
/// Entries of the log that this frontend has on their way at a time.
pub const GROUPS_IN_FLIGHT: usize = 3;
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
