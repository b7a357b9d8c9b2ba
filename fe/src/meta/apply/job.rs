//! Backup jobs, and what both kinds of job share: cancel, clean up, history.
//!
//! A job keeps its tables (and with them its claim on tablets) until it is cleaned up.

use crate::catalog::job::{BackupJob, BackupState, JobError, JobTimes, ManifestPart, RestoreState};
use crate::catalog::table::Table;
use crate::catalog::view::View;
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::{Counts, NewBackup, Outcome};
use crate::meta::state::State;
use crate::meta::view::job_in_the_way;
use coffer_proto::ids::{DbId, JobId};

/// Warnings of one job.
const MAX_JOB_WARNINGS: usize = 1_000;

pub(super) fn create_backup(state: &mut State, new: &NewBackup) -> Result<Outcome> {
    let database = state.databases.get(&new.db).ok_or_else(|| error::unknown_database(&new.db.to_string()))?;
    let repository = state
        .repositories
        .get(&new.repository)
        .ok_or_else(|| Error::not_found(format!("Repository {} does not exist", new.repository)))?;
    if let Some(job) = state.running_job(new.db) {
        return Err(job_in_the_way(&job, &new.label));
    }
    if repository.read_only {
        return Err(Error::denied(format!("Repository {} is read only", repository.name)));
    }
    let tables = pinned_tables(database, &new.objects)?;
    let views: Vec<View> = match new.objects.is_empty() {
        true => database.views.values().cloned().collect(),
        false => new.objects.iter().filter_map(|(name, _)| database.view(name).cloned()).collect(),
    };
    let tablets: usize = tables.iter().map(|table| table.tablets().count()).sum();
    if tablets > limits::MAX_TABLETS_PER_JOB {
        return Err(Error::limit(format!(
            "the num involved tablets {tablets} exceeds the limit {}; back up fewer tables at a time",
            limits::MAX_TABLETS_PER_JOB
        )));
    }
    let (db_name, repository_name) = (database.name.clone(), repository.name.clone());
    let objects = if new.objects.is_empty() {
        let names = tables.iter().map(|table| &table.name).chain(views.iter().map(|view| &view.name));
        names.map(|name| (name.clone(), Vec::new())).collect()
    } else {
        new.objects.clone()
    };
    let id = JobId(state.take_id());
    let job = BackupJob {
        id,
        label: new.label.clone(),
        db: new.db,
        db_name,
        repository: new.repository,
        repository_name,
        objects,
        timestamp: new.timestamp.clone(),
        timeout_s: new.timeout_s,
        pack_prefix: new.pack_prefix.clone(),
        tables,
        views,
        state: BackupState::Pending,
        times: JobTimes { created: new.now_ms, ..JobTimes::default() },
        bytes: 0,
        files: 0,
        rows: 0,
        error: None,
        cleaned: false,
        metadata_only: new.metadata_only,
        warnings: new.warnings.clone(),
    };
    state.backups.insert(id, job);
    forget_old_jobs(state, new.db);
    Ok(Outcome::Created(id.0))
}

/// The tables of a backup as they are now, each with only the partitions asked for.
fn pinned_tables(
    database: &crate::catalog::database::Database,
    objects: &[(String, Vec<String>)],
) -> Result<Vec<Table>> {
    if objects.is_empty() {
        if database.tables.is_empty() && database.views.is_empty() {
            return Err(Error::invalid(format!("database '{}' has no table to back up", database.name)));
        }
        return Ok(database.tables.values().cloned().collect());
    }
    let mut tables: Vec<Table> = Vec::with_capacity(objects.len());
    for (name, partitions) in objects {
        if let Some(view) = database.view(name) {
            if !partitions.is_empty() {
                return Err(Error::invalid(format!("'{}' is a view: it has no partitions", view.name)));
            }
            continue;
        }
        let table = database.table(name).ok_or_else(|| error::unknown_table(name))?;
        if tables.iter().any(|seen| seen.id == table.id) {
            return Err(Error::invalid(format!("Duplicated table: {name}")));
        }
        let mut pinned = table.clone();
        if !partitions.is_empty() {
            if let Some(unknown) = partitions.iter().find(|partition| table.partition(partition).is_none()) {
                return Err(error::unknown_partition(unknown, name));
            }
            pinned
                .partitions
                .retain(|_, partition| partitions.iter().any(|asked| asked.eq_ignore_ascii_case(&partition.name)));
        }
        tables.push(pinned);
    }
    Ok(tables)
}

