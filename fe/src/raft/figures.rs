//! What the log and the snapshots of this frontend did since its start, for `/metrics`; and the one decision that hangs on
//! it: when the log is long in bytes rather than in entries, the state is written as a snapshot.

use super::log::LogCounters;
use super::types::TypeConfig;
use crate::limits;
use openraft::Raft;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The last snapshot that was written here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotFigures {
    /// How many since the start.
    pub written: u64,
    /// Length of the last one, bytes.
    pub bytes: u64,
    /// How long writing it took.
    pub took: Duration,
    /// How long the state could not change for it.
    pub held_up: Duration,
    /// Whether one is being written.
    pub running: bool,
}

/// Everything together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Batches of the log made durable, one fsync each.
    pub fsyncs: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of those entries.
    pub bytes: u64,
    /// Snapshots.
    pub snapshots: SnapshotFigures,
}

impl Figures {
    pub(super) fn new(log: Option<&Arc<LogCounters>>, snapshots: SnapshotFigures) -> Figures {
        let read = |counter: fn(&LogCounters) -> &std::sync::atomic::AtomicU64| {
            log.map_or(0, |log| counter(log).load(Ordering::Relaxed))
        };
        Figures {
            fsyncs: read(|log| &log.fsyncs),
            entries: read(|log| &log.entries),
            bytes: read(|log| &log.bytes),
            snapshots,
        }
    }
}

/// Ask for a snapshot whenever the log grew by [`limits::SNAPSHOT_EVERY_BYTES`]. Ends with Raft.
pub(super) async fn bound_log_bytes(raft: Raft<TypeConfig>, log: Arc<LogCounters>) {
    let mut metrics = raft.metrics();
    let mut written_at = 0;
    while metrics.changed().await.is_ok() {
        let bytes = log.bytes.load(Ordering::Relaxed);
        if bytes - written_at < limits::SNAPSHOT_EVERY_BYTES {
            continue;
        }
        written_at = bytes;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}
