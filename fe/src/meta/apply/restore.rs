//! Restore jobs: the plan gets its ids, and one entry switches every restored table at once.

use super::job::{forget_old_jobs, in_state, no_way, unknown};
use crate::catalog::database::Database;
use crate::catalog::job::{JobTimes, RestoreJob, RestoreState, RestoreTarget};
use crate::catalog::table::Table;
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::{NewRestore, Outcome, RestoreStep};
use crate::meta::state::State;
use crate::meta::view::job_in_the_way;
use coffer_proto::ids::{JobId, PartitionId, TableId, TabletId};
use std::collections::BTreeMap;

pub(super) fn create(state: &mut State, new: &NewRestore) -> Result<Outcome> {
    let database = state.databases.get(&new.db).ok_or_else(|| error::unknown_database(&new.db.to_string()))?;
    let repository = state
        .repositories
        .get(&new.repository)
        .ok_or_else(|| Error::not_found(format!("Repository {} does not exist", new.repository)))?;
    if let Some(job) = state.running_job(new.db) {
        return Err(job_in_the_way(&job, &new.label));
    }
    for (at, target) in new.targets.iter().enumerate() {
        check_target(state, database, target)?;
        if new.targets[..at].iter().any(|other| other.table.name == target.table.name) {
            return Err(Error::invalid(format!("Duplicated table: {}", target.table.name)));
        }
    }
    let tablets: usize = new.targets.iter().map(|target| target.table.tablets().count()).sum();
    if tablets > limits::MAX_TABLETS_PER_JOB {
        return Err(Error::limit(format!(
            "the num involved tablets {tablets} exceeds the limit {}; restore fewer tables at a time",
            limits::MAX_TABLETS_PER_JOB
        )));
    }
    let (db_name, repository_name) = (database.name.clone(), repository.name.clone());
    let id = JobId(state.take_id());
    let targets = new.targets.iter().map(|target| with_ids(state, target)).collect();
    let job = RestoreJob {
        id,
        label: new.label.clone(),
        timestamp: new.timestamp.clone(),
        db: new.db,
        db_name,
        repository: new.repository,
        repository_name,
        objects: new.objects.clone(),
        properties: new.properties.clone(),
        timeout_s: new.timeout_s,
        targets,
        manifests: new.manifests.clone(),
        state: RestoreState::Pending,
        times: JobTimes { created: new.now_ms, ..JobTimes::default() },
        bytes: new.bytes,
        files: new.files,
        error: None,
        cleaned: false,
    };
    state.restores.insert(id, job);
    forget_old_jobs(state, new.db);
    Ok(Outcome::Created(id.0))
}

fn check_target(state: &State, database: &Database, target: &RestoreTarget) -> Result<()> {
    let name = &target.table.name;
    match target.into {
        None if database.table(name).is_some() => return Err(error::table_exists(name)),
        Some(into) if !database.tables.contains_key(&into) => return Err(error::unknown_table(name)),
        None | Some(_) => {}
    }
    let tablets = target.table.tablets().count();
    if target.sources.iter().any(|(index, _)| index.0 as usize >= tablets) || target.sources.len() != tablets {
        return Err(Error::bug(format!("the plan of table '{name}' does not name one source for each tablet")));
    }
    for (partition, tablet) in target.table.tablets() {
        if tablet.replicas.is_empty() {
            return Err(Error::bug(format!("a tablet of partition {} without replicas", partition.name)));
        }
        if let Some(gone) = tablet.replicas.iter().find(|backend| !state.backends.contains_key(backend)) {
            return Err(Error::conflict(format!("backend {gone} was dropped meanwhile; try again")));
        }
    }
    Ok(())
}

