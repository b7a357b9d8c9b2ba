//! What a client is told when something fails: a number, an SQL state of five characters, a sentence.
//!
//! Numbers are constants here, with the state that belongs to each, so that a session names the error and never
//! pairs number and state by hand.

use std::fmt;

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The MySQL error number.
    pub code: u16,
    /// The SQL state.
    pub state: [u8; 5],
    /// The sentence.
    pub message: String,
}

/// A number and its SQL state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(
    /// The MySQL error number.
    pub u16,
    /// The SQL state.
    pub [u8; 5],
);

impl Code {
    /// An error with this number.
    pub fn error(self, message: impl Into<String>) -> ServerError {
        ServerError { code: self.0, state: self.1, message: message.into() }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $state:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code($code, *$state);)*
    };
}

codes! {
    /// The database exists already.
    DATABASE_EXISTS = 1007, b"HY000";
    /// The database to drop is not there.
    DATABASE_NOT_THERE = 1008, b"HY000";
    /// Too many connections.
    TOO_MANY_CONNECTIONS = 1040, b"08004";
    /// The client's first packets cannot be understood.
    BAD_HANDSHAKE = 1043, b"08S01";
    /// The account may not use the database.
    DATABASE_DENIED = 1044, b"42000";
    /// Wrong user or password.
    ACCESS_DENIED = 1045, b"28000";
    /// No current database.
    NO_DATABASE = 1046, b"3D000";
    /// A command the server does not know.
    UNKNOWN_COMMAND = 1047, b"08S01";
    /// The database does not exist.
    UNKNOWN_DATABASE = 1049, b"42000";
    /// The table exists already.
    TABLE_EXISTS = 1050, b"42S01";
    /// The table to drop is not there.
    UNKNOWN_TABLE = 1051, b"42S02";
    /// The server is going away.
    SHUTDOWN = 1053, b"08S01";
    /// The column does not exist.
    UNKNOWN_COLUMN = 1054, b"42S22";
    /// The statement cannot be parsed.
    SYNTAX = 1064, b"42000";
    /// The statement has no text.
    EMPTY_QUERY = 1065, b"42000";
    /// Not the owner of the connection to end.
    KILL_DENIED = 1095, b"HY000";
    /// Anything without a number of its own.
    UNKNOWN = 1105, b"HY000";
    /// The table does not exist.
    NO_SUCH_TABLE = 1146, b"42S02";
    /// A packet is larger than the server allows.
    PACKET_TOO_LARGE = 1153, b"08S01";
    /// Packets came out of order.
    OUT_OF_ORDER = 1156, b"08S01";
    /// The system variable does not exist.
    UNKNOWN_VARIABLE = 1193, b"HY000";
    /// Waiting took too long.
    LOCK_TIMEOUT = 1205, b"HY000";
    /// The number of parameters is wrong.
    WRONG_ARGUMENTS = 1210, b"HY000";
    /// The account lacks a privilege.
    PRIVILEGE_NEEDED = 1227, b"42000";
    /// Known, but not done here.
    NOT_SUPPORTED = 1235, b"42000";
    /// The prepared statement does not exist.
    UNKNOWN_STATEMENT = 1243, b"HY000";
    /// A text is not valid in its character set.
    INVALID_CHARACTERS = 1300, b"HY000";
    /// The statement was ended on request.
    INTERRUPTED = 1317, b"70100";
    /// Too many placeholders.
    TOO_MANY_PLACEHOLDERS = 1390, b"HY000";
    /// Parameters sent piece by piece grew too large.
    PARAMETER_TOO_LARGE = 1301, b"HY000";
    /// The statement has no cursor.
    NO_CURSOR = 1421, b"HY000";
    /// Too many prepared statements.
    TOO_MANY_STATEMENTS = 1461, b"42000";
    /// Statement ran out of time.
    QUERY_TIMEOUT = 3024, b"HY000";
    /// A packet says impossible things.
    MALFORMED_PACKET = 1835, b"HY000";
    /// The server takes logins over TLS only.
    TLS_REQUIRED = 3159, b"HY000";
    /// The client said nothing for too long.
    INACTIVE = 4031, b"HY000";
}

impl ServerError {
    /// Any error, by number and state.
    pub fn new(code: u16, state: [u8; 5], message: impl Into<String>) -> ServerError {
        Code(code, state).error(message)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {} ({}): {}", self.code, String::from_utf8_lossy(&self.state), self.message)
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_as_in_a_client() {
        assert_eq!(NO_DATABASE.error("No database selected").to_string(), "ERROR 1046 (3D000): No database selected");
    }
}
