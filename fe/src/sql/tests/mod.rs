//! The grammar, statement by statement: what is read, and what is refused with which words.

mod accounts;
mod defines;
mod definitions;
mod jobs;
mod queries;
mod robust;
mod shows;

use super::ast::{ObjectName, Properties, RowCondition, RowFilter, RowOperator, Statement};
use super::parse;
use crate::error::{Error, ErrorKind};

fn good(sql: &str) -> Statement {
    parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn bad(sql: &str) -> Error {
    match parse(sql) {
        Ok(statement) => panic!("{sql}: {statement:?}"),
        Err(error) => error,
    }
}

/// Each text is this statement.
fn same(cases: &[(&str, Statement)]) {
    for (sql, expected) in cases {
        assert_eq!(&good(sql), expected, "{sql}");
    }
}

/// Each text is refused with a message that begins so.
fn refused(cases: &[(&str, &str)]) {
    for (sql, start) in cases {
        let error = bad(sql);
        assert!(error.message().starts_with(start), "{sql}: {error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error}");
    }
}

/// Each text is a syntax error near this.
fn syntax(cases: &[(&str, &str)]) {
    for (sql, near) in cases {
        let error = bad(sql);
        assert_eq!(error.number(), 1064, "{sql}: {error}");
        let found = format!("near '{near}");
        assert!(error.message().contains(&found), "{sql}: {error}");
    }
}

/// Each text is known and not done.
fn not_supported(cases: &[&str]) {
    for sql in cases {
        let error = bad(sql);
        assert_eq!(error.kind(), ErrorKind::NotSupported, "{sql}: {error}");
        assert!(error.message().contains("not supported"), "{sql}: {error}");
    }
}

fn name(text: &str) -> ObjectName {
    match text.split_once('.') {
        Some((database, name)) => ObjectName { database: Some(database.to_owned()), name: name.to_owned() },
        None => ObjectName { database: None, name: text.to_owned() },
    }
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn only(column: &str, operator: RowOperator, value: &str) -> RowFilter {
    let condition = RowCondition { column: column.to_owned(), operator, value: value.to_owned() };
    RowFilter { conditions: vec![condition], ..RowFilter::default() }
}
