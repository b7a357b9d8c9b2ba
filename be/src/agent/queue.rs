//! Tasks from acceptance to delivered result.
//!
//! The same id twice is one task: while it runs the second message is ignored, and a result that is still here is given
//! again. Results are kept until a stream took them; after that only full successes, a bounded number, so that a task
//! that failed runs again when the leader asks again.
//!
//! Some tasks end others first ([`dispatch::ends_first`]): those accepted before them are cancelled at once and awaited
//! before the new one takes its place, so tasks only ever wait for earlier ones.

use crate::agent::dispatch::{self, Lanes};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::limits::{KEPT_RESULTS, TASKS};
use crate::metrics::Metrics;
use crate::sync;
use crate::tablet::TabletStore;
use crate::task::{ProgressSink, TaskContext};
use coffer_proto::v1::task::Work;
use coffer_proto::v1::task_result::Output;
use coffer_proto::{status, v1};
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// All tasks of this backend.
#[derive(Debug)]
pub struct TaskQueue {
    deps: Deps,
    lanes: Lanes,
    state: Mutex<State>,
    finished: Notify,
}

/// What tasks need from outside.
#[derive(Debug)]
pub struct Deps {
    /// Tablets.
    pub store: Arc<TabletStore>,
    /// Leader and peers.
    pub cluster: Arc<Cluster>,
    /// Configuration.
    pub config: Arc<Config>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Stops everything.
    pub shutdown: Shutdown,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<String, Running>,
    /// Finished, not taken by a stream yet.
    results: VecDeque<v1::TaskResult>,
    /// Full successes that a stream took, oldest first.
    delivered: VecDeque<v1::TaskResult>,
}

#[derive(Debug)]
struct Running {
    cancel: CancellationToken,
    progress: ProgressSink,
    told: v1::Progress,
    /// Raised when it ended.
    ended: CancellationToken,
}

/// A task that has its place in the queue.
#[derive(Debug)]
struct Entered {
    /// Raises `ended`, also after a panic.
    ended: DropGuard,
    /// The ends of tasks that must be over before.
    after: Vec<CancellationToken>,
}

impl TaskQueue {
    /// An empty queue.
    pub fn new(deps: Deps) -> Arc<TaskQueue> {
        let lanes = Lanes::new(&deps.config);
        Arc::new(TaskQueue { deps, lanes, state: Mutex::default(), finished: Notify::new() })
    }

    /// Take a task of the leader: start it, or remember that its result is wanted again.
    pub fn accept(self: &Arc<Self>, task: v1::Task) {
        let id = task.id;
        let refused = self.deps.cluster.check_term(task.term).err();
        let work = task.work.ok_or_else(|| Error::not_supported(format!("task {id} is of a kind unknown here")));
        let (work, context) = match (refused, work, self.deps.cluster.leader()) {
            (None, Ok(work), Ok(leader)) => {
                let context = TaskContext {
                    id: id.clone(),
                    cluster_id: leader.cluster_id,
                    backend_id: leader.backend_id,
                    store: self.deps.store.clone(),
                    config: self.deps.config.clone(),
                    progress: ProgressSink::default(),
                    cancel: self.deps.shutdown.token(),
                };
                (work, context)
            }
            (Some(error), _, _) | (None, Err(error), _) | (None, Ok(_), Err(error)) => {
                return self.push_result(result_of(id, Err(error)));
            }
        };
        if let Some(entered) = self.enter(&id, &context, &work) {
            tracing::debug!(task = id, "task accepted");
            let queue = self.clone();
            self.deps.shutdown.spawn(async move { queue.work(context, work, entered).await });
        }
    }

