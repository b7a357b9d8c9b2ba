//! WHERE, ORDER BY and LIMIT of SHOW statements.

use super::ast::{RowCondition, RowFilter, RowOperator};
use super::cursor::Cursor;
use crate::error::Result;
use sqlparser::tokenizer::Token;

/// `[WHERE condition [AND ...]] [ORDER BY column [DESC] [, ...]] [LIMIT ...]`.
pub(super) fn filter(cursor: &mut Cursor<'_>) -> Result<RowFilter> {
    let mut filter = RowFilter::default();
    if cursor.eat("WHERE") {
        filter.conditions = conditions(cursor)?;
    }
    if cursor.eat("ORDER") {
        cursor.need("BY")?;
        filter.order_by = cursor.list(|cursor| {
            let column = cursor.name("a column name")?;
            let descending = cursor.eat("DESC");
            if !descending {
                cursor.eat("ASC");
            }
            Ok((column, descending))
        })?;
    }
    if cursor.eat("LIMIT") {
        let first = cursor.number("a number of rows")?;
        if cursor.eat_token(&Token::Comma) {
            (filter.offset, filter.limit) = (first, Some(cursor.number("a number of rows")?));
        } else {
            filter.limit = Some(first);
            if cursor.eat("OFFSET") {
                filter.offset = cursor.number("a number of rows")?;
            }
        }
    }
    Ok(filter)
}

/// `condition [AND condition ...]`.
pub(super) fn conditions(cursor: &mut Cursor<'_>) -> Result<Vec<RowCondition>> {
    let mut conditions = vec![condition(cursor)?];
    while cursor.eat("AND") {
        conditions.push(condition(cursor)?);
    }
    Ok(conditions)
}

fn condition(cursor: &mut Cursor<'_>) -> Result<RowCondition> {
    let column = cursor.name("a column name")?;
    let operator = if cursor.is("LIKE") {
        RowOperator::Like
    } else {
        match cursor.peek() {
            Token::Eq => RowOperator::Equal,
            Token::Neq => RowOperator::NotEqual,
            Token::Lt => RowOperator::Less,
            Token::LtEq => RowOperator::LessOrEqual,
            Token::Gt => RowOperator::Greater,
            Token::GtEq => RowOperator::GreaterOrEqual,
            _ => return Err(cursor.expected("=, !=, <, <=, >, >= or LIKE")),
        }
    };
    cursor.skip();
    Ok(RowCondition { column, operator, value: cursor.value("a value")? })
}

/// `[LIKE 'pattern']`.
pub(super) fn optional_like(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.eat("LIKE") { cursor.string("a quoted pattern").map(Some) } else { Ok(None) }
}

/// A pattern that matches nothing but `text`.
pub(super) fn exactly(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
