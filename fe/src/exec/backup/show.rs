//! SHOW BACKUP, and what it shares with SHOW RESTORE.

use crate::catalog::job::{BackupJob, BackupState, JobError};
use crate::catalog::table::FIRST_VERSION;
use crate::error::{ErrorKind, Result};
use crate::exec::answer::RowSet;
use crate::exec::context::Context;
use crate::exec::filter;
use crate::exec::session::Session;
use crate::exec::text;
use crate::job::action::Key;
use crate::job::{JobProgress, TaskProgress};
use crate::sql::ast::RowFilter;
use coffer_proto::ids::BackendId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// Tasks listed in one cell.
const MAX_LISTED: usize = 100;

const COLUMNS: [&str; 22] = [
    "JobId",
    "SnapshotName",
    "DbName",
    "State",
    "BackupObjs",
    "CreateTime",
    "SnapshotFinishedTime",
    "UploadFinishedTime",
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
    "Rows",
    "Rate",
    "TimeLeft",
    "Warnings",
];

/// The jobs of a database, oldest first.
pub(in crate::exec) fn rows(
    context: &Context,
    session: &Session,
    database: Option<&str>,
    filter: &RowFilter,
) -> Result<RowSet> {
    let mut set = RowSet::new(COLUMNS);
    context.meta.view(|state| {
        let database = state.database_or_current(database, session.database.as_deref())?;
        let jobs = state.backups.values().filter(|job| job.db == database.id);
        set.rows.extend(jobs.map(|job| row(context, job)));
        Ok::<_, crate::error::Error>(())
    })?;
    filter::apply(set, filter)
}

fn row(context: &Context, job: &BackupJob) -> Vec<Option<String>> {
    let progress = context.jobs.progress(job.id).unwrap_or_default();
    let transfer = transfer(job, &progress);
    let running = !job.state.is_over();
    let shown = if running {
        let alive = |backend| context.backends.alive(backend);
        Cells::of(context, &unfinished(job, &progress, alive), &progress)
    } else {
        Cells::default()
    };
    vec![
        Some(job.id.to_string()),
        Some(job.label.clone()),
        Some(job.db_name.clone()),
        Some(job.state.name().to_owned()),
        Some(objects(&job.db_name, &job.objects, context.config.show_default_cluster)),
        time(job.times.created),
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
        Some(files_done(job, &progress).to_string()),
        Some(job.files.max(progress.files).to_string()),
        Some(job.rows.to_string()),
        transfer.rate(),
        transfer.time_left(running),
        Some(warnings(job, &progress)),
    ]
}

