//! SQL text to [`ast::Statement`]: a front parser for the statements operators know, on top of sqlparser's tokenizer,
//! falling through to sqlparser for queries.
//!
//! One file per family of statements. Each takes a [`cursor::Cursor`] that stands behind the words which chose it and
//! leaves it behind what it read; what is left over then is a syntax error. Nothing here looks at the catalog: names
//! are as written, checked for their form only where something is created.
//!
//! Errors are of three sorts: a syntax error (number 1064) that quotes the place, a rule of the grammar that is broken
//! (the texts operators know), and a statement that is known but not done (`not supported`).

mod account;
mod admin;
#[allow(missing_docs, reason = "field names say what the grammar in the variant's comment shows")]
pub mod ast;
mod backup;
mod cluster;
mod create_table;
mod cursor;
mod define;
#[allow(missing_docs, reason = "as in `ast`")]
pub mod define_ast;
mod delete;
mod depth;
pub mod grammar;
mod insert;
mod known;
pub mod mask;
pub mod names;
mod query;
mod repository;
mod rows;
mod session;
mod show;
mod show_empty;
mod show_more;
mod table;
mod types;

use crate::error::{Error, Result, number, syntax};
use ast::Statement;
use cursor::Cursor;

/// Longest statement other than INSERT, bytes: each of its tokens takes a hundred.
const MAX_STATEMENT_BYTES: usize = 1024 * 1024;

/// Read exactly one statement; a `;` behind it is fine.
pub fn parse(sql: &str) -> Result<Statement> {
    let sql = coffer_mysql::hints::expand(sql);
    let statement = match coffer_mysql::split::statements(&sql)[..] {
        [] => return Err(Error::invalid("Query was empty").numbered(number::EMPTY_QUERY)),
        [statement] => statement,
        [_, second, ..] => {
            let near = cursor::excerpt(second);
            return Err(syntax(format!("You have an error in your SQL syntax near '{near}': expected one statement")));
        }
    };
    let mut cursor = Cursor::new(statement)?;
    let statement = dispatch(&mut cursor)?;
    cursor.end()?;
    Ok(statement)
}

/// Whether a statement is a query, by its first word alone: nothing else comes of it than its answer.
pub fn reads_only(sql: &str) -> bool {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '(');
        let comment = if rest.starts_with("/*") {
            rest.split_once("*/")
        } else if rest.starts_with("-- ") || rest.starts_with('#') {
            rest.split_once('\n')
        } else {
            break;
        };
        let Some((_, behind)) = comment else { return false };
        rest = behind;
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    ["SELECT", "WITH", "VALUES"].iter().any(|query| word.eq_ignore_ascii_case(query))
}

/// Choose the family by the first word.
fn dispatch(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if query::is_query(cursor) {
        return query::parse(cursor);
    }
    let first = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
    match first.as_str() {
        "SHOW" => show::parse(cursor),
        "EXPLAIN" | "DESC" | "DESCRIBE" => query::explain(cursor),
        "INSERT" => insert::parse(cursor),
        "DELETE" => delete::parse(cursor),
        "CREATE" | "DROP" | "TRUNCATE" | "ALTER" => definition(cursor),
        "RECOVER" => define::recover(cursor),
        "GRANT" => account::grant(cursor),
        "REVOKE" => account::revoke(cursor),
        "ADMIN" => admin::parse(cursor),
        "HELP" => admin::help(cursor),
        "BACKUP" => backup::backup(cursor),
        "RESTORE" => backup::restore(cursor),
        "CANCEL" if cursor.eat_all(&["CANCEL", "DECOMMISSION", "BACKEND"]) => cluster::cancel_decommission(cursor),
        "CANCEL" => backup::cancel(cursor),
        "USE" | "SET" | "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SYNC" | "KILL" => session::parse(cursor),
        _ => Err(known::refuse(cursor)),
    }
}

/// CREATE, DROP, TRUNCATE, ALTER: the second word chooses.
fn definition(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.eat_all(&["CREATE", "TABLE"]) {
        create_table::parse(cursor)
    } else if cursor.eat_all(&["CREATE", "DATABASE"]) || cursor.eat_all(&["CREATE", "SCHEMA"]) {
        table::create_database(cursor)
    } else if cursor.eat_all(&["DROP", "DATABASE"]) || cursor.eat_all(&["DROP", "SCHEMA"]) {
        table::drop_database(cursor)
    } else if cursor.eat_all(&["DROP", "TABLE"]) {
        table::drop_table(cursor)
    } else if cursor.is("DROP") && cursor.is_nth(1, "SNAPSHOT") {
        cursor.skip();
        backup::drop_snapshot(cursor)
    } else if cursor.eat("TRUNCATE") {
        table::truncate(cursor)
    } else if cursor.eat_all(&["ALTER", "SYSTEM"]) {
        cluster::alter_system(cursor)
    } else if cursor.eat_all(&["CREATE", "REPOSITORY"]) {
        repository::create(cursor, false)
    } else if cursor.eat_all(&["CREATE", "READ", "ONLY", "REPOSITORY"]) {
        repository::create(cursor, true)
    } else if cursor.eat_all(&["ALTER", "REPOSITORY"]) {
        repository::alter(cursor)
    } else if cursor.eat_all(&["DROP", "REPOSITORY"]) {
        repository::drop(cursor)
    } else if let Some(statement) = account::definition(cursor)? {
        Ok(statement)
    } else if let Some(statement) = define::definition(cursor)? {
        Ok(statement)
    } else {
        Err(known::refuse(cursor))
    }
}

#[cfg(test)]
mod tests;
