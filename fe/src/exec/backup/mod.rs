//! BACKUP, CANCEL BACKUP and DROP SNAPSHOT. The statement ends when the job is recorded; the job goes on by itself.

mod directory;
mod drop;
mod objects;
pub mod properties;
#[cfg(test)]
pub(crate) mod sample;
pub(in crate::exec) mod show;
pub(in crate::exec) mod snapshots;

use crate::catalog::job::{BackupJob, JobError};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::answer::{Answer, Done};
use crate::exec::context::Context;
use crate::exec::privilege::need_admin;
use crate::exec::repository;
use crate::exec::session::Session;
use crate::meta::command::{Command, NewBackup};
use crate::meta::state::State;
use crate::meta::view::{JobKind, job_in_the_way};
use crate::sql::ast::{Backup, RowFilter};
use coffer_proto::ids::{JobId, RepositoryId};
use coffer_repo::PackPrefix;
use coffer_repo::layout::{check_label, timestamp_text};
use coffer_stdx::time::now_ms;

pub use drop::drop_snapshot;

/// BACKUP SNAPSHOT.
pub async fn backup(context: &Context, session: &Session, statement: Backup) -> Result<Answer> {
    let label = &statement.label.name;
    check_label(label)?;
    let options = properties::for_backup(&statement.properties, context.config.job_timeout_s.get())?;
    let (repository, db, (objects, warnings)) = context.meta.view(|state| {
        let repository = state.repository(&statement.repository)?.clone();
        let current = session.database.as_deref();
        let database = state.database_or_current(statement.label.database.as_deref(), current)?;
        if let Some(job) = state.running_job(database.id) {
            return Err(job_in_the_way(&job, label));
        }
        if repository.read_only {
            return Err(Error::denied(format!("Repository {} is read only", repository.name)));
        }
        if let Some(job) = taking(state, repository.id, label) {
            return Err(Error::already_exists(format!(
                "Snapshot with name '{label}' already exist in repository {}, or will: job {} backs up database '{}' under \
                 it; wait for it, or take another label",
                repository.name, job.id, job.db_name
            )));
        }
        Ok((repository, database.id, objects::choose(database, &statement.objects)?))
    })?;
    let taken = repository::within("the repository", async {
        repository::open(context, &repository).await?.label_exists(label).await
    });
    if taken.await? {
        return Err(Error::already_exists(format!(
            "Snapshot with name '{label}' already exist in repository {}",
            repository.name
        )));
    }
    let now_ms = now_ms();
    let timestamp = context.meta.view(|state| free_timestamp(state, label, now_ms));
    let new = NewBackup {
        db,
        label: label.clone(),
        repository: repository.id,
        objects,
        timestamp,
        timeout_s: options.timeout_s,
        pack_prefix: PackPrefix::random().to_string(),
        now_ms,
        metadata_only: options.metadata_only,
        warnings: warnings.clone(),
    };
    context.meta.propose(Command::CreateBackup(new)).await?;
    Ok(accepted(warnings))
}

/// The job that is about to put a snapshot under this label. Two that begin at the same moment pass both; the one that is
/// later at the end is cancelled then.
fn taking<'s>(state: &'s State, repository: RepositoryId, label: &str) -> Option<&'s BackupJob> {
    let running = state.backups.values().filter(|job| !job.state.is_over());
    running.into_iter().find(|job| job.repository == repository && job.label == label)
}

/// `Query OK`, with what the client should know.
pub(in crate::exec) fn accepted(warnings: Vec<String>) -> Answer {
    Answer::Done(Done { warnings, ..Done::default() })
}

/// The second of `now_ms`, or the first one after it that no job we remember took for the same label: what a cancelled job
/// left is removed by label and second.
fn free_timestamp(state: &State, label: &str, now_ms: u64) -> String {
    let taken = |text: &str| state.backups.values().any(|job| job.label == label && job.timestamp == text);
    let mut seconds = (0u64..).map(|later| timestamp_text(now_ms + later * 1_000));
    // Each job takes one second at most, so there is a free one.
    seconds.find(|text| !taken(text)).unwrap_or_default()
}

/// SHOW BACKUP.
pub fn show(context: &Context, session: &Session, database: Option<&str>, filter: &RowFilter) -> Result<Answer> {
    need_admin(context, session)?;
    show::rows(context, session, database, filter).map(Answer::Rows)
}

/// SHOW SNAPSHOT.
pub async fn show_snapshot(
    context: &Context,
    session: &Session,
    repository: &str,
    (label, timestamp): (Option<&str>, Option<&str>),
) -> Result<Answer> {
    need_admin(context, session)?;
    snapshots::rows(context, repository, (label, timestamp)).await.map(Answer::Rows)
}

/// CANCEL BACKUP.
pub async fn cancel(context: &Context, session: &Session, database: Option<&str>) -> Result<Answer> {
    cancel_job(context, session, database, JobKind::Backup).await
}

/// CANCEL BACKUP or RESTORE: the job of the database, if it is of this kind.
pub async fn cancel_job(context: &Context, session: &Session, database: Option<&str>, kind: JobKind) -> Result<Answer> {
    let job = context.meta.view(|state| {
        let database = state.database_or_current(database, session.database.as_deref())?;
        let word = match kind {
            JobKind::Backup => "backup",
            JobKind::Restore => "restore",
        };
        state.running_job(database.id).filter(|job| job.kind == kind).map(|job| job.id).ok_or_else(|| {
            Error::not_found(format!("No {word} job is currently running in database '{}'", database.name))
        })
    })?;
    let message = context.meta.view(|state| cancel_text(state, job));
    let error = JobError { kind: ErrorKind::Cancelled.name().to_owned(), message };
    context.meta.propose(Command::CancelJob { job, error, now_ms: now_ms() }).await?;
    Ok(Answer::ok())
}

fn cancel_text(state: &State, job: JobId) -> String {
    match state.restores.get(&job) {
        Some(job) => format!("user cancelled, current state: {}", job.state.name()),
        None => "user cancelled".to_owned(),
    }
}
