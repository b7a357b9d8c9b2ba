//! What one connection remembers between statements.

use coffer_stdx::Error;
use std::collections::BTreeMap;

/// One client's session.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Number of the connection, as in SHOW PROCESSLIST.
    pub connection: u32,
    /// The user, as authenticated.
    pub user: String,
    /// Where the client is.
    pub host: String,
    /// The current database.
    pub database: Option<String>,
    /// Variables that were SET, by lower-case name.
    pub variables: BTreeMap<String, String>,
    /// Warnings of the last statement, for SHOW WARNINGS.
    pub warnings: Vec<String>,
    /// The error of the last statement, for SHOW ERRORS and SHOW WARNINGS.
    pub error: Option<Error>,
}

impl Session {
    /// A new session.
    pub fn new(connection: u32, user: impl Into<String>, host: impl Into<String>) -> Session {
        Session { connection, user: user.into(), host: host.into(), ..Session::default() }
    }
}
