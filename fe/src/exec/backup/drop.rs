//! DROP SNAPSHOT: remove backups from a repository for good.
//!
//! Refused while a job uses one of them, here or through another name of the same location. What a crash leaves is
//! removed when the statement is given again, see `coffer_repo`.

use crate::catalog::cluster::Repository;
use crate::error::{Context as _, Error, Result};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::exec::repository;
use crate::meta::state::State;
use crate::sql::ast::DropSnapshot;
use coffer_proto::ids::RepositoryId;
use coffer_repo::{SnapshotId, layout};
use coffer_stdx::time::now_ms;
use std::time::Duration;

/// How long one statement removes before it gives up; the next one goes on.
const REMOVE_WITHIN: Duration = Duration::from_secs(1_800);

/// DROP SNAPSHOT.
pub async fn drop_snapshot(context: &Context, statement: DropSnapshot) -> Result<Answer> {
    let label = statement.label.as_str();
    layout::check_label(label)?;
    let repository = context.meta.view(|state| state.repository(&statement.repository).cloned())?;
    if repository.read_only {
        return Err(Error::denied(format!("Repository {} is read only", repository.name)));
    }
    let (open, chosen) = choose(context, &repository, (label, statement.timestamp.as_deref())).await?;
    for id in &chosen {
        context.meta.view(|state| free(state, &repository, id))?;
    }
    let removing = remove(context, &repository, &open, &chosen);
    let late = |_| {
        let limit = REMOVE_WITHIN.as_secs();
        Error::timeout(format!("snapshot '{label}' is not wholly removed after {limit} s; run the statement again"))
    };
    tokio::time::timeout(REMOVE_WITHIN, removing).await.map_err(late)??;
    Ok(Answer::ok())
}

/// The snapshots that the statement names.
async fn choose(
    context: &Context,
    repository: &Repository,
    (label, timestamp): (&str, Option<&str>),
) -> Result<(coffer_repo::Repository, Vec<SnapshotId>)> {
    let looking = async {
        let open = repository::open(context, repository).await?;
        let mut chosen = Vec::new();
        for entry in open.snapshots_of(label).await? {
            if timestamp.is_none_or(|wanted| wanted == entry.timestamp) {
                chosen.push(SnapshotId::new(&entry.label, &entry.timestamp)?);
            }
        }
        Ok((open, chosen))
    };
    let (open, chosen) = repository::within("the repository", looking).await?;
    if chosen.is_empty() {
        let at = timestamp.map(|timestamp| format!(" of {timestamp}")).unwrap_or_default();
        let name = &repository.name;
        return Err(Error::not_found(format!("Snapshot '{label}'{at} does not exist in repository {name}")));
    }
    Ok((open, chosen))
}

async fn remove(
    context: &Context,
    repository: &Repository,
    open: &coffer_repo::Repository,
    chosen: &[SnapshotId],
) -> Result<()> {
    for id in chosen {
        let free = || context.meta.view(|state| free(state, repository, id));
        let removed = open.remove_snapshot(id, now_ms(), &free).await;
        let removed = removed.context(|| format!("drop snapshot {id} from repository {}", repository.name))?;
        tracing::info!(repository = %repository.name, snapshot = %id, ?removed, "snapshot dropped");
    }
    Ok(())
}

/// Whether no job reads or writes the snapshot.
fn free(state: &State, repository: &Repository, id: &SnapshotId) -> Result<()> {
    let same_place = |other: RepositoryId| {
        state.repositories.get(&other).is_some_and(|other| {
            other.id == repository.id
                || (other.location == repository.location && other.remote_name == repository.remote_name)
        })
    };
    let uses = |at: RepositoryId, label: &str, timestamp: &str| {
        same_place(at) && (label, timestamp) == (id.label(), id.timestamp())
    };
    let restores = state.restores.values().filter(|job| !job.state.is_over());
    let mut restores = restores.filter(|job| uses(job.repository, &job.label, &job.timestamp)).map(|job| job.id);
    let backups = state.backups.values().filter(|job| !job.cleaned);
    let mut backups = backups.filter(|job| uses(job.repository, &job.label, &job.timestamp)).map(|job| job.id);
    match restores.next().map(|job| ("restore", job)).or_else(|| backups.next().map(|job| ("backup", job))) {
        None => Ok(()),
        Some((kind, job)) => Err(Error::conflict(format!(
            "Snapshot '{}' is in use by {kind} job {job}. Can not drop it; wait for the job or cancel it",
            id.label()
        ))),
    }
}
