//! One client's conversation: text in, answers out, with what SHOW WARNINGS, SHOW PROCESSLIST and KILL need.

use super::errors::to_server_error;
use super::reply;
use crate::audit::Record;
use crate::error::{Error, Result, number};
use crate::exec::privilege::need_to_see;
use crate::exec::{self, Answer, Context, Session, filter};
use crate::forward;
use crate::limits;
use crate::metrics::Metrics;
use crate::query::QueryStream;
use crate::sql;
use crate::sql::ast::{ObjectName, Show, Statement};
use async_trait::async_trait;
use coffer_mysql::{Column, ColumnType, Reply, Row, ServerError};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// A session of the protocol around one of ours.
pub(super) struct Conversation {
    context: Context,
    metrics: Metrics,
    session: Session,
    interrupt: Arc<Notify>,
    /// Of the query at hand.
    limit: Limit,
}

/// When a query must have sent its last row: the session's `query_timeout` or `max_execution_time`, whichever ends first.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// Which it was.
    name: &'static str,
    after: Duration,
    end: Option<tokio::time::Instant>,
}

impl Limit {
    const NONE: Limit = Limit { name: "", after: Duration::ZERO, end: None };

    /// From now on.
    fn begin(session: &Session) -> Limit {
        let Some((name, after)) = exec::variables::time_limit(session) else { return Limit::NONE };
        Limit { name, after, end: tokio::time::Instant::now().checked_add(after) }
    }

    /// Wait for it.
    async fn over(self) {
        match self.end {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }

    fn error(self) -> Error {
        let text = "Query execution was interrupted, maximum statement execution time exceeded";
        let value = match self.name {
            exec::variables::QUERY_TIMEOUT => format!("{} s", self.after.as_secs()),
            _ => format!("{} ms", self.after.as_millis()),
        };
        Error::timeout(format!("{text} ({} = {value})", self.name)).numbered(number::QUERY_TIMEOUT)
    }
}

impl Conversation {
    pub(super) fn new(context: Context, metrics: Metrics, session: Session, interrupt: Arc<Notify>) -> Conversation {
        let conversation = Conversation { context, metrics, session, interrupt, limit: Limit::NONE };
        conversation.idle();
        conversation
    }

    fn idle(&self) {
        let session = &self.session;
        self.context.processes.update(session.connection, &session.user, session.database.as_deref(), None);
    }

    async fn run(&mut self, text: &str) -> Result<Answer> {
        let session = &self.session;
        let (connection, user, database) = (session.connection, &session.user, session.database.as_deref());
        self.context.processes.update(connection, user, database, Some(text));
        let statement = match sql::parse(text) {
            Ok(statement) => statement,
            Err(error) => {
                self.session.warnings.clear();
                return Err(error);
            }
        };
        if !matches!(statement, Statement::Show(Show::Warnings | Show::Errors)) {
            self.session.warnings.clear();
            self.session.error = None;
        }
        let interrupted = Arc::clone(&self.interrupt).notified_owned();
        self.limit = if matches!(statement, Statement::Query(_)) { Limit::begin(&self.session) } else { Limit::NONE };
        let limit = self.limit;
        tokio::select! {
            answer = forward::run(&self.context, &mut self.session, text, statement) => answer,
            () = interrupted => Err(interrupted_error()),
            () = limit.over() => Err(limit.error()),
        }
    }

    /// Note in the audit log how a statement ended.
    fn note(&self, sql: &str, took: Duration, error: Option<&Error>, rows: u64) {
        note(&self.context, &self.session, (sql, took), (error, rows));
    }

