//! `plan(job, memory, facts) -> actions` of RESTORE. Pure: no I/O, no clock, no randomness.
//!
//! PENDING -> SNAPSHOTING -> DOWNLOAD -> DOWNLOADING -> COMMIT -> COMMITTING -> FINISHED, or CANCELLED up to COMMIT.
//!
//! Every replica of every new tablet downloads its own copy below the job's directory (DOWNLOADING). When all are
//! complete, all backends move them into place (COMMIT): they are claimed by the job, and nobody reads them yet. Then one
//! entry switches the catalog (COMMITTING), so a reader sees the old tables or the new ones, never a mix, and what the
//! catalog names can be read at once. What was replaced has no claim any more and is dropped.
//!
//! Which tablets a download task has is a function of the record alone ([`parts`]), so every leader numbers them alike.
//! A crash before the switch leaves the old data as it was; a new leader asks again for what is not recorded as done.

use super::action::{Action, Key, Task};
use super::common;
use super::facts::{Facts, Health};
use super::memory::{Memory, Readiness};
use crate::catalog::job::{RestoreJob, RestoreState};
use crate::catalog::table::{FIRST_VERSION, Table};
use crate::meta::command::{Command, RestoreStep};
use coffer_proto::ids::{BackendId, TabletId};
use coffer_stdx::Error;
use std::collections::BTreeMap;

/// Tablets in one download task.
const DOWNLOAD_BATCH: usize = 500;
/// Bytes of schemas in one download task, estimated: every tablet of a task carries the schema of its table.
const SCHEMA_BYTES: usize = 4 << 20;

/// One download task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Who downloads.
    pub backend: BackendId,
    /// New tablets with their versions.
    pub tablets: Vec<(TabletId, u64)>,
}

/// The download tasks of a job; their position, from 1, is their number.
pub fn parts(job: &RestoreJob) -> Vec<Part> {
    let mut parts = Vec::new();
    for (backend, tablets) in by_backend(job) {
        let mut part = Part { backend, tablets: Vec::new() };
        let mut schemas = 0;
        for (tablet, version, schema_bytes) in tablets {
            let full = part.tablets.len() == DOWNLOAD_BATCH || schemas + schema_bytes > SCHEMA_BYTES;
            if full && !part.tablets.is_empty() {
                parts.push(std::mem::replace(&mut part, Part { backend, tablets: Vec::new() }));
                schemas = 0;
            }
            part.tablets.push((tablet, version));
            schemas += schema_bytes;
        }
        parts.push(part);
    }
    parts
}

/// New tablets that have files, by backend: id, version, and an estimate of their schema's size.
fn by_backend(job: &RestoreJob) -> BTreeMap<BackendId, Vec<(TabletId, u64, usize)>> {
    let mut all: BTreeMap<BackendId, Vec<(TabletId, u64, usize)>> = BTreeMap::new();
    for target in &job.targets {
        let schema = schema_bytes(&target.table);
        let tablets = target.table.tablets().filter(|(partition, _)| partition.visible_version > FIRST_VERSION);
        for (partition, tablet) in tablets {
            for backend in &tablet.replicas {
                all.entry(*backend).or_default().push((tablet.id, partition.visible_version, schema));
            }
        }
    }
    all
}

fn schema_bytes(table: &Table) -> usize {
    let column = |column: &coffer_table::Column| {
        150 + column.name.len() + column.comment.len() + column.default.as_deref().map_or(0, str::len)
    };
    table.schema.columns.iter().map(column).sum()
}

/// One task per backend about all its tablets.
fn per_backend(job: &RestoreJob, key: impl Fn(BackendId) -> Key) -> Vec<Task> {
    let task = |(backend, tablets): (BackendId, Vec<(TabletId, u64, usize)>)| Task {
        key: key(backend),
        backend: Some(backend),
        tablets: tablets.into_iter().map(|(tablet, version, _)| (tablet, version)).collect(),
    };
    by_backend(job).into_iter().map(task).collect()
}

