//! Our error kinds as gRPC statuses and back, one table. The exact kind travels in the status details as its name;
//! the gRPC code is a courtesy to other tools and the fallback for errors that tonic itself makes.

use crate::v1::WireError;
use coffer_stdx::{Error, ErrorKind};
use tonic::{Code, Status};

/// The gRPC code of a kind.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotSupported => Code::Unimplemented,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Conflict | ErrorKind::NotLeader => Code::FailedPrecondition,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Limit | ErrorKind::NoSpace => Code::ResourceExhausted,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Bug => Code::Internal,
    }
}

fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid,
        Code::Unimplemented => ErrorKind::NotSupported,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied => ErrorKind::Denied,
        Code::FailedPrecondition | Code::Aborted => ErrorKind::Conflict,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::ResourceExhausted => ErrorKind::Limit,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Ok | Code::Internal => ErrorKind::Bug,
        // A connection that breaks in the middle of a call shows as Unknown or Cancelled ("h2 protocol error"). Another
        // secret than ours (Unauthenticated) is a matter of configuration, often of a moment, and says nothing of rights.
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Unauthenticated => ErrorKind::Unavailable,
    }
}

/// An error as a gRPC status.
pub fn to_status(error: &Error) -> Status {
    Status::with_details(code(error.kind()), error.message(), error.kind().name().as_bytes().to_vec().into())
}

/// Whether a status tells that the transport failed, rather than that the peer answered: our errors carry their kind in
/// the details. A peer that stops says so to its connections, and h2 calls a request that comes just then an internal
/// error.
pub fn is_transport(status: &Status) -> bool {
    let of_h2 = || status.code() == Code::Internal && status.message().starts_with("h2 protocol error");
    status.details().is_empty()
        && (matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) || of_h2())
}

/// A gRPC status as an error. `peer` is who answered, or should have: "backend 10.0.0.1:9050".
pub fn from_status(status: &Status, peer: &str) -> Error {
    let exact = std::str::from_utf8(status.details()).ok().and_then(ErrorKind::from_name);
    match exact {
        Some(kind) => Error::new(kind, status.message()),
        None if is_transport(status) => Error::unavailable(format!("{peer}: {}", describe(status))),
        None => Error::new(kind_of(status.code()), format!("{peer}: {}", describe(status))),
    }
}

/// The details of a status that sends its reader elsewhere. Not the name of a kind, so that it reads as a
/// [`ErrorKind::Limit`] where nobody knows it.
const BUSY: &[u8] = b"BUSY";

/// A peer has no memory for this request now; another may have some.
pub fn busy(message: &str) -> Status {
    Status::with_details(Code::ResourceExhausted, message, BUSY.into())
}

/// Whether a status is [`busy`].
pub fn is_busy(status: &Status) -> bool {
    status.details() == BUSY
}

fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// An error inside a message.
pub fn to_wire(error: &Error) -> WireError {
    WireError { kind: error.kind().name().to_owned(), message: error.message().to_owned() }
}

/// An error from inside a message; an unknown kind (a newer peer) is a [`ErrorKind::Bug`].
pub fn from_wire(error: &WireError) -> Error {
    Error::new(ErrorKind::from_name(&error.kind).unwrap_or(ErrorKind::Bug), error.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in ErrorKind::ALL {
            let error = Error::new(kind, "tablet 7 is gone");
            assert_eq!(from_status(&to_status(&error), "peer"), error);
            assert_eq!(from_wire(&to_wire(&error)), error);
        }
    }

    #[test]
    fn a_busy_peer_is_told_from_a_limit() {
        let status = busy("all memory is taken");
        assert!(is_busy(&status) && !is_busy(&to_status(&Error::limit("slow down"))));
        let error = from_status(&status, "broker h:1");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Limit, "broker h:1: all memory is taken"));
    }

    #[test]
    fn a_connection_that_ends_is_no_answer() {
        let ended =
            Status::internal("h2 protocol error: http2 error: connection error received: not a result of an error");
        assert!(is_transport(&ended) && is_transport(&Status::unavailable("refused")));
        assert_eq!(from_status(&ended, "broker h:1").kind(), ErrorKind::Unavailable);
        for answered in [Status::internal("panicked"), to_status(&Error::bug("h2 protocol error")), busy("full")] {
            assert!(!is_transport(&answered), "{answered}");
        }
    }

    #[test]
    fn foreign_statuses_name_the_peer() {
        let error = from_status(&Status::unavailable("connection refused"), "broker h:1");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.message(), "broker h:1: connection refused");
    }
}
