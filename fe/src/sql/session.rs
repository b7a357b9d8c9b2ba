//! What concerns the session alone: USE, SET, transactions, KILL.

use super::ast::Statement;
use super::cursor::Cursor;
use crate::error::{Error, Result};
use sqlparser::tokenizer::Token;

/// By the first word.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.eat("USE") {
        return use_database(cursor);
    }
    if cursor.eat("SET") {
        return set(cursor);
    }
    if cursor.eat("KILL") {
        let query_only = cursor.eat("QUERY");
        if !query_only {
            cursor.eat("CONNECTION");
        }
        return Ok(Statement::Kill { connection: cursor.number("the number of a connection")?, query_only });
    }
    transaction(cursor)
}

fn use_database(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let name = cursor.object_name("a database name")?;
    match name.database {
        None => Ok(Statement::Use(name.name)),
        Some(catalog) => Err(Error::not_supported(format!("catalog '{catalog}' is not supported: there is only one"))),
    }
}

/// BEGIN, START TRANSACTION, COMMIT, ROLLBACK, with all that MySQL lets follow; SYNC, which has nothing to do here: reads
/// see what was acknowledged before them.
fn transaction(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.eat_all(&["BEGIN", "WITH", "LABEL"]) {
        return Err(Error::not_supported("BEGIN WITH LABEL is not supported: every statement commits by itself"));
    }
    if cursor.eat("SYNC") {
        return Ok(Statement::Transaction);
    }
    if cursor.eat_one_of(&["BEGIN", "COMMIT"]) || cursor.eat_all(&["START", "TRANSACTION"]) || cursor.eat("ROLLBACK") {
        if cursor.is("TO") {
            return Err(Error::not_supported("savepoints are not supported"));
        }
        let fillers =
            ["WORK", "AND", "NO", "CHAIN", "RELEASE", "READ", "ONLY", "WRITE", "WITH", "CONSISTENT", "SNAPSHOT"];
        while cursor.eat_one_of(&fillers) || cursor.eat_token(&Token::Comma) {}
        return Ok(Statement::Transaction);
    }
    Err(cursor.expected("TRANSACTION"))
}

/// `SET assignment [, ...]`. Names are in lower case and without what says the scope.
fn set(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.eat("PASSWORD") {
        return super::account::set_password(cursor);
    }
    if cursor.is_one_of(&["ROLE", "PROPERTY", "RESOURCE", "LDAP_ADMIN_PASSWORD"]) || cursor.is_nth(1, "ROLE") {
        let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
        return Err(Error::not_supported(format!("SET {word} is not supported")));
    }
    let scoped = usize::from(cursor.is_one_of(&["SESSION", "LOCAL", "GLOBAL"]));
    if cursor.is_nth(scoped, "TRANSACTION") {
        return set_transaction(cursor);
    }
    cursor.list(assignment).map(Statement::Set)
}

/// `SET [SESSION] TRANSACTION ...`: kept as text; every statement is a transaction of its own whatever is set.
fn set_transaction(cursor: &mut Cursor<'_>) -> Result<Statement> {
    while !cursor.eat("TRANSACTION") {
        cursor.skip();
    }
    if cursor.at_end() {
        return Err(cursor.expected("ISOLATION LEVEL or READ"));
    }
    let text = cursor.rest().to_owned();
    cursor.skip_rest();
    Ok(Statement::Set(vec![("transaction".to_owned(), text)]))
}

fn assignment(cursor: &mut Cursor<'_>) -> Result<(String, String)> {
    if cursor.eat("NAMES") {
        let charset = cursor.value("a character set")?;
        if cursor.eat("COLLATE") {
            cursor.value("a collation")?;
        }
        return Ok(("names".to_owned(), charset));
    }
    if cursor.eat_all(&["CHARACTER", "SET"]) || cursor.eat("CHARSET") {
        return Ok(("character_set".to_owned(), cursor.value("a character set")?));
    }
    let global = cursor.eat_one_of(&["GLOBAL", "PERSIST"]);
    let name = variable(cursor)?;
    if global || name.starts_with("@@global.") {
        let name = name.trim_start_matches("@@global.");
        return Err(Error::not_supported(format!(
            "SET GLOBAL is not supported: set '{name}' in the session, or in the configuration of the frontends"
        )));
    }
    if !cursor.eat_token(&Token::Eq) {
        cursor.need_token(&Token::Assignment)?;
    }
    Ok((name, expression(cursor)?))
}

/// `[SESSION | LOCAL] name`, `@@[session.]name`, `@user_variable`.
fn variable(cursor: &mut Cursor<'_>) -> Result<String> {
    cursor.eat_one_of(&["SESSION", "LOCAL"]);
    let mut name = cursor.name("a variable")?.to_ascii_lowercase();
    while cursor.eat_token(&Token::Period) {
        name = format!("{name}.{}", cursor.name("a variable")?.to_ascii_lowercase());
    }
    if name.starts_with("@@global.") {
        return Ok(name);
    }
    let plain =
        name.strip_prefix("@@session.").or_else(|| name.strip_prefix("@@local.")).or_else(|| name.strip_prefix("@@"));
    Ok(plain.map_or_else(|| name.clone(), str::to_owned))
}

/// A single value, or the text of an expression up to the comma outside of parentheses.
fn expression(cursor: &mut Cursor<'_>) -> Result<String> {
    let simple = matches!(cursor.nth(1), Token::EOF | Token::Comma);
    if simple && cursor.is("ON") {
        cursor.skip();
        return Ok("ON".to_owned());
    }
    if simple && cursor.is("NULL") {
        cursor.skip();
        return Ok("NULL".to_owned());
    }
    if simple || matches!((cursor.peek(), cursor.nth(2)), (Token::Minus, Token::EOF | Token::Comma)) {
        return cursor.value("a value");
    }
    let text = cursor.rest();
    let (mut depth, mut length) = (0_usize, 0);
    loop {
        match cursor.peek() {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => break,
            _ => {}
        }
        if cursor.at_end() {
            break;
        }
        cursor.skip();
        length = text.len() - cursor.rest().len();
    }
    let text = text[..length].trim();
    if text.is_empty() { Err(cursor.expected("a value")) } else { Ok(text.to_owned()) }
}