pub(super) fn advance_backup(
    state: &mut State,
    id: JobId,
    (from, to): (&str, &BackupState),
    counts: Option<Counts>,
    now_ms: u64,
) -> Result<Outcome> {
    let job = backup_mut(state, id)?;
    in_state(id, job.state.name(), from)?;
    let (at, next) = (job.state.step(), to.step());
    // Re-plans: holders or parts change when a backend is lost.
    let replan = at == next && matches!(to, BackupState::UploadSnapshot { .. } | BackupState::Uploading { .. });
    let snapshot_again = matches!(to, BackupState::Snapshoting)
        && matches!(job.state, BackupState::UploadSnapshot { .. } | BackupState::Uploading { .. });
    if job.state.is_over() || matches!(to, BackupState::Cancelled) || !(next == at + 1 || replan || snapshot_again) {
        return Err(no_way(id, job.state.name(), to.name()));
    }
    match to {
        BackupState::UploadSnapshot { .. } if job.times.snapshot_finished == 0 => job.times.snapshot_finished = now_ms,
        BackupState::SaveMeta { .. } => job.times.transfer_finished = now_ms,
        BackupState::Finished => job.times.finished = now_ms,
        _ => {}
    }
    if let Some(counts) = counts {
        (job.bytes, job.files, job.rows) = (counts.bytes, counts.files, counts.rows);
    }
    job.state = to.clone();
    Ok(Outcome::Done)
}

/// Replicas that a backup did not use belong to what its operator should know.
pub(super) fn warn_backup(state: &mut State, id: JobId, passed_over: &[String]) {
    let Ok(job) = backup_mut(state, id) else { return };
    for text in passed_over {
        if job.warnings.len() < MAX_JOB_WARNINGS && !job.warnings.contains(text) {
            job.warnings.push(text.clone());
        }
    }
}

pub(super) fn upload_done(state: &mut State, id: JobId, part: u32, manifest: &ManifestPart) -> Result<Outcome> {
    let job = backup_mut(state, id)?;
    let name = job.state.name();
    let BackupState::Uploading { parts } = &mut job.state else {
        return Err(Error::conflict(format!("job {id} is {name}, not UPLOADING")));
    };
    let part = parts
        .get_mut(&part)
        .ok_or_else(|| Error::conflict(format!("job {id} has no upload task {part}: it was planned again")))?;
    // The first report stays: a repeat wrote the same bytes.
    part.done.get_or_insert_with(|| manifest.clone());
    Ok(Outcome::Done)
}

pub(super) fn cancel(state: &mut State, id: JobId, cause: &JobError, now_ms: u64) -> Result<Outcome> {
    let over = |label: &str, state: &str| {
        Err(Error::conflict(format!(
            "Failed to cancel job: Job with label {label} can not be cancelled. state: {state}"
        )))
    };
    if let Some(job) = state.backups.get_mut(&id) {
        if job.state.is_over() {
            return over(&job.label, job.state.name());
        }
        job.state = BackupState::Cancelled;
        job.times.finished = now_ms;
        job.error.get_or_insert_with(|| cause.clone());
        return Ok(Outcome::Done);
    }
    let job = state.restores.get_mut(&id).ok_or_else(|| unknown(id))?;
    // From COMMITTING on the tables are switched: there is nothing left to cancel.
    if job.state.is_over() || job.state == RestoreState::Committing {
        return over(&job.label, job.state.name());
    }
    job.state = RestoreState::Cancelled;
    job.times.finished = now_ms;
    job.error.get_or_insert_with(|| cause.clone());
    Ok(Outcome::Done)
}

