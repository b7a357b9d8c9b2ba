//! `plan(job, memory, facts) -> actions` of RESTORE. Pure: no I/O, no clock, no randomness.
//!
//! PENDING -> SNAPSHOTING -> DOWNLOAD -> DOWNLOADING -> COMMIT -> COMMITTING -> FINISHED, or CANCELLED up to COMMIT.
//!
//! Every replica of every new tablet downloads its own copy below the job's directory (DOWNLOADING). When all are
//! complete, all backends move them into place (COMMIT): they are claimed by the job, and nobody reads them yet. Then one
//! entry switches the catalog (COMMITTING), so a reader sees the old tables or the new ones, never a mix, and what the
//! catalog names can be read at once. What was replaced has no claim any more and is dropped.
//!
//! Which tablets a download task has is a function of the record alone (`placement`), so every leader numbers them alike.
//! What a lost backend was to hold goes to others (`lost`). A crash before the switch leaves the old data as it was; a new leader asks again for what is not recorded as done.

use super::action::{Action, Key, Task};
use super::common;
use super::facts::Facts;
use super::lost;
use super::memory::{Memory, Readiness};
use super::placement::Placement;
pub use super::placement::{Part, parts};
use crate::catalog::job::{RestoreJob, RestoreState};
use crate::meta::command::{Command, RestoreStep};
use coffer_proto::ids::BackendId;
use coffer_stdx::Error;
use std::collections::BTreeMap;

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
    if facts.now_ms >= deadline {
        let text = format!("restore job with label: {} did not end within {} s", job.label, job.timeout_s);
        return common::cancel(job.id, &Error::timeout(text), facts.now_ms);
    }
    if let Some(error) = &memory.fatal {
        return common::cancel(job.id, error, facts.now_ms);
    }
    let placement = memory.placement.of(job);
    let mut wake = vec![Action::WakeAt(deadline)];
    if let Some(actions) = lost::replace(job, &placement, facts, &mut wake) {
        return actions;
    }
    let mut actions = match &job.state {
        RestoreState::Pending => advance(job, facts, RestoreStep::Snapshoting),
        RestoreState::Snapshoting => everywhere(job, (memory, &placement), facts, Key::Prepare, RestoreStep::Download),
        RestoreState::Download => advance(job, facts, RestoreStep::Downloading),
        RestoreState::Downloading { done } => download(job, done, (memory, &placement), facts),
        RestoreState::Commit => everywhere(job, (memory, &placement), facts, Key::Activate, RestoreStep::Committing),
        RestoreState::Committing | RestoreState::Finished | RestoreState::Cancelled => Vec::new(),
    };
    if !matches!(actions.first(), Some(Action::Propose(_))) {
        actions.extend(wake);
    }
    actions
}

fn advance(job: &RestoreJob, facts: &Facts, to: RestoreStep) -> Vec<Action> {
    let from = job.state.name().to_owned();
    vec![Action::Propose(Command::AdvanceRestore { job: job.id, from, to, now_ms: facts.now_ms })]
}

/// Run a task on every backend that holds files, then go on. Backends that are away are waited for.
fn everywhere(
    job: &RestoreJob,
    (memory, placement): (&Memory, &Placement),
    facts: &Facts,
    key: impl Fn(BackendId) -> Key,
    then: RestoreStep,
) -> Vec<Action> {
    let mut open = placement.by_backend.iter().filter(|(backend, _)| !memory.done.contains(&key(**backend))).peekable();
    if open.peek().is_none() {
        return advance(job, facts, then);
    }
    let mut actions = Vec::new();
    for (backend, tablets) in open.filter(|(backend, _)| facts.up(**backend)) {
        let key = key(*backend);
        let tablets = || Task { key, backend: Some(*backend), tablets: tablets.clone() };
        common::start_with(memory, facts, key, tablets, &mut actions);
    }
    actions
}

fn download(job: &RestoreJob, done: &[u32], (memory, placement): (&Memory, &Placement), facts: &Facts) -> Vec<Action> {
    let news: Vec<u32> = memory.downloaded.keys().filter(|part| done.binary_search(part).is_err()).copied().collect();
    if !news.is_empty() {
        return vec![Action::Propose(Command::DownloadDone { job: job.id, parts: news })];
    }
    let mut actions = Vec::new();
    let mut slots: BTreeMap<BackendId, usize> = BTreeMap::new();
    let mut open = false;
    for (number, part) in (1..).zip(&placement.parts) {
        let key = Key::Download(number);
        if part.void {
            if memory.readiness(key, facts.now_ms) == Readiness::Running {
                actions.push(Action::Stop(key));
            }
            continue;
        }
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
        let ready = memory.readiness(key, facts.now_ms) == Readiness::Ready;
        if ready && *slots == 0 {
            continue;
        }
        *slots -= usize::from(ready);
        let task = || Task { key, backend: Some(part.backend), tablets: part.tablets.clone() };
        common::start_with(memory, facts, key, task, &mut actions);
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
