//! SHOW [BRIEF] RESTORE.

use crate::catalog::job::{RestoreJob, RestoreState};
use crate::error::{Error, Result};
use crate::exec::answer::RowSet;
use crate::exec::backup::show::{Cells, Transfer, status, time};
use crate::exec::context::Context;
use crate::exec::ddl::{REPLICATION_NUM, show_allocation};
use crate::exec::filter;
use crate::exec::session::Session;
use crate::job::JobProgress;
use crate::job::action::Key;
use crate::job::restore::parts;
use crate::sql::ast::RowFilter;
use coffer_proto::ids::BackendId;

const COLUMNS: [&str; 28] = [
    "JobId",
    "Label",
    "Timestamp",
    "DbName",
    "State",
    "AllowLoad",
    "ReplicationNum",
    "ReplicaAllocation",
    "ReserveReplica",
    "ReserveDynamicPartitionEnable",
    "RestoreObjs",
    "CreateTime",
    "MetaPreparedTime",
    "SnapshotFinishedTime",
    "DownloadFinishedTime",
    "FinishedTime",
    "UnfinishedTasks",
    "Progress",
    "TaskErrMsg",
    "Status",
    "Timeout",
    "BytesDone",
    "BytesTotal",
    "FilesDone",
    "FilesTotal",
    "Rate",
    "TimeLeft",
    "Warnings",
];
/// What BRIEF leaves out: the long ones, and what operators of other systems do not know.
const NOT_BRIEF: [&str; 10] = [
    "RestoreObjs",
    "Progress",
    "TaskErrMsg",
    "BytesDone",
    "BytesTotal",
    "FilesDone",
    "FilesTotal",
    "Rate",
    "TimeLeft",
    "Warnings",
];

/// The jobs of a database, oldest first.
pub(super) fn rows(
    context: &Context,
    session: &Session,
    database: Option<&str>,
    (brief, wanted): (bool, &RowFilter),
) -> Result<RowSet> {
    let mut set = RowSet::new(COLUMNS);
    context.meta.view(|state| {
        let database = state.database_or_current(database, session.database.as_deref())?;
        let jobs = state.restores.values().filter(|job| job.db == database.id);
        set.rows.extend(jobs.map(|job| row(context, job)));
        Ok::<_, Error>(())
    })?;
    let set = filter::apply(set, wanted)?;
    Ok(if brief { shorten(set) } else { set })
}

fn shorten(set: RowSet) -> RowSet {
    let keep: Vec<bool> = set.columns.iter().map(|column| !NOT_BRIEF.contains(&column.as_str())).collect();
    let only = |row: Vec<Option<String>>| {
        row.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(cell, _)| cell).collect::<Vec<_>>()
    };
    let columns = set.columns.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(column, _)| column).collect();
    RowSet { columns, rows: set.rows.into_iter().map(only).collect() }
}

fn row(context: &Context, job: &RestoreJob) -> Vec<Option<String>> {
    let progress = context.jobs.progress(job.id).unwrap_or_default();
    let running = !job.state.is_over();
    let open = if running { unfinished(job, &progress) } else { Vec::new() };
    let shown = if running { Cells::of(context, &open, &progress) } else { Cells::default() };
    let transfer = Transfer::new(done(job, &open, &progress), job.bytes, &progress);
    let property = |name: &str| {
        let found = job.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_ascii_lowercase())
    };
    let switch = |name: &str| Some(property(name).unwrap_or_else(|| "false".to_owned()));
    let replicas = property(REPLICATION_NUM).unwrap_or_default();
    let allocation = replicas.trim().parse().map(show_allocation).unwrap_or_default();
    vec![
        Some(job.id.to_string()),
        Some(job.label.clone()),
        Some(job.timestamp.clone()),
        Some(job.db_name.clone()),
        Some(job.state.name().to_owned()),
        switch("allow_load"),
        Some(replicas),
        Some(allocation),
        switch("reserve_replica"),
        switch("reserve_dynamic_partition_enable"),
        Some(job.objects.clone()),
        time(job.times.created),
        time(job.times.meta_prepared),
        time(job.times.snapshot_finished),
        time(job.times.transfer_finished),
        time(job.times.finished),
        Some(shown.unfinished),
        Some(shown.progress),
        Some(shown.errors),
        Some(status(job.error.as_ref())),
        Some(job.timeout_s.to_string()),
        Some(transfer.done.to_string()),
        Some(transfer.total.to_string()),
        Some(files_done(job, &open, &progress).to_string()),
        Some(job.files.to_string()),
        transfer.rate(),
        transfer.time_left(running),
        Some(job.warnings.join("; ")),
    ]
}

/// The tasks of the current state that are not done, whether they run or wait.
fn unfinished(job: &RestoreJob, progress: &JobProgress) -> Vec<(Key, Option<BackendId>)> {
    match &job.state {
        RestoreState::Downloading { done } => {
            let valid = (1..).zip(parts(job)).filter(|(_, part)| !part.void);
            let open = valid.filter(|(number, _)| done.binary_search(number).is_err());
            open.map(|(number, part)| (Key::Download(number), Some(part.backend))).collect()
        }
        _ => progress.tasks.iter().map(|(key, task)| (*key, task.backend)).collect(),
    }
}

/// Bytes on the disks of backends. A leader that did not see the first downloads counts them by their share of tasks.
fn done(job: &RestoreJob, open: &[(Key, Option<BackendId>)], progress: &JobProgress) -> u64 {
    match &job.state {
        RestoreState::Pending | RestoreState::Snapshoting | RestoreState::Download | RestoreState::Cancelled => 0,
        RestoreState::Commit | RestoreState::Committing | RestoreState::Finished => job.bytes,
        RestoreState::Downloading { done } => {
            let (done, all) = (done.len() as u64, (done.len() + open.len()).max(1) as u64);
            let share = job.bytes.saturating_mul(done) / all;
            let finished = if progress.downloaded > 0 { progress.downloaded } else { share };
            finished + progress.moving
        }
    }
}

/// Files on the disks of backends; those of finished tasks by their share of all tasks.
fn files_done(job: &RestoreJob, open: &[(Key, Option<BackendId>)], progress: &JobProgress) -> u64 {
    match &job.state {
        RestoreState::Pending | RestoreState::Snapshoting | RestoreState::Download | RestoreState::Cancelled => 0,
        RestoreState::Commit | RestoreState::Committing | RestoreState::Finished => job.files,
        RestoreState::Downloading { done } => {
            let (done, all) = (done.len() as u64, (done.len() + open.len()).max(1) as u64);
            (job.files.saturating_mul(done) / all + progress.moving_files()).min(job.files)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brief_has_the_eighteen_known_columns() {
        let mut set = RowSet::new(COLUMNS);
        set.push(COLUMNS);
        let brief = shorten(set);
        assert_eq!(brief.columns.len(), 18);
        let cells: Vec<String> = brief.rows[0].iter().flatten().cloned().collect();
        assert_eq!(cells, brief.columns);
        assert_eq!(brief.columns.last().map(String::as_str), Some("Timeout"));
    }
}