pub(super) fn cleaned(state: &mut State, id: JobId) -> Result<Outcome> {
    let (over, db) = if let Some(job) = state.backups.get_mut(&id) {
        let over = job.state.is_over();
        if over {
            job.cleaned = true;
            job.tables.clear();
            job.views.clear();
        }
        (over, job.db)
    } else {
        let job = state.restores.get_mut(&id).ok_or_else(|| unknown(id))?;
        let over = job.state.is_over();
        if over {
            job.cleaned = true;
            job.targets.clear();
            job.views.clear();
            job.manifests.clear();
        }
        (over, job.db)
    };
    if !over {
        return Err(Error::conflict(format!("job {id} is not over")));
    }
    if !state.databases.contains_key(&db) {
        state.backups.remove(&id);
        state.restores.remove(&id);
    }
    forget_old_jobs(state, db);
    Ok(Outcome::Done)
}

/// Keep the youngest jobs of a database; those that are not over, or still own something, always stay.
pub(super) fn forget_old_jobs(state: &mut State, db: DbId) {
    let backups = state.backups.values().filter(|job| job.db == db && job.cleaned).map(|job| job.id);
    let restores = state.restores.values().filter(|job| job.db == db && job.cleaned).map(|job| job.id);
    let mut ended: Vec<JobId> = backups.chain(restores).collect();
    ended.sort_unstable();
    let extra = ended.len().saturating_sub(limits::MAX_ENDED_JOBS_PER_DATABASE);
    for id in &ended[..extra] {
        state.backups.remove(id);
        state.restores.remove(id);
    }
}

/// A late driver changes nothing.
pub(super) fn in_state(id: JobId, is: &str, expected: &str) -> Result<()> {
    if is == expected { Ok(()) } else { Err(Error::conflict(format!("job {id} is {is}, not {expected}"))) }
}

pub(super) fn no_way(id: JobId, from: &str, to: &str) -> Error {
    Error::bug(format!("job {id} cannot go from {from} to {to}"))
}

pub(super) fn unknown(id: JobId) -> Error {
    Error::not_found(format!("job {id} does not exist"))
}

