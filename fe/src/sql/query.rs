//! SELECT and its kin, EXPLAIN, DESC: checked with sqlparser, handed on as text.

use super::ast::Statement;
use super::cursor::Cursor;
use crate::error::{Error, Result};
use sqlparser::ast::{SetExpr, Statement as Sql};
use sqlparser::tokenizer::Token;

/// Whether a query starts here.
pub(super) fn is_query(cursor: &Cursor<'_>) -> bool {
    cursor.is_one_of(&["SELECT", "WITH", "VALUES"]) || *cursor.peek() == Token::LParen
}

/// A query.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.with_statement(check)?;
    let text = without_dual(cursor);
    cursor.skip_rest();
    Ok(Statement::Query(text))
}

/// `{EXPLAIN | DESC | DESCRIBE} {query | table}`.
pub(super) fn explain(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let first = cursor.peek_word().unwrap_or_default().len();
    let plain_table = !["SELECT", "WITH", "VALUES", "ANALYZE", "VERBOSE", "FORMAT", "INSERT", "UPDATE", "DELETE"]
        .iter()
        .any(|word| cursor.is_nth(1, word))
        && *cursor.nth(1) != Token::LParen;
    if plain_table {
        cursor.skip();
        cursor.eat("TABLE");
        let table = cursor.object_name("a table name or a query")?;
        cursor.eat("ALL");
        return Ok(Statement::Describe(table));
    }
    cursor.with_statement(check)?;
    let text = without_dual(cursor);
    cursor.skip_rest();
    Ok(Statement::Query(format!("EXPLAIN{}", &text[first..])))
}

/// Only what reads may run as a query.
fn check(statement: &Sql) -> Result<()> {
    match statement {
        Sql::Query(query) => check_body(&query.body),
        Sql::Explain { statement, .. } => match &**statement {
            Sql::Query(query) => check_body(&query.body),
            _ => Err(Error::not_supported("EXPLAIN of anything but a query is not supported")),
        },
        _ => Err(Error::not_supported("a statement that begins like a query and is none is not supported")),
    }
}

fn check_body(body: &SetExpr) -> Result<()> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => Err(Error::not_supported("SELECT INTO is not supported")),
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Query(query) => check_body(&query.body),
        SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(Error::not_supported("a change of data behind WITH is not supported"))
        }
    }
}

/// The text with blanks for `FROM DUAL`, the table that old clients name where there is none.
fn without_dual(cursor: &Cursor<'_>) -> String {
    let mut text = cursor.text().to_owned();
    let tokens = cursor.tokens();
    for n in 0..tokens.len().saturating_sub(1) {
        let qualified = *cursor.nth(n + 2) == Token::Period;
        if cursor.is_nth(n, "FROM") && cursor.is_nth(n + 1, "DUAL") && !qualified {
            let (from, end) = (cursor.offset_of(&tokens[n]), cursor.offset_of(&tokens[n + 1]) + "DUAL".len());
            text.replace_range(from..end, &" ".repeat(end - from));
        }
    }
    text
}
