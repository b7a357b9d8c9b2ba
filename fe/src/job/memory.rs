//! What the leader remembers of one running job, and how the end of a task changes it. Pure.
//!
//! Nothing here is needed for correctness: a new leader starts with an empty memory and asks again; every task it repeats
//! gives the same result.
//!
//! What an error means is decided in [`verdict`](super::verdict) alone.

use super::action::{Event, Fact, Key, Task};
use super::placement::Kept;
use super::verdict::{Verdict, is_passing, verdict};
use crate::catalog::job::ManifestPart;
use crate::meta::command::Counts;
use coffer_proto::ids::{BackendId, TabletId};
use coffer_proto::v1::Progress;
use coffer_stdx::Error;
use coffer_stdx::retry::Policy;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Delays between tries of one task.
const RETRY: Policy = Policy { attempts: u32::MAX, first_ms: 500, max_ms: 30_000 };
/// Replicas that a job names when it passed them over; of more it only says that there are.
const MAX_NAMED_REPLICAS: usize = 20;
/// Longest text about one of them, characters.
const MAX_REASON_CHARS: usize = 400;
/// One task, from its first start until the job forgets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskMemory {
    /// Where.
    pub backend: Option<BackendId>,
    /// Whether it runs now.
    pub running: bool,
    /// Tries that failed since the last success.
    pub failures: u32,
    /// Not before this time, milliseconds.
    pub retry_at: u64,
    /// The last error; gone after a success.
    pub error: Option<Error>,
    /// Its tablets.
    pub tablets: Vec<TabletId>,
    /// The last progress.
    pub progress: Progress,
}

/// All of one job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Tasks that run or failed.
    pub tasks: BTreeMap<Key, TaskMemory>,
    /// Tasks that need not run again.
    pub done: BTreeSet<Key>,
    /// Which backend has the snapshot of a tablet, as far as this leader has heard.
    pub made: HashMap<TabletId, BackendId>,
    /// Sums over snapshots.
    pub counts: Counts,
    /// Replicas that cannot serve this job, and why.
    pub bad: BTreeMap<(TabletId, BackendId), Error>,
    /// Finished uploads that are not recorded yet.
    pub uploaded: BTreeMap<u32, ManifestPart>,
    /// The file name of `__meta`.
    pub meta: Option<String>,
    /// Bytes of finished downloads.
    pub downloaded: BTreeMap<u32, u64>,
    /// Why the job cannot go on.
    pub fatal: Option<Error>,
    /// Of a restore: who downloads what.
    pub(super) placement: Kept,
}

/// Whether a task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Now.
    Ready,
    /// It runs.
    Running,
    /// It failed; not before this time.
    After(u64),
    /// It is done.
    Done,
}

impl Memory {
    /// Whether a task may start.
    pub fn readiness(&self, key: Key, now_ms: u64) -> Readiness {
        if self.done.contains(&key) {
            return Readiness::Done;
        }
        match self.tasks.get(&key) {
            Some(task) if task.running => Readiness::Running,
            Some(task) if task.retry_at > now_ms => Readiness::After(task.retry_at),
            _ => Readiness::Ready,
        }
    }

    /// Whether this leader tried it and it did not work.
    pub fn has_failed(&self, key: Key) -> bool {
        self.tasks.get(&key).is_some_and(|task| task.failures > 0)
    }

    /// How many tasks run on a backend.
    pub fn running_on(&self, backend: BackendId) -> usize {
        self.tasks.values().filter(|task| task.running && task.backend == Some(backend)).count()
    }

    /// Replicas that could not serve this job, in words.
    pub fn passed_over(&self) -> Vec<String> {
        let named = self.bad.iter().take(MAX_NAMED_REPLICAS).map(|((tablet, backend), error)| {
            let why: String = error.message().chars().take(MAX_REASON_CHARS).collect();
            format!("the replica of tablet {tablet} on backend {backend} was passed over: {why}")
        });
        let more =
            (self.bad.len() > MAX_NAMED_REPLICAS).then(|| "more replicas than these were passed over".to_owned());
        named.chain(more).collect()
    }

    /// A task was started.
    pub fn started(&mut self, task: &Task) {
        let entry = self.tasks.entry(task.key).or_default();
        entry.running = true;
        entry.backend = task.backend;
        entry.tablets = task.tablets.iter().map(|(tablet, _)| *tablet).collect();
        entry.progress = Progress::default();
    }

    /// A task was stopped and forgotten.
    pub fn stopped(&mut self, key: Key) {
        self.tasks.remove(&key);
    }

