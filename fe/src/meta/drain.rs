//! How a backend leaves, or is replaced: what changes on the way, and what still refers to it. Pure.
//!
//! The backend is marked, its replicas are copied to others and exchanged in the catalog one by one, and it goes when
//! nothing refers to it. Each of these is a change of its own, so that whoever leads next goes on from what the log says.

use crate::catalog::bin::Dropped;
use crate::catalog::job::{BackupJob, BackupState, RestoreJob};
use crate::catalog::table::{Partition, Table, Tablet};
use crate::meta::state::State;
use crate::meta::view::{JobKind, RunningJob};
use coffer_proto::ids::{BackendId, DbId, PartitionId, TableId, TabletId};
use serde::{Deserialize, Serialize};

/// A step of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainChange {
    /// DECOMMISSION (`on`), or CANCEL DECOMMISSION. Refused when no backend would stay.
    Decommission {
        /// Which.
        backends: Vec<BackendId>,
        /// Whether they are to leave.
        on: bool,
    },
    /// Copies take the place of replicas. What does not fit any more is passed over.
    Swap {
        /// Which.
        swaps: Vec<ReplicaSwap>,
        /// All of them or none.
        together: bool,
    },
    /// Drop a marked backend that nothing refers to; refused (Conflict) otherwise.
    Remove {
        /// Which.
        backend: BackendId,
    },
}

/// A complete copy of a replica is on another backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSwap {
    /// Of this table.
    pub table: TableId,
    /// Of this partition.
    pub partition: PartitionId,
    /// Of this tablet.
    pub tablet: TabletId,
    /// The version that was copied: the visible one, or that of the last commit when the replica is lost.
    pub version: u64,
    /// Who holds the replica.
    pub from: BackendId,
    /// Who holds the copy.
    pub to: BackendId,
    /// The replica is lost: its backend was dropped, or the leader has waited for it long enough.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// A partition, dropped or not.
#[derive(Debug, Clone, Copy)]
pub struct Lot<'a> {
    /// The database of a table that is not in the recycle bin.
    pub db: Option<DbId>,
    /// Its table.
    pub table: TableId,
    /// The colocation group of a table that is not in the recycle bin.
    pub group: Option<&'a str>,
    /// It.
    pub partition: &'a Partition,
}

/// What refers to a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Replicas of tables.
    pub replicas: u64,
    /// Replicas of what is in the recycle bin.
    pub in_bin: u64,
    /// A job that is not over and has to do with it.
    pub job: Option<RunningJob>,
}

impl Leftovers {
    /// In words, for operators; `None` when there is nothing.
    pub fn describe(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.replicas > 0 {
            parts.push(format!("{} tablets of tables", self.replicas));
        }
        if self.in_bin > 0 {
            parts.push(format!("{} tablets in the recycle bin", self.in_bin));
        }
        if let Some(job) = &self.job {
            let kind = if job.kind == JobKind::Backup { "backup" } else { "restore" };
            parts.push(format!("{kind} {} with label {}", job.id, job.label));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl State {
    /// All partitions, those in the recycle bin among them.
    pub fn lots(&self) -> impl Iterator<Item = Lot<'_>> {
        let live = self.databases.values().flat_map(|database| {
            database.tables.values().flat_map(move |table| of_table(table, Some(database.id), table.group()))
        });
        let dropped = self.bin.values().flat_map(|entry| of_dropped(&entry.what));
        live.chain(dropped)
    }

    /// What still refers to a backend.
    pub fn leftovers(&self, backend: BackendId) -> Leftovers {
        let mut left = Leftovers::default();
        for lot in self.lots() {
            let here = lot.partition.tablets.iter().filter(|tablet| tablet.replicas.contains(&backend)).count() as u64;
            *(if lot.db.is_some() { &mut left.replicas } else { &mut left.in_bin }) += here;
        }
        let backups = self.backups.values().filter(|job| !job.state.is_over() && backup_on(job, backend));
        let restores = self.restores.values().filter(|job| !job.state.is_over() && restore_on(job, backend));
        let backups = backups.map(|job| RunningJob { id: job.id, label: job.label.clone(), kind: JobKind::Backup });
        let restores = restores.map(|job| RunningJob { id: job.id, label: job.label.clone(), kind: JobKind::Restore });
        left.job = backups.chain(restores).next();
        left
    }
}

fn of_table<'a>(table: &'a Table, db: Option<DbId>, group: Option<&'a str>) -> impl Iterator<Item = Lot<'a>> {
    table.partitions.values().map(move |partition| Lot { db, table: table.id, group, partition })
}

fn of_dropped(what: &Dropped) -> Vec<Lot<'_>> {
    match what {
        Dropped::Database(database) => database.tables.values().flat_map(|table| of_table(table, None, None)).collect(),
        Dropped::Table { table, .. } => of_table(table, None, None).collect(),
        Dropped::Partition { table, partition, .. } => vec![Lot { db: None, table: *table, group: None, partition }],
    }
}

fn backup_on(job: &BackupJob, backend: BackendId) -> bool {
    let holds = match &job.state {
        BackupState::UploadSnapshot { holders } => holders.iter().any(|(holder, _)| *holder == backend),
        BackupState::Uploading { parts } => parts.values().any(|part| part.backend == backend),
        _ => false,
    };
    let pinned = |(_, tablet): (&Partition, &Tablet)| tablet.replicas.contains(&backend);
    holds || job.tables.iter().any(|table| table.tablets().any(pinned))
}

fn restore_on(job: &RestoreJob, backend: BackendId) -> bool {
    let mut tablets = job.targets.iter().flat_map(|target| target.table.tablets());
    tablets.any(|(_, tablet)| job.replicas(tablet).contains(&backend))
}