/// What to do next.
pub fn plan(job: &RestoreJob, memory: &Memory, facts: &Facts) -> Vec<Action> {
    if job.state.is_over() {
        return clean_up(job, memory, facts);
    }
    // The catalog is switched: there is nothing left that could fail.
    if job.state == RestoreState::Committing {
        return advance(job, facts, RestoreStep::Finished);
    }
    let deadline = job.times.created.saturating_add(job.timeout_s.saturating_mul(1_000));
    if let Some(error) = reason_to_end(job, memory, facts, deadline) {
        return common::cancel(job.id, &error, facts.now_ms);
    }
    let mut actions = match &job.state {
        RestoreState::Pending => advance(job, facts, RestoreStep::Snapshoting),
        RestoreState::Snapshoting => {
            everywhere(job, memory, facts, (per_backend(job, Key::Prepare), RestoreStep::Download))
        }
        RestoreState::Download => advance(job, facts, RestoreStep::Downloading),
        RestoreState::Downloading { done } => download(job, done, memory, facts),
        RestoreState::Commit => {
            everywhere(job, memory, facts, (per_backend(job, Key::Activate), RestoreStep::Committing))
        }
        RestoreState::Committing | RestoreState::Finished | RestoreState::Cancelled => Vec::new(),
    };
    if !matches!(actions.first(), Some(Action::Propose(_))) {
        actions.push(Action::WakeAt(deadline));
    }
    actions
}

fn reason_to_end(job: &RestoreJob, memory: &Memory, facts: &Facts, deadline: u64) -> Option<Error> {
    if facts.now_ms >= deadline {
        let text = format!("restore job with label: {} did not end within {} s", job.label, job.timeout_s);
        return Some(Error::timeout(text));
    }
    if let Some(error) = &memory.fatal {
        return Some(error.clone());
    }
    let replicas = job.targets.iter().flat_map(|target| target.table.tablets());
    let mut replicas = replicas.flat_map(|(_, tablet)| tablet.replicas.iter().map(move |backend| (tablet, *backend)));
    replicas.find(|(_, backend)| *facts.health(*backend) == Health::Gone).map(|(tablet, backend)| {
        Error::unavailable(format!(
            "backend {backend}, which was to hold tablet {}, left the cluster; run the restore again",
            tablet.id
        ))
    })
}

fn advance(job: &RestoreJob, facts: &Facts, to: RestoreStep) -> Vec<Action> {
    let from = job.state.name().to_owned();
    vec![Action::Propose(Command::AdvanceRestore { job: job.id, from, to, now_ms: facts.now_ms })]
}

/// Run a task on every backend, then go on. Backends that are away are waited for.
fn everywhere(
    job: &RestoreJob,
    memory: &Memory,
    facts: &Facts,
    (tasks, then): (Vec<Task>, RestoreStep),
) -> Vec<Action> {
    if tasks.iter().all(|task| memory.done.contains(&task.key)) {
        return advance(job, facts, then);
    }
    let there = tasks.into_iter().filter(|task| task.backend.is_some_and(|backend| facts.up(backend)));
    let mut actions = Vec::new();
    common::on_each(memory, facts, there, &mut actions);
    actions
}

fn download(job: &RestoreJob, done: &[u32], memory: &Memory, facts: &Facts) -> Vec<Action> {
    let news: Vec<u32> = memory.downloaded.keys().filter(|part| done.binary_search(part).is_err()).copied().collect();
    if !news.is_empty() {
        return vec![Action::Propose(Command::DownloadDone { job: job.id, parts: news })];
    }
    let mut actions = Vec::new();
    let mut slots: BTreeMap<BackendId, usize> = BTreeMap::new();
    let mut open = false;
    for (number, part) in (1..).zip(parts(job)) {
        if done.binary_search(&number).is_ok() {
            continue;
        }
        open = true;
        if !facts.up(part.backend) {
            continue;
        }
        let slots = slots
            .entry(part.backend)
            .or_insert_with(|| common::TASKS_PER_BACKEND.saturating_sub(memory.running_on(part.backend)));
        let key = Key::Download(number);
        let ready = memory.readiness(key, facts.now_ms) == Readiness::Ready;
        if ready && *slots == 0 {
            continue;
        }
        *slots -= usize::from(ready);
        let task = Task { key, backend: Some(part.backend), tablets: part.tablets };
        common::start(memory, facts, task, &mut actions);
    }
    if open { actions } else { advance(job, facts, RestoreStep::Commit) }
}

/// After the end: tasks stop and backends let go; activated tablets of a cancelled job have no claim and are dropped.
fn clean_up(job: &RestoreJob, memory: &Memory, facts: &Facts) -> Vec<Action> {
    let mut actions = Vec::new();
    if job.cleaned {
        return actions;
    }
    let clear = common::stop_others(memory, &mut actions);
    let released = common::release(memory, facts, &mut actions);
    if clear && released {
        return vec![Action::Propose(Command::JobCleaned { job: job.id })];
    }
    actions
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
