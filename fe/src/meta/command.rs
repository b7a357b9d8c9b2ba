//! Every way the replicated state may change. Times are put in by the leader; ids are taken by `apply` from
//! [`State::next_id`](crate::meta::state::State::next_id), in an order that depends only on the command.

#![allow(missing_docs, reason = "fields are named after the catalog objects they become")]

use crate::account::{AccountName, Digests, Grantee, Privilege, Scope, User};
use crate::catalog::cluster::Access;
use crate::catalog::job::{BackupState, JobError, ManifestPart, RestoreOptions, RestoreTarget, RestoreView};
use crate::catalog::rate::{RateChange, RateLimits};
use crate::catalog::table::Partitioning;
use crate::meta::definition::Definition;
use crate::meta::drain::DrainChange;
use coffer_proto::ids::{BackendId, DbId, JobId, PartitionId, RepositoryId, TableId, TabletId, TransactionId};
use coffer_stdx::{Error, ErrorKind};
use coffer_table::{KeyRange, Schema};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a new cluster: id and the users root and admin.
    Bootstrap {
        cluster_id: String,
    },
    CreateDatabase {
        name: String,
    },
    /// Refused (Conflict) while a job runs in it.
    DropDatabase {
        db: DbId,
    },
    CreateTable(NewTable),
    /// Pinned versions of running backups stay readable: backends keep the tablets that jobs claim.
    DropTable {
        db: DbId,
        table: TableId,
    },
    /// Give partitions new, empty tablets.
    Truncate {
        db: DbId,
        table: TableId,
        partitions: Vec<(PartitionId, Placement)>,
        now_ms: u64,
    },
    /// Merge into the table's properties; an empty value removes the key.
    SetProperties {
        db: DbId,
        table: TableId,
        properties: BTreeMap<String, String>,
    },
    AddBackends {
        addresses: Vec<(String, u16)>,
        now_ms: u64,
    },
    DropBackends {
        backends: Vec<BackendId>,
    },
    /// Replicas leave backends that are to leave.
    Drain(DrainChange),
    AddBrokers {
        name: String,
        addresses: Vec<String>,
    },
    /// An empty list drops the whole group.
    DropBrokers {
        name: String,
        addresses: Vec<String>,
    },
    /// The first frontend of a cluster writes itself down.
    AdoptFrontend {
        id: u64,
        host: String,
        port: u16,
        now_ms: u64,
    },
    AddFrontends {
        addresses: Vec<(String, u16)>,
        observer: bool,
        now_ms: u64,
    },
    /// A process took the id; answers it again only to the same token.
    JoinFrontend {
        id: u64,
        token: String,
    },
    /// Refused (Conflict) for the last follower.
    DropFrontends {
        ids: Vec<u64>,
    },
    /// A change on behalf of a statement that may be sent again: done once, answered alike each time.
    Once {
        request: String,
        now_ms: u64,
        command: Box<Command>,
    },
    CreateRepository(NewRepository),
    AlterRepository(AlteredRepository),
    /// How fast bytes may pass brokers of a name; no address: all that it has now.
    AlterBrokers {
        name: String,
        addresses: Vec<String>,
        limits: RateChange,
    },
    /// Refused (Conflict) while a job uses it.
    DropRepository {
        repository: RepositoryId,
    },
    /// Accounts, roles and what they hold.
    Account(AccountChange),
    SetUser {
        name: String,
        user: User,
    },
    BeginTransaction {
        label: String,
        db: DbId,
        table: TableId,
        now_ms: u64,
        deadline_ms: u64,
    },
    /// `partitions`: touched ones; each gets the next version. None at all (an empty load): VISIBLE at once.
    /// `tablets` (those that got rows) and a new id as `sequence` are kept in the transaction.
    CommitTransaction {
        transaction: TransactionId,
        partitions: Vec<PartitionId>,
        rows: u64,
        tablets: Vec<TabletId>,
        now_ms: u64,
    },
    /// The first half of a commit: what the commit needs is kept, which then takes it from here. Repeated it changes nothing.
    PrecommitTransaction {
        transaction: TransactionId,
        partitions: Vec<PartitionId>,
        rows: u64,
        tablets: Vec<TabletId>,
        now_ms: u64,
        /// Until when it must be committed.
        deadline_ms: u64,
    },
    /// A DELETE: each partition gets a version under which older rows that match are gone.
    CommitDelete {
        transaction: TransactionId,
        partitions: Vec<PartitionId>,
        predicate: coffer_table::Predicate,
        now_ms: u64,
    },
    MakeVisible {
        transaction: TransactionId,
        now_ms: u64,
    },
    AbortTransaction {
        transaction: TransactionId,
        reason: String,
        now_ms: u64,
    },
    /// Forget ended transactions that ended before.
    PurgeTransactions {
        before_ms: u64,
    },
    /// Pins the visible version of every partition named, in this one entry.
    CreateBackup(NewBackup),
    /// `from` must be the current state's name, else Conflict: a late driver changes nothing.
    AdvanceBackup {
        job: JobId,
        from: String,
        to: BackupState,
        counts: Option<Counts>,
        now_ms: u64,
        /// Replicas that were passed over, in words; those that the job has among its warnings already stay once.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        passed_over: Vec<String>,
    },
    /// An upload task is done.
    UploadDone {
        job: JobId,
        part: u32,
        manifest: ManifestPart,
    },
    CreateRestore(NewRestore),
    AdvanceRestore {
        job: JobId,
        from: String,
        to: RestoreStep,
        now_ms: u64,
    },
    /// A backend was lost: other backends take over its replicas of a restore. Sorted by tablet.
    MoveReplicas {
        job: JobId,
        from: BackendId,
        to: Vec<(TabletId, BackendId)>,
    },
    /// Download tasks are done.
    DownloadDone {
        job: JobId,
        parts: Vec<u32>,
    },
    /// Ends a job that is not over; the first cause stays.
    CancelJob {
        job: JobId,
        error: JobError,
        now_ms: u64,
    },
    /// Nothing is left of the job outside this state.
    JobCleaned {
        job: JobId,
    },
    /// What ALTER TABLE, RECOVER, views and the recycle bin change.
    Define(Definition),
    /// Changes of several proposals that share one entry of the log: one after the other, each with an outcome of its own.
    Group(Vec<Command>),
}

