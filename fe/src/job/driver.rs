//! Drives jobs while this frontend leads: plan, carry out, wait for something to happen, plan again.
//!
//! One tokio task per job that is not cleaned up. It is woken by a change of its record, by the end of one of its tasks,
//! by a backend that comes or goes, and by the time its plan named; there is no tick. A plan that proposes is followed by
//! the next plan at once, so a job without data is through all states in the time of six log entries.
//!
//! Losing the leadership ends all drivers; their tasks are cancelled on the backends, and the next leader starts them
//! again.

use super::action::{Action, Event, Key};
use super::clock::Clock;
use super::facts::{Facts, Health};
use super::hold;
use super::memory::Memory;
use super::runner::Runner;
use super::{backup, restore};
use crate::backends::Presence;
use crate::catalog::job::{BackupState, RestoreState};
use crate::meta::command::Command;
use crate::meta::state::State;
use crate::raft::Leadership;
use coffer_proto::ids::JobId;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, ErrorKind};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Before a plan whose proposal failed is made again.
const REPLAN_AFTER: Duration = Duration::from_millis(500);

/// Start and stop drivers with leadership, until shutdown.
pub(super) async fn supervise(runner: Runner, shutdown: Shutdown) {
    let mut applied = runner.meta.applied();
    let mut leadership = runner.meta.leadership();
    let mut now = Leadership::default();
    let mut token = shutdown.token();
    let mut driven: BTreeMap<JobId, tokio::task::JoinHandle<()>> = BTreeMap::new();
    loop {
        applied.borrow_and_update();
        let leading = *leadership.borrow_and_update();
        if leading != now {
            token.cancel();
            token = shutdown.token();
            driven.clear();
            now = leading;
        }
        if now.leading {
            driven.retain(|_, driver| !driver.is_finished());
            for job in runner.meta.view(open_jobs) {
                driven.entry(job).or_insert_with(|| drive_one(&runner, job, &token, &shutdown));
            }
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { break },
            changed = leadership.changed() => if changed.is_err() { break },
            () = shutdown.begun() => break,
        }
    }
    token.cancel();
}

fn drive_one(
    runner: &Runner,
    job: JobId,
    token: &CancellationToken,
    shutdown: &Shutdown,
) -> tokio::task::JoinHandle<()> {
    let runner = Runner { clock: Clock::start(), ..runner.clone() };
    let (driver, token) = (Driver::new(runner.clone(), job), token.clone());
    let (board, contents) = (runner.board.clone(), runner.contents.clone());
    shutdown.spawn(async move {
        token.run_until_cancelled(driver.run()).await;
        board.forget(job);
        contents.forget(job);
    })
}

/// Jobs that still need a driver.
fn open_jobs(state: &State) -> Vec<JobId> {
    let backups = state.backups.values().filter(|job| !job.cleaned).map(|job| job.id);
    let restores = state.restores.values().filter(|job| !job.cleaned).map(|job| job.id);
    backups.chain(restores).collect()
}

/// What of a job's record a plan depends on, short: state, tasks recorded as done, whether it is cleaned up.
type Stamp = (u8, usize, bool);

fn stamp(state: &State, job: JobId) -> Option<Stamp> {
    if let Some(job) = state.backups.get(&job) {
        let done = match &job.state {
            BackupState::Uploading { parts } => parts.values().filter(|part| part.done.is_some()).count() + parts.len(),
            _ => 0,
        };
        return Some((job.state.step(), done, job.cleaned));
    }
    let job = state.restores.get(&job)?;
    let done = match &job.state {
        RestoreState::Downloading { done } => done.len(),
        _ => 0,
    };
    let done = done + job.moves.len();
    Some((job.state.step(), done, job.cleaned))
}

struct Driver {
    runner: Runner,
    job: JobId,
    memory: Memory,
    running: JoinSet<Event>,
    handles: HashMap<Key, AbortHandle>,
    keys: HashMap<Id, Key>,
}

impl Driver {
    fn new(runner: Runner, job: JobId) -> Driver {
        Driver {
            runner,
            job,
            memory: Memory::default(),
            running: JoinSet::new(),
            handles: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    async fn run(mut self) {
        let mut applied = self.runner.meta.applied();
        let mut changes = self.runner.backends.changes();
        loop {
            self.held(hold::BEFORE).await;
            applied.borrow_and_update();
            changes.borrow_and_update();
            let facts = self.facts();
            let Some((actions, seen)) = self.plan(&facts) else { return };
            let Some(wake_ms) = self.carry_out(actions, seen).await else { continue };
            self.held(hold::BEGUN).await;
            let (meta, job) = (self.runner.meta.clone(), self.job);
            let moved_on = move || meta.view(|state| stamp(state, job)) != Some(seen);
            let sleep = Duration::from_millis(wake_ms.saturating_sub(self.runner.clock.now_ms()));
            tokio::select! {
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    self.ended(ended);
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.ended(ended);
                    }
                }
                () = changed(&mut applied, moved_on) => (),
                _ = changes.changed() => (),
                () = tokio::time::sleep(sleep) => (),
            }
        }
    }

    async fn held(&self, when: &str) {
        let (meta, job) = (&self.runner.meta, self.job);
        hold::wait(&self.runner.config.job_hold_dir, when, || meta.view(|state| hold::name_of(state, job))).await;
    }

