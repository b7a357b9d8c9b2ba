//! Backup jobs, and what both kinds of job share: cancel, clean up, history.
//!
//! A job keeps its tables (and with them its claim on tablets) until it is cleaned up.

use crate::catalog::job::{BackupJob, BackupState, JobError, JobTimes, ManifestPart, RestoreState};
use crate::catalog::table::Table;
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::{Counts, NewBackup, Outcome};
use crate::meta::state::State;
use crate::meta::view::job_in_the_way;
use coffer_proto::ids::{DbId, JobId};

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
    let tablets: usize = tables.iter().map(|table| table.tablets().count()).sum();
    if tablets > limits::MAX_TABLETS_PER_JOB {
        return Err(Error::limit(format!(
            "the num involved tablets {tablets} exceeds the limit {}; back up fewer tables at a time",
            limits::MAX_TABLETS_PER_JOB
        )));
    }
    let (db_name, repository_name) = (database.name.clone(), repository.name.clone());
    let objects = if new.objects.is_empty() {
        tables.iter().map(|table| (table.name.clone(), Vec::new())).collect()
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
        state: BackupState::Pending,
        times: JobTimes { created: new.now_ms, ..JobTimes::default() },
        bytes: 0,
        files: 0,
        rows: 0,
        error: None,
        cleaned: false,
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
        if database.tables.is_empty() {
            return Err(Error::invalid(format!("database '{}' has no table to back up", database.name)));
        }
        return Ok(database.tables.values().cloned().collect());
    }
    let mut tables: Vec<Table> = Vec::with_capacity(objects.len());
    for (name, partitions) in objects {
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
        }
        (over, job.db)
    } else {
        let job = state.restores.get_mut(&id).ok_or_else(|| unknown(id))?;
        let over = job.state.is_over();
        if over {
            job.cleaned = true;
            job.targets.clear();
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
