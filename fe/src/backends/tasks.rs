//! Tasks on their way: by backend and id, until their result is in.
//!
//! The link to a backend takes messages from here in order ([`Tasks::next`]); after a reconnect everything without a
//! result is sent again. A task whose last [`Handle`] is dropped is cancelled on the backend, also when that is away just
//! now. All queues are bounded by what callers keep running at a time.

use coffer_proto::ids::BackendId;
use coffer_proto::{status, v1};
use coffer_stdx::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// How often a task is sent again because the backend says that it was cancelled, which nobody asked for: the answer to
/// an earlier run of the same id.
const MAX_STRAY_CANCELS: u32 = 5;

/// What is known of a task.
#[derive(Debug, Clone, Default)]
pub struct TaskState {
    /// The last progress.
    pub progress: Option<v1::Progress>,
    /// The result, once there.
    pub result: Option<Result<Option<v1::task_result::Output>>>,
}

#[derive(Debug)]
struct Pending {
    /// Tells this run of the id from an earlier one whose handle still lives.
    serial: u64,
    work: v1::task::Work,
    sent: bool,
    stray_cancels: u32,
    handles: usize,
    state: watch::Sender<TaskState>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: BTreeMap<String, Pending>,
    unsent: BTreeSet<String>,
    cancels: BTreeSet<String>,
    /// Cancelled, and not known to have ended.
    stopping: BTreeSet<String>,
    notify: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    serial: u64,
    queues: HashMap<BackendId, Queue>,
}

/// All tasks on their way.
#[derive(Debug, Clone)]
pub struct Tasks {
    inner: Arc<Mutex<Inner>>,
    /// Changes when a cancelled task ended.
    ended: watch::Sender<()>,
}

impl Default for Tasks {
    fn default() -> Tasks {
        Tasks { inner: Arc::default(), ended: watch::Sender::new(()) }
    }
}

/// Somebody waits for a task.
#[derive(Debug)]
pub struct Handle {
    tasks: Tasks,
    backend: BackendId,
    id: String,
    serial: u64,
    state: watch::Receiver<TaskState>,
}

impl Handle {
    /// What is known now.
    pub fn state(&mut self) -> TaskState {
        self.state.borrow_and_update().clone()
    }

    /// Wait until more is known.
    pub async fn changed(&mut self) {
        // The sender lives in the queue until a result was sent, and the result is read before waiting again.
        let _ = self.state.changed().await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tasks.leave(self.backend, &self.id, self.serial);
    }
}

impl Tasks {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock with a queue half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Backends of the catalog take tasks.
    pub fn open(&self, backend: BackendId) {
        self.inner().queues.entry(backend).or_default();
    }

    /// No more tasks for a backend; those on their way fail.
    pub fn close(&self, backend: BackendId, error: &Error) {
        if let Some(queue) = self.inner().queues.remove(&backend) {
            for pending in queue.pending.into_values() {
                pending.state.send_modify(|state| state.result = Some(Err(error.clone())));
            }
        }
    }

    /// No more tasks at all.
    pub fn close_all(&self, error: &Error) {
        let backends: Vec<BackendId> = self.inner().queues.keys().copied().collect();
        for backend in backends {
            self.close(backend, error);
        }
    }