    /// A task ended.
    pub fn observe(&mut self, event: Event) {
        let Some(task) = self.tasks.get_mut(&event.key) else { return };
        task.running = false;
        match event.outcome {
            Ok(fact) => self.succeeded(event.key, fact, event.now_ms),
            Err(error) => {
                task.failures = task.failures.saturating_add(1);
                task.retry_at = retry_at(event.now_ms, task.failures);
                task.error = Some(error.clone());
                self.failed(event.key, error);
            }
        }
    }

    fn succeeded(&mut self, key: Key, fact: Fact, now_ms: u64) {
        let task = self.tasks.remove(&key).unwrap_or_default();
        match (key, fact) {
            (Key::Snapshot(backend), Fact::Made { failures, counts }) => {
                let failed: BTreeMap<TabletId, Error> = failures.into_iter().collect();
                for tablet in &task.tablets {
                    match failed.get(tablet) {
                        None => drop(self.made.insert(*tablet, backend)),
                        Some(error) if is_passing(error.kind()) => self.slow_down(key, &task, error, now_ms),
                        Some(error) => drop(self.bad.insert((*tablet, backend), error.clone())),
                    }
                }
                self.counts.bytes += counts.bytes;
                self.counts.files += counts.files;
                self.counts.rows += counts.rows;
            }
            (Key::Upload(part), Fact::Uploaded(manifest)) => drop(self.uploaded.insert(part, manifest)),
            (Key::Meta, Fact::Meta(name)) => self.meta = Some(name),
            (Key::Download(part), Fact::Downloaded(bytes)) => {
                self.downloaded.insert(part, bytes);
                self.done.insert(key);
            }
            (_, _) => drop(self.done.insert(key)),
        }
    }

    /// Some of a task failed in a way that may pass: the rest of it is not asked for at once.
    fn slow_down(&mut self, key: Key, task: &TaskMemory, error: &Error, now_ms: u64) {
        let failures = task.failures.saturating_add(1);
        let entry = TaskMemory {
            backend: task.backend,
            failures,
            retry_at: retry_at(now_ms, failures),
            error: Some(error.clone()),
            ..TaskMemory::default()
        };
        self.tasks.insert(key, entry);
    }

    fn failed(&mut self, key: Key, error: Error) {
        let Some(task) = self.tasks.get(&key) else { return };
        match (verdict(key, error.kind(), task.failures), task.backend) {
            (Verdict::Again, _) => {}
            (Verdict::LinkAgain, _) => {
                for tablet in task.tablets.clone() {
                    self.made.remove(&tablet);
                }
            }
            (Verdict::OtherReplica, Some(backend)) => {
                let tablets = task.tablets.clone();
                self.give_up_replicas(&tablets, backend, &error);
            }
            (Verdict::LeaveIt, _) => drop(self.done.insert(key)),
            (Verdict::End | Verdict::OtherReplica, _) => drop(self.fatal.get_or_insert(error)),
        }
    }

    fn give_up_replicas(&mut self, tablets: &[TabletId], backend: BackendId, error: &Error) {
        for tablet in tablets {
            self.made.remove(tablet);
            self.bad.insert((*tablet, backend), error.clone());
        }
    }
}