    /// Give the task its place, if it is new and there is one.
    fn enter(&self, id: &str, context: &TaskContext, work: &Work) -> Option<Entered> {
        let mut state = sync::lock(&self.state);
        if state.running.contains_key(id) || state.results.iter().any(|result| result.id == id) {
            return None;
        }
        if let Some(at) = state.delivered.iter().position(|result| result.id == id) {
            let again = state.delivered.remove(at);
            state.results.extend(again);
            drop(state);
            self.finished.notify_one();
            return None;
        }
        if state.running.len() >= TASKS {
            drop(state);
            let error = Error::limit(format!("{TASKS} tasks wait or run on this backend"));
            self.push_result(result_of(id.to_owned(), Err(error)));
            return None;
        }
        let first = dispatch::ends_first(work);
        let mut after = Vec::new();
        for (other, running) in &state.running {
            if first.iter().any(|first| other.starts_with(first.as_str())) {
                running.cancel.cancel();
                after.push(running.ended.clone());
            }
        }
        let ended = CancellationToken::new();
        let running = Running {
            cancel: context.cancel.clone(),
            progress: context.progress.clone(),
            told: v1::Progress::default(),
            ended: ended.clone(),
        };
        state.running.insert(id.to_owned(), running);
        Some(Entered { ended: ended.drop_guard(), after })
    }

    async fn work(self: Arc<Self>, context: TaskContext, work: Work, entered: Entered) {
        let kind = kind(&context.id).to_owned();
        let lane = self.lanes.of(dispatch::lane(&work));
        let cancel = context.cancel.clone();
        let turn = async {
            for earlier in &entered.after {
                earlier.cancelled().await;
            }
            lane.acquire_owned().await
        };
        let outcome = match cancel.run_until_cancelled(turn).await {
            // The lanes are never closed.
            Some(Ok(_place)) => dispatch::run(&context, work).await,
            Some(Err(_)) | None => Err(context.cancelled()),
        };
        match &outcome {
            Ok(_) => tracing::debug!(task = context.id, "task done"),
            Err(error) => tracing::warn!(task = context.id, kind = %error.kind(), %error, "task failed"),
        }
        self.deps.metrics.task_ended(&kind, outcome.is_ok());
        self.push_result(result_of(context.id, outcome));
        drop(entered.ended);
    }

    fn push_result(&self, result: v1::TaskResult) {
        let mut state = sync::lock(&self.state);
        state.running.remove(&result.id);
        if state.results.len() >= TASKS {
            // Nobody took results for very long; the leader will ask again for what it still wants.
            state.results.pop_front();
        }
        state.results.push_back(result);
        drop(state);
        self.finished.notify_one();
    }

    /// Tell a task to stop; its result will say that it was cancelled.
    pub fn cancel(&self, id: &str) {
        if let Some(running) = sync::lock(&self.state).running.get(id) {
            running.cancel.cancel();
        }
    }

    /// Tasks waiting or running.
    pub fn running(&self) -> usize {
        sync::lock(&self.state).running.len()
    }

    /// The oldest result that no stream took, left in place.
    pub fn peek_result(&self) -> Option<v1::TaskResult> {
        sync::lock(&self.state).results.front().cloned()
    }

    /// A stream took this result.
    pub fn delivered(&self, id: &str) {
        let mut state = sync::lock(&self.state);
        let Some(at) = state.results.iter().position(|result| result.id == id) else { return };
        let mut result = state.results.remove(at).filter(is_full_success);
        if let Some(Output::Tablets(done)) = result.as_mut().and_then(|result| result.output.as_mut()) {
            // They were told, and are out of date when the result is asked for again.
            done.stats = Vec::new();
        }
        state.delivered.extend(result);
        if state.delivered.len() > KEPT_RESULTS {
            state.delivered.pop_front();
        }
    }

    /// Wait until a task ended.
    pub async fn wait_for_result(&self) {
        self.finished.notified().await;
    }

    /// Progress of running tasks that changed since the last call.
    pub fn progress(&self) -> Vec<v1::TaskProgress> {
        let mut state = sync::lock(&self.state);
        let mut changed = Vec::new();
        for (id, running) in &mut state.running {
            let now = running.progress.get();
            if now != running.told {
                running.told = now;
                changed.push(v1::TaskProgress { id: id.clone(), progress: Some(now) });
            }
        }
        changed
    }
}

fn result_of(id: String, outcome: Result<Output>) -> v1::TaskResult {
    match outcome {
        Ok(output) => v1::TaskResult { id, error: None, output: Some(output) },
        Err(error) => v1::TaskResult { id, error: Some(status::to_wire(&error)), output: None },
    }
}

fn is_full_success(result: &v1::TaskResult) -> bool {
    let failures = match &result.output {
        Some(Output::Tablets(done)) => done.failures.len(),
        Some(Output::Snapshot(made)) => made.failures.len(),
        Some(Output::Uploaded(_) | Output::Downloaded(_)) | None => 0,
    };
    result.error.is_none() && failures == 0
}

