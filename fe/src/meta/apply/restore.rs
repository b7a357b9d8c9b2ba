//! Restore jobs: the plan gets its ids, and one entry switches every restored table at once.

use super::bin;
use super::job::{forget_old_jobs, in_state, no_way, unknown};
use crate::catalog::bin::Dropped;
use crate::catalog::database::Database;
use crate::catalog::job::{JobTimes, ReplicaMove, RestoreJob, RestoreState, RestoreTarget, RestoreView};
use crate::catalog::map::Map;
use crate::catalog::table::{Partition, Table};
use crate::catalog::view::View;
use crate::error::{self, Error, Result};
use crate::limits;
use crate::meta::command::{NewRestore, Outcome, RestoreStep};
use crate::meta::state::State;
use crate::meta::view::job_in_the_way;
use coffer_proto::ids::{BackendId, JobId, PartitionId, TableId, TabletId};

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
    for (at, target) in new.views.iter().enumerate() {
        free_for_view(database, target)?;
        let name = &target.view.name;
        let table = new.targets.iter().any(|other| other.table.name == *name);
        if table || new.views[..at].iter().any(|other| other.view.name == *name) {
            return Err(Error::invalid(format!("Duplicated table: {name}")));
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
    let views = new.views.iter().map(|target| {
        let view = View { id: TableId(state.take_id()), ..target.view.clone() };
        RestoreView { view, replaces: target.replaces }
    });
    let views = views.collect();
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
        views,
        manifests: new.manifests.clone(),
        state: RestoreState::Pending,
        times: JobTimes { created: new.now_ms, ..JobTimes::default() },
        bytes: new.bytes,
        files: new.files,
        error: None,
        cleaned: false,
        options: new.options.clone(),
        moves: Vec::new(),
        warnings: new.warnings.clone(),
    };
    state.restores.insert(id, job);
    forget_old_jobs(state, new.db);
    Ok(Outcome::Created(id.0))
}

