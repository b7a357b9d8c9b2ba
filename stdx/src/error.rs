//! One error type, few kinds. A kind is an instruction to the caller; retry, MySQL error number and gRPC status all
//! derive from it (the last two in `coffer_proto::status` and `fe::mysql::errors`).
//!
//! An error text says what failed, on which object, why, and where it helps what to do. Causes are appended with
//! [`Context::context`]; secrets never enter an error text.

use std::fmt;

/// `Result` with our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do. Closed: adding a kind means deciding its row in every table that matches on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Fix the request.
    Invalid,
    /// The statement, property or format is known but Coffer does not do it.
    NotSupported,
    /// Choose another name; the object is not there.
    NotFound,
    /// Choose another name; the object is there already.
    AlreadyExists,
    /// Use other credentials, or grant the privilege.
    Denied,
    /// Wait for, or cancel, what is in the way.
    Conflict,
    /// Go to the leader.
    NotLeader,
    /// Try again later: a peer is down, slow or unreachable.
    Unavailable,
    /// The time given ran out.
    Timeout,
    /// A limit is reached: slow down, or raise it.
    Limit,
    /// No space left: free or add space.
    NoSpace,
    /// Stop and keep the evidence: bytes are not what was written.
    Corrupt,
    /// Stop quietly; somebody asked for it.
    Cancelled,
    /// A defect in Coffer: file it.
    Bug,
}

impl ErrorKind {
    /// All kinds, in declaration order.
    pub const ALL: [ErrorKind; 14] = [
        ErrorKind::Invalid,
        ErrorKind::NotSupported,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::Denied,
        ErrorKind::Conflict,
        ErrorKind::NotLeader,
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Limit,
        ErrorKind::NoSpace,
        ErrorKind::Corrupt,
        ErrorKind::Cancelled,
        ErrorKind::Bug,
    ];

    /// The stable name used on the wire and in job records.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Invalid => "INVALID",
            ErrorKind::NotSupported => "NOT_SUPPORTED",
            ErrorKind::NotFound => "NOT_FOUND",
            ErrorKind::AlreadyExists => "ALREADY_EXISTS",
            ErrorKind::Denied => "DENIED",
            ErrorKind::Conflict => "CONFLICT",
            ErrorKind::NotLeader => "NOT_LEADER",
            ErrorKind::Unavailable => "UNAVAILABLE",
            ErrorKind::Timeout => "TIMEOUT",
            ErrorKind::Limit => "LIMIT",
            ErrorKind::NoSpace => "NO_SPACE",
            ErrorKind::Corrupt => "CORRUPT",
            ErrorKind::Cancelled => "CANCELLED",
            ErrorKind::Bug => "BUG",
        }
    }

    /// The kind with this [`ErrorKind::name`].
    pub fn from_name(name: &str) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the same request may succeed later without anybody changing it.
    pub fn is_transient(self) -> bool {
        match self {
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Limit | ErrorKind::NotLeader => true,
            ErrorKind::Invalid
            | ErrorKind::NotSupported
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Denied
            | ErrorKind::Conflict
            | ErrorKind::NoSpace
            | ErrorKind::Corrupt
            | ErrorKind::Cancelled
            | ErrorKind::Bug => false,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error: its kind and one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    number: u16,
}

impl Error {
    /// An error of `kind`. `message` starts lower case or with a name and has no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), number: 0 }
    }

    /// The same error with a number that the protocol at the edge knows it by (a MySQL error number). The number stays
    /// within the process; 0 means that the kind says all.
    pub fn numbered(mut self, number: u16) -> Error {
        self.number = number;
        self
    }

    /// The number given by [`Error::numbered`], or 0.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("An error of kind [`ErrorKind::", stringify!($kind), "`].")]
                pub fn $name(message: impl Into<String>) -> Error {
                    Error::new(ErrorKind::$kind, message)
                }
            )*
        }
    };
}

constructors! {
    invalid => Invalid,
    not_supported => NotSupported,
    not_found => NotFound,
    already_exists => AlreadyExists,
    denied => Denied,
    conflict => Conflict,
    not_leader => NotLeader,
    unavailable => Unavailable,
    timeout => Timeout,
    limit => Limit,
    no_space => NoSpace,
    corrupt => Corrupt,
    cancelled => Cancelled,
    bug => Bug,
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
            Io::TimedOut => ErrorKind::Timeout,
            Io::InvalidInput | Io::InvalidFilename | Io::NotADirectory | Io::IsADirectory => ErrorKind::Invalid,
            Io::InvalidData | Io::UnexpectedEof => ErrorKind::Corrupt,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, error.to_string())
    }
}

/// Adds what was being done to an error, keeping its kind.
pub trait Context<T> {
    /// Prefix the message with `doing()` and a colon.
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            Error { message: format!("{}: {}", doing().into(), error.message), ..error }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_that_reads_back() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(ErrorKind::from_name("nonsense"), None);
    }

    #[test]
    fn context_keeps_the_kind_and_names_the_object() {
        let failed: std::result::Result<(), _> = Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        let error = failed.context(|| "open /x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.message().starts_with("open /x: "));
    }
}
