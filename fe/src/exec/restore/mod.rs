//! RESTORE and CANCEL RESTORE. The statement ends when the job is recorded; the job goes on by itself.
//!
//! Info and meta of the snapshot are read and everything that can be refused is refused before that: objects that the
//! snapshot does not have, a table here that differs, too few backends, too little space.

mod compare;
mod notes;
mod plan;
mod properties;
#[cfg(test)]
pub(crate) mod sample;
mod select;
mod show;

use crate::catalog::cluster::Repository;
use crate::catalog::job::{RestoreOptions, RestoreTarget};
use crate::catalog::table::FIRST_VERSION;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::answer::Answer;
use crate::exec::backup::{accepted, cancel_job, snapshots};
use crate::exec::context::Context;
use crate::exec::ddl::{REPLICATION_NUM, living};
use crate::exec::privilege::need_admin;
use crate::exec::repository;
use crate::exec::session::Session;
use crate::meta::command::{Command, NewRestore};
use crate::meta::view::{JobKind, job_in_the_way};
use crate::sql::ast::{Restore, RowFilter};
use coffer_proto::ids::BackendId;
use coffer_repo::{Content, SnapshotId, SnapshotInfo, SnapshotMeta, ViewSummary};
use coffer_stdx::time::now_ms;
use std::collections::BTreeMap;

/// RESTORE SNAPSHOT.
pub async fn restore(context: &Context, session: &Session, statement: Restore) -> Result<Answer> {
    let label = statement.label.name.as_str();
    let options = properties::read(&statement.properties, context.config.job_timeout_s.get())?;
    let (repository, db) = context.meta.view(|state| {
        let repository = state.repository(&statement.repository)?.clone();
        let current = session.database.as_deref();
        let database = state.database_or_current(statement.label.database.as_deref(), current)?;
        match state.running_job(database.id) {
            Some(job) => Err(job_in_the_way(&job, label)),
            None => Ok((repository, database.id)),
        }
    })?;
    let (info, meta) = read(context, &repository, label, &options.timestamp).await?;
    let mut warnings = select::nothing_excluded(&meta, &statement.objects, label);
    let (mut selected, selected_views) = select::select(meta, &statement.objects, label)?;
    selected.iter_mut().for_each(|one| one.without_rows = info.content == Content::MetadataOnly);
    let shown: Vec<(String, Vec<String>)> = selected
        .iter()
        .map(|one| (one.name.clone(), one.table.partitions.iter().map(|partition| partition.name.clone()).collect()))
        .collect();
    let chosen = |name: &str| selected_views.iter().any(|one| one.view.name == name);
    let shown_views: Vec<&ViewSummary> = info.views.iter().filter(|view| chosen(&view.name)).collect();
    let mut after = RestoreOptions { allow_load: options.allow_load, recycle: true, ..RestoreOptions::default() };
    after.clean_partitions = options.clean_partitions;
    let (targets, views) = context.meta.view(|state| {
        let database = state.databases.get(&db).ok_or_else(|| Error::not_found("the database was dropped"))?;
        let targets = plan::targets(selected.clone(), database, &options, &mut living(context, state))?;
        warnings.extend(notes::about(&selected, &targets, database, &options));
        if options.clean_tables {
            after.drop_tables = notes::dropped_tables(database, &targets);
        }
        let views = plan::views(selected_views.clone(), (&info.database, database), options.overwrite)?;
        if options.clean_tables {
            after.drop_views = notes::dropped_views(database, &views);
        }
        Ok::<_, Error>((targets, views))
    })?;
    check_space(context, &targets, &info)?;
    let replicas = plan::replicas_with_files(&targets);
    let share = |total: u64| total.saturating_mul(replicas) / info.totals.tablets.max(1);
    let mut properties = statement.properties.clone();
    let largest = targets.iter().filter_map(|target| target.table.properties.get(REPLICATION_NUM)).max();
    if let Some(largest) = largest {
        properties.entry(REPLICATION_NUM.to_owned()).or_insert_with(|| largest.clone());
    }
    let new = NewRestore {
        db,
        label: label.to_owned(),
        timestamp: options.timestamp.clone(),
        repository: repository.id,
        objects: snapshots::json(&info, &shown, &shown_views)?,
        properties,
        timeout_s: options.timeout_s,
        targets,
        views,
        manifests: info.manifests.iter().map(|part| part.name.clone()).collect(),
        bytes: share(info.totals.bytes),
        files: share(info.totals.files),
        now_ms: now_ms(),
        options: after,
        warnings: warnings.clone(),
    };
    context.meta.propose(Command::CreateRestore(new)).await?;
    Ok(accepted(warnings))
}

/// What describes a snapshot.
async fn read(
    context: &Context,
    repository: &Repository,
    label: &str,
    timestamp: &str,
) -> Result<(SnapshotInfo, SnapshotMeta)> {
    let reading = async {
        let open = repository::open(context, repository).await?;
        let info = open.read_info(&SnapshotId::new(label, timestamp)?).await?;
        let meta = open.read_meta(&info).await?;
        Ok::<_, Error>((info, meta))
    };
    repository::within("the repository", reading).await.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::Invalid => ". Maybe specified wrong backup timestamp",
            _ => "",
        };
        Error::new(error.kind(), format!("Failed to get info of snapshot '{label}' because: {error}{hint}"))
    })
}

/// Each backend must have room for its share; what it reported last counts.
fn check_space(context: &Context, targets: &[RestoreTarget], info: &SnapshotInfo) -> Result<()> {
    let mut tablets: BTreeMap<BackendId, u64> = BTreeMap::new();
    for (partition, tablet) in targets.iter().flat_map(|target| target.table.tablets()) {
        if partition.visible_version > FIRST_VERSION {
            tablet.replicas.iter().for_each(|backend| *tablets.entry(*backend).or_default() += 1);
        }
    }
    for (backend, tablets) in tablets {
        let status = context.backends.status(backend).filter(|status| !status.disks.is_empty());
        let Some(status) = status else { continue };
        let available: u64 = status.disks.iter().filter(|disk| disk.usable).map(|disk| disk.available_bytes).sum();
        let needed = info.totals.bytes.saturating_mul(tablets) / info.totals.tablets.max(1);
        if needed > available {
            return Err(Error::no_space(format!(
                "backend {} has {available} bytes left, and the restore would put about {needed} bytes there: free or \
                 add space, add backends, or restore fewer tables or replicas",
                status.address
            )));
        }
    }
    Ok(())
}

/// SHOW RESTORE; the filter comes with whether BRIEF was said.
pub fn show(
    context: &Context,
    session: &Session,
    database: Option<&str>,
    (brief, filter): (bool, &RowFilter),
) -> Result<Answer> {
    need_admin(context, session)?;
    show::rows(context, session, database, (brief, filter)).map(Answer::Rows)
}

/// CANCEL RESTORE.
pub async fn cancel(context: &Context, session: &Session, database: Option<&str>) -> Result<Answer> {
    cancel_job(context, session, database, JobKind::Restore).await
}
