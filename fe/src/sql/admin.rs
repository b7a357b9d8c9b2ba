//! ADMIN statements, and HELP.

use super::ast::{Show, Statement};
use super::cursor::Cursor;
use super::rows::optional_like;
use super::{known, show_more};
use crate::error::Result;

/// `ADMIN {SHOW FRONTEND CONFIG [LIKE 'x'] | SET FRONTEND CONFIG ("key" = "value")}`.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.eat_all(&["ADMIN", "SHOW", "FRONTEND", "CONFIG"]) {
        return Ok(Statement::Show(Show::FrontendConfig { like: optional_like(cursor)? }));
    }
    if cursor.eat_all(&["ADMIN", "SHOW", "REPLICA"]) {
        return show_more::replicas(cursor);
    }
    if cursor.eat_all(&["ADMIN", "SET", "FRONTEND", "CONFIG"]) {
        let properties = cursor.properties()?;
        if properties.is_empty() {
            return Err(cursor.expected("an option"));
        }
        return Ok(Statement::SetFrontendConfig(properties));
    }
    Err(known::refuse(cursor))
}

/// `HELP ['topic' | words]`: the rest of the statement is the topic.
pub(super) fn help(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("HELP")?;
    if cursor.at_end() {
        return Ok(Statement::Help(String::new()));
    }
    if let Ok(topic) = cursor.string("a topic") {
        return Ok(Statement::Help(topic));
    }
    let topic = cursor.rest().split_whitespace().collect::<Vec<_>>().join(" ");
    cursor.skip_rest();
    Ok(Statement::Help(topic))
}
