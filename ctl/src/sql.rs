//! A MySQL client that speaks in text: every cell is a string or NULL, addressed by the name of its column.
//!
//! One connection, tried before each statement and opened again when it broke, so that a restart of the frontend
//! between two statements goes unnoticed.

use coffer_stdx::{Error, ErrorKind, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts, Value};
use std::path::PathBuf;
use std::time::Duration;

/// Longest time to wait for a TCP connection and the handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Lines of a cell that are printed vertically.
const CELL_LINES: usize = 8;

/// Where a frontend answers, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// `host:port` of the MySQL protocol.
    pub(crate) address: String,
    /// User name.
    pub(crate) user: String,
    /// Password, may be empty.
    pub(crate) password: String,
    /// Certificate of the authority that the frontend has to show one of; without it nothing is encrypted.
    pub(crate) ca: Option<PathBuf>,
}

impl Login {
    /// The user that every new cluster has.
    pub(crate) fn root(address: &str) -> Login {
        Login { address: address.to_owned(), user: "root".to_owned(), password: String::new(), ca: None }
    }

    fn opts(&self) -> Result<Opts> {
        let (host, port) = self
            .address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .ok_or_else(|| Error::invalid(format!("address {:?} is not host:port", self.address)))?;
        let only = |ca: &PathBuf| {
            SslOpts::default().with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true)
        };
        let builder = OptsBuilder::default()
            .ip_or_hostname(host.to_owned())
            .tcp_port(port)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.clone()))
            .prefer_socket(false)
            .ssl_opts(self.ca.as_ref().map(only))
            .max_allowed_packet(Some(64 << 20))
            .wait_timeout(Some(28_800))
            .stmt_cache_size(0);
        Ok(builder.into())
    }
}

/// One row of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    cells: Vec<(String, Option<String>)>,
}

impl Row {
    /// A row of these cells.
    #[cfg(test)]
    pub(crate) fn of(cells: &[(&str, &str)]) -> Row {
        Row { cells: cells.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect() }
    }

    /// The cell of a column, `""` for NULL or when there is no such column.
    pub(crate) fn get(&self, column: &str) -> &str {
        let cell = self.cells.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
        cell.and_then(|(_, value)| value.as_deref()).unwrap_or("")
    }

    /// Names and values in order.
    pub(crate) fn cells(&self) -> &[(String, Option<String>)] {
        &self.cells
    }

    /// As the `mariadb` client prints a row after `\G`; of a long cell only the first lines.
    pub(crate) fn vertical(&self, number: usize) -> String {
        let width = self.cells.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let stars = "*".repeat(27);
        let mut text = format!("{stars} {number}. row {stars}");
        for (name, value) in &self.cells {
            let value = value.as_deref().unwrap_or("NULL");
            let shown: Vec<&str> = value.lines().take(CELL_LINES).collect();
            text.push_str(&format!("\n{name:>width$}: {}", shown.join("\n")));
            let more = value.lines().count().saturating_sub(CELL_LINES);
            if more > 0 {
                text.push_str(&format!("\n... {more} more lines"));
            }
        }
        text
    }

    fn from_wire(row: mysql_async::Row) -> Row {
        let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
        Row { cells: names.into_iter().zip(row.unwrap().into_iter().map(text_of)).collect() }
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

/// A session with a frontend.
#[derive(Debug)]
pub(crate) struct Session {
    login: Login,
    conn: Option<Conn>,
}

impl Session {
    /// A session; connects with its first statement.
    pub(crate) fn new(login: Login) -> Session {
        Session { login, conn: None }
    }

    /// Run a statement and return its rows.
    pub(crate) async fn query(&mut self, statement: &str) -> Result<Vec<Row>> {
        let mut conn = self.usable().await?;
        match conn.query::<mysql_async::Row, _>(statement).await {
            Ok(rows) => {
                self.conn = Some(conn);
                Ok(rows.into_iter().map(Row::from_wire).collect())
            }
            Err(error @ mysql_async::Error::Server(_)) => {
                self.conn = Some(conn);
                Err(failed(statement, &error))
            }
            Err(error) => Err(failed(statement, &error)),
        }
    }

    /// The same without asking first whether the connection still works.
    pub(crate) async fn query_now(&mut self, statement: &str) -> Result<Vec<Row>> {
        if self.conn.is_none() {
            self.conn = Some(self.connect().await?);
        }
        let Some(mut conn) = self.conn.take() else { return Err(Error::bug("no connection")) };
        let answered = conn.query::<mysql_async::Row, _>(statement).await;
        if matches!(answered, Ok(_) | Err(mysql_async::Error::Server(_))) {
            self.conn = Some(conn);
        }
        let rows = answered.map_err(|error| failed(statement, &error))?;
        Ok(rows.into_iter().map(Row::from_wire).collect())
    }

    /// The connection we have, if the other end still answers on it; else a new one.
    async fn usable(&mut self) -> Result<Conn> {
        if let Some(mut conn) = self.conn.take()
            && conn.ping().await.is_ok()
        {
            return Ok(conn);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<Conn> {
        let address = &self.login.address;
        let connecting = tokio::time::timeout(CONNECT_LIMIT, Conn::new(self.login.opts()?));
        match connecting.await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(error)) => {
                Err(Error::new(kind_of(&error), format!("connect to the frontend at {address}: {error}")))
            }
            Err(_) => Err(Error::timeout(format!("the frontend at {address} does not answer"))),
        }
    }
}

fn failed(statement: &str, error: &mysql_async::Error) -> Error {
    let shown: String = statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect();
    match error {
        mysql_async::Error::Server(server) => {
            let text = format!("{shown}: ERROR {} ({}): {}", server.code, server.state, server.message);
            Error::new(kind_of(error), text)
        }
        other => Error::new(kind_of(other), format!("{shown}: {other}")),
    }
}

fn kind_of(error: &mysql_async::Error) -> ErrorKind {
    match error {
        mysql_async::Error::Server(server) if matches!(server.code, 1044 | 1045 | 1227) => ErrorKind::Denied,
        mysql_async::Error::Server(_) => ErrorKind::Conflict,
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_by_name_and_prints_vertically() {
        let row = Row { cells: vec![("JobId".to_owned(), Some("7".to_owned())), ("Err".to_owned(), None)] };
        assert_eq!((row.get("jobid"), row.get("Err"), row.get("none")), ("7", "", ""));
        assert!(row.vertical(1).ends_with("\nJobId: 7\n  Err: NULL"));
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        assert_eq!(Login::root("localhost").opts().unwrap_err().kind(), ErrorKind::Invalid);
    }
}
