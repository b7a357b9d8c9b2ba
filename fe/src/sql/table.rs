//! Databases and tables: all but CREATE TABLE.

use super::ast::Statement;
use super::cursor::Cursor;
use super::names;
use crate::error::{Error, Result};
use sqlparser::tokenizer::Token;

/// Behind CREATE DATABASE. The character set MySQL's tools like to name is read and without effect: all text is UTF-8.
pub(super) fn create_database(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let if_not_exists = cursor.if_not_exists();
    let name = cursor.name("a database name")?;
    names::check_database(&name)?;
    loop {
        cursor.eat("DEFAULT");
        if !(cursor.eat_all(&["CHARACTER", "SET"]) || cursor.eat_one_of(&["CHARSET", "COLLATE"])) {
            break;
        }
        cursor.eat_token(&Token::Eq);
        cursor.value("a character set")?;
    }
    if !cursor.optional_properties()?.is_empty() {
        return Err(Error::not_supported("properties of a database are not supported"));
    }
    Ok(Statement::CreateDatabase { name, if_not_exists })
}

/// Behind DROP DATABASE.
pub(super) fn drop_database(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let if_exists = cursor.if_exists();
    let name = cursor.name("a database name")?;
    Ok(Statement::DropDatabase { name, if_exists, force: cursor.eat("FORCE") })
}

/// Behind DROP TABLE.
pub(super) fn drop_table(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let if_exists = cursor.if_exists();
    let table = cursor.object_name("a table name")?;
    if *cursor.peek() == Token::Comma {
        return Err(Error::not_supported("several tables in one DROP TABLE are not supported: drop them one by one"));
    }
    Ok(Statement::DropTable { table, if_exists, force: cursor.eat("FORCE") })
}

/// Behind TRUNCATE.
pub(super) fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.eat("TABLE");
    let table = cursor.object_name("a table name")?;
    let partitions = optional_partitions(cursor)?;
    // What is removed is gone either way.
    cursor.eat("FORCE");
    Ok(Statement::TruncateTable { table, partitions })
}

/// `[PARTITION[S] (name [, ...])]`; none are all.
pub(super) fn optional_partitions(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    if !cursor.eat_one_of(&["PARTITION", "PARTITIONS"]) {
        return Ok(Vec::new());
    }
    if *cursor.peek() == Token::LParen {
        cursor.names("a partition name")
    } else {
        Ok(vec![cursor.name("a partition name")?])
    }
}
