//! INSERT: the head is read here, the rows are left to the query engine.

use super::ast::{Insert, Statement};
use super::cursor::Cursor;
use super::names;
use crate::error::{Error, Result};
use sqlparser::tokenizer::Token;

/// `INSERT [INTO] [TABLE] table [WITH LABEL label] [(columns)] {VALUES ... | SELECT ...}`.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("INSERT")?;
    if cursor.is_one_of(&["OVERWRITE", "IGNORE", "DELAYED", "LOW_PRIORITY", "HIGH_PRIORITY"]) {
        let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
        return Err(Error::not_supported(format!("INSERT {word} is not supported")));
    }
    cursor.eat("INTO");
    cursor.eat("TABLE");
    let table = cursor.object_name("a table name")?;
    let (mut label, mut columns) = (None, Vec::new());
    loop {
        if cursor.is_one_of(&["PARTITION", "PARTITIONS", "TEMPORARY"]) {
            return Err(Error::not_supported("PARTITION in INSERT is not supported: rows find their partition"));
        } else if label.is_none() && cursor.eat_all(&["WITH", "LABEL"]) {
            let name = cursor.name("a label")?;
            names::check_label(&name)?;
            label = Some(name);
        } else if columns.is_empty() && is_column_list(cursor) {
            columns = cursor.names("a column name")?;
        } else {
            break;
        }
    }
    let source = source(cursor)?;
    Ok(Statement::Insert(Box::new(Insert { table, columns, label, source })))
}

/// Whether the parenthesis here opens a list of columns, not a query.
fn is_column_list(cursor: &Cursor<'_>) -> bool {
    let query = ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.is_nth(1, word));
    *cursor.peek() == Token::LParen && *cursor.nth(1) != Token::LParen && !query
}

fn source(cursor: &mut Cursor<'_>) -> Result<String> {
    cursor.check_cost()?;
    let text = cursor.rest();
    let source = if cursor.is("VALUE") {
        format!("VALUES{}", &text["VALUE".len()..])
    } else if cursor.is_one_of(&["VALUES", "SELECT", "WITH"]) || *cursor.peek() == Token::LParen {
        text.to_owned()
    } else if cursor.is_one_of(&["SET", "DEFAULT", "TABLE"]) {
        let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
        return Err(Error::not_supported(format!("INSERT ... {word} is not supported, use VALUES or SELECT")));
    } else {
        return Err(cursor.expected("VALUES or SELECT"));
    };
    cursor.skip_rest();
    Ok(source)
}
