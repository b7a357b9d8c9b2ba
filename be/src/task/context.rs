//! What a running task may use, and how it tells how far it is.
//!
//! Tasks are cooperative: between files they look at [`TaskContext::check`], which fails with Cancelled once the leader
//! took the task back, the stream of that leader was replaced by a newer one, or the process stops.

use crate::config::Config;
use crate::tablet::TabletStore;
use coffer_proto::v1;
use coffer_stdx::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// Handed to each task.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The task's id, "<kind>/<job or transaction>/<part>".
    pub id: String,
    /// The id of this cluster, for names that must be unique beyond it.
    pub cluster_id: String,
    /// This backend's id.
    pub backend_id: u64,
    /// All tablets here.
    pub store: Arc<TabletStore>,
    /// Configuration.
    pub config: Arc<Config>,
    /// Counters that the leader sees about twice a second.
    pub progress: ProgressSink,
    /// Raised when the task should stop.
    pub cancel: CancellationToken,
}

impl TaskContext {
    /// Fail with Cancelled when the task should stop.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(self.cancelled()) } else { Ok(()) }
    }

    /// The error of a task that was told to stop.
    pub fn cancelled(&self) -> Error {
        Error::cancelled(format!("task {} was cancelled", self.id))
    }
}

/// Progress counters of one task; cheap to add to from many threads, read by the control stream.
#[derive(Debug, Clone, Default)]
pub struct ProgressSink {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    files_done: AtomicU64,
    files_total: AtomicU64,
}

impl ProgressSink {
    /// Say what there is to do in all.
    pub fn set_total(&self, bytes: u64, files: u64) {
        self.counters.bytes_total.store(bytes, Ordering::Relaxed);
        self.counters.files_total.store(files, Ordering::Relaxed);
    }

    /// Say that there is more to do than was said before.
    pub fn add_total(&self, bytes: u64, files: u64) {
        self.counters.bytes_total.fetch_add(bytes, Ordering::Relaxed);
        self.counters.files_total.fetch_add(files, Ordering::Relaxed);
    }

    /// Some of what was done must be done again.
    pub fn take_back(&self, bytes: u64) {
        self.counters.bytes_done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// More was done.
    pub fn add(&self, bytes: u64, files: u64) {
        self.counters.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.counters.files_done.fetch_add(files, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn get(&self) -> v1::Progress {
        v1::Progress {
            bytes_done: self.counters.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.counters.bytes_total.load(Ordering::Relaxed),
            files_done: self.counters.files_done.load(Ordering::Relaxed),
            files_total: self.counters.files_total.load(Ordering::Relaxed),
        }
    }
}