/// The target with new ids, in order: table, then each partition followed by its tablets.
fn with_ids(state: &mut State, target: &RestoreTarget) -> RestoreTarget {
    let id = target.into.unwrap_or_else(|| TableId(state.take_id()));
    let mut tablets = Vec::new();
    let mut partitions = BTreeMap::new();
    for partition in target.table.partitions.values() {
        let mut made = partition.clone();
        made.id = PartitionId(state.take_id());
        for tablet in &mut made.tablets {
            tablet.id = TabletId(state.take_id());
            tablets.push(tablet.id);
        }
        partitions.insert(made.id, made);
    }
    // `check_target` has seen that every index is in range.
    let sources = target.sources.iter().map(|(index, source)| (tablets[index.0 as usize], *source)).collect();
    RestoreTarget { table: Table { id, partitions, ..target.table.clone() }, into: target.into, sources }
}

pub(super) fn advance(state: &mut State, id: JobId, (from, to): (&str, RestoreStep), now_ms: u64) -> Result<Outcome> {
    let job = state.restores.get(&id).ok_or_else(|| unknown(id))?;
    in_state(id, job.state.name(), from)?;
    let next = match to {
        RestoreStep::Snapshoting => RestoreState::Snapshoting,
        RestoreStep::Download => RestoreState::Download,
        RestoreStep::Downloading => RestoreState::Downloading { done: Vec::new() },
        RestoreStep::Commit => RestoreState::Commit,
        RestoreStep::Committing => RestoreState::Committing,
        RestoreStep::Finished => RestoreState::Finished,
    };
    if job.state.is_over() || next.step() != job.state.step() + 1 {
        return Err(no_way(id, job.state.name(), next.name()));
    }
    if next == RestoreState::Committing {
        switch(state, id, now_ms)?;
    }
    let job = state.restores.get_mut(&id).ok_or_else(|| unknown(id))?;
    match to {
        RestoreStep::Snapshoting => job.times.meta_prepared = now_ms,
        RestoreStep::Download => job.times.snapshot_finished = now_ms,
        RestoreStep::Commit => job.times.transfer_finished = now_ms,
        RestoreStep::Finished => job.times.finished = now_ms,
        RestoreStep::Downloading | RestoreStep::Committing => {}
    }
    job.state = next;
    Ok(Outcome::Done)
}

/// All targets take their places, or none does.
fn switch(state: &mut State, id: JobId, now_ms: u64) -> Result<()> {
    let job = state.restores.get(&id).ok_or_else(|| unknown(id))?;
    let (db, targets) = (job.db, job.targets.clone());
    let database = state.databases.get_mut(&db).ok_or_else(|| error::unknown_database(&db.to_string()))?;
    for target in &targets {
        match target.into {
            None if database.table(&target.table.name).is_some() => {
                return Err(error::table_exists(&target.table.name));
            }
            Some(into) if !database.tables.contains_key(&into) => {
                return Err(Error::conflict(format!("table '{}' was dropped during its restore", target.table.name)));
            }
            None | Some(_) => {}
        }
    }
    for mut target in targets {
        for partition in target.table.partitions.values_mut() {
            partition.visible_ms = now_ms;
        }
        match target.into.and_then(|into| database.tables.get_mut(&into)) {
            Some(existing) => {
                for partition in target.table.partitions.into_values() {
                    existing.partitions.retain(|_, old| !old.name.eq_ignore_ascii_case(&partition.name));
                    existing.partitions.insert(partition.id, partition);
                }
            }
            None => {
                target.table.created_ms = now_ms;
                database.tables.insert(target.table.id, target.table);
            }
        }
    }
    Ok(())
}

pub(super) fn download_done(state: &mut State, id: JobId, parts: &[u32]) -> Result<Outcome> {
    let job = state.restores.get_mut(&id).ok_or_else(|| unknown(id))?;
    let name = job.state.name();
    let RestoreState::Downloading { done } = &mut job.state else {
        return Err(Error::conflict(format!("job {id} is {name}, not DOWNLOADING")));
    };
    for part in parts {
        if let Err(at) = done.binary_search(part) {
            done.insert(at, *part);
        }
    }
    Ok(Outcome::Done)
}