impl Command {
    /// About how many bytes it takes in the log.
    pub(crate) fn weight(&self) -> usize {
        const SMALL: usize = 1 << 10;
        const PER_TABLET: usize = 32;
        let placed =
            |placement: &Placement| -> usize { placement.iter().map(|replicas| PER_TABLET + 8 * replicas.len()).sum() };
        SMALL
            + match self {
                Command::CreateDatabase { name } => name.len(),
                Command::Once { command, .. } => command.weight(),
                Command::CreateTable(new) => {
                    let partitions = new.partitions.iter().map(|partition| SMALL / 4 + placed(&partition.placement));
                    partitions.sum::<usize>() + SMALL / 8 * new.schema.columns.len()
                }
                Command::Define(Definition::AddPartitions { partitions, .. }) => {
                    partitions.iter().map(|partition| SMALL / 4 + placed(&partition.placement)).sum()
                }
                Command::Define(Definition::CreateView(new)) => new.view.query.len(),
                Command::Truncate { partitions, .. } => partitions.iter().map(|(_, placement)| placed(placement)).sum(),
                Command::Drain(DrainChange::Swap { swaps, .. }) => 4 * PER_TABLET * swaps.len(),
                Command::CommitTransaction { tablets, partitions, .. }
                | Command::PrecommitTransaction { tablets, partitions, .. } => 16 * (tablets.len() + partitions.len()),
                // Whole plans of jobs: these go alone.
                Command::CreateRestore(_) | Command::AdvanceBackup { .. } => crate::limits::GROUP_BYTES,
                _ => 0,
            }
    }
}

/// What happens to accounts. Passwords come as digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountChange {
    CreateUser {
        name: AccountName,
        digests: Digests,
        roles: BTreeSet<String>,
    },
    SetPassword {
        name: AccountName,
        digests: Digests,
    },
    /// `root` stays.
    DropUser {
        name: AccountName,
    },
    CreateRole {
        role: String,
    },
    /// Whoever has it loses it.
    DropRole {
        role: String,
    },
    Grant {
        to: Grantee,
        scope: Scope,
        privileges: BTreeSet<Privilege>,
    },
    /// Refused when none of them is held on exactly that scope.
    Revoke {
        from: Grantee,
        scope: Scope,
        privileges: BTreeSet<Privilege>,
    },
    GrantRoles {
        to: AccountName,
        roles: BTreeSet<String>,
    },
    RevokeRoles {
        from: AccountName,
        roles: BTreeSet<String>,
    },
}