/// "<kind>" of "<kind>/<job>/<part>".
fn kind(id: &str) -> &str {
    id.split('/').next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn queue(dir: &std::path::Path) -> Arc<TaskQueue> {
        let store = TabletStore::open(&[dir.to_owned()]).unwrap();
        let cluster = Cluster::new(store.clone()).unwrap();
        let hello = v1::Hello { cluster_id: "c".into(), term: 2, heartbeat_ms: 1, ..Default::default() };
        cluster.greet(&hello).unwrap();
        TaskQueue::new(Deps {
            store,
            cluster,
            config: Arc::new(Config::default()),
            metrics: Arc::new(Metrics::new()),
            shutdown: Shutdown::new(),
        })
    }

    fn task(id: &str, term: u64, work: Option<Work>) -> v1::Task {
        v1::Task { id: id.to_owned(), term, work }
    }

    fn drop_nothing() -> Option<Work> {
        Some(Work::Drop(v1::DropTablets { tablet_ids: vec![1] }))
    }

    async fn result(queue: &TaskQueue) -> v1::TaskResult {
        let wait = async {
            loop {
                if let Some(result) = queue.peek_result() {
                    return result;
                }
                queue.wait_for_result().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap()
    }

    #[tokio::test]
    async fn a_success_is_given_again_and_a_failure_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        let queue = queue(dir.path());
        queue.accept(task("drop/1/0", 2, drop_nothing()));
        let first = result(&queue).await;
        assert_eq!(first.error, None);
        queue.delivered("drop/1/0");
        assert_eq!(queue.peek_result(), None);
        queue.accept(task("drop/1/0", 2, drop_nothing()));
        assert_eq!(queue.running(), 0);
        assert_eq!(result(&queue).await, first);
        queue.delivered("drop/1/0");

        let publish = || {
            let tablets = vec![v1::PublishTablet { tablet_id: 9, version: 5, ..Default::default() }];
            let schema = r#"{"columns":[]}"#.to_owned();
            Some(Work::Publish(v1::PublishVersion { tablets, schema, ..Default::default() }))
        };
        queue.accept(task("publish/1/0", 2, publish()));
        assert!(!is_full_success(&result(&queue).await));
        queue.delivered("publish/1/0");
        queue.accept(task("publish/1/0", 2, publish()));
        assert_eq!(queue.running(), 1);
    }

    #[tokio::test]
    async fn old_leaders_and_unknown_work_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let queue = queue(dir.path());
        queue.accept(task("drop/1/0", 1, drop_nothing()));
        assert_eq!(result(&queue).await.error.unwrap().kind, "NOT_LEADER");
        queue.delivered("drop/1/0");
        queue.accept(task("new/1/0", 2, None));
        assert_eq!(result(&queue).await.error.unwrap().kind, "NOT_SUPPORTED");
    }

    #[tokio::test]
    async fn a_release_waits_for_the_end_of_what_works_for_its_job() {
        let dir = tempfile::tempdir().unwrap();
        let queue = queue(dir.path());
        // All places of the lane are taken, so the snapshots wait and only a cancel ends them.
        let lane = queue.lanes.of(dispatch::Lane::Snapshots);
        let _taken = lane.clone().acquire_many_owned(lane.available_permits() as u32).await.unwrap();
        let snapshot = |job_id| Some(Work::MakeSnapshot(v1::MakeSnapshot { job_id, tablets: Vec::new() }));
        queue.accept(task("snapshot/5/1", 2, snapshot(5)));
        queue.accept(task("snapshot/55/1", 2, snapshot(55)));
        queue.accept(task("release/5/1", 2, Some(Work::Release(v1::ReleaseJob { job_id: 5 }))));
        for (id, kind) in [("snapshot/5/1", Some("CANCELLED")), ("release/5/1", None)] {
            let ended = result(&queue).await;
            assert_eq!((ended.id.as_str(), ended.error.map(|error| error.kind).as_deref()), (id, kind));
            queue.delivered(id);
        }
        queue.accept(task("snapshot/55/2", 2, snapshot(55)));
        assert_eq!(result(&queue).await.id, "snapshot/55/1");
        assert_eq!(queue.running(), 1);
    }
}
