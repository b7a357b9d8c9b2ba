//! Restore jobs: the plan gets its ids, and one entry switches every restored table at once.

use super::job::{forget_old_jobs, in_state, no_way, unknown};
use crate::catalog::database::Database;
use crate::catalog::job::{JobTimes, RestoreJob, RestoreState, RestoreTarget};
use crate::catalog::map::Map;
use crate::catalog::table::Table;
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::{NewRestore, Outcome, RestoreStep};
use crate::meta::state::State;
use crate::meta::view::job_in_the_way;
use coffer_proto::ids::{JobId, PartitionId, TableId, TabletId};

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
    let mut partitions = Map::new();
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

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::catalog::job::JobError;
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use std::collections::BTreeMap;

    /// A restore of the table as it is, under another name or into itself.
    fn target(sample: &Sample, name: &str, into: Option<TableId>) -> RestoreTarget {
        let mut table = sample.table().clone();
        name.clone_into(&mut table.name);
        table.partitions.values_mut().for_each(|partition| partition.visible_version = 7);
        let sources = (0..4).map(|n| (TabletId(n), TabletId(100 + n))).collect();
        RestoreTarget { table, into, sources }
    }

    fn new(sample: &Sample, targets: Vec<RestoreTarget>) -> NewRestore {
        NewRestore {
            db: sample.db,
            label: "snap".to_owned(),
            timestamp: "2024-01-01-00-00-00".to_owned(),
            repository: sample.repository,
            objects: String::new(),
            properties: BTreeMap::new(),
            timeout_s: 600,
            targets,
            manifests: vec!["m".to_owned()],
            bytes: 1,
            files: 1,
            now_ms: 100,
        }
    }

    fn start(sample: &mut Sample, targets: Vec<RestoreTarget>) -> JobId {
        JobId(sample.create(&Command::CreateRestore(new(sample, targets))))
    }

    fn step(sample: &mut Sample, job: JobId, to: RestoreStep) {
        let from = sample.state.restores[&job].state.name().to_owned();
        sample.ok(&Command::AdvanceRestore { job, from, to, now_ms: 200 });
    }

    const BEFORE_SWITCH: [RestoreStep; 4] =
        [RestoreStep::Snapshoting, RestoreStep::Download, RestoreStep::Downloading, RestoreStep::Commit];

    #[test]
    fn targets_get_new_ids_and_keep_their_sources() {
        let mut sample = Sample::new();
        let wanted = target(&sample, "copy", None);
        let job = start(&mut sample, vec![wanted]);
        let made = &sample.state.restores[&job].targets[0];
        let ids: Vec<TabletId> = made.table.tablets().map(|(_, tablet)| tablet.id).collect();
        let expected: Vec<_> = ids.iter().zip(100..).map(|(id, source)| (*id, TabletId(source))).collect();
        assert_eq!(made.sources, expected);
        assert!(made.table.id.0 > sample.table.0 && made.table.partitions.iter().all(|(id, made)| *id == made.id));
        assert_eq!(sample.state.claimed_tablets().len(), 8);
    }

    #[test]
    fn one_entry_switches_all_tables() {
        let mut sample = Sample::new();
        let old = sample.table().clone();
        let targets = vec![target(&sample, "t", Some(sample.table)), target(&sample, "copy", None)];
        let mut part = targets.clone();
        // Into the existing table only one partition.
        part[0].table.partitions.retain(|_, partition| partition.name == "p1");
        part[0].sources.truncate(2);
        let job = start(&mut sample, part);
        for to in BEFORE_SWITCH {
            step(&mut sample, job, to);
            assert_eq!(sample.table(), &old);
        }
        step(&mut sample, job, RestoreStep::Committing);
        let table = sample.table();
        assert_eq!(table.partitions.len(), 2);
        assert_eq!(table.partition("p1").unwrap().visible_version, 7);
        assert_eq!(table.partition("p2"), old.partition("p2"));
        assert!(sample.state.databases[&sample.db].table("copy").is_some());
        // Too late to cancel.
        let error = JobError { kind: "CANCELLED".to_owned(), message: "user".to_owned() };
        sample.refuses(&Command::CancelJob { job, error, now_ms: 1 }, ErrorKind::Conflict, "state: COMMITTING");
        step(&mut sample, job, RestoreStep::Finished);
        let times = &sample.state.restores[&job].times;
        assert!([times.meta_prepared, times.snapshot_finished, times.transfer_finished, times.finished] == [200; 4]);
        sample.ok(&Command::JobCleaned { job });
        assert!(sample.state.restores[&job].targets.is_empty());
    }

    #[test]
    fn steps_have_an_order_and_late_ones_change_nothing() {
        let mut sample = Sample::new();
        let wanted = target(&sample, "copy", None);
        let job = start(&mut sample, vec![wanted]);
        let jump = |from: &str, to| Command::AdvanceRestore { job, from: from.to_owned(), to, now_ms: 1 };
        sample.refuses(&jump("PENDING", RestoreStep::Commit), ErrorKind::Bug, "cannot go from PENDING to COMMIT");
        sample.refuses(&jump("DOWNLOAD", RestoreStep::Downloading), ErrorKind::Conflict, "not DOWNLOAD");
        let done = Command::DownloadDone { job, parts: vec![2, 1, 2] };
        sample.refuses(&done, ErrorKind::Conflict, "is PENDING, not DOWNLOADING");
        for to in &BEFORE_SWITCH[..3] {
            step(&mut sample, job, *to);
        }
        sample.ok(&done);
        sample.ok(&done);
        assert_eq!(sample.state.restores[&job].state, RestoreState::Downloading { done: vec![1, 2] });
        let unknown = Command::AdvanceRestore {
            job: JobId(1),
            from: "PENDING".to_owned(),
            to: RestoreStep::Snapshoting,
            now_ms: 1,
        };
        sample.refuses(&unknown, ErrorKind::NotFound, "job 1");
        sample.refuses(&Command::DownloadDone { job: JobId(1), parts: vec![] }, ErrorKind::NotFound, "job 1");
    }

    #[test]
    fn impossible_restores_are_named() {
        let mut sample = Sample::new();
        let copy = target(&sample, "copy", None);
        let create = |targets: Vec<RestoreTarget>| Command::CreateRestore(new(&Sample::new(), targets));
        assert_eq!(sample.refused(&create(vec![target(&Sample::new(), "t", None)])).number(), 1050);
        let gone = target(&sample, "t", Some(TableId(1)));
        assert_eq!(sample.refused(&create(vec![gone])).number(), 1051);
        sample.refuses(&create(vec![copy.clone(), copy.clone()]), ErrorKind::Invalid, "Duplicated table: copy");
        let mut few = copy.clone();
        few.sources.pop();
        sample.refuses(&create(vec![few]), ErrorKind::Bug, "one source for each tablet");
        let mut lonely = copy.clone();
        let first = lonely.table.partitions.values_mut().next().unwrap();
        first.tablets[0].replicas.clear();
        sample.refuses(&create(vec![lonely]), ErrorKind::Bug, "without replicas");
        let mut lost = copy.clone();
        let first = lost.table.partitions.values_mut().next().unwrap();
        first.tablets[0].replicas = vec![coffer_proto::ids::BackendId(1)];
        sample.refuses(&create(vec![lost]), ErrorKind::Conflict, "dropped meanwhile");
        let mut nowhere = new(&sample, vec![copy.clone()]);
        nowhere.db = coffer_proto::ids::DbId(1);
        assert_eq!(sample.refused(&Command::CreateRestore(nowhere)).number(), 1049);
        let mut unknown = new(&sample, vec![copy.clone()]);
        unknown.repository = coffer_proto::ids::RepositoryId(1);
        sample.refuses(&Command::CreateRestore(unknown), ErrorKind::NotFound, "does not exist");
        start(&mut sample, vec![copy.clone()]);
        sample.refuses(&create(vec![copy]), ErrorKind::Conflict, "Can only run one backup or restore job");
    }

    #[test]
    fn what_a_restore_will_change_is_left_alone_meanwhile() {
        let mut sample = Sample::new();
        let targets = vec![target(&sample, "t", Some(sample.table)), target(&sample, "copy", None)];
        start(&mut sample, targets);
        let table = sample.new_table("copy");
        sample.refuses(&Command::CreateTable(table), ErrorKind::Conflict, "being created by restore job");
        let drop = Command::DropTable { db: sample.db, table: sample.table };
        sample.refuses(&drop, ErrorKind::Conflict, "is being restored by job");
        let partitions = vec![(sample.partition("p1"), sample.placement())];
        let truncate = Command::Truncate { db: sample.db, table: sample.table, partitions, now_ms: 1 };
        sample.refuses(&truncate, ErrorKind::Conflict, "is being restored by job");
        let begin = sample.begin_command("l");
        sample.refuses(&begin, ErrorKind::Conflict, "is being restored by job");
    }
}
