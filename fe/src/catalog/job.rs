//! Backup and restore job records: what is replicated of a job.
//!
//! A record never holds file lists: those are in the manifests of the repository. Each state is a Raft entry of its own,
//! so that operators see the states they know in order, and a new leader re-issues the actions of the current one.

use crate::catalog::table::{Table, Tablet};
use crate::catalog::view::View;
use coffer_proto::ids::{BackendId, DbId, JobId, RepositoryId, TableId, TabletId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a job failed or ended: kind name and text; the first cause stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// `coffer_stdx::ErrorKind` name.
    pub kind: String,
    /// Sentence.
    pub message: String,
}

/// When things happened, milliseconds; 0 = not yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTimes {
    /// Submitted.
    pub created: u64,
    /// Restore: metadata read and planned.
    pub meta_prepared: u64,
    /// All snapshots made (backup) or all backends prepared (restore).
    pub snapshot_finished: u64,
    /// All uploaded (backup) or downloaded (restore).
    pub transfer_finished: u64,
    /// Ended, either way.
    pub finished: u64,
}

/// BACKUP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupJob {
    /// Id.
    pub id: JobId,
    /// SnapshotName.
    pub label: String,
    /// Database.
    pub db: DbId,
    /// Its name at submit.
    pub db_name: String,
    /// Repository.
    pub repository: RepositoryId,
    /// Its name at submit.
    pub repository_name: String,
    /// Names as asked for, with partitions when given: SHOW's BackupObjs.
    pub objects: Vec<(String, Vec<String>)>,
    /// `2022-04-08-15-52-29`, from the create time, UTC of the leader.
    pub timestamp: String,
    /// Seconds.
    pub timeout_s: u64,
    /// Random hex that starts the id of every pack of this job.
    pub pack_prefix: String,
    /// Tables (with only the partitions of the job) as they were at the cut: versions pinned here. Emptied at the end.
    pub tables: Vec<Table>,
    /// Views as they were at the cut.
    #[serde(default)]
    pub views: Vec<View>,
    /// State.
    pub state: BackupState,
    /// Times.
    pub times: JobTimes,
    /// Totals known so far.
    pub bytes: u64,
    /// Files in the snapshots.
    pub files: u64,
    /// Rows in the snapshots.
    pub rows: u64,
    /// Why it was cancelled.
    pub error: Option<JobError>,
    /// Whether everything it owned on backends and, if cancelled, in the repository is gone.
    pub cleaned: bool,
    /// `content = metadata_only`: tables without their rows.
    #[serde(default)]
    pub metadata_only: bool,
    /// What was left out, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The states operators poll, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupState {
    /// Accepted, versions pinned.
    Pending,
    /// Backends hard-link.
    Snapshoting,
    /// All snapshots exist; which backend holds which tablet's is decided and recorded.
    UploadSnapshot {
        /// Tablets by backend.
        holders: Vec<(BackendId, Vec<TabletId>)>,
    },
    /// Upload tasks run.
    Uploading {
        /// Task number to work; numbers are those of the manifest parts.
        parts: BTreeMap<u32, UploadPart>,
    },
    /// All data is up; `__meta` is being written.
    SaveMeta {
        /// Finished manifest parts.
        manifests: Vec<ManifestPart>,
    },
    /// `__meta` is up; `__info`, the commit, is being written.
    UploadInfo {
        /// Finished manifest parts.
        manifests: Vec<ManifestPart>,
        /// File name of `__meta`.
        meta: String,
    },
    /// The snapshot exists.
    Finished,
    /// Failed or cancelled, see `error`.
    Cancelled,
}

/// One upload task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPart {
    /// Who uploads.
    pub backend: BackendId,
    /// Which tablets.
    pub tablets: Vec<TabletId>,
    /// Set when done.
    pub done: Option<ManifestPart>,
}

/// A manifest part in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    /// File name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Tablets in it.
    pub tablets: u64,
    /// Bytes of the blobs it lists.
    pub data_bytes: u64,
    /// Files it lists.
    #[serde(default)]
    pub files: u64,
}

