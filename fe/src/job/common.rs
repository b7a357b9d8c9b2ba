//! What the plans of both kinds of job share: ending one, and cleaning up after its end. Pure.

use super::action::{Action, Key, Task};
use super::facts::Facts;
use super::memory::{Memory, Readiness};
use crate::catalog::job::JobError;
use crate::meta::command::Command;
use coffer_proto::ids::{BackendId, JobId};
use coffer_stdx::Error;

/// Tasks of one job that run on one backend at a time.
pub(super) const TASKS_PER_BACKEND: usize = 4;

/// Give a job up for this reason.
pub(super) fn cancel(job: JobId, error: &Error, now_ms: u64) -> Vec<Action> {
    let error = JobError { kind: error.kind().name().to_owned(), message: error.message().to_owned() };
    vec![Action::Propose(Command::CancelJob { job, error, now_ms })]
}

/// Start a task if it may start, or say when.
pub(super) fn start(memory: &Memory, facts: &Facts, task: Task, actions: &mut Vec<Action>) {
    start_with(memory, facts, task.key, || task, actions);
}

/// The same for a task that is made only when it starts.
pub(super) fn start_with(
    memory: &Memory,
    facts: &Facts,
    key: Key,
    task: impl FnOnce() -> Task,
    actions: &mut Vec<Action>,
) {
    match memory.readiness(key, facts.now_ms) {
        Readiness::Ready => actions.push(Action::Start(task())),
        Readiness::After(at) => actions.push(Action::WakeAt(at)),
        Readiness::Running | Readiness::Done => {}
    }
}

/// Start one task on each of these backends. True when all are done.
pub(super) fn on_each(
    memory: &Memory,
    facts: &Facts,
    tasks: impl IntoIterator<Item = Task>,
    actions: &mut Vec<Action>,
) -> bool {
    let mut all = true;
    for task in tasks {
        all &= memory.done.contains(&task.key);
        start(memory, facts, task, actions);
    }
    all
}

/// Stop every task that is not part of cleaning up. What this frontend writes itself is awaited instead: a write that was
/// sent may still happen, and must not happen after its leftovers were removed. True when none is left.
pub(super) fn stop_others(memory: &Memory, actions: &mut Vec<Action>) -> bool {
    let mut clear = true;
    for (key, task) in &memory.tasks {
        match key {
            Key::Release(_) | Key::Leftovers => {}
            Key::Meta | Key::Info if task.running => clear = false,
            Key::Meta
            | Key::Info
            | Key::Snapshot(_)
            | Key::Upload(_)
            | Key::Prepare(_)
            | Key::Download(_)
            | Key::Activate(_) => actions.push(Action::Stop(*key)),
        }
    }
    clear
}

/// Release the job on every backend that is there; the others are released when they come back. True when done.
pub(super) fn release(memory: &Memory, facts: &Facts, actions: &mut Vec<Action>) -> bool {
    let there: Vec<BackendId> = facts.backends.keys().copied().filter(|backend| facts.up(*backend)).collect();
    let task = |backend| Task { key: Key::Release(backend), backend: Some(backend), tablets: Vec::new() };
    on_each(memory, facts, there.into_iter().map(task), actions)
}