fn check_target(state: &State, database: &Database, target: &RestoreTarget) -> Result<()> {
    let name = &target.table.name;
    free_place(database, target)?;
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

/// Whether the table that a target goes into, or takes the place of, is there; or else that nothing has its name.
fn free_place(database: &Database, target: &RestoreTarget) -> Result<()> {
    let name = &target.table.name;
    match target.into.or(target.replaces) {
        None if database.has(name) => Err(error::table_exists(name)),
        Some(existing) if !database.tables.contains_key(&existing) => Err(error::unknown_table(name)),
        None | Some(_) => Ok(()),
    }
}

/// Whether the name of a view is free, or that of a view which may give way.
fn free_for_view(database: &Database, target: &RestoreView) -> Result<()> {
    let name = &target.view.name;
    if database.table(name).is_some() || (!target.replaces && database.view(name).is_some()) {
        return Err(error::table_exists(name));
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
    let table = Table { id, partitions, ..target.table.clone() };
    RestoreTarget { table, into: target.into, sources, replaces: target.replaces }
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
    let (db, options, views) = (job.db, job.options.clone(), job.views.clone());
    let targets: Vec<RestoreTarget> = job.targets.iter().map(|target| placed(job, target)).collect();
    let database = state.databases.get_mut(&db).ok_or_else(|| error::unknown_database(&db.to_string()))?;
    for target in &targets {
        free_place(database, target).map_err(|error| match target.into.or(target.replaces) {
            Some(_) => Error::conflict(format!("table '{}' was dropped during its restore", target.table.name)),
            None => error,
        })?;
        if let Some(existing) = target.into.and_then(|into| database.tables.get(&into)) {
            fits_still(existing, target, options.clean_partitions)?;
        }
    }
    for target in &views {
        free_for_view(database, target)?;
    }
    let mut gone = Vec::new();
    for mut target in targets {
        for partition in target.table.partitions.values_mut() {
            partition.visible_ms = now_ms;
        }
        if let Some(existing) = target.into.and_then(|into| database.tables.get_mut(&into)) {
            existing.had_deletes |= target.table.had_deletes;
            let new = &target.table.partitions;
            let goes = |old: &Partition| options.clean_partitions || is_among(new, &old.name);
            let leaving: Vec<PartitionId> =
                existing.partitions.values().filter(|old| goes(old)).map(|old| old.id).collect();
            for id in leaving {
                let (table, old) = (existing.id, existing.partitions.remove(&id));
                gone.extend(old.map(|partition| Dropped::Partition { db, table, partition }));
            }
            for partition in target.table.partitions.into_values() {
                existing.partitions.insert(partition.id, partition);
            }
        } else {
            let replaced = target.replaces.and_then(|replaced| database.tables.remove(&replaced));
            gone.extend(replaced.map(|table| Dropped::Table { db, table }));
            target.table.created_ms = now_ms;
            database.tables.insert(target.table.id, target.table);
        }
    }
    for table in &options.drop_tables {
        gone.extend(database.tables.remove(table).map(|table| Dropped::Table { db, table }));
    }
    for RestoreView { view, .. } in views {
        if let Some(before) = database.view(&view.name).map(|before| before.id) {
            database.views.remove(&before);
        }
        database.views.insert(view.id, View { created_ms: now_ms, ..view });
    }
    options.drop_views.iter().for_each(|view| drop(database.views.remove(view)));
    if options.recycle {
        gone.into_iter().filter(can_come_back).for_each(|one| bin::put(state, one, now_ms));
    }
    Ok(())
}

/// What a load is on its way into would come back with versions missing.
fn can_come_back(gone: &Dropped) -> bool {
    match gone {
        Dropped::Database(_) => true,
        Dropped::Table { table, .. } => table.partitions.values().all(bin::is_settled),
        Dropped::Partition { partition, .. } => bin::is_settled(partition),
    }
}

/// The target with its replicas where they are after all moves.
fn placed(job: &RestoreJob, target: &RestoreTarget) -> RestoreTarget {
    let mut target = target.clone();
    if !job.moves.is_empty() {
        for tablet in target.table.partitions.values_mut().flat_map(|partition| &mut partition.tablets) {
            tablet.replicas = job.replicas(tablet);
        }
    }
    target
}

fn is_among(partitions: &Map<PartitionId, Partition>, name: &str) -> bool {
    partitions.values().any(|partition| partition.name.eq_ignore_ascii_case(name))
}

/// The table may have changed since the submit: columns must be as they were, and partitions must not overlap.
fn fits_still(existing: &Table, target: &RestoreTarget, alone: bool) -> Result<()> {
    let changed = |what: &str| {
        let name = &existing.name;
        Err(Error::conflict(format!("table '{name}' was changed during its restore: {what}; run the restore again")))
    };
    let kinds = |table: &Table| -> Vec<_> {
        let columns = table.schema.columns.iter();
        columns.map(|column| (column.name.to_ascii_lowercase(), column.kind, column.nullable, column.key)).collect()
    };
    if kinds(existing) != kinds(&target.table) {
        return changed("its columns are others");
    }
    let new = &target.table.partitions;
    let stay = existing.partitions.values().filter(|old| !alone && !is_among(new, &old.name));
    for old in stay {
        let overlaps = |partition: &&Partition| match (&old.range, &partition.range) {
            (Some(old), Some(new)) => old.overlaps(new),
            (None, _) | (_, None) => true,
        };
        if let Some(partition) = new.values().find(overlaps) {
            return changed(&format!("partition {} overlaps the restored {}", old.name, partition.name));
        }
    }
    Ok(())
}

/// Other backends take over from one that is lost. Once tablets are being put in force there is no time to download
/// again: the replicas that are left must do.
pub(super) fn move_replicas(
    state: &mut State,
    id: JobId,
    from: BackendId,
    to: &[(TabletId, BackendId)],
) -> Result<Outcome> {
    let job = state.restores.get(&id).ok_or_else(|| unknown(id))?;
    let step = job.state.step();
    if step > RestoreState::Commit.step() || (step == RestoreState::Commit.step() && !to.is_empty()) {
        return Err(Error::conflict(format!("job {id} is {}: replicas cannot move any more", job.state.name())));
    }
    let mut moved = 0;
    for (_, tablet) in job.targets.iter().flat_map(|target| target.table.tablets()) {
        let replicas = job.replicas(tablet);
        if !replicas.contains(&from) {
            continue;
        }
        moved += 1;
        let next = to.binary_search_by_key(&tablet.id, |(tablet, _)| *tablet).ok().map(|at| to[at].1);
        match next {
            Some(next) if replicas.contains(&next) || !state.backends.contains_key(&next) => {
                return Err(Error::conflict(format!("backend {next} cannot take tablet {}", tablet.id)));
            }
            None if replicas.len() == 1 => {
                return Err(Error::unavailable(format!("no replica of tablet {} is left", tablet.id)));
            }
            Some(_) | None => {}
        }
    }
    if moved == 0 {
        return Err(Error::conflict(format!("job {id} has nothing on backend {from}")));
    }
    if let Some(job) = state.restores.get_mut(&id) {
        job.moves.push(ReplicaMove { from, to: to.to_vec() });
    }
    Ok(Outcome::Done)
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
    use crate::catalog::job::{JobError, RestoreOptions};
    use crate::error::ErrorKind;
    use crate::meta::command::Command;
    use std::collections::BTreeMap;

    /// A restore of the table as it is, under another name or into itself.
    fn target(sample: &Sample, name: &str, into: Option<TableId>) -> RestoreTarget {
        let mut table = sample.table().clone();
        name.clone_into(&mut table.name);
        table.partitions.values_mut().for_each(|partition| partition.visible_version = 7);
        let sources = (0..4).map(|n| (TabletId(n), TabletId(100 + n))).collect();
        RestoreTarget { table, into, sources, replaces: None }
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
            views: Vec::new(),
            manifests: vec!["m".to_owned()],
            bytes: 1,
            files: 1,
            now_ms: 100,
            options: RestoreOptions::default(),
            warnings: Vec::new(),
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

    fn start_with(sample: &mut Sample, options: RestoreOptions, targets: Vec<RestoreTarget>) -> JobId {
        let command = Command::CreateRestore(NewRestore { options, ..new(sample, targets) });
        JobId(sample.create(&command))
    }

    fn switch_now(sample: &mut Sample, job: JobId) {
        for to in BEFORE_SWITCH {
            step(sample, job, to);
        }
        step(sample, job, RestoreStep::Committing);
    }

    fn only_p1(mut target: RestoreTarget) -> RestoreTarget {
        target.table.partitions.retain(|_, partition| partition.name == "p1");
        target.sources.truncate(2);
        target
    }

    #[test]
    fn an_atomic_restore_takes_the_place_of_the_table_as_a_whole() {
        let mut sample = Sample::new();
        let old = sample.table;
        let wanted = RestoreTarget { replaces: Some(old), ..only_p1(target(&sample, "t", None)) };
        let job = start(&mut sample, vec![wanted]);
        // Loads go on until the switch; what they wrote is then gone with the table.
        let load = sample.begin("l");
        let drop = Command::DropTable { db: sample.db, table: old };
        sample.refuses(&drop, ErrorKind::Conflict, "is being restored by job");
        let p1 = sample.partition("p1");
        switch_now(&mut sample, job);
        let table = sample.state.databases[&sample.db].table("t").unwrap();
        assert!(table.id != old && !sample.state.databases[&sample.db].tables.contains_key(&old));
        assert_eq!(table.partitions.values().map(|partition| partition.name.as_str()).collect::<Vec<_>>(), ["p1"]);
        let commit = Command::CommitTransaction {
            transaction: load,
            partitions: vec![p1],
            rows: 1,
            tablets: Vec::new(),
            now_ms: 1,
        };
        sample.refuses(&commit, ErrorKind::Conflict, "was dropped during the load");
    }

    #[test]
    fn cleaning_drops_what_the_restore_does_not_have() {
        let mut sample = Sample::new();
        let other = sample.new_table("other");
        let other = TableId(sample.create(&Command::CreateTable(other)));
        let options = RestoreOptions {
            clean_partitions: true,
            drop_tables: vec![other],
            recycle: true,
            ..RestoreOptions::default()
        };
        let wanted = only_p1(target(&sample, "t", Some(sample.table)));
        let job = start_with(&mut sample, options, vec![wanted]);
        // A table that was made meanwhile is not one of those that were there.
        let later = sample.new_table("later");
        sample.create(&Command::CreateTable(later));
        switch_now(&mut sample, job);
        let names: Vec<&str> = sample.table().partitions.values().map(|partition| partition.name.as_str()).collect();
        assert_eq!(names, ["p1"]);
        let mut binned: Vec<&str> = sample.state.bin.values().map(|entry| entry.what.name()).collect();
        binned.sort_unstable();
        assert_eq!(binned, ["other", "p1", "p2"]);
        let database = &sample.state.databases[&sample.db];
        assert!(database.table("other").is_none() && database.table("later").is_some());
    }

    #[test]
    fn views_come_with_the_switch() {
        let mut sample = Sample::new();
        let view = |name: &str, query: &str| View {
            id: TableId(0),
            name: name.to_owned(),
            columns: Vec::new(),
            query: query.to_owned(),
            comment: String::new(),
            created_ms: 0,
        };
        let db = sample.db;
        let define = |view: View| {
            let new = crate::meta::definition::NewView { db, view, replace: false };
            Command::Define(crate::meta::definition::Definition::CreateView(new))
        };
        sample.create(&define(view("v", "SELECT 1")));
        let with = |sample: &Sample, name: &str, replaces| {
            let views = vec![RestoreView { view: view(name, "SELECT 2"), replaces }];
            Command::CreateRestore(NewRestore { views, ..new(sample, Vec::new()) })
        };
        let (taken, of_table) = (with(&sample, "v", false), with(&sample, "t", true));
        assert_eq!(sample.refused(&taken).number(), 1050);
        assert_eq!(sample.refused(&of_table).number(), 1050);
        let replacing = with(&sample, "v", true);
        let job = JobId(sample.create(&replacing));
        switch_now(&mut sample, job);
        let found = sample.state.databases[&db].view("v").unwrap();
        assert_eq!((found.query.as_str(), found.created_ms), ("SELECT 2", 200));
        step(&mut sample, job, RestoreStep::Finished);
        sample.ok(&Command::JobCleaned { job });
        let fresh = with(&sample, "w", false);
        sample.create(&fresh);
        sample.refuses(&define(view("w", "SELECT 3")), ErrorKind::Conflict, "being created by restore job");
    }

    #[test]
    fn loads_into_overwritten_partitions_wait_unless_they_are_allowed() {
        for (allow_load, part) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut sample = Sample::new();
            let whole = target(&sample, "t", Some(sample.table));
            let wanted = if part { only_p1(whole) } else { whole };
            let options = RestoreOptions { allow_load, ..RestoreOptions::default() };
            start_with(&mut sample, options, vec![wanted]);
            let begin = sample.begin_command("l");
            if !allow_load && !part {
                sample.refuses(&begin, ErrorKind::Conflict, "is being restored by job");
                continue;
            }
            let load = sample.begin("l");
            let (p1, p2) = (sample.partition("p1"), sample.partition("p2"));
            let commit = |partitions| Command::CommitTransaction {
                transaction: load,
                partitions,
                rows: 1,
                tablets: Vec::new(),
                now_ms: 1,
            };
            if allow_load {
                sample.ok(&commit(vec![p1, p2]));
            } else {
                sample.refuses(&commit(vec![p1, p2]), ErrorKind::Conflict, "partition p1 is being restored by job");
                sample.ok(&commit(vec![p2]));
            }
        }
    }

    #[test]
    fn a_table_that_was_changed_meanwhile_is_not_switched() {
        let mut sample = Sample::new();
        let wanted = only_p1(target(&sample, "t", Some(sample.table)));
        let job = start(&mut sample, vec![wanted]);
        for to in BEFORE_SWITCH {
            step(&mut sample, job, to);
        }
        let (db, table) = (sample.db, sample.table);
        let commit = Command::AdvanceRestore { job, from: "COMMIT".to_owned(), to: RestoreStep::Committing, now_ms: 1 };
        let existing = sample.state.databases.get_mut(&db).and_then(|db| db.tables.get_mut(&table)).unwrap();
        let p1 = existing.partition("p1").unwrap().range.clone();
        existing.partitions.values_mut().filter(|old| old.name == "p2").for_each(|old| old.range = p1.clone());
        sample.refuses(&commit, ErrorKind::Conflict, "partition p2 overlaps the restored p1");
        let existing = sample.state.databases.get_mut(&db).and_then(|db| db.tables.get_mut(&table)).unwrap();
        existing.schema.columns[1].nullable ^= true;
        sample.refuses(&commit, ErrorKind::Conflict, "its columns are others");
    }

    #[test]
    fn replicas_of_a_lost_backend_move_or_are_done_without_but_never_the_last() {
        let mut sample = Sample::new();
        let wanted = target(&sample, "copy", None);
        let job = start(&mut sample, vec![wanted]);
        let lost = sample.backends[0];
        let tablets = |sample: &Sample| -> Vec<(TabletId, Vec<BackendId>)> {
            let job = &sample.state.restores[&job];
            let tablets = job.targets[0].table.tablets();
            tablets.map(|(_, tablet)| (tablet.id, job.replicas(tablet))).collect()
        };
        let on_lost: Vec<(TabletId, Vec<BackendId>)> =
            tablets(&sample).into_iter().filter(|(_, replicas)| replicas.contains(&lost)).collect();
        assert!(!on_lost.is_empty() && on_lost.iter().all(|(_, replicas)| replicas.len() == 2));
        let taken = vec![(on_lost[0].0, *on_lost[0].1.iter().find(|other| **other != lost).unwrap())];
        let take = |to| Command::MoveReplicas { job, from: lost, to };
        sample.refuses(&take(taken), ErrorKind::Conflict, "cannot take tablet");
        sample.refuses(&take(vec![(on_lost[0].0, BackendId(1))]), ErrorKind::Conflict, "cannot take tablet");
        sample.ok(&take(Vec::new()));
        assert!(tablets(&sample).iter().all(|(_, replicas)| !replicas.contains(&lost)));
        sample.refuses(&take(Vec::new()), ErrorKind::Conflict, "has nothing on backend");
        let (tablet, replicas) = tablets(&sample).into_iter().find(|(_, replicas)| replicas.len() == 1).unwrap();
        let last = Command::MoveReplicas { job, from: replicas[0], to: Vec::new() };
        sample.refuses(&last, ErrorKind::Unavailable, "is left");
        let back = Command::MoveReplicas {
            job,
            from: replicas[0],
            to: {
                let on_it = tablets(&sample).into_iter().filter(|(_, others)| others.contains(&replicas[0]));
                on_it.map(|(tablet, _)| (tablet, lost)).collect()
            },
        };
        sample.ok(&back);
        assert!(tablets(&sample).contains(&(tablet, vec![lost])));
        switch_now(&mut sample, job);
        let copy = sample.state.databases[&sample.db].table("copy").unwrap();
        assert!(copy.tablets().any(|(_, made)| made.id == tablet && made.replicas == [lost]));
        sample.refuses(&take(Vec::new()), ErrorKind::Conflict, "is COMMITTING");
    }
}
