//! DELETE: comparisons of key columns with values, joined by AND.

use super::ast::{Delete, Statement};
use super::cursor::Cursor;
use super::table::optional_partitions;
use crate::error::{Error, Result};
use coffer_table::{Comparison, Condition, Predicate};
use sqlparser::tokenizer::Token;

/// `DELETE FROM table [PARTITION[S] ...] WHERE column op value [AND ...]`.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("DELETE")?;
    cursor.need("FROM")?;
    let table = cursor.object_name("a table name")?;
    let partitions = optional_partitions(cursor)?;
    if cursor.is("USING") {
        return Err(Error::not_supported("USING in DELETE is not supported"));
    }
    if cursor.at_end() {
        return Err(Error::invalid("Where clause is not set: use TRUNCATE TABLE to remove all rows"));
    }
    cursor.need("WHERE")?;
    let mut conditions = vec![condition(cursor)?];
    while cursor.eat("AND") {
        conditions.push(condition(cursor)?);
    }
    if cursor.is("OR") {
        return Err(Error::not_supported("OR in the conditions of DELETE is not supported: use one DELETE for each"));
    }
    Ok(Statement::Delete(Box::new(Delete { table, partitions, predicate: Predicate { conditions } })))
}

fn condition(cursor: &mut Cursor<'_>) -> Result<Condition> {
    if *cursor.peek() == Token::LParen {
        return Err(Error::not_supported("parentheses in the conditions of DELETE are not supported"));
    }
    let column = cursor.name("a column name")?;
    let (comparison, values) = comparison(cursor)?;
    Ok(Condition { column, comparison, values })
}

fn comparison(cursor: &mut Cursor<'_>) -> Result<(Comparison, Vec<String>)> {
    let operator = match cursor.peek() {
        Token::Eq => Some(Comparison::Equal),
        Token::Neq => Some(Comparison::NotEqual),
        Token::Lt => Some(Comparison::Less),
        Token::LtEq => Some(Comparison::LessOrEqual),
        Token::Gt => Some(Comparison::Greater),
        Token::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    };
    if let Some(operator) = operator {
        cursor.skip();
        return Ok((operator, vec![cursor.value("a value")?]));
    }
    if cursor.eat_all(&["IS", "NOT", "NULL"]) {
        return Ok((Comparison::IsNotNull, Vec::new()));
    }
    if cursor.eat_all(&["IS", "NULL"]) {
        return Ok((Comparison::IsNull, Vec::new()));
    }
    let comparison = if cursor.eat_all(&["NOT", "IN"]) {
        Comparison::NotIn
    } else if cursor.eat("IN") {
        Comparison::In
    } else {
        return Err(cursor.expected("a comparison"));
    };
    Ok((comparison, cursor.parenthesised(|cursor| cursor.value("a value"))?))
}
