//! How running jobs get on, for SHOW: in memory of the leader, never replicated.
//!
//! The driver of a job puts in its tasks after every plan; bytes and files arrive in between from the backends. Rates are
//! of the last seconds that this leader saw, see [`rate`](super::rate).

use super::action::Key;
use super::memory::Memory;
use super::rate::Rate;
use coffer_proto::ids::{BackendId, JobId};
use coffer_proto::v1::Progress;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One task as SHOW prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskProgress {
    /// Where it runs.
    pub backend: Option<BackendId>,
    /// Whether it runs now.
    pub running: bool,
    /// The last error, until it succeeds.
    pub error: Option<String>,
    /// How far it is.
    pub progress: Progress,
    /// Tablets it has.
    pub tablets: usize,
}

/// One job as SHOW prints it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobProgress {
    /// Tasks that run or failed.
    pub tasks: BTreeMap<Key, TaskProgress>,
    /// Bytes of finished downloads this leader heard of.
    pub downloaded: u64,
    /// Files linked so far.
    pub files: u64,
    /// Bytes linked so far.
    pub bytes: u64,
    /// Bytes moved by tasks that run.
    pub moving: u64,
    /// Bytes per second in the last seconds; `None` while nothing moves.
    pub bytes_per_second: Option<f64>,
    /// Replicas that were passed over, in words.
    pub passed_over: Vec<String>,
}

impl JobProgress {
    /// Bytes moved by tasks that run.
    fn moving_bytes(&self) -> u64 {
        self.tasks.values().map(|task| task.progress.bytes_done).sum()
    }

    /// Files moved by tasks that run.
    pub fn moving_files(&self) -> u64 {
        self.tasks.values().map(|task| task.progress.files_done).sum()
    }
}

#[derive(Debug, Default)]
struct Board {
    shown: JobProgress,
    transfer: Option<Transfer>,
}

/// What this leader saw of the bytes of a job.
#[derive(Debug)]
struct Transfer {
    began: Instant,
    /// Bytes of tasks that are done.
    moved: u64,
    rate: Rate,
}

impl Board {
    /// Note how far the bytes are now.
    fn measure(&mut self) {
        let Some(transfer) = &mut self.transfer else { return };
        let at = transfer.began.elapsed();
        if transfer.rate.is_due(at) {
            transfer.rate.note(at, transfer.moved + self.shown.moving_bytes());
        }
    }
}

/// All jobs that this leader drives.
#[derive(Debug, Clone, Default)]
pub struct ProgressBoard {
    jobs: Arc<Mutex<BTreeMap<JobId, Board>>>,
}

impl ProgressBoard {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Board>> {
        // Nothing panics while it holds the lock with an entry half changed.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a job gets on; `None` when it does not run here.
    pub fn job(&self, job: JobId) -> Option<JobProgress> {
        let jobs = self.jobs();
        let board = jobs.get(&job)?;
        let mut shown = board.shown.clone();
        shown.moving = shown.moving_bytes();
        let rate = |seen: &Transfer| seen.rate.per_second(seen.began.elapsed(), seen.moved + shown.moving);
        shown.bytes_per_second = board.transfer.as_ref().and_then(rate);
        Some(shown)
    }

    /// Take in what the driver remembers. `moved`: bytes recorded as moved, once the transfer has begun.
    pub fn publish(&self, job: JobId, memory: &Memory, moved: Option<u64>) {
        let mut jobs = self.jobs();
        let board = jobs.entry(job).or_default();
        let old = std::mem::take(&mut board.shown.tasks);
        let task = |(key, task): (&Key, &super::memory::TaskMemory)| {
            let kept = old.get(key).filter(|_| task.running).map(|task| task.progress);
            let shown = TaskProgress {
                backend: task.backend,
                running: task.running,
                error: task.error.as_ref().map(|error| error.message().to_owned()),
                progress: kept.unwrap_or_default(),
                tablets: task.tablets.len(),
            };
            (*key, shown)
        };
        board.shown.tasks = memory.tasks.iter().map(task).collect();
        board.shown.downloaded = memory.downloaded.values().sum();
        (board.shown.files, board.shown.bytes) = (memory.counts.files, memory.counts.bytes);
        board.shown.passed_over = memory.passed_over();
        if let Some(moved) = moved {
            let fresh = || Transfer { began: Instant::now(), moved, rate: Rate::default() };
            board.transfer.get_or_insert_with(fresh).moved = moved;
            board.measure();
        }
    }

    /// A backend says how far a task is.
    pub fn report(&self, job: JobId, key: Key, progress: &Progress) {
        let mut jobs = self.jobs();
        let Some(board) = jobs.get_mut(&job) else { return };
        if let Some(task) = board.shown.tasks.get_mut(&key) {
            task.progress = *progress;
            board.measure();
        }
    }

    /// The job does not run here any more.
    pub fn forget(&self, job: JobId) {
        self.jobs().remove(&job);
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::Task;
    use super::*;

    #[test]
    fn progress_stays_while_a_task_runs_and_goes_with_the_job() {
        let (board, job, key) = (ProgressBoard::default(), JobId(1), Key::Upload(1));
        assert_eq!(board.job(job), None);
        let mut memory = Memory::default();
        memory.started(&Task { key, backend: Some(BackendId(2)), tablets: Vec::new() });
        board.publish(job, &memory, Some(5));
        board.report(job, key, &Progress { bytes_done: 7, ..Progress::default() });
        board.publish(job, &memory, Some(6));
        let shown = board.job(job).unwrap();
        assert_eq!(shown.moving, 7);
        assert!(shown.bytes_per_second.unwrap() > 0.0 && shown.passed_over.is_empty());
        memory.stopped(key);
        board.publish(job, &memory, Some(6));
        assert_eq!(board.job(job).unwrap().moving, 0);
        board.forget(job);
        assert_eq!(board.job(job), None);
    }
}
