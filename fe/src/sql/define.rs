//! ALTER TABLE and ALTER DATABASE, views, RECOVER and the recycle bin.

use super::ast::{ObjectName, Properties, Statement};
use super::cursor::Cursor;
use super::define_ast::{AddPartitions, BinKind, CreateView, Define, Recover, TableChange};
use super::{create_table, names};
use crate::error::{Error, Result};
use sqlparser::tokenizer::Token;

/// CREATE, DROP and ALTER of what this file reads; `None` when something else stands here.
pub(super) fn definition(cursor: &mut Cursor<'_>) -> Result<Option<Statement>> {
    let define = if cursor.eat_all(&["CREATE", "VIEW"]) {
        create_view(cursor, false)?
    } else if cursor.eat_all(&["CREATE", "OR", "REPLACE", "VIEW"]) {
        create_view(cursor, true)?
    } else if cursor.eat_all(&["DROP", "VIEW"]) {
        let if_exists = cursor.if_exists();
        Define::DropView { view: cursor.object_name("a view name")?, if_exists }
    } else if cursor.eat_all(&["DROP", "CATALOG", "RECYCLE", "BIN"]) {
        erase_bin(cursor)?
    } else if cursor.eat_all(&["ALTER", "TABLE"]) {
        return alter_table(cursor).map(Some);
    } else if cursor.is("ALTER") && cursor.is_nth(1, "DATABASE") && cursor.is_nth(3, "RENAME") {
        cursor.eat_all(&["ALTER", "DATABASE"]);
        let name = cursor.name("a database name")?;
        cursor.need("RENAME")?;
        let to = cursor.name("a database name")?;
        names::check_database(&to)?;
        Define::RenameDatabase { name, to }
    } else {
        return Ok(None);
    };
    Ok(Some(Statement::Define(define)))
}

/// Behind ALTER TABLE.
fn alter_table(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let table: ObjectName = cursor.object_name("a table name")?;
    if cursor.eat("SET") {
        let properties: Properties = cursor.properties()?;
        if properties.is_empty() {
            return Err(cursor.expected("a property"));
        }
        return Ok(Statement::AlterTableSet { table, properties });
    }
    let change = if cursor.eat_all(&["ADD", "PARTITION"]) || cursor.eat_all(&["ADD", "PARTITIONS"]) {
        add_partitions(cursor)?
    } else if cursor.eat_all(&["DROP", "PARTITION"]) {
        let if_exists = cursor.if_exists();
        let name = cursor.name("a partition name")?;
        TableChange::DropPartition { name, if_exists, force: cursor.eat("FORCE") }
    } else if cursor.eat_all(&["RENAME", "PARTITION"]) {
        let name = cursor.name("a partition name")?;
        let to = cursor.name("a partition name")?;
        names::check_partition(&to)?;
        TableChange::RenamePartition { name, to }
    } else if cursor.is("RENAME") && !cursor.is_nth(1, "ROLLUP") && !cursor.is_nth(1, "COLUMN") {
        cursor.skip();
        cursor.eat_one_of(&["TO", "AS"]);
        let to = cursor.name("a table name")?;
        names::check_table(&to)?;
        TableChange::Rename(to)
    } else {
        return Err(refuse(cursor));
    };
    if *cursor.peek() == Token::Comma {
        return Err(Error::not_supported("several changes in one ALTER TABLE are not supported: make them one by one"));
    }
    Ok(Statement::Define(Define::AlterTable { table, change }))
}

fn refuse(cursor: &Cursor<'_>) -> Error {
    let others =
        ["ADD", "DROP", "MODIFY", "RENAME", "REPLACE", "ORDER", "ENABLE", "CHANGE", "COMMENT", "CREATE", "ALTER"];
    if cursor.is_one_of(&others) {
        let words: Vec<String> = (0..2).filter_map(|n| cursor.nth_word(n)).map(str::to_ascii_uppercase).collect();
        return Error::not_supported(format!("ALTER TABLE ... {} is not supported", words.join(" ")));
    }
    cursor.expected("SET, ADD PARTITION, DROP PARTITION or RENAME")
}

