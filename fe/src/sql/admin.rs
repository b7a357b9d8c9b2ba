//! ADMIN statements, and HELP.

use super::ast::{NodeConfig, Properties, Show, Statement};
use super::cursor::Cursor;
use super::rows::optional_like;
use super::{known, show_more};
use crate::error::Result;
use sqlparser::tokenizer::Token;

/// `ADMIN {SHOW FRONTEND CONFIG [LIKE 'x'] | SET FRONTEND CONFIG ("key" = "value") | CLEAN TRASH [ON ("host:port")]}`, and the
/// CONFIG of backends and brokers, with addresses behind CONFIG.
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
    if cursor.eat_all(&["ADMIN", "CLEAN", "TRASH"]) {
        if !cursor.eat("ON") {
            return Ok(Statement::CleanTrash(Vec::new()));
        }
        return cursor.parenthesised(|cursor| cursor.string("a quoted address")).map(Statement::CleanTrash);
    }
    for (word, brokers) in [("BACKEND", false), ("BROKER", true)] {
        if cursor.eat_all(&["ADMIN", "SHOW", word, "CONFIG"]) {
            let (addresses, like) = (addresses(cursor)?, optional_like(cursor)?);
            return Ok(Statement::NodeConfig(NodeConfig { brokers, addresses, set: Properties::new(), like }));
        }
        if cursor.eat_all(&["ADMIN", "SET", word, "CONFIG"]) {
            let (addresses, set) = (addresses(cursor)?, cursor.properties()?);
            if set.is_empty() {
                return Err(cursor.expected("an option"));
            }
            return Ok(Statement::NodeConfig(NodeConfig { brokers, addresses, set, like: None }));
        }
    }
    Err(known::refuse(cursor))
}

/// `["host:port" [, ...]]`
fn addresses(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    if cursor.at_end() || cursor.is("LIKE") || *cursor.peek() == Token::LParen {
        return Ok(Vec::new());
    }
    cursor.list(|cursor| cursor.string("an address"))
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