/// Sums for SHOW.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub bytes: u64,
    pub files: u64,
    pub rows: u64,
}

/// Where the tablets of one partition go: backends per bucket.
pub type Placement = Vec<Vec<BackendId>>;

/// CREATE TABLE after all checks that need no state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewTable {
    pub db: DbId,
    pub name: String,
    pub schema: Schema,
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub partitioning: Partitioning,
    pub bucket_columns: Vec<String>,
    pub properties: BTreeMap<String, String>,
    pub comment: String,
    pub partitions: Vec<NewPartition>,
    pub now_ms: u64,
}

/// One partition of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewPartition {
    pub name: String,
    pub range: Option<KeyRange>,
    pub replication_num: u32,
    pub placement: Placement,
}

/// CREATE REPOSITORY after the probe.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct NewRepository {
    pub name: String,
    pub remote_name: String,
    pub read_only: bool,
    pub access: Access,
    pub location: String,
    pub properties: BTreeMap<String, String>,
    pub now_ms: u64,
    #[serde(default)]
    pub limits: Option<RateLimits>,
}

/// ALTER REPOSITORY after the probe.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct AlteredRepository {
    pub repository: RepositoryId,
    /// Merged into those it has; an empty value removes one.
    pub properties: BTreeMap<String, String>,
    #[serde(default)]
    pub limits: RateChange,
}

/// Secrets stay out.
impl std::fmt::Debug for AlteredRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlteredRepository").field("repository", &self.repository).finish_non_exhaustive()
    }
}

/// Secrets stay out.
impl std::fmt::Debug for NewRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewRepository").field("name", &self.name).finish_non_exhaustive()
    }
}

/// BACKUP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewBackup {
    pub db: DbId,
    pub label: String,
    pub repository: RepositoryId,
    /// Table names with partition names (empty: all); empty list: every table.
    pub objects: Vec<(String, Vec<String>)>,
    pub timestamp: String,
    pub timeout_s: u64,
    pub pack_prefix: String,
    pub now_ms: u64,
    #[serde(default)]
    pub metadata_only: bool,
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// RESTORE. The targets carry placeholder ids: `apply` gives new ids to tables, partitions and tablets in order and
/// rewrites `sources` (whose first half indexes the tablets of the target in order).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewRestore {
    pub db: DbId,
    pub label: String,
    pub timestamp: String,
    pub repository: RepositoryId,
    pub objects: String,
    pub properties: BTreeMap<String, String>,
    pub timeout_s: u64,
    #[serde(with = "super::compact")]
    pub targets: Vec<RestoreTarget>,
    #[serde(default)]
    pub views: Vec<RestoreView>,
    pub manifests: Vec<String>,
    pub bytes: u64,
    pub files: u64,
    pub now_ms: u64,
    #[serde(default)]
    pub options: RestoreOptions,
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Where a restore goes next; `Committing` is the entry that switches the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreStep {
    Snapshoting,
    Download,
    Downloading,
    Commit,
    Committing,
    Finished,
}

/// What `apply` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done; the id of what was created.
    Created(u64),
    /// Committed with these versions.
    Versions(Vec<(PartitionId, u64)>),
    /// One outcome for each command of a group.
    Group(Vec<Outcome>),
    /// Refused; nothing changed.
    Refused { kind: String, message: String, number: u16 },
}

impl Outcome {
    /// A refusal as an error, anything else as itself.
    pub fn into_result(self) -> Result<Outcome, Error> {
        match self {
            Outcome::Refused { kind, message, number } => {
                Err(Error::new(ErrorKind::from_name(&kind).unwrap_or(ErrorKind::Bug), message).numbered(number))
            }
            other => Ok(other),
        }
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Outcome {
        Outcome::Refused {
            kind: error.kind().name().to_owned(),
            message: error.message().to_owned(),
            number: error.number(),
        }
    }
}
