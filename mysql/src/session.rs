//! What a caller implements and answers with.

use crate::auth::Credentials;
use crate::column::Column;
use crate::error::ServerError;
use crate::params;
use crate::value::{Row, Value};
use async_trait::async_trait;
use futures::Stream;
use std::fmt;
use std::pin::Pin;

/// Rows as they come, some at a time: memory holds one batch, whatever the size of the result.
pub type Batches = Pin<Box<dyn Stream<Item = Result<Vec<Row>, ServerError>> + Send>>;

/// A result set.
pub struct Rows {
    /// The columns; at least one.
    pub columns: Vec<Column>,
    /// The rows; each with a value per column.
    pub batches: Batches,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// The end of a statement without rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows written or removed.
    pub affected: u64,
    /// Warnings.
    pub warnings: u16,
    /// A line for people, shown below `Query OK`.
    pub info: String,
}

/// The answer to one statement.
#[derive(Debug)]
pub enum Reply {
    /// Done, no rows.
    Done(Done),
    /// A result set.
    Rows(Rows),
}

impl Reply {
    /// `Query OK, 0 rows affected`.
    pub fn ok() -> Reply {
        Reply::Done(Done::default())
    }

    /// `Query OK, <affected> rows affected`.
    pub fn affected(affected: u64) -> Reply {
        Reply::Done(Done { affected, ..Done::default() })
    }

    /// A result set that is all in memory.
    pub fn rows(columns: Vec<Column>, rows: Vec<Row>) -> Reply {
        Reply::stream(columns, Box::pin(futures::stream::iter([Ok(rows)])))
    }

    /// A result set that comes in batches.
    pub fn stream(columns: Vec<Column>, batches: Batches) -> Reply {
        Reply::Rows(Rows { columns, batches })
    }
}

/// What is known of a prepared statement before it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The number of placeholders.
    pub params: u16,
    /// The columns of the result; none where they are not known yet, clients then take those of the execution.
    pub columns: Vec<Column>,
}

/// Who is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The number of the connection, as in `SHOW PROCESSLIST`.
    pub connection: u32,
    /// The user, as authenticated.
    pub user: String,
    /// Where the client is.
    pub host: String,
    /// What the client says of itself: program, version, operating system.
    pub attributes: Vec<(String, String)>,
}

/// Knows accounts and opens sessions.
#[async_trait]
pub trait Service: Send + Sync {
    /// What is kept of the password of `user` coming from `host`; `None` when there is no such account.
    async fn credentials(&self, user: &str, host: &str) -> Result<Option<Credentials>, ServerError>;

    /// A login failed. The client is told when this returns, so that guessing can be counted and slowed.
    async fn refused(&self, user: &str, host: &str) {
        let _ = (user, host);
    }

    /// A session for a client whose password was right.
    async fn open(&self, client: Client) -> Result<Box<dyn Session>, ServerError>;
}

/// One client's conversation: current database, variables. Texts are single statements without the `;`.
#[async_trait]
pub trait Session: Send {
    /// Make `name` the current database.
    async fn use_database(&mut self, name: &str) -> Result<(), ServerError>;

    /// Run a statement.
    async fn query(&mut self, sql: &str) -> Result<Reply, ServerError>;

    /// Whether a statement may be given up when the client is gone before the answer: it is run for the answer alone.
    fn may_abandon(&self, sql: &str) -> bool {
        let _ = sql;
        false
    }

    /// Forget everything but the user and the current database.
    async fn reset(&mut self) -> Result<(), ServerError>;

    /// Look at a statement with placeholders.
    async fn prepare(&mut self, sql: &str) -> Result<Prepared, ServerError> {
        Ok(Prepared { params: params::count(sql)?, columns: Vec::new() })
    }

    /// Run a statement with a value for each placeholder.
    async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<Reply, ServerError> {
        let sql = params::substitute(sql, &values)?;
        self.query(&sql).await
    }

    /// The columns of `table` whose names match the LIKE pattern, for clients that complete names as one types.
    async fn fields(&mut self, table: &str, pattern: &str) -> Result<Vec<Column>, ServerError> {
        let _ = (table, pattern);
        Ok(Vec::new())
    }
}