    /// Queue a task, or join the one with the same id.
    pub fn submit(&self, backend: BackendId, id: String, work: v1::task::Work) -> Result<Handle> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(queue) = inner.queues.get_mut(&backend) else {
            return Err(Error::unavailable(format!(
                "backend {backend} takes no task: it is not part of the cluster, or this frontend does not lead"
            )));
        };
        let pending = queue.pending.entry(id.clone()).or_insert_with(|| {
            queue.unsent.insert(id.clone());
            inner.serial += 1;
            Pending {
                serial: inner.serial,
                work,
                sent: false,
                stray_cancels: 0,
                handles: 0,
                state: watch::Sender::default(),
            }
        });
        pending.handles += 1;
        let (state, serial) = (pending.state.subscribe(), pending.serial);
        queue.notify.notify_one();
        Ok(Handle { tasks: self.clone(), backend, id, serial, state })
    }

    fn leave(&self, backend: BackendId, id: &str, serial: u64) {
        let mut inner = self.inner();
        let Some(queue) = inner.queues.get_mut(&backend) else { return };
        let Some(pending) = queue.pending.get_mut(id).filter(|pending| pending.serial == serial) else { return };
        pending.handles -= 1;
        if pending.handles == 0 {
            if pending.sent {
                queue.cancels.insert(id.to_owned());
                queue.stopping.insert(id.to_owned());
            }
            queue.pending.remove(id);
            queue.unsent.remove(id);
            queue.notify.notify_one();
        }
    }

    /// What wakes the link to a backend when there is something to send.
    pub fn notify(&self, backend: BackendId) -> Arc<Notify> {
        Arc::clone(&self.inner().queues.entry(backend).or_default().notify)
    }

    /// Whether [`Tasks::next`] has something.
    pub fn has_next(&self, backend: BackendId) -> bool {
        self.inner().queues.get(&backend).is_some_and(|queue| !queue.cancels.is_empty() || !queue.unsent.is_empty())
    }

    /// The next message for a backend: cancels first, since a cancelled id may be running again.
    pub fn next(&self, backend: BackendId, term: u64) -> Option<v1::leader_message::Kind> {
        let mut inner = self.inner();
        let queue = inner.queues.get_mut(&backend)?;
        if let Some(id) = queue.cancels.pop_first() {
            return Some(v1::leader_message::Kind::Cancel(v1::CancelTask { id }));
        }
        let id = queue.unsent.pop_first()?;
        let pending = queue.pending.get_mut(&id)?;
        pending.sent = true;
        let work = Some(pending.work.clone());
        Some(v1::leader_message::Kind::Task(v1::Task { id, term, work }))
    }

    /// A new stream: everything without a result is sent again.
    pub fn reconnected(&self, backend: BackendId) {
        if let Some(queue) = self.inner().queues.get_mut(&backend) {
            queue.unsent.extend(queue.pending.keys().cloned());
            queue.notify.notify_one();
        }
    }

    /// Changes when a cancelled task ended.
    pub fn ended(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// Whether a cancelled task with one of these beginnings may still run.
    pub fn stopping(&self, backend: BackendId, prefixes: &[String]) -> bool {
        let inner = self.inner();
        let queue = inner.queues.get(&backend);
        queue.is_some_and(|queue| queue.stopping.iter().any(|id| prefixes.iter().any(|begin| id.starts_with(begin))))
    }

    /// A backend that started anew runs nothing.
    pub fn restarted(&self, backend: BackendId) {
        if let Some(queue) = self.inner().queues.get_mut(&backend) {
            queue.stopping.clear();
            self.ended.send_replace(());
        }
    }

    /// Progress from a backend.
    pub fn progress(&self, backend: BackendId, said: v1::TaskProgress) {
        let inner = self.inner();
        if let Some(pending) = inner.queues.get(&backend).and_then(|queue| queue.pending.get(&said.id)) {
            pending.state.send_modify(|state| state.progress = said.progress);
        }
    }

    /// A result from a backend. One that nobody waits for is dropped: whoever runs the task again gets it again.
    pub fn finished(&self, backend: BackendId, said: v1::TaskResult) {
        let mut inner = self.inner();
        let Some(queue) = inner.queues.get_mut(&backend) else { return };
        if queue.stopping.remove(&said.id) {
            self.ended.send_replace(());
        }
        let Some(pending) = queue.pending.get_mut(&said.id) else { return };
        let result = match said.error {
            Some(error) => Err(status::from_wire(&error)),
            None => Ok(said.output),
        };
        let stray = matches!(&result, Err(error) if error.kind() == ErrorKind::Cancelled);
        if stray && pending.stray_cancels < MAX_STRAY_CANCELS {
            pending.stray_cancels += 1;
            queue.unsent.insert(said.id);
            queue.notify.notify_one();
            return;
        }
        if let Some(pending) = queue.pending.remove(&said.id) {
            queue.unsent.remove(&said.id);
            pending.state.send_modify(|state| state.result = Some(result));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::leader_message::Kind;

    const B: BackendId = BackendId(1);

    fn work() -> v1::task::Work {
        v1::task::Work::Release(v1::ReleaseJob { job_id: 1 })
    }

    fn open() -> Tasks {
        let tasks = Tasks::default();
        tasks.open(B);
        tasks
    }

    fn sent(tasks: &Tasks) -> String {
        match tasks.next(B, 7) {
            Some(Kind::Task(task)) => format!("task {} {}", task.id, task.term),
            Some(Kind::Cancel(cancel)) => format!("cancel {}", cancel.id),
            Some(Kind::Hello(_)) => "hello".to_owned(),
            None => String::new(),
        }
    }

    fn result(id: &str, error: Option<Error>) -> v1::TaskResult {
        v1::TaskResult { id: id.to_owned(), error: error.as_ref().map(status::to_wire), output: None }
    }

    #[test]
    fn a_task_is_sent_once_again_after_a_reconnect_and_never_after_its_result() {
        let tasks = open();
        let mut handle = tasks.submit(B, "a".to_owned(), work()).unwrap();
        assert_eq!(sent(&tasks), "task a 7");
        assert_eq!(sent(&tasks), "");
        tasks.reconnected(B);
        assert_eq!(sent(&tasks), "task a 7");
        tasks.finished(B, result("a", None));
        assert_eq!(handle.state().result, Some(Ok(None)));
        tasks.reconnected(B);
        assert!(!tasks.has_next(B));
        drop(handle);
        assert!(!tasks.has_next(B), "a finished task is not cancelled");
    }

    #[test]
    fn the_last_handle_that_leaves_cancels() {
        let tasks = open();
        let first = tasks.submit(B, "a".to_owned(), work()).unwrap();
        let second = tasks.submit(B, "a".to_owned(), work()).unwrap();
        assert_eq!(sent(&tasks), "task a 7");
        drop(first);
        assert!(!tasks.has_next(B));
        drop(second);
        assert!(tasks.stopping(B, &["a".to_owned()]) && !tasks.stopping(B, &["b".to_owned()]));
        let again = tasks.submit(B, "a".to_owned(), work()).unwrap();
        assert_eq!(sent(&tasks), "cancel a");
        assert_eq!(sent(&tasks), "task a 7");
        drop(again);
        let unsent = tasks.submit(B, "b".to_owned(), work()).unwrap();
        assert_eq!(sent(&tasks), "cancel a");
        drop(unsent);
        assert!(!tasks.has_next(B), "what was never sent needs no cancel");
        tasks.finished(B, result("a", Some(Error::cancelled("stopped"))));
        assert!(!tasks.stopping(B, &["a".to_owned()]));
    }

    #[test]
    fn a_cancel_that_nobody_asked_for_is_answered_with_the_task_but_not_for_ever() {
        let tasks = open();
        let mut handle = tasks.submit(B, "a".to_owned(), work()).unwrap();
        for _ in 0..MAX_STRAY_CANCELS {
            assert_eq!(sent(&tasks), "task a 7");
            tasks.finished(B, result("a", Some(Error::cancelled("stopped"))));
            assert!(handle.state().result.is_none());
        }
        tasks.finished(B, result("a", Some(Error::cancelled("stopped"))));
        assert!(handle.state().result.is_some());
    }

    #[test]
    fn closing_fails_what_is_on_its_way() {
        let tasks = open();
        let mut handle = tasks.submit(B, "a".to_owned(), work()).unwrap();
        tasks.progress(B, v1::TaskProgress { id: "a".to_owned(), progress: Some(v1::Progress::default()) });
        assert!(handle.state().progress.is_some());
        tasks.close_all(&Error::not_leader("no"));
        assert_eq!(handle.state().result, Some(Err(Error::not_leader("no"))));
        assert!(tasks.submit(B, "a".to_owned(), work()).is_err());
    }
}
