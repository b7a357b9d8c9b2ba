//! The closed list of what a job may ask for, and of what comes back.

use crate::catalog::job::ManifestPart;
use crate::meta::command::{Command, Counts};
use coffer_proto::ids::{BackendId, TabletId};
use coffer_stdx::{Error, Result};
use std::fmt;

/// One thing to do. Every one may be done twice.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a plan holds a handful of them, for a moment")]
pub enum Action {
    /// Change the replicated state. When a plan asks for it, it asks for nothing else: the next plan sees the change.
    Propose(Command),
    /// Begin a task; its end is an [`Event`].
    Start(Task),
    /// Nobody needs this task any more.
    Stop(Key),
    /// Plan again at this time (milliseconds since the epoch) if nothing happens before.
    WakeAt(u64),
}

/// Which task of a job; at most one of each runs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Snapshots on one backend.
    Snapshot(BackendId),
    /// An upload, by the number of its manifest part.
    Upload(u32),
    /// Write `__meta`.
    Meta,
    /// Write `__info`.
    Info,
    /// Make room on one backend.
    Prepare(BackendId),
    /// A download, by the number in the plan.
    Download(u32),
    /// Move downloaded tablets into place on one backend.
    Activate(BackendId),
    /// Remove what the job owns on one backend.
    Release(BackendId),
    /// Remove what the job owns in the repository.
    Leftovers,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Snapshot(backend) => write!(f, "snapshot-{backend}"),
            Key::Upload(part) | Key::Download(part) => part.fmt(f),
            Key::Meta => f.write_str("meta"),
            Key::Info => f.write_str("info"),
            Key::Prepare(backend) => write!(f, "prepare-{backend}"),
            Key::Activate(backend) => write!(f, "activate-{backend}"),
            Key::Release(backend) => write!(f, "release-{backend}"),
            Key::Leftovers => f.write_str("leftovers"),
        }
    }
}

/// A task: which, where, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Which.
    pub key: Key,
    /// Where; `None` for what this frontend does itself.
    pub backend: Option<BackendId>,
    /// The tablets it is about, with the version for snapshots and downloads (0 otherwise).
    pub tablets: Vec<(TabletId, u64)>,
}

/// A task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub key: Key,
    /// When, milliseconds since the epoch.
    pub now_ms: u64,
    /// How.
    pub outcome: Result<Fact>,
}

/// What a task found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Snapshots of all tablets of the task but these.
    Made {
        /// Tablets that this backend cannot give.
        failures: Vec<(TabletId, Error)>,
        /// Sums over the others.
        counts: Counts,
    },
    /// The manifest part of an upload.
    Uploaded(ManifestPart),
    /// The file name of `__meta`.
    Meta(String),
    /// Bytes of a download.
    Downloaded(u64),
    /// Nothing more to say.
    Done,
}
