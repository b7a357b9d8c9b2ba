//! Statements of such systems that Coffer does not do: told apart from typing errors.

use super::cursor::Cursor;
use crate::error::Error;

/// The first words of each.
const KNOWN: [&str; 72] = [
    "ADMIN",
    "ALTER CATALOG",
    "ALTER COLOCATE GROUP",
    "ALTER DATABASE",
    "ALTER JOB",
    "ALTER POLICY",
    "ALTER RESOURCE",
    "ALTER ROUTINE LOAD",
    "ALTER STORAGE",
    "ALTER VIEW",
    "ALTER WORKLOAD",
    "ANALYZE",
    "CALL",
    "CANCEL",
    "CLEAN",
    "COPY",
    "CREATE AGGREGATE FUNCTION",
    "CREATE ALIAS FUNCTION",
    "CREATE CATALOG",
    "CREATE EXTERNAL TABLE",
    "CREATE FILE",
    "CREATE FUNCTION",
    "CREATE GLOBAL",
    "CREATE INDEX",
    "CREATE JOB",
    "CREATE MATERIALIZED VIEW",
    "CREATE OR REPLACE",
    "CREATE POLICY",
    "CREATE RESOURCE",
    "CREATE ROUTINE LOAD",
    "CREATE ROW POLICY",
    "CREATE SQL_BLOCK_RULE",
    "CREATE STORAGE",
    "CREATE TEMPORARY TABLE",
    "CREATE VIEW",
    "CREATE WORKLOAD",
    "DEALLOCATE",
    "DROP CATALOG",
    "DROP FILE",
    "DROP FUNCTION",
    "DROP INDEX",
    "DROP JOB",
    "DROP MATERIALIZED VIEW",
    "DROP POLICY",
    "DROP RESOURCE",
    "DROP ROW POLICY",
    "DROP SQL_BLOCK_RULE",
    "DROP STATS",
    "DROP STORAGE",
    "DROP TEMPORARY TABLE",
    "DROP VIEW",
    "DROP WORKLOAD",
    "EXECUTE",
    "EXPORT",
    "FLUSH",
    "HANDLER",
    "INSTALL",
    "LINK",
    "LOAD",
    "LOCK",
    "MERGE",
    "PAUSE",
    "PREPARE",
    "RECOVER",
    "REFRESH",
    "REPLACE",
    "RESET",
    "RESUME",
    "SAVEPOINT",
    "STOP",
    "UNLOCK",
    "UPDATE",
];
const ALTER_SYSTEM: [&str; 6] = ["ADD FREE", "DROP FREE", "MODIFY BACKEND", "MODIFY FRONTEND", "RENAME", "SET"];
const SHOW: [&str; 52] = [
    "ALL ROUTINE LOAD",
    "ALTER",
    "ANALYZE",
    "AUTHORS",
    "BINARY LOGS",
    "BUILD INDEX",
    "CACHE",
    "CATALOG RECYCLE BIN",
    "CATALOGS",
    "CLUSTERS",
    "COLOCATION GROUP",
    "COLUMN STATS",
    "CONSTRAINTS",
    "CONVERT",
    "COUNT",
    "CREATE",
    "DATA",
    "DATABASE",
    "DATA SKEW",
    "DELETE",
    "DYNAMIC PARTITION",
    "ENCRYPTKEYS",
    "EXPORT",
    "FILE",
    "FRONTEND CONFIG",
    "FUNCTIONS",
    "FULL BUILTIN",
    "FULL VIEWS",
    "INVERTED INDEX",
    "JOB",
    "LAST INSERT",
    "LOAD",
    "MASTER STATUS",
    "MIGRATIONS",
    "OPEN",
    "PARTITION",
    "PLUGIN",
    "POLICY",
    "PRIVILEGES",
    "PROFILE",
    "PROPERTY",
    "QUERY",
    "REPLICA",
    "RESOURCES",
    "ROUTINE LOAD",
    "ROW POLICY",
    "SLAVE",
    "SMALL",
    "SQL_BLOCK_RULE",
    "STORAGE",
    "STREAM LOAD",
    "TEMPORARY PARTITIONS",
];
const SHOW_MORE: [&str; 9] =
    ["TRASH", "TYPECAST", "TYPES", "USER", "VIEW", "WHITELIST", "WARM", "WORKLOAD", "SYNC JOB"];

/// The error for a statement that begins here: not supported if known, else a syntax error.
pub(super) fn refuse(cursor: &Cursor<'_>) -> Error {
    match known(cursor, &KNOWN) {
        Some(statement) => Error::not_supported(format!("{statement} is not supported")),
        None => cursor.expected("a statement"),
    }
}

/// As [`refuse`], behind `prefix`.
pub(super) fn refuse_after(prefix: &str, cursor: &Cursor<'_>) -> Error {
    let lists: &[&[&'static str]] = if prefix == "SHOW" { &[&SHOW, &SHOW_MORE] } else { &[&ALTER_SYSTEM] };
    match lists.iter().find_map(|list| known(cursor, list)) {
        Some(statement) => Error::not_supported(format!("{prefix} {statement} is not supported")),
        None => cursor.expected(&format!("what to {}", if prefix == "SHOW" { "show" } else { "alter" })),
    }
}

/// The longest of `statements` whose words stand here.
fn known<'k>(cursor: &Cursor<'_>, statements: &[&'k str]) -> Option<&'k str> {
    let here = |statement: &&&str| statement.split(' ').enumerate().all(|(n, word)| cursor.is_nth(n, word));
    statements.iter().filter(here).max_by_key(|statement| statement.len()).copied()
}
