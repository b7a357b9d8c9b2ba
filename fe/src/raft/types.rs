//! The types openraft is told to use.

use crate::error::Error;
use crate::meta::command::{Command, Outcome};
use openraft::{BasicNode, ErrorSubject, ErrorVerb, StorageError, StorageIOError};

openraft::declare_raft_types!(
    /// Commands in, outcomes out.
    pub TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = super::snapshot::SnapshotFile,
        AsyncRuntime = openraft::TokioRuntime,
);

/// Id of a frontend in Raft.
pub type NodeId = u64;
/// A log entry.
pub(super) type Entry = openraft::Entry<TypeConfig>;
/// Position in the log.
pub(super) type LogId = openraft::LogId<NodeId>;
/// Whom a frontend voted for.
pub(super) type Vote = openraft::Vote<NodeId>;
/// What a snapshot holds, and up to where.
pub(super) type SnapshotMeta = openraft::SnapshotMeta<NodeId, BasicNode>;
/// Who votes, and since which entry.
pub(super) type Membership = openraft::StoredMembership<NodeId, BasicNode>;
/// Openraft stops at any of these, and the process with it.
pub(super) type Stop = StorageError<NodeId>;

/// Our error as one that stops openraft.
pub(super) fn stop(subject: ErrorSubject<NodeId>, verb: ErrorVerb, error: &Error) -> Stop {
    StorageIOError::new(subject, verb, openraft::AnyError::new(error)).into()
}
