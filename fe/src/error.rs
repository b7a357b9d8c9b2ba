//! The errors that clients of such a cluster know by number and text, made in one place.
//!
//! Every error in this process is a [`coffer_stdx::Error`]; those below also carry the number that MySQL clients and
//! drivers act upon (`Error::number`). The table that turns numbers and kinds into packets is `mysql::errors`.

pub use coffer_stdx::error::{Context, Error, ErrorKind, Result};

/// Known numbers, as MySQL has them.
pub mod number {
    #![allow(missing_docs, reason = "each is named after the function below that uses it")]
    pub const DATABASE_EXISTS: u16 = 1007;
    pub const DATABASE_NOT_THERE: u16 = 1008;
    pub const DATABASE_DENIED: u16 = 1044;
    pub const LOGIN_DENIED: u16 = 1045;
    pub const NO_DATABASE: u16 = 1046;
    pub const UNKNOWN_DATABASE: u16 = 1049;
    pub const TABLE_EXISTS: u16 = 1050;
    pub const UNKNOWN_TABLE: u16 = 1051;
    pub const UNKNOWN_COLUMN: u16 = 1054;
    pub const DUPLICATE_COLUMN: u16 = 1060;
    pub const DUPLICATE_INDEX: u16 = 1061;
    pub const SYNTAX: u16 = 1064;
    pub const EMPTY_QUERY: u16 = 1065;
    pub const BAD_DEFAULT: u16 = 1067;
    pub const KEY_COLUMN_NOT_THERE: u16 = 1072;
    pub const UNKNOWN_THREAD: u16 = 1094;
    pub const KILL_DENIED: u16 = 1095;
    pub const BAD_DATABASE_NAME: u16 = 1102;
    pub const BAD_TABLE_NAME: u16 = 1103;
    pub const NO_COLUMNS: u16 = 1113;
    pub const TOO_MANY_FAILURES: u16 = 1129;
    pub const NO_PARTITION: u16 = 1507;
    pub const SAME_PARTITION: u16 = 1517;
    pub const NOT_OF_THAT_KIND: u16 = 1347;
    pub const NO_SUCH_GRANT: u16 = 1141;
    pub const TABLE_DENIED: u16 = 1142;
    pub const BAD_COLUMN_NAME: u16 = 1166;
    pub const UNKNOWN_VARIABLE: u16 = 1193;
    pub const PRIVILEGE_NEEDED: u16 = 1227;
    pub const BAD_VARIABLE_VALUE: u16 = 1231;
    pub const READ_ONLY_VARIABLE: u16 = 1238;
    pub const INTERRUPTED: u16 = 1317;
    pub const ACCOUNT_FAILED: u16 = 1396;
    pub const QUERY_TIMEOUT: u16 = 3024;
}

/// USE, or any name in a database that does not exist.
pub fn unknown_database(name: &str) -> Error {
    Error::not_found(format!("Unknown database '{name}'")).numbered(number::UNKNOWN_DATABASE)
}

/// A name without a database in a session without one.
pub fn no_database() -> Error {
    Error::invalid("No database selected").numbered(number::NO_DATABASE)
}

/// A table that does not exist.
pub fn unknown_table(name: &str) -> Error {
    Error::not_found(format!("Unknown table '{name}'")).numbered(number::UNKNOWN_TABLE)
}

/// A column that does not exist.
pub fn unknown_column(column: &str, table: &str) -> Error {
    Error::not_found(format!("Unknown column '{column}' in '{table}'")).numbered(number::UNKNOWN_COLUMN)
}

/// A partition that does not exist.
pub fn unknown_partition(partition: &str, table: &str) -> Error {
    Error::not_found(format!("Unknown partition {partition} in table {table}"))
}

/// CREATE DATABASE of one that is there.
pub fn database_exists(name: &str) -> Error {
    Error::already_exists(format!("Can't create database '{name}'; database exists")).numbered(number::DATABASE_EXISTS)
}

/// DROP DATABASE of one that is not there.
pub fn database_not_there(name: &str) -> Error {
    Error::not_found(format!("Can't drop database '{name}'; database doesn't exist"))
        .numbered(number::DATABASE_NOT_THERE)
}

/// CREATE TABLE of one that is there.
pub fn table_exists(name: &str) -> Error {
    Error::already_exists(format!("Table '{name}' already exists")).numbered(number::TABLE_EXISTS)
}

/// BACKUP to, RESTORE from or SHOW of a repository that does not exist.
pub fn unknown_repository(name: &str) -> Error {
    Error::not_found(format!("Repository {name} does not exist"))
}

/// A broker name that does not exist, in a repository.
pub fn unknown_broker(name: &str) -> Error {
    Error::not_found(format!("broker does not exist: {name}"))
}

/// A statement that cannot be parsed.
pub fn syntax(message: impl Into<String>) -> Error {
    Error::invalid(message).numbered(number::SYNTAX)
}

/// A statement for which the user lacks a privilege.
pub fn privilege_needed(privilege: &str) -> Error {
    Error::denied(format!(
        "Access denied; you need (at least one of) the ({privilege}) privilege(s) for this operation"
    ))
    .numbered(number::PRIVILEGE_NEEDED)
}

/// A login that failed; whether the user or the password was wrong is not told.
pub fn login_denied(user: &str, host: &str, password: bool) -> Error {
    let using = if password { "YES" } else { "NO" };
    Error::denied(format!("Access denied for user '{user}'@'{host}' (using password: {using})"))
        .numbered(number::LOGIN_DENIED)
}

/// A database of which the user holds nothing that would help.
pub fn database_denied(who: &str, database: &str) -> Error {
    Error::denied(format!("Access denied for user {who} to database '{database}'")).numbered(number::DATABASE_DENIED)
}

/// A table on which the user may not do this.
pub fn table_denied(command: &str, who: &str, table: &str) -> Error {
    Error::denied(format!("{command} command denied to user {who} for table '{table}'")).numbered(number::TABLE_DENIED)
}

/// CREATE, ALTER or DROP of a user or role that cannot be.
pub fn account_failed(kind: ErrorKind, operation: &str, name: &str, why: &str) -> Error {
    Error::new(kind, format!("Operation {operation} failed for {name}: {why}")).numbered(number::ACCOUNT_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_those_that_clients_know() {
        let cases = [
            (unknown_database("d"), 1049, "Unknown database 'd'"),
            (no_database(), 1046, "No database selected"),
            (unknown_table("t"), 1051, "Unknown table 't'"),
            (unknown_column("c", "t"), 1054, "Unknown column 'c' in 't'"),
            (unknown_partition("p", "t"), 0, "Unknown partition p in table t"),
            (database_exists("d"), 1007, "Can't create database 'd'; database exists"),
            (database_not_there("d"), 1008, "Can't drop database 'd'; database doesn't exist"),
            (table_exists("t"), 1050, "Table 't' already exists"),
            (unknown_repository("r"), 0, "Repository r does not exist"),
            (unknown_broker("b"), 0, "broker does not exist: b"),
            (syntax("x"), 1064, "x"),
            (login_denied("u", "h", true), 1045, "Access denied for user 'u'@'h' (using password: YES)"),
            (database_denied("'u'@'h'", "d"), 1044, "Access denied for user 'u'@'h' to database 'd'"),
            (table_denied("SELECT", "'u'@'h'", "t"), 1142, "SELECT command denied to user 'u'@'h' for table 't'"),
        ];
        for (error, number, text) in cases {
            assert_eq!((error.number(), error.message()), (number, text));
        }
        assert!(privilege_needed("ADMIN").message().contains("(ADMIN)"));
    }
}