/// RESTORE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreJob {
    /// Id.
    pub id: JobId,
    /// Label of the snapshot.
    pub label: String,
    /// backup_timestamp.
    pub timestamp: String,
    /// Target database.
    pub db: DbId,
    /// Its name at submit.
    pub db_name: String,
    /// Repository.
    pub repository: RepositoryId,
    /// Its name at submit.
    pub repository_name: String,
    /// RestoreObjs, as JSON text for SHOW.
    pub objects: String,
    /// Properties as given.
    pub properties: BTreeMap<String, String>,
    /// Seconds.
    pub timeout_s: u64,
    /// What will be there after the commit, with new ids and placements. Emptied at the end.
    pub targets: Vec<RestoreTarget>,
    /// Views that will be there after the commit, with new ids.
    #[serde(default)]
    pub views: Vec<RestoreView>,
    /// Manifest parts of the snapshot: file names.
    pub manifests: Vec<String>,
    /// State.
    pub state: RestoreState,
    /// Times.
    pub times: JobTimes,
    /// Bytes in the snapshot for what is restored, times replicas.
    pub bytes: u64,
    /// Files, likewise.
    pub files: u64,
    /// Why it was cancelled.
    pub error: Option<JobError>,
    /// Whether everything it owned on backends is gone.
    pub cleaned: bool,
    /// What the statement asked for beyond the targets.
    #[serde(default)]
    pub options: RestoreOptions,
    /// Replicas that other backends took over, in order; `targets` keep the first placement.
    #[serde(default)]
    pub moves: Vec<ReplicaMove>,
    /// What will not be as in the snapshot, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Switches of RESTORE that act after the submit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOptions {
    /// `allow_load`: tables that are overwritten take loads until COMMIT; what goes into overwritten partitions is lost.
    #[serde(default)]
    pub allow_load: bool,
    /// `clean_partitions`: partitions of restored tables that are not restored are dropped with the switch.
    #[serde(default)]
    pub clean_partitions: bool,
    /// `clean_tables`: tables that are dropped with the switch, as the database was at submit.
    #[serde(default)]
    pub drop_tables: Vec<TableId>,
    /// What is replaced or dropped goes to the recycle bin.
    #[serde(default)]
    pub recycle: bool,
    /// `clean_tables`: views that are dropped with the switch.
    #[serde(default)]
    pub drop_views: Vec<TableId>,
}

/// A backend was lost during a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaMove {
    /// Who was to hold replicas.
    pub from: BackendId,
    /// Who holds which instead; a tablet that is not named does with the replicas it has left.
    pub to: Vec<(TabletId, BackendId)>,
}

/// One view of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreView {
    /// The new view.
    pub view: View,
    /// Whether one of its name gives way.
    #[serde(default)]
    pub replaces: bool,
}

/// One table of a restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreTarget {
    /// The new table (name and all), or, when `into` is set, only its partitions count.
    pub table: Table,
    /// Existing table that takes the partitions (those of the same name are replaced), or `None`: a new table.
    pub into: Option<TableId>,
    /// New tablet to tablet in the snapshot.
    pub sources: Vec<(TabletId, TabletId)>,
    /// `atomic_restore`: the existing table whose place the new one takes as a whole; `into` is not set then.
    #[serde(default)]
    pub replaces: Option<TableId>,
}

impl RestoreTarget {
    /// Whether it brings a table of a name that is not there.
    pub fn is_new(&self) -> bool {
        self.into.is_none() && self.replaces.is_none()
    }

    /// Whether it changes this table or takes its place.
    pub fn changes(&self, table: TableId) -> bool {
        self.into == Some(table) || self.replaces == Some(table)
    }
}

impl RestoreJob {
    /// The backends that hold a tablet after all moves.
    pub fn replicas(&self, tablet: &Tablet) -> Vec<BackendId> {
        let mut replicas = tablet.replicas.clone();
        for moved in &self.moves {
            let Some(at) = replicas.iter().position(|backend| *backend == moved.from) else { continue };
            match moved.to.binary_search_by_key(&tablet.id, |(tablet, _)| *tablet) {
                Ok(found) => replicas[at] = moved.to[found].1,
                Err(_) => drop(replicas.remove(at)),
            }
        }
        replicas
    }
}