    /// `None` when the job needs no driver any more.
    fn plan(&self, facts: &Facts) -> Option<(Vec<Action>, Stamp)> {
        self.runner.meta.view(|state| {
            let (actions, moved) = if let Some(job) = state.backups.get(&self.job).filter(|job| !job.cleaned) {
                let moved = match &job.state {
                    BackupState::Uploading { parts } => {
                        Some(parts.values().filter_map(|part| part.done.as_ref()).map(|done| done.data_bytes).sum())
                    }
                    _ => None,
                };
                (backup::plan(job, &self.memory, facts), moved)
            } else {
                let job = state.restores.get(&self.job).filter(|job| !job.cleaned)?;
                let moved = matches!(job.state, RestoreState::Downloading { .. })
                    .then(|| self.memory.downloaded.values().sum());
                (restore::plan(job, &self.memory, facts), moved)
            };
            self.runner.board.publish(self.job, &self.memory, moved);
            Some((actions, stamp(state, self.job)?))
        })
    }

    fn facts(&self) -> Facts {
        let backends = self.runner.meta.view(|state| state.backends.values().cloned().collect::<Vec<_>>());
        let health = |backend: &crate::catalog::cluster::Backend| match self.runner.backends.presence(backend.id) {
            Presence::Up => Health::Up,
            presence => {
                let for_ms = match presence {
                    Presence::Down { since } => since.as_millis() as u64,
                    Presence::Up | Presence::Unknown => 0,
                };
                let why = self.runner.backends.status(backend.id).map(|status| status.error).unwrap_or_default();
                Health::Down { for_ms, cause: format!("backend {} is not alive: {why}", backend.address()) }
            }
        };
        let now_ms = self.runner.clock.now_ms();
        let leaving = backends.iter().filter(|backend| backend.decommissioned).map(|backend| backend.id).collect();
        let backends = backends.iter().map(|backend| (backend.id, health(backend))).collect();
        Facts { now_ms, backends, leaving }
    }

    /// When to plan again at the latest; `None`: at once.
    async fn carry_out(&mut self, actions: Vec<Action>, seen: Stamp) -> Option<u64> {
        let mut wake = self.runner.clock.now_ms() + 3_600_000;
        let mut proposed = false;
        for action in actions {
            match action {
                Action::Propose(command) => {
                    proposed = true;
                    note(self.job, &command);
                    if let Err(error) = self.runner.meta.propose(command).await {
                        self.refused(&error, seen).await;
                        return None;
                    }
                }
                Action::Start(task) => {
                    self.memory.started(&task);
                    let key = task.key;
                    let handle = self.running.spawn(self.runner.clone().perform(self.job, task));
                    self.keys.insert(handle.id(), key);
                    self.handles.insert(key, handle);
                }
                Action::Stop(key) => {
                    if let Some(handle) = self.handles.remove(&key) {
                        handle.abort();
                    }
                    self.memory.stopped(key);
                }
                Action::WakeAt(at) => wake = wake.min(at),
            }
        }
        // What was started is shown at once: the next plan may be as far away as the end of a long transfer.
        self.runner.board.publish(self.job, &self.memory, None);
        (!proposed).then_some(wake)
    }

    /// A step was not taken. When the record moved on, by CANCEL for instance, the next plan sees it; a refusal of the
    /// record as it was is the end of the job.
    async fn refused(&mut self, error: &Error, seen: Stamp) {
        let moved_on = self.runner.meta.view(|state| stamp(state, self.job)) != Some(seen);
        tracing::warn!(job = %self.job, %error, moved_on, "a step of a job was not taken");
        if moved_on {
            return;
        }
        if !error.kind().is_transient() && error.kind() != ErrorKind::Cancelled {
            self.memory.fatal.get_or_insert_with(|| error.clone());
        }
        tokio::time::sleep(REPLAN_AFTER).await;
    }

    fn ended(&mut self, ended: Result<(Id, Event), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, event)) => (id, Ok(event)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        // A stopped task may have been started again since.
        if self.handles.get(&key).is_none_or(|handle| handle.id() != id) {
            return;
        }
        self.handles.remove(&key);
        let event = outcome.unwrap_or_else(|error| Event {
            key,
            now_ms: self.runner.clock.now_ms(),
            outcome: Err(Error::bug(format!("task {key} ended without a result: {error}"))),
        });
        self.memory.observe(event);
    }
}

/// What a job goes through, for the log.
fn note(job: JobId, command: &Command) {
    match command {
        Command::AdvanceBackup { from, to, .. } => tracing::info!(%job, %from, to = to.name(), "backup goes on"),
        Command::AdvanceRestore { from, to, .. } => tracing::info!(%job, %from, ?to, "restore goes on"),
        Command::CancelJob { error, .. } => {
            tracing::warn!(%job, kind = %error.kind, error = %error.message, "a job fails");
        }
        Command::JobCleaned { .. } => tracing::info!(%job, "nothing is left of a job but its record"),
        other => tracing::debug!(%job, ?other, "a job records progress"),
    }
}

/// Wait until entries were applied and `differs` holds.
async fn changed(applied: &mut tokio::sync::watch::Receiver<u64>, differs: impl Fn() -> bool) {
    loop {
        if applied.changed().await.is_err() {
            // The state machine is gone; shutdown follows.
            std::future::pending::<()>().await;
        }
        if differs() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
