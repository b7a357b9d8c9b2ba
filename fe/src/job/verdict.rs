//! The one table that tells errors of tasks apart: which pass by themselves, and what is done about the others. Pure.
//!
//! | class | kinds | snapshot | upload | download | metadata, room, putting in force | clean-up |
//! |---|---|---|---|---|---|---|
//! | passing | UNAVAILABLE TIMEOUT LIMIT NOT_LEADER CANCELLED | again | again | again | again | again |
//! | bytes | NOT_FOUND CONFLICT CORRUPT | other replica | link again, then other replica | three tries | end | five tries |
//! | request | INVALID NOT_SUPPORTED ALREADY_EXISTS DENIED NO_SPACE BUG | other replica | end | end | end | five tries |
//!
//! *Again*: after a delay that doubles up to half a minute, until the job's timeout; the error is shown meanwhile. *End*:
//! the job is cancelled with this error as its cause.

use super::action::Key;
use coffer_stdx::ErrorKind;

/// Tries of a download whose bytes are wrong or missing: the fault may be on the way.
pub(super) const BAD_BYTES_TRIES: u32 = 3;
/// Tries of an upload on one replica whose files are wrong or missing, before another replica takes over.
pub(super) const BAD_REPLICA_TRIES: u32 = 2;
/// Tries of a clean-up that fails for good, before what is left is left to sweeping.
pub(super) const CLEANUP_TRIES: u32 = 5;

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It may be gone the next time.
    Passing,
    /// What should be there is not there, or not as it was written.
    Bytes,
    /// It will be the same the next time.
    Request,
}

/// The table. A cancel that reaches us was not ours: ours drop the task first.
const CLASSES: [(ErrorKind, Class); 14] = [
    (ErrorKind::Unavailable, Class::Passing),
    (ErrorKind::Timeout, Class::Passing),
    (ErrorKind::Limit, Class::Passing),
    (ErrorKind::NotLeader, Class::Passing),
    (ErrorKind::Cancelled, Class::Passing),
    (ErrorKind::NotFound, Class::Bytes),
    (ErrorKind::Conflict, Class::Bytes),
    (ErrorKind::Corrupt, Class::Bytes),
    (ErrorKind::Invalid, Class::Request),
    (ErrorKind::NotSupported, Class::Request),
    (ErrorKind::AlreadyExists, Class::Request),
    (ErrorKind::Denied, Class::Request),
    (ErrorKind::NoSpace, Class::Request),
    (ErrorKind::Bug, Class::Request),
];

/// What to do after a failed task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again later.
    Again,
    /// The backend has no good replica of its tablets.
    OtherReplica,
    /// The snapshot may be gone, with the disk for instance: make it again.
    LinkAgain,
    /// Leave it undone.
    LeaveIt,
    /// The job cannot go on.
    End,
}

/// Whether an error may be gone the next time.
pub(super) fn is_passing(kind: ErrorKind) -> bool {
    class(kind) == Class::Passing
}

fn class(kind: ErrorKind) -> Class {
    // Every kind has its row, which a test sees to.
    CLASSES.iter().find(|(row, _)| *row == kind).map_or(Class::Request, |(_, class)| *class)
}

/// What to do after `task` failed like this `failures` times in a row.
pub(super) fn verdict(task: Key, kind: ErrorKind, failures: u32) -> Verdict {
    match (class(kind), task) {
        (Class::Passing, _) => Verdict::Again,
        (_, Key::Snapshot(_)) => Verdict::OtherReplica,
        (_, Key::Release(_) | Key::Leftovers) if failures < CLEANUP_TRIES => Verdict::Again,
        (_, Key::Release(_) | Key::Leftovers) => Verdict::LeaveIt,
        (Class::Bytes, Key::Upload(_)) if failures < BAD_REPLICA_TRIES => Verdict::LinkAgain,
        (Class::Bytes, Key::Upload(_)) => Verdict::OtherReplica,
        (Class::Bytes, Key::Download(_)) if failures < BAD_BYTES_TRIES => Verdict::Again,
        (Class::Bytes | Class::Request, _) => Verdict::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_proto::ids::BackendId;

    const B: BackendId = BackendId(1);

    #[test]
    fn every_kind_has_one_row_that_agrees_with_what_callers_of_other_parts_do() {
        for kind in ErrorKind::ALL {
            assert_eq!(CLASSES.iter().filter(|(row, _)| *row == kind).count(), 1, "{kind}");
            assert_eq!(is_passing(kind), kind.is_transient() || kind == ErrorKind::Cancelled, "{kind}");
        }
    }

    #[test]
    fn every_task_and_class_has_its_verdict() {
        let all = [Key::Snapshot(B), Key::Upload(1), Key::Meta, Key::Info, Key::Prepare(B), Key::Download(1)];
        let all = [&all[..], &[Key::Activate(B), Key::Release(B), Key::Leftovers]].concat();
        for key in &all {
            assert_eq!(verdict(*key, ErrorKind::Unavailable, 1_000), Verdict::Again);
            let (bytes, request) = match key {
                Key::Snapshot(_) => ([Verdict::OtherReplica; 3], [Verdict::OtherReplica; 2]),
                Key::Upload(_) => {
                    ([Verdict::LinkAgain, Verdict::OtherReplica, Verdict::OtherReplica], [Verdict::End; 2])
                }
                Key::Download(_) => ([Verdict::Again, Verdict::Again, Verdict::End], [Verdict::End; 2]),
                Key::Release(_) | Key::Leftovers => ([Verdict::Again; 3], [Verdict::Again; 2]),
                _ => ([Verdict::End; 3], [Verdict::End; 2]),
            };
            for (failures, wanted) in (1..).zip(bytes) {
                assert_eq!(verdict(*key, ErrorKind::Corrupt, failures), wanted, "{key} {failures}");
            }
            for (failures, wanted) in (1..).zip(request) {
                assert_eq!(verdict(*key, ErrorKind::Denied, failures), wanted, "{key} {failures}");
            }
        }
        assert_eq!(verdict(Key::Leftovers, ErrorKind::Denied, CLEANUP_TRIES), Verdict::LeaveIt);
    }
}