/// The states operators poll, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreState {
    /// Accepted and planned.
    Pending,
    /// Backends check space and make directories.
    Snapshoting,
    /// Ready to send downloads.
    Download,
    /// Backends download; the tasks that are done.
    Downloading {
        /// Numbers of finished tasks; the plan is a pure function of the record.
        done: Vec<u32>,
    },
    /// All replicas are complete below the job's directories; backends move them into place.
    Commit,
    /// The catalog switched in one entry; backends drop what was replaced.
    Committing,
    /// Restored.
    Finished,
    /// Failed or cancelled, see `error`.
    Cancelled,
}

impl BackupState {
    /// The name operators poll.
    pub fn name(&self) -> &'static str {
        match self {
            BackupState::Pending => "PENDING",
            BackupState::Snapshoting => "SNAPSHOTING",
            BackupState::UploadSnapshot { .. } => "UPLOAD_SNAPSHOT",
            BackupState::Uploading { .. } => "UPLOADING",
            BackupState::SaveMeta { .. } => "SAVE_META",
            BackupState::UploadInfo { .. } => "UPLOAD_INFO",
            BackupState::Finished => "FINISHED",
            BackupState::Cancelled => "CANCELLED",
        }
    }

    /// Position in the order of states.
    pub fn step(&self) -> u8 {
        match self {
            BackupState::Pending => 0,
            BackupState::Snapshoting => 1,
            BackupState::UploadSnapshot { .. } => 2,
            BackupState::Uploading { .. } => 3,
            BackupState::SaveMeta { .. } => 4,
            BackupState::UploadInfo { .. } => 5,
            BackupState::Finished => 6,
            BackupState::Cancelled => 7,
        }
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, BackupState::Finished | BackupState::Cancelled)
    }
}

impl RestoreState {
    /// The name operators poll.
    pub fn name(&self) -> &'static str {
        match self {
            RestoreState::Pending => "PENDING",
            RestoreState::Snapshoting => "SNAPSHOTING",
            RestoreState::Download => "DOWNLOAD",
            RestoreState::Downloading { .. } => "DOWNLOADING",
            RestoreState::Commit => "COMMIT",
            RestoreState::Committing => "COMMITTING",
            RestoreState::Finished => "FINISHED",
            RestoreState::Cancelled => "CANCELLED",
        }
    }

    /// Position in the order of states.
    pub fn step(&self) -> u8 {
        match self {
            RestoreState::Pending => 0,
            RestoreState::Snapshoting => 1,
            RestoreState::Download => 2,
            RestoreState::Downloading { .. } => 3,
            RestoreState::Commit => 4,
            RestoreState::Committing => 5,
            RestoreState::Finished => 6,
            RestoreState::Cancelled => 7,
        }
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, RestoreState::Finished | RestoreState::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_operators_know_in_order() {
        let backup = [
            BackupState::Pending,
            BackupState::Snapshoting,
            BackupState::UploadSnapshot { holders: Vec::new() },
            BackupState::Uploading { parts: BTreeMap::new() },
            BackupState::SaveMeta { manifests: Vec::new() },
            BackupState::UploadInfo { manifests: Vec::new(), meta: String::new() },
            BackupState::Finished,
            BackupState::Cancelled,
        ];
        let names: Vec<&str> = backup.iter().map(BackupState::name).collect();
        let known = "PENDING SNAPSHOTING UPLOAD_SNAPSHOT UPLOADING SAVE_META UPLOAD_INFO FINISHED CANCELLED";
        assert_eq!(names.join(" "), known);
        assert!(backup.iter().enumerate().all(|(at, state)| usize::from(state.step()) == at));
        let restore = [
            RestoreState::Pending,
            RestoreState::Snapshoting,
            RestoreState::Download,
            RestoreState::Downloading { done: Vec::new() },
            RestoreState::Commit,
            RestoreState::Committing,
            RestoreState::Finished,
            RestoreState::Cancelled,
        ];
        let names: Vec<&str> = restore.iter().map(RestoreState::name).collect();
        assert_eq!(names.join(" "), "PENDING SNAPSHOTING DOWNLOAD DOWNLOADING COMMIT COMMITTING FINISHED CANCELLED");
        assert!(restore.iter().enumerate().all(|(at, state)| usize::from(state.step()) == at));
    }
}
