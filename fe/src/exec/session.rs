//! What one connection remembers between statements.

use crate::account::Who;
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
    /// The key of the account that the password was checked against; without it the best match of user and host counts.
    pub account: Option<String>,
    /// The current database.
    pub database: Option<String>,
    /// Variables that were SET, by lower-case name.
    pub variables: BTreeMap<String, String>,
    /// A statement whose leader was lost, and its request id: given again it is the same request.
    pub unclear: Option<(String, String)>,
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

    /// Whom questions about rights are about.
    pub fn who(&self) -> Who {
        Who { user: self.user.clone(), host: self.host.clone(), account: self.account.clone() }
    }
}