    /// The rows of a query, which KILL may end, and SHOW PROCESSLIST shows until the last.
    fn watched(&self, query: QueryStream, sql: &str, begun: Instant) -> Reply {
        let columns = query.columns.clone();
        let busy = Busy {
            context: self.context.clone(),
            session: self.session.clone(),
            sql: sql.to_owned(),
            begun,
            rows: 0,
            // Until the last row is out, the client may go.
            error: Some(interrupted_error()),
        };
        let interrupted = Box::pin(Arc::clone(&self.interrupt).notified_owned());
        let watched = Watched { batches: query.into_rows(), interrupted, limit: self.limit, busy };
        Reply::stream(
            columns,
            Box::pin(futures::stream::unfold(Some(watched), |watched| async { next(watched?).await })),
        )
    }
}

struct Watched {
    batches: BoxStream<'static, Result<Vec<Row>>>,
    interrupted: Pin<Box<OwnedNotified>>,
    limit: Limit,
    busy: Busy,
}

type Batch = std::result::Result<Vec<Row>, ServerError>;

async fn next(mut watched: Watched) -> Option<(Batch, Option<Watched>)> {
    tokio::select! {
        batch = watched.batches.next() => match batch {
            Some(Ok(rows)) => {
                watched.busy.rows += rows.len() as u64;
                Some((Ok(rows), Some(watched)))
            }
            Some(Err(error)) => {
                let told = to_server_error(&error);
                watched.busy.error = Some(error);
                Some((Err(told), None))
            }
            None => {
                watched.busy.error = None;
                None
            }
        },
        () = &mut watched.interrupted => Some((Err(to_server_error(&interrupted_error())), None)),
        () = watched.limit.over() => Some((Err(to_server_error(&watched.limit.error())), None)),
    }
}

/// Dropped when the last row is out, or nobody wants more.
struct Busy {
    context: Context,
    session: Session,
    sql: String,
    begun: Instant,
    rows: u64,
    error: Option<Error>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let session = &self.session;
        self.context.processes.update(session.connection, &session.user, session.database.as_deref(), None);
        note(&self.context, session, (&self.sql, self.begun.elapsed()), (self.error.as_ref(), self.rows));
    }
}

fn note(context: &Context, session: &Session, (sql, took): (&str, Duration), (error, rows): (Option<&Error>, u64)) {
    context.audit.write(&Record {
        kind: "statement",
        user: &session.user,
        host: &session.host,
        connection: session.connection,
        database: session.database.as_deref(),
        statement: sql,
        took,
        error,
        rows,
    });
}

fn interrupted_error() -> Error {
    Error::cancelled("Query execution was interrupted").numbered(number::INTERRUPTED)
}

#[async_trait]
impl coffer_mysql::Session for Conversation {
    async fn use_database(&mut self, name: &str) -> std::result::Result<(), ServerError> {
        let used = forward::use_database(&self.context, &mut self.session, name).await;
        self.idle();
        used.map_err(|error| to_server_error(&error))
    }

    async fn query(&mut self, sql: &str) -> std::result::Result<Reply, ServerError> {
        let begun = Instant::now();
        let answer = self.run(sql).await;
        self.metrics.statement(answer.as_ref().err(), begun.elapsed());
        match answer {
            Ok(Answer::Stream(query)) => Ok(self.watched(query, sql, begun)),
            Ok(Answer::Rows(set)) => {
                self.idle();
                self.note(sql, begun.elapsed(), None, set.rows.len() as u64);
                Ok(reply::rows(set))
            }
            Ok(Answer::Done(done)) => {
                self.idle();
                self.note(sql, begun.elapsed(), None, done.affected);
                self.session.warnings.extend(done.warnings.iter().take(limits::MAX_WARNINGS).cloned());
                Ok(reply::done(done))
            }
            Err(error) => {
                self.idle();
                self.note(sql, begun.elapsed(), Some(&error), 0);
                let told = to_server_error(&error);
                tracing::debug!(connection = self.session.connection, code = told.code, %error, "statement failed");
                self.session.error = Some(error);
                Err(told)
            }
        }
    }

    fn may_abandon(&self, sql: &str) -> bool {
        sql::reads_only(sql)
    }

    async fn reset(&mut self) -> std::result::Result<(), ServerError> {
        self.session.variables.clear();
        self.session.unclear = None;
        self.session.warnings.clear();
        self.session.error = None;
        Ok(())
    }

    async fn fields(&mut self, table: &str, pattern: &str) -> std::result::Result<Vec<Column>, ServerError> {
        let name = ObjectName { database: None, name: table.to_owned() };
        self.context.meta.view(|state| {
            let (database, table) =
                state.table(&name, self.session.database.as_deref()).map_err(|error| to_server_error(&error))?;
            need_to_see(state, &self.session, &database.name, &table.name).map_err(|error| to_server_error(&error))?;
            let columns =
                table.schema.columns.iter().filter(|column| pattern.is_empty() || filter::like(pattern, &column.name));
            Ok(columns
                .map(|column| Column {
                    table: table.name.clone(),
                    database: database.name.clone(),
                    nullable: column.nullable,
                    key: column.key,
                    ..Column::new(&column.name, ColumnType::VarString)
                })
                .collect())
        })
    }
}
