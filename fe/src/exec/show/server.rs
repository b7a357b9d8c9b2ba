//! SHOW VARIABLES, STATUS, WARNINGS, PROCESSLIST and what else tools ask any server.

use crate::error::{ErrorKind, Result};
use crate::exec::answer::RowSet;
use crate::exec::context::Context;
use crate::exec::filter::like;
use crate::exec::privilege;
use crate::exec::session::Session;
use crate::exec::variables;
use coffer_stdx::time::now_ms;

/// The code of a note.
const NOTE: &str = "1105";
/// Characters of a statement that SHOW PROCESSLIST shows without FULL.
const SHOWN_CHARS: usize = 100;

/// SHOW VARIABLES.
pub(super) fn variables(context: &Context, session: &Session, pattern: Option<&str>) -> RowSet {
    let mut set = RowSet::new(["Variable_name", "Value"]);
    for (name, value) in variables::shown(session) {
        let value = match name.as_str() {
            "port" => context.config.mysql_listen.port().to_string(),
            "hostname" => context.config.host.clone(),
            "max_connections" => context.config.max_connections.to_string(),
            _ => value,
        };
        if pattern.is_none_or(|pattern| like(pattern, &name)) {
            set.push([name, value]);
        }
    }
    set
}

/// SHOW STATUS.
pub(super) fn status(context: &Context, pattern: Option<&str>) -> RowSet {
    let uptime = now_ms().saturating_sub(context.started_ms) / 1_000;
    let mut set = RowSet::new(["Variable_name", "Value"]);
    let values = [
        ("Ssl_cipher", String::new()),
        ("Threads_connected", context.processes.count().to_string()),
        ("Uptime", uptime.to_string()),
    ];
    for (name, value) in values {
        if pattern.is_none_or(|pattern| like(pattern, name)) {
            set.push([name.to_owned(), value]);
        }
    }
    set
}

/// SHOW WARNINGS: of the statement before.
pub(super) fn warnings(session: &Session) -> RowSet {
    let mut set = errors(session);
    for warning in &session.warnings {
        set.push(["Note", NOTE, warning]);
    }
    set
}

/// SHOW ERRORS: of the statement before.
pub(super) fn errors(session: &Session) -> RowSet {
    let mut set = RowSet::new(["Level", "Code", "Message"]);
    if let Some(error) = &session.error {
        let number = match (error.number(), error.kind()) {
            (0, ErrorKind::NotSupported) => 1235,
            (0, _) => 1105,
            (number, _) => number,
        };
        set.push(["Error".to_owned(), number.to_string(), error.message().to_owned()]);
    }
    set
}

/// SHOW [FULL] PROCESSLIST: one's own connections, with ADMIN all.
pub(super) fn processes(context: &Context, session: &Session, full: bool) -> Result<RowSet> {
    let all = privilege::may_kill(context, session)?;
    let mut set = RowSet::new(["Id", "User", "Host", "db", "Command", "Time", "State", "Info"]);
    for (connection, process) in context.processes.list() {
        if !all && process.user != session.user {
            continue;
        }
        let shown = |text: String| if full { text } else { text.chars().take(SHOWN_CHARS).collect() };
        let busy = process.statement.is_some();
        set.rows.push(vec![
            Some(connection.to_string()),
            Some(process.user),
            Some(process.host),
            process.database,
            Some(if busy { "Query" } else { "Sleep" }.to_owned()),
            Some(process.since.elapsed().as_secs().to_string()),
            Some(if busy { "executing" } else { "" }.to_owned()),
            process.statement.map(shown),
        ]);
    }
    Ok(set)
}

/// SHOW ENGINES.
pub(super) fn engines() -> RowSet {
    let mut set = RowSet::new(["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"]);
    set.push(["OLAP", "DEFAULT", "Analytical tables", "NO", "NO", "NO"]);
    set
}

/// SHOW COLLATION.
pub(super) fn collations() -> RowSet {
    let mut set = RowSet::new(["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen"]);
    set.push(["utf8mb4_0900_bin", "utf8mb4", "309", "Yes", "Yes", "1"]);
    set.push(["utf8mb4_general_ci", "utf8mb4", "45", "", "Yes", "1"]);
    set
}

/// SHOW CHARACTER SET.
pub(super) fn charsets() -> RowSet {
    let mut set = RowSet::new(["Charset", "Description", "Default collation", "Maxlen"]);
    set.push(["utf8mb4", "UTF-8 Unicode", "utf8mb4_0900_bin", "4"]);
    set
}

/// KILL: end a connection, or only what it is doing.
pub fn kill(context: &Context, session: &Session, connection: u32, query_only: bool) -> Result<()> {
    let any = privilege::may_kill(context, session)?;
    context.processes.kill(connection, &session.user, any, query_only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    #[test]
    fn warnings_and_errors_of_the_last_statement_are_shown() {
        let mut session = Session::new(1, "root", "h");
        assert!(warnings(&session).rows.is_empty());
        session.warnings.push("there already".to_owned());
        session.error = Some(error::unknown_table("t"));
        let set = warnings(&session);
        assert_eq!(set.rows[0][1].as_deref(), Some("1051"));
        assert_eq!(set.rows[1][2].as_deref(), Some("there already"));
        assert_eq!(errors(&session).rows.len(), 1);
        session.error = Some(coffer_stdx::Error::not_supported("x"));
        assert_eq!(errors(&session).rows[0][1].as_deref(), Some("1235"));
    }

    #[test]
    fn tables_for_tools_are_rectangular() {
        for set in [engines(), collations(), charsets()] {
            assert!(!set.rows.is_empty() && set.rows.iter().all(|row| row.len() == set.columns.len()));
        }
    }
}