fn retry_at(now_ms: u64, failures: u32) -> u64 {
    now_ms + RETRY.ceiling(failures + 1).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::super::verdict::BAD_BYTES_TRIES;
    use super::*;

    const B: BackendId = BackendId(1);
    const T: TabletId = TabletId(7);

    fn start(memory: &mut Memory, key: Key) {
        memory.started(&Task { key, backend: Some(B), tablets: vec![(T, 2)] });
    }

    fn end(memory: &mut Memory, key: Key, outcome: Result<Fact, Error>) {
        start(memory, key);
        memory.observe(Event { key, now_ms: 1_000, outcome });
    }

    #[test]
    fn transient_errors_wait_longer_each_time_and_are_forgotten_on_success() {
        let mut memory = Memory::default();
        let key = Key::Upload(1);
        assert_eq!(memory.readiness(key, 0), Readiness::Ready);
        start(&mut memory, key);
        assert_eq!((memory.readiness(key, 0), memory.running_on(B)), (Readiness::Running, 1));
        end(&mut memory, key, Err(Error::unavailable("down")));
        assert_eq!(memory.readiness(key, 1_000), Readiness::After(1_500));
        end(&mut memory, key, Err(Error::timeout("slow")));
        assert_eq!(memory.readiness(key, 1_000), Readiness::After(2_000));
        assert_eq!(memory.tasks[&key].error, Some(Error::timeout("slow")));
        assert_eq!(memory.fatal, None);
        let part = ManifestPart { name: "m".to_owned(), bytes: 1, tablets: 1, data_bytes: 1, files: 1 };
        end(&mut memory, key, Ok(Fact::Uploaded(part.clone())));
        assert_eq!((memory.tasks.len(), &memory.uploaded[&1]), (0, &part));
    }

    #[test]
    fn what_a_snapshot_task_could_not_link_is_a_bad_replica() {
        let mut memory = Memory::default();
        let failures = vec![(T, Error::not_found("gone"))];
        let counts = Counts { bytes: 5, files: 2, rows: 1 };
        end(&mut memory, Key::Snapshot(B), Ok(Fact::Made { failures, counts }));
        assert!(memory.made.is_empty() && memory.bad.contains_key(&(T, B)));
        assert_eq!(memory.counts, counts);
        let failures = vec![(T, Error::unavailable("busy"))];
        let mut memory = Memory::default();
        end(&mut memory, Key::Snapshot(B), Ok(Fact::Made { failures, counts }));
        assert!(memory.bad.is_empty() && memory.tasks[&Key::Snapshot(B)].error.is_some());
        assert_eq!(memory.readiness(Key::Snapshot(B), 1_000), Readiness::After(1_500));
        end(&mut memory, Key::Snapshot(B), Err(Error::no_space("full")));
        assert!(memory.bad.contains_key(&(T, B)) && memory.fatal.is_none());
        let mut memory = Memory::default();
        end(&mut memory, Key::Snapshot(B), Ok(Fact::Made { failures: Vec::new(), counts }));
        assert_eq!(memory.made[&T], B);
    }

    #[test]
    fn replicas_that_were_passed_over_are_named_up_to_a_bound() {
        let mut memory = Memory::default();
        assert!(memory.passed_over().is_empty());
        memory.bad.insert((T, B), Error::corrupt("wrong bytes"));
        assert_eq!(memory.passed_over(), ["the replica of tablet 7 on backend 1 was passed over: wrong bytes"]);
        for tablet in 0..100 {
            memory.bad.insert((TabletId(tablet), B), Error::corrupt("x".repeat(10_000)));
        }
        let many = memory.passed_over();
        assert!(many.len() == MAX_NAMED_REPLICAS + 1 && many[20].starts_with("more") && many[0].len() < 500);
    }

    #[test]
    fn an_upload_of_broken_files_makes_the_snapshot_again_and_then_leaves_the_replica() {
        let mut memory = Memory::default();
        memory.made.insert(T, B);
        end(&mut memory, Key::Upload(1), Err(Error::not_found("no snapshot")));
        assert!(memory.made.is_empty() && memory.bad.is_empty());
        end(&mut memory, Key::Upload(1), Err(Error::corrupt("bad")));
        assert!(memory.bad.contains_key(&(T, B)) && memory.fatal.is_none());
    }

    #[test]
    fn permanent_errors_end_the_job_and_the_first_one_stays() {
        let mut memory = Memory::default();
        end(&mut memory, Key::Upload(1), Err(Error::denied("no")));
        end(&mut memory, Key::Meta, Err(Error::invalid("other")));
        assert_eq!(memory.fatal, Some(Error::denied("no")));
        let mut memory = Memory::default();
        for tries in 1..=BAD_BYTES_TRIES {
            end(&mut memory, Key::Download(1), Err(Error::corrupt("bad")));
            assert_eq!(memory.fatal.is_some(), tries == BAD_BYTES_TRIES);
        }
    }

    #[test]
    fn cleaning_up_is_given_up_only_after_permanent_errors() {
        let mut memory = Memory::default();
        for _ in 0..20 {
            end(&mut memory, Key::Leftovers, Err(Error::unavailable("down")));
        }
        assert_eq!(memory.readiness(Key::Leftovers, 0), Readiness::After(31_000));
        end(&mut memory, Key::Leftovers, Err(Error::denied("no")));
        assert_eq!(memory.readiness(Key::Leftovers, 0), Readiness::Done);
        end(&mut memory, Key::Release(B), Ok(Fact::Done));
        assert_eq!(memory.readiness(Key::Release(B), 0), Readiness::Done);
    }

    #[test]
    fn events_of_forgotten_tasks_change_nothing() {
        let mut memory = Memory::default();
        start(&mut memory, Key::Meta);
        memory.stopped(Key::Meta);
        memory.observe(Event { key: Key::Meta, now_ms: 0, outcome: Ok(Fact::Meta("m".to_owned())) });
        assert_eq!(memory, Memory::default());
    }
}