/// Behind ADD PARTITION.
fn add_partitions(cursor: &mut Cursor<'_>) -> Result<TableChange> {
    let if_not_exists = cursor.is("IF");
    let partition = create_table::partition_after_word(cursor)?;
    let (mut bucket_columns, mut buckets) = (None, None);
    if cursor.eat_all(&["DISTRIBUTED", "BY"]) {
        if cursor.need_one_of(&["HASH", "RANDOM"])? == "HASH" {
            bucket_columns = Some(cursor.names("a column name")?);
        } else {
            bucket_columns = Some(Vec::new());
        }
        if cursor.eat("BUCKETS") && !cursor.eat("AUTO") {
            buckets = Some(cursor.number("a number of buckets")?);
        }
    }
    Ok(TableChange::AddPartitions(AddPartitions { partition, if_not_exists, bucket_columns, buckets }))
}

/// Behind CREATE [OR REPLACE] VIEW.
fn create_view(cursor: &mut Cursor<'_>, or_replace: bool) -> Result<Define> {
    let if_not_exists = cursor.if_not_exists();
    let view = cursor.object_name("a view name")?;
    names::check_table(&view.name)?;
    let mut columns = Vec::new();
    if *cursor.peek() == Token::LParen {
        columns = cursor.parenthesised(|cursor| {
            let name = cursor.name("a column name")?;
            names::check_column(&name)?;
            let comment = if cursor.eat("COMMENT") { cursor.string("a quoted comment")? } else { String::new() };
            Ok((name, comment))
        })?;
    }
    let comment = if cursor.eat("COMMENT") { cursor.string("a quoted comment")? } else { String::new() };
    cursor.need("AS")?;
    if cursor.at_end() {
        return Err(cursor.expected("a query"));
    }
    let query = match super::parse(cursor.rest())? {
        Statement::Query(text) if !text.trim_start().to_ascii_uppercase().starts_with("EXPLAIN") => text,
        _ => return Err(Error::invalid("a view is made of a query")),
    };
    cursor.skip_rest();
    if or_replace && if_not_exists {
        return Err(Error::invalid("[OR REPLACE] and [IF NOT EXISTS] cannot used at the same time"));
    }
    Ok(Define::CreateView(CreateView { view, or_replace, if_not_exists, columns, comment, query }))
}

/// `RECOVER {DATABASE | TABLE | PARTITION} name [id] [AS other] [FROM table]`.
pub(super) fn recover(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("RECOVER")?;
    let kind = match cursor.need_one_of(&["DATABASE", "SCHEMA", "TABLE", "PARTITION"])? {
        "TABLE" => BinKind::Table,
        "PARTITION" => BinKind::Partition,
        _ => BinKind::Database,
    };
    let named = match kind {
        BinKind::Table => cursor.object_name("a table name")?,
        BinKind::Database | BinKind::Partition => ObjectName { database: None, name: cursor.name("a name")? },
    };
    let id = if matches!(cursor.peek(), Token::Number(..)) { Some(cursor.number("an id")?) } else { None };
    let mut as_name = None;
    if cursor.eat("AS") {
        let name = cursor.name("a name")?;
        match kind {
            BinKind::Database => names::check_database(&name)?,
            BinKind::Table => names::check_table(&name)?,
            BinKind::Partition => names::check_partition(&name)?,
        }
        as_name = Some(name);
    }
    let mut table = None;
    if kind == BinKind::Partition {
        cursor.need("FROM")?;
        table = Some(cursor.object_name("a table name")?);
    }
    let ObjectName { database, name } = named;
    Ok(Statement::Define(Define::Recover(Recover { kind, name, database, id, as_name, table })))
}

/// Behind DROP CATALOG RECYCLE BIN.
fn erase_bin(cursor: &mut Cursor<'_>) -> Result<Define> {
    cursor.need("WHERE")?;
    let place = cursor.expected("'DbId', 'TableId' or 'PartitionId'");
    let kind = match cursor.name("'DbId', 'TableId' or 'PartitionId'")?.to_ascii_lowercase().as_str() {
        "dbid" => BinKind::Database,
        "tableid" => BinKind::Table,
        "partitionid" => BinKind::Partition,
        _ => return Err(place),
    };
    cursor.need_token(&Token::Eq)?;
    let id = cursor.value("an id")?;
    let id = id.parse().map_err(|_| cursor.expected("an id"))?;
    Ok(Define::EraseBin { kind, id })
}
