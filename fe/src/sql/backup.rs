//! BACKUP, RESTORE, and cancelling them.

use super::ast::{Backup, DropSnapshot, ObjectName, Objects, Restore, Statement, TableRef};
use super::cursor::Cursor;
use super::names;
use crate::error::{Error, Result};
use sqlparser::tokenizer::Token;
use std::collections::BTreeSet;

/// `BACKUP SNAPSHOT [db.]label TO repo [{ON | EXCLUDE} (tables)] [PROPERTIES (...)]`.
pub(super) fn backup(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("BACKUP")?;
    refuse_scope(cursor, "BACKUP")?;
    let label = label(cursor)?;
    cursor.need("TO")?;
    let repository = cursor.name("a repository name")?;
    let objects = objects(cursor)?;
    if let Some(table) = refs(&objects).iter().find(|table| table.alias.is_some()) {
        return Err(Error::invalid(format!("Can not set alias for table in Backup Command: {}", table.table)));
    }
    let properties = cursor.optional_properties()?;
    Ok(Statement::Backup(Backup { label, repository, objects, properties }))
}

/// `RESTORE SNAPSHOT [db.]label FROM repo [{ON | EXCLUDE} (tables)] [PROPERTIES (...)]`.
pub(super) fn restore(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("RESTORE")?;
    refuse_scope(cursor, "RESTORE")?;
    let label = label(cursor)?;
    cursor.need("FROM")?;
    let repository = cursor.name("a repository name")?;
    if cursor.is("DATABASE") {
        return Err(Error::not_supported(
            "RESTORE ... FROM repository DATABASE is not supported: name the database before the label, db.label",
        ));
    }
    let objects = objects(cursor)?;
    check_aliases(&objects)?;
    let properties = cursor.optional_properties()?;
    Ok(Statement::Restore(Restore { label, repository, objects, properties }))
}

/// Newer forms that say first what they are about.
fn refuse_scope(cursor: &Cursor<'_>, statement: &str) -> Result<()> {
    for scope in ["DATABASE", "EXTERNAL", "GLOBAL"] {
        if cursor.is(scope) {
            return Err(Error::not_supported(format!(
                "{statement} {scope} is not supported: write {statement} SNAPSHOT [db.]label ..."
            )));
        }
    }
    Ok(())
}

/// `CANCEL {BACKUP | RESTORE} [{FROM | IN} db]`.
pub(super) fn cancel(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.eat_all(&["CANCEL", "BACKUP"]) {
        cursor.optional_from("a database name").map(Statement::CancelBackup)
    } else if cursor.eat_all(&["CANCEL", "RESTORE"]) {
        cursor.optional_from("a database name").map(Statement::CancelRestore)
    } else {
        Err(super::known::refuse(cursor))
    }
}

/// `DROP SNAPSHOT label {ON | FROM} repo [WHERE TIMESTAMP = "..."]`, behind DROP.
pub(super) fn drop_snapshot(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let label = label(cursor)?;
    if let Some(database) = label.database {
        return Err(Error::invalid(format!(
            "Cannot specify database name in DROP SNAPSHOT: {database}.{}. A label belongs to a repository",
            label.name
        )));
    }
    cursor.need_one_of(&["ON", "FROM"])?;
    let repository = cursor.name("a repository name")?;
    let mut timestamp = None;
    if cursor.eat("WHERE") {
        cursor.need("TIMESTAMP")?;
        cursor.need_token(&Token::Eq)?;
        timestamp = Some(cursor.string("a quoted timestamp")?);
    }
    Ok(Statement::DropSnapshot(DropSnapshot { label: label.name, repository, timestamp }))
}

fn label(cursor: &mut Cursor<'_>) -> Result<ObjectName> {
    cursor.need("SNAPSHOT")?;
    let label = cursor.object_name("a label")?;
    names::check_label(&label.name)?;
    Ok(label)
}

fn objects(cursor: &mut Cursor<'_>) -> Result<Objects> {
    let objects = if cursor.eat("ON") {
        Objects::On(cursor.parenthesised(table)?)
    } else if cursor.eat("EXCLUDE") {
        Objects::Exclude(cursor.parenthesised(table)?)
    } else {
        Objects::All
    };
    let mut seen = BTreeSet::new();
    for table in refs(&objects) {
        if !seen.insert(&table.table) {
            return Err(Error::invalid(format!("Duplicated table: {}", table.table)));
        }
    }
    Ok(objects)
}

fn refs(objects: &Objects) -> &[TableRef] {
    match objects {
        Objects::All => &[],
        Objects::On(tables) | Objects::Exclude(tables) => tables,
    }
}

/// `[TABLE] table [PARTITION (p [, ...])] [AS alias]`.
fn table(cursor: &mut Cursor<'_>) -> Result<TableRef> {
    if cursor.is("TABLE") && matches!(cursor.nth(1), Token::Word(_)) {
        cursor.skip();
    }
    let name = cursor.object_name("a table name")?;
    if let Some(database) = name.database {
        return Err(Error::invalid(format!(
            "Cannot specify database name on backup objects: {database}.{}. Specify database name before label",
            name.name
        )));
    }
    if cursor.is("TEMPORARY") {
        return Err(Error::not_supported("temporary partitions in BACKUP and RESTORE are not supported"));
    }
    let mut partitions = Vec::new();
    if cursor.is_one_of(&["PARTITION", "PARTITIONS"]) {
        cursor.skip();
        let listed = *cursor.peek() == Token::LParen;
        partitions = if listed { cursor.names("a partition name")? } else { vec![cursor.name("a partition name")?] };
    }
    let mut seen = BTreeSet::new();
    for partition in &partitions {
        if !seen.insert(partition.to_ascii_lowercase()) {
            return Err(Error::invalid(format!("Duplicated partition: {partition} of table {}", name.name)));
        }
    }
    let alias = if cursor.eat("AS") { Some(cursor.name("an alias")?) } else { None };
    Ok(TableRef { table: name.name, partitions, alias })
}

fn check_aliases(objects: &Objects) -> Result<()> {
    let mut seen = BTreeSet::new();
    for table in refs(objects) {
        let Some(alias) = &table.alias else { continue };
        if matches!(objects, Objects::Exclude(_)) {
            return Err(Error::invalid("The table alias in exclude clause does not make sense"));
        }
        names::check_table(alias)?;
        if !seen.insert(alias) {
            return Err(Error::invalid(format!("Duplicated alias name: {alias}")));
        }
    }
    let clash = refs(objects).iter().find(|table| table.alias.is_none() && seen.contains(&table.table));
    match clash {
        Some(table) => Err(Error::invalid(format!("Duplicated alias name: {}", table.table))),
        None => Ok(()),
    }
}