fn backup_mut(state: &mut State, id: JobId) -> Result<&mut BackupJob> {
    state.backups.get_mut(&id).ok_or_else(|| unknown(id))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, new_repository};
    use super::*;
    use crate::catalog::job::UploadPart;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use std::collections::BTreeMap;

    fn cause(message: &str) -> JobError {
        JobError { kind: "TIMEOUT".to_owned(), message: message.to_owned() }
    }

    fn advance(job: JobId, from: &str, to: BackupState) -> Command {
        Command::AdvanceBackup { job, from: from.to_owned(), to, counts: None, now_ms: 200, passed_over: Vec::new() }
    }

    fn uploading(sample: &Sample) -> BackupState {
        let part = UploadPart { backend: sample.backends[0], tablets: Vec::new(), done: None };
        BackupState::Uploading { parts: BTreeMap::from([(1, part)]) }
    }

    fn manifest(name: &str) -> ManifestPart {
        ManifestPart { name: name.to_owned(), bytes: 1, tablets: 1, data_bytes: 1, files: 1 }
    }

    #[test]
    fn a_backup_pins_what_it_was_asked_for() {
        let mut sample = Sample::new();
        let p1 = sample.partition("p1");
        let load = sample.begin("l");
        let commit = Command::CommitTransaction {
            transaction: load,
            partitions: vec![p1],
            rows: 1,
            tablets: Vec::new(),
            now_ms: 1,
        };
        sample.ok(&commit);
        sample.ok(&Command::MakeVisible { transaction: load, now_ms: 1 });
        let mut new = sample.new_backup();
        new.objects = vec![("t".to_owned(), vec!["P1".to_owned()])];
        let job = JobId(sample.create(&Command::CreateBackup(new)));
        let pinned = &sample.state.backups[&job].tables[0];
        assert_eq!(pinned.partitions.keys().copied().collect::<Vec<_>>(), [p1]);
        assert_eq!(pinned.partitions[&p1].visible_version, 2);
        // The pin outlives the table.
        sample.ok(&Command::DropTable { db: sample.db, table: sample.table });
        assert_eq!(sample.state.claimed_tablets().len(), 2);
    }

    #[test]
    fn replicas_that_were_passed_over_are_warned_of_once() {
        let mut sample = Sample::new();
        let job = JobId(sample.create(&Command::CreateBackup(sample.new_backup())));
        let advance = |from: &str, to, said: &[&str]| Command::AdvanceBackup {
            job,
            from: from.to_owned(),
            to,
            counts: None,
            now_ms: 200,
            passed_over: said.iter().map(|text| (*text).to_owned()).collect(),
        };
        sample.ok(&advance("PENDING", BackupState::Snapshoting, &["a"]));
        let late = advance("PENDING", BackupState::Snapshoting, &["late"]);
        sample.refuses(&late, ErrorKind::Conflict, "SNAPSHOTING");
        let holders = BackupState::UploadSnapshot { holders: Vec::new() };
        sample.ok(&advance("SNAPSHOTING", holders.clone(), &["a", "b"]));
        assert_eq!(sample.state.backups[&job].warnings, ["a", "b"]);
        let many: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        sample.ok(&advance("UPLOAD_SNAPSHOT", holders, &many));
        assert_eq!(sample.state.backups[&job].warnings.len(), MAX_JOB_WARNINGS);
    }

    #[test]
    fn impossible_backups_are_named() {
        let mut sample = Sample::new();
        let create = |change: &dyn Fn(&mut NewBackup)| {
            let mut new = Sample::new().new_backup();
            change(&mut new);
            Command::CreateBackup(new)
        };
        let on = |names: &[(&str, &[&str])]| -> Vec<(String, Vec<String>)> {
            let partitions = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
            names.iter().map(|(table, list)| ((*table).to_owned(), partitions(list))).collect()
        };
        let unknown_db = create(&|new| new.db = DbId(1));
        assert_eq!(sample.refused(&unknown_db).number(), 1049);
        let unknown_table = create(&|new| new.objects = on(&[("x", &[])]));
        assert_eq!(sample.refused(&unknown_table).number(), 1051);
        let unknown_repository = create(&|new| new.repository = coffer_proto::ids::RepositoryId(1));
        sample.refuses(&unknown_repository, ErrorKind::NotFound, "does not exist");
        let twice = create(&|new| new.objects = on(&[("t", &[]), ("t", &["p1"])]));
        sample.refuses(&twice, ErrorKind::Invalid, "Duplicated table: t");
        let unknown_partition = create(&|new| new.objects = on(&[("t", &["p9"])]));
        sample.refuses(&unknown_partition, ErrorKind::NotFound, "Unknown partition p9 in table t");
        let read_only = sample.create(&Command::CreateRepository(crate::meta::command::NewRepository {
            read_only: true,
            ..new_repository("ro")
        }));
        let read_only = create(&|new| new.repository = coffer_proto::ids::RepositoryId(read_only));
        sample.refuses(&read_only, ErrorKind::Denied, "Repository ro is read only");
        let empty = sample.create(&Command::CreateDatabase { name: "empty".to_owned() });
        sample.refuses(&create(&|new| new.db = DbId(empty)), ErrorKind::Invalid, "no table");
        sample.backup();
        let text = "Can only run one backup or restore job of a database at same time, current running: label = snap";
        sample.refuses(&create(&|_| {}), ErrorKind::Conflict, text);
    }

    #[test]
    fn a_backup_goes_through_all_states_in_order() {
        let mut sample = Sample::new();
        let job = sample.backup();
        let states = [
            BackupState::Snapshoting,
            BackupState::UploadSnapshot { holders: Vec::new() },
            uploading(&sample),
            BackupState::SaveMeta { manifests: vec![manifest("m")] },
            BackupState::UploadInfo { manifests: vec![manifest("m")], meta: "meta".to_owned() },
            BackupState::Finished,
        ];
        for (at, next) in states.iter().enumerate() {
            let from = sample.state.backups[&job].state.name();
            // Two steps at once are a defect, and a step of the past is late.
            if let Some(jump) = states.get(at + 1) {
                sample.refuses(&advance(job, from, jump.clone()), ErrorKind::Bug, "cannot go from");
            }
            sample.refuses(&advance(job, "FINISHED", next.clone()), ErrorKind::Conflict, "not FINISHED");
            sample.ok(&advance(job, from, next.clone()));
        }
        let times = &sample.state.backups[&job].times;
        assert_eq!(
            (times.created, times.snapshot_finished, times.transfer_finished, times.finished),
            (100, 200, 200, 200)
        );
        let over = advance(job, "FINISHED", BackupState::Cancelled);
        sample.refuses(&over, ErrorKind::Bug, "cannot go");
        let cancel = Command::CancelJob { job, error: cause("x"), now_ms: 1 };
        sample.refuses(&cancel, ErrorKind::Conflict, "can not be cancelled. state: FINISHED");
        sample.refuses(&advance(JobId(1), "PENDING", BackupState::Snapshoting), ErrorKind::NotFound, "job 1");
    }

    #[test]
    fn a_lost_backend_lets_uploads_be_planned_again() {
        let mut sample = Sample::new();
        let job = sample.backup();
        sample.ok(&advance(job, "PENDING", BackupState::Snapshoting));
        let holders = BackupState::UploadSnapshot { holders: Vec::new() };
        sample.ok(&advance(job, "SNAPSHOTING", holders.clone()));
        sample.ok(&advance(job, "UPLOAD_SNAPSHOT", holders.clone()));
        sample.ok(&advance(job, "UPLOAD_SNAPSHOT", uploading(&sample)));
        sample.ok(&advance(job, "UPLOADING", uploading(&sample)));
        sample.ok(&advance(job, "UPLOADING", BackupState::Snapshoting));
        let again = advance(job, "SNAPSHOTING", BackupState::Snapshoting);
        sample.refuses(&again, ErrorKind::Bug, "cannot go");
    }

    #[test]
    fn the_first_report_of_an_upload_stays() {
        let mut sample = Sample::new();
        let job = sample.backup();
        let done = |part, name| Command::UploadDone { job, part, manifest: manifest(name) };
        sample.refuses(&done(1, "m"), ErrorKind::Conflict, "is PENDING, not UPLOADING");
        sample.ok(&advance(job, "PENDING", BackupState::Snapshoting));
        sample.ok(&advance(job, "SNAPSHOTING", BackupState::UploadSnapshot { holders: Vec::new() }));
        sample.ok(&advance(job, "UPLOAD_SNAPSHOT", uploading(&sample)));
        sample.refuses(&done(9, "m"), ErrorKind::Conflict, "no upload task 9");
        sample.ok(&done(1, "first"));
        sample.ok(&done(1, "second"));
        let BackupState::Uploading { parts } = &sample.state.backups[&job].state else { panic!() };
        assert_eq!(parts[&1].done.as_ref().map(|part| part.name.as_str()), Some("first"));
        let unknown = Command::UploadDone { job: JobId(1), part: 1, manifest: manifest("m") };
        sample.refuses(&unknown, ErrorKind::NotFound, "job 1");
    }

    #[test]
    fn a_cancelled_job_keeps_its_first_cause_and_its_claims_until_cleaned() {
        let mut sample = Sample::new();
        let job = sample.backup();
        sample.refuses(&Command::JobCleaned { job }, ErrorKind::Conflict, "is not over");
        sample.ok(&Command::CancelJob { job, error: cause("first"), now_ms: 300 });
        sample.refuses(
            &Command::CancelJob { job, error: cause("second"), now_ms: 301 },
            ErrorKind::Conflict,
            "CANCELLED",
        );
        sample.ok(&Command::DropTable { db: sample.db, table: sample.table });
        assert_eq!(sample.state.claimed_tablets().len(), 4);
        sample.ok(&Command::JobCleaned { job });
        sample.ok(&Command::JobCleaned { job });
        assert!(sample.state.claimed_tablets().is_empty());
        assert_eq!(sample.state.backups[&job].error.as_ref().map(|error| error.message.as_str()), Some("first"));
        sample.refuses(&Command::JobCleaned { job: JobId(1) }, ErrorKind::NotFound, "job 1");
        let cancel = Command::CancelJob { job: JobId(1), error: cause("x"), now_ms: 1 };
        sample.refuses(&cancel, ErrorKind::NotFound, "job 1");
    }

    #[test]
    fn the_last_ended_jobs_are_remembered() {
        let mut sample = Sample::new();
        let jobs: Vec<JobId> = (0..limits::MAX_ENDED_JOBS_PER_DATABASE + 2)
            .map(|_| {
                let job = sample.backup();
                sample.ok(&Command::CancelJob { job, error: cause("x"), now_ms: 1 });
                sample.ok(&Command::JobCleaned { job });
                job
            })
            .collect();
        let kept: Vec<JobId> = sample.state.backups.keys().copied().collect();
        assert_eq!(kept, jobs[2..]);
    }
}
