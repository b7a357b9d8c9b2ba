//! A MySQL client that reads like the shell: statements in, text out, errors as values when asked for.

use anyhow::Context;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, ServerError, Value};
use std::time::Duration;

/// How long a backup or restore job of a test may take.
pub const JOB_LIMIT: Duration = Duration::from_secs(120);
/// How long one frontend may take to accept a login.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long one statement may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(90);

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<(String, Option<String>)>);

impl Row {
    /// The cell of a column, `""` for NULL or when there is no such column.
    pub fn get(&self, column: &str) -> &str {
        self.0
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(column))
            .and_then(|(_, value)| value.as_deref())
            .unwrap_or("")
    }

    /// All cells, NULL as `NULL`.
    pub fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|(_, value)| value.as_deref().unwrap_or("NULL")).collect()
    }
}

/// A session; connects when first used, and again after the connection broke.
#[derive(Debug)]
pub struct Sql {
    address: String,
    user: String,
    password: String,
    database: Option<String>,
    conn: Option<Conn>,
}

impl Sql {
    /// A session as root without a password; several addresses are separated by commas.
    pub fn new(address: &str) -> Sql {
        let (address, user) = (address.to_owned(), "root".to_owned());
        Sql { address, user, password: String::new(), database: None, conn: None }
    }

    /// As another user.
    pub fn as_user(mut self, user: &str, password: &str) -> Sql {
        (self.user, self.password) = (user.to_owned(), password.to_owned());
        self
    }

    /// With a current database from the handshake on.
    pub fn in_database(mut self, database: &str) -> Sql {
        self.database = Some(database.to_owned());
        self
    }

    async fn attempt(&mut self, statement: &str) -> Result<Vec<Row>, mysql_async::Error> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        let rows = conn.query::<mysql_async::Row, _>(statement).await;
        if matches!(rows, Ok(_) | Err(mysql_async::Error::Server(_))) {
            self.conn = Some(conn);
        }
        Ok(rows?.into_iter().map(from_wire).collect())
    }

    /// With the first of the addresses that answers.
    async fn connect(&self) -> Result<Conn, mysql_async::Error> {
        let mut last = None;
        for address in self.address.split(',') {
            match tokio::time::timeout(CONNECT_LIMIT, self.connect_to(address)).await {
                Ok(Err(mysql_async::Error::Io(error))) => last = Some(mysql_async::Error::Io(error)),
                Ok(connected) => return connected,
                Err(late) => last = Some(mysql_async::Error::Other(Box::new(late))),
            }
        }
        Err(last.unwrap_or_else(|| mysql_async::Error::Other("no address".into())))
    }

    async fn connect_to(&self, address: &str) -> Result<Conn, mysql_async::Error> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "9030"));
        let opts = OptsBuilder::default()
            .ip_or_hostname(host.to_owned())
            .tcp_port(port.parse().unwrap_or(9030))
            .user(Some(self.user.clone()))
            .pass(Some(self.password.clone()))
            .db_name(self.database.clone())
            .prefer_socket(false);
        Conn::new(opts).await
    }

    /// Run a statement and return its rows.
    pub async fn query(&mut self, statement: &str) -> anyhow::Result<Vec<Row>> {
        let running = tokio::time::timeout(STATEMENT_LIMIT, self.attempt(statement));
        let ended = running.await.with_context(|| format!("no answer in time: {statement}"))?;
        ended.with_context(|| statement.to_owned())
    }

    /// Run a statement.
    pub async fn run(&mut self, statement: &str) -> anyhow::Result<()> {
        self.query(statement).await.map(|_| ())
    }

    /// Rows as text cells.
    pub async fn table(&mut self, statement: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let rows = self.query(statement).await?;
        Ok(rows.iter().map(|row| row.texts().into_iter().map(str::to_owned).collect()).collect())
    }

    /// The one cell of the one row.
    pub async fn scalar(&mut self, statement: &str) -> anyhow::Result<String> {
        let rows = self.table(statement).await?;
        rows.into_iter().next().and_then(|row| row.into_iter().next()).with_context(|| format!("no row: {statement}"))
    }

    /// The error a statement must give.
    pub async fn error(&mut self, statement: &str) -> anyhow::Result<ServerError> {
        let running = tokio::time::timeout(STATEMENT_LIMIT, self.attempt(statement));
        match running.await.with_context(|| format!("no answer in time: {statement}"))? {
            Err(mysql_async::Error::Server(error)) => Ok(error),
            Err(error) => Err(error).with_context(|| statement.to_owned()),
            Ok(rows) => anyhow::bail!("{statement}: must fail, gave {rows:?}"),
        }
    }

    /// Wait until the last job of `SHOW BACKUP`/`SHOW RESTORE ...` ended, and return its row whatever the end is.
    pub async fn job_end(&mut self, show: &str) -> anyhow::Result<Row> {
        let deadline = std::time::Instant::now() + JOB_LIMIT;
        loop {
            let last = self.query(show).await?.pop().with_context(|| format!("{show}: no job"))?;
            if matches!(last.get("State"), "FINISHED" | "CANCELLED") {
                return Ok(last);
            }
            anyhow::ensure!(std::time::Instant::now() < deadline, "{show}: still runs: {last:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Wait until the last job finished well.
    pub async fn job_finished(&mut self, show: &str) -> anyhow::Result<Row> {
        let row = self.job_end(show).await?;
        anyhow::ensure!(row.get("State") == "FINISHED", "{show}: {row:?}");
        Ok(row)
    }

    /// The newest timestamp of a snapshot in a repository.
    pub async fn timestamp(&mut self, repository: &str, label: &str) -> anyhow::Result<String> {
        let show = format!("SHOW SNAPSHOT ON {repository} WHERE SNAPSHOT = \"{label}\"");
        let row = self.query(&show).await?.pop().with_context(|| format!("{show}: no snapshot"))?;
        anyhow::ensure!(row.get("Status") == "OK", "{show}: {row:?}");
        row.get("Timestamp").lines().last().map(str::to_owned).context("no timestamp")
    }
}

fn from_wire(row: mysql_async::Row) -> Row {
    let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    let cells = row.unwrap().into_iter().map(|value| match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    });
    Row(names.into_iter().zip(cells).collect())
}