/// What was left out, and replicas that were passed over, those that are not in the record yet too.
fn warnings(job: &BackupJob, progress: &JobProgress) -> String {
    let fresh = progress.passed_over.iter().filter(|text| !job.warnings.contains(text));
    job.warnings.iter().chain(fresh).map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// `[db.t]`, `[db.t PARTITION (p1, p2)]`, joined by a comma; `[default_cluster:db.t]` for those who want it.
fn objects(database: &str, objects: &[(String, Vec<String>)], cluster: bool) -> String {
    let database = if cluster { format!("default_cluster:{database}") } else { database.to_owned() };
    let one = |(table, partitions): &(String, Vec<String>)| {
        if partitions.is_empty() {
            format!("[{database}.{table}]")
        } else {
            format!("[{database}.{table} PARTITION ({})]", partitions.join(", "))
        }
    };
    objects.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The tasks of the current state that are not done, whether they run or wait.
fn unfinished(
    job: &BackupJob,
    progress: &JobProgress,
    alive: impl Fn(BackendId) -> bool,
) -> Vec<(Key, Option<BackendId>)> {
    let tasks = progress.tasks.iter().map(|(key, task)| (*key, task.backend));
    match &job.state {
        BackupState::Uploading { parts } => {
            let open = parts.iter().filter(|(_, part)| part.done.is_none());
            open.map(|(number, part)| (Key::Upload(*number), Some(part.backend))).collect()
        }
        BackupState::Snapshoting => {
            let awaited = awaited(job, alive).into_iter().map(|backend| (Key::Snapshot(backend), Some(backend)));
            tasks.chain(awaited).collect::<BTreeMap<_, _>>().into_iter().collect()
        }
        _ => tasks.collect(),
    }
}

/// The backends that alone have something of the backup, and are away: it waits for them.
fn awaited(job: &BackupJob, alive: impl Fn(BackendId) -> bool) -> BTreeSet<BackendId> {
    let tablets = job.tables.iter().filter(|_| !job.metadata_only).flat_map(|table| table.tablets());
    let filled = tablets.filter(|(partition, _)| partition.visible_version > FIRST_VERSION);
    // Asked once for each backend, whatever the number of tablets.
    let mut known = BTreeMap::new();
    let mut alive = |backend: BackendId| *known.entry(backend).or_insert_with(|| alive(backend));
    let lonely = filled.filter(|(_, tablet)| !tablet.replicas.iter().any(|backend| alive(*backend)));
    lonely.flat_map(|(_, tablet)| tablet.replicas.iter().copied()).collect()
}

fn transfer(job: &BackupJob, progress: &JobProgress) -> Transfer {
    let done = match &job.state {
        BackupState::Uploading { parts } => {
            parts.values().filter_map(|part| part.done.as_ref()).map(|done| done.data_bytes).sum::<u64>()
                + progress.moving
        }
        BackupState::SaveMeta { .. } | BackupState::UploadInfo { .. } | BackupState::Finished => job.bytes,
        BackupState::Pending
        | BackupState::Snapshoting
        | BackupState::UploadSnapshot { .. }
        | BackupState::Cancelled => 0,
    };
    Transfer::new(done, job.bytes.max(progress.bytes), progress)
}

fn files_done(job: &BackupJob, progress: &JobProgress) -> u64 {
    match &job.state {
        BackupState::Uploading { parts } => {
            let recorded = parts.values().filter_map(|part| part.done.as_ref()).map(|done| done.files);
            (recorded.sum::<u64>() + progress.moving_files()).min(job.files)
        }
        BackupState::SaveMeta { .. } | BackupState::UploadInfo { .. } | BackupState::Finished => job.files,
        BackupState::Pending
        | BackupState::Snapshoting
        | BackupState::UploadSnapshot { .. }
        | BackupState::Cancelled => 0,
    }
}

/// `NULL` for a time that has not come.
pub(in crate::exec) fn time(ms: u64) -> Option<String> {
    (ms > 0).then(|| text::time(ms))
}

/// `[OK]`, or the first cause.
pub(in crate::exec) fn status(error: Option<&JobError>) -> String {
    match error {
        None => "[OK]".to_owned(),
        Some(error) => {
            let cancelled = error.kind == ErrorKind::Cancelled.name();
            let code = if cancelled { "COMMON_ERROR" } else { error.kind.as_str() };
            format!("[{code}, msg: {}]", error.message)
        }
    }
}

/// The three lists about tasks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::exec) struct Cells {
    pub(in crate::exec) unfinished: String,
    pub(in crate::exec) progress: String,
    pub(in crate::exec) errors: String,
}

impl Cells {
    /// Of these tasks; one that waits for a backend that is away shows that.
    pub(in crate::exec) fn of(context: &Context, open: &[(Key, Option<BackendId>)], progress: &JobProgress) -> Cells {
        let away = |backend: &BackendId| {
            let status = context.backends.status(*backend).filter(|status| !status.alive)?;
            Some(format!("backend {} is not alive: {}", status.address, status.error))
        };
        Cells::new(open, progress, away)
    }

    fn new(
        open: &[(Key, Option<BackendId>)],
        progress: &JobProgress,
        away: impl Fn(&BackendId) -> Option<String>,
    ) -> Cells {
        let known = |key: &Key| progress.tasks.get(key);
        let unfinished = open.iter().map(|(key, backend)| (key, backend.map_or(String::new(), |id| id.to_string())));
        let unfinished: Vec<String> =
            unfinished.take(MAX_LISTED).map(|(key, backend)| format!("[{key}={backend}]")).collect();
        let moving = open.iter().filter_map(|(key, _)| Some((key, known(key).filter(|task| task.running)?)));
        let moving = moving.filter(|(key, _)| matches!(key, Key::Upload(_) | Key::Download(_)));
        let moving = moving.filter(|(_, task)| task.progress.files_total > 0);
        let steps = |task: &TaskProgress| format!("{}/{}", task.progress.files_done, task.progress.files_total);
        let others = progress.tasks.iter().filter(|(key, _)| !open.iter().any(|(other, _)| other == *key));
        let errors = open.iter().filter_map(|(key, backend)| {
            let error = known(key).and_then(|task| task.error.clone());
            Some((*key, error.or_else(|| backend.as_ref().and_then(&away))?))
        });
        let errors = errors.chain(others.filter_map(|(key, task)| Some((*key, task.error.clone()?))));
        Cells {
            unfinished: unfinished.join(", "),
            progress: list(moving.map(|(key, task)| (*key, steps(task)))),
            errors: list(errors),
        }
    }
}

fn list(items: impl Iterator<Item = (Key, impl Display)>) -> String {
    items.take(MAX_LISTED).map(|(key, item)| format!("[{key}: {item}]")).collect::<Vec<_>>().join(", ")
}

/// How far the bytes are.
#[derive(Debug, Clone, Copy)]
pub(in crate::exec) struct Transfer {
    pub(in crate::exec) done: u64,
    pub(in crate::exec) total: u64,
    bytes_per_second: Option<f64>,
}

impl Transfer {
    /// `progress` knows how fast they moved in the last seconds.
    pub(in crate::exec) fn new(done: u64, total: u64, progress: &JobProgress) -> Transfer {
        Transfer { done: done.min(total), total, bytes_per_second: progress.bytes_per_second }
    }

    /// `12.345 MB/s`; `None` while nothing moves.
    pub(in crate::exec) fn rate(&self) -> Option<String> {
        self.bytes_per_second.map(|rate| format!("{}/s", text::size(rate as u64)))
    }

    /// Seconds; `None` when not known.
    pub(in crate::exec) fn time_left(&self, running: bool) -> Option<String> {
        let rate = self.bytes_per_second.filter(|_| running)?;
        Some(format!("{:.0} s", (self.total - self.done) as f64 / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_bracketed() {
        let all = [("t1".to_owned(), Vec::new()), ("t2".to_owned(), vec!["p1".to_owned(), "p2".to_owned()])];
        assert_eq!(objects("d", &all, false), "[d.t1], [d.t2 PARTITION (p1, p2)]");
        assert_eq!(objects("d", &all[..1], true), "[default_cluster:d.t1]");
    }

    #[test]
    fn the_first_cause_is_shown_with_its_kind() {
        let error = |kind: &str| JobError { kind: kind.to_owned(), message: "m".to_owned() };
        assert_eq!(status(None), "[OK]");
        assert_eq!(status(Some(&error("TIMEOUT"))), "[TIMEOUT, msg: m]");
        assert_eq!(status(Some(&error("CANCELLED"))), "[COMMON_ERROR, msg: m]");
        assert_eq!((time(0), time(1_000)), (None, Some("1970-01-01 00:00:01".to_owned())));
    }

    #[test]
    fn tasks_are_listed_with_their_errors_and_absent_backends() {
        let (one, two) = (Key::Upload(1), Key::Upload(2));
        let mut progress = JobProgress::default();
        let mut task = TaskProgress { running: true, backend: Some(BackendId(5)), ..TaskProgress::default() };
        (task.progress.files_done, task.progress.files_total) = (3, 8);
        progress.tasks.insert(one, task);
        let failed = TaskProgress { error: Some("broken".to_owned()), ..TaskProgress::default() };
        progress.tasks.insert(Key::Snapshot(BackendId(7)), failed);
        let open = [(one, Some(BackendId(5))), (two, Some(BackendId(6)))];
        let cells = Cells::new(&open, &progress, |backend| (backend.0 == 6).then(|| "away".to_owned()));
        assert_eq!(cells.unfinished, "[1=5], [2=6]");
        assert_eq!(cells.progress, "[1: 3/8]");
        assert_eq!(cells.errors, "[2: away], [snapshot-7: broken]");
    }

    #[test]
    fn rates_say_how_long_the_rest_takes() {
        let progress = JobProgress { bytes_per_second: Some(1_024.0), ..JobProgress::default() };
        let transfer = Transfer::new(2_148, 4_196, &progress);
        assert_eq!(transfer.rate().as_deref(), Some("1.000 KB/s"));
        assert_eq!(transfer.time_left(true).as_deref(), Some("2 s"));
        assert_eq!(transfer.time_left(false), None);
        assert_eq!(Transfer::new(0, 10, &JobProgress::default()).rate(), None);
    }
}
